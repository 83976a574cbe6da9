//! The bounds of the protocol.

/// The numbers that bound the log. Production uses [`Limits::STANDARD`] only: every process on a checkpoint must
/// agree on `segment_slots`, which the log's first record says. Models and simulations use smaller ones, to reach the corners sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limits {
    /// Slots in a segment. Part of the format.
    pub segment_slots: u64,
    /// Slots between two snapshots.
    pub snapshot_every: u64,
    /// Whole segments kept below the newest snapshot, so that `log show` and a rewind find their records.
    pub keep_segments: u64,
    /// Newest snapshots kept.
    pub keep_snapshots: usize,
    /// Slots read at the same time while a long tail is caught up.
    pub read_ahead: u64,
    /// Slots that others may win during one append before it gives the caller a say.
    pub max_collisions: u32,
    /// Times one request is repeated before the store is reported as unavailable.
    pub max_tries: u32,
    /// Times `open` starts over because the log moved on beneath it.
    pub max_reopens: u32,
}

impl Limits {
    /// The numbers of the format and of production.
    pub const STANDARD: Limits = Limits {
        segment_slots: 1000,
        snapshot_every: 100,
        keep_segments: 3,
        keep_snapshots: 2,
        read_ahead: 16,
        max_collisions: 100,
        max_tries: 5,
        max_reopens: 10,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::STANDARD
    }
}

/// Records that may be decided beyond an output's published point.
pub const MAX_UNPUBLISHED: usize = 4;
/// Records of fenced incarnations that may wait for an output's publisher to sweep them up.
pub const MAX_ORPHANED: usize = 64;
/// Savepoints one job may hold. Part of the format: more are a breach.
pub const MAX_SAVEPOINTS: usize = 64;
/// Bytes of one slot.
pub const MAX_SLOT_BYTES: usize = 16 * 1024 * 1024;
/// The newest slot format this version reads, and the one it writes. Raised by any new field, body or variant, also an optional
/// one, and by any other rule of what a record does or may do.
pub const FORMAT: u32 = 1;
