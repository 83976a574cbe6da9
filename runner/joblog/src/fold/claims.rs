//! Who holds each ordinal, and who owns each task.

use serde::{Deserialize, Serialize};

use crate::fold::{Breach, Fold, PartitionState};
use crate::ids::{Attempt, Incarnation, Ordinal, Partition, Rank, Revision, Seq};
use crate::record::{Claim, Entry, FirstClaim, Writer};
use crate::safeguard::{Safeguard, on};
use crate::task::{Task, owner};

/// Who holds an ordinal: the latest claim on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Standing {
    /// The holder.
    pub incarnation: Incarnation,
    /// Its rank, the highest that ever claimed the ordinal.
    pub rank: Rank,
    /// The slot of its latest claim.
    pub claim: Seq,
    /// The last attempt of the holder that was decided.
    pub attempt: Attempt,
    /// The slot it was decided in.
    pub attempt_at: Seq,
}

/// Who owns a task.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Owner {
    /// The owner.
    pub incarnation: Incarnation,
    /// The ordinal it claimed the task as.
    pub ordinal: Ordinal,
    /// The revision it runs.
    pub revision: Revision,
    /// The slot of the claim.
    pub claim: Seq,
}

impl Fold {
    pub(super) fn claim(&mut self, seq: Seq, entry: &Entry, claim: &Claim) -> Result<(), Breach> {
        self.check_not_held()?;
        let term = self.current_term(entry)?;
        if claim.revision != term.revision && on(Safeguard::CurrentTerm) {
            return Err(Breach::StaleRevision { found: claim.revision.clone(), current: term.revision.clone() });
        }
        let parallelism = term.parallelism;
        if let Some(path) = self.left_output().and_then(|output| self.outputs.get(output)) {
            return Err(Breach::ForeignOutput { path: path.clone() });
        }
        if let Some(awaited) = self.awaited_revision() {
            return Err(Breach::StaleRevision { found: claim.revision.clone(), current: awaited.clone() });
        }
        if !parallelism.includes(claim.ordinal) {
            return Err(Breach::NoSuchOrdinal { ordinal: claim.ordinal });
        }
        self.check_rank(&entry.writer, claim)?;
        for task in &claim.tasks {
            let assigned = owner(task, parallelism);
            if assigned != claim.ordinal {
                return Err(Breach::NotAssigned { task: task.clone(), owner: assigned });
            }
        }
        for (partition, first) in &claim.first {
            self.start_partition(partition, first)?;
        }
        for task in &claim.tasks {
            if let Task::Partition(partition) = task
                && !self.partitions.contains_key(partition)
            {
                return Err(Breach::NoStart { partition: partition.clone() });
            }
            let owner = Owner {
                incarnation: entry.writer.incarnation,
                ordinal: claim.ordinal,
                revision: claim.revision.clone(),
                claim: seq,
            };
            self.owners.insert(task.clone(), owner);
        }
        let standing = Standing {
            incarnation: entry.writer.incarnation,
            rank: claim.rank,
            claim: seq,
            attempt: entry.writer.attempt,
            attempt_at: seq,
        };
        self.standings.insert(claim.ordinal, standing);
        Ok(())
    }

    fn check_rank(&self, writer: &Writer, claim: &Claim) -> Result<(), Breach> {
        let home = self.home_since();
        let standing = self.standings.get(&claim.ordinal);
        let highest = standing.map_or(Rank { home, pod: 0 }, |standing| standing.rank);
        if !rank_suffices(claim.rank, home, highest) {
            return Err(Breach::RankTooLow { ordinal: claim.ordinal, found: claim.rank, highest });
        }
        let holds =
            standing.filter(|standing| standing.incarnation == writer.incarnation).map(|standing| standing.claim);
        if claim.renews != holds && on(Safeguard::NoReturn) {
            return Err(Breach::ClaimedBack { ordinal: claim.ordinal, incarnation: writer.incarnation });
        }
        Ok(())
    }

    fn start_partition(&mut self, partition: &Partition, first: &FirstClaim) -> Result<(), Breach> {
        if self.partitions.contains_key(partition) {
            return Err(Breach::StartedTwice { partition: partition.clone() });
        }
        self.partitions.insert(partition.clone(), PartitionState::starting(first));
        Ok(())
    }

    /// Checks that the writer is a runner that holds its ordinal.
    pub(super) fn check_standing(&self, writer: &Writer) -> Result<Ordinal, Breach> {
        let breach = Breach::NoStanding { incarnation: writer.incarnation, ordinal: writer.ordinal };
        let Some(ordinal) = writer.ordinal else { return Err(breach) };
        if !self.holds(ordinal, writer.incarnation) && on(Safeguard::Ownership) {
            return Err(breach);
        }
        Ok(ordinal)
    }

    /// Checks that the writer owns the task.
    pub(super) fn check_owned(&self, task: &Task, writer: &Writer) -> Result<(), Breach> {
        if !self.owns(task, writer.incarnation) && on(Safeguard::Ownership) {
            return Err(Breach::NotOwned { task: task.clone(), incarnation: writer.incarnation });
        }
        Ok(())
    }

    pub(super) fn check_not_held(&self) -> Result<(), Breach> {
        match &self.hold {
            Some(hold) if self.is_stopped() => Err(Breach::Held { by: hold.incarnation }),
            _ => Ok(()),
        }
    }

    /// No attempt is decided in two slots: bytes that were sent twice must have gone to one slot.
    pub(super) fn check_attempt(&self, seq: Seq, writer: &Writer) -> Result<(), Breach> {
        let last = self.standings.values().find(|standing| standing.incarnation == writer.incarnation);
        let Some(last) = last else { return Ok(()) };
        let same_slot = writer.attempt == last.attempt && seq == last.attempt_at;
        if writer.attempt > last.attempt || same_slot || !on(Safeguard::OneAttemptOneSlot) {
            return Ok(());
        }
        Err(Breach::AttemptTwice { incarnation: writer.incarnation, attempt: writer.attempt })
    }

    pub(super) fn remember_attempt(&mut self, seq: Seq, writer: &Writer) {
        for standing in self.standings.values_mut().filter(|standing| standing.incarnation == writer.incarnation) {
            standing.attempt = writer.attempt;
            standing.attempt_at = seq;
        }
    }
}

/// A claim needs the present home's rank, and no lower one than the highest that claimed the ordinal.
pub(crate) fn rank_suffices(rank: Rank, home: Seq, highest: Rank) -> bool {
    (rank.home == home && rank >= highest) || !on(Safeguard::RankOrder)
}
