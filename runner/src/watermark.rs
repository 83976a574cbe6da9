//! Watermarks: up to which event time the input is believed complete.
//!
//! Pure: a fold over what epochs recorded. A partition's watermark is its newest event time less the source's delay.
//! A source's is the minimum over its partitions that are not idle, or, with policy `max`, the maximum over all, as
//! in Spark. The job's is the minimum over its sources; a source whose every partition is idle holds nothing back.
//! None of them ever goes back: a partition that wakes up with older rows, or appears later, finds them late.
//!
//! Idle means caught up *and* silent for the source's timeout: silence alone would drop the rows of a partition that
//! lags. Whether a partition is idle is recorded with the epoch, so that a replay needs no clock.
//!
//! A row is late if the watermark at the *start* of its epoch had closed every window it belongs to ([`is_late`]);
//! windows close with the watermark at the epoch's *end*. Event times are milliseconds.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_crds::WatermarkPolicy;
use millrace_joblog::record::{EventTime, PartitionWatermark};
use millrace_joblog::{Millis, Partition, SourceName};

/// Whether a row is late whose last window ends at `end`, in an epoch that started at `watermark`.
pub fn is_late(end: EventTime, watermark: Option<EventTime>) -> bool {
    watermark.is_some_and(|watermark| end <= watermark)
}

/// What one epoch saw of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// The newest event time among its rows, late ones too; absent if it had no row with an event time.
    pub newest: Option<EventTime>,
    /// Whether everything the broker had was read.
    pub caught_up: bool,
    /// For how long no row has come.
    pub silent_for: Duration,
}

/// The watermarks an epoch is decided with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EpochWatermarks {
    /// The job's at the epoch's start: rows are tested against it.
    pub before: Option<EventTime>,
    /// The job's at the epoch's end: windows close at it.
    pub after: Option<EventTime>,
    /// What moved, for the record.
    pub partitions: BTreeMap<Partition, PartitionWatermark>,
}

/// Every partition's watermark and the job's, as of some record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Watermarks {
    sources: BTreeMap<SourceName, Source>,
    job: Option<EventTime>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    delay: i64,
    idle_timeout: Option<Duration>,
    policy: WatermarkPolicy,
    partitions: BTreeMap<Partition, Standing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Standing {
    watermark: Option<EventTime>,
    idle: bool,
}

/// What a source says of the job's watermark.
enum Hold {
    /// Nothing: all of its partitions are idle.
    Nothing,
    /// Not beyond this; without a time, not at all yet.
    At(Option<EventTime>),
}

impl Watermarks {
    /// Without partitions, at `job`: the job's watermark through the record from which the fold goes on. It is part
    /// of what a snapshot must keep, since partitions alone do not tell how far the job had come before one of them
    /// woke up.
    pub fn new(job: Option<EventTime>) -> Self {
        Self { sources: BTreeMap::new(), job }
    }

    /// Adds a source that has an event time. It holds the job's watermark back until its partitions say otherwise.
    pub fn add_source(&mut self, name: SourceName, event_time: &millrace_crds::EventTime) {
        let source = Source {
            delay: i64::try_from(event_time.watermark_delay.as_millis()).unwrap_or(i64::MAX),
            idle_timeout: event_time.idle_timeout,
            policy: event_time.policy,
            partitions: BTreeMap::new(),
        };
        self.sources.insert(name, source);
    }

    /// Adds a partition as the log has it. One of a source without event time is of no concern.
    pub fn add_partition(&mut self, partition: Partition, watermark: Option<EventTime>, idle: bool) {
        if let Some(source) = self.sources.get_mut(&partition.source) {
            source.partitions.insert(partition, Standing { watermark, idle });
        }
    }

    /// The job's watermark.
    pub fn job(&self) -> Option<EventTime> {
        self.job
    }

    /// A partition's watermark.
    pub fn of(&self, partition: &Partition) -> Option<EventTime> {
        self.sources.get(&partition.source)?.partitions.get(partition)?.watermark
    }

    /// The watermarks of an epoch that saw this; nothing is changed until its record is [applied](Self::apply).
    /// Partitions that are not in `seen` stay as they are.
    pub fn advance(&self, seen: &BTreeMap<Partition, Seen>) -> EpochWatermarks {
        let mut partitions = BTreeMap::new();
        for (partition, seen) in seen {
            let Some(source) = self.sources.get(&partition.source) else { continue };
            let standing = source.partitions.get(partition).copied().unwrap_or_default();
            let moved = source.moved(standing, seen);
            if moved.before != moved.after || moved.was_idle != moved.idle {
                partitions.insert(partition.clone(), moved);
            }
        }
        let mut after = self.clone();
        after.apply(&partitions);
        EpochWatermarks { before: self.job, after: after.job, partitions }
    }

    /// Takes on what a record says moved: this runner's or another's.
    pub fn apply(&mut self, moved: &BTreeMap<Partition, PartitionWatermark>) {
        for (partition, moved) in moved {
            self.add_partition(partition.clone(), moved.after, moved.idle);
        }
        let mut lowest: Option<EventTime> = None;
        for source in self.sources.values() {
            match source.hold() {
                Hold::Nothing => {}
                Hold::At(None) => return,
                Hold::At(Some(watermark)) => lowest = Some(lowest.map_or(watermark, |lowest| lowest.min(watermark))),
            }
        }
        // Never back; and where every source is idle, no further.
        self.job = self.job.max(lowest);
    }
}

impl Source {
    fn moved(&self, standing: Standing, seen: &Seen) -> PartitionWatermark {
        let newest = seen.newest.map(|newest| Millis(newest.0.saturating_sub(self.delay)));
        let is_silent = self.idle_timeout.is_some_and(|timeout| seen.silent_for >= timeout);
        PartitionWatermark {
            before: standing.watermark,
            after: standing.watermark.max(newest),
            was_idle: standing.idle,
            idle: seen.newest.is_none() && seen.caught_up && is_silent,
        }
    }

    fn hold(&self) -> Hold {
        let standings = || self.partitions.values();
        if !self.partitions.is_empty() && standings().all(|standing| standing.idle) {
            return Hold::Nothing;
        }
        Hold::At(match self.policy {
            // A partition without a row yet is lower than any time.
            WatermarkPolicy::Min => {
                standings().filter(|standing| !standing.idle).map(|standing| standing.watermark).min().flatten()
            }
            WatermarkPolicy::Max => standings().map(|standing| standing.watermark).max().flatten(),
        })
    }
}

#[cfg(test)]
#[path = "watermark_tests.rs"]
mod tests;
