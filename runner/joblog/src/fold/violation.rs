//! What a record may not do.

use crate::fold::Unfinished;
use crate::ids::{Attempt, Generation, Incarnation, Offset, Ordinal, OutputName, Partition, Rank, Revision, Seq};
use crate::task::Task;

/// A record that breaks an invariant: a fault of the program or damage to the store, never an expected outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[error("slot {seq} breaks an invariant of the job log: {breach}")]
pub struct Violation {
    /// The slot.
    pub seq: Seq,
    /// How.
    pub breach: Breach,
}

impl Violation {
    pub(crate) fn new(seq: Seq, breach: Breach) -> Self {
        Self { seq, breach }
    }
}

/// How a record breaks an invariant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation, the fields are what they name
pub enum Breach {
    #[error("slot {expected} comes first")]
    Gap { expected: Seq },
    #[error("it has no entries")]
    Empty,
    #[error("an init stands elsewhere than at the beginning, or the beginning is none")]
    InitElsewhere,
    #[error("attempt {attempt} of incarnation {incarnation} was decided before")]
    AttemptTwice { incarnation: Incarnation, attempt: Attempt },
    #[error("the home with uid {uid} was replaced and may not return")]
    HomeReturned { uid: String },
    #[error("an adopt does not match its reason")]
    AdoptReason,
    #[error("term {found} is not higher than {current}")]
    TermNotHigher { found: Generation, current: Generation },
    #[error("{path} belongs to the job that this one was forked from, or was left behind by a rewind")]
    ForeignOutput { path: String },
    #[error("it was written in term {found:?}, the log is in {current:?}")]
    StaleTerm { found: Option<Generation>, current: Option<Generation> },
    #[error("it runs revision {found}, the term runs {current}")]
    StaleRevision { found: Revision, current: Revision },
    #[error("the log is held by incarnation {by}")]
    Held { by: Incarnation },
    #[error("incarnation {by} does not hold the log")]
    NotHolder { by: Incarnation },
    #[error("the log is not held")]
    NotHeld,
    #[error("ordinal {ordinal} has no place in the term's division")]
    NoSuchOrdinal { ordinal: Ordinal },
    #[error("rank {found} on ordinal {ordinal} is lower than {highest}, or of another home")]
    RankTooLow { ordinal: Ordinal, found: Rank, highest: Rank },
    #[error("incarnation {incarnation} claims ordinal {ordinal} again after it lost it")]
    ClaimedBack { ordinal: Ordinal, incarnation: Incarnation },
    #[error("task {task} belongs to ordinal {owner}")]
    NotAssigned { task: Task, owner: Ordinal },
    #[error("partition {partition} is claimed and nobody said where it starts")]
    NoStart { partition: Partition },
    #[error("partition {partition} was started before")]
    StartedTwice { partition: Partition },
    #[error("incarnation {incarnation} does not hold ordinal {ordinal:?}")]
    NoStanding { incarnation: Incarnation, ordinal: Option<Ordinal> },
    #[error("task {task} is not owned by incarnation {incarnation}")]
    NotOwned { task: Task, incarnation: Incarnation },
    #[error("task {task} left this ordinal and is not released")]
    NotReleased { task: Task },
    #[error("the range of {partition} is empty or reversed")]
    EmptyRange { partition: Partition },
    #[error("{partition} stands at {current}, the record continues from {found}")]
    BrokenChain { partition: Partition, found: Offset, current: Offset },
    #[error("the watermark of {partition} goes back, or does not continue from where it stood")]
    WatermarkBroken { partition: Partition },
    #[error("staged object {name} belongs to no live claim of its writer")]
    DeadStagedName { name: String },
    #[error("two commits of one slot write to output {output}")]
    SharedOutput { output: OutputName },
    #[error("record {seq} has nothing to publish to output {output}")]
    NothingPending { seq: Seq, output: OutputName },
    #[error("output {output} is published in order, and record {first} comes before {seq}")]
    PublishOrder { seq: Seq, output: OutputName, first: Seq },
    #[error("incarnation {incarnation} may not note record {seq} as published to {output}")]
    NotPublisher { seq: Seq, output: OutputName, incarnation: Incarnation },
    #[error("{task} is moved on beyond the ends of the bounded read, or after it was complete")]
    BeyondPlan { task: Task },
    #[error("a bounded read is planned already")]
    PlannedTwice,
    #[error("the bounded read is not done: {why}")]
    NotComplete { why: Unfinished },
    #[error("savepoint {name:?} exists, does not exist, or is one too many")]
    Savepoint { name: String },
    #[error("{count} records wait to be published")]
    NotDrained { count: usize },
    #[error("a rewind's target or positions do not fit the log")]
    RewindTarget,
    #[error("an edit moves {partition}, which the log does not know")]
    UnknownPartition { partition: Partition },
    #[error("an edit has rows read again and says not for every output what becomes of them, or says it for nothing")]
    EditPolicies,
    #[error("a truncation goes back, or beyond its own record")]
    TruncateRange,
}
