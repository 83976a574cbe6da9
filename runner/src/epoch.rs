//! An epoch while it is open: what was read, and the files its rows went into.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use tokio::time::Instant;

use crate::batch::Fetched;
use crate::ids::{Offset, Partition, Range};
use crate::output::{OutputSlot, OutputWriter, Staged};
use crate::sink::{EpochName, SinkError};

/// What was read of one source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages.
    pub rows: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Messages that did not decode.
    pub bad: u64,
}

/// The rows between two commits.
pub struct Epoch {
    name: EpochName,
    /// When it was opened.
    pub opened: Instant,
    /// The wall-clock time that processing-time functions see, in milliseconds: one for the whole epoch.
    pub batch_time: i64,
    ranges: BTreeMap<Partition, Range>,
    counts: BTreeMap<String, Counts>,
    writers: BTreeMap<usize, OutputWriter>,
}

/// The offsets of a fetch do not continue where the epoch stands: rows were skipped or would be read twice.
#[derive(Debug, thiserror::Error)]
#[error("offsets of {partition} are not a chain: read up to {expected}, then a fetch ending at {found}")]
pub struct BrokenChain {
    /// Where.
    pub partition: Partition,
    /// The position of the epoch.
    pub expected: i64,
    /// The position after the fetch.
    pub found: i64,
}

impl Epoch {
    /// Opens an epoch that continues at `starts`, one entry for each partition that may be read.
    pub fn open(name: EpochName, batch_time: i64, starts: &BTreeMap<Partition, Offset>) -> Self {
        let ranges = starts.iter().map(|(partition, at)| (partition.clone(), Range { from: *at, to: *at })).collect();
        Self { name, opened: Instant::now(), batch_time, ranges, counts: BTreeMap::new(), writers: BTreeMap::new() }
    }

    /// An epoch that reads nothing: what stands in for one while there is nothing to read.
    pub fn closed_to_all() -> Self {
        let name = EpochName { job_uid: String::new(), claim_seq: 0, incarnation: String::new(), epoch: 0 };
        Self::open(name, 0, &BTreeMap::new())
    }

    /// Whether it is [`Epoch::closed_to_all`], which has no name to stage anything under.
    pub fn is_stand_in(&self) -> bool {
        self.name.incarnation.is_empty()
    }

    /// Notes that a fetch belongs to this epoch, before its rows are looked at.
    ///
    /// # Errors
    /// The fetch begins below the epoch's position, ends below it, or is of a partition that is not ours.
    pub fn advance(&mut self, fetched: &Fetched) -> Result<(), BrokenChain> {
        let broken =
            |expected| BrokenChain { partition: fetched.partition.clone(), expected, found: fetched.position.0 };
        let range = self.ranges.get_mut(&fetched.partition).ok_or_else(|| broken(-1))?;
        let messages = &fetched.messages;
        let first = if messages.is_empty() { fetched.position } else { messages.message(0).offset };
        if first < range.to || fetched.position < range.to {
            return Err(broken(range.to.0));
        }
        range.to = fetched.position;
        let counts = self.counts.entry(fetched.partition.source.to_string()).or_default();
        counts.rows += messages.len() as u64;
        counts.bytes += fetched.bytes as u64;
        Ok(())
    }

    /// Counts messages that did not decode.
    pub fn count_bad(&mut self, source: &str, bad: u64) {
        self.counts.entry(source.to_owned()).or_default().bad += bad;
    }

    /// Adds rows to an output's files.
    ///
    /// # Errors
    /// The sink's.
    pub async fn write(&mut self, index: usize, output: &OutputSlot, batch: RecordBatch) -> Result<(), SinkError> {
        let writer = match self.writers.entry(index) {
            std::collections::btree_map::Entry::Occupied(writer) => writer.into_mut(),
            std::collections::btree_map::Entry::Vacant(slot) => slot.insert(output.open(self.name.clone())),
        };
        writer.write(batch).await
    }

    /// Messages read so far.
    pub fn rows(&self) -> u64 {
        self.counts.values().map(|counts| counts.rows).sum()
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.counts.values().map(|counts| counts.bytes).sum()
    }

    /// The position in every partition.
    pub fn positions(&self) -> BTreeMap<Partition, Offset> {
        self.ranges.iter().map(|(partition, range)| (partition.clone(), range.to)).collect()
    }

    /// Reads more partitions from here on.
    pub fn extend(&mut self, starts: &BTreeMap<Partition, Offset>) {
        let ranges = starts.iter().map(|(partition, at)| (partition.clone(), Range { from: *at, to: *at }));
        self.ranges.extend(ranges);
    }

    /// Whether any output got rows.
    pub fn has_files(&self) -> bool {
        !self.writers.is_empty()
    }

    /// Whether any position moved.
    pub fn moved(&self) -> bool {
        self.ranges.values().any(|range| range.to > range.from)
    }

    /// Ends the reading; the files are finished by [`ClosedEpoch::stage`].
    pub fn close(self) -> ClosedEpoch {
        let ranges = self.ranges.into_iter().filter(|(_, range)| range.to > range.from).collect();
        ClosedEpoch {
            name: self.name,
            opened: self.opened,
            closed: Instant::now(),
            batch_time: self.batch_time,
            ranges,
            counts: self.counts,
            writers: self.writers,
        }
    }

    /// Gives the epoch up: its rows will be read again.
    pub async fn abort(self) {
        abort(self.writers).await;
    }
}

/// An epoch whose rows are all in its writers.
pub struct ClosedEpoch {
    /// Names its staged objects.
    pub name: EpochName,
    /// When it was opened.
    pub opened: Instant,
    /// When it was closed.
    pub closed: Instant,
    /// Its batch time in milliseconds.
    pub batch_time: i64,
    /// The ranges it read, without empty ones.
    pub ranges: BTreeMap<Partition, Range>,
    /// What it read, by source.
    pub counts: BTreeMap<String, Counts>,
    writers: BTreeMap<usize, OutputWriter>,
}

impl ClosedEpoch {
    /// Finishes every file, all outputs at once. After this the epoch can be decided.
    ///
    /// # Errors
    /// The first sink that failed; what the others staged is left to the collector.
    pub async fn stage(&mut self) -> Result<BTreeMap<usize, Staged>, SinkError> {
        let writers = std::mem::take(&mut self.writers);
        let finishing = writers.into_iter().map(|(index, writer)| async move { Ok((index, writer.finish().await?)) });
        let finished = futures::future::join_all(finishing).await;
        finished.into_iter().collect()
    }

    /// Gives the epoch up.
    pub async fn abort(self) {
        abort(self.writers).await;
    }
}

async fn abort(writers: BTreeMap<usize, OutputWriter>) {
    futures::future::join_all(writers.into_values().map(|writer| writer.abort())).await;
}
