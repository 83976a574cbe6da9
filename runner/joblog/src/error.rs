//! Faults of the log. Expected outcomes are not among them: those are variants of decisions.

use crate::fold::Violation;
use crate::ids::Seq;
use crate::record::FormatError;
use crate::store::StoreError;

/// A slot of the log that cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Damage {
    /// It breaks an invariant.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// It cannot be read.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// Why a proposal was not even sent: a fault of the program.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ProposeError {
    /// It would break an invariant.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// It cannot be written.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// It was decided for another slot.
    #[error("a proposal for slot {proposed} was made while {next} is next")]
    OtherSlot {
        /// Its slot.
        proposed: Seq,
        /// The next slot.
        next: Seq,
    },
    /// Another one is in flight, or the log must be reopened.
    #[error("a record is in flight, or the log must be reopened, and nothing else may be composed")]
    Busy,
}

/// A fault of the log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The store failed. What is in flight stays so; calling again goes on where this left off.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log holds something that no correct writer wrote.
    #[error("the job log is damaged, or was written by a faulty version: {0}")]
    Damaged(Damage),
    /// The log is sound, but not for this version.
    #[error(transparent)]
    OtherVersion(FormatError),
    /// This process was about to write something wrong. Nothing was sent.
    #[error("this process composed a record that the job log does not allow: {0}")]
    Proposed(#[from] ProposeError),
    /// Others won every slot tried. Calling again is safe.
    #[error("other runners won {collisions} slots in a row; more runners share this log than its store can serve")]
    Contended {
        /// How many.
        collisions: u32,
    },
    /// The log was collected faster than it could be read. Calling again is safe.
    #[error("the job log moved on {times} times while it was being opened")]
    Overtaken {
        /// How often.
        times: u32,
    },
    /// The records asked for are deleted.
    #[error("records before {earliest} are deleted")]
    Gone {
        /// The first record there is.
        earliest: Seq,
    },
}

impl From<Damage> for LogError {
    fn from(damage: Damage) -> Self {
        match damage {
            Damage::Format(error @ (FormatError::Newer { .. } | FormatError::Segments { .. })) => {
                LogError::OtherVersion(error)
            }
            other => LogError::Damaged(other),
        }
    }
}

impl LogError {
    /// True if calling again later may succeed by itself.
    pub fn is_transient(&self) -> bool {
        match self {
            LogError::Store(error) => error.kind.is_transient(),
            LogError::Contended { .. } | LogError::Overtaken { .. } => true,
            LogError::Damaged(_) | LogError::OtherVersion(_) | LogError::Proposed(_) | LogError::Gone { .. } => false,
        }
    }
}
