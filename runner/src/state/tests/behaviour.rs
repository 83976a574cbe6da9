//! Keyed state, one trait at a time.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use millrace_joblog::Millis;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Query, ROOMY, texts};
use crate::state::{Aggregation, BucketSet, KeyedState, StateError, StateSpec, WindowColumns};

fn table() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
        Field::new("w", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("name", DataType::Utf8, true),
    ]))
}

/// Rows of (key, value, end of window).
fn rows(of: impl IntoIterator<Item = (i64, i64, i64)>) -> RecordBatch {
    let (mut keys, mut values, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for (key, value, end) in of {
        keys.push(key);
        values.push(value);
        ends.push(end);
    }
    let names: StringArray = keys.iter().map(|key| Some(format!("name of {key}"))).collect();
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(Int64Array::from(keys)),
        Arc::new(Int64Array::from(values)),
        Arc::new(TimestampMillisecondArray::from(ends)),
        Arc::new(names),
    ];
    RecordBatch::try_new(table(), columns).unwrap()
}

fn sums() -> Query {
    Query::new(&table(), "SELECT k, sum(v), count(*) FROM t GROUP BY k")
}

fn windowed_sums() -> Query {
    Query::new(&table(), "SELECT k, w, sum(v) FROM t GROUP BY k, w")
}

const WINDOW: Option<WindowColumns> = Some(WindowColumns { start: None, end: 1 });

fn int(column: &dyn Array, row: usize) -> i64 {
    column.as_primitive::<Int64Type>().value(row)
}

#[test]
fn counts_and_sums_are_those_of_a_plain_map() {
    let query = sums();
    let mut state = query.state(None);
    let mut model: HashMap<i64, (i64, i64)> = HashMap::new();
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..200 {
        let batch: Vec<_> = (0..50).map(|_| (random.random_range(0..500), random.random_range(-9..9), 0)).collect();
        for (key, value, _) in &batch {
            let group = model.entry(*key).or_default();
            *group = (group.0 + value, group.1 + 1);
        }
        state.merge(query.partial(&rows(batch))).unwrap();
    }
    let mut found = HashMap::new();
    for batch in query.aggregation.finish(state.all().unwrap()).unwrap() {
        for row in 0..batch.num_rows() {
            let cell = |column: usize| int(batch.column(column).as_ref(), row);
            found.insert(cell(0), (cell(1), cell(2)));
        }
    }
    assert_eq!(found, model);
}

#[test]
fn windows_close_in_the_order_of_their_ends_and_only_once() {
    let query = windowed_sums();
    let mut state = query.state(WINDOW);
    state.merge(query.partial(&rows([(1, 10, 300), (2, 20, 100), (1, 1, 200), (2, 2, 100), (9, 9, 400)]))).unwrap();
    let closed = state.close(Millis(300)).unwrap();
    let ends =
        closed.iter().flat_map(|batch| batch.column(1).as_primitive::<TimestampMillisecondType>().values().to_vec());
    assert_eq!(ends.collect::<Vec<_>>(), [100, 200, 300]);
    assert!(state.close(Millis(300)).unwrap().is_empty());
    assert!(state.close(Millis(100)).unwrap().is_empty());
    assert_eq!(state.watermark(), Some(Millis(300)));
    assert_eq!(state.size().windows, 1);
    assert_eq!(query.finish(state.close(Millis(400)).unwrap()), ["9 | 1970-01-01T00:00:00.400 | 9"]);
    assert_eq!(state.size().groups, 0);
}

#[test]
fn late_rows_are_told_apart_by_the_window_they_are_in() {
    let query = windowed_sums();
    let state = query.state(WINDOW);
    let [partial] = query.partial(&rows([(1, 10, 300), (2, 20, 100), (3, 5, 200)])).try_into().unwrap();
    let (on_time, late) = state.split_late(&partial, Some(Millis(200))).unwrap();
    assert_eq!((on_time.num_rows(), late.num_rows()), (1, 2));
    let (on_time, late) = state.split_late(&partial, None).unwrap();
    assert_eq!((on_time.num_rows(), late.num_rows()), (3, 0));
}

#[test]
fn a_row_for_a_closed_window_is_refused_and_does_not_open_it_again() {
    let query = windowed_sums();
    let mut state = query.state(WINDOW);
    state.close(Millis(200)).unwrap();
    let error = state.merge(query.partial(&rows([(1, 1, 200)]))).unwrap_err();
    assert!(matches!(error, StateError::ClosedWindow { watermark: 200, .. }), "{error}");
}

#[test]
fn a_group_without_a_window_is_never_closed() {
    let query = windowed_sums();
    let mut state = query.state(WINDOW);
    let mut columns = rows([(1, 1, 100)]).columns().to_vec();
    columns[2] = Arc::new(TimestampMillisecondArray::from(vec![None::<i64>]));
    state.merge(query.partial(&RecordBatch::try_new(table(), columns).unwrap())).unwrap();
    assert!(state.close(Millis(i64::MAX)).unwrap().is_empty());
    assert_eq!(state.size().groups, 1);
}

#[test]
fn a_window_column_must_be_a_timestamp() {
    let spec = sums().spec(Some(WindowColumns { start: None, end: 0 }));
    let error = KeyedState::new(spec).err().unwrap();
    assert!(error.to_string().contains("'k' of type Int64 cannot close windows"), "{error}");
}

#[test]
fn the_size_of_a_delta_follows_the_change_and_not_the_state() {
    let query = sums();
    let mut state = query.state(None);
    state.merge(query.partial(&rows((0..50_000).map(|key| (key, 1, 0))))).unwrap();
    let all = state.checkpoint().unwrap().encode().unwrap().len();
    state.merge(query.partial(&rows((0..500).map(|key| (key * 100, 1, 0))))).unwrap();
    let delta = state.checkpoint().unwrap();
    assert_eq!(delta.groups(), 500);
    assert!(delta.encode().unwrap().len() * 20 < all);
}

#[test]
fn dead_rows_stay_below_the_living_and_memory_with_them() {
    let query = sums();
    let mut state = query.state(None);
    let mut random = StdRng::seed_from_u64(1);
    state.merge(query.partial(&rows((0..30_000).map(|key| (key, 1, 0))))).unwrap();
    let first = state.size().bytes;
    for _ in 0..300 {
        let batch = rows((0..1_000).map(|_| (random.random_range(0..30_000), 1, 0)));
        state.merge(query.partial(&batch)).unwrap();
        let size = state.size();
        assert_eq!(size.groups, 30_000);
        assert!(size.rows <= 2 * size.groups + 4_096, "{size:?}");
        assert!(size.bytes <= 4 * first, "{size:?} after {first}");
    }
    // Nearly all of the groups were touched by now, and each once as far as a checkpoint is concerned.
    assert!((29_000..=30_000).contains(&state.size().changed));
}

#[test]
fn many_small_epochs_do_not_leave_many_small_batches() {
    let query = sums();
    let mut state = query.state(None);
    for epoch in 0..2_000 {
        state.merge(query.partial(&rows([(epoch, 1, 0), (epoch % 7, 1, 0)]))).unwrap();
    }
    assert_eq!(state.size().groups, 2_000);
    assert!(state.instances.values().all(|instance| instance.segments() < 64));
}

#[test]
fn above_its_limit_the_state_gives_up_dead_rows_before_it_fails() {
    let query = sums();
    let mut roomy = query.state(None);
    let all = rows((0..20_000).map(|key| (key, 1, 0)));
    roomy.merge(query.partial(&all)).unwrap();
    let memory_limit = roomy.size().bytes + 100_000;
    let mut tight = KeyedState::new(StateSpec { memory_limit, ..query.spec(None) }).unwrap();
    tight.merge(query.partial(&all)).unwrap();
    for _ in 0..20 {
        tight.merge(query.partial(&rows((0..2_000).map(|key| (key * 10, 1, 0))))).unwrap();
        assert!(tight.size().bytes <= memory_limit);
    }
    let error = tight.merge(query.partial(&rows((0..20_000).map(|key| (key + 20_000, 1, 0))))).unwrap_err();
    let StateError::MemoryLimit { aggregation, groups, bytes, limit } = &error else { panic!("{error}") };
    assert_eq!((aggregation.as_str(), *groups, *limit), ("output 'test'", 40_000, memory_limit));
    assert!(*bytes > memory_limit);
    let text = error.to_string();
    for part in ["output 'test'", "40000 groups", &bytes.to_string(), &limit.to_string(), "give the job more memory"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn accounted_memory_is_at_least_what_keys_and_rows_must_take() {
    let query = Query::new(&table(), "SELECT name, sum(v) FROM t GROUP BY name");
    let mut state = query.state(None);
    state.merge(query.partial(&rows((0..100_000).map(|key| (key, 1, 0))))).unwrap();
    // Twice the name (row and index), the sum, a place, a hash.
    let least = 100_000 * (2 * 12 + 8 + 8 + 8);
    let bytes = state.size().bytes;
    assert!((least..4 * least).contains(&bytes), "{bytes} for at least {least}");
}

#[test]
fn an_aggregation_without_groups_has_one() {
    let query = Query::new(&table(), "SELECT sum(v), count(*) FROM t");
    let mut state = query.state(None);
    assert!(state.all().unwrap().is_empty());
    let [nothing] = query.partial(&rows([])).try_into().unwrap();
    state.merge(vec![nothing.slice(0, 0)]).unwrap();
    assert_eq!(state.size().groups, 0, "no rows make no group");
    state.merge(query.partial(&rows([(1, 10, 0), (2, 20, 0)]))).unwrap();
    state.merge(query.partial(&rows([(1, 5, 0)]))).unwrap();
    assert_eq!(query.finish(state.all().unwrap()), ["35 | 3"]);
    assert_eq!(state.size().groups, 1);
}

#[test]
fn distinct_rows_are_groups_without_aggregates() {
    let query = Query::new(&table(), "SELECT k, name FROM t GROUP BY k, name");
    let mut state = query.state(None);
    for _ in 0..3 {
        state.merge(query.partial(&rows([(1, 1, 0), (2, 1, 0), (1, 2, 0)]))).unwrap();
    }
    assert_eq!(query.finish(state.all().unwrap()), ["1 | name of 1", "2 | name of 2"]);
}

#[test]
fn rollup_is_grouped_by_its_grouping_id_too() {
    let query = Query::new(&table(), "SELECT k, name, sum(v) FROM t GROUP BY ROLLUP (k, name)");
    let mut state = query.state(None);
    let batches = [rows([(1, 1, 0), (2, 5, 0)]), rows([(1, 2, 0), (3, 7, 0)])];
    batches.iter().for_each(|batch| state.merge(query.partial(batch)).unwrap());
    let last = state.all().unwrap();
    let finished = query.finish(last);
    assert_eq!(finished.len(), query.whole(&batches).len());
    assert_eq!(finished, query.whole(&batches));
}

#[test]
fn an_aggregate_that_depends_on_the_order_sees_that_of_arrival() {
    let query = Query::new(&table(), "SELECT k, array_agg(v) FROM t GROUP BY k");
    let mut state = query.state(None);
    for value in 0..5 {
        state.merge(query.partial(&rows([(1, value, 0), (2, -value, 0)]))).unwrap();
    }
    assert_eq!(query.finish(state.all().unwrap()), ["1 | [0, 1, 2, 3, 4]", "2 | [0, -1, -2, -3, -4]"]);
}

#[test]
fn only_the_groups_of_retained_buckets_stay_and_what_changed_among_them_stays_changed() {
    let query = sums();
    let mut state = query.state(None);
    state.merge(query.partial(&rows((0..1_000).map(|key| (key, 1, 0))))).unwrap();
    state.checkpoint().unwrap();
    state.merge(query.partial(&rows((0..100).map(|key| (key, 1, 0))))).unwrap();
    let even: BucketSet = (0..=255).filter(|bucket| bucket % 2 == 0).collect();
    let all = state.all().unwrap();
    let in_even: usize =
        all.iter().flat_map(|rows| state.buckets(rows).unwrap()).filter(|bucket| even.contains(*bucket)).count();
    state.retain(&even).unwrap();
    let size = state.size();
    assert_eq!((size.groups, size.rows), (in_even, in_even));
    assert!((1..100).contains(&size.changed));
    assert!(query.finish(state.changed().unwrap()).iter().all(|row| row.ends_with("| 2 | 2")));
}

#[test]
fn rows_under_another_schema_are_refused_with_both_named() {
    let mut state = sums().state(None);
    let error = state.merge(windowed_sums().partial(&rows([(1, 1, 1)]))).unwrap_err();
    let StateError::Rows { found, wanted, .. } = &error else { panic!("{error}") };
    assert!(found.contains("w: Timestamp") && wanted.contains("count"), "{error}");
}

#[test]
fn only_the_first_half_of_an_aggregation_can_be_cut_off() {
    let query = sums();
    let whole = query.whole.downcast_ref().unwrap();
    let error = Aggregation::new("output 'x'", whole).unwrap_err();
    assert!(matches!(error, StateError::Unsupported { .. }), "{error}");
    assert!(crate::state::first_half(query.first_half.downcast_ref().unwrap()).is_err());
}

#[test]
fn views_of_texts_do_not_keep_the_batches_they_came_from() {
    let view = DataType::Utf8View;
    let query = Query::new(&table(), &format!("SELECT arrow_cast(name, '{view}') AS n, max(v) FROM t GROUP BY n"));
    let mut state = KeyedState::new(StateSpec { memory_limit: ROOMY, ..query.spec(None) }).unwrap();
    let batch = |epoch: i64| rows((0..2_000).map(|key| (key, epoch, 0)));
    state.merge(query.partial(&batch(0))).unwrap();
    let first = state.size().bytes;
    for epoch in 1..50 {
        state.merge(query.partial(&batch(epoch))).unwrap();
    }
    assert!(state.size().bytes < 6 * first, "{:?} after {first}", state.size());
    assert_eq!(texts(&state.all().unwrap()).len(), 2_000);
}
