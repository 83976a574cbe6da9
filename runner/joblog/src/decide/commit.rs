//! May this epoch be decided?

use std::collections::BTreeSet;

use crate::decide::{Proposal, Superseded, View};
use crate::fold::TermState;
use crate::ids::{Offset, OutputName, Partition, Revision};
use crate::limits::{MAX_ORPHANED, MAX_UNPUBLISHED};
use crate::record::{Body, Commit, Note, Published, Publishing};
use crate::safeguard::{Safeguard, on};
use crate::task::{Task, owner};

/// Whether an epoch may be decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CommitDecision {
    /// It is, once this is written.
    Propose(Proposal),
    /// It says nothing: no input, no watermark, nothing to publish or to note.
    Nothing,
    /// Another process has this one's place. Drop the epoch and stop.
    Superseded(Superseded),
    /// Some of its tasks belong to others now. Drop the epoch and read again what is still owned.
    Lost {
        /// Those tasks. Empty if only the claim that its staged objects are named after is gone.
        tasks: BTreeSet<Task>,
    },
    /// The log stands elsewhere than where the epoch began: an edit, a rewind, or this very epoch, decided before.
    /// Drop it and read from where the log stands.
    Moved {
        /// Those partitions.
        partitions: BTreeSet<Partition>,
    },
    /// It goes beyond the ends of the bounded read under way, or the read is complete. Drop it, and join the read that the
    /// log knows.
    BeyondPlan {
        /// What it would move on.
        tasks: BTreeSet<Task>,
    },
    /// The log is in a term of another revision, or in none. Drop the epoch.
    StaleTerm(Option<TermState>),
    /// Too much is decided and not published. Publish, or wait for the publisher, then ask again.
    Backpressure {
        /// The outputs that are behind.
        outputs: BTreeSet<OutputName>,
    },
}

/// Decides whether an epoch may be decided.
///
/// `epoch.published` holds what this process published since; what is noted already or not its to note is left out.
/// `epoch.released` is filled in: whatever this process owns and the term gives to others. Empty ranges and intents are
/// left out; an epoch without anything else to say becomes a note, or nothing.
pub fn commit(view: &View<'_>, revision: &Revision, epoch: &Commit) -> CommitDecision {
    if let Some(superseded) = view.superseded() {
        return CommitDecision::Superseded(superseded);
    }
    let Some(term) = view.term_of(revision) else {
        return CommitDecision::StaleTerm(view.fold.term().cloned());
    };
    let commit = trimmed(view, term, epoch);
    if says_nothing(&commit) {
        if commit.published.is_empty() {
            return CommitDecision::Nothing;
        }
        return CommitDecision::Propose(view.propose(Body::Published(Published { notes: commit.published })));
    }
    let tasks = lost(view, &commit);
    if !tasks.is_empty() {
        return CommitDecision::Lost { tasks };
    }
    let partitions = moved(view, &commit);
    if !partitions.is_empty() {
        return CommitDecision::Moved { partitions };
    }
    let tasks = view.fold.beyond_plan(&commit);
    if !tasks.is_empty() && on(Safeguard::WithinPlan) {
        return CommitDecision::BeyondPlan { tasks };
    }
    if !names_are_live(view, &commit) {
        return CommitDecision::Lost { tasks };
    }
    let outputs = behind(view, &commit);
    if !outputs.is_empty() {
        return CommitDecision::Backpressure { outputs };
    }
    CommitDecision::Propose(view.propose(Body::Commit(Box::new(commit))))
}

fn trimmed(view: &View<'_>, term: &TermState, epoch: &Commit) -> Commit {
    let mut commit = epoch.clone();
    commit.ranges.retain(|_, range| range.from != range.to);
    commit.intents.retain(|_, intents| !intents.is_empty());
    commit.published = super::note::noteworthy(view, &epoch.published);
    let Some(seat) = view.seat else { return commit };
    let leaves = |task: &Task| owner(task, term.parallelism) != seat.ordinal;
    commit.released = view.fold.owned_by(view.incarnation).into_iter().filter(leaves).collect();
    commit
}

fn says_nothing(commit: &Commit) -> bool {
    commit.ranges.is_empty()
        && commit.data_loss.is_empty()
        && commit.watermarks.is_empty()
        && commit.state.is_empty()
        && commit.intents.is_empty()
        && commit.released.is_empty()
}

/// The tasks that the epoch advances and this process does not own.
fn lost(view: &View<'_>, commit: &Commit) -> BTreeSet<Task> {
    let owned = |task: &Task| view.fold.owns(task, view.incarnation) || !on(Safeguard::Ownership);
    commit.advances().into_iter().filter(|task| !owned(task)).collect()
}

/// The partitions that do not stand where the epoch began.
fn moved(view: &View<'_>, commit: &Commit) -> BTreeSet<Partition> {
    if !on(Safeguard::OffsetChain) {
        return BTreeSet::new();
    }
    let begins = |partition: &Partition, range_from: Offset| {
        let loss = commit.data_loss.iter().find(|loss| loss.partition == *partition);
        loss.map_or(range_from, |loss| loss.expected)
    };
    let stands = |partition: &Partition| view.fold.partition(partition);
    let ranges = commit.ranges.iter().filter(|(partition, range)| {
        stands(partition).is_none_or(|state| state.offset != begins(partition, range.from))
    });
    let losses =
        commit.data_loss.iter().filter(|loss| stands(&loss.partition).is_none_or(|s| s.offset != loss.expected));
    let watermarks = commit.watermarks.iter().filter(|(partition, moved)| {
        stands(partition).is_none_or(|state| state.watermark != moved.before || state.idle != moved.was_idle)
    });
    let partitions = ranges.map(|(partition, _)| partition).chain(watermarks.map(|(partition, _)| partition));
    partitions.chain(losses.map(|loss| &loss.partition)).cloned().collect()
}

fn names_are_live(view: &View<'_>, commit: &Commit) -> bool {
    let staged = commit.intents.values().flat_map(|intents| intents.staged());
    let states = commit.state.iter().map(|state| state.key.as_str());
    staged.chain(states).all(|name| view.fold.is_live_name(name, view.incarnation))
}

/// The outputs of the epoch with too much decided and not published.
fn behind(view: &View<'_>, commit: &Commit) -> BTreeSet<OutputName> {
    let noted = |seq, output: &OutputName| commit.published.contains(&Note { seq, output: output.clone() });
    let mut outputs = BTreeSet::new();
    for (output, intents) in &commit.intents {
        let open = || view.fold.pending_for(output).filter(|(seq, _)| !noted(*seq, output));
        let full = match intents.publishing() {
            Publishing::Ordered => open().count() >= MAX_UNPUBLISHED,
            Publishing::Commuting => {
                let own = open().filter(|(_, pending)| pending.incarnation == view.incarnation).count();
                let orphaned = open().filter(|(_, pending)| view.fold.is_orphaned(pending)).count();
                own >= MAX_UNPUBLISHED || orphaned >= MAX_ORPHANED
            }
        };
        if full {
            outputs.insert(output.clone());
        }
    }
    outputs
}
