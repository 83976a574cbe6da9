//! How a blob names the columns it holds, so that state is never read as something else.

use arrow::datatypes::{DataType, IntervalUnit, Schema, TimeUnit};

/// Each column as `name: type`. Whether it may be NULL does not count.
pub(super) fn describe(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(|field| format!("{}: {}", field.name(), type_name(field.data_type()))).collect()
}

/// A type in words of our own, which no new version of a library changes.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "null".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 => "int8".to_owned(),
        DataType::Int16 => "int16".to_owned(),
        DataType::Int32 => "int32".to_owned(),
        DataType::Int64 => "int64".to_owned(),
        DataType::UInt8 => "uint8".to_owned(),
        DataType::UInt16 => "uint16".to_owned(),
        DataType::UInt32 => "uint32".to_owned(),
        DataType::UInt64 => "uint64".to_owned(),
        DataType::Float16 => "float16".to_owned(),
        DataType::Float32 => "float32".to_owned(),
        DataType::Float64 => "float64".to_owned(),
        DataType::Utf8 => "text".to_owned(),
        DataType::LargeUtf8 => "large text".to_owned(),
        DataType::Utf8View => "text view".to_owned(),
        DataType::Binary => "binary".to_owned(),
        DataType::LargeBinary => "large binary".to_owned(),
        DataType::BinaryView => "binary view".to_owned(),
        DataType::FixedSizeBinary(size) => format!("binary({size})"),
        DataType::Date32 => "date32".to_owned(),
        DataType::Date64 => "date64".to_owned(),
        DataType::Time32(unit) => format!("time32({})", unit_name(*unit)),
        DataType::Time64(unit) => format!("time64({})", unit_name(*unit)),
        DataType::Duration(unit) => format!("duration({})", unit_name(*unit)),
        DataType::Timestamp(unit, None) => format!("timestamp({})", unit_name(*unit)),
        DataType::Timestamp(unit, Some(zone)) => format!("timestamp({}, {zone})", unit_name(*unit)),
        DataType::Interval(IntervalUnit::YearMonth) => "interval(months)".to_owned(),
        DataType::Interval(IntervalUnit::DayTime) => "interval(days)".to_owned(),
        DataType::Interval(IntervalUnit::MonthDayNano) => "interval(all)".to_owned(),
        DataType::Decimal32(precision, scale) => format!("decimal32({precision}, {scale})"),
        DataType::Decimal64(precision, scale) => format!("decimal64({precision}, {scale})"),
        DataType::Decimal128(precision, scale) => format!("decimal128({precision}, {scale})"),
        DataType::Decimal256(precision, scale) => format!("decimal256({precision}, {scale})"),
        DataType::List(field) => format!("list<{}>", type_name(field.data_type())),
        DataType::LargeList(field) => format!("large list<{}>", type_name(field.data_type())),
        DataType::FixedSizeList(field, size) => format!("list({size})<{}>", type_name(field.data_type())),
        DataType::ListView(field) => format!("list view<{}>", type_name(field.data_type())),
        DataType::LargeListView(field) => format!("large list view<{}>", type_name(field.data_type())),
        DataType::Map(field, _) => format!("map<{}>", type_name(field.data_type())),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| format!("{}: {}", field.name(), type_name(field.data_type())));
            format!("struct<{}>", fields.collect::<Vec<_>>().join(", "))
        }
        DataType::Dictionary(key, value) => format!("dictionary<{}, {}>", type_name(key), type_name(value)),
        DataType::RunEndEncoded(ends, values) => {
            format!("runs<{}, {}>", type_name(ends.data_type()), type_name(values.data_type()))
        }
        DataType::Union(fields, _) => {
            let fields = fields.iter().map(|(id, field)| format!("{id}: {}", type_name(field.data_type())));
            format!("union<{}>", fields.collect::<Vec<_>>().join(", "))
        }
    }
}

fn unit_name(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}
