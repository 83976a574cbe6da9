//! Records about a job as a whole: bounded reads, savepoints, rewinds and truncation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Offset, OutputName, Partition, Revision, Seq};
use crate::record::{EventTime, Note};

/// Decided records were published.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Published {
    /// Which.
    pub notes: Vec<Note>,
}

/// The ends of a bounded read, fixed once for every runner and every restart.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// The first offset that no longer belongs to the read, by partition.
    pub ends: BTreeMap<Partition, Offset>,
}

/// The bounded read is done.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Complete {}

/// All work stops: every task, publishers included, is taken away until the hold is released.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hold {
    /// Who holds it and why, for a person.
    pub reason: String,
}

/// Work may go on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Release {}

/// A savepoint is made or deleted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Savepoint {
    /// Its name.
    pub name: String,
    /// Which of the two.
    pub action: SavepointAction,
}

/// What happens to a savepoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SavepointAction {
    /// The name stands for this point of the log.
    Create,
    /// The name is free again.
    Delete,
}

/// The job's positions go back to an earlier point of the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rewind {
    /// The point.
    pub target: RewindTarget,
    /// How every partition that the log knows moves: from where it stood to where it stood at that point.
    pub positions: BTreeMap<Partition, Moved>,
    /// What becomes of each output's rows from after that point.
    pub outputs: BTreeMap<OutputName, RewindPolicy>,
    /// The revision that begins there, because its spec says so; absent for a command's rewind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartFrom>,
}

/// A revision whose spec says at which savepoint it begins.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartFrom {
    /// The point.
    pub point: StartPoint,
    /// The revision. Until there is a term of it, or of one that comes after it, nobody works.
    pub revision: Revision,
}

/// Where a spec says that the job begins. The job goes there once, however many revisions say so.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartPoint {
    /// The savepoint's name.
    pub savepoint: String,
    /// Another number lets the job go there once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<i64>,
}

/// The point that a rewind goes back to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum RewindTarget {
    /// After that record.
    Seq(Seq),
    /// The savepoint of that name.
    Savepoint(String),
}

/// A partition put back.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Moved {
    /// Where it stood until now.
    pub from: Position,
    /// Where it stands from here on.
    pub to: Position,
}

/// Where a partition stood.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Position {
    /// The next offset to read.
    pub offset: Offset,
    /// Its watermark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<EventTime>,
    /// True if it was idle.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
}

/// What becomes of the rows that an output got after the point of a rewind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum RewindPolicy {
    /// Exactly these files, all that this job published there after the point, are deleted.
    Retract {
        /// The files.
        files: Vec<PublishedFile>,
    },
    /// They stay; the output continues under another path. Until a term says which, nobody works.
    NewPath,
    /// They stay, and the same rows will be published once more. The user typed their consent.
    Duplicate,
}

/// A file that this job published.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublishedFile {
    /// Its URL.
    pub target: String,
    /// The URL of the staged object that it was made from. Whoever deletes the file deletes that one first, so that nobody
    /// who is late publishes it once more.
    pub staged: String,
    /// Its size in bytes, to tell a rewritten file.
    pub bytes: u64,
    /// The staged object's entity tag, likewise; absent if the store gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// A rewind's files of one output are deleted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retracted {
    /// The rewind's record and the output.
    pub notes: Vec<Note>,
}

/// Single offsets are moved by hand.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Edit {
    /// The moves, by partition.
    pub offsets: BTreeMap<Partition, Shift>,
    /// What becomes of the rows that are read again, for every output of the term; empty if every offset goes forward.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<OutputName, EditPolicy>,
}

/// What becomes of the rows that an output has already and that an edit has read again. They cannot be retracted: a file
/// holds rows of several partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EditPolicy {
    /// They stay; the output continues under another path. Until a term says which, nobody works.
    NewPath,
    /// They stay, and will be published once more. The user typed their consent.
    Duplicate,
}

impl Edit {
    /// True if a partition goes back, so that rows are read again.
    pub fn goes_back(&self) -> bool {
        self.offsets.values().any(|shift| shift.to < shift.from)
    }
}

/// One offset moved by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shift {
    /// Where the partition stood.
    pub from: Offset,
    /// Where it stands now.
    pub to: Offset,
}

/// A decided record will not be published to an output.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SkipPublish {
    /// The output.
    pub output: OutputName,
    /// The record.
    pub seq: Seq,
    /// Where its rows were exported to.
    pub exported: String,
}

/// Slots below may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Truncate {
    /// The first slot that stays.
    pub below: Seq,
    /// Slots below this are deleted already, as far as the writer knows.
    pub collected: Seq,
}
