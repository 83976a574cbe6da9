//! Appending to the job log, as long as it takes: an absent store is waited out and shown as degraded.

use std::time::Duration;

use millrace_crds::contract::FailureClass;
use millrace_joblog::decide::View;
use millrace_joblog::log::Compose;
use millrace_joblog::store::FaultKind;
use millrace_joblog::{Appended, LogError};
use tokio::time::sleep;

use super::Committer;
use crate::env::Backoff;
use crate::failure::Failure;
use crate::ids::Seq;

/// What came of an append.
pub(super) enum Reply<D> {
    /// The record is part of the log, at this slot.
    Won(Seq),
    /// Nothing was written, for this reason.
    Declined(D),
    /// What was read may not be the log: it was opened anew.
    Reopened,
}

impl Committer {
    /// Appends what `compose` proposes, as long as it takes: an absent store is waited out and shown as degraded.
    pub(super) async fn append<D>(
        &mut self,
        mut compose: impl FnMut(&View<'_>) -> Compose<D>,
    ) -> Result<Reply<D>, Failure> {
        let mut backoff = retry();
        // Whether this call composed a record. Until then one that is in flight is another's: upkeep gives up on a store
        // that fails, and leaves its own behind.
        let mut composed = false;
        loop {
            let mut compose = |view: &View<'_>| {
                let composition = compose(view);
                composed |= matches!(composition, Compose::Propose(_));
                composition
            };
            match self.log.append(&mut compose).await {
                Ok(Appended::Won(won)) => return Ok(self.won(won.seq())),
                Ok(Appended::Earlier(won)) if composed => return Ok(self.won(won.seq())),
                Ok(Appended::Earlier(_)) => {}
                Ok(Appended::Declined(reason)) => return Ok(Reply::Declined(reason)),
                Ok(Appended::Void) => {
                    return Ok(match self.reopen().await? {
                        Some(seq) if composed => self.won(seq),
                        _ => Reply::Reopened,
                    });
                }
                Err(error) => self.wait_out(error, &mut backoff).await?,
            }
        }
    }

    fn won<D>(&self, seq: Seq) -> Reply<D> {
        self.hub.log_seq(seq.0);
        Reply::Won(seq)
    }

    /// Opens the log anew after what was read of it turned out to be void.
    pub(super) async fn reopen(&mut self) -> Result<Option<Seq>, Failure> {
        tracing::info!("the job log moved on beneath this process; reading it anew");
        let mut backoff = retry();
        loop {
            match self.log.reopen().await {
                Ok(won) => return Ok(won.map(|won| won.seq())),
                Err(error) => self.wait_out(error, &mut backoff).await?,
            }
        }
    }

    /// After a fault of the log: waits if waiting can help.
    pub(super) async fn wait_out(&mut self, error: LogError, backoff: &mut Backoff) -> Result<(), Failure> {
        let failure = log_failure(&error);
        // Once it has worked, a lost right or a full disk is waited out too: the tables are better off with a job that
        // goes on by itself when that is mended.
        let mendable = matches!(&error, LogError::Store(store) if store.kind != FaultKind::Unsupported);
        if !(failure.is_external() || self.begun && mendable) {
            return Err(failure);
        }
        self.hub.degraded(&failure, self.env.clock.now_millis());
        sleep(backoff.next(&self.env)).await;
        Ok(())
    }
}

/// How the job log's faults look to the user.
pub fn log_failure(error: &LogError) -> Failure {
    let message = format!("job log: {}", chain(error));
    match error {
        LogError::Store(store) => match store.kind {
            FaultKind::Transient => Failure::external("StoreUnavailable", message),
            FaultKind::Full => Failure::external("DiskFull", message),
            FaultKind::Denied => Failure::new(FailureClass::User, "StoreDenied", message),
            FaultKind::MissingBucket => Failure::new(FailureClass::User, "StoreBucketMissing", message),
            FaultKind::Unsupported => Failure::new(FailureClass::User, "StoreUnfit", message),
        },
        LogError::Contended { .. } | LogError::Overtaken { .. } => Failure::external("StoreContended", message),
        LogError::Gone { .. } | LogError::OtherVersion(_) => Failure::user(message),
        LogError::Damaged(_) | LogError::Proposed(_) => Failure::internal(message),
    }
}

/// An error with its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

/// How long to wait between tries of the log's store.
pub(super) fn retry() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(5))
}
