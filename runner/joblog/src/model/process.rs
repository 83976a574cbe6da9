//! A process of the model: the replica as it is, and the workflow that drives it from one request to the next.
//!
//! [`Turn`] is one step of one process. [`Turn::go`] does what the replica asks for, as `JobLog`'s drive does, and
//! [`Turn::settle`] everything after it that leaves no choice.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::rules::{Milestone, Rule};
use super::setup::{Careless, Errand, Pod, Setup};
use super::steps::{Listing, Reply};
use super::world::{Kept, World};
use crate::fold::Fold;
use crate::gc::Sweep;
use crate::ids::*;
use crate::record::*;
use crate::replica::{Action, Observation, Progress, Replica, Unsettled, Won};

/// One pod: the process that runs in it now, and what it may still do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Process {
    pub starts: u8,
    /// Epochs opened by all its processes.
    pub epochs: u8,
    pub life: Life,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Life {
    Down,
    Up(Box<Up>),
    /// Superseded, refused or done: it does nothing more.
    Stopped,
}

/// A running process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Up {
    pub replica: Replica,
    pub opening: bool,
    unsettled: Option<Unsettled>,
    /// The attempt of the last record sent.
    pub sent: Attempt,
    /// The open epoch. Its file is staged.
    pub epoch: Option<Commit>,
    /// Published and not noted, with what was staged for it.
    pub published: BTreeMap<Note, Vec<String>>,
    pub newest_snapshot: Option<u64>,
    pub collected: Seq,
    pub sweep: Option<Sweep>,
    /// Slots that the sweep has yet to delete.
    pub doomed: BTreeSet<u64>,
}

/// A process at work: everything it touches.
pub struct Turn<'a> {
    pub setup: &'a Setup,
    /// The pod's place among the setup's.
    pub index: usize,
    pub world: &'a mut World,
    pub pod: &'a Pod,
    pub process: &'a mut Process,
}

pub fn partition(number: i32) -> Partition {
    Partition::new("orders", "orders", number)
}

pub fn orders() -> OutputName {
    "orders".into()
}

pub fn screen() -> OutputName {
    "screen".into()
}

impl Process {
    pub fn down() -> Self {
        Self { starts: 0, epochs: 0, life: Life::Down }
    }

    pub fn up(&self) -> Option<&Up> {
        match &self.life {
            Life::Up(up) => Some(up),
            _ => None,
        }
    }
}

impl Up {
    /// True if it may compose, read or keep house.
    pub fn is_ready(&self) -> bool {
        !self.opening && self.replica.action() == Action::Idle
    }

    pub fn next(&self) -> u64 {
        self.replica.fold().next().0
    }

    pub fn incarnation(&self) -> Incarnation {
        self.replica.view().incarnation
    }
}

impl Turn<'_> {
    pub fn up(&mut self) -> Option<&mut Up> {
        match &mut self.process.life {
            Life::Up(up) => Some(up),
            _ => None,
        }
    }

    pub fn reached(&self, milestone: Milestone) {
        self.setup.reached(milestone);
    }

    /// A new incarnation opens the log.
    pub fn start(&mut self, listing: Listing) -> Option<()> {
        self.process.starts += 1;
        let number = (self.index as u128 + 1) * 16 + u128::from(self.process.starts);
        let (fold, newest) = self.load(listing);
        let collected = fold.collected_below();
        let replica = Replica::new(Incarnation(Uuid::from_u128(number)), self.setup.limits, fold);
        self.process.life = Life::Up(Box::new(Up {
            replica,
            opening: true,
            unsettled: None,
            sent: Attempt(0),
            epoch: None,
            published: BTreeMap::new(),
            newest_snapshot: newest,
            collected,
            sweep: None,
            doomed: BTreeSet::new(),
        }));
        self.settle();
        Some(())
    }

    fn load(&self, listing: Listing) -> (Fold, Option<u64>) {
        let snapshots = &self.world.store.snapshots;
        let newest = match listing {
            Listing::Newest => snapshots.keys().max().copied(),
            Listing::Stale(through) => through,
        };
        let fold = newest.and_then(|through| snapshots.get(&through));
        if fold.is_some() {
            self.reached(Milestone::OpenedFromSnapshot);
        }
        (fold.map(|fold| Fold::clone(fold)).unwrap_or_default(), newest)
    }

    /// The replica's next request, or while the log is opened the next slot.
    pub fn go(&mut self, reply: Reply, listing: Listing) -> Option<()> {
        let action = self.up()?.replica.action();
        let progress = match action {
            Action::Put { seq, bytes } => {
                let slot = Kept::new(Slot::decode("slot", &bytes).ok()?);
                self.put(seq.0, slot, reply)?
            }
            Action::Get { seq } => self.get(seq.0)?,
            Action::CheckSeal { segment } => {
                let present = self.world.store.seals.contains(&segment.0);
                self.up()?.replica.observe(Observation::Seal { present })
            }
            Action::Reopen => {
                let (fold, newest) = self.load(listing);
                let up = self.up()?;
                up.newest_snapshot = newest;
                up.collected = fold.collected_below();
                up.unsettled = up.replica.reload(fold).or(up.unsettled.take());
                up.opening = true;
                Progress::Continue
            }
            Action::Idle if self.up()?.opening => {
                let seq = self.up()?.next();
                let progress = self.get(seq)?;
                if progress == Progress::Tail {
                    self.opened();
                }
                progress
            }
            Action::Idle => return None,
        };
        self.came_to(progress);
        self.settle();
        Some(())
    }

    fn put(&mut self, seq: u64, slot: Kept<Slot>, reply: Reply) -> Option<Progress> {
        self.up()?.replica.sending();
        let observation = match reply {
            Reply::Heard if self.world.create(seq, &slot, &self.setup.limits) => {
                if seq + 1 < self.world.truth.records.len() as u64 {
                    self.reached(Milestone::SlotRecreated);
                }
                Observation::Created
            }
            Reply::Heard => Observation::Exists,
            Reply::Lost => {
                self.world.losses = self.world.losses.checked_sub(1)?;
                let late = &mut self.world.store.late;
                if !late.contains(&(seq, slot.clone())) {
                    late.push((seq, slot));
                    late.sort_by_key(|(seq, slot)| (*seq, slot.hash_value()));
                }
                if self.setup.careless == Some(Careless::DropsInFlight) {
                    self.drop_epoch();
                }
                Observation::Unknown
            }
            // Another create of the slot is under way, and may fail.
            Reply::Conflict => Observation::Exists,
        };
        Some(self.up()?.replica.observe(observation))
    }

    fn get(&mut self, seq: u64) -> Option<Progress> {
        let slot = self.world.store.slots.get(&seq).cloned();
        let litter = slot.as_ref().is_some_and(|slot| self.world.truth.records.get(seq as usize) != Some(slot));
        let up = self.up()?;
        let Some(slot) = slot else { return Some(up.replica.observe(Observation::NoSlot)) };
        let own = up.replica.in_flight() && slot.is_from(up.incarnation(), up.sent);
        let progress = up.replica.observe(Observation::Slot(Box::new(Slot::clone(&slot))));
        if own && progress == Progress::Continue {
            self.reached(Milestone::OwnRecognised);
        }
        if litter {
            self.reached(Milestone::LitterRead);
        }
        Some(progress)
    }

    fn came_to(&mut self, progress: Progress) {
        match progress {
            Progress::Won(won) => self.won(&won),
            Progress::Beaten => {
                let Some(up) = self.up() else { return };
                let (incarnation, sent) = (up.incarnation(), up.sent);
                self.world.give_up(incarnation, sent);
            }
            Progress::Void => {
                if self.up().is_some_and(|up| up.replica.in_flight()) {
                    self.reached(Milestone::VoidWin);
                }
                if self.setup.careless == Some(Careless::DropsVoid) {
                    self.drop_epoch();
                }
            }
            Progress::Damaged(_) => self.world.require(false, Rule::Sound),
            Progress::Continue | Progress::Read | Progress::Tail => {}
        }
    }

    fn won(&mut self, won: &Won) {
        self.world.believe(won.seq(), won.record());
        let Some(up) = self.up() else { return };
        if let (Some(commit), Some(epoch)) = (won.commit(), &up.epoch)
            && commit.ranges == epoch.ranges
        {
            up.epoch = None;
        }
        for entry in &won.record().entries {
            match &entry.body {
                Body::Commit(commit) => {
                    if !commit.released.is_empty() {
                        self.reached(Milestone::HandedOver);
                    }
                    self.noted(&commit.published);
                }
                Body::Published(published) => self.noted(&published.notes),
                Body::Claim(claim) if claim.renews.is_some() => self.reached(Milestone::ClaimedMore),
                Body::Adopt(_) => self.reached(Milestone::Adopted),
                Body::Complete(_) => self.reached(Milestone::Completed),
                Body::Edit(_) => self.reached(Milestone::Edited),
                _ => {}
            }
        }
        if self.pod.errand != Errand::Run
            && !won.record().entries.iter().any(|e| matches!(e.body, Body::Hold(_) | Body::Published(_)))
        {
            self.process.life = Life::Stopped;
        }
    }

    /// What is noted needs its staged objects no more.
    fn noted(&mut self, notes: &[Note]) {
        if !notes.is_empty() {
            self.reached(Milestone::Noted);
        }
        for note in notes {
            let staged = self.up().and_then(|up| up.published.remove(note)).unwrap_or_default();
            staged.iter().for_each(|name| self.world.discard(name));
        }
    }

    /// Everything that needs no choice: the end of opening, checks where nothing is ever deleted, the next epoch.
    ///
    /// Where nothing is ever deleted, it makes no difference when a slot is read or checked.
    pub fn settle(&mut self) {
        let nothing_deleted = !self.setup.sweeps;
        while let Some(up) = self.process.up() {
            let (opening, checked, reloaded) = (up.opening, up.replica.is_checked(), up.unsettled.is_some());
            match up.replica.action() {
                Action::Idle if nothing_deleted && opening => {
                    let seq = up.next();
                    if self.get(seq) == Some(Progress::Tail) {
                        self.opened();
                    }
                }
                Action::CheckSeal { .. } if nothing_deleted => self.observe(Observation::Seal { present: false }),
                Action::Idle if nothing_deleted && !checked => self.ask_for_check(),
                Action::Get { seq } if nothing_deleted && self.world.store.slots.contains_key(&seq.0) => {
                    let progress = self.get(seq.0).unwrap_or(Progress::Continue);
                    self.came_to(progress);
                }
                Action::Idle if !opening && reloaded => self.settle_after_reload(),
                _ => break,
            }
        }
        self.compare();
        self.open_epoch();
    }

    fn observe(&mut self, observation: Observation) {
        let progress = self.up().map(|up| up.replica.observe(observation));
        self.came_to(progress.unwrap_or(Progress::Continue));
    }

    fn ask_for_check(&mut self) {
        if let Some(up) = self.up() {
            up.replica.verify();
        }
    }

    /// The end of the log is reached.
    fn opened(&mut self) {
        if let Some(up) = self.up() {
            up.opening = false;
        }
        self.ask_for_check();
    }

    fn settle_after_reload(&mut self) {
        let Some(up) = self.up() else { return };
        let Some(unsettled) = up.unsettled.take() else { return };
        let incarnation = up.incarnation();
        match up.replica.settle_after_reload(unsettled) {
            Some(won) => {
                self.reached(Milestone::VoidWasReal);
                self.won(&won);
            }
            None => {
                let sent = up.sent;
                // For others it only means that what was staged is not needed.
                let view = up.replica.view();
                if view.seat.is_some() && view.superseded().is_none() {
                    self.world.give_up(incarnation, sent);
                }
                self.drop_epoch();
            }
        }
    }

    /// What a process has checked is the true log.
    fn compare(&mut self) {
        let Life::Up(up) = &self.process.life else { return };
        if up.opening || !up.replica.is_checked() {
            return;
        }
        let fold = up.replica.fold();
        let same = self.world.truth.folds.get(fold.next().0 as usize).is_some_and(|truth| **truth == *fold);
        self.world.require(same, Rule::CheckedIsTrue);
    }
    /// Reads the next slot while idle.
    pub fn read(&mut self) -> Option<()> {
        let seq = self.up()?.next();
        let progress = self.get(seq)?;
        if progress == Progress::Tail {
            return None;
        }
        self.came_to(progress);
        self.settle();
        Some(())
    }

    /// Asks for a check of what was read.
    pub fn verify(&mut self) -> Option<()> {
        self.up()?.replica.verify();
        self.go(Reply::Heard, Listing::Newest)
    }
}
