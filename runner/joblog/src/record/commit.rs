//! A decided epoch.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::{Millis, Offset, OutputName, Partition, Seq, TopicId};
use crate::task::Task;

/// A decided epoch: offsets advanced, and what is to be published for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Commit {
    /// The input consumed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ranges: BTreeMap<Partition, Range>,
    /// Offsets that the brokers no longer had, passed over because the job says `failOnDataLoss: false`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_loss: Vec<DataLoss>,
    /// How event time moved, by partition.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub watermarks: BTreeMap<Partition, PartitionWatermark>,
    /// The time that processing-time functions saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_time: Option<Millis>,
    /// A hash of the plan that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_hash: Option<String>,
    /// The versions of the static tables that were read, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub static_tables: BTreeMap<String, String>,
    /// State blobs written by the epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state: Vec<StateRef>,
    /// What is to be published, by output. An output with nothing to publish is absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub intents: BTreeMap<OutputName, Intents>,
    /// Earlier records that were published in the meantime.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Note>,
    /// Tasks that the writer gives up with this epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub released: Vec<Task>,
    /// What was counted.
    #[serde(default, skip_serializing_if = "Counters::is_empty")]
    pub counters: Counters,
}

/// A half-open range of offsets of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Range {
    /// The first offset consumed.
    pub from: Offset,
    /// The first offset not consumed: the consumer's position, which may lie past the last row.
    pub to: Offset,
}

/// Offsets that the brokers no longer had.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataLoss {
    /// The partition.
    pub partition: Partition,
    /// Where the log stood.
    pub expected: Offset,
    /// Where reading goes on. Lower than `expected` if the topic was created again.
    pub resumed: Offset,
    /// The topic's id from here on, if it changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<TopicId>,
    /// What happened, for a person.
    pub reason: String,
}

/// Event time, in milliseconds since 1970-01-01 UTC, up to which a partition is believed complete.
pub type EventTime = Millis;

/// How one partition's watermark moved in an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PartitionWatermark {
    /// The watermark the epoch was decided with; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<EventTime>,
    /// The watermark after the epoch; never lower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<EventTime>,
    /// True if the partition was idle before the epoch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_idle: bool,
    /// True if the partition is idle now: caught up and silent, so the job's watermark does not wait for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
}

/// A state blob.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StateRef {
    /// Whose state it is.
    pub task: Task,
    /// Its key under the checkpoint location (see [`crate::paths::state`]).
    pub key: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// True if it holds the whole state and replaces the blobs before it; false for a delta upon them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub base: bool,
}

/// What a commit wants to be published to one output.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Intents {
    /// Staged files to be moved to their final keys. They commute.
    Parquet {
        /// The files.
        files: Vec<ParquetFile>,
    },
    /// Rows to be shown, in order.
    Console {
        /// The rows, staged.
        blob: Blob,
    },
    /// Rows for a Kafka topic, in order.
    Kafka {
        /// The rows, staged.
        blob: Blob,
    },
    /// Actions for a Delta table, in order.
    Delta {
        /// The actions or rows, staged.
        blob: Blob,
    },
}

/// How the records of an output relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Publishing {
    /// In any order: whoever decided publishes, and the output's publisher sweeps up after fenced incarnations.
    Commuting,
    /// By the output's publisher alone, in the order of the records.
    Ordered,
}

/// One staged Parquet file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParquetFile {
    /// The URL of the staged object; its file name is a [`crate::staged::StagedName`].
    pub staged: String,
    /// The URL it is published under.
    pub target: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// The staged object's entity tag, if the store gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// One staged blob of rows or actions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Blob {
    /// Its key under the checkpoint location (see [`crate::paths::staged`]).
    pub staged: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
}

/// An earlier record's publishing to one output, done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Note {
    /// The record.
    pub seq: Seq,
    /// The output.
    pub output: OutputName,
}

/// What an epoch counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Counters {
    /// Rows read.
    #[serde(default)]
    pub rows_in: u64,
    /// Rows that did not decode.
    #[serde(default)]
    pub rows_bad: u64,
    /// Rows staged, by output.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rows_out: BTreeMap<OutputName, u64>,
}

impl Range {
    /// The offsets from `from` up to and without `to`.
    pub fn new(from: i64, to: i64) -> Self {
        Self { from: Offset(from), to: Offset(to) }
    }
}

impl Commit {
    /// The tasks that it moves on: of what it works on, and of partitions with offsets that it passes over.
    pub(crate) fn advances(&self) -> BTreeSet<Task> {
        let losses = self.data_loss.iter().map(|loss| Task::Partition(loss.partition.clone()));
        self.works_on().chain(losses).collect()
    }

    /// The tasks of partitions that it reads or whose watermark it raises, and of state.
    pub(crate) fn works_on(&self) -> impl Iterator<Item = Task> {
        let partitions = self.ranges.keys().chain(self.watermarks.keys());
        let states = self.state.iter().map(|state| state.task.clone());
        partitions.cloned().map(Task::Partition).chain(states)
    }
}

impl Intents {
    /// How this kind of sink is published.
    pub fn publishing(&self) -> Publishing {
        match self {
            Intents::Parquet { .. } => Publishing::Commuting,
            Intents::Console { .. } | Intents::Kafka { .. } | Intents::Delta { .. } => Publishing::Ordered,
        }
    }

    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        matches!(self, Intents::Parquet { files } if files.is_empty())
    }

    /// Every staged object it refers to.
    pub fn staged(&self) -> impl Iterator<Item = &str> {
        let (files, blob) = match self {
            Intents::Parquet { files } => (files.as_slice(), None),
            Intents::Console { blob } | Intents::Kafka { blob } | Intents::Delta { blob } => (&[][..], Some(blob)),
        };
        files.iter().map(|file| file.staged.as_str()).chain(blob.map(|blob| blob.staged.as_str()))
    }
}

impl Counters {
    /// True if nothing was counted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds another epoch's counts.
    pub fn add(&mut self, other: &Counters) {
        self.rows_in = self.rows_in.saturating_add(other.rows_in);
        self.rows_bad = self.rows_bad.saturating_add(other.rows_bad);
        for (output, rows) in &other.rows_out {
            let sum = self.rows_out.entry(output.clone()).or_default();
            *sum = sum.saturating_add(*rows);
        }
    }
}
