//! The state of one aggregation: its windows, and what happens to them in an epoch.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, not, take, take_record_batch};
use arrow::datatypes::{Int64Type, SchemaRef, TimeUnit};
use millrace_joblog::record::EventTime;

use super::bucket::{BucketSet, buckets_of};
use super::error::StateError;
use super::instance::Instance;
use super::reduce::Aggregation;
use super::segment::Gather;
use super::window::{Window, WindowColumns, closed_end, split, ticks};

/// Rows that an epoch may compact whatever it appended.
const COMPACTED_ANYWAY: usize = 1024;

/// What a keyed state is of.
#[derive(Debug, Clone)]
pub struct StateSpec {
    /// How its rows are merged and finished.
    pub aggregation: Aggregation,
    /// Which stage of which query it is: blobs of another stage are refused.
    pub stage: String,
    /// The group columns that close groups; absent for a running aggregation.
    pub window: Option<WindowColumns>,
    /// The bytes it may take.
    pub memory_limit: usize,
}

/// How large a keyed state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateSize {
    /// Windows that are open; 1 for a running aggregation that has seen a row.
    pub windows: usize,
    /// Groups, each with one living row.
    pub groups: usize,
    /// Rows, dead ones too.
    pub rows: usize,
    /// Groups changed since the last checkpoint.
    pub changed: usize,
    /// Bytes of rows, index and bookkeeping.
    pub bytes: usize,
}

/// The state of one aggregation, in memory. See the [module](super) for the life of an epoch.
pub struct KeyedState {
    pub(super) spec: StateSpec,
    /// The group columns that tell the groups of one window apart, and decide their bucket.
    key_columns: Vec<usize>,
    key_schema: SchemaRef,
    /// The unit of the column that closes groups.
    unit: TimeUnit,
    pub(super) instances: BTreeMap<Window, Instance>,
    pub(super) watermark: Option<EventTime>,
}

/// The rows of a batch that belong to one window, and the groups they are of.
struct Located {
    window: Window,
    /// Positions in the batch; all of them if this is the only part.
    rows: UInt32Array,
    groups: Vec<usize>,
}

impl KeyedState {
    /// An empty state.
    ///
    /// # Errors
    /// A window column that is no timestamp.
    pub fn new(spec: StateSpec) -> Result<Self, StateError> {
        let schema = spec.aggregation.schema();
        let unit = spec.window.map_or(Ok(TimeUnit::Millisecond), |window| window.unit(schema))?;
        let is_window = |column: &usize| spec.window.is_some_and(|window| window.positions().any(|at| at == *column));
        let key_columns: Vec<usize> =
            (0..spec.aggregation.group_columns()).filter(|column| !is_window(column)).collect();
        let key_schema = Arc::new(schema.project(&key_columns)?);
        Ok(Self { spec, key_columns, key_schema, unit, instances: BTreeMap::new(), watermark: None })
    }

    /// The schema of everything that goes in and comes out.
    pub fn schema(&self) -> &SchemaRef {
        self.spec.aggregation.schema()
    }

    /// The watermark that closed the windows that are gone.
    pub fn watermark(&self) -> Option<EventTime> {
        self.watermark
    }

    /// The bucket of each of some partial rows: who owns it merges the row.
    ///
    /// # Errors
    /// Rows of another schema.
    pub fn buckets(&self, rows: &RecordBatch) -> Result<Vec<u8>, StateError> {
        let rows = self.spec.aggregation.fit(rows.clone())?;
        buckets_of(&self.keys(&rows), rows.num_rows())
    }

    /// Divides partial rows into those that are on time and those whose window `watermark` has closed.
    ///
    /// # Errors
    /// Rows of another schema.
    pub fn split_late(
        &self,
        rows: &RecordBatch,
        watermark: Option<EventTime>,
    ) -> Result<(RecordBatch, RecordBatch), StateError> {
        let rows = self.spec.aggregation.fit(rows.clone())?;
        let Some(late) = self.late_rows(&rows, watermark)? else {
            let none = RecordBatch::new_empty(Arc::clone(rows.schema_ref()));
            return Ok((rows, none));
        };
        Ok((filter_record_batch(&rows, &not(&late)?)?, filter_record_batch(&rows, &late)?))
    }

    /// Merges the partial rows of an epoch, or of a part of one, into the state; on-time rows only.
    ///
    /// Costs a fixed 0.1 ms, and per incoming row a few lookups and copies: nothing in it is proportional to the state.
    ///
    /// # Errors
    /// Above the memory limit; a row for a closed window; a fault of the engine. The state is then of no further use.
    pub fn merge(&mut self, partial: Vec<RecordBatch>) -> Result<(), StateError> {
        let incoming = self.spec.aggregation.merge(partial)?;
        if incoming.num_rows() == 0 {
            return Ok(());
        }
        let mut parts = self.locate(&incoming)?;
        let previous = self.previous(&parts)?;
        let merged = if previous.num_rows() == 0 {
            incoming
        } else {
            // Earlier rows first: an aggregate whose result depends on the order sees that of arrival.
            let merged = self.spec.aggregation.merge(vec![previous, incoming])?;
            parts = self.locate(&merged)?;
            merged
        };
        let buckets = buckets_of(&self.keys(&merged), merged.num_rows())?;
        self.append(&merged, parts, &buckets, true)
    }

    /// The groups changed since the last checkpoint, and still open: what `update` mode emits.
    ///
    /// # Errors
    /// A fault of Arrow.
    pub fn changed(&self) -> Result<Vec<RecordBatch>, StateError> {
        let mut gather = Gather::new(self.schema());
        for instance in self.instances.values() {
            instance.gather_groups(instance.changed(), &mut gather);
        }
        gather.chunks()
    }

    /// Every open group: what `complete` mode emits.
    ///
    /// # Errors
    /// A fault of Arrow.
    pub fn all(&self) -> Result<Vec<RecordBatch>, StateError> {
        all_of(self.instances.values(), self.schema())
    }

    /// Closes every window that ends at or before `watermark`: gives out its groups, windows in the order of their
    /// ends, and forgets them. A watermark below an earlier one closes nothing.
    ///
    /// # Errors
    /// A fault of Arrow.
    pub fn close(&mut self, watermark: EventTime) -> Result<Vec<RecordBatch>, StateError> {
        if self.spec.window.is_none() {
            return Ok(Vec::new());
        }
        self.watermark = self.watermark.max(Some(watermark));
        let open = self.instances.split_off(&Window::first_open(self.closed_end(self.watermark)));
        let closed = std::mem::replace(&mut self.instances, open);
        all_of(closed.values(), self.schema())
    }

    /// Forgets the groups of every bucket but these; another runner owns the others now.
    ///
    /// # Errors
    /// A fault of the engine.
    pub fn retain(&mut self, buckets: &BucketSet) -> Result<(), StateError> {
        let schema = Arc::clone(self.schema());
        for (window, old) in std::mem::take(&mut self.instances) {
            let kept: Vec<usize> = old.groups_in(buckets).collect();
            if kept.len() == old.len() {
                self.instances.insert(window, old);
                continue;
            }
            for is_change in [false, true] {
                let mut gather = Gather::new(&schema);
                let groups = || kept.iter().copied().filter(|group| old.is_changed(*group) == is_change);
                old.gather_groups(groups(), &mut gather);
                if gather.is_empty() {
                    continue;
                }
                let rows = gather.one()?;
                let buckets: Vec<u8> = groups().map(|group| old.bucket(group)).collect();
                let parts = self.locate(&rows)?;
                self.append(&rows, parts, &buckets, is_change)?;
            }
        }
        Ok(())
    }

    /// How large it is.
    pub fn size(&self) -> StateSize {
        let mut size = StateSize { windows: self.instances.len(), bytes: size_of::<Self>(), ..StateSize::default() };
        for instance in self.instances.values() {
            size.groups += instance.len();
            size.rows += instance.rows();
            size.changed += instance.changed().len();
            size.bytes += instance.bytes();
        }
        size
    }

    /// Makes `rows`, located in `parts` and in the given buckets, the newest of their groups.
    pub(super) fn append_rows(&mut self, rows: &RecordBatch, buckets: &[u8]) -> Result<(), StateError> {
        let parts = self.locate(rows)?;
        self.append(rows, parts, buckets, false)
    }

    /// Which rows `watermark` makes late; `None` if none is.
    pub(super) fn late_rows(
        &self,
        rows: &RecordBatch,
        watermark: Option<EventTime>,
    ) -> Result<Option<BooleanArray>, StateError> {
        let (Some(window), Some(closed)) = (self.spec.window, self.closed_end(watermark)) else { return Ok(None) };
        let ends = ticks(rows.column(window.end))?;
        let ends = ends.as_primitive::<Int64Type>();
        let late: BooleanArray = ends.iter().map(|end| Some(end.is_some_and(|end| end <= closed))).collect();
        Ok((late.true_count() > 0).then_some(late))
    }

    fn closed_end(&self, watermark: Option<EventTime>) -> Option<i64> {
        watermark.map(|watermark| closed_end(watermark.0, self.unit))
    }

    fn keys(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.key_columns.iter().map(|column| Arc::clone(rows.column(*column))).collect()
    }

    /// Finds the groups of `rows`, whose keys are distinct within a window; makes instances and groups that are new.
    fn locate(&mut self, rows: &RecordBatch) -> Result<Vec<Located>, StateError> {
        let closed = self.closed_end(self.watermark);
        let keys = self.keys(rows);
        let parts = split(rows, self.spec.window)?;
        let is_only = parts.len() == 1;
        let mut located = Vec::with_capacity(parts.len());
        for part in parts {
            if part.window.is_closed(closed) {
                let (aggregation, watermark) = (self.spec.aggregation.name().to_owned(), self.watermark);
                return Err(StateError::ClosedWindow { aggregation, watermark: watermark.map_or(0, |at| at.0) });
            }
            let rows = UInt32Array::from(part.rows);
            let keys = if is_only { keys.clone() } else { take_all(&keys, &rows)? };
            let instance = match self.instances.entry(part.window) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    let instance = Instance::new(self.spec.aggregation.schema(), &self.key_schema);
                    entry.insert(instance.map_err(|fault| self.spec.aggregation.fault(fault))?)
                }
            };
            let mut groups = Vec::with_capacity(rows.len());
            let interned = instance.intern(&keys, rows.len(), &mut groups);
            interned.map_err(|fault| self.spec.aggregation.fault(fault))?;
            if instance.interned() > u32::MAX as usize {
                return Err(StateError::TooManyGroups { aggregation: self.spec.aggregation.name().to_owned() });
            }
            located.push(Located { window: part.window, rows, groups });
        }
        Ok(located)
    }

    /// The present rows of the groups located.
    fn previous(&self, parts: &[Located]) -> Result<RecordBatch, StateError> {
        let mut gather = Gather::new(self.schema());
        for part in parts {
            if let Some(instance) = self.instances.get(&part.window) {
                instance.gather_groups(part.groups.iter().copied(), &mut gather);
            }
        }
        gather.one()
    }

    fn append(
        &mut self,
        rows: &RecordBatch,
        parts: Vec<Located>,
        buckets: &[u8],
        is_change: bool,
    ) -> Result<(), StateError> {
        let is_only = parts.len() == 1;
        for part in parts {
            let Some(instance) = self.instances.get_mut(&part.window) else { continue };
            if is_only {
                instance.append(rows, &part.groups, buckets, is_change)?;
            } else {
                let buckets: Vec<u8> = part.rows.values().iter().map(|row| buckets[*row as usize]).collect();
                instance.append(&take_record_batch(rows, &part.rows)?, &part.groups, &buckets, is_change)?;
            }
            instance.compact(2 * part.groups.len() + COMPACTED_ANYWAY)?;
        }
        self.keep_to_limit()
    }

    /// Above the limit, gets rid of dead rows until below it, or says that there is too much alive.
    fn keep_to_limit(&mut self) -> Result<(), StateError> {
        let limit = self.spec.memory_limit;
        let mut bytes = size_of::<Self>() + self.instances.values().map(Instance::bytes).sum::<usize>();
        for instance in self.instances.values_mut() {
            while bytes > limit {
                let before = instance.bytes();
                if !instance.squeeze()? {
                    break;
                }
                bytes = bytes.saturating_sub(before) + instance.bytes();
            }
        }
        if bytes <= limit {
            return Ok(());
        }
        let aggregation = self.spec.aggregation.name().to_owned();
        Err(StateError::MemoryLimit { aggregation, groups: self.size().groups, bytes, limit })
    }
}

fn all_of<'a>(
    instances: impl Iterator<Item = &'a Instance>,
    schema: &SchemaRef,
) -> Result<Vec<RecordBatch>, StateError> {
    let mut gather = Gather::new(schema);
    for instance in instances {
        instance.gather_groups(0..instance.len(), &mut gather);
    }
    gather.chunks()
}

fn take_all(columns: &[ArrayRef], rows: &UInt32Array) -> Result<Vec<ArrayRef>, StateError> {
    Ok(columns.iter().map(|column| take(column, rows, None)).collect::<Result<_, _>>()?)
}
