//! The StreamingJob as it is written: the types behind the custom resource's schema.
//!
//! Nothing is checked here beyond what a schema can say, and no default is filled in (except `parallelism`, which
//! Kubernetes' scale subresource needs, and a status that says that nobody has seen the job): both happen in validation. Every comment on a field is its
//! description in the resource's schema. Every list, map and text has a maximum, so that the cost of the rules is bounded.

mod output;
mod runner;
mod source;
mod status;
mod text;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use output::*;
pub use runner::*;
pub use source::*;
pub use status::*;
pub use text::*;

/// A job that leads Kafka topics through SQL into tables, exactly once.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "millrace.dev",
    version = "v1alpha1",
    kind = "StreamingJob",
    plural = "streamingjobs",
    singular = "streamingjob",
    shortname = "sjob",
    category = "millrace",
    namespaced,
    crates(kube_core = "::kube_core"),
    doc = "A job that leads Kafka topics through SQL into tables, exactly once.",
    status = "StreamingJobStatus",
    derive = "PartialEq",
    scale(
        spec_replicas_path = ".spec.parallelism",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name": "Wanted", "type": "integer", "jsonPath": ".spec.parallelism"}"#,
    printcolumn = r#"{"name": "Running", "type": "integer", "jsonPath": ".status.readyReplicas"}"#,
    printcolumn = r#"{"name": "Lag", "type": "integer", "jsonPath": ".status.lag.records"}"#,
    printcolumn = r#"{"name": "Committed", "type": "date", "jsonPath": ".status.lastCommit.time"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name": "Revision", "type": "string", "jsonPath": ".status.revision.hash", "priority": 1}"#,
    printcolumn = r#"{"name": "Restarts", "type": "integer", "jsonPath": ".status.restarts", "priority": 1}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.views) || self.views.all(v, !self.sources.exists(s, s.name == v.name))",
        "message": "a view and a source have the same name",
    },
]))]
pub struct StreamingJobSpec {
    /// The Kafka inputs. Each is a table of its name in SQL, with the columns of its format and Kafka's own: `_key`,
    /// `_topic`, `_partition`, `_offset`, `_timestamp`, `_headers`.
    #[schemars(length(min = 1, max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub sources: Vec<SourceSpec>,
    /// Named queries over sources and over views further up; later views and outputs read them like tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub views: Vec<ViewSpec>,
    /// Named queries and where their results are written. Outputs of one job share one read of their sources.
    #[schemars(length(min = 1, max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub outputs: Vec<OutputSpec>,
    /// When an epoch closes and commits. Unset: every 10 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<TriggerSpec>,
    /// Where the job keeps its log and its state.
    pub checkpoint: CheckpointSpec,
    /// How object stores are reached. Unset: workload identity in a cluster, the `AWS_*` variables on a laptop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// Where a job begins whose checkpoint is to be continued from an earlier point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_from: Option<StartFromSpec>,
    /// How many runners divide the work. 0 is the same as suspended.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub parallelism: u32,
    /// Stops the job and keeps its checkpoint; it continues where it was when this is false again. Unset: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// How a failed runner is started again. Unset: without limit, after 1 second growing to 5 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartSpec>,
    /// How long a runner may go without a commit, or without having polled while caught up, before it no longer counts as
    /// ready: `2m`, `1h30m`. Unset: 60 seconds, or ten times the trigger's interval if that is longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_deadline: Option<DurationText>,
    /// Seconds after which the pods of a completed job are deleted, and their logs with them. Unset: they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub ttl_seconds_after_finished: Option<i64>,
    /// How the runner's pods look. Ignored by `millrace run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<RunnerSpec>,
}

fn one() -> u32 {
    1
}

/// A named query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ViewSpec {
    /// The view's name in SQL, unique among sources and views: letters, digits and underscores.
    pub name: SqlName,
    /// The query, in DataFusion's SQL.
    pub sql: SqlText,
}

/// When an epoch closes and commits.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "[has(self.interval), has(self.availableNow), has(self.once)].filter(x, x).size() <= 1",
    "message": "give at most one of interval, availableNow, once",
}]))]
pub struct TriggerSpec {
    /// Commit this often, for ever: `10s`, `500ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<DurationText>,
    /// Read to the end offsets seen at the start, commit and finish: a bounded job. Written `availableNow: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_now: Option<Empty>,
    /// The same as `availableNow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Empty>,
    /// Close the epoch early once it holds this many records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_records: Option<i64>,
    /// Close the epoch early once it holds this many bytes of messages: `256Mi`, `1G`, `1000000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<QuantityText>,
}

/// Where the job keeps its log and its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointSpec {
    /// A folder of its own: `s3://bucket/folder`, or a path on a laptop. It says what has been written already, so it cannot
    /// be changed; create another job to begin anew.
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self == oldSelf",
        "message": "checkpoint.location cannot be changed; create a job of another name to begin anew",
    }]))]
    pub location: LocationText,
}

/// Where a job begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartFromSpec {
    /// Name of a savepoint in the job's own checkpoint.
    pub savepoint: ShortText,
}

/// How a failed runner is started again.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestartSpec {
    /// Restarts in a row without a healthy commit before the job is given up. Unset: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_retries: Option<u32>,
    /// The pause before a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<BackoffSpec>,
}

/// The pause before a restart: it doubles from `initial` up to `max`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackoffSpec {
    /// The first pause. Unset: `1s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<DurationText>,
    /// The longest pause. Unset: `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<DurationText>,
}
