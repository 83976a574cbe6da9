//! Noting what was published.

use std::collections::BTreeSet;

use crate::decide::{Proposal, Superseded, View};
use crate::record::{Body, Note, Published, Publishing};
use crate::safeguard::{Safeguard, on};

/// Whether there is something to note.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NoteDecision {
    /// This.
    Propose(Proposal),
    /// All of it is noted already, or is not this process's to note.
    Nothing,
    /// This process has nothing to say any more.
    Superseded(Superseded),
}

/// Decides what to note of what this process published. A commit carries the same notes for free; this is for a job that
/// has nothing to commit.
pub fn note(view: &View<'_>, published: &[Note]) -> NoteDecision {
    if let Some(superseded) = view.superseded() {
        return NoteDecision::Superseded(superseded);
    }
    let notes = noteworthy(view, published);
    if notes.is_empty() {
        return NoteDecision::Nothing;
    }
    NoteDecision::Propose(view.propose(Body::Published(Published { notes })))
}

/// The notes that the log does not have and that this process may make, in order. Of an ordered output only those that
/// leave no gap.
pub(super) fn noteworthy(view: &View<'_>, published: &[Note]) -> Vec<Note> {
    let wanted: BTreeSet<&Note> = published.iter().collect();
    let mut notes = Vec::new();
    let mut stopped = BTreeSet::new();
    for (seq, outputs) in view.fold.pending() {
        for (output, pending) in outputs {
            let note = Note { seq: *seq, output: output.clone() };
            let may = wanted.contains(&note) && view.fold.may_publish(output, pending, view.incarnation);
            if may && !stopped.contains(output) {
                notes.push(note);
            } else if pending.intents.publishing() == Publishing::Ordered && on(Safeguard::PublishOrder) {
                stopped.insert(output);
            }
        }
    }
    notes
}
