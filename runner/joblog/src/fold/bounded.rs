//! Bounded reads: their ends, fixed once, and their completion.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fold::{Breach, Fold};
use crate::ids::{Offset, Partition, Seq};
use crate::record::{Entry, Plan};
use crate::safeguard::{Safeguard, on};

/// A bounded read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanState {
    /// The slot of its plan.
    pub seq: Seq,
    /// The first offset that no longer belongs to it, by partition.
    pub ends: BTreeMap<Partition, Offset>,
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
        self.current_term(entry)?;
        self.check_standing(&entry.writer)?;
        if self.plan_under_way().is_some() && on(Safeguard::PlanOnce) {
            return Err(Breach::PlannedTwice);
        }
        self.plan = Some(PlanState { seq, ends: plan.ends.clone(), complete: None });
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
