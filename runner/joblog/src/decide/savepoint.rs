//! Naming a point of the log.

use crate::decide::{Proposal, View};
use crate::limits::MAX_SAVEPOINTS;
use crate::record::{Body, Savepoint, SavepointAction};

/// Whether a savepoint can be made or deleted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SavepointDecision {
    /// It is, once this is written.
    Propose(Proposal),
    /// One of that name exists.
    Exists,
    /// None of that name exists.
    Missing,
    /// There are as many as a job may have.
    TooMany,
    /// The log is empty: there is nothing to save.
    EmptyLog,
}

/// Decides whether this point of the log can have that name.
pub fn savepoint(view: &View<'_>, name: &str) -> SavepointDecision {
    if view.fold.home().is_none() {
        return SavepointDecision::EmptyLog;
    }
    if view.fold.savepoints().contains_key(name) {
        return SavepointDecision::Exists;
    }
    if view.fold.savepoints().len() >= MAX_SAVEPOINTS {
        return SavepointDecision::TooMany;
    }
    SavepointDecision::Propose(view.propose(body(name, SavepointAction::Create)))
}

/// Decides whether a savepoint can be deleted.
pub fn delete_savepoint(view: &View<'_>, name: &str) -> SavepointDecision {
    if !view.fold.savepoints().contains_key(name) {
        return SavepointDecision::Missing;
    }
    SavepointDecision::Propose(view.propose(body(name, SavepointAction::Delete)))
}

fn body(name: &str, action: SavepointAction) -> Body {
    Body::Savepoint(Savepoint { name: name.to_owned(), action })
}
