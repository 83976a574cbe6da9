//! Prometheus metrics of a runner. Names end in their unit; counters in `_total`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The source a figure belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SourceLabel {
    /// Its name in the manifest.
    pub source: String,
}

/// The output a figure belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutputLabel {
    /// Its name in the manifest.
    pub output: String,
}

/// Every metric of a runner.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Messages read, by source.
    pub rows_in: Family<SourceLabel, Counter>,
    /// Bytes of keys and values read, by source.
    pub bytes_in: Family<SourceLabel, Counter>,
    /// Messages that did not decode, by source.
    pub rows_bad: Family<SourceLabel, Counter>,
    /// Rows committed, by output.
    pub rows_out: Family<OutputLabel, Counter>,
    /// Epochs committed.
    pub commits: Counter,
    /// Seconds from closing an epoch to everything published.
    pub commit_seconds: Histogram,
    /// Messages between the committed offsets and the partitions' ends, by source.
    pub lag_records: Family<SourceLabel, Gauge>,
    /// The newest record of the job log this runner has read.
    pub log_seq: Gauge,
    /// When this runner last committed, in seconds since the epoch; 0 before the first commit.
    pub last_commit_seconds: Gauge,
    /// 1 while something outside (Kafka, the store) is away.
    pub degraded: Gauge,
    /// Partitions this runner reads.
    pub partitions: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("millrace");
        let metrics = Self {
            rows_in: Family::default(),
            bytes_in: Family::default(),
            rows_bad: Family::default(),
            rows_out: Family::default(),
            commits: Counter::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.005, 2.0, 14)),
            lag_records: Family::default(),
            log_seq: Gauge::default(),
            last_commit_seconds: Gauge::default(),
            degraded: Gauge::default(),
            partitions: Gauge::default(),
            registry: Registry::default(),
        };
        // The text format adds `_total` to a counter's name by itself.
        registry.register("source_rows", "Messages read", metrics.rows_in.clone());
        registry.register("source_bytes", "Bytes of keys and values read", metrics.bytes_in.clone());
        registry.register("source_bad_rows", "Messages that did not decode", metrics.rows_bad.clone());
        registry.register("output_rows", "Rows committed", metrics.rows_out.clone());
        registry.register("commits", "Epochs committed", metrics.commits.clone());
        registry.register("commit_seconds", "From closing an epoch to published", metrics.commit_seconds.clone());
        registry.register("lag_records", "Messages not committed yet", metrics.lag_records.clone());
        registry.register("log_seq", "Newest job log record read", metrics.log_seq.clone());
        registry.register(
            "last_commit_timestamp_seconds",
            "When the last epoch was committed",
            metrics.last_commit_seconds.clone(),
        );
        registry.register("degraded", "1 while Kafka or the store is away", metrics.degraded.clone());
        registry.register("assigned_partitions", "Partitions read by this runner", metrics.partitions.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// Everything in the OpenMetrics text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_rendered_with_prefix_labels_and_units() {
        let metrics = Metrics::default();
        metrics.rows_in.get_or_create(&SourceLabel { source: "orders".into() }).inc_by(3);
        let text = metrics.render();
        assert!(text.contains("millrace_source_rows_total{source=\"orders\"} 3"), "{text}");
        assert!(text.contains("millrace_commit_seconds_bucket"), "{text}");
    }
}
