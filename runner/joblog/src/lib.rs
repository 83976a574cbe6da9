//! The job log: the protocol by which the runners of one job agree on what happened.
//!
//! The log is an ordered list of immutable slots in an object store. One put-if-absent of the next slot decides an
//! epoch; folding the slots in order is the only definition of what is true. `docs/job-log.md` is the full account.
//!
//! - [`ids`], [`task`], [`paths`], [`record`]: the words and the format.
//! - [`fold`]: what the log says through a given slot, and every invariant, checked at write and at read.
//! - [`decide`]: pure decisions from a fold to what may be written next.
//! - [`replica`]: one process's copy of the log as an explicit state machine, driven by the workflow.
//! - [`store`]: the few operations asked of an object store, their implementations and their conformance suite.
//! - [`log`]: the workflow, which does the reading and writing around the decisions.
//! - [`gc`], [`staged`], [`history`]: collection of what is dead, and the past that a rewind needs.

pub mod clock;
pub mod decide;
pub mod error;
pub mod fold;
pub mod gc;
pub mod history;
pub mod ids;
pub mod limits;
pub mod log;
#[cfg(test)]
mod model;
pub mod paths;
pub mod record;
pub mod replica;
mod safeguard;
#[cfg(test)]
mod scenarios;
pub mod snapshot;
pub mod staged;
pub mod store;
pub mod task;

pub use clock::{Clock, SystemClock};
pub use decide::{Proposal, View};
pub use error::LogError;
pub use fold::{Fold, Violation};
pub use ids::{
    Attempt, Generation, Incarnation, JobUid, Millis, Offset, Ordinal, OutputName, Partition, Rank, Revision, Seq,
    SourceName, TopicId,
};
pub use limits::Limits;
pub use log::{Appended, CaughtUp, Compose, JobLog};
pub use replica::{Seat, Won};
pub use store::{LogStore, StoreError};
pub use task::{Parallelism, Task, owner};
