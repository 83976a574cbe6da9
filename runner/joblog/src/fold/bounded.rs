//! Bounded reads: their ends, fixed once, and their completion.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::fold::{Breach, Fold};
use crate::ids::{Offset, Partition, Revision, Seq};
use crate::record::{Commit, Entry, Plan};
use crate::safeguard::{Safeguard, on};
use crate::task::Task;

/// A bounded read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanState {
    /// The slot of its plan.
    pub seq: Seq,
    /// The first offset that no longer belongs to it, by partition.
    pub ends: BTreeMap<Partition, Offset>,
    /// The revision that it was planned for, and that keeps to it.
    pub revision: Revision,
    /// The slot that says it is done; `None` while it is under way.
    pub complete: Option<Seq>,
}

/// Why a bounded read is not done.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unfinished {
    /// No bounded read is under way.
    #[error("none is under way")]
    NotPlanned,
    /// A partition is not at its end.
    #[error("{partition} has not reached offset {end}")]
    Short {
        /// The partition.
        partition: Partition,
        /// Its end.
        end: Offset,
    },
    /// Decided records are not published.
    #[error("{count} records are decided and not published")]
    Unpublished {
        /// How many.
        count: usize,
    },
    /// A rewind's files are not deleted.
    #[error("files of a rewind wait to be deleted")]
    Unretracted,
}

impl Fold {
    pub(super) fn fix_plan(&mut self, seq: Seq, entry: &Entry, plan: &Plan) -> Result<(), Breach> {
        self.check_not_held()?;
        let revision = self.current_term(entry)?.revision.clone();
        self.check_standing(&entry.writer)?;
        if self.plan_under_way().is_some() && on(Safeguard::PlanOnce) {
            return Err(Breach::PlannedTwice);
        }
        self.plan = Some(PlanState { seq, ends: plan.ends.clone(), revision, complete: None });
        Ok(())
    }

    pub(super) fn complete(&mut self, seq: Seq, entry: &Entry) -> Result<(), Breach> {
        self.check_not_held()?;
        self.current_term(entry)?;
        self.check_standing(&entry.writer)?;
        if let Err(why) = self.check_complete() {
            return Err(Breach::NotComplete { why });
        }
        if let Some(plan) = &mut self.plan {
            plan.complete = Some(seq);
        }
        Ok(())
    }

    /// A term of another revision need not be a bounded read, or of the same topics: it ends one that is under way, and plans
    /// its own if it is one.
    pub(super) fn end_plan_of_other(&mut self, revision: &Revision) {
        self.plan.take_if(|plan| plan.complete.is_none() && plan.revision != *revision);
    }

    /// In the plan's revision, a commit stays within the ends, and works on nothing once the read is complete. A loss may be
    /// recorded at any time: whoever plans the next read has to find each partition where it is. In another revision, a commit
    /// that reads on makes a completed read a thing of the past.
    pub(super) fn keep_to_plan(&mut self, commit: &Commit) -> Result<(), Breach> {
        let Some(plan) = &self.plan else { return Ok(()) };
        if self.term.as_ref().is_some_and(|term| term.revision != plan.revision) {
            self.plan.take_if(|_| !commit.ranges.is_empty());
            return Ok(());
        }
        if !on(Safeguard::WithinPlan) {
            return Ok(());
        }
        match self.beyond_plan(commit).into_iter().next() {
            None => Ok(()),
            Some(task) => Err(Breach::BeyondPlan { task }),
        }
    }

    /// What the commit moves on and the plan does not have it move on, in a term of the plan's revision.
    pub(crate) fn beyond_plan(&self, commit: &Commit) -> BTreeSet<Task> {
        let plan = self.plan.as_ref().filter(|plan| self.term.as_ref().is_some_and(|t| t.revision == plan.revision));
        let Some(plan) = plan else { return BTreeSet::new() };
        if plan.complete.is_some() {
            let publishers = commit.intents.keys().cloned().map(Task::Publisher);
            return commit.works_on().chain(publishers).collect();
        }
        let within = |partition, to| plan.ends.get(partition).is_some_and(|end| to <= *end);
        let beyond = commit.ranges.iter().filter(|(partition, range)| !within(*partition, range.to));
        beyond.map(|(partition, _)| Task::Partition(partition.clone())).collect()
    }

    /// Whether the bounded read under way is done: every partition at its end, everything decided published.
    pub fn check_complete(&self) -> Result<(), Unfinished> {
        let Some(plan) = self.plan_under_way() else { return Err(Unfinished::NotPlanned) };
        if !on(Safeguard::CompleteAtEnds) {
            return Ok(());
        }
        for (partition, end) in &plan.ends {
            let reached = self.partitions.get(partition).is_some_and(|state| state.offset >= *end);
            if !reached {
                return Err(Unfinished::Short { partition: partition.clone(), end: *end });
            }
        }
        if !self.pending.is_empty() {
            return Err(Unfinished::Unpublished { count: self.pending.len() });
        }
        if !self.retractions.is_empty() {
            return Err(Unfinished::Unretracted);
        }
        Ok(())
    }

    /// The bounded read that is planned and not complete.
    pub fn plan_under_way(&self) -> Option<&PlanState> {
        self.plan.as_ref().filter(|plan| plan.complete.is_none())
    }
}
