//! The steps of a replica: what it asks for, what it is told, and what that came to.

use bytes::Bytes;

use crate::error::Damage;
use crate::ids::Seq;
use crate::paths::Segment;
use crate::record::{FormatError, Slot};
use crate::replica::Won;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing: compose a record, or read the next slot.
    Idle,
    /// Put these bytes into the slot if it is empty.
    Put {
        /// The slot.
        seq: Seq,
        /// The bytes.
        bytes: Bytes,
    },
    /// Read the slot.
    Get {
        /// The slot.
        seq: Seq,
    },
    /// See whether the segment is sealed.
    CheckSeal {
        /// The segment.
        segment: Segment,
    },
    /// Start over from the newest snapshot.
    Reopen,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Observation {
    /// The put created the slot.
    Created,
    /// The put was refused.
    Exists,
    /// The put failed: nobody knows what became of it.
    Unknown,
    /// The slot holds this.
    Slot(Box<Slot>),
    /// The slot holds something that cannot be read.
    Unreadable(FormatError),
    /// The slot is empty.
    NoSlot,
    /// The segment is sealed, or is not.
    Seal {
        /// True if it is.
        present: bool,
    },
}

/// What that came to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Progress {
    /// There is more to do: ask for the next action.
    Continue,
    /// The record in flight is part of the log.
    Won(Won),
    /// Another record has the slot; it is folded, and nothing is in flight.
    Beaten,
    /// A slot was folded.
    Read,
    /// There is no further slot.
    Tail,
    /// What was read or won may be litter: start over.
    Void,
    /// The log is damaged.
    Damaged(Damage),
}
