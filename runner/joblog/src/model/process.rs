//! A process of the model: the replica as it is, and as much workflow around it as decides what is asked of the store.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::setup::{Errand, Pod, Setup};
use super::world::{Kept, World};
use super::{Listing, Milestone, Reply, Rule, Wish};
use crate::decide::{self, *};
use crate::fold::Fold;
use crate::gc::{self, Sweep, SweepAction};
use crate::ids::*;
use crate::record::*;
use crate::replica::{Action, Observation, Progress, Replica, Unsettled, Won};
use crate::staged::{StagedName, is_dead};
use crate::task::{Parallelism, Task};

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
    sent: Attempt,
    /// The open epoch. Its file is staged.
    pub epoch: Option<Commit>,
    /// Published and not noted, with what was staged for it.
    published: BTreeMap<Note, Vec<String>>,
    newest_snapshot: Option<u64>,
    collected: Seq,
    pub sweep: Option<Sweep>,
    /// Slots that the sweep has yet to delete.
    pub doomed: BTreeSet<u64>,
}

/// A process at work: everything it touches.
pub struct At<'a> {
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

    pub fn is_collector(&self) -> bool {
        let view = self.replica.view();
        view.fold.owns(&Task::Collector, view.incarnation) && view.superseded().is_none()
    }

    pub fn snapshot_due(&self, setup: &Setup) -> bool {
        let after = self.newest_snapshot.map_or(0, |through| through + 1);
        self.is_collector() && self.next() >= after + setup.limits.snapshot_every
    }

    pub fn sweep_due(&self) -> bool {
        let fold = self.replica.fold();
        self.replica.is_checked() && self.collected.max(fold.collected_below()) < fold.truncated_below()
    }

    /// The slots that the sweep may delete now.
    pub fn next_to_delete(&self, setup: &Setup) -> Vec<u64> {
        if !self.doomed.is_empty() {
            return self.doomed.iter().copied().collect();
        }
        match self.fresh_sweep(setup).action(&setup.limits) {
            SweepAction::Delete(segment) => segment.slots(&setup.limits).map(|seq| seq.0).collect(),
            SweepAction::Seal(_) | SweepAction::Done(_) => Vec::new(),
        }
    }

    /// The sweep under way, or a new one.
    fn fresh_sweep(&self, setup: &Setup) -> Sweep {
        let fold = self.replica.fold();
        let fresh = || Sweep::new(self.collected.max(fold.collected_below()), fold.truncated_below(), &setup.limits);
        self.sweep.clone().unwrap_or_else(fresh)
    }

    fn incarnation(&self) -> Incarnation {
        self.replica.view().incarnation
    }
}

impl At<'_> {
    fn up(&mut self) -> Option<&mut Up> {
        match &mut self.process.life {
            Life::Up(up) => Some(up),
            _ => None,
        }
    }

    fn reached(&self, milestone: Milestone) {
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
        let observation = match reply {
            Reply::Heard if self.world.create(seq, &slot, &self.setup.limits) => {
                if seq + 1 < self.world.truth.records.len() as u64 {
                    self.reached(Milestone::LitterWritten);
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
        let in_flight = up.replica.in_flight();
        let Some(slot) = slot else { return Some(up.replica.observe(Observation::NoSlot)) };
        let progress = up.replica.observe(Observation::Slot(Box::new(Slot::clone(&slot))));
        if in_flight && progress == Progress::Continue {
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
            Progress::Void => self.reached(Milestone::Void),
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
                        self.reached(Milestone::Rescaled);
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
        for note in notes {
            let staged = self.up().and_then(|up| up.published.remove(note)).unwrap_or_default();
            staged.iter().for_each(|name| self.world.discard(name));
        }
    }

    /// Everything that needs no choice: the end of opening, checks where nothing is ever deleted, the next epoch.
    ///
    /// Where nothing is ever deleted, it makes no difference when a slot is read or checked.
    fn settle(&mut self) {
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

    fn open_epoch(&mut self) {
        let (setup, pod, process) = (self.setup, self.pod, &mut *self.process);
        let Life::Up(up) = &mut process.life else { return };
        let view = up.replica.view();
        let idle = up.is_ready() && up.epoch.is_none() && process.epochs < pod.epochs;
        if !idle || view.superseded().is_some() {
            return;
        }
        let Some(claim) = view.fold.live_claim(view.incarnation) else { return };
        let reads = (0..setup.partitions)
            .map(partition)
            .filter(|partition| view.fold.owns(&Task::Partition(partition.clone()), view.incarnation));
        let mut epoch = Commit::default();
        for partition in reads {
            let Some(state) = view.fold.partition(&partition) else { continue };
            let ended = setup.bounded
                && view
                    .fold
                    .plan_under_way()
                    .is_none_or(|plan| plan.ends.get(&partition).is_none_or(|end| state.offset >= *end));
            if !ended {
                epoch.ranges.insert(partition, Range::new(state.offset.0, state.offset.0 + 1));
            }
        }
        if epoch.ranges.is_empty() {
            return;
        }
        process.epochs += 1;
        let name = StagedName { claim, incarnation: view.incarnation, label: process.epochs.to_string() };
        if setup.files {
            let file = ParquetFile {
                staged: name.to_string(),
                target: format!("{name}.parquet"),
                bytes: 1,
                rows: 1,
                etag: None,
            };
            self.world.store.staged.insert(file.staged.clone());
            epoch.intents.insert(orders(), Intents::Parquet { files: vec![file] });
        }
        if setup.ordered {
            let blob = Blob { staged: format!("{name}-rows"), bytes: 1, rows: 1 };
            self.world.store.staged.insert(blob.staged.clone());
            epoch.intents.insert(screen(), Intents::Console { blob });
        }
        up.epoch = Some(epoch);
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

    /// Composes a record and sends it.
    pub fn append(&mut self, wish: Wish, reply: Reply) -> Option<()> {
        match self.compose(wish)? {
            Composed::Propose(proposal) => {
                let losses = self.world.losses;
                let up = self.up()?;
                if up.replica.propose(proposal, Millis(0)).is_err() {
                    // Composed upon what may be litter; of a checked log it is a fault.
                    if up.replica.is_checked() {
                        self.world.require(false, Rule::Sound);
                        return Some(());
                    }
                    if reply != Reply::Heard {
                        return None;
                    }
                    return self.verify();
                }
                if let Action::Put { bytes, .. } = up.replica.action() {
                    up.sent = Slot::decode("slot", &bytes).ok()?.entries[0].writer.attempt;
                }
                if reply == Reply::Lost && losses == 0 {
                    return None;
                }
                self.go(reply, Listing::Newest)
            }
            Composed::Stop if reply == Reply::Heard => {
                self.process.life = Life::Stopped;
                Some(())
            }
            Composed::Drop if reply == Reply::Heard => {
                self.drop_epoch();
                self.settle();
                Some(())
            }
            _ => None,
        }
    }

    /// The open epoch does not count: what it staged is deleted.
    fn drop_epoch(&mut self) {
        let epoch = self.up().and_then(|up| up.epoch.take()).unwrap_or_default();
        let staged = epoch.intents.values().flat_map(Intents::staged);
        staged.for_each(|name| self.world.discard(name));
    }

    fn compose(&mut self, wish: Wish) -> Option<Composed> {
        let (setup, pod) = (self.setup, self.pod);
        let Life::Up(up) = &self.process.life else { return None };
        let view = up.replica.view();
        let published: Vec<Note> = up.published.keys().cloned().collect();
        let revision: Revision = pod.revision.into();
        let may_stop = up.replica.is_checked();
        let composed = match wish {
            Wish::Begin(term) => match begin(&view, &pod.home(), &setup.wanted(term)?, &self.request(&view, false)) {
                Begin::Propose { proposal, .. } => Composed::Propose(proposal),
                Begin::Refused(_) => {
                    self.reached(Milestone::HomeRefused);
                    Composed::Stop
                }
                Begin::Term(TermDecision::Superseded(_)) | Begin::Claim(ClaimDecision::Superseded(_)) => Composed::Stop,
                _ => return None,
            },
            Wish::Claim { grace_over } => match claim(&view, &self.request(&view, grace_over)) {
                ClaimDecision::Propose { proposal, .. } => Composed::Propose(proposal),
                ClaimDecision::Superseded(_) => Composed::Stop,
                ClaimDecision::Held(_) => {
                    self.reached(Milestone::WaitedForHold);
                    return None;
                }
                _ => return None,
            },
            Wish::Term(number) => match term(&view, &setup.wanted(number)?) {
                TermDecision::Propose(proposal) => Composed::Propose(proposal),
                TermDecision::Superseded(_) => Composed::Stop,
                _ => return None,
            },
            Wish::Commit => {
                let epoch = Commit { published, ..up.epoch.clone()? };
                match commit(&view, &revision, &epoch) {
                    CommitDecision::Propose(proposal) => Composed::Propose(proposal),
                    CommitDecision::Superseded(_) => Composed::Stop,
                    CommitDecision::Lost { .. } | CommitDecision::Moved { .. } | CommitDecision::StaleTerm(_) => {
                        self.reached(Milestone::EpochDropped);
                        Composed::Drop
                    }
                    CommitDecision::Nothing | CommitDecision::Backpressure { .. } => return None,
                }
            }
            // What an owner does that has to give up tasks and has nothing to commit.
            Wish::Give => match commit(&view, &revision, &Commit { published, ..Commit::default() }) {
                CommitDecision::Propose(proposal) => Composed::Propose(proposal),
                _ => return None,
            },
            Wish::Note => match note(&view, &published) {
                NoteDecision::Propose(proposal) => Composed::Propose(proposal),
                NoteDecision::Superseded(_) => Composed::Stop,
                NoteDecision::Nothing => return None,
            },
            Wish::NoteLast => match note(&view, &published[published.len().checked_sub(1)?..]) {
                NoteDecision::Propose(proposal) => Composed::Propose(proposal),
                _ => return None,
            },
            Wish::Truncate => {
                let newest = Seq(up.newest_snapshot?);
                Composed::Propose(gc::truncate(&view, newest, up.collected, &setup.limits)?)
            }
            Wish::Plan => {
                let ends = (0..setup.partitions).map(|number| (partition(number), Offset(pod.sees))).collect();
                match plan(&view, &revision, &ends, false) {
                    PlanDecision::Propose(proposal) => Composed::Propose(proposal),
                    PlanDecision::UnderWay(plan) => {
                        if plan.ends != ends {
                            self.reached(Milestone::PlanKept);
                        }
                        return None;
                    }
                    _ => return None,
                }
            }
            Wish::Complete => match complete(&view, &revision) {
                CompleteDecision::Propose(proposal) => Composed::Propose(proposal),
                CompleteDecision::Complete(_) => Composed::Stop,
                _ => return None,
            },
            Wish::Hold => match hold(&view, "model", false) {
                HoldDecision::Propose(proposal) => Composed::Propose(proposal),
                _ => return None,
            },
            Wish::Errand => match pod.errand {
                Errand::Run => return None,
                Errand::Save(name) => match savepoint(&view, name) {
                    SavepointDecision::Propose(proposal) => Composed::Propose(proposal),
                    _ => Composed::Stop,
                },
                Errand::Pause => match release(&view, false) {
                    ReleaseDecision::Propose(proposal) => Composed::Propose(proposal),
                    _ => return None,
                },
                Errand::Edit(to) => match decide::edit(&view, &[(partition(0), Offset(to))].into()) {
                    EditDecision::Propose(proposal) => Composed::Propose(proposal),
                    EditDecision::Drain { .. } => {
                        self.reached(Milestone::Drained);
                        return None;
                    }
                    _ => return None,
                },
            },
        };
        // An end for good is only drawn from what is certainly the log.
        if let Composed::Stop | Composed::Drop = composed {
            if !may_stop {
                return None;
            }
            if let Composed::Stop = composed {
                self.reached(Milestone::Stopped);
            }
        }
        Some(composed)
    }

    fn request(&self, view: &View<'_>, grace_over: bool) -> ClaimRequest {
        let setup = self.setup;
        let outputs: Vec<OutputName> = setup.outputs().into_keys().collect();
        let first = FirstClaim { start: Offset(0), topic_id: None };
        ClaimRequest {
            ordinal: Ordinal(self.pod.ordinal),
            pod: Some(self.pod.number),
            revision: self.pod.revision.into(),
            tasks: candidates(view.fold, (0..setup.partitions).map(partition), &outputs),
            first: (0..setup.partitions).map(|number| (partition(number), first.clone())).collect(),
            grace_over,
        }
    }

    /// Publishes the first thing there is to publish.
    pub fn publish(&mut self) -> Option<()> {
        let up = self.up()?;
        let view = up.replica.view();
        let mut work = view
            .fold
            .work_of(view.incarnation)
            .map(|(seq, output, pending)| (Note { seq, output: output.clone() }, pending.clone()));
        let (note, pending) = work.find(|(note, _)| !up.published.contains_key(note))?;
        drop(work);
        let swept = pending.incarnation != view.incarnation;
        let decided = self.world.truth.ledger.is_decided(&note);
        self.world.require(decided, Rule::PublishedIsDecided);
        match &pending.intents {
            Intents::Parquet { files } => {
                for file in files {
                    if self.world.store.staged.contains(&file.staged) {
                        self.world.store.files.insert(file.target.clone());
                    } else if self.world.truth.ledger.open().contains_key(&note) {
                        self.world.require(false, Rule::LiveIsKept);
                    } else {
                        return None; // somebody published and noted it: the log's next records say so
                    }
                }
            }
            _ => self.apply(&note),
        }
        if swept {
            self.reached(Milestone::Swept);
        }
        let staged = pending.intents.staged().map(str::to_owned).collect();
        self.up()?.published.insert(note, staged);
        Some(())
    }

    /// The ordered sink has a fence of its own: it knows the last record it applied, and takes only later ones.
    fn apply(&mut self, note: &Note) {
        if self.world.store.applied.last().is_some_and(|last| *last >= note.seq.0) {
            return;
        }
        self.world.store.applied.push(note.seq.0);
        let output = screen();
        let applied = &self.world.store.applied;
        let in_order =
            self.world.truth.ledger.decided_for(&output).zip(applied).all(|(seq, applied)| seq.0 == *applied);
        self.world.require(in_order, Rule::AppliedInOrder);
    }

    pub fn snapshot(&mut self) -> Option<()> {
        let snapshot = self.up()?.replica.snapshot()?;
        let through = snapshot.through().0;
        let fold = snapshot.into_fold();
        let truth = self.world.truth.folds.get(through as usize + 1);
        let same = truth.is_some_and(|truth| **truth == fold);
        self.world.require(same, Rule::SnapshotsAreTrue);
        let snapshots = &mut self.world.store.snapshots;
        snapshots.entry(through).or_insert_with(|| Kept::new(fold));
        while snapshots.len() > self.setup.limits.keep_snapshots {
            snapshots.pop_first();
        }
        self.up()?.newest_snapshot = Some(through);
        Some(())
    }

    /// The next step of the deletion of slots; `slot` is the one to delete now, in any order.
    pub fn sweep(&mut self, slot: Option<u64>) -> Option<()> {
        let (setup, limits) = (self.setup, self.setup.limits);
        let up = self.up()?;
        let mut sweep = up.fresh_sweep(setup);
        match (sweep.action(&limits), slot) {
            (SweepAction::Seal(segment), None) => {
                sweep.acknowledged();
                up.sweep = Some(sweep);
                self.world.store.seals.insert(segment.0);
                self.reached(Milestone::Sealed);
            }
            (SweepAction::Delete(segment), slot) => {
                if up.doomed.is_empty() {
                    up.doomed = segment.slots(&limits).map(|seq| seq.0).collect();
                }
                if !up.doomed.remove(&slot?) {
                    return None;
                }
                if up.doomed.is_empty() {
                    sweep.acknowledged();
                }
                up.sweep = Some(sweep);
                self.world.delete_slot(slot?);
                self.reached(Milestone::Deleted);
            }
            (SweepAction::Done(below), None) => {
                up.collected = below;
                up.sweep = None;
            }
            _ => return None,
        }
        Some(())
    }

    /// Deletes one staged object if it is dead.
    pub fn collect(&mut self, which: usize) -> Option<()> {
        let name = self.world.store.staged.iter().nth(which)?.clone();
        let up = self.up()?;
        if !up.is_collector() || !up.replica.is_checked() || !is_dead(&name, up.replica.fold()) {
            return None;
        }
        self.world.discard(&name);
        self.reached(Milestone::StagedCollected);
        Some(())
    }
}

enum Composed {
    Propose(Proposal),
    /// Give the epoch up and what it staged.
    Drop,
    /// Do nothing more.
    Stop,
}

/// The division of a term's number.
pub fn parallelism(runners: u32) -> Option<Parallelism> {
    Parallelism::new(runners)
}
