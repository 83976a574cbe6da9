//! One process's copy of the log, as an explicit state machine.
//!
//! It does no I/O: [`Replica::action`] says what to do next, [`Replica::observe`] takes what was seen. The workflow in
//! [`crate::log`] and the model checker drive the same steps. Each safeguard is a small function of its own.

mod step;

use std::sync::Arc;

use bytes::Bytes;

pub use self::step::{Action, Observation, Progress};
use crate::decide::{Proposal, View};
use crate::error::{Damage, ProposeError};
use crate::fold::Fold;
use crate::ids::{Attempt, Incarnation, Millis, Ordinal, Rank, Seq};
use crate::limits::Limits;
use crate::paths::{self, Segment};
use crate::record::{Body, Commit, Slot};
use crate::safeguard::{Safeguard, on};
use crate::snapshot::Snapshot;

/// The ordinal and rank that a process claimed with. Taken at its first claim and kept for its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seat {
    /// The ordinal.
    pub ordinal: Ordinal,
    /// The rank.
    pub rank: Rank,
}

/// A record that this process wrote and that is certainly part of the log: the permit to publish what it intends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Won {
    seq: Seq,
    record: Arc<Slot>,
}

/// One process's copy of the log: what it folded, what of that it must still check, and what it has in flight.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Replica {
    limits: Limits,
    incarnation: Incarnation,
    attempt: Attempt,
    seat: Option<Seat>,
    /// The pod number of the rank in a claim that was sent.
    pod: Option<u64>,
    fold: Fold,
    /// Every slot below was read or won before a check that passed.
    unchecked_from: Seq,
    /// A check is due although nothing was won.
    verify: bool,
    in_flight: Option<InFlight>,
    /// A slot that cannot be believed: litter in a sealed segment, or real damage.
    doubt: Option<Damage>,
    /// What was read since the last passed check may be litter.
    void: bool,
}

/// A record on its way to a slot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct InFlight {
    slot: Seq,
    attempt: Attempt,
    record: Arc<Slot>,
    bytes: Bytes,
    /// The fold with the record.
    after: Box<Fold>,
    phase: Phase,
    /// A put of the bytes was begun and its reply has not come.
    awaited: bool,
    /// A put of the bytes ended without a clear reply: it may have arrived, or may yet.
    unclear: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    /// These bytes may go to the slot; perhaps they went before.
    Send,
    /// The store refused them or did not answer: see who is in the slot.
    Look,
    /// They are in the slot: see that the slot is real.
    Check,
    /// Another's record is in the slot: see that the slot is real, for ours may have been there before it was deleted.
    Rival,
}

impl Replica {
    /// A process that knows the log as far as `fold`.
    pub fn new(incarnation: Incarnation, limits: Limits, fold: Fold) -> Self {
        let unchecked_from = fold.next();
        Self {
            limits,
            incarnation,
            attempt: Attempt(0),
            seat: None,
            pod: None,
            fold,
            unchecked_from,
            verify: false,
            in_flight: None,
            doubt: None,
            void: false,
        }
    }

    /// The log as far as it is known. Without what is in flight.
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    /// What decisions of this process are made from.
    pub fn view(&self) -> View<'_> {
        View {
            fold: &self.fold,
            incarnation: self.incarnation,
            seat: self.seat,
            pod: self.pod,
            segment_slots: self.limits.segment_slots,
        }
    }

    /// True if a record was sent and is not settled: nothing else may be composed, and nothing staged be deleted.
    pub fn in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// True if everything folded is known to be real.
    pub fn is_checked(&self) -> bool {
        !self.void && self.unchecked_from == self.fold.next()
    }

    /// Asks for a check of what was read, before it is acted upon.
    pub fn verify(&mut self) {
        self.verify = true;
    }

    /// The snapshot of what is known; `None` while some of it is unchecked, and for an empty log.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let safe = self.is_checked() || !on(Safeguard::SnapshotCheckedOnly);
        if safe { Snapshot::of(&self.fold) } else { None }
    }

    /// Takes a record to be written to the next slot.
    pub fn propose(&mut self, proposal: Proposal, at: Millis) -> Result<(), ProposeError> {
        if self.action() != Action::Idle {
            return Err(ProposeError::Busy);
        }
        let slot = self.fold.next();
        if proposal.slot() != slot {
            return Err(ProposeError::OtherSlot { proposed: proposal.slot(), next: slot });
        }
        let attempt = self.attempt.next();
        let record = proposal.into_slot(self.incarnation, attempt, at);
        let after = Box::new(self.fold.with(slot, &record)?);
        let bytes = record.encode(&paths::slot(slot))?;
        self.attempt = attempt;
        for entry in &record.entries {
            if let Body::Claim(claim) = &entry.body {
                self.pod = Some(claim.rank.pod);
            }
        }
        let record = Arc::new(record);
        let in_flight =
            InFlight { slot, attempt, record, bytes, after, phase: Phase::Send, awaited: false, unclear: false };
        self.in_flight = Some(in_flight);
        Ok(())
    }

    /// What to do next.
    pub fn action(&self) -> Action {
        if self.void {
            return Action::Reopen;
        }
        let check = Action::CheckSeal { segment: self.segment_to_check() };
        if self.doubt.is_some() {
            return check;
        }
        match &self.in_flight {
            Some(InFlight { phase: Phase::Send, slot, bytes, .. }) => Action::Put { seq: *slot, bytes: bytes.clone() },
            Some(InFlight { phase: Phase::Look, slot, .. }) => Action::Get { seq: *slot },
            Some(InFlight { phase: Phase::Check | Phase::Rival, .. }) => check,
            None if self.verify || self.must_check_before_crossing() => check,
            None => Action::Idle,
        }
    }

    /// To be called before a put is begun, so that one whose reply never comes, because it was dropped, is not forgotten.
    pub fn sending(&mut self) {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.unclear |= in_flight.awaited;
            in_flight.awaited = true;
        }
    }

    /// Takes what was seen after the last action, or, while idle, in the next slot.
    pub fn observe(&mut self, observation: Observation) -> Progress {
        if let (Some(in_flight), Observation::Created | Observation::Exists) = (&mut self.in_flight, &observation) {
            in_flight.awaited = false;
        }
        match observation {
            Observation::Created => self.turn_to(Phase::Check),
            Observation::Exists => self.turn_to(Phase::Look),
            Observation::Unknown => self.unknown_outcome(),
            Observation::Slot(slot) => self.read(&slot),
            Observation::Unreadable(error) => self.doubt(error.into()),
            Observation::NoSlot if self.in_flight.is_some() => self.turn_to(Phase::Send),
            Observation::NoSlot => Progress::Tail,
            Observation::Seal { present } => self.checked(present),
        }
    }

    /// Starts over from a snapshot's fold, or an empty one. Says what was in flight until now.
    pub fn reload(&mut self, fold: Fold) -> Option<Unsettled> {
        let in_flight = self.in_flight.take();
        self.unchecked_from = fold.next();
        self.fold = fold;
        self.verify = false;
        self.doubt = None;
        self.void = false;
        in_flight.map(|in_flight| Unsettled {
            slot: in_flight.slot,
            attempt: in_flight.attempt,
            record: in_flight.record,
        })
    }

    /// What became of a record that was in flight when the log turned out void: its segment was sealed, so it is in the
    /// log as reopened or never will be.
    ///
    /// `None` if it is not, and also if it is but its writer lost its ordinal since (or never had one) and nothing live
    /// refers to what it staged. Either way that may be deleted.
    pub fn settle_after_reload(&mut self, unsettled: Unsettled) -> Option<Won> {
        let known = self.fold.was_decided(self.incarnation, unsettled.attempt);
        // The fold forgets the attempts of a superseded writer, not what its records have yet to publish.
        let needed = unsettled.record.staged().any(|name| self.fold.refers_to(name)) && on(Safeguard::NeededIsDecided);
        let decided = self.fold.next() > unsettled.slot && (known || needed);
        if !decided {
            return None;
        }
        self.learn_seat(&unsettled.record);
        Some(Won { seq: unsettled.slot, record: unsettled.record })
    }

    /// The lowest segment from which something was read since the last check that passed. Seals are put in ascending order,
    /// so if that one is absent, no slot read since was ever deleted, and none is litter.
    fn segment_to_check(&self) -> Segment {
        let own = self.in_flight.as_ref().map_or(self.fold.next(), |in_flight| in_flight.slot);
        Segment::of(if on(Safeguard::LowestSegment) { self.unchecked_from } else { own }, &self.limits)
    }

    /// Reads of one segment are checked before anything is read or composed in the next. So a record is never composed upon
    /// litter of a lower segment and then written where the log is real.
    fn must_check_before_crossing(&self) -> bool {
        let crossed = Segment::of(self.unchecked_from, &self.limits) < Segment::of(self.fold.next(), &self.limits);
        crossed && on(Safeguard::CheckBeforeCrossing) && on(Safeguard::LowestSegment)
    }

    /// Only the same bytes may go to that slot until it is seen occupied: they may have arrived, or may yet.
    fn unknown_outcome(&mut self) -> Progress {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.awaited = false;
            in_flight.unclear = true;
        }
        if on(Safeguard::IdenticalResend) {
            return self.turn_to(Phase::Look);
        }
        self.in_flight = None;
        Progress::Beaten
    }

    fn read(&mut self, slot: &Slot) -> Progress {
        if self.is_own(slot) {
            return self.turn_to(Phase::Check);
        }
        let seq = self.fold.next();
        let fold = self.fold.with(seq, slot).map_err(Damage::from);
        match fold.and_then(|fold| fold.check_segments(&self.limits).map(|()| fold).map_err(Damage::from)) {
            Ok(fold) => self.fold = fold,
            Err(damage) => return self.doubt(damage),
        }
        self.learn_seat(slot);
        match &mut self.in_flight {
            None => Progress::Read,
            Some(in_flight) if in_flight.unclear && on(Safeguard::CheckWhenBeaten) => {
                in_flight.phase = Phase::Rival;
                Progress::Continue
            }
            // Every put of ours was clearly refused: nothing of ours was ever there.
            Some(_) => {
                self.in_flight = None;
                Progress::Beaten
            }
        }
    }

    /// A slot with our incarnation and attempt is our own record: an earlier put of it arrived.
    fn is_own(&self, slot: &Slot) -> bool {
        let own = |in_flight: &InFlight| slot.is_from(self.incarnation, in_flight.attempt);
        self.in_flight.as_ref().is_some_and(own) && on(Safeguard::RecogniseOwn)
    }

    fn checked(&mut self, sealed: bool) -> Progress {
        if sealed && on(Safeguard::SealCheck) {
            self.void = true;
            return Progress::Void;
        }
        if let Some(damage) = &self.doubt {
            return Progress::Damaged(damage.clone());
        }
        self.verify = false;
        let settled = self.in_flight.take_if(|in_flight| matches!(in_flight.phase, Phase::Check | Phase::Rival));
        let progress = match settled {
            None => Progress::Continue,
            Some(InFlight { phase: Phase::Rival, .. }) => Progress::Beaten,
            Some(InFlight { slot: seq, record, after, .. }) => {
                self.fold = *after;
                self.learn_seat(&record);
                Progress::Won(Won { seq, record })
            }
        };
        self.unchecked_from = self.fold.next();
        progress
    }

    /// Litter in a sealed segment need not make sense, so the seal is looked at before damage is reported.
    fn doubt(&mut self, damage: Damage) -> Progress {
        self.doubt = Some(damage);
        Progress::Continue
    }

    fn turn_to(&mut self, phase: Phase) -> Progress {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.phase = phase;
        }
        Progress::Continue
    }

    /// A process knows its own claim when it sees it, also one whose reply it never got.
    fn learn_seat(&mut self, slot: &Slot) {
        let own = slot.entries.iter().filter(|entry| entry.writer.incarnation == self.incarnation);
        for entry in own {
            if let Body::Claim(claim) = &entry.body {
                self.seat = Some(Seat { ordinal: claim.ordinal, rank: claim.rank });
            }
        }
    }
}

/// A record that was in flight when the log turned out void.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unsettled {
    slot: Seq,
    attempt: Attempt,
    record: Arc<Slot>,
}

impl Won {
    /// The slot it is in.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// What it says.
    pub fn record(&self) -> &Slot {
        &self.record
    }

    /// The commit it holds, if it holds one.
    pub fn commit(&self) -> Option<&Commit> {
        self.record.commits().next().map(|(_, commit)| commit)
    }
}
