//! Stage, decide, publish: what makes an epoch count, exactly once.
//!
//! The [`Committer`] holds this process's copy of the job log and turns its decisions into acts. While it commits an
//! epoch in a task of its own, the pipeline reads the next one; [`Committing`] is the hand-over between the two.

mod append;
mod collect;
mod committer;
mod place;
pub mod placed;
mod publish;
mod retract;
mod savepoint;
mod seat;

use tokio::task::JoinHandle;

pub use append::log_failure;
pub use committer::{Beginning, Committer, Identity};
pub use place::Place;
pub use savepoint::check_savepoint_name;
pub use seat::Duties;

use crate::epoch::ClosedEpoch;
use crate::failure::Failure;

/// What the log says to this process after a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Fine,
    /// What was read since the last commit is not ours to commit: drop it, and begin from where the log stands.
    StartOver,
    /// Another process has this one's place for good; says which.
    Superseded(String),
    /// The bounded read is done.
    Completed,
    /// The job has to go back to the savepoint at which this process's revision begins, and it is this process that sees
    /// to it.
    StartDue,
}

/// The committer, at rest or at work.
pub struct Committing {
    idle: Option<Committer>,
    busy: Option<Busy>,
}

/// A commit under way; dropped, it stops where it is, as in a crash.
struct Busy(JoinHandle<(Committer, Result<Verdict, Failure>)>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Committing {
    /// A committer at rest.
    pub fn new(committer: Committer) -> Self {
        Self { idle: Some(committer), busy: None }
    }

    /// Whether an epoch is being committed.
    pub fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// The committer, which must be at rest.
    ///
    /// # Errors
    /// It is at work: a mistake of the pipeline.
    pub fn idle(&mut self) -> Result<&mut Committer, Failure> {
        self.idle.as_mut().ok_or_else(|| Failure::internal("the committer was asked while it commits"))
    }

    /// Commits a closed epoch in a task of its own.
    ///
    /// # Errors
    /// Another commit is under way: a mistake of the pipeline.
    pub fn start(&mut self, epoch: ClosedEpoch) -> Result<(), Failure> {
        let Some(mut committer) = self.idle.take() else {
            return Err(Failure::internal("an epoch was closed while another is being committed"));
        };
        self.busy = Some(Busy(tokio::spawn(async move {
            let outcome = committer.commit(epoch).await;
            (committer, outcome)
        })));
        Ok(())
    }

    /// Waits for the commit under way. Cancellation-safe.
    ///
    /// # Errors
    /// The commit's.
    pub async fn done(&mut self) -> Result<Verdict, Failure> {
        let Some(busy) = self.busy.as_mut() else { return Ok(Verdict::Fine) };
        let finished = (&mut busy.0).await;
        self.busy = None;
        let (committer, outcome) =
            finished.map_err(|error| Failure::internal(format!("the commit broke off: {error}")))?;
        self.idle = Some(committer);
        outcome
    }

    /// Whether a command holds the log, so that nothing is ours to do; false while an epoch is being committed.
    pub fn is_held(&self) -> bool {
        self.idle.as_ref().is_some_and(Committer::is_held)
    }

    /// Whether the process has taken its place in the log.
    pub fn is_joined(&self) -> bool {
        self.idle.as_ref().is_none_or(Committer::is_joined)
    }
}

/// Every task of a map, for messages.
fn list(tasks: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    tasks.into_iter().map(|task| task.to_string()).collect::<Vec<_>>().join(", ")
}

impl Verdict {
    /// This verdict, unless it only says to go on.
    pub fn interesting(self) -> Option<Self> {
        (self != Self::Fine).then_some(self)
    }
}
