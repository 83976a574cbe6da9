//! The format of a slot: what a record says.
//!
//! JSON, so that a person can read it with `cat`. Field names are camelCase. An unknown field is an error: a runner that
//! skipped what a newer version wrote could break an invariant that the field carries. Hence whoever adds a field, a body or
//! a variant, also an optional one, raises [`FORMAT`]; a version reads every format up to its own and writes its own.

mod commit;
mod manage;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::commit::{
    Blob, Commit, Counters, DataLoss, EventTime, Intents, Note, ParquetFile, PartitionWatermark, Publishing, Range,
    StateRef,
};
pub use self::manage::{
    Complete, Edit, EditPolicy, Hold, Moved, Plan, Position, Published, PublishedFile, Release, Retracted, Rewind,
    RewindPolicy, RewindTarget, Savepoint, SavepointAction, Shift, SkipPublish, StartFrom, StartPoint, Truncate,
};
use crate::ids::{
    Attempt, Generation, Incarnation, JobUid, Millis, Offset, Ordinal, OutputName, Partition, Rank, Revision, Seq,
    TopicId,
};
use crate::limits::{FORMAT, MAX_SLOT_BYTES};
use crate::task::{Parallelism, Task};
use std::collections::BTreeMap;

/// What one object under `log/` holds: one or more entries, decided together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Slot {
    /// The version of the format.
    pub format: u32,
    /// The entries, folded in this order. Never empty.
    pub entries: Vec<Entry>,
}

/// One thing that one writer said.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// Who wrote it.
    pub writer: Writer,
    /// The generation of the term it was written in; absent before the first term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// The writer's wall clock. Informs a reader; no decision depends on it.
    pub at: Millis,
    /// What it says.
    pub body: Body,
}

/// Who wrote an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Writer {
    /// The process.
    pub incarnation: Incarnation,
    /// Its how-many-th slot this is.
    pub attempt: Attempt,
    /// The ordinal it holds or claims; absent for a command and before the first claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordinal: Option<Ordinal>,
    /// The rank it holds the ordinal with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<Rank>,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Body {
    /// The log begins: whose job it is.
    Init(Init),
    /// The job has another home from here on.
    Adopt(Adopt),
    /// The work is divided anew.
    Term(Term),
    /// An incarnation takes over tasks.
    Claim(Claim),
    /// An epoch is decided.
    Commit(Box<Commit>),
    /// Decided records were published, said by a job that has nothing to commit.
    Published(Published),
    /// The ends of a bounded read.
    Plan(Plan),
    /// A bounded read reached its ends, and all of it is published.
    Complete(Complete),
    /// A command stops all work, to rewind or edit.
    Hold(Hold),
    /// Work may go on.
    Release(Release),
    /// A name for this point of the log, or the end of one.
    Savepoint(Savepoint),
    /// The job's positions go back to an earlier point.
    Rewind(Rewind),
    /// Files that a rewind retracts were deleted.
    Retracted(Retracted),
    /// Single offsets are moved by hand.
    Edit(Edit),
    /// A decided record will not be published; its rows were exported.
    SkipPublish(SkipPublish),
    /// Slots below may be deleted from here on.
    Truncate(Truncate),
}

/// The job's home: where its one true copy runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Home {
    /// `cluster/namespace/name`, or `host:path` outside a cluster.
    pub place: String,
    /// The uid of the StreamingJob object; absent outside a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_uid: Option<String>,
}

/// The log begins. Only the first entry of slot 0 is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Init {
    /// The identity the job has towards its sinks.
    pub job: JobUid,
    /// Where it runs.
    pub home: Home,
    /// The checkpoint location as its user wrote it, to tell a copied log from the original.
    pub location: String,
    /// Slots in a segment. Every process on the log must count the same, or it would look for the wrong seal.
    pub segment_slots: u64,
}

/// The job has another home from here on; the one before never returns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Adopt {
    /// The identity towards sinks: a new one when forked, otherwise the one it had.
    pub job: JobUid,
    /// The new home.
    pub home: Home,
    /// The checkpoint location from here on.
    pub location: String,
    /// Why.
    pub reason: AdoptReason,
}

/// Why a job has another home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum AdoptReason {
    /// The StreamingJob was deleted and created again under the same name.
    Recreated,
    /// Its user said that this home takes over from another.
    TakenOver,
    /// Its user said that this is a new job that begins where the other stands.
    Forked,
}

/// The work is divided anew.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Term {
    /// Higher than that of every earlier term of this home.
    pub generation: Generation,
    /// The spec that runs.
    pub revision: Revision,
    /// How many runners share the work.
    pub parallelism: Parallelism,
    /// Where each output goes, so that a moved output is noticed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<OutputName, String>,
}

/// An incarnation takes over tasks; it fences every earlier owner of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Claim {
    /// The ordinal it works as.
    pub ordinal: Ordinal,
    /// Its rank on that ordinal.
    pub rank: Rank,
    /// The revision it runs: the term's.
    pub revision: Revision,
    /// The tasks, all of which the term gives to this ordinal.
    pub tasks: Vec<Task>,
    /// Where partitions start that the log did not know: those among the tasks, and others that the job begins with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub first: BTreeMap<Partition, FirstClaim>,
    /// The slot of this incarnation's claim before; absent for its first one. An incarnation that lost its ordinal in
    /// between can thus never claim it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renews: Option<Seq>,
}

/// Where a partition starts, resolved before anything was read from it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FirstClaim {
    /// The first offset to read.
    pub start: Offset,
    /// The topic's id; absent if the brokers are too old to have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<TopicId>,
}

/// A slot that this version cannot read, or could not write.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FormatError {
    /// Written by a newer version.
    #[error("{key} has format {found}, this version reads up to {FORMAT}: upgrade the runner")]
    Newer {
        /// The object.
        key: String,
        /// Its format.
        found: u32,
    },
    /// Its segments are of another size than this version's.
    #[error("the job log has {found} slots to a segment, this version {ours}: run the version that began it")]
    Segments {
        /// What its first record says.
        found: u64,
        /// What this process counts by.
        ours: u64,
    },
    /// Not what any version writes.
    #[error("{key} cannot be read: {reason}")]
    Unreadable {
        /// The object.
        key: String,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// Too large to be written.
    #[error(
        "the record for {key} has {bytes} bytes, more than {MAX_SLOT_BYTES}: let epochs be smaller (trigger.maxRecords)"
    )]
    TooLarge {
        /// The object.
        key: String,
        /// The size.
        bytes: usize,
    },
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl Slot {
    /// A slot in the current format.
    pub fn new(entries: Vec<Entry>) -> Self {
        Self { format: FORMAT, entries }
    }

    /// The bytes that go under `key`.
    pub fn encode(&self, key: &str) -> Result<Bytes, FormatError> {
        let bytes = encode(self, key)?;
        if bytes.len() > MAX_SLOT_BYTES {
            return Err(FormatError::TooLarge { key: key.to_owned(), bytes: bytes.len() });
        }
        Ok(bytes)
    }

    /// Reads the bytes found under `key`.
    pub fn decode(key: &str, bytes: &[u8]) -> Result<Self, FormatError> {
        decode(key, bytes)
    }

    /// True if one of the entries is that attempt of that incarnation.
    pub fn is_from(&self, incarnation: Incarnation, attempt: Attempt) -> bool {
        self.entries.iter().any(|entry| entry.writer.incarnation == incarnation && entry.writer.attempt == attempt)
    }

    /// Every staged object and state blob that the commits among the entries bring.
    pub(crate) fn staged(&self) -> impl Iterator<Item = &str> {
        self.commits().flat_map(|(_, commit)| {
            let intents = commit.intents.values().flat_map(Intents::staged);
            intents.chain(commit.state.iter().map(|blob| blob.key.as_str()))
        })
    }

    /// The commits among the entries.
    pub fn commits(&self) -> impl Iterator<Item = (&Writer, &Commit)> {
        self.entries.iter().filter_map(|entry| match &entry.body {
            Body::Commit(commit) => Some((&entry.writer, commit.as_ref())),
            _ => None,
        })
    }
}

pub(crate) fn encode<T: Serialize>(value: &T, key: &str) -> Result<Bytes, FormatError> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| FormatError::Unreadable { key: key.to_owned(), reason: error.to_string() })?;
    Ok(bytes.into())
}

/// Looks at the format's number first: a newer format may be any other JSON object with such a number.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, FormatError> {
    let unreadable =
        |error: serde_json::Error| FormatError::Unreadable { key: key.to_owned(), reason: error.to_string() };
    let FormatOnly { format } = serde_json::from_slice(bytes).map_err(unreadable)?;
    if format > FORMAT {
        return Err(FormatError::Newer { key: key.to_owned(), found: format });
    }
    serde_json::from_slice(bytes).map_err(unreadable)
}
