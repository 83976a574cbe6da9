//! Commands that move a job by hand: hold the log, drain it, rewind, edit or skip, and let go.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::{Proposal, View, WantedStart, is_start_due};
use crate::fold::HoldState;
use crate::history::Past;
use crate::ids::{Offset, OutputName, Partition, Seq};
use crate::record::{
    Body, Edit, EditPolicy, Hold, Moved, Note, Position, Release, Retracted, Rewind, RewindPolicy, RewindTarget, Shift,
    SkipPublish,
};
use crate::safeguard::{Safeguard, on};

/// Whether the log can be held.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HoldDecision {
    /// It is, once this is written. Runners then drop their open epochs and wait.
    Propose(Proposal),
    /// This process holds it.
    Held,
    /// Another command holds it.
    Other(HoldState),
    /// The log is empty.
    EmptyLog,
}

/// Decides whether this command can hold the log. `force` takes it from a command that died.
pub fn hold(view: &View<'_>, reason: &str, force: bool) -> HoldDecision {
    if view.fold.home().is_none() {
        return HoldDecision::EmptyLog;
    }
    match view.fold.held() {
        Some(hold) if hold.incarnation == view.incarnation => HoldDecision::Held,
        Some(hold) if !force => HoldDecision::Other(hold.clone()),
        _ => HoldDecision::Propose(view.propose(Body::Hold(Hold { reason: reason.to_owned() }))),
    }
}

/// Whether the log can be let go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReleaseDecision {
    /// It is, once this is written. Runners then claim again.
    Propose(Proposal),
    /// Nobody holds it.
    NotHeld,
    /// Another command holds it.
    Other(HoldState),
}

/// Decides whether this command can let the log go. `force` ends the hold of a command that died.
pub fn release(view: &View<'_>, force: bool) -> ReleaseDecision {
    match view.fold.held() {
        None => ReleaseDecision::NotHeld,
        Some(hold) if hold.incarnation != view.incarnation && !force => ReleaseDecision::Other(hold.clone()),
        Some(_) => ReleaseDecision::Propose(view.propose(Body::Release(Release {}))),
    }
}

/// What becomes of an output's rows from after the point of a rewind, or of those that an edit has read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Delete exactly the files that this job published after it.
    Retract,
    /// Keep them; the output continues under another path.
    NewPath,
    /// Keep them, and write the same rows once more, by typed consent.
    Duplicate,
}

/// A rewind that a user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RewindRequest {
    /// The point.
    pub target: RewindTarget,
    /// What there was at that point and since (see [`Past::read`]).
    pub past: Past,
    /// A policy for each output that got rows since.
    pub policies: BTreeMap<OutputName, Policy>,
    /// The start that it is made for; `None` for a command's rewind.
    pub start: Option<WantedStart>,
}

/// Whether a job can be rewound.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RewindDecision {
    /// It is, and the log let go, once this is written.
    Propose(Proposal),
    /// Hold the log first.
    NotHeld,
    /// The start that it is made for is not due any more.
    NotDue,
    /// Publish these first, and note them.
    Drain {
        /// Records and outputs.
        notes: Vec<Note>,
    },
    /// The records from that point on are deleted. Only a savepoint reaches further back.
    Gone {
        /// The earliest point there is.
        earliest: Seq,
    },
    /// The point is not in the log yet.
    Ahead,
    /// There is no such savepoint.
    NoSavepoint,
    /// That rewind took back what the tables held at that point, and it would be missing from then on. Points up to the
    /// one that it went back to can be had, and points after it.
    TakenBack {
        /// The rewind's record.
        by: Seq,
    },
    /// The topics of these partitions were deleted and created again since: the offsets of that time mean other messages.
    TopicRecreated {
        /// The partitions.
        partitions: BTreeSet<Partition>,
    },
    /// The job has state, which only a savepoint can bring back.
    NeedsSavepoint,
    /// These outputs got rows since, and nobody said what becomes of them.
    PolicyMissing {
        /// The outputs.
        outputs: BTreeSet<OutputName>,
    },
    /// These outputs cannot be retracted: they are no Parquet outputs, or the records that name their files are deleted.
    NotRetractable {
        /// The outputs.
        outputs: BTreeSet<OutputName>,
    },
    /// The log changed since the past was read. Read it again.
    Moved,
}

/// Decides whether the job goes back to an earlier point. Needs a held, drained log, so nothing happens in between.
pub fn rewind(view: &View<'_>, request: &RewindRequest) -> RewindDecision {
    if !holds(view) {
        return RewindDecision::NotHeld;
    }
    if request.start.as_ref().is_some_and(|start| !is_start_due(view.fold, start)) {
        return RewindDecision::NotDue;
    }
    let notes = undrained(view);
    if !notes.is_empty() && on(Safeguard::DrainFirst) {
        return RewindDecision::Drain { notes };
    }
    match &request.target {
        RewindTarget::Seq(seq) if *seq >= view.fold.next() => return RewindDecision::Ahead,
        RewindTarget::Seq(seq) if seq.next() < view.fold.truncated_below() => {
            let earliest = view.fold.truncated_below().previous().unwrap_or(Seq::ZERO);
            return RewindDecision::Gone { earliest };
        }
        RewindTarget::Seq(_) if !view.fold.state().is_empty() => return RewindDecision::NeedsSavepoint,
        RewindTarget::Seq(_) => {}
        RewindTarget::Savepoint(name) if !view.fold.savepoints().contains_key(name) => {
            return RewindDecision::NoSavepoint;
        }
        RewindTarget::Savepoint(_) => {}
    }
    if request.past.read_through != view.fold.next() {
        return RewindDecision::Moved;
    }
    if let Some(by) = request.past.taken_back_by {
        return RewindDecision::TakenBack { by };
    }
    if !request.past.recreated.is_empty() && on(Safeguard::SameTopic) {
        return RewindDecision::TopicRecreated { partitions: request.past.recreated.clone() };
    }
    let affected = request.past.affected_outputs(view.fold);
    let missing = affected.iter().filter(|output| !request.policies.contains_key(*output));
    let missing: BTreeSet<OutputName> = missing.cloned().collect();
    if !missing.is_empty() {
        return RewindDecision::PolicyMissing { outputs: missing };
    }
    let mut outputs = BTreeMap::new();
    let mut stuck = BTreeSet::new();
    for output in affected {
        let policy = match request.policies.get(&output) {
            Some(Policy::Retract) => match request.past.retractable(&output) {
                Some(files) => RewindPolicy::Retract { files },
                None => {
                    stuck.insert(output);
                    continue;
                }
            },
            Some(Policy::NewPath) => RewindPolicy::NewPath,
            Some(Policy::Duplicate) | None => RewindPolicy::Duplicate,
        };
        outputs.insert(output, policy);
    }
    if !stuck.is_empty() {
        return RewindDecision::NotRetractable { outputs: stuck };
    }
    let moved = |(partition, to): (&Partition, &Position)| {
        let from = view.fold.partition(partition)?.position();
        Some((partition.clone(), Moved { from, to: to.clone() }))
    };
    let positions = request.past.positions.iter().filter_map(moved).collect();
    let start = request.start.as_ref().map(|wanted| wanted.start.clone());
    let rewind = Rewind { target: request.target.clone(), positions, outputs, start };
    RewindDecision::Propose(propose_and_release(view, Body::Rewind(rewind)))
}

/// Whether offsets can be moved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EditDecision {
    /// They are, and the log let go, once this is written.
    Propose(Proposal),
    /// Hold the log first.
    NotHeld,
    /// Publish these first, and note them.
    Drain {
        /// Records and outputs.
        notes: Vec<Note>,
    },
    /// The log does not know these partitions.
    Unknown {
        /// The partitions.
        partitions: BTreeSet<Partition>,
    },
    /// These outputs will have rows twice, and nobody said what becomes of those that are there.
    PolicyMissing {
        /// The outputs.
        outputs: BTreeSet<OutputName>,
    },
    /// These outputs cannot be retracted: their files hold rows of other partitions too. A rewind can.
    NotRetractable {
        /// The outputs.
        outputs: BTreeSet<OutputName>,
    },
    /// Every partition stands there already.
    Nothing,
}

/// Decides whether single offsets are moved by hand. If one goes back, every output of the term needs a policy, for its rows
/// are read again.
pub fn edit(
    view: &View<'_>,
    offsets: &BTreeMap<Partition, Offset>,
    policies: &BTreeMap<OutputName, Policy>,
) -> EditDecision {
    if !holds(view) {
        return EditDecision::NotHeld;
    }
    let notes = undrained(view);
    if !notes.is_empty() && on(Safeguard::DrainFirst) {
        return EditDecision::Drain { notes };
    }
    let unknown = offsets.keys().filter(|partition| view.fold.partition(partition).is_none());
    let unknown: BTreeSet<Partition> = unknown.cloned().collect();
    if !unknown.is_empty() {
        return EditDecision::Unknown { partitions: unknown };
    }
    let shift = |(partition, to): (&Partition, &Offset)| {
        let from = view.fold.partition(partition)?.offset;
        (from != *to).then(|| (partition.clone(), Shift { from, to: *to }))
    };
    let offsets: BTreeMap<Partition, Shift> = offsets.iter().filter_map(shift).collect();
    if offsets.is_empty() {
        return EditDecision::Nothing;
    }
    let mut edit = Edit { offsets, outputs: BTreeMap::new() };
    let mut missing = BTreeSet::new();
    let mut stuck = BTreeSet::new();
    let again = edit.goes_back();
    for output in view.fold.outputs().keys().filter(|_| again) {
        let policy = match policies.get(output) {
            Some(Policy::NewPath) => EditPolicy::NewPath,
            Some(Policy::Duplicate) => EditPolicy::Duplicate,
            Some(Policy::Retract) => {
                stuck.insert(output.clone());
                continue;
            }
            None => {
                missing.insert(output.clone());
                continue;
            }
        };
        edit.outputs.insert(output.clone(), policy);
    }
    if !stuck.is_empty() {
        return EditDecision::NotRetractable { outputs: stuck };
    }
    if !missing.is_empty() && on(Safeguard::PolicyForRowsReadAgain) {
        return EditDecision::PolicyMissing { outputs: missing };
    }
    EditDecision::Propose(propose_and_release(view, Body::Edit(edit)))
}

/// Whether a record's publishing can be skipped.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SkipDecision {
    /// It is, once this is written. The log stays held, for more of them.
    Propose(Proposal),
    /// Hold the log first.
    NotHeld,
    /// The output has nothing to publish from that record.
    NothingPending,
    /// An ordered output skips its records in order: this one is first.
    First(Seq),
}

/// Decides whether a record is left unpublished for one output. Its rows were exported to `exported` before.
pub fn skip_publish(view: &View<'_>, output: &OutputName, seq: Seq, exported: &str) -> SkipDecision {
    if !holds(view) {
        return SkipDecision::NotHeld;
    }
    let Some((_, pending)) = view.fold.pending_for(output).find(|(pending, _)| *pending == seq) else {
        return SkipDecision::NothingPending;
    };
    let ordered = pending.intents.publishing() == crate::record::Publishing::Ordered;
    if let Some(first) = view.fold.first_pending(output).filter(|first| ordered && *first != seq) {
        return SkipDecision::First(first);
    }
    let skip = SkipPublish { output: output.clone(), seq, exported: exported.to_owned() };
    SkipDecision::Propose(view.propose(Body::SkipPublish(skip)))
}

/// What to write once the files of retractions are deleted; `None` if the log knows it, or it is not this process's to say.
pub fn retracted(view: &View<'_>, deleted: &[Note]) -> Option<Proposal> {
    let open = |note: &&Note| {
        let retraction = view.fold.retractions().get(&note.seq).and_then(|outputs| outputs.get(&note.output));
        retraction.is_some_and(|retraction| {
            retraction.by == view.incarnation
                || holds(view)
                || view.fold.owns(&crate::task::Task::Publisher(note.output.clone()), view.incarnation)
        })
    };
    let notes: Vec<Note> = deleted.iter().filter(open).cloned().collect();
    if notes.is_empty() { None } else { Some(view.propose(Body::Retracted(Retracted { notes }))) }
}

fn holds(view: &View<'_>) -> bool {
    view.fold.held().is_some_and(|hold| hold.incarnation == view.incarnation)
}

fn undrained(view: &View<'_>) -> Vec<Note> {
    let pending = view.fold.pending().iter();
    pending.flat_map(|(seq, outputs)| outputs.keys().map(|output| Note { seq: *seq, output: output.clone() })).collect()
}

fn propose_and_release(view: &View<'_>, body: Body) -> Proposal {
    view.propose_as(view.seat, view.generation(), vec![body, Body::Release(Release {})])
}
