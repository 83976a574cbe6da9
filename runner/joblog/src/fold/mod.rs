//! What the log says through a given slot: the only definition of what is true.
//!
//! [`Fold::apply`] checks every invariant. A reader folds what it reads; a writer folds what it is about to write, on a
//! copy, before it sends it. So a record that breaks an invariant is neither written nor believed.

mod bounded;
mod claims;
mod commit;
mod home;
mod manage;
mod publish;
mod view;
mod violation;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use self::bounded::{PlanState, Unfinished};
pub(crate) use self::claims::rank_suffices;
pub use self::claims::{Owner, Standing};
pub use self::commit::PartitionState;
pub use self::home::{HomeState, TermState};
pub use self::manage::{HoldState, Retraction, SavepointState, StartedFrom};
pub use self::publish::Pending;
pub use self::violation::{Breach, Violation};
use crate::ids::{Ordinal, OutputName, Partition, Seq};
use crate::record::{Body, Counters, Entry, Slot, StateRef};
use crate::safeguard::{Safeguard, on};
use crate::task::Task;

/// The log folded through a slot. Serialised, it is a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fold {
    /// The slot after the last one folded.
    next: Seq,
    /// Slots in a segment; `None` for an empty log.
    segment_slots: Option<u64>,
    /// Whose job it is; `None` for an empty log.
    home: Option<HomeState>,
    /// Uids of StreamingJob objects that were replaced and never return.
    replaced: BTreeSet<String>,
    /// The division in force; `None` before the first one of a home.
    term: Option<TermState>,
    /// Who holds each ordinal.
    standings: BTreeMap<Ordinal, Standing>,
    /// Who owns each task; a task that nobody owns is absent.
    owners: BTreeMap<Task, Owner>,
    /// Where each partition stands.
    partitions: BTreeMap<Partition, PartitionState>,
    /// The state blobs of each task: a base, then deltas.
    state: BTreeMap<Task, Vec<StateRef>>,
    /// What is decided and not yet noted as published.
    pending: BTreeMap<Seq, BTreeMap<OutputName, Pending>>,
    /// The last record published to each ordered output.
    published: BTreeMap<OutputName, Seq>,
    /// Files that rewinds still have to delete.
    retractions: BTreeMap<Seq, BTreeMap<OutputName, Retraction>>,
    /// The bounded read under way, or the last one done.
    plan: Option<PlanState>,
    /// The command that stopped all work, if one did.
    hold: Option<HoldState>,
    /// The savepoints by name.
    savepoints: BTreeMap<String, SavepointState>,
    /// Slots below may be deleted.
    truncated_below: Seq,
    /// Slots below are deleted.
    collected_below: Seq,
    /// Where each output goes.
    outputs: BTreeMap<OutputName, String>,
    /// Where this job never writes: outputs of jobs that it was forked from, and paths that a rewind left behind.
    foreign_outputs: BTreeSet<String>,
    /// The last start from a savepoint that a spec asked for and that was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started_from: Option<StartedFrom>,
    /// The hash of the plan that decided last.
    plan_hash: Option<String>,
    /// What all epochs counted together.
    totals: Counters,
}

impl Fold {
    /// The fold of an empty log.
    pub fn empty() -> Self {
        Self {
            next: Seq::ZERO,
            segment_slots: None,
            home: None,
            replaced: BTreeSet::new(),
            term: None,
            standings: BTreeMap::new(),
            owners: BTreeMap::new(),
            partitions: BTreeMap::new(),
            state: BTreeMap::new(),
            pending: BTreeMap::new(),
            published: BTreeMap::new(),
            retractions: BTreeMap::new(),
            plan: None,
            hold: None,
            savepoints: BTreeMap::new(),
            truncated_below: Seq::ZERO,
            collected_below: Seq::ZERO,
            outputs: BTreeMap::new(),
            foreign_outputs: BTreeSet::new(),
            started_from: None,
            plan_hash: None,
            totals: Counters::default(),
        }
    }

    /// Folds the next slot.
    ///
    /// After an error the fold is of no use: discard it, or work on a copy ([`Fold::with`]).
    pub fn apply(&mut self, seq: Seq, slot: &Slot) -> Result<(), Violation> {
        if seq != self.next {
            return Err(Violation::new(seq, Breach::Gap { expected: self.next }));
        }
        if slot.entries.is_empty() {
            return Err(Violation::new(seq, Breach::Empty));
        }
        for (index, entry) in slot.entries.iter().enumerate() {
            self.apply_entry(seq, index, entry).map_err(|breach| Violation::new(seq, breach))?;
        }
        self.next = seq.next();
        Ok(())
    }

    /// The fold with one more slot, leaving this one as it is.
    pub fn with(&self, seq: Seq, slot: &Slot) -> Result<Fold, Violation> {
        let mut fold = self.clone();
        fold.apply(seq, slot)?;
        Ok(fold)
    }

    pub(crate) fn apply_entry(&mut self, seq: Seq, index: usize, entry: &Entry) -> Result<(), Breach> {
        let begins = seq == Seq::ZERO && index == 0;
        if begins != matches!(entry.body, Body::Init(_)) {
            return Err(Breach::InitElsewhere);
        }
        self.check_attempt(seq, &entry.writer)?;
        match &entry.body {
            Body::Init(init) => self.init(init),
            Body::Adopt(adopt) => self.adopt(seq, adopt),
            Body::Term(term) => self.new_term(seq, entry, term),
            Body::Claim(claim) => self.claim(seq, entry, claim),
            Body::Commit(commit) => self.commit(seq, entry, commit),
            Body::Published(published) => self.note_published(&entry.writer, &published.notes),
            Body::Plan(plan) => self.fix_plan(seq, entry, plan),
            Body::Complete(_) => self.complete(seq, entry),
            Body::Hold(hold) => self.hold(seq, &entry.writer, hold),
            Body::Release(_) => self.release(),
            Body::Savepoint(savepoint) => self.savepoint(seq, savepoint),
            Body::Rewind(rewind) => self.rewind(seq, &entry.writer, rewind),
            Body::Retracted(retracted) => self.retracted(&entry.writer, &retracted.notes),
            Body::Edit(edit) => self.edit(&entry.writer, edit),
            Body::SkipPublish(skip) => self.skip_publish(&entry.writer, skip),
            Body::Truncate(truncate) => self.truncate(seq, entry, truncate),
        }?;
        self.remember_attempt(seq, &entry.writer);
        Ok(())
    }

    /// True if the safeguard of held logs stops claims and commits now.
    fn is_stopped(&self) -> bool {
        self.hold.is_some() && on(Safeguard::Hold)
    }
}

impl Default for Fold {
    fn default() -> Self {
        Self::empty()
    }
}
