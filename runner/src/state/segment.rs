//! Segments: the immutable record batches that an instance is made of, and how rows are gathered from them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, SchemaRef};

use super::error::StateError;

/// The most rows of a segment, and of a batch that leaves the state. A segment is rewritten as a whole, so this
/// bounds what the smallest step of compaction costs.
pub(super) const SEGMENT_ROWS: usize = 32 * 1024;

/// One record batch of an instance: rows of which each is, or was, the newest state of a group.
///
/// The only owner of rows: a segment on disk would be another form of this type.
#[derive(Debug)]
pub(super) struct Segment {
    rows: RecordBatch,
    /// The group of each row.
    groups: Vec<u32>,
    /// How many rows are still their group's newest.
    live: usize,
    bytes: usize,
}

impl Segment {
    /// A segment whose rows are all alive.
    pub(super) fn new(rows: RecordBatch, groups: Vec<u32>) -> Self {
        let bytes = rows.get_array_memory_size() + groups.capacity() * size_of::<u32>() + size_of::<Self>();
        Self { live: rows.num_rows(), rows, groups, bytes }
    }

    /// All its rows, dead ones too.
    pub(super) fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// The group of each row.
    pub(super) fn groups(&self) -> &[u32] {
        &self.groups
    }

    /// How many rows it has.
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    /// How many of them are alive.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Notes that one of its rows was replaced.
    pub(super) fn bury_one(&mut self) {
        self.live = self.live.saturating_sub(1);
    }

    /// The bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Copies rows out of several batches of one schema, in any order.
#[derive(Debug)]
pub(super) struct Gather<'a> {
    schema: SchemaRef,
    sources: Vec<&'a RecordBatch>,
    /// The number of each source, by its address: the same batch is named once.
    numbers: HashMap<usize, usize>,
    /// Each row as (source, row).
    places: Vec<(usize, usize)>,
}

impl<'a> Gather<'a> {
    /// Gathers nothing yet.
    pub(super) fn new(schema: &SchemaRef) -> Self {
        Self { schema: SchemaRef::clone(schema), sources: Vec::new(), numbers: HashMap::new(), places: Vec::new() }
    }

    /// Names a batch to gather from.
    pub(super) fn add_source(&mut self, batch: &'a RecordBatch) -> usize {
        let address = std::ptr::from_ref(batch) as usize;
        *self.numbers.entry(address).or_insert_with(|| {
            self.sources.push(batch);
            self.sources.len() - 1
        })
    }

    /// Asks for a row.
    pub(super) fn add_row(&mut self, source: usize, row: usize) {
        self.places.push((source, row));
    }

    /// Whether no row was asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// All rows in one batch.
    pub(super) fn one(&self) -> Result<RecordBatch, StateError> {
        self.rows(&self.places)
    }

    /// All rows in batches of a bounded size; none is empty.
    pub(super) fn chunks(&self) -> Result<Vec<RecordBatch>, StateError> {
        self.places.chunks(SEGMENT_ROWS).map(|places| self.rows(places)).collect()
    }

    /// These rows in one batch, whose buffers it shares with nothing.
    fn rows(&self, places: &[(usize, usize)]) -> Result<RecordBatch, StateError> {
        if places.is_empty() {
            return Ok(RecordBatch::new_empty(SchemaRef::clone(&self.schema)));
        }
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for column in 0..self.schema.fields().len() {
            let values: Vec<&dyn Array> = self.sources.iter().map(|batch| batch.column(column).as_ref()).collect();
            columns.push(own(interleave(&values, places)?));
        }
        Ok(RecordBatch::try_new(SchemaRef::clone(&self.schema), columns)?)
    }
}

/// Interleaved views still point into the batches they came from, and would keep them in memory: copy what they show.
fn own(column: ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()),
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ => column,
    }
}
