//! Taking state out for a checkpoint: what changed, or everything.

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, SchemaRef};

use super::blob::{self, BlobError, Closings, Header, Kind, SectionRows, Shape};
use super::bucket::{BUCKETS, BucketSet};
use super::error::StateError;
use super::instance::Instance;
use super::keyed::{KeyedState, StateSpec};
use super::schema::describe;
use super::segment::Gather;
use super::window::ticks;

/// The rows a section has, about, before buckets are given sections of their own.
const SECTION_ROWS: usize = 4 * 1024;

/// State taken out, not yet written. It shares nothing that changes with the state it is of: it can be encoded on
/// another thread while the state goes on.
#[derive(Debug)]
pub struct Snapshot {
    header: Header,
    schema: SchemaRef,
    sections: Vec<SectionRows>,
}

impl KeyedState {
    /// The groups changed since the last checkpoint; from now on changes count from here. Costs as much as they are.
    ///
    /// # Errors
    /// A fault of Arrow.
    pub fn checkpoint(&mut self) -> Result<Snapshot, StateError> {
        let snapshot = self.snapshot(Kind::Delta, |instance| instance.changed().collect())?;
        self.instances.values_mut().for_each(Instance::forget_changes);
        Ok(snapshot)
    }

    /// All groups of `buckets`; what counts as changed does not change. Costs as much as they are: write the buckets'
    /// bases in turns, a few per epoch.
    ///
    /// # Errors
    /// A fault of Arrow.
    pub fn base(&self, buckets: &BucketSet) -> Result<Snapshot, StateError> {
        self.snapshot(Kind::Base, |instance| instance.groups_in(buckets).collect())
    }

    fn snapshot(&self, kind: Kind, of: impl Fn(&Instance) -> Vec<usize>) -> Result<Snapshot, StateError> {
        let instances: Vec<&Instance> = self.instances.values().collect();
        // By bucket, the groups as (instance, group).
        let mut groups: Vec<Vec<(usize, usize)>> = vec![Vec::new(); BUCKETS];
        for (number, instance) in instances.iter().enumerate() {
            for group in of(instance) {
                groups[usize::from(instance.bucket(group))].push((number, group));
            }
        }
        let rows: usize = groups.iter().map(Vec::len).sum();
        let parts = (rows / SECTION_ROWS).next_power_of_two().clamp(1, BUCKETS);
        let mut sections = Vec::new();
        for part in 0..parts {
            let mut gather = Gather::new(self.schema());
            let mut buckets = Vec::new();
            for bucket in (part..BUCKETS).step_by(parts).filter(|bucket| !groups[*bucket].is_empty()) {
                buckets.push((bucket as u8, groups[bucket].len() as u32));
                for run in groups[bucket].chunk_by(|a, b| a.0 == b.0) {
                    instances[run[0].0].gather_groups(run.iter().map(|(_, group)| *group), &mut gather);
                }
            }
            if !buckets.is_empty() {
                sections.push(SectionRows { buckets, rows: gather.chunks()? });
            }
        }
        let shape = self.spec.shape();
        let header = Header {
            kind,
            stage: self.spec.stage.clone(),
            fingerprint: shape.fingerprint(),
            shape,
            watermark: self.watermark.map(|watermark| watermark.0),
            closings: self.closings(&sections)?,
            rows: rows as u64,
            sections: Vec::new(),
        };
        Ok(Snapshot { header, schema: SchemaRef::clone(self.schema()), sections })
    }

    /// When the groups of `sections` close, if they all do.
    fn closings(&self, sections: &[SectionRows]) -> Result<Option<Closings>, StateError> {
        let Some(window) = self.spec.window else { return Ok(None) };
        let mut closings: Option<Closings> = None;
        for batch in sections.iter().flat_map(|section| &section.rows) {
            let ends = ticks(batch.column(window.end))?;
            for end in ends.as_primitive::<Int64Type>() {
                let Some(end) = end else { return Ok(None) };
                let so_far = closings.unwrap_or(Closings { first: end, last: end });
                closings = Some(Closings { first: so_far.first.min(end), last: so_far.last.max(end) });
            }
        }
        Ok(closings)
    }
}

impl StateSpec {
    /// What its blobs must be of.
    pub fn shape(&self) -> Shape {
        Shape {
            columns: describe(self.aggregation.schema()),
            group_columns: self.aggregation.group_columns(),
            window_start: self.window.and_then(|window| window.start),
            window_end: self.window.map(|window| window.end),
            hash: blob::hash_name(),
        }
    }
}

impl Snapshot {
    /// How many groups are in it.
    pub fn groups(&self) -> u64 {
        self.header.rows
    }

    /// Whether there is nothing to write. An empty delta may be left out, an empty base says that nothing is left.
    pub fn is_empty(&self) -> bool {
        self.header.rows == 0
    }

    /// The buckets that have groups in it.
    pub fn buckets(&self) -> BucketSet {
        self.sections.iter().flat_map(|section| &section.buckets).map(|(bucket, _)| *bucket).collect()
    }

    /// The blob. Costs about 3 ns per byte of rows.
    ///
    /// # Errors
    /// If there is too much for one blob.
    pub fn encode(&self) -> Result<Vec<u8>, BlobError> {
        blob::write(self.header.clone(), &self.schema, &self.sections)
    }
}
