//! Progress of one epoch, under the names of Spark's `StreamingQueryProgress`, so that what reads Spark's reads ours.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Offsets by topic and partition: `{"orders": {"0": 23}}`.
pub type Offsets = BTreeMap<String, BTreeMap<i32, i64>>;

/// What one epoch did.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// The job's uid: stays over restarts.
    pub id: String,
    /// The runner's incarnation: new with each start.
    pub run_id: String,
    /// The job's name.
    pub name: Option<String>,
    /// When the epoch opened: RFC 3339, UTC, milliseconds.
    pub timestamp: String,
    /// The epoch's number: the sequence of its record in the job log.
    pub batch_id: i64,
    /// From opening the epoch to the end of its commit, in milliseconds.
    pub batch_duration: i64,
    /// Messages read.
    pub num_input_rows: i64,
    /// Messages that arrived a second.
    pub input_rows_per_second: f64,
    /// Messages that were worked through a second.
    pub processed_rows_per_second: f64,
    /// Milliseconds by phase: Spark's `triggerExecution`, `getBatch`, `addBatch`, `walCommit` and ours.
    pub duration_ms: BTreeMap<String, i64>,
    /// Event times of the epoch; absent without event time.
    #[serde(skip_serializing_if = "EventTimeProgress::is_empty")]
    pub event_time: EventTimeProgress,
    /// Streaming state, by operator.
    pub state_operators: Vec<StateOperatorProgress>,
    /// What was read, by source.
    pub sources: Vec<SourceProgress>,
    /// What was written, all outputs together.
    pub sink: SinkProgress,
    /// What was written, by output (not in Spark's, which has one sink).
    pub outputs: Vec<SinkProgress>,
}

/// Event times, RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EventTimeProgress {
    /// Mean event time of the epoch's rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avg: Option<String>,
    /// Greatest event time of the epoch's rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
    /// Least event time of the epoch's rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    /// The watermark at the start of the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark: Option<String>,
}

impl EventTimeProgress {
    /// Whether the job has no event time.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Streaming state of one operator.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StateOperatorProgress {
    /// What it does.
    pub operator_name: String,
    /// Rows held.
    pub num_rows_total: i64,
    /// Rows changed in this epoch.
    pub num_rows_updated: i64,
    /// Rows removed in this epoch.
    pub num_rows_removed: i64,
    /// Bytes of memory held.
    pub memory_used_bytes: i64,
    /// Rows that came too late.
    pub num_rows_dropped_by_watermark: i64,
}

/// What was read from one source.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SourceProgress {
    /// The source's name and topics, for people.
    pub description: String,
    /// Where the epoch began, inclusive; absent for the first one of a new job.
    pub start_offset: Option<Offsets>,
    /// Where it ended, exclusive.
    pub end_offset: Option<Offsets>,
    /// Where the topics end.
    pub latest_offset: Option<Offsets>,
    /// Messages read.
    pub num_input_rows: i64,
    /// Messages that arrived a second.
    pub input_rows_per_second: f64,
    /// Messages that were worked through a second.
    pub processed_rows_per_second: f64,
    /// Spark's `minOffsetsBehindLatest`, `maxOffsetsBehindLatest`, `avgOffsetsBehindLatest` and ours, as text.
    pub metrics: BTreeMap<String, String>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SinkProgress {
    /// The output's name and place, for people.
    pub description: String,
    /// Rows written; -1 if unknown, as in Spark.
    pub num_output_rows: i64,
}
