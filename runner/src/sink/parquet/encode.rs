//! Rows to Parquet bytes: the open files of one epoch, in memory, without I/O.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use tokio::time::Instant;

use super::partition::{PartitionError, Partitioner};
use super::table::StoredTable;

/// Rows encoded between two looks at the limits.
const SLICE_ROWS: usize = 16_384;

/// Encoded bytes are handed on in pieces of this size.
const CHUNK_BYTES: usize = 256 * 1024;

/// When files and row groups end.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// A file is closed once it holds about this many bytes.
    pub(super) file_bytes: u64,
    /// A file is closed once it has been open for this long.
    pub(super) file_age: Option<Duration>,
    /// Files open at once; opening another closes the least recently used.
    pub(super) open_files: usize,
    /// Memory of all open files, with what is encoded but does not fill a part yet; above it row groups end early, and
    /// then files.
    pub(super) memory_bytes: usize,
    /// The size of a part of an upload; what is encoded waits until it fills one.
    pub(super) part_bytes: usize,
}

/// What encoding gave for one file.
#[derive(Debug)]
pub(super) struct Encoded {
    /// The file's number within the epoch.
    pub(super) number: u64,
    /// Bytes to append to it, in order.
    pub(super) chunks: Vec<Bytes>,
    /// Set once: with these bytes the file is complete.
    pub(super) closed: Option<ClosedFile>,
}

/// What is known of a complete file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClosedFile {
    /// Its partition folder; empty for none.
    pub(super) partition: String,
    /// Its rows.
    pub(super) rows: u64,
    /// Its bytes.
    pub(super) bytes: u64,
}

/// Why rows could not be encoded.
#[derive(Debug, thiserror::Error)]
pub(super) enum EncodeError {
    /// A row that has no folder.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// Batches that do not fit the table.
    #[error("rows do not fit the output's schema: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// The library's.
    #[error("rows cannot be encoded as Parquet: {0}")]
    Parquet(#[from] ParquetError),
}

/// The open files of an epoch.
pub(super) struct Encoder {
    table: StoredTable,
    partitioner: Partitioner,
    properties: WriterProperties,
    limits: Limits,
    /// By partition folder.
    open: HashMap<String, OpenFile>,
    /// The number of the next file.
    next: u64,
    /// Counts uses, for the least recent one.
    uses: u64,
}

struct OpenFile {
    number: u64,
    writer: ArrowWriter<Chunks>,
    opened: Instant,
    last_use: u64,
    rows: u64,
    /// Bytes handed on so far.
    handed_on: u64,
}

impl Encoder {
    pub(super) fn new(
        table: StoredTable,
        partitioner: Partitioner,
        properties: WriterProperties,
        limits: Limits,
    ) -> Self {
        Self { table, partitioner, properties, limits, open: HashMap::new(), next: 0, uses: 0 }
    }

    /// Bytes held for open files: unfinished row groups, and nothing that was handed on.
    pub(super) fn memory(&self) -> usize {
        self.open.values().map(|file| file.writer.memory_size()).sum()
    }

    /// Encodes `batch` and returns what became ready; `now` is compared with the files' ages.
    pub(super) fn write(&mut self, batch: RecordBatch, now: Instant) -> Result<Vec<Encoded>, EncodeError> {
        let mut ready = Vec::new();
        for (partition, rows) in self.partitioner.split(batch)? {
            let rows = self.table.project(&rows)?;
            for start in (0..rows.num_rows()).step_by(SLICE_ROWS) {
                let slice = rows.slice(start, SLICE_ROWS.min(rows.num_rows() - start));
                self.write_slice(&partition, &slice, now, &mut ready)?;
            }
        }
        self.close_aged(now, &mut ready)?;
        Ok(ready)
    }

    /// Closes every file, in the order of their numbers.
    pub(super) fn finish(&mut self) -> Result<Vec<Encoded>, EncodeError> {
        let mut ready = Vec::new();
        for (partition, file) in self.open.drain() {
            ready.push(file.close(partition)?);
        }
        ready.sort_by_key(|encoded| encoded.number);
        Ok(ready)
    }

    fn write_slice(
        &mut self,
        partition: &str,
        rows: &RecordBatch,
        now: Instant,
        ready: &mut Vec<Encoded>,
    ) -> Result<(), EncodeError> {
        if !self.open.contains_key(partition) {
            self.make_room(ready)?;
            let file = self.open_file(now)?;
            self.open.insert(partition.to_owned(), file);
        }
        self.uses += 1;
        let Some(file) = self.open.get_mut(partition) else { return Ok(()) };
        file.last_use = self.uses;
        file.writer.write(rows)?;
        file.rows += rows.num_rows() as u64;
        if file.bytes() >= self.limits.file_bytes {
            return self.close(partition, ready);
        }
        if let Some(encoded) = file.hand_on()? {
            ready.push(encoded);
        }
        self.keep_within_memory(ready)
    }

    fn open_file(&mut self, now: Instant) -> Result<OpenFile, EncodeError> {
        let schema = Arc::clone(self.table.schema());
        let writer = ArrowWriter::try_new(Chunks::default(), schema, Some(self.properties.clone()))?;
        let number = self.next;
        self.next += 1;
        Ok(OpenFile { number, writer, opened: now, last_use: 0, rows: 0, handed_on: 0 })
    }

    fn make_room(&mut self, ready: &mut Vec<Encoded>) -> Result<(), EncodeError> {
        while self.open.len() >= self.limits.open_files.max(1) {
            let oldest = self.open.iter().min_by_key(|(_, file)| file.last_use).map(|(folder, _)| folder.clone());
            let Some(folder) = oldest else { break };
            self.close(&folder, ready)?;
        }
        Ok(())
    }

    /// While the open files hold too much, ends the row group of the one that holds most, which is small once encoded;
    /// or closes it, where most of what it holds is encoded already.
    fn keep_within_memory(&mut self, ready: &mut Vec<Encoded>) -> Result<(), EncodeError> {
        let part_bytes = self.limits.part_bytes;
        loop {
            let total: usize = self.open.values().map(|file| file.held(part_bytes)).sum();
            // A single file is bounded by its row group and one part.
            if total <= self.limits.memory_bytes || self.open.len() < 2 {
                return Ok(());
            }
            let largest = self.open.iter_mut().max_by_key(|(_, file)| file.held(part_bytes));
            let Some((folder, file)) = largest else { return Ok(()) };
            if file.writer.memory_size() > file.waiting(part_bytes) {
                file.writer.flush()?;
                ready.extend(file.hand_on()?);
            } else {
                let folder = folder.clone();
                self.close(&folder, ready)?;
            }
        }
    }

    fn close_aged(&mut self, now: Instant, ready: &mut Vec<Encoded>) -> Result<(), EncodeError> {
        let Some(age) = self.limits.file_age else { return Ok(()) };
        let aged = |file: &OpenFile| now.saturating_duration_since(file.opened) >= age;
        let folders: Vec<String> =
            self.open.iter().filter(|(_, file)| aged(file)).map(|(folder, _)| folder.clone()).collect();
        for folder in folders {
            self.close(&folder, ready)?;
        }
        Ok(())
    }

    fn close(&mut self, partition: &str, ready: &mut Vec<Encoded>) -> Result<(), EncodeError> {
        if let Some((partition, file)) = self.open.remove_entry(partition) {
            ready.push(file.close(partition)?);
        }
        Ok(())
    }
}

impl OpenFile {
    /// About how large the file would be if it were closed now.
    fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Memory held for it: its unfinished row group, and the bytes that wait for their part to fill.
    fn held(&self, part_bytes: usize) -> usize {
        self.writer.memory_size() + self.waiting(part_bytes)
    }

    fn waiting(&self, part_bytes: usize) -> usize {
        (self.handed_on % part_bytes.max(1) as u64) as usize
    }

    /// What a finished row group left to hand on.
    fn hand_on(&mut self) -> Result<Option<Encoded>, EncodeError> {
        if self.writer.bytes_written() as u64 == self.handed_on {
            return Ok(None);
        }
        // The writer holds a few kilobytes of its own back until it is told.
        self.writer.sync().map_err(ParquetError::from)?;
        let chunks = self.writer.inner_mut().take();
        self.handed_on += chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        Ok(Some(Encoded { number: self.number, chunks, closed: None }))
    }

    fn close(self, partition: String) -> Result<Encoded, EncodeError> {
        let mut sink = self.writer.into_inner()?;
        let chunks = sink.take();
        let bytes = self.handed_on + chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        let closed = Some(ClosedFile { partition, rows: self.rows, bytes });
        Ok(Encoded { number: self.number, chunks, closed })
    }
}

/// Collects written bytes in pieces of one size, so that no buffer grows by doubling.
#[derive(Default)]
struct Chunks {
    full: Vec<Bytes>,
    current: Vec<u8>,
}

impl Chunks {
    fn take(&mut self) -> Vec<Bytes> {
        let mut chunks = std::mem::take(&mut self.full);
        if !self.current.is_empty() {
            chunks.push(Bytes::from(std::mem::take(&mut self.current)));
        }
        chunks
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK_BYTES - self.current.len();
        let taken = room.min(bytes.len());
        let (now, _) = bytes.split_at(taken);
        self.current.extend_from_slice(now);
        if self.current.len() == CHUNK_BYTES {
            self.full.push(Bytes::from(std::mem::take(&mut self.current)));
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
