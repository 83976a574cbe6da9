//! What a process does beside writing: it publishes, writes snapshots, and deletes what is dead.

use super::process::{Turn, Up, screen};
use super::rules::{Milestone, Rule};
use super::setup::Setup;
use super::world::Kept;
use crate::fold::Pending;
use crate::gc::{Sweep, SweepAction};
use crate::record::{Intents, Note, Publishing};
use crate::staged::is_dead;
use crate::task::Task;

impl Up {
    pub fn is_collector(&self) -> bool {
        let view = self.replica.view();
        view.fold.owns(&Task::Collector, view.incarnation) && view.superseded().is_none()
    }

    /// The first record that it has to publish and did not.
    pub fn to_publish(&self) -> Option<(Note, Pending)> {
        let view = self.replica.view();
        let work = view.fold.work_of(view.incarnation);
        let work = work.map(|(seq, output, pending)| (Note { seq, output: output.clone() }, pending));
        let mut open = work.filter(|(note, _)| !self.published.contains_key(note));
        open.next().map(|(note, pending)| (note, pending.clone()))
    }

    /// True if it may delete that staged object.
    pub fn may_collect(&self, name: &str) -> bool {
        self.is_collector() && self.replica.is_checked() && is_dead(name, self.replica.fold())
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
    pub fn fresh_sweep(&self, setup: &Setup) -> Sweep {
        let fold = self.replica.fold();
        let fresh = || Sweep::new(self.collected.max(fold.collected_below()), fold.truncated_below(), &setup.limits);
        self.sweep.clone().unwrap_or_else(fresh)
    }
}

impl Turn<'_> {
    /// Publishes the first thing there is to publish.
    pub fn publish(&mut self) -> Option<()> {
        let up = self.up()?;
        let (note, pending) = up.to_publish()?;
        let swept = pending.incarnation != up.incarnation();
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
        if swept && pending.intents.publishing() == Publishing::Commuting {
            self.reached(Milestone::OrphanPublished);
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

    /// Deletes one staged object, which is dead.
    pub fn collect(&mut self, which: usize) -> Option<()> {
        let name = self.world.store.staged.iter().nth(which)?.clone();
        self.world.discard(&name);
        self.reached(Milestone::StagedCollected);
        Some(())
    }
}
