//! A snapshot: the fold through a slot, so that a start need not read the log from its beginning.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::fold::Fold;
use crate::ids::Seq;
use crate::limits::FORMAT;
use crate::paths;
use crate::record::{FormatError, decode, encode};

/// The fold through a slot. Changes no meaning: it may always be left out and the records read instead.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Snapshot {
    format: u32,
    through: Seq,
    fold: Fold,
}

impl Snapshot {
    /// The snapshot of a fold; `None` for an empty log.
    pub(crate) fn of(fold: &Fold) -> Option<Self> {
        let through = fold.next().previous()?;
        Some(Self { format: FORMAT, through, fold: fold.clone() })
    }

    /// The last slot it holds.
    pub fn through(&self) -> Seq {
        self.through
    }

    /// The fold.
    pub fn into_fold(self) -> Fold {
        self.fold
    }

    /// The key it goes under.
    pub fn key(&self) -> String {
        paths::snapshot(self.through)
    }

    /// The bytes that go there.
    pub fn encode(&self) -> Result<Bytes, FormatError> {
        encode(self, &self.key())
    }

    /// Reads the bytes found under `key`.
    pub fn decode(key: &str, bytes: &[u8]) -> Result<Self, FormatError> {
        let snapshot: Snapshot = decode(key, bytes)?;
        let named = paths::snapshot_seq(key) == Some(snapshot.through);
        if !named || snapshot.fold.next().previous() != Some(snapshot.through) {
            let reason = format!("it says that it holds the log through {}", snapshot.through);
            return Err(FormatError::Unreadable { key: key.to_owned(), reason });
        }
        Ok(snapshot)
    }
}
