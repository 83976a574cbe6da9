//! What flows between the stages: raw messages in, Arrow record batches on.

use crate::ids::{Offset, Partition};

/// One Kafka message, borrowed from the memory it was received into.
#[derive(Debug, Clone, Copy)]
pub struct RawMessage<'a> {
    /// Its offset in the partition.
    pub offset: Offset,
    /// Its timestamp in milliseconds since the epoch, if the broker gave one.
    pub timestamp: Option<i64>,
    /// The key; `None` is a null key, which is not an empty one.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub payload: Option<&'a [u8]>,
}

/// One header of a message: its name and value (`None` is null).
pub type Header = (String, Option<Vec<u8>>);

/// Messages of one partition in offset order, as the source received them. Offsets rise but need not be dense:
/// compaction and transaction markers leave gaps.
pub trait Messages: Send + Sync {
    /// How many messages there are.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The message at `index`, without a copy.
    fn message(&self, index: usize) -> RawMessage<'_>;
    /// The headers of the message at `index`, copied; only asked for when a query reads `_headers`.
    fn headers(&self, index: usize) -> Vec<Header>;
}

/// What one read of one partition gave.
pub struct Fetched {
    /// Where it was read.
    pub partition: Partition,
    /// The messages; empty when only the position moved (past a transaction marker, say).
    pub messages: Box<dyn Messages>,
    /// The position after this read: everything below it was delivered or is not for us. Never below the last
    /// message's offset + 1.
    pub position: Offset,
    /// Whether the position was the partition's end when it was read.
    pub at_end: bool,
    /// Bytes of keys and values.
    pub bytes: usize,
}
