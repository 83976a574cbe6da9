//! Bounded reads: fixing their ends, and completing them.

use std::collections::BTreeMap;

use crate::decide::{Proposal, Superseded, View};
use crate::fold::{HoldState, PlanState, TermState, Unfinished};
use crate::ids::{Offset, Partition, Revision};
use crate::record::{Body, Complete, Plan};
use crate::safeguard::{Safeguard, on};

/// Which bounded read is this?
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PlanDecision {
    /// A new one, once this is written.
    Propose(Proposal),
    /// The one that is under way: its ends hold, not those just seen.
    UnderWay(PlanState),
    /// It is done. Stop.
    Complete(PlanState),
    /// This process has nothing to say any more.
    Superseded(Superseded),
    /// The log is in a term of another revision, or in none.
    StaleTerm(Option<TermState>),
    /// A command stopped all work. Look again later.
    Held(HoldState),
}

/// Whether the bounded read is done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CompleteDecision {
    /// It is, once this is written.
    Propose(Proposal),
    /// It is.
    Complete(PlanState),
    /// It is not.
    NotYet(Unfinished),
    /// This process has nothing to say any more.
    Superseded(Superseded),
    /// The log is in a term of another revision, or in none.
    StaleTerm(Option<TermState>),
    /// A command stopped all work. Look again later.
    Held(HoldState),
}

/// Decides which ends a bounded read has. They are fixed once, for every runner and restart. `again` begins a new read
/// after a completed one: a later `millrace run`, never a restarted pod.
pub fn plan(view: &View<'_>, revision: &Revision, ends: &BTreeMap<Partition, Offset>, again: bool) -> PlanDecision {
    match view.fold.plan() {
        Some(plan) if plan.complete.is_none() && on(Safeguard::PlanOnce) => {
            return PlanDecision::UnderWay(plan.clone());
        }
        Some(plan) if plan.complete.is_some() && !again => return PlanDecision::Complete(plan.clone()),
        _ => {}
    }
    if let Some(superseded) = view.superseded() {
        return PlanDecision::Superseded(superseded);
    }
    if view.term_of(revision).is_none() || view.seat.is_none() {
        return PlanDecision::StaleTerm(view.fold.term().cloned());
    }
    if let Some(hold) = view.fold.held().filter(|_| on(Safeguard::Hold)) {
        return PlanDecision::Held(hold.clone());
    }
    PlanDecision::Propose(view.propose(Body::Plan(Plan { ends: ends.clone() })))
}

/// Decides whether the bounded read is done.
pub fn complete(view: &View<'_>, revision: &Revision) -> CompleteDecision {
    if let Some(plan) = view.fold.plan().filter(|plan| plan.complete.is_some()) {
        return CompleteDecision::Complete(plan.clone());
    }
    if let Some(superseded) = view.superseded() {
        return CompleteDecision::Superseded(superseded);
    }
    if view.term_of(revision).is_none() || view.seat.is_none() {
        return CompleteDecision::StaleTerm(view.fold.term().cloned());
    }
    if let Some(hold) = view.fold.held().filter(|_| on(Safeguard::Hold)) {
        return CompleteDecision::Held(hold.clone());
    }
    match view.fold.check_complete() {
        Ok(()) => CompleteDecision::Propose(view.propose(Body::Complete(Complete {}))),
        Err(why) => CompleteDecision::NotYet(why),
    }
}
