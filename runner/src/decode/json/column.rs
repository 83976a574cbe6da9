//! Growing Arrow columns that can take back a half-written row.
//!
//! Arrow's own builders cannot shrink. Here a column is plain vectors; a row that turns out bad is undone by cutting
//! every vector back to the rows before it, so that a bad row needs no second look at its neighbours.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, Decimal128Array, ListArray, MapArray, NullBufferBuilder,
    PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType as ArrowType, Date32Type, FieldRef, Fields, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use millrace_crds::{DataType, Field};

use super::object::ObjectFields;
use crate::decode::types;

/// One column under construction, of any type.
pub(super) struct Column {
    pub(super) nullable: bool,
    pub(super) values: Values,
    /// One bit a value; for a column that never saw a null it costs a counter.
    validity: NullBufferBuilder,
}

/// The values of a column. A null has a placeholder here.
pub(super) enum Values {
    Boolean(BooleanBufferBuilder),
    TinyInt(Vec<i8>),
    SmallInt(Vec<i16>),
    Int(Vec<i32>),
    BigInt(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Decimal { scaled: Vec<i128>, precision: u8, scale: i8 },
    Date(Vec<i32>),
    Timestamp(Vec<i64>),
    TimestampNtz(Vec<i64>),
    String(Bytes),
    Binary(Bytes),
    Array { ends: Ends, item: Box<Column>, field: FieldRef },
    Map { ends: Ends, keys: Box<Column>, values: Box<Column>, entries: FieldRef },
    Struct { rows: usize, fields: ObjectFields },
}

/// Byte strings one after the other.
pub(super) struct Bytes {
    pub(super) data: Vec<u8>,
    ends: Ends,
}

/// Where each entry ends in the data behind it. Ends fit into 32 bits because a fetch is refused before it is decoded
/// if its bytes do not (see [`crate::decode::DecodeError::TooLarge`]), and no value is longer than its text.
#[derive(Default)]
pub(super) struct Ends(Vec<i32>);

impl Column {
    /// An empty column of the given type.
    pub(super) fn new(data_type: &DataType, nullable: bool) -> Self {
        let values = match data_type {
            DataType::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
            DataType::TinyInt => Values::TinyInt(Vec::new()),
            DataType::SmallInt => Values::SmallInt(Vec::new()),
            DataType::Int => Values::Int(Vec::new()),
            DataType::BigInt => Values::BigInt(Vec::new()),
            DataType::Float => Values::Float(Vec::new()),
            DataType::Double => Values::Double(Vec::new()),
            DataType::Decimal { precision, scale } => {
                Values::Decimal { scaled: Vec::new(), precision: *precision, scale: *scale }
            }
            DataType::Date => Values::Date(Vec::new()),
            DataType::Timestamp => Values::Timestamp(Vec::new()),
            DataType::TimestampNtz => Values::TimestampNtz(Vec::new()),
            DataType::String => Values::String(Bytes::new()),
            DataType::Binary => Values::Binary(Bytes::new()),
            DataType::Array(item) => Values::Array {
                ends: Ends::default(),
                item: Box::new(Self::of_field(item)),
                field: types::item_field(item),
            },
            DataType::Map { key, value } => Values::Map {
                ends: Ends::default(),
                keys: Box::new(Self::new(key, false)),
                values: Box::new(Self::of_field(value)),
                entries: types::entries_field(key, value),
            },
            DataType::Struct(fields) => Values::Struct { rows: 0, fields: ObjectFields::all(fields) },
        };
        Self { nullable, values, validity: NullBufferBuilder::new(0) }
    }

    /// An empty column for a field.
    pub(super) fn of_field(field: &Field) -> Self {
        Self::new(&field.data_type, field.nullable)
    }

    /// How many rows are complete.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.validity.len()
    }

    /// Notes that the value just appended to [`Column::values`] is complete and not null.
    #[inline]
    pub(super) fn complete(&mut self) {
        self.validity.append_non_null();
    }

    /// Appends a null, or below a null struct, where a column without nulls still needs a row, a placeholder.
    pub(super) fn push_absent(&mut self) {
        match &mut self.values {
            Values::Boolean(values) => values.append(false),
            Values::TinyInt(values) => values.push(0),
            Values::SmallInt(values) => values.push(0),
            Values::Int(values) | Values::Date(values) => values.push(0),
            Values::BigInt(values) | Values::Timestamp(values) | Values::TimestampNtz(values) => values.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Double(values) => values.push(0.0),
            Values::Decimal { scaled, .. } => scaled.push(0),
            Values::String(values) | Values::Binary(values) => values.end(),
            Values::Array { ends, item, .. } => ends.push(item.len()),
            Values::Map { ends, keys, .. } => ends.push(keys.len()),
            Values::Struct { rows, fields } => {
                *rows += 1;
                fields.push_absent();
            }
        }
        self.validity.append(!self.nullable);
    }

    /// Forgets everything from row `rows` on, the traces of an incomplete row included.
    pub(super) fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Boolean(values) => values.truncate(rows),
            Values::TinyInt(values) => values.truncate(rows),
            Values::SmallInt(values) => values.truncate(rows),
            Values::Int(values) | Values::Date(values) => values.truncate(rows),
            Values::BigInt(values) | Values::Timestamp(values) | Values::TimestampNtz(values) => values.truncate(rows),
            Values::Float(values) => values.truncate(rows),
            Values::Double(values) => values.truncate(rows),
            Values::Decimal { scaled, .. } => scaled.truncate(rows),
            Values::String(values) | Values::Binary(values) => {
                values.ends.truncate(rows);
                values.data.truncate(values.ends.last());
            }
            Values::Array { ends, item, .. } => {
                ends.truncate(rows);
                item.truncate(ends.last());
            }
            Values::Map { ends, keys, values, .. } => {
                ends.truncate(rows);
                keys.truncate(ends.last());
                values.truncate(ends.last());
            }
            Values::Struct { rows: own, fields } => {
                *own = rows.min(*own);
                fields.truncate(rows);
            }
        }
        if rows < self.validity.len() {
            self.validity.truncate(rows);
        }
    }

    /// The finished column; this one is empty again.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let nulls = self.validity.finish();
        let array: ArrayRef = match &mut self.values {
            Values::Boolean(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::TinyInt(values) => Arc::new(primitive::<Int8Type>(values, nulls)?),
            Values::SmallInt(values) => Arc::new(primitive::<Int16Type>(values, nulls)?),
            Values::Int(values) => Arc::new(primitive::<Int32Type>(values, nulls)?),
            Values::BigInt(values) => Arc::new(primitive::<Int64Type>(values, nulls)?),
            Values::Float(values) => Arc::new(primitive::<Float32Type>(values, nulls)?),
            Values::Double(values) => Arc::new(primitive::<Float64Type>(values, nulls)?),
            Values::Decimal { scaled, precision, scale } => {
                let array = Decimal128Array::try_new(take(scaled), nulls)?;
                Arc::new(array.with_precision_and_scale(*precision, *scale)?)
            }
            Values::Date(values) => Arc::new(primitive::<Date32Type>(values, nulls)?),
            Values::Timestamp(values) => {
                let array = primitive::<TimestampMicrosecondType>(values, nulls)?;
                Arc::new(array.with_timezone(types::UTC))
            }
            Values::TimestampNtz(values) => Arc::new(primitive::<TimestampMicrosecondType>(values, nulls)?),
            Values::String(values) => {
                Arc::new(StringArray::try_new(values.ends.finish(), values.finish_data(), nulls)?)
            }
            Values::Binary(values) => {
                Arc::new(BinaryArray::try_new(values.ends.finish(), values.finish_data(), nulls)?)
            }
            Values::Array { ends, item, field } => {
                Arc::new(ListArray::try_new(field.clone(), ends.finish(), item.finish()?, nulls)?)
            }
            Values::Map { ends, keys, values, entries } => {
                let fields = match entries.data_type() {
                    ArrowType::Struct(fields) => fields.clone(),
                    _ => Fields::empty(),
                };
                let pairs = StructArray::try_new(fields, vec![keys.finish()?, values.finish()?], None)?;
                Arc::new(MapArray::try_new(entries.clone(), ends.finish(), pairs, nulls, false)?)
            }
            Values::Struct { rows, fields } => {
                let rows = std::mem::take(rows);
                let columns = fields.finish()?;
                Arc::new(StructArray::try_new_with_length(fields.arrow_fields(), columns, nulls, rows)?)
            }
        };
        Ok(array)
    }
}

impl Bytes {
    fn new() -> Self {
        Self { data: Vec::new(), ends: Ends::default() }
    }

    /// Ends the entry whose bytes were appended to `data`.
    #[inline]
    pub(super) fn end(&mut self) {
        self.ends.push(self.data.len());
    }

    /// The last `count` entries.
    pub(super) fn last_entries(&self, count: usize) -> impl Iterator<Item = &[u8]> {
        let first = self.ends.0.len().saturating_sub(count);
        (first..self.ends.0.len()).map(|index| {
            let start = if index == 0 { 0 } else { self.ends.0[index - 1] };
            &self.data[start as usize..self.ends.0[index] as usize]
        })
    }

    fn finish_data(&mut self) -> Buffer {
        let capacity = self.data.len();
        Buffer::from_vec(std::mem::replace(&mut self.data, Vec::with_capacity(capacity)))
    }
}

impl Ends {
    #[inline]
    pub(super) fn push(&mut self, end: usize) {
        debug_assert!(i32::try_from(end).is_ok(), "a fetch of 2 GiB was let in");
        self.0.push(end as i32);
    }

    /// Where the last entry ends: how much data belongs to complete entries.
    pub(super) fn last(&self) -> usize {
        self.0.last().map_or(0, |end| *end as usize)
    }

    fn truncate(&mut self, entries: usize) {
        self.0.truncate(entries);
    }

    fn finish(&mut self) -> OffsetBuffer<i32> {
        let mut offsets = Vec::with_capacity(self.0.len() + 1);
        offsets.push(0);
        offsets.append(&mut self.0);
        OffsetBuffer::new(ScalarBuffer::from(offsets))
    }
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
) -> Result<PrimitiveArray<T>, ArrowError> {
    PrimitiveArray::try_new(take(values), nulls)
}

/// Takes the values out; the next fetch is likely to be of the same size.
fn take<T: arrow::datatypes::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    let capacity = values.len();
    ScalarBuffer::from(std::mem::replace(values, Vec::with_capacity(capacity)))
}
