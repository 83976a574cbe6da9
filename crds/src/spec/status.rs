//! What the operator reports about a job.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Condition;
use crate::contract::FailureClass;

/// The manifest is valid and its revision was accepted by a candidate pod.
pub const CONDITION_ACCEPTED: &str = "Accepted";
/// The job does what it should: runners make progress, or it is complete or suspended.
pub const CONDITION_READY: &str = "Ready";
/// The operator is still bringing about what the spec says.
pub const CONDITION_RECONCILING: &str = "Reconciling";
/// Only a person can help: the spec, a topic, a right, or data that does not decode.
pub const CONDITION_STALLED: &str = "Stalled";
/// It runs, but less well than it should: Kafka or the store is away, or pods cannot be placed.
pub const CONDITION_DEGRADED: &str = "Degraded";
/// It is suspended.
pub const CONDITION_SUSPENDED: &str = "Suspended";
/// The bounded job is done.
pub const CONDITION_COMPLETED: &str = "Completed";

/// What the operator reports. A fact that is not known is absent, never zero.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamingJobStatus {
    /// The generation of the spec that this status is about; -1 until an operator has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `Ready`, `Reconciling`, `Stalled`, `Degraded`, `Suspended`, `Completed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Runner pods of the active revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Runner pods that hold their tasks and make progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Label selector of the active revision's pods, for `kubectl scale`, autoscalers and disruption budgets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub selector: Option<String>,
    /// The number the next runner pod gets. It only grows: a pod's number is its rank in the job log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_pod_number: Option<i64>,
    /// The revision that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionStatus>,
    /// The revision that is being validated or rolled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate_revision: Option<RevisionStatus>,
    /// The division of the work that the runners are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<TermStatus>,
    /// Pods that have their number and may not be created yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2048))]
    pub reserved: Vec<ReservedPod>,
    /// Set once a bounded job is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion: Option<CompletionStatus>,
    /// Savepoints in the job's checkpoint that the runners know of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub savepoints: Vec<SavepointStatus>,
    /// The last commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_commit: Option<CommitStatus>,
    /// How far the job is behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<LagStatus>,
    /// Messages that arrive a second, all runners together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_rows_per_second: Option<i64>,
    /// Messages that are worked through a second, all runners together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processed_rows_per_second: Option<i64>,
    /// Event time up to which the input is believed complete: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub watermark: Option<String>,
    /// Restarts of runners so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<i64>,
    /// Failures in a row without a time of readiness between them: what `restart.maxRetries` bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<i64>,
    /// The last failure of a runner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<FailureStatus>,
}

/// One immutable rendering of the spec.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// Hash of what the user wrote.
    #[schemars(length(max = 64))]
    pub hash: String,
    /// Number of the revision; it only grows.
    pub number: i64,
    /// When it became what it is here: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub since: String,
    /// Whether one of its pods was found valid: manifest, queries, Kafka, checkpoint, outputs.
    #[serde(default)]
    pub validated: bool,
}

/// The division of the work that the runners are asked for; the job log has the last word.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TermStatus {
    /// Grows with every change.
    pub generation: i64,
    /// Number of the revision that may write.
    pub revision: i64,
    /// How many runners share the work.
    pub parallelism: u32,
    /// When it was first asked for: RFC 3339, UTC.
    #[schemars(length(max = 64))]
    pub since: String,
}

/// A pod that has its number: whoever creates it gives it this one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReservedPod {
    /// Its ordinal.
    pub ordinal: u32,
    /// Number of its revision.
    pub revision: i64,
    /// Its own number.
    pub number: i64,
}

/// The end of a bounded job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CompletionStatus {
    /// Number of the revision that is done.
    pub revision: i64,
    /// When its first runner said so: RFC 3339, UTC.
    #[schemars(length(max = 64))]
    pub time: String,
}

/// A savepoint in the job log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SavepointStatus {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Sequence of the record that it pins.
    pub seq: i64,
}

/// A commit in the job log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommitStatus {
    /// Sequence of the record in the job log.
    pub seq: i64,
    /// When it was written: RFC 3339, UTC.
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub time: String,
}

/// How far the job is behind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LagStatus {
    /// Messages between what is committed and the topics' ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<i64>,
    /// Age of the oldest message that is not committed, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<i64>,
}

/// A failure of a runner.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureStatus {
    /// Whose problem it is: `user`, `data`, `external`, `placement`, `infrastructure` or `internal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureClass>,
    /// One word, in CamelCase.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub reason: String,
    /// What happened and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub message: String,
    /// The pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub pod: String,
    /// The exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// When: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub time: String,
    /// The last lines of its log, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 4096)))]
    pub log: Vec<String>,
}
