//! Holding the log: all work stops, so that a job can be moved by hand.

use std::time::Duration;

use millrace_crds::contract::FailureClass;
use millrace_joblog::decide::{HoldDecision, ReleaseDecision, hold, release};
use millrace_joblog::fold::HoldState;
use millrace_joblog::log::Compose;
use tokio::signal::unix::{SignalKind, signal};

use super::{Reply, Session};
use crate::failure::Failure;

/// The reason of a failure that another command's hold is.
pub const HELD: &str = "LogHeld";
/// How long a command that failed tries to let the log go.
const LETTING_GO: Duration = Duration::from_secs(20);

impl Session {
    /// Holds the log, does `work`, and lets the log go, also when `work` fails or the user interrupts it. Everything is
    /// written so that a command that died in between can be run again, once its hold is released.
    ///
    /// # Errors
    /// The log is a copy; another command holds it; the work's.
    pub async fn while_held<T>(
        &mut self,
        reason: &str,
        work: impl AsyncFnOnce(&mut Session) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.while_held_over(reason, |_| false, work).await
    }

    /// As [`Session::while_held`], also if another command holds the log whose hold is `over`.
    ///
    /// # Errors
    /// As [`Session::while_held`].
    pub(super) async fn while_held_over<T>(
        &mut self,
        reason: &str,
        over: impl Fn(&HoldState) -> bool,
        work: impl AsyncFnOnce(&mut Session) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.own()?;
        self.hold_over(reason, over).await?;
        let outcome = tokio::select! {
            outcome = work(self) => outcome,
            failure = interrupted() => Err(failure),
        };
        let let_go = tokio::time::timeout(LETTING_GO, self.let_go()).await;
        match (outcome, let_go) {
            (outcome, Ok(Ok(()))) => outcome,
            (Ok(value), _) => {
                tracing::warn!("the job log is still held; free it with `millrace log release`");
                Ok(value)
            }
            (Err(failure), _) => {
                let message = format!("{failure}; the job log is still held: free it with `millrace log release`");
                Err(Failure { message, ..failure })
            }
        }
    }

    /// Holds the log.
    ///
    /// # Errors
    /// Another command does.
    pub async fn hold(&mut self, reason: &str) -> Result<(), Failure> {
        self.hold_over(reason, |_| false).await
    }

    /// Holds the log, also if another command does whose hold is `over`: it died, or may go on beside this one.
    pub(super) async fn hold_over(&mut self, reason: &str, over: impl Fn(&HoldState) -> bool) -> Result<(), Failure> {
        self.catch_up().await?;
        let reply = self
            .append(|view| match hold(view, reason, view.fold.held().is_some_and(&over)) {
                HoldDecision::Propose(proposal) => Compose::Propose(proposal),
                other => Compose::Decline(other),
            })
            .await?;
        match reply {
            Reply::Won(_) | Reply::Declined(HoldDecision::Held | HoldDecision::Propose(_)) => Ok(()),
            Reply::Declined(HoldDecision::Other(other)) => Err(held_by(&other)),
            Reply::Declined(HoldDecision::EmptyLog) => Err(Failure::user("the job log is empty")),
        }
    }

    /// Whether this command holds the log, as far as it has read.
    pub(super) fn holds(&self) -> bool {
        self.fold().held().is_some_and(|hold| hold.incarnation == self.incarnation())
    }

    /// Lets the log go, if this command holds it. Once its work let it go, another command may hold it.
    async fn let_go(&mut self) -> Result<(), Failure> {
        let reply = self.append(|view| match release(view, false) {
            ReleaseDecision::Propose(proposal) => Compose::Propose(proposal),
            ReleaseDecision::NotHeld | ReleaseDecision::Other(_) => Compose::Decline(()),
        });
        reply.await.map(|_| ())
    }

    /// Lets the log go. `force`: also if another command holds it, which must be dead. Says whose hold it was.
    ///
    /// # Errors
    /// Another command holds it.
    pub async fn release(&mut self, force: bool) -> Result<Option<HoldState>, Failure> {
        let held = self.fold().held().cloned();
        let reply = self
            .append(|view| match release(view, force) {
                ReleaseDecision::Propose(proposal) => Compose::Propose(proposal),
                other => Compose::Decline(other),
            })
            .await?;
        match reply {
            Reply::Won(_) => Ok(held),
            Reply::Declined(ReleaseDecision::Other(other)) => Err(held_by(&other)),
            Reply::Declined(ReleaseDecision::NotHeld | ReleaseDecision::Propose(_)) => Ok(None),
        }
    }
}

/// The hold that a command counted on is gone: somebody released it.
pub(super) fn hold_lost() -> Failure {
    Failure::new(
        FailureClass::User,
        HELD,
        "the hold on the job log was released by another command; nothing more was changed; run this one again",
    )
}

fn held_by(hold: &HoldState) -> Failure {
    let message = format!(
        "the job log is held by {} since record {} ({}): wait for that command, or, if it is dead, free the log with \
         `millrace log release`",
        hold.incarnation, hold.since, hold.reason
    );
    Failure::new(FailureClass::User, HELD, message)
}

/// Waits for SIGINT or SIGTERM.
async fn interrupted() -> Failure {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Failure::user("interrupted; run the command again to finish what it began")
}
