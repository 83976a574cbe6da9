//! Whatever happens on the way, the result is that of one aggregation over all rows.

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use millrace_joblog::Millis;
use millrace_joblog::record::EventTime;
use proptest::prelude::*;
use rand::RngExt;

use super::model::{GROUPINGS, Rows, WINDOW, WINDOW_COLUMNS, WINDOWED, grouped, table};
use super::{Query, texts};
use crate::state::{BUCKETS, BucketSet, KeyedState, WindowColumns};

struct Owner {
    buckets: BucketSet,
    state: KeyedState,
}

/// A job whose runners come and go: what it accepted, what it gave out and what it wrote.
struct Job<'a> {
    query: &'a Query,
    window: Option<WindowColumns>,
    rows: Rows,
    owners: Vec<Owner>,
    blobs: Vec<Vec<u8>>,
    watermark: Option<EventTime>,
    accepted: Vec<RecordBatch>,
    closed: Vec<RecordBatch>,
    late: usize,
}

impl<'a> Job<'a> {
    fn new(query: &'a Query, window: Option<WindowColumns>, seed: u64) -> Self {
        let (rows, owners, watermark) = (Rows::new(seed), Vec::new(), None);
        let (blobs, accepted, closed) = (Vec::new(), Vec::new(), Vec::new());
        let mut job = Self { query, window, rows, owners, blobs, watermark, accepted, closed, late: 0 };
        job.divide();
        job
    }

    /// Starts 1, 2 or 4 owners from the blobs, as after a crash or a rescale.
    fn divide(&mut self) {
        let count = [1, 2, 4][self.rows.random.random_range(0..3)];
        self.owners = (0..count)
            .map(|owner| {
                let buckets: BucketSet = (0..BUCKETS).filter(|b| b % count == owner).map(|b| b as u8).collect();
                let blobs = self.blobs.iter().map(Vec::as_slice);
                let spec = self.query.spec(self.window);
                let state = KeyedState::restore(spec, blobs, &buckets, self.watermark).unwrap();
                assert_eq!(state.size().changed, 0);
                Owner { buckets, state }
            })
            .collect();
    }

    /// Moves buckets between owners that go on: each forgets what it loses and loads what it takes on.
    fn move_buckets(&mut self) {
        let shift = self.rows.random.random_range(1..=self.owners.len());
        let count = self.owners.len();
        for (number, owner) in self.owners.iter_mut().enumerate() {
            let new: BucketSet = (0..BUCKETS).filter(|b| (b / 2 + shift) % count == number).map(|b| b as u8).collect();
            owner.state.retain(&new).unwrap();
            let gained: BucketSet = new.iter().filter(|bucket| !owner.buckets.contains(*bucket)).collect();
            for blob in &self.blobs {
                let layout = crate::state::blob::open(blob).unwrap();
                for (section, range) in layout.sections_of(&gained) {
                    let bytes = &blob[range.start as usize..range.end as usize];
                    owner.state.load(&layout, section, bytes, &gained, self.watermark).unwrap();
                }
            }
            owner.buckets = new;
        }
    }

    fn merge(&mut self, batch: &RecordBatch) -> usize {
        let mut late_rows = 0;
        let partial = self.query.partial(batch);
        for owner in &mut self.owners {
            let mut mine = Vec::new();
            for rows in &partial {
                let (rows, late) = owner.state.split_late(rows, self.watermark).unwrap();
                late_rows += late.num_rows();
                let of_rows = owner.state.buckets(&rows).unwrap();
                let wanted: BooleanArray = of_rows.iter().map(|b| Some(owner.buckets.contains(*b))).collect();
                mine.push(filter_record_batch(&rows, &wanted).unwrap());
            }
            owner.state.merge(mine).unwrap();
        }
        late_rows
    }

    fn epoch(&mut self, number: i64) {
        let merges = self.rows.random.random_range(0..4);
        let mut batches = Vec::new();
        for _ in 0..merges {
            let size = if self.rows.random.random_range(0..8) == 0 { 700 } else { 60 };
            let size = self.rows.random.random_range(0..size);
            let batch = self.rows.batch(size, number * WINDOW);
            self.late += self.merge(&batch);
            batches.push(batch);
        }
        if self.rows.random.random_range(0..5) == 0 && !batches.is_empty() {
            // The epoch is lost with its runners, and read again in one piece.
            self.divide();
            self.merge(&concat_batches(&table(), &batches).unwrap());
        }
        self.accepted.extend(batches.iter().map(|batch| on_time(batch, self.window.and(self.watermark))));
        if self.window.is_some() && self.rows.random.random_range(0..3) > 0 {
            let watermark = Millis(number * WINDOW + self.rows.random.random_range(-WINDOW..4 * WINDOW));
            self.watermark = self.watermark.max(Some(watermark));
            for owner in &mut self.owners {
                self.closed.extend(owner.state.close(watermark).unwrap());
            }
        }
        self.checkpoint();
        match self.rows.random.random_range(0..8) {
            0 => self.divide(),
            1 => self.move_buckets(),
            2 => self.base(),
            _ => {}
        }
    }

    fn checkpoint(&mut self) {
        for owner in &mut self.owners {
            let changed = owner.state.size().changed as u64;
            let delta = owner.state.checkpoint().unwrap();
            assert_eq!(delta.groups(), changed);
            if !delta.is_empty() {
                self.blobs.push(delta.encode().unwrap());
            }
            assert!(owner.state.checkpoint().unwrap().is_empty());
        }
    }

    /// Writes everything anew: in one blob per owner that replaces all before, or a part of the buckets upon them.
    fn base(&mut self) {
        if self.rows.random.random_bool(0.5) {
            self.blobs.clear();
            for owner in &self.owners {
                self.blobs.push(owner.state.base(&BucketSet::ALL).unwrap().encode().unwrap());
            }
            return;
        }
        for owner in &self.owners {
            let some: BucketSet = owner.buckets.iter().filter(|bucket| bucket % 3 == 0).collect();
            self.blobs.push(owner.state.base(&some).unwrap().encode().unwrap());
        }
    }

    fn check(self) -> Result<(), TestCaseError> {
        let mut found = self.closed;
        for owner in &self.owners {
            let open = owner.state.all().unwrap();
            let groups: usize = open.iter().map(RecordBatch::num_rows).sum();
            prop_assert_eq!(owner.state.size().groups, groups);
            found.extend(open);
        }
        let groups: usize = found.iter().map(RecordBatch::num_rows).sum();
        let wanted = self.query.whole(&self.accepted);
        if self.query.aggregation.group_columns() > 0 {
            // No group twice: finishing would hide it.
            prop_assert_eq!(groups, wanted.len());
        }
        prop_assert_eq!(self.query.finish(found), wanted);
        Ok(())
    }
}

/// The raw rows whose window the watermark has not closed.
fn on_time(batch: &RecordBatch, watermark: Option<EventTime>) -> RecordBatch {
    let Some(watermark) = watermark else { return batch.clone() };
    let ends = batch.column_by_name("w_end").unwrap().as_primitive::<TimestampMicrosecondType>();
    let kept: BooleanArray = ends.iter().map(|end| Some(end.unwrap() > watermark.0 * 1_000)).collect();
    filter_record_batch(batch, &kept).unwrap()
}

fn run(query: &Query, window: Option<WindowColumns>, seed: u64) -> Result<usize, TestCaseError> {
    let mut job = Job::new(query, window, seed);
    let epochs = job.rows.random.random_range(1..14);
    (0..epochs).for_each(|number| job.epoch(number));
    let late = job.late;
    job.check()?;
    Ok(late)
}

fn settings(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, cases, ..ProptestConfig::default() }
}

#[test]
fn a_running_aggregation_is_what_one_aggregation_over_all_rows_gives() {
    for grouping in GROUPINGS {
        let query = Query::new(&table(), &grouped(grouping));
        proptest!(settings(12), |(seed in any::<u64>())| {
            run(&query, None, seed)?;
        });
    }
}

#[test]
fn closed_and_open_windows_together_are_what_one_aggregation_over_the_rows_on_time_gives() {
    let mut late = 0;
    for grouping in WINDOWED {
        let query = Query::new(&table(), &grouped(grouping));
        for seed in 0..20 {
            late += run(&query, Some(WINDOW_COLUMNS), seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        proptest!(settings(12), |(seed in any::<u64>())| {
            run(&query, Some(WINDOW_COLUMNS), seed)?;
        });
    }
    assert!(late > 100, "the rows are made so that some are late: {late}");
}

#[test]
fn what_changed_is_what_the_rows_since_the_last_checkpoint_touched() {
    let query = Query::new(&table(), &grouped("w_start, w_end, k_text"));
    proptest!(settings(32), |(seed in any::<u64>())| {
        let mut rows = Rows::new(seed);
        let mut state = query.state(Some(WINDOW_COLUMNS));
        let mut all: Vec<RecordBatch> = Vec::new();
        for epoch in 0..6 {
            let batch = rows.batch(40, epoch * WINDOW);
            state.merge(query.partial(&batch)).unwrap();
            all.push(batch.clone());
            let touched: std::collections::BTreeSet<String> =
                query.whole(&[batch]).iter().map(|row| key_of(row)).collect();
            let wanted: Vec<String> =
                query.whole(&all).into_iter().filter(|row| touched.contains(&key_of(row))).collect();
            prop_assert_eq!(query.finish(state.changed().unwrap()), wanted);
            state.checkpoint().unwrap();
            prop_assert!(texts(&state.changed().unwrap()).is_empty());
        }
    });
}

/// The three group columns of a row as text.
fn key_of(row: &str) -> String {
    row.split(" | ").take(3).collect::<Vec<_>>().join(" | ")
}
