//! Deleting what is dead: which slots, in which order.
//!
//! First a `Truncate` record, so that no rewind aims below; then, segment by segment and ascending, the seal, and only once
//! that is acknowledged the slots.

use crate::decide::{Proposal, View};
use crate::ids::Seq;
use crate::limits::Limits;
use crate::paths::{self, Segment};
use crate::record::{Body, Truncate};
use crate::safeguard::{Safeguard, on};
use crate::task::Task;

/// What to write before slots may be deleted; `None` if there is nothing new to delete or it is not this process's work.
///
/// `newest_snapshot` is acknowledged; `collected` is the slot below which this process knows that all is deleted.
pub fn truncate(view: &View<'_>, newest_snapshot: Seq, collected: Seq, limits: &Limits) -> Option<Proposal> {
    let collector = view.fold.owns(&Task::Collector, view.incarnation) && view.superseded().is_none();
    let whole = Segment::of(newest_snapshot.next(), limits).0;
    let below = Segment(whole.saturating_sub(limits.keep_segments)).first(limits);
    if !collector || below <= view.fold.truncated_below() {
        return None;
    }
    let collected = collected.max(view.fold.collected_below()).min(view.fold.truncated_below());
    Some(view.propose(Body::Truncate(Truncate { below, collected })))
}

/// One round of deletion: from what was deleted before up to the last `Truncate` record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sweep {
    segment: Segment,
    end: Segment,
    sealed: bool,
}

/// The next step of a round. Every step may be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SweepAction {
    /// Put the segment's seal, if it is absent.
    Seal(Segment),
    /// Delete the segment's slots.
    Delete(Segment),
    /// The round is done: all below is deleted.
    Done(Seq),
}

impl Sweep {
    /// A round over the slots from `collected` up to `below`, both of them segments' beginnings.
    pub fn new(collected: Seq, below: Seq, limits: &Limits) -> Self {
        Self { segment: Segment::of(collected, limits), end: Segment::of(below, limits), sealed: false }
    }

    /// What to do next.
    pub fn action(&self, limits: &Limits) -> SweepAction {
        if self.segment >= self.end {
            return SweepAction::Done(self.end.first(limits));
        }
        // Without the safeguard the two change places.
        if self.sealed == on(Safeguard::SealBeforeDelete) {
            SweepAction::Delete(self.segment)
        } else {
            SweepAction::Seal(self.segment)
        }
    }

    /// The store acknowledged the last action.
    pub fn acknowledged(&mut self) {
        if self.sealed {
            self.segment = self.segment.next();
        }
        self.sealed = !self.sealed;
    }
}

/// The keys of a segment's slots.
pub fn slots(segment: Segment, limits: &Limits) -> Vec<String> {
    segment.slots(limits).map(paths::slot).collect()
}

/// The snapshots, among those listed, that newer ones have made useless.
pub fn old_snapshots(listed: &[String], limits: &Limits) -> Vec<String> {
    let mut snapshots: Vec<&String> = listed.iter().filter(|key| paths::snapshot_seq(key).is_some()).collect();
    snapshots.sort();
    let old = snapshots.len().saturating_sub(limits.keep_snapshots);
    snapshots.into_iter().take(old).cloned().collect()
}
