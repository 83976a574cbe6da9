//! Upkeep by the owner of the collector: snapshots, truncation, and the deletion of dead slots.

use crate::decide::View;
use crate::error::{Damage, LogError};
use crate::gc::{self, Sweep, SweepAction};
use crate::ids::Seq;
use crate::log::{Appended, Compose, Driven, JobLog};
use crate::paths;
use crate::snapshot::Snapshot;
use crate::store::StoreError;
use crate::task::Task;

/// What upkeep did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the log may be void"]
pub enum Maintained {
    /// What was due, if anything.
    Done {
        /// The slot through which a snapshot was written.
        snapshot: Option<Seq>,
        /// The slot below which everything is deleted now.
        deleted_below: Option<Seq>,
    },
    /// Another process collects.
    NotCollector,
    /// A record of an earlier call turned out to be part of the log. Upkeep waits for the next call.
    Earlier(crate::replica::Won),
    /// What this process read may no longer be the log. Publish nothing; call [`JobLog::reopen`].
    Void,
}

impl JobLog {
    /// Writes a snapshot and deletes dead slots if that is due, and otherwise does nothing. Call it after each commit. Every
    /// step may fail or be dropped and is done again later.
    pub async fn maintain(&mut self) -> Result<Maintained, LogError> {
        if !self.is_collector() {
            return Ok(Maintained::NotCollector);
        }
        match self.settle().await? {
            Driven::Won(won) => return Ok(Maintained::Earlier(won)),
            Driven::Void => return Ok(Maintained::Void),
            Driven::Idle | Driven::Beaten => {}
        }
        let mut snapshot = None;
        if self.is_snapshot_due() {
            if !self.replica.is_checked() {
                self.replica.verify();
                if let Driven::Void = self.drive().await? {
                    return Ok(Maintained::Void);
                }
            }
            if let Some(due) = self.replica.snapshot() {
                self.write_snapshot(&due).await?;
                snapshot = Some(due.through());
            }
        }
        if let Some(newest) = self.newest_snapshot {
            let (collected, limits) = (self.collected, self.limits);
            let compose = |view: &View<'_>| match gc::truncate(view, newest, collected, &limits) {
                Some(proposal) => Compose::Propose(proposal),
                None => Compose::Decline(()),
            };
            // Nothing due is the common case, and costs no request.
            if gc::truncate(&self.view(), newest, collected, &limits).is_some() {
                match self.append(compose).await? {
                    Appended::Won(_) | Appended::Declined(()) => {}
                    Appended::Earlier(won) => return Ok(Maintained::Earlier(won)),
                    Appended::Void => return Ok(Maintained::Void),
                }
            }
        }
        let deleted_below = self.sweep().await?;
        Ok(Maintained::Done { snapshot, deleted_below })
    }

    fn is_collector(&self) -> bool {
        let view = self.view();
        view.fold.owns(&Task::Collector, view.incarnation) && view.superseded().is_none()
    }

    fn is_snapshot_due(&self) -> bool {
        let after = self.newest_snapshot.map_or(Seq::ZERO, Seq::next);
        self.fold().next().0.saturating_sub(after.0) >= self.limits.snapshot_every
    }

    async fn write_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), LogError> {
        let bytes = snapshot.encode().map_err(Damage::from)?;
        let key = snapshot.key();
        let mut tries = 0;
        // Created or there already: another collector's snapshot of the same slots says the same.
        while let Err(error) = self.store.put_if_absent(&key, bytes.clone()).await {
            self.back_off(&mut tries, error).await?;
        }
        if !self.exists(&key).await? {
            return Ok(()); // refused for another create that failed; the next call tries again
        }
        self.newest_snapshot = Some(snapshot.through());
        let old = gc::old_snapshots(&self.list_snapshots().await?, &self.limits);
        self.delete(&old).await?;
        Ok(())
    }

    /// Seals and deletes what the last `Truncate` record allows, segment by segment.
    async fn sweep(&mut self) -> Result<Option<Seq>, LogError> {
        let below = self.fold().truncated_below();
        let collected = self.collected.max(self.fold().collected_below());
        if !self.replica.is_checked() || collected >= below {
            return Ok(None);
        }
        let mut sweep = Sweep::new(collected, below, &self.limits);
        loop {
            match sweep.action(&self.limits) {
                SweepAction::Seal(segment) => {
                    let key = paths::seal(segment);
                    let mut tries = 0;
                    while let Err(error) = self.store.put_if_absent(&key, bytes::Bytes::new()).await {
                        self.back_off(&mut tries, error).await?;
                    }
                    if !self.exists(&key).await? {
                        return Ok(None); // refused for another create that failed; the next call tries again
                    }
                }
                SweepAction::Delete(segment) => self.delete(&gc::slots(segment, &self.limits)).await?,
                SweepAction::Done(below) => {
                    self.collected = below;
                    return Ok(Some(below));
                }
            }
            sweep.acknowledged();
        }
    }

    async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        let mut tries = 0;
        loop {
            match self.store.head(key).await {
                Ok(present) => return Ok(present),
                Err(error) => self.back_off(&mut tries, error).await?,
            }
        }
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        let mut tries = 0;
        while let Err(error) = self.store.delete(keys).await {
            self.back_off(&mut tries, error).await?;
        }
        Ok(())
    }
}
