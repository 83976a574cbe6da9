//! Windows: the parts of the state that are closed, given out and dropped as a whole.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit};

use super::error::StateError;

/// Where the group columns say which window a group belongs to, as positions in the partial schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WindowColumns {
    /// When it starts, if a column says so. A window is told by both, and neither is part of the key that decides
    /// the bucket: the windows of one key live together.
    pub start: Option<usize>,
    /// When it ends: a group is closed by the first watermark that is not below. A group without (NULL) is never
    /// closed; the planner filters such rows out before they get here.
    pub end: usize,
}

impl WindowColumns {
    /// Both positions.
    pub(super) fn positions(self) -> impl Iterator<Item = usize> {
        self.start.into_iter().chain([self.end])
    }

    /// The unit in which `schema` counts the ends.
    pub(super) fn unit(self, schema: &SchemaRef) -> Result<TimeUnit, StateError> {
        for position in self.positions() {
            let field = schema.field(position);
            if !matches!(field.data_type(), DataType::Timestamp(..)) {
                let (column, data_type) = (field.name().clone(), field.data_type().to_string());
                return Err(StateError::WindowType { column, data_type });
            }
        }
        match schema.field(self.end).data_type() {
            DataType::Timestamp(unit, _) => Ok(*unit),
            _ => Ok(TimeUnit::Millisecond),
        }
    }
}

/// One window. They are ordered by when they close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Window {
    /// No watermark closes it: it has no end, or the aggregation has no windows at all.
    endless: bool,
    end: i64,
    start: Option<i64>,
}

impl Window {
    /// The only one of an aggregation without windows.
    pub(super) const UNWINDOWED: Self = Self { endless: true, end: 0, start: None };

    /// The first, in order, of those that are open once the ends up to `closed` are closed.
    pub(super) fn first_open(closed: Option<i64>) -> Self {
        match closed {
            None => Self { endless: false, end: i64::MIN, start: None },
            Some(i64::MAX) => Self { endless: true, end: i64::MIN, start: None },
            Some(closed) => Self { endless: false, end: closed + 1, start: None },
        }
    }

    /// Whether `closed`, of [`closed_end`], is at or after its end.
    pub(super) fn is_closed(self, closed: Option<i64>) -> bool {
        !self.endless && closed.is_some_and(|closed| self.end <= closed)
    }
}

/// The last end that a watermark of so many milliseconds closes, in `unit`.
pub(super) fn closed_end(watermark: i64, unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => watermark.div_euclid(1_000),
        TimeUnit::Millisecond => watermark,
        TimeUnit::Microsecond => watermark.saturating_mul(1_000),
        TimeUnit::Nanosecond => watermark.saturating_mul(1_000_000),
    }
}

/// The rows of a batch that belong to one window.
#[derive(Debug)]
pub(super) struct Part {
    pub window: Window,
    /// Positions in the batch, ascending.
    pub rows: Vec<u32>,
}

/// Divides the rows of `batch` by window; every row is in one part and no part is empty.
pub(super) fn split(batch: &RecordBatch, columns: Option<WindowColumns>) -> Result<Vec<Part>, StateError> {
    let rows = batch.num_rows();
    let Some(columns) = columns else {
        let all = Part { window: Window::UNWINDOWED, rows: (0..rows as u32).collect() };
        return Ok(if rows == 0 { vec![] } else { vec![all] });
    };
    let ends = ticks(batch.column(columns.end))?;
    let ends = ends.as_primitive::<Int64Type>();
    let starts = columns.start.map(|start| ticks(batch.column(start))).transpose()?;
    let starts = starts.as_ref().map(|starts| starts.as_primitive::<Int64Type>());
    let mut parts: Vec<Part> = Vec::new();
    let mut places: HashMap<Window, usize> = HashMap::new();
    for row in 0..rows {
        let window = Window {
            endless: ends.is_null(row),
            end: if ends.is_null(row) { 0 } else { ends.value(row) },
            start: starts.and_then(|starts| starts.is_valid(row).then(|| starts.value(row))),
        };
        let place = *places.entry(window).or_insert_with(|| {
            parts.push(Part { window, rows: Vec::new() });
            parts.len() - 1
        });
        parts[place].rows.push(row as u32);
    }
    Ok(parts)
}

/// A timestamp column as the integers it is made of; no data is copied.
pub(super) fn ticks(column: &ArrayRef) -> Result<ArrayRef, StateError> {
    Ok(arrow::compute::cast(column, &DataType::Int64)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_closes_exactly_the_ends_that_are_not_after_it() {
        for (watermark, unit, last) in [
            (1_999, TimeUnit::Second, 1),
            (2_000, TimeUnit::Second, 2),
            (-1, TimeUnit::Second, -1),
            (7, TimeUnit::Millisecond, 7),
            (7, TimeUnit::Microsecond, 7_000),
            (7, TimeUnit::Nanosecond, 7_000_000),
            (i64::MAX, TimeUnit::Nanosecond, i64::MAX),
            (i64::MIN, TimeUnit::Nanosecond, i64::MIN),
        ] {
            assert_eq!(closed_end(watermark, unit), last, "{watermark} in {unit:?}");
        }
    }

    #[test]
    fn windows_without_an_end_come_last_and_are_never_closed() {
        let last = Window { endless: false, end: i64::MAX, start: None };
        let endless = Window { endless: true, end: 0, start: None };
        assert!(last < endless);
        assert!(last.is_closed(Some(i64::MAX)));
        assert!(!endless.is_closed(Some(i64::MAX)));
        assert!(!last.is_closed(None));
    }
}
