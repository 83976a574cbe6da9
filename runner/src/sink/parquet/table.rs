//! The table as it is stored: which columns stay in the files, and as what types.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use parquet::arrow::ArrowSchemaConverter;

/// The stored form of one output's rows.
///
/// Nanosecond timestamps are stored in microseconds, what is finer being cut off: that is what Kafka, Spark, Trino, Athena
/// and Delta have; Spark refuses to read a file with nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct StoredTable {
    /// The schema of the files.
    schema: SchemaRef,
    /// The positions of the stored columns in the incoming batch.
    columns: Vec<usize>,
}

impl StoredTable {
    /// Stores the given columns of `incoming`.
    pub(super) fn new(incoming: &Schema, columns: Vec<usize>) -> Self {
        let fields: Vec<FieldRef> = columns.iter().map(|index| stored_field(incoming.field(*index))).collect();
        Self { schema: Arc::new(Schema::new(fields)), columns }
    }

    /// The schema of the files.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Why readers could not make sense of such files, if they could not.
    pub(super) fn refusal(&self) -> Option<String> {
        let mut names = HashSet::new();
        for field in self.schema.fields() {
            if !names.insert(field.name()) {
                let name = field.name();
                return Some(format!("two columns are named '{name}'; rename one with AS in the query"));
            }
        }
        for field in self.schema.fields() {
            if let Some(reason) = unreadable(field.data_type()) {
                let (name, data_type) = (field.name(), field.data_type());
                return Some(format!("column '{name}' of type {data_type} cannot be stored in Parquet: {reason}"));
            }
        }
        let converted = ArrowSchemaConverter::new().with_coerce_types(true).convert(&self.schema);
        converted.err().map(|error| format!("the query's columns cannot be stored in Parquet: {error}"))
    }

    /// The stored columns of `batch`, which has the incoming schema. Copies only what changes its type.
    pub(super) fn project(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let arrays = self.columns.iter().zip(self.schema.fields()).map(|(index, field)| {
            let array = batch.column(*index);
            if array.data_type() == field.data_type() { Ok(Arc::clone(array)) } else { convert(array, field) }
        });
        RecordBatch::try_new(Arc::clone(&self.schema), arrays.collect::<Result<_, _>>()?)
    }
}

fn convert(array: &ArrayRef, field: &Field) -> Result<ArrayRef, ArrowError> {
    if stored_type(array.data_type()) != *field.data_type() {
        let (name, wanted, got) = (field.name(), field.data_type(), array.data_type());
        return Err(ArrowError::SchemaError(format!("column '{name}' of type {wanted} got rows of type {got}")));
    }
    cast(array, field.data_type())
}

fn stored_field(field: &Field) -> FieldRef {
    Arc::new(field.clone().with_data_type(stored_type(field.data_type())))
}

fn stored_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::List(element) => DataType::List(stored_field(element)),
        DataType::LargeList(element) => DataType::LargeList(stored_field(element)),
        DataType::FixedSizeList(element, size) => DataType::FixedSizeList(stored_field(element), *size),
        DataType::Map(entries, sorted) => DataType::Map(stored_field(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| stored_field(field)).collect()),
        other => other.clone(),
    }
}

fn unreadable(data_type: &DataType) -> Option<&'static str> {
    match data_type {
        DataType::Null => Some("it is null in every row; give it a type, for example CAST(NULL AS STRING)"),
        DataType::Interval(_) | DataType::Duration(_) => {
            Some("few readers know intervals; store seconds, or two timestamps")
        }
        DataType::Union(..) | DataType::RunEndEncoded(..) => Some("cast it to a plain type in the query"),
        DataType::Struct(fields) if fields.is_empty() => Some("a struct needs at least one field"),
        DataType::Struct(fields) => fields.iter().find_map(|field| unreadable(field.data_type())),
        DataType::List(inner) | DataType::LargeList(inner) | DataType::FixedSizeList(inner, _) => {
            unreadable(inner.data_type())
        }
        DataType::Map(inner, _) => unreadable(inner.data_type()),
        _ => None,
    }
}
