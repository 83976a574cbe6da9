//! What a runner answers on `GET /status`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::exit::known_class;
use super::{FailureClass, Progress};

/// A runner's answer to `GET /status`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunnerStatus {
    /// The runner's version.
    pub version: String,
    /// The job's name.
    pub job: String,
    /// The incarnation: a UUID, new with each start.
    pub incarnation: String,
    /// The ordinal, from 0.
    pub ordinal: u32,
    /// The revision it runs.
    pub revision: String,
    /// Generation of the term it works in.
    pub generation: u64,
    /// What it is doing.
    pub phase: Phase,
    /// Why it works less well than it should; absent if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded: Option<Degraded>,
    /// Its own last commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_commit: Option<CommitPoint>,
    /// How far it is behind, by source; a source whose end is not known is absent.
    pub lag: BTreeMap<String, Lag>,
    /// Progress of its last epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_progress: Option<Progress>,
    /// Whether another incarnation has taken its tasks over for good.
    pub superseded: bool,
    /// The job's savepoints, as this runner knows the log.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub savepoints: Vec<SavepointPoint>,
}

/// A savepoint in the job log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SavepointPoint {
    /// Its name.
    pub name: String,
    /// Sequence of the record that it pins.
    pub seq: u64,
}

/// What a runner is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Reading the manifest and the job log.
    #[default]
    Starting,
    /// Valid, and waiting for a term that gives it tasks.
    Waiting,
    /// Reading and committing.
    Running,
    /// Closing the last epoch after SIGTERM.
    Stopping,
    /// The bounded job is done.
    Completed,
    /// Another incarnation has its tasks: it does nothing until it is stopped.
    Superseded,
    /// A user's error stops it; it looks again from time to time.
    Stalled,
    /// A phase that a newer runner knows and this reader does not.
    #[serde(other)]
    Unknown,
}

/// Why a runner works less well than it should.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Degraded {
    /// Whose problem it is.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "known_class")]
    pub class: Option<FailureClass>,
    /// One word, in CamelCase.
    pub reason: String,
    /// What is wrong and what to do.
    pub message: String,
    /// Since when: RFC 3339, UTC.
    pub since: String,
}

/// A commit in the job log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CommitPoint {
    /// Sequence of the record.
    pub seq: u64,
    /// When it was written: RFC 3339, UTC.
    pub time: String,
}

/// How far a runner is behind in one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lag {
    /// Messages between the committed offsets and the topics' ends.
    pub records: u64,
}
