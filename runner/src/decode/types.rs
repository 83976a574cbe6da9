//! The Arrow types of the manifest's types.

use std::sync::Arc;

use arrow::datatypes::{DataType as ArrowType, Field as ArrowField, FieldRef, Fields, TimeUnit};
use millrace_crds::{DataType, Field};

/// The zone of every timestamp that has one.
pub const UTC: &str = "UTC";

/// The Arrow type of a declared type. Nested fields keep their order.
pub fn arrow_type(data_type: &DataType) -> ArrowType {
    match data_type {
        DataType::Boolean => ArrowType::Boolean,
        DataType::TinyInt => ArrowType::Int8,
        DataType::SmallInt => ArrowType::Int16,
        DataType::Int => ArrowType::Int32,
        DataType::BigInt => ArrowType::Int64,
        DataType::Float => ArrowType::Float32,
        DataType::Double => ArrowType::Float64,
        DataType::Decimal { precision, scale } => ArrowType::Decimal128(*precision, *scale),
        DataType::String => ArrowType::Utf8,
        DataType::Binary => ArrowType::Binary,
        DataType::Date => ArrowType::Date32,
        DataType::Timestamp => timestamp(),
        DataType::TimestampNtz => ArrowType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Array(item) => ArrowType::List(item_field(item)),
        DataType::Map { key, value } => ArrowType::Map(entries_field(key, value), false),
        DataType::Struct(fields) => ArrowType::Struct(arrow_fields(fields)),
    }
}

/// The type of an instant: microseconds since 1970, UTC.
pub fn timestamp() -> ArrowType {
    ArrowType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}

/// The Arrow fields of declared fields, in their order.
pub fn arrow_fields(fields: &[Field]) -> Fields {
    fields.iter().map(arrow_field).collect()
}

/// The Arrow field of a declared field.
pub fn arrow_field(field: &Field) -> FieldRef {
    Arc::new(ArrowField::new(&field.name, arrow_type(&field.data_type), field.nullable))
}

/// The field of a list's items, under the name DataFusion's own lists give it, so that the two kinds of lists agree.
pub(super) fn item_field(item: &Field) -> FieldRef {
    let name = ArrowField::LIST_FIELD_DEFAULT_NAME;
    Arc::new(ArrowField::new(name, arrow_type(&item.data_type), item.nullable))
}

/// The field of a map's entries, under Arrow's names.
pub(super) fn entries_field(key: &DataType, value: &Field) -> FieldRef {
    let entries = Fields::from(vec![
        ArrowField::new("key", arrow_type(key), false),
        ArrowField::new("value", arrow_type(&value.data_type), value.nullable),
    ]);
    Arc::new(ArrowField::new("entries", ArrowType::Struct(entries), false))
}
