//! Every key under a checkpoint location, built in one place.

use crate::ids::Seq;
use crate::limits::Limits;
use std::fmt;

/// The folder of the log's slots.
pub const LOG: &str = "log";
/// The folder of the snapshots.
pub const SNAPSHOTS: &str = "snapshots";
/// The folder of the seals.
pub const SEALED: &str = "sealed";
/// The object by which start-up probes the store.
pub const PROBE: &str = "probe/put-if-absent";

/// A run of consecutive slots (1,000 in production) that is sealed and deleted as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment(pub u64);

impl Segment {
    /// The segment that holds a slot.
    pub fn of(seq: Seq, limits: &Limits) -> Segment {
        Segment(seq.0 / limits.segment_slots)
    }

    /// The segment's first slot.
    pub fn first(self, limits: &Limits) -> Seq {
        Seq(self.0 * limits.segment_slots)
    }

    /// The segment's slots, in order.
    pub fn slots(self, limits: &Limits) -> impl Iterator<Item = Seq> + use<> {
        let first = self.first(limits).0;
        (first..first + limits.segment_slots).map(Seq)
    }

    /// The segment after this one.
    pub fn next(self) -> Segment {
        Segment(self.0 + 1)
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The key of a slot. Twenty digits hold every `u64`, so the order of keys is the order of slots.
pub fn slot(seq: Seq) -> String {
    format!("{LOG}/{:020}.json", seq.0)
}

/// The key of the snapshot through (and with) a slot.
pub fn snapshot(through: Seq) -> String {
    format!("{SNAPSHOTS}/{:020}.json", through.0)
}

/// The slot through which the snapshot under this key was folded; `None` if the key is no snapshot's.
pub fn snapshot_seq(key: &str) -> Option<Seq> {
    let digits = key.strip_prefix(SNAPSHOTS)?.strip_prefix('/')?.strip_suffix(".json")?;
    let twenty = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    twenty.then(|| digits.parse().ok().map(Seq)).flatten()
}

/// The key of a segment's seal: once it exists, nobody believes a slot of that segment any more.
pub fn seal(segment: Segment) -> String {
    format!("{SEALED}/{:016}", segment.0)
}

/// The key of a state blob with this file name (see [`crate::staged::StagedName`]).
pub fn state(name: &str) -> String {
    format!("state/{name}")
}

/// The key of a staged blob, rows that wait for an ordered sink, with this file name (see
/// [`crate::staged::StagedName`]).
pub fn staged(name: &str) -> String {
    format!("staged/{name}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_numbers_do() {
        let seqs = [0, 9, 10, 999, 1000, 123_456_789, u64::MAX];
        assert!(seqs.windows(2).all(|w| slot(Seq(w[0])) < slot(Seq(w[1]))));
        assert!(seqs.windows(2).all(|w| snapshot(Seq(w[0])) < snapshot(Seq(w[1]))));
        assert_eq!(slot(Seq(42)), "log/00000000000000000042.json");
        assert_eq!(seal(Segment(3)), "sealed/0000000000000003");
    }

    #[test]
    fn a_snapshot_is_known_by_its_key_and_nothing_else_is() {
        assert_eq!(snapshot_seq(&snapshot(Seq(40))), Some(Seq(40)));
        for other in [
            "snapshots/40.json",
            "snapshots/.tmp",
            "log/00000000000000000040.json",
            "snapshots/000000000000000000x0.json",
        ] {
            assert_eq!(snapshot_seq(other), None, "{other}");
        }
    }

    #[test]
    fn a_segment_holds_its_slots_and_no_others() {
        let limits = Limits { segment_slots: 3, ..Limits::STANDARD };
        let slots: Vec<_> = Segment(2).slots(&limits).collect();
        assert_eq!(slots, [Seq(6), Seq(7), Seq(8)]);
        assert!(slots.iter().all(|seq| Segment::of(*seq, &limits) == Segment(2)));
        assert_eq!(Segment::of(Seq(9), &limits), Segment(3));
    }
}
