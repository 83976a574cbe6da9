//! One instance: the groups of one window as a log of segments, and the index of each group's newest row in it.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;

use super::bucket::BucketSet;
use super::compaction::{self, Weight};
use super::error::StateError;
use super::keys::Keys;
use super::segment::{Gather, SEGMENT_ROWS, Segment};

/// Where the newest row of a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    segment: u32,
    row: u32,
}

/// The place of a group whose row is on its way. No segment has this number.
const NOWHERE: Place = Place { segment: u32::MAX, row: 0 };

/// The groups of one window. Groups are numbered from 0 and never taken back singly: they go with their instance.
pub(super) struct Instance {
    schema: SchemaRef,
    keys: Keys,
    /// By group. As long as the groups that have a row; those interned after it wait for theirs.
    places: Vec<Place>,
    /// By group.
    buckets: Vec<u8>,
    /// The groups changed since the last checkpoint, each once, in the order of their first change.
    changed: Vec<u32>,
    /// By group: whether it is in `changed`.
    is_changed: Vec<bool>,
    /// By number; a number is free again when its segment is gone.
    segments: Vec<Option<Segment>>,
    segment_bytes: usize,
}

impl Instance {
    /// Without groups. `schema` is that of the rows, `key_schema` that of the columns that tell groups apart.
    pub(super) fn new(schema: &SchemaRef, key_schema: &SchemaRef) -> Result<Self, DataFusionError> {
        Ok(Self {
            schema: SchemaRef::clone(schema),
            keys: Keys::new(key_schema)?,
            places: Vec::new(),
            buckets: Vec::new(),
            changed: Vec::new(),
            is_changed: Vec::new(),
            segments: Vec::new(),
            segment_bytes: 0,
        })
    }

    /// How many groups it has.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// How many rows its segments have, dead ones too.
    pub(super) fn rows(&self) -> usize {
        self.segments.iter().flatten().map(Segment::len).sum()
    }

    /// How many segments it has.
    #[cfg(test)]
    pub(super) fn segments(&self) -> usize {
        self.segments.iter().flatten().count()
    }

    /// The bytes that rows, index and bookkeeping take.
    pub(super) fn bytes(&self) -> usize {
        let bookkeeping = self.places.capacity() * size_of::<Place>()
            + self.buckets.capacity()
            + self.is_changed.capacity()
            + self.changed.capacity() * size_of::<u32>()
            + self.segments.capacity() * size_of::<Option<Segment>>();
        self.segment_bytes + self.keys.bytes() + bookkeeping
    }

    /// The group numbers of rows with these keys. New groups have a number but no row until [`Self::append`].
    pub(super) fn intern(
        &mut self,
        keys: &[ArrayRef],
        rows: usize,
        groups: &mut Vec<usize>,
    ) -> Result<(), DataFusionError> {
        self.keys.intern(keys, rows, groups)
    }

    /// How many groups were ever interned: more than [`Self::len`] exactly while some wait for their row.
    pub(super) fn interned(&self) -> usize {
        self.keys.len()
    }

    /// Adds the newest row of each of `groups` that has one to `gather`, in the order of `groups`.
    pub(super) fn gather_groups<'a>(&'a self, groups: impl Iterator<Item = usize>, gather: &mut Gather<'a>) {
        let mut sources: Vec<Option<usize>> = vec![None; self.segments.len()];
        for group in groups {
            let Some(place) = self.places.get(group) else { continue };
            let number = place.segment as usize;
            let Some(segment) = self.segments.get(number).and_then(Option::as_ref) else { continue };
            let source = *sources[number].get_or_insert_with(|| gather.add_source(segment.rows()));
            gather.add_row(source, place.row as usize);
        }
    }

    /// The groups in some of the buckets, by number.
    pub(super) fn groups_in<'a>(&'a self, buckets: &'a BucketSet) -> impl Iterator<Item = usize> + 'a {
        self.buckets.iter().enumerate().filter(|(_, bucket)| buckets.contains(**bucket)).map(|(group, _)| group)
    }

    /// The groups changed since the last checkpoint.
    pub(super) fn changed(&self) -> impl ExactSizeIterator<Item = usize> {
        self.changed.iter().map(|group| *group as usize)
    }

    /// The bucket of a group.
    pub(super) fn bucket(&self, group: usize) -> u8 {
        self.buckets.get(group).copied().unwrap_or_default()
    }

    /// Whether it changed since the last checkpoint.
    pub(super) fn is_changed(&self, group: usize) -> bool {
        self.is_changed.get(group).copied().unwrap_or_default()
    }

    /// Starts to count changes anew.
    pub(super) fn forget_changes(&mut self) {
        for group in self.changed.drain(..) {
            self.is_changed[group as usize] = false;
        }
    }

    /// Makes `rows` the newest rows of `groups`, which are distinct and interned, in the given buckets.
    pub(super) fn append(
        &mut self,
        rows: &RecordBatch,
        groups: &[usize],
        buckets: &[u8],
        is_change: bool,
    ) -> Result<(), StateError> {
        self.number_new_groups();
        for (group, bucket) in groups.iter().zip(buckets) {
            self.buckets[*group] = *bucket;
            if is_change && !self.is_changed[*group] {
                self.is_changed[*group] = true;
                self.changed.push(*group as u32);
            }
        }
        let groups: Vec<u32> = groups.iter().map(|group| *group as u32).collect();
        if groups.len() <= SEGMENT_ROWS {
            self.add(rows.clone(), groups);
            return Ok(());
        }
        let mut gather = Gather::new(&self.schema);
        let source = gather.add_source(rows);
        (0..groups.len()).for_each(|row| gather.add_row(source, row));
        for (rows, groups) in gather.chunks()?.into_iter().zip(groups.chunks(SEGMENT_ROWS)) {
            self.add(rows, groups.to_vec());
        }
        Ok(())
    }

    /// Rewrites some segments, those that most deserve it, without their dead rows; copies about `budget` rows.
    pub(super) fn compact(&mut self, budget: usize) -> Result<(), StateError> {
        let chosen = compaction::choose(&self.weights(), budget);
        self.rewrite(&chosen)
    }

    /// Rewrites the segments with the most dead rows, a few; false if no row is dead. For when memory runs out.
    pub(super) fn squeeze(&mut self) -> Result<bool, StateError> {
        let chosen = compaction::squeeze(&self.weights());
        self.rewrite(&chosen)?;
        Ok(!chosen.is_empty())
    }

    fn weights(&self) -> Vec<Weight> {
        let weights = self.segments.iter().enumerate().filter_map(|(number, segment)| {
            let segment = segment.as_ref()?;
            Some(Weight { segment: number, rows: segment.len(), live: segment.live() })
        });
        weights.collect()
    }

    fn rewrite(&mut self, chosen: &[usize]) -> Result<(), StateError> {
        if chosen.is_empty() {
            return Ok(());
        }
        let mut gather = Gather::new(&self.schema);
        let mut groups = Vec::new();
        for number in chosen {
            let Some(segment) = &self.segments[*number] else { continue };
            let source = gather.add_source(segment.rows());
            for (row, group) in segment.groups().iter().enumerate() {
                let place = &mut self.places[*group as usize];
                if *place == (Place { segment: *number as u32, row: row as u32 }) {
                    // Its number may be another segment's before the row has its new place.
                    *place = NOWHERE;
                    gather.add_row(source, row);
                    groups.push(*group);
                }
            }
        }
        let rewritten = gather.chunks()?;
        for number in chosen {
            self.remove(*number);
        }
        for (rows, groups) in rewritten.into_iter().zip(groups.chunks(SEGMENT_ROWS)) {
            self.add(rows, groups.to_vec());
        }
        Ok(())
    }

    /// Gives every interned group its entries; its place points nowhere until [`Self::add`].
    fn number_new_groups(&mut self) {
        let groups = self.keys.len();
        self.places.resize(groups, NOWHERE);
        self.buckets.resize(groups, 0);
        self.is_changed.resize(groups, false);
    }

    /// Adds a segment and points its groups at it; segments without a living row left are dropped.
    fn add(&mut self, rows: RecordBatch, groups: Vec<u32>) {
        let number = match self.segments.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.segments.push(None);
                self.segments.len() - 1
            }
        };
        for (row, group) in groups.iter().enumerate() {
            let here = Place { segment: number as u32, row: row as u32 };
            let before = std::mem::replace(&mut self.places[*group as usize], here);
            let emptied = match self.segments.get_mut(before.segment as usize) {
                Some(Some(segment)) => {
                    segment.bury_one();
                    segment.live() == 0
                }
                _ => false,
            };
            if emptied {
                self.remove(before.segment as usize);
            }
        }
        let segment = Segment::new(rows, groups);
        self.segment_bytes += segment.bytes();
        self.segments[number] = Some(segment);
    }

    fn remove(&mut self, number: usize) {
        if let Some(segment) = self.segments.get_mut(number).and_then(Option::take) {
            self.segment_bytes -= segment.bytes();
        }
    }
}
