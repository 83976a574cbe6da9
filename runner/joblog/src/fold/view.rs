//! Questions to a fold.

use std::collections::{BTreeMap, BTreeSet};

use crate::fold::{
    Fold, HoldState, HomeState, Owner, PartitionState, Pending, PlanState, Retraction, SavepointState, Standing,
    StartedFrom, TermState,
};
use crate::ids::{Attempt, Incarnation, Ordinal, OutputName, Partition, Revision, Seq};
use crate::limits::Limits;
use crate::record::{Counters, FormatError, Publishing, StateRef};
use crate::staged::StagedName;
use crate::task::Task;

impl Fold {
    /// The slot after the last one folded: where the next record would go.
    pub fn next(&self) -> Seq {
        self.next
    }

    /// Whether the log's segments are those that this process counts by.
    pub(crate) fn check_segments(&self, limits: &Limits) -> Result<(), FormatError> {
        match self.segment_slots {
            Some(found) if found != limits.segment_slots => {
                Err(FormatError::Segments { found, ours: limits.segment_slots })
            }
            _ => Ok(()),
        }
    }

    /// Whose job it is; `None` for an empty log.
    pub fn home(&self) -> Option<&HomeState> {
        self.home.as_ref()
    }

    /// The slot of the last `Init` or `Adopt`.
    pub fn home_since(&self) -> Seq {
        self.home.as_ref().map_or(Seq::ZERO, |home| home.since)
    }

    /// The division in force; `None` before a home's first one.
    pub fn term(&self) -> Option<&TermState> {
        self.term.as_ref()
    }

    /// Who holds an ordinal.
    pub fn standing(&self, ordinal: Ordinal) -> Option<&Standing> {
        self.standings.get(&ordinal)
    }

    /// Every ordinal's holder.
    pub fn standings(&self) -> &BTreeMap<Ordinal, Standing> {
        &self.standings
    }

    /// True if that incarnation made the latest claim on the ordinal.
    pub fn holds(&self, ordinal: Ordinal, incarnation: Incarnation) -> bool {
        self.standings.get(&ordinal).is_some_and(|standing| standing.incarnation == incarnation)
    }

    /// Who owns each task.
    pub fn owners(&self) -> &BTreeMap<Task, Owner> {
        &self.owners
    }

    /// True if that incarnation owns the task.
    pub fn owns(&self, task: &Task, incarnation: Incarnation) -> bool {
        self.owners.get(task).is_some_and(|owner| owner.incarnation == incarnation)
    }

    /// Every task that incarnation owns.
    pub fn owned_by(&self, incarnation: Incarnation) -> BTreeSet<Task> {
        let owned = self.owners.iter().filter(|(_, owner)| owner.incarnation == incarnation);
        owned.map(|(task, _)| task.clone()).collect()
    }

    /// True if that claim of that incarnation still holds a task. Once false, it stays false.
    pub fn is_live_claim(&self, claim: Seq, incarnation: Incarnation) -> bool {
        self.owners.values().any(|owner| owner.claim == claim && owner.incarnation == incarnation)
    }

    /// The latest live claim of that incarnation: what the names it stages carry.
    pub fn live_claim(&self, incarnation: Incarnation) -> Option<Seq> {
        let owned = self.owners.values().filter(|owner| owner.incarnation == incarnation);
        owned.map(|owner| owner.claim).max()
    }

    /// Where each partition stands.
    pub fn partitions(&self) -> &BTreeMap<Partition, PartitionState> {
        &self.partitions
    }

    /// Where one partition stands; `None` if nobody claimed it yet.
    pub fn partition(&self, partition: &Partition) -> Option<&PartitionState> {
        self.partitions.get(partition)
    }

    /// The state blobs of each task.
    pub fn state(&self) -> &BTreeMap<Task, Vec<StateRef>> {
        &self.state
    }

    /// What is decided and not yet noted as published.
    pub fn pending(&self) -> &BTreeMap<Seq, BTreeMap<OutputName, Pending>> {
        &self.pending
    }

    /// What one output still has to publish, in order.
    pub fn pending_for(&self, output: &OutputName) -> impl Iterator<Item = (Seq, &Pending)> {
        self.pending.iter().filter_map(move |(seq, outputs)| outputs.get(output).map(|pending| (*seq, pending)))
    }

    /// The first record that is not published to the output.
    pub fn first_pending(&self, output: &OutputName) -> Option<Seq> {
        self.pending_for(output).next().map(|(seq, _)| seq)
    }

    /// Every output that has something to publish or to retract, whether or not the spec still names it.
    pub fn outputs_with_work(&self) -> BTreeSet<OutputName> {
        let pending = self.pending.values().flat_map(|outputs| outputs.keys());
        let retractions = self.retractions.values().flat_map(|outputs| outputs.keys());
        pending.chain(retractions).cloned().collect()
    }

    /// What that incarnation has to publish now, in order: what it decided itself for commuting outputs, what fenced deciders
    /// left to a publisher that it is, and everything of an ordered output whose publisher it is. While the log is held, all
    /// of it is the holder's.
    pub fn work_of(&self, incarnation: Incarnation) -> impl Iterator<Item = (Seq, &OutputName, &Pending)> {
        let all = self
            .pending
            .iter()
            .flat_map(|(seq, outputs)| outputs.iter().map(move |(output, pending)| (*seq, output, pending)));
        all.filter(move |(_, output, pending)| {
            let ordered = pending.intents.publishing() == Publishing::Ordered;
            let left = ordered || self.hold.is_some() || self.is_orphaned(pending);
            let own = !ordered && pending.incarnation == incarnation;
            (left || own) && self.may_publish(output, pending, incarnation)
        })
    }

    /// True if whoever decided this can no longer be expected to publish it: it lost its ordinal, its ordinal has no place
    /// in the term, its revision no longer runs, or it owns nothing. In the last case it may be well, and publish it too,
    /// which does no harm; but if it died, the next process of its ordinal finds nothing to claim and never replaces it.
    pub fn is_orphaned(&self, pending: &Pending) -> bool {
        let Some(ordinal) = pending.ordinal else { return true };
        let placed = self.term.as_ref().is_some_and(|term| {
            term.parallelism.includes(ordinal) && pending.revision.as_ref() == Some(&term.revision)
        });
        let idle = !self.owners.values().any(|owner| owner.incarnation == pending.incarnation);
        !placed || idle || !self.holds(ordinal, pending.incarnation)
    }

    /// The last record published to an ordered output.
    pub fn published_through(&self, output: &OutputName) -> Option<Seq> {
        self.published.get(output).copied()
    }

    /// Files that rewinds still have to delete, by the rewind's record and output.
    pub fn retractions(&self) -> &BTreeMap<Seq, BTreeMap<OutputName, Retraction>> {
        &self.retractions
    }

    /// The bounded read under way, or the last one done.
    pub fn plan(&self) -> Option<&PlanState> {
        self.plan.as_ref()
    }

    /// The command that stopped all work.
    pub fn held(&self) -> Option<&HoldState> {
        self.hold.as_ref()
    }

    /// The savepoints by name.
    pub fn savepoints(&self) -> &BTreeMap<String, SavepointState> {
        &self.savepoints
    }

    /// Slots below may be deleted.
    pub fn truncated_below(&self) -> Seq {
        self.truncated_below
    }

    /// Slots below are deleted, as far as the log was told.
    pub fn collected_below(&self) -> Seq {
        self.collected_below
    }

    /// Where each output of the last term goes.
    pub fn outputs(&self) -> &BTreeMap<OutputName, String> {
        &self.outputs
    }

    /// Where this job never writes: the outputs of jobs that it was forked from, and paths that a rewind left behind.
    pub fn foreign_outputs(&self) -> &BTreeSet<String> {
        &self.foreign_outputs
    }

    /// An output that a rewind sent to another path, while the term still has the old one: nobody works in such a term.
    pub fn left_output(&self) -> Option<&OutputName> {
        self.outputs.iter().find(|(_, path)| self.foreign_outputs.contains(*path)).map(|(output, _)| output)
    }

    /// The last start from a savepoint that a spec asked for and that was carried out.
    pub fn started_from(&self) -> Option<&StartedFrom> {
        self.started_from.as_ref()
    }

    /// The revision for which the job went back to a savepoint, while the term is still the one before: the rows from there
    /// on are that revision's to read, and nobody works in such a term.
    pub fn awaited_revision(&self) -> Option<&Revision> {
        let started = self.started_from.as_ref()?;
        let before = |term: &TermState| term.since < started.since && term.revision != started.start.revision;
        self.term.as_ref().is_some_and(before).then_some(&started.start.revision)
    }

    /// The hash of the plan that decided last.
    pub fn plan_hash(&self) -> Option<&str> {
        self.plan_hash.as_deref()
    }

    /// What all epochs counted together.
    pub fn totals(&self) -> &Counters {
        &self.totals
    }

    /// True if that attempt is known to be decided. Known for an incarnation that holds an ordinal; false otherwise.
    pub fn was_decided(&self, incarnation: Incarnation, attempt: Attempt) -> bool {
        self.standings.values().any(|standing| standing.incarnation == incarnation && standing.attempt >= attempt)
    }

    /// True if something live refers to the staged object or state blob of that name.
    pub fn refers_to(&self, path: &str) -> bool {
        let Ok(name) = StagedName::of(path) else { return true };
        let same = |other: &str| StagedName::of(other).is_ok_and(|other| other == name);
        let pending = self.pending.values().flat_map(|outputs| outputs.values());
        let states = std::iter::once(&self.state).chain(self.savepoints.values().map(|savepoint| &savepoint.state));
        pending.flat_map(|pending| pending.intents.staged()).any(same)
            || states.flat_map(|state| state.values().flatten()).any(|blob| same(&blob.key))
    }
}
