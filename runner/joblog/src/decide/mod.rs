//! Pure decisions: from what the log says to what may be written next.
//!
//! Every expected outcome is a variant of an enum. What may be written is a [`Proposal`], which nothing but a decision can
//! make; [`crate::JobLog::append`] writes nothing else.

mod begin;
mod bounded;
mod claim;
mod commit;
mod hold;
mod note;
mod savepoint;
mod start;
mod start_from;
mod term;

pub use self::begin::{Begin, begin};
pub use self::bounded::{CompleteDecision, PlanDecision, complete, plan};
pub use self::claim::{ClaimDecision, ClaimRequest, candidates, claim};
pub use self::commit::{CommitDecision, commit};
pub use self::hold::{
    EditDecision, HoldDecision, Policy, ReleaseDecision, RewindDecision, RewindRequest, SkipDecision, edit, hold,
    release, retracted, rewind, skip_publish,
};
pub use self::note::{NoteDecision, note};
pub use self::savepoint::{SavepointDecision, delete_savepoint, savepoint};
pub use self::start::{Permission, Start, StartDecision, StartRefusal, start};
pub use self::start_from::{WantedStart, is_start_due};
pub use self::term::{TermDecision, TermRefusal, WantedTerm, term};

use std::fmt;

use crate::fold::{Fold, TermState};
use crate::ids::{Attempt, Generation, Incarnation, Millis, Ordinal, Rank, Revision, Seq};
use crate::record::{Body, Entry, Slot, Writer};
use crate::replica::Seat;
use crate::safeguard::{Safeguard, on};

/// What a decision is made from: the log so far, and who asks.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The log so far.
    pub fold: &'a Fold,
    /// The process that asks.
    pub incarnation: Incarnation,
    /// The ordinal and rank it claimed with; `None` before its first claim, and for a command.
    pub seat: Option<Seat>,
    /// The pod number of the rank in a claim that it sent, whatever became of it: it claims with no other.
    pub pod: Option<u64>,
    /// Slots in a segment, as this process counts.
    pub segment_slots: u64,
}

/// What may be written to the next slot. Only decisions make one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[must_use = "a proposal decides nothing until it is appended"]
pub struct Proposal {
    slot: Seq,
    seat: Option<Seat>,
    entries: Vec<(Option<Generation>, Body)>,
}

/// Another process holds this one's ordinal, or the job has another home: this process stops all work for good.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Superseded {
    /// The ordinal.
    pub ordinal: Ordinal,
    /// The rank this process has, or would have.
    pub rank: Rank,
    /// Who holds the ordinal now, and its rank; `None` if the job has another home and nobody claimed it there yet.
    pub by: Option<(Incarnation, Rank)>,
}

impl<'a> View<'a> {
    /// Whether another process has taken this one's place.
    pub fn superseded(&self) -> Option<Superseded> {
        let Seat { ordinal, rank } = self.seat?;
        let standing = self.fold.standing(ordinal);
        let holds = standing.is_some_and(|standing| standing.incarnation == self.incarnation);
        let home = rank.home == self.fold.home_since();
        if (holds && home) || !on(Safeguard::NoReturn) {
            return None;
        }
        Some(Superseded { ordinal, rank, by: standing.map(|standing| (standing.incarnation, standing.rank)) })
    }

    /// The term, if this process may work in it: it runs the term's revision, and no rewind sent an output elsewhere since
    /// or was made for another revision.
    pub fn term_of(&self, revision: &Revision) -> Option<&'a TermState> {
        let fits = |term: &&TermState| term.revision == *revision || !on(Safeguard::CurrentTerm);
        let over = self.fold.left_output().is_some() || self.fold.awaited_revision().is_some();
        self.fold.term().filter(fits).filter(|_| !over)
    }

    pub(crate) fn generation(&self) -> Option<Generation> {
        self.fold.term().map(|term| term.generation)
    }

    pub(crate) fn propose(&self, body: Body) -> Proposal {
        self.propose_as(self.seat, self.generation(), vec![body])
    }

    pub(crate) fn propose_as(&self, seat: Option<Seat>, generation: Option<Generation>, bodies: Vec<Body>) -> Proposal {
        let entries = bodies.into_iter().map(|body| (generation, body)).collect();
        Proposal { slot: self.fold.next(), seat, entries }
    }
}

impl Proposal {
    /// The slot it was made for.
    pub fn slot(&self) -> Seq {
        self.slot
    }

    /// What it would say.
    pub fn bodies(&self) -> impl Iterator<Item = &Body> {
        self.entries.iter().map(|(_, body)| body)
    }

    /// The record that says it.
    pub(crate) fn into_slot(self, incarnation: Incarnation, attempt: Attempt, at: Millis) -> Slot {
        let writer = Writer {
            incarnation,
            attempt,
            ordinal: self.seat.map(|seat| seat.ordinal),
            rank: self.seat.map(|seat| seat.rank),
        };
        let entries = self.entries.into_iter().map(|(generation, body)| Entry { writer, generation, at, body });
        Slot::new(entries.collect())
    }
}

impl fmt::Display for Superseded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "superseded: this process has rank {} on ordinal {}, ", self.rank, self.ordinal)?;
        match self.by {
            Some((incarnation, rank)) => write!(f, "which incarnation {incarnation} now holds with rank {rank}"),
            None => f.write_str("and the job has another home now"),
        }
    }
}
