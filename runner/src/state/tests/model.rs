//! The rows of the tests, made from a seed.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::WindowColumns;

/// Milliseconds of the tests' windows.
pub(super) const WINDOW: i64 = 1_000;

/// The aggregates that every query of the properties has.
pub(super) const AGGREGATES: &str = "count(*), count(v_int), sum(v_int), avg(v_float), min(v_text), max(v_float), \
     stddev(v_float), count(DISTINCT v_int), sum(v_int) FILTER (WHERE v_int > 3), array_agg(v_int ORDER BY v_int)";

/// The groupings of the properties, all of which `t` can do.
pub(super) const GROUPINGS: [&str; 9] =
    ["", "k_text", "k_int", "k_bool", "k_float", "k_dec", "k_time", "k_text, k_int, k_bool, k_float", "k_wide, k_text"];

/// The groupings by window, which stands in the first two columns.
pub(super) const WINDOWED: [&str; 4] =
    ["w_start, w_end", "w_start, w_end, k_text", "w_start, w_end, k_int, k_float", "w_start, w_end, k_bool"];

pub(super) const WINDOW_COLUMNS: WindowColumns = WindowColumns { start: Some(0), end: 1 };

pub(super) fn grouped(columns: &str) -> String {
    if columns.is_empty() {
        return format!("SELECT {AGGREGATES} FROM t");
    }
    format!("SELECT {columns}, {AGGREGATES} FROM t GROUP BY {columns}")
}

pub(super) fn table() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("k_text", DataType::Utf8, true),
        Field::new("k_int", DataType::Int64, true),
        Field::new("k_bool", DataType::Boolean, true),
        Field::new("k_float", DataType::Float64, true),
        Field::new("k_dec", DataType::Decimal128(10, 2), true),
        Field::new("k_time", time.clone(), true),
        Field::new("k_wide", DataType::Utf8, true),
        Field::new("v_int", DataType::Int64, true),
        Field::new("v_float", DataType::Float64, true),
        Field::new("v_text", DataType::Utf8, true),
        Field::new("w_start", time.clone(), true),
        Field::new("w_end", time, true),
    ]))
}

/// Makes rows whose keys are from a small choice, so that groups meet again.
pub(super) struct Rows {
    pub random: StdRng,
    keys: i64,
}

impl Rows {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let keys = random.random_range(1..40);
        Self { random, keys }
    }

    fn some<T>(&mut self, of: impl Fn(i64) -> T) -> Option<T> {
        let value = self.random.random_range(0..=self.keys);
        (value < self.keys).then(|| of(value))
    }

    fn column<T>(&mut self, rows: usize, of: impl Fn(i64) -> T) -> Vec<Option<T>> {
        (0..rows).map(|_| self.some(&of)).collect()
    }

    /// Rows in windows from the one that starts at `from` to four later.
    pub(super) fn batch(&mut self, rows: usize, from: i64) -> RecordBatch {
        let time = |values: Vec<Option<i64>>| TimestampMicrosecondArray::from(values).with_timezone("UTC");
        let starts: Vec<i64> = (0..rows).map(|_| from + WINDOW * self.random.random_range(0..5)).collect();
        let floats = [0.0, -0.0, f64::NAN, 1.5, -2.25, f64::INFINITY];
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(self.column(rows, |value| format!("k{value}")))),
            Arc::new(Int64Array::from(self.column(rows, |value| value - 3))),
            Arc::new(BooleanArray::from(self.column(rows, |value| value % 2 == 0))),
            Arc::new(Float64Array::from(self.column(rows, |value| floats[value as usize % floats.len()]))),
            Arc::new(
                Decimal128Array::from(self.column(rows, |value| i128::from(value) * 50 - 70))
                    .with_precision_and_scale(10, 2)
                    .unwrap(),
            ),
            Arc::new(time(self.column(rows, |value| value * 1_000_003))),
            Arc::new(StringArray::from(self.column(rows, |value| format!("{value}").repeat(50)))),
            Arc::new(Int64Array::from(self.column(rows, |value| value % 7))),
            Arc::new(Float64Array::from(self.column(rows, |value| value as f64 / 4.0))),
            Arc::new(StringArray::from(self.column(rows, |value| format!("v{}", value % 11)))),
            Arc::new(time(starts.iter().map(|start| Some(start * 1_000)).collect())),
            Arc::new(time(starts.iter().map(|start| Some((start + WINDOW) * 1_000)).collect())),
        ];
        RecordBatch::try_new(table(), columns).unwrap()
    }
}
