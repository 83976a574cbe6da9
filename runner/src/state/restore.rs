//! Bringing state back from its blobs.

use arrow::array::{BooleanArray, RecordBatch};
use millrace_joblog::record::EventTime;

use super::blob::{self, Layout};
use super::bucket::BucketSet;
use super::error::StateError;
use super::keyed::{KeyedState, StateSpec};
use super::segment::Gather;

impl KeyedState {
    /// The state of `buckets` as of `watermark`, from blobs in the order they were written: bases and the deltas upon
    /// them. Where several blobs have a group, the last one's row is its state; windows that `watermark` has closed are
    /// left out.
    ///
    /// # Errors
    /// A blob that is damaged or of something else; above the memory limit.
    pub fn restore<'a>(
        spec: StateSpec,
        blobs: impl IntoIterator<Item = &'a [u8]>,
        buckets: &BucketSet,
        watermark: Option<EventTime>,
    ) -> Result<Self, StateError> {
        let mut state = Self::new(spec)?;
        for bytes in blobs {
            let layout = blob::open(bytes)?;
            for (section, range) in layout.sections_of(buckets) {
                let section_bytes = &bytes[range.start as usize..range.end as usize];
                state.load(&layout, section, section_bytes, buckets, watermark)?;
            }
        }
        state.watermark = state.watermark.max(watermark);
        Ok(state)
    }

    /// Takes over the rows of `buckets` from one section of a blob, for a caller that reads by ranges or takes on
    /// buckets while it works. The blobs of one bucket are loaded in the order they were written. What is loaded
    /// does not count as changed.
    ///
    /// # Errors
    /// A blob that is damaged or of something else; above the memory limit.
    pub fn load(
        &mut self,
        layout: &Layout,
        section: usize,
        bytes: &[u8],
        buckets: &BucketSet,
        watermark: Option<EventTime>,
    ) -> Result<(), StateError> {
        layout.expect(&self.spec.stage, &self.spec.shape())?;
        self.watermark = self.watermark.max(watermark);
        let batches = layout.decode(section, bytes)?;
        let counts = layout.header.sections.get(section).map_or(&[][..], |section| &section.buckets);
        let mut of_rows = counts.iter().flat_map(|(bucket, rows)| std::iter::repeat_n(*bucket, *rows as usize));
        for batch in batches {
            let of_rows: Vec<u8> = of_rows.by_ref().take(batch.num_rows()).collect();
            let (rows, of_rows) = self.wanted(batch, &of_rows, buckets)?;
            if rows.num_rows() > 0 {
                self.append_rows(&rows, &of_rows)?;
            }
        }
        Ok(())
    }

    /// The rows of `buckets` in windows that are open, in memory of their own: what the reader gives shares one buffer.
    fn wanted(
        &self,
        batch: RecordBatch,
        of_rows: &[u8],
        buckets: &BucketSet,
    ) -> Result<(RecordBatch, Vec<u8>), StateError> {
        let batch = self.spec.aggregation.fit(batch)?;
        let late: Option<BooleanArray> = self.late_rows(&batch, self.watermark)?;
        let mut gather = Gather::new(self.schema());
        let source = gather.add_source(&batch);
        let mut kept = Vec::with_capacity(of_rows.len());
        for (row, bucket) in of_rows.iter().enumerate() {
            if buckets.contains(*bucket) && !late.as_ref().is_some_and(|late| late.value(row)) {
                gather.add_row(source, row);
                kept.push(*bucket);
            }
        }
        Ok((gather.one()?, kept))
    }
}
