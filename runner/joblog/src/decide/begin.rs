//! Starting in one slot: home, term and first claim together, so that a start costs one round trip.

use crate::decide::{
    ClaimDecision, ClaimRequest, Proposal, Start, StartDecision, StartRefusal, TermDecision, View, WantedTerm, claim,
    start, term,
};
use crate::fold::Fold;
use crate::ids::{Attempt, Millis};
use crate::task::Task;

/// How a process starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Begin {
    /// It owns these tasks, once this is written.
    Propose {
        /// What to write.
        proposal: Proposal,
        /// The tasks it takes over. May be empty: then only the home or the term is new.
        tasks: Vec<Task>,
        /// Tasks that their owner may still release.
        waiting: Vec<Task>,
    },
    /// The log is another's.
    Refused(StartRefusal),
    /// The division wanted is refused, or this process has been superseded: never `Current` or `Propose`.
    Term(TermDecision),
    /// There is nothing to claim, or this process may not: never `Propose`.
    Claim(ClaimDecision),
}

/// Decides home, term and first claim in one record. A term that is [`TermDecision::Behind`] is no obstacle here: the
/// claim is then made in the log's term, or refused as stale.
pub fn begin(view: &View<'_>, home: &Start, wanted: &WantedTerm, request: &ClaimRequest) -> Begin {
    let mut draft = Draft { fold: view.fold.clone(), proposal: None };
    match start(view, home) {
        StartDecision::Ready => {}
        StartDecision::Propose(proposal) => draft.add(view, proposal),
        StartDecision::Refused(refusal) => return Begin::Refused(refusal),
    }
    match term(&draft.view(view), wanted) {
        TermDecision::Current | TermDecision::Behind(_) => {}
        TermDecision::Propose(proposal) => draft.add(view, proposal),
        other => return Begin::Term(other),
    }
    match (claim(&draft.view(view), request), draft.proposal.take()) {
        (ClaimDecision::Propose { proposal, tasks, waiting }, before) => {
            let proposal = match before {
                Some(before) => joined(before, proposal),
                None => proposal,
            };
            Begin::Propose { proposal, tasks, waiting }
        }
        (ClaimDecision::Nothing { waiting }, Some(proposal)) => Begin::Propose { proposal, tasks: Vec::new(), waiting },
        (ClaimDecision::NotPlaced(_), Some(proposal)) => {
            Begin::Propose { proposal, tasks: Vec::new(), waiting: Vec::new() }
        }
        (other, _) => Begin::Claim(other),
    }
}

/// The log as it would be with what is proposed so far.
struct Draft {
    fold: Fold,
    proposal: Option<Proposal>,
}

impl Draft {
    fn view<'a>(&'a self, view: &View<'_>) -> View<'a> {
        View { fold: &self.fold, ..*view }
    }

    fn add(&mut self, view: &View<'_>, proposal: Proposal) {
        let seq = proposal.slot();
        let before = self.proposal.as_ref().map_or(0, |before| before.entries.len());
        // Later than any attempt before: only the check of the finished record uses the real one.
        let slot = proposal.clone().into_slot(view.incarnation, Attempt(u64::MAX), Millis(0));
        for (index, entry) in slot.entries.iter().enumerate() {
            if self.fold.apply_entry(seq, before + index, entry).is_err() {
                break; // the finished record is checked once more before it is sent, and fails there
            }
        }
        self.proposal = Some(match self.proposal.take() {
            Some(before) => joined(before, proposal),
            None => proposal,
        });
    }
}

fn joined(mut first: Proposal, second: Proposal) -> Proposal {
    first.entries.extend(second.entries);
    first.seat = second.seat.or(first.seat);
    first
}
