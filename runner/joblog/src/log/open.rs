//! Opening a log: the newest snapshot, then upward to the first empty slot, then the check that all of it is real.

use std::sync::Arc;

use crate::clock::Clock;
use crate::error::{Damage, LogError};
use crate::fold::Fold;
use crate::ids::{Incarnation, Seq};
use crate::limits::Limits;
use crate::log::{Driven, JobLog, Tail};
use crate::paths;
use crate::replica::{Replica, Won};
use crate::snapshot::Snapshot;
use crate::store::LogStore;

/// Slots read at once when a log is opened: a start after a clean stop finds few.
const FIRST_WINDOW: u64 = 4;

impl JobLog {
    /// Opens the log in that store. The log may be empty.
    ///
    /// `incarnation` is fresh and random. [`crate::store::probe`] the store first.
    pub async fn open(
        store: Arc<dyn LogStore>,
        clock: Arc<dyn Clock>,
        incarnation: Incarnation,
        limits: Limits,
    ) -> Result<Self, LogError> {
        let replica = Replica::new(incarnation, limits, Fold::empty());
        let collected = Seq::ZERO;
        let mut log =
            Self { store, clock, limits, replica, unsettled: None, loaded: false, newest_snapshot: None, collected };
        log.load().await?;
        Ok(log)
    }

    /// Starts over from the newest snapshot, after [`crate::Appended::Void`] or [`crate::CaughtUp::Void`].
    ///
    /// Returns the record that was in flight then, if it is part of the log after all. `None` for a process that was superseded
    /// in the meantime, or holds no ordinal, says less: nothing live refers to what the record staged.
    pub async fn reopen(&mut self) -> Result<Option<Won>, LogError> {
        self.load().await?;
        Ok(self.unsettled.take().and_then(|unsettled| self.replica.settle_after_reload(unsettled)))
    }

    async fn load(&mut self) -> Result<(), LogError> {
        self.loaded = false; // half a load is none
        self.try_load().await?;
        self.loaded = true;
        Ok(())
    }

    async fn try_load(&mut self) -> Result<(), LogError> {
        for times in 0..self.limits.max_reopens {
            if times > 0 {
                self.clock.pause(times).await;
            }
            let Some(fold) = self.newest_snapshot().await? else { continue };
            self.collected = fold.collected_below();
            // What was in flight stays unsettled until a load succeeds, also across failed ones.
            let unsettled = self.replica.reload(fold);
            self.unsettled = unsettled.or(self.unsettled.take());
            if let Tail::Void = self.read_to_tail(FIRST_WINDOW).await? {
                continue;
            }
            self.replica.verify();
            match self.drive().await? {
                Driven::Idle | Driven::Beaten | Driven::Won(_) => return Ok(()),
                Driven::Void => {}
            }
        }
        Err(LogError::Overtaken { times: self.limits.max_reopens })
    }

    /// The fold of the newest snapshot, an empty one if there is none; `None` if it was deleted since it was listed.
    async fn newest_snapshot(&mut self) -> Result<Option<Fold>, LogError> {
        let listed = self.list_snapshots().await?;
        let Some(through) = listed.iter().filter_map(|key| paths::snapshot_seq(key)).max() else {
            self.newest_snapshot = None;
            return Ok(Some(Fold::empty()));
        };
        let key = paths::snapshot(through);
        let mut tries = 0;
        let bytes = loop {
            match self.store.get(&key).await {
                Ok(Some(bytes)) => break bytes,
                Ok(None) => return Ok(None),
                Err(error) => self.back_off(&mut tries, error).await?,
            }
        };
        let fold = Snapshot::decode(&key, &bytes).map_err(Damage::from)?.into_fold();
        fold.check_segments(&self.limits).map_err(Damage::from)?;
        self.newest_snapshot = Some(through);
        Ok(Some(fold))
    }

    pub(super) async fn list_snapshots(&self) -> Result<Vec<String>, LogError> {
        let mut tries = 0;
        loop {
            match self.store.list(paths::SNAPSHOTS).await {
                Ok(keys) => return Ok(keys),
                Err(error) => self.back_off(&mut tries, error).await?,
            }
        }
    }
}
