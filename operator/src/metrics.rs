//! The operator's own metrics.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Result of a reconcile.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabel {
    /// `ok` or `error`.
    pub result: &'static str,
}

/// A request to the API server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabel {
    /// `GET`, `POST`, …
    pub verb: String,
    /// `pods`, `streamingjobs/status`, …
    pub resource: String,
    /// The HTTP status; 0 if there was no answer.
    pub code: u16,
}

/// Jobs by condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConditionLabel {
    /// `Ready`, `Stalled`, …
    pub condition: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Reconciles, by result.
    pub reconciles: Family<ResultLabel, Counter>,
    /// Seconds that a reconcile took.
    pub reconcile_seconds: Histogram,
    /// Seconds from an event of a job or of an object of its to the begin of the reconcile.
    pub event_to_reconcile_seconds: Histogram,
    /// Jobs that have an event and no reconcile yet.
    pub queue_depth: Gauge,
    /// Requests to the API server.
    pub api_calls: Family<CallLabel, Counter>,
    /// Jobs by condition.
    pub jobs: Family<ConditionLabel, Gauge>,
    /// Whether this operator leads.
    pub leader: Gauge<i64>,
    /// Pods created.
    pub pods_created: Counter<u64, AtomicU64>,
    /// Pods deleted.
    pub pods_deleted: Counter<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Mutex::default(),
            reconciles: Family::default(),
            reconcile_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            event_to_reconcile_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            queue_depth: Gauge::default(),
            api_calls: Family::default(),
            jobs: Family::default(),
            leader: Gauge::default(),
            pods_created: Counter::default(),
            pods_deleted: Counter::default(),
        };
        if let Ok(mut registry) = metrics.registry.lock() {
            let own = registry.sub_registry_with_prefix("millrace_operator");
            own.register("reconciles", "Reconciles", metrics.reconciles.clone());
            own.register("reconcile_seconds", "Duration of a reconcile", metrics.reconcile_seconds.clone());
            let delay = metrics.event_to_reconcile_seconds.clone();
            own.register("event_to_reconcile_seconds", "From an event to the reconcile it asked for", delay);
            own.register("queue_depth", "Jobs that wait to be reconciled", metrics.queue_depth.clone());
            own.register("api_calls", "Requests to the API server", metrics.api_calls.clone());
            own.register("jobs", "Jobs by condition", metrics.jobs.clone());
            own.register("leader", "Whether this operator leads", metrics.leader.clone());
            own.register("pods_created", "Runner pods created", metrics.pods_created.clone());
            own.register("pods_deleted", "Runner pods deleted", metrics.pods_deleted.clone());
        }
        metrics
    }
}

impl Metrics {
    /// Everything in the OpenMetrics text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if let Ok(registry) = self.registry.lock() {
            let _ = encode(&mut text, &registry);
        }
        text
    }
}
