//! The workflow: reads and writes around the decisions, and every retry.
//!
//! A warm epoch costs one PUT and one HEAD, and a GET only after a collision. A look at an idle log costs one GET. What was
//! read is checked, with one HEAD, before it is handed out: nobody outside ever acts upon litter in deleted slots. Dropping
//! any future of [`JobLog`] is safe: what was in flight stays so, and the next call settles it first.

mod maintain;
mod open;

use std::sync::Arc;

use crate::clock::Clock;
use crate::decide::{Proposal, View};
use crate::error::{Damage, LogError};
use crate::fold::Fold;
use crate::ids::Seq;
use crate::limits::Limits;
use crate::paths::{self, Segment};
use crate::record::Slot;
use crate::replica::{Action, Observation, Progress, Replica, Unsettled, Won};
use crate::safeguard::{Safeguard, on};
use crate::store::{FaultKind, LogStore, PutIfAbsent, StoreError};

pub use self::maintain::Maintained;

/// One process's access to a job log.
#[derive(Debug)]
pub struct JobLog {
    store: Arc<dyn LogStore>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    replica: Replica,
    unsettled: Option<Unsettled>,
    /// False while a load is under way, or was dropped or failed half way.
    loaded: bool,
    newest_snapshot: Option<Seq>,
    collected: Seq,
}

/// What a caller of [`JobLog::append`] wants with the log as it is.
#[derive(Debug)]
pub enum Compose<D> {
    /// Write this.
    Propose(Proposal),
    /// Write nothing, for this reason.
    Decline(D),
}

/// What became of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "whether a record is part of the log decides what may be published and deleted"]
pub enum Appended<D> {
    /// The record is part of the log.
    Won(Won),
    /// A record of an earlier call, which was dropped or failed, turned out to be part of the log. This call composed
    /// nothing: if it repeats that call, it is done.
    Earlier(Won),
    /// The caller declined.
    Declined(D),
    /// What this process read may no longer be the log. Publish nothing; call [`JobLog::reopen`].
    Void,
}

/// What a look at the log's tail found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an earlier record may have been won, or the log be void"]
pub enum CaughtUp {
    /// The tail.
    Tail {
        /// How many slots were read.
        read: u64,
    },
    /// A record of an earlier append, which was dropped or failed, turned out to be part of the log. Look again.
    Earlier(Won),
    /// What this process read may no longer be the log. Publish nothing; call [`JobLog::reopen`].
    Void,
}

enum Driven {
    Idle,
    Won(Won),
    Beaten,
    Void,
}

enum Tail {
    Reached(u64),
    Void,
}

impl JobLog {
    /// The log as far as this process knows it. After a call that neither failed nor returned void, all of it is certain to be
    /// the log, though perhaps not the end of it: what may be litter in deleted slots is never handed out.
    pub fn fold(&self) -> &Fold {
        self.replica.fold()
    }

    /// What decisions of this process are made from.
    pub fn view(&self) -> View<'_> {
        self.replica.view()
    }

    /// True if a record was sent and is not settled: until it is, nothing staged may be deleted.
    pub fn in_flight(&self) -> bool {
        self.replica.in_flight() || self.unsettled.is_some()
    }

    /// The next slot's record, if `compose` proposes one for the log as it then is.
    ///
    /// `compose` is asked again, with the newer log, each time another process won the slot. A fault of the store leaves the
    /// record in flight; calling again goes on with it. What it declines, it declines for the log as known: call
    /// [`JobLog::catch_up`] before an answer that others can change, such as a hold.
    pub async fn append<D>(
        &mut self,
        mut compose: impl FnMut(&View<'_>) -> Compose<D>,
    ) -> Result<Appended<D>, LogError> {
        match self.settle().await? {
            Driven::Won(won) => return Ok(Appended::Earlier(won)),
            Driven::Void => return Ok(Appended::Void),
            Driven::Idle | Driven::Beaten => {}
        }
        for collisions in 0..self.limits.max_collisions {
            // After one collision the next slot is probably free. After more, the log has run ahead: read to its end.
            if collisions > 1 && matches!(self.read_to_tail(1).await?, Tail::Void) {
                return Ok(Appended::Void);
            }
            if let Driven::Void = self.drive().await? {
                return Ok(Appended::Void);
            }
            let proposal = match compose(&self.replica.view()) {
                Compose::Propose(proposal) => proposal,
                Compose::Decline(reason) if self.reads_are_real().await? => return Ok(Appended::Declined(reason)),
                Compose::Decline(_) => return Ok(Appended::Void),
            };
            if let Err(error) = self.replica.propose(proposal, self.clock.now()) {
                if self.replica.is_checked() {
                    return Err(error.into());
                }
                // Perhaps it was composed upon litter: see whether what was read is real, then compose again.
                self.replica.verify();
                continue;
            }
            match self.drive().await? {
                Driven::Won(won) => return Ok(Appended::Won(won)),
                Driven::Void => return Ok(Appended::Void),
                Driven::Beaten | Driven::Idle => {}
            }
        }
        Err(LogError::Contended { collisions: self.limits.max_collisions })
    }

    /// Reads what others wrote, up to the log's end. One GET, and one HEAD if there was something.
    pub async fn catch_up(&mut self) -> Result<CaughtUp, LogError> {
        match self.settle().await? {
            Driven::Won(won) => return Ok(CaughtUp::Earlier(won)),
            Driven::Void => return Ok(CaughtUp::Void),
            Driven::Idle | Driven::Beaten => {}
        }
        match self.read_to_tail(1).await? {
            Tail::Reached(read) if self.reads_are_real().await? => Ok(CaughtUp::Tail { read }),
            Tail::Reached(_) | Tail::Void => Ok(CaughtUp::Void),
        }
    }

    /// Whether what looked like the log's end was its end when it was read, and not where deleted slots begin. To be asked
    /// before acting upon what the log does not say. One HEAD. False: call [`JobLog::reopen`].
    pub async fn confirm(&mut self) -> Result<bool, LogError> {
        if !self.loaded {
            return Ok(false);
        }
        self.replica.verify();
        Ok(!matches!(self.drive().await?, Driven::Void))
    }

    /// The records from `from` on that this process has folded, for commands that show or undo them.
    pub async fn records(&mut self, from: Seq) -> Result<Vec<(Seq, Slot)>, LogError> {
        self.records_between(from, self.fold().next()).await
    }

    /// The records from `from` up to and without `to` that this process has folded.
    pub async fn records_between(&mut self, from: Seq, to: Seq) -> Result<Vec<(Seq, Slot)>, LogError> {
        let end = to.min(self.fold().next());
        let earliest = self.fold().collected_below();
        let mut records = Vec::new();
        let mut next = from;
        while next < end {
            let window = self.limits.read_ahead.min(end.0 - next.0);
            for (seq, observation) in self.get_window(next, window).await {
                match observation? {
                    Observation::Slot(slot) => records.push((seq, *slot)),
                    Observation::Unreadable(error) => return Err(Damage::from(error).into()),
                    _ => return Err(LogError::Gone { earliest: earliest.max(self.fold().truncated_below()) }),
                }
            }
            next = Seq(next.0 + window);
        }
        // Seals ascend: if the lowest segment's is absent, nothing that was read is litter.
        if from < end && self.is_sealed(Segment::of(from, &self.limits)).await? {
            return Err(LogError::Gone { earliest: self.fold().truncated_below() });
        }
        Ok(records)
    }

    /// Sees that nothing that was read is litter in deleted slots, before anybody acts upon it.
    async fn reads_are_real(&mut self) -> Result<bool, LogError> {
        if self.replica.is_checked() || !on(Safeguard::CheckBeforeActing) {
            return Ok(true);
        }
        self.replica.verify();
        Ok(!matches!(self.drive().await?, Driven::Void))
    }

    /// Finishes what an earlier call left undone.
    async fn settle(&mut self) -> Result<Driven, LogError> {
        if self.loaded { self.drive().await } else { Ok(Driven::Void) }
    }

    /// Does what the replica asks for until there is nothing more to do, or something came of it.
    async fn drive(&mut self) -> Result<Driven, LogError> {
        let mut tries = 0;
        loop {
            let observation = match self.replica.action() {
                Action::Idle => return Ok(Driven::Idle),
                Action::Reopen => return Ok(Driven::Void),
                Action::Put { seq, bytes } => {
                    self.replica.sending();
                    match self.store.put_if_absent(&paths::slot(seq), bytes).await {
                        Ok(PutIfAbsent::Created) => Observation::Created,
                        Ok(PutIfAbsent::Exists) => Observation::Exists,
                        Err(error) => {
                            self.replica.observe(Observation::Unknown);
                            self.back_off(&mut tries, error).await?;
                            continue;
                        }
                    }
                }
                Action::Get { seq } => {
                    let seen = self.get(seq).await?;
                    if seen == Observation::NoSlot {
                        // Refused and not there: another create that may fail, or ours that did not arrive.
                        let source = "the slot was refused and does not exist";
                        let error = StoreError::new("create", &paths::slot(seq), FaultKind::Transient, source);
                        self.replica.observe(Observation::NoSlot);
                        self.back_off(&mut tries, error).await?;
                        continue;
                    }
                    seen
                }
                Action::CheckSeal { segment } => Observation::Seal { present: self.is_sealed(segment).await? },
            };
            match self.replica.observe(observation) {
                Progress::Won(won) => return Ok(Driven::Won(won)),
                Progress::Beaten => return Ok(Driven::Beaten),
                Progress::Void => return Ok(Driven::Void),
                Progress::Damaged(damage) => return Err(damage.into()),
                Progress::Continue | Progress::Read | Progress::Tail => {}
            }
        }
    }

    /// Reads slots up to the first empty one, `window` at a time, more as the tail proves long.
    async fn read_to_tail(&mut self, mut window: u64) -> Result<Tail, LogError> {
        let mut read = 0;
        loop {
            if let Driven::Void = self.drive().await? {
                return Ok(Tail::Void);
            }
            let next = self.fold().next();
            let segment_end = Segment::of(next, &self.limits).next().first(&self.limits);
            for (_, observation) in self.get_window(next, window.min(segment_end.0 - next.0)).await {
                match self.replica.observe(observation?) {
                    Progress::Read => read += 1,
                    Progress::Tail => return Ok(Tail::Reached(read)),
                    _ => break, // in doubt: the next drive checks the seal
                }
            }
            window = (window * 4).min(self.limits.read_ahead);
        }
    }

    async fn get_window(&self, from: Seq, slots: u64) -> Vec<(Seq, Result<Observation, StoreError>)> {
        let get = |seq: u64| async move { (Seq(seq), self.get(Seq(seq)).await) };
        futures::future::join_all((from.0..from.0 + slots).map(get)).await
    }

    async fn get(&self, seq: Seq) -> Result<Observation, StoreError> {
        let key = paths::slot(seq);
        let mut tries = 0;
        loop {
            match self.store.get(&key).await {
                Ok(None) => return Ok(Observation::NoSlot),
                Ok(Some(bytes)) => {
                    return Ok(match Slot::decode(&key, &bytes) {
                        Ok(slot) => Observation::Slot(Box::new(slot)),
                        Err(error) => Observation::Unreadable(error),
                    });
                }
                Err(error) => self.back_off(&mut tries, error).await?,
            }
        }
    }

    async fn is_sealed(&self, segment: Segment) -> Result<bool, StoreError> {
        let mut tries = 0;
        loop {
            match self.store.head(&paths::seal(segment)).await {
                Ok(present) => return Ok(present),
                Err(error) => self.back_off(&mut tries, error).await?,
            }
        }
    }

    /// Waits before the next try, or gives up.
    async fn back_off(&self, tries: &mut u32, error: StoreError) -> Result<(), StoreError> {
        *tries += 1;
        if *tries >= self.limits.max_tries || !error.kind.is_transient() {
            return Err(error);
        }
        tracing::debug!(%error, tries, "the job log's store failed, trying again");
        self.clock.pause(*tries).await;
        Ok(())
    }
}
