//! Has a revision still to go back to the savepoint at which its spec says that it begins?

use crate::fold::{Fold, TermState};
use crate::ids::Generation;
use crate::record::StartFrom;

/// A start from a savepoint, and who asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WantedStart {
    /// The point and the revision.
    pub start: StartFrom,
    /// The number of the term that the revision was told to ask for; `None` outside a cluster, and for a process that was
    /// told of none yet.
    pub generation: Option<Generation>,
}

/// Decides whether the job has still to go back. It has not if it went to that point before, for whatever revision: a spec
/// that is edited later keeps its `startFrom`. Nor for a revision that the log has a term of, nor for one that the log has
/// left behind: a process of it that starts late must not take the job back from its successor.
pub fn is_start_due(fold: &Fold, wanted: &WantedStart) -> bool {
    if fold.started_from().is_some_and(|started| started.start.point == wanted.start.point) {
        return false;
    }
    let to_come = |term: &TermState| {
        let later = wanted.generation.is_none_or(|generation| generation > term.generation);
        later && term.revision != wanted.start.revision
    };
    fold.term().is_none_or(to_come)
}
