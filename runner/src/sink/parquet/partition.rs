//! Hive partitions: which folder a row belongs in, spelled as Spark, Hive and DuckDB read it back.

use std::collections::HashMap;
use std::fmt::Write;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// The folder value of null, and of the empty string, which a folder name cannot tell from it.
const DEFAULT_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// A segment of a path may not be longer on common file systems.
const MAX_SEGMENT_BYTES: usize = 255;

/// Splits batches by the values of the partition columns, in the table's column order.
pub(super) struct Partitioner {
    /// The columns' positions in the incoming batch and their escaped names, outermost first.
    columns: Vec<(usize, String)>,
    converter: Option<RowConverter>,
}

/// Why a table cannot be partitioned so, or a row not be given a folder.
#[derive(Debug, thiserror::Error)]
pub(super) enum PartitionError {
    /// The manifest names a column that the query does not give.
    #[error("partitionBy names column '{column}', but the query gives only {given}")]
    Unknown { column: String, given: String },
    /// The manifest names a column twice.
    #[error("partitionBy names column '{0}' twice")]
    Twice(String),
    /// A column's type makes no good folder.
    #[error(
        "partitionBy cannot use column '{column}' of type {data_type}: only strings, integers, booleans and dates name \
         a folder exactly; cast it in the query, for example CAST({column} AS STRING)"
    )]
    Type { column: String, data_type: DataType },
    /// Nothing would be left for the file.
    #[error("partitionBy names every column of the query; at least one must stay in the files")]
    NothingLeft,
    /// A value is too long for a folder's name.
    #[error(
        "a value of the partition column {column} makes a folder name of {bytes} bytes, more than the \
         {MAX_SEGMENT_BYTES} that file systems take: '{start}…'; partition by something shorter"
    )]
    TooLong { column: String, bytes: usize, start: String },
    /// A library's error, which the checks above should have prevented.
    #[error("rows cannot be divided into partitions: {0}")]
    Arrow(#[from] ArrowError),
}

impl Partitioner {
    /// Partitions tables of `schema` by `partition_by`; with an empty list all rows share the folder "".
    pub(super) fn new(schema: &Schema, partition_by: &[String]) -> Result<Self, PartitionError> {
        let mut columns: Vec<(usize, String)> = Vec::new();
        let mut fields = Vec::new();
        for column in partition_by {
            let index = schema
                .index_of(column)
                .map_err(|_| PartitionError::Unknown { column: column.clone(), given: column_names(schema) })?;
            if columns.iter().any(|(other, _)| *other == index) {
                return Err(PartitionError::Twice(column.clone()));
            }
            let data_type = schema.field(index).data_type();
            if !names_a_folder(data_type) {
                return Err(PartitionError::Type { column: column.clone(), data_type: data_type.clone() });
            }
            columns.push((index, escape(column)));
            fields.push(SortField::new(data_type.clone()));
        }
        if !columns.is_empty() && columns.len() == schema.fields().len() {
            return Err(PartitionError::NothingLeft);
        }
        let converter = if columns.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        Ok(Self { columns, converter })
    }

    /// The positions of the columns that stay in the files.
    pub(super) fn stored_columns(&self, schema: &Schema) -> Vec<usize> {
        let is_partition = |index: &usize| self.columns.iter().any(|(column, _)| column == index);
        (0..schema.fields().len()).filter(|index| !is_partition(index)).collect()
    }

    /// Divides `batch` into folders, in the order in which each first appears; rows keep their order within one. Costs
    /// one hash per row, and a copy of the rows only if there is more than one folder. The columns stay as they are.
    pub(super) fn split(&self, batch: RecordBatch) -> Result<Vec<(String, RecordBatch)>, PartitionError> {
        let Some(converter) = &self.converter else {
            return Ok(vec![(String::new(), batch)]);
        };
        let values: Vec<ArrayRef> = self.columns.iter().map(|(index, _)| batch.column(*index).clone()).collect();
        let rows = converter.convert_columns(&values)?;
        let folders = self.formatters(&values)?;

        let mut of_row: HashMap<&[u8], usize> = HashMap::new();
        let mut of_folder: HashMap<String, usize> = HashMap::new();
        let mut groups: Vec<(String, Vec<u64>)> = Vec::new();
        for index in 0..rows.num_rows() {
            let key = rows.row(index).data();
            let group = match of_row.get(key) {
                Some(group) => *group,
                None => {
                    let folder = self.folder(&folders, &values, index)?;
                    // Null and the empty string are two keys of one folder.
                    let group = *of_folder.entry(folder.clone()).or_insert_with(|| {
                        groups.push((folder, Vec::new()));
                        groups.len() - 1
                    });
                    of_row.insert(key, group);
                    group
                }
            };
            if let Some((_, members)) = groups.get_mut(group) {
                members.push(index as u64);
            }
        }
        if groups.len() == 1 {
            return Ok(groups.into_iter().map(|(folder, _)| (folder, batch.clone())).collect());
        }
        groups
            .into_iter()
            .map(|(folder, members)| Ok((folder, take_record_batch(&batch, &UInt64Array::from(members))?)))
            .collect()
    }

    fn formatters<'a>(&self, values: &'a [ArrayRef]) -> Result<Vec<ArrayFormatter<'a>>, PartitionError> {
        let options = FormatOptions::new();
        values.iter().map(|values| Ok(ArrayFormatter::try_new(values.as_ref(), &options)?)).collect()
    }

    fn folder(
        &self,
        formatters: &[ArrayFormatter<'_>],
        values: &[ArrayRef],
        row: usize,
    ) -> Result<String, PartitionError> {
        let mut folder = String::new();
        for (((_, name), formatter), values) in self.columns.iter().zip(formatters).zip(values) {
            if !folder.is_empty() {
                folder.push('/');
            }
            let start = folder.len();
            let value = if values.is_null(row) { String::new() } else { formatter.value(row).try_to_string()? };
            let value = if value.is_empty() { DEFAULT_PARTITION.to_owned() } else { escape(&value) };
            folder.push_str(name);
            folder.push('=');
            folder.push_str(&value);
            let bytes = folder.len() - start;
            if bytes > MAX_SEGMENT_BYTES {
                let start = value.chars().take(40).collect();
                return Err(PartitionError::TooLong { column: name.clone(), bytes, start });
            }
        }
        Ok(folder)
    }
}

fn names_a_folder(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean | DataType::Date32 => true,
        DataType::Dictionary(_, values) => names_a_folder(values),
        other => other.is_integer(),
    }
}

/// Escapes what Hive and Spark escape in a folder's name: control characters and `"#%'*/:=?\{[]^`, each as `%XX`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_control() || "\"#%'*/:=?\\{[]^".contains(character) {
            // Writing into a string cannot fail.
            let _ = write!(escaped, "%{:02X}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

fn column_names(schema: &Schema) -> String {
    schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::Arc;

    use arrow::array::{BooleanArray, Date32Array, Float64Array, Int64Array, StringArray};
    use arrow::datatypes::Field;

    use super::*;

    fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
    }

    fn folders(batch: &RecordBatch, partition_by: &[&str]) -> Vec<(String, usize)> {
        let names: Vec<String> = partition_by.iter().map(|name| (*name).to_owned()).collect();
        let partitioner = Partitioner::new(&batch.schema(), &names).unwrap();
        let parts = partitioner.split(batch.clone()).unwrap();
        parts.into_iter().map(|(folder, rows)| (folder, rows.num_rows())).collect()
    }

    fn refusal(schema: &Schema, partition_by: &[&str]) -> String {
        let names: Vec<String> = partition_by.iter().map(|name| (*name).to_owned()).collect();
        match Partitioner::new(schema, &names) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{names:?} was accepted"),
        }
    }

    #[test]
    fn strings_are_escaped_as_spark_escapes_them() {
        let values = ["plain", "a/b", "a=b%c", "é ü", "tab\there", "q?[x]", ".."];
        let batch = table(vec![
            ("s", Arc::new(StringArray::from(values.to_vec())) as ArrayRef),
            ("v", Arc::new(Int64Array::from(vec![0; 7])) as ArrayRef),
        ]);
        let got: Vec<String> = folders(&batch, &["s"]).into_iter().map(|(folder, _)| folder).collect();
        let wanted = ["s=plain", "s=a%2Fb", "s=a%3Db%25c", "s=é ü", "s=tab%09here", "s=q%3F%5Bx%5D", "s=.."];
        assert_eq!(got, wanted);
    }

    #[test]
    fn null_and_the_empty_string_share_the_default_partition() {
        let batch = table(vec![
            ("s", Arc::new(StringArray::from(vec![Some(""), None, Some("x"), None])) as ArrayRef),
            ("v", Arc::new(Int64Array::from(vec![1, 2, 3, 4])) as ArrayRef),
        ]);
        let wanted = vec![("s=__HIVE_DEFAULT_PARTITION__".to_owned(), 3), ("s=x".to_owned(), 1)];
        assert_eq!(folders(&batch, &["s"]), wanted);
    }

    #[test]
    fn integers_dates_and_booleans_nest_in_the_order_of_the_manifest() {
        let batch = table(vec![
            ("n", Arc::new(Int64Array::from(vec![-5, 7])) as ArrayRef),
            ("day", Arc::new(Date32Array::from(vec![0, 19_000])) as ArrayRef),
            ("ok", Arc::new(BooleanArray::from(vec![true, false])) as ArrayRef),
            ("v", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
        ]);
        let wanted = vec![("day=1970-01-01/ok=true/n=-5".to_owned(), 1), ("day=2022-01-08/ok=false/n=7".to_owned(), 1)];
        assert_eq!(folders(&batch, &["day", "ok", "n"]), wanted);
    }

    #[test]
    fn rows_keep_their_order_within_a_partition() {
        let batch = table(vec![
            ("s", Arc::new(StringArray::from(vec!["a", "b", "a", "a"])) as ArrayRef),
            ("v", Arc::new(Int64Array::from(vec![1, 2, 3, 4])) as ArrayRef),
        ]);
        let partitioner = Partitioner::new(&batch.schema(), &["s".to_owned()]).unwrap();
        let parts = partitioner.split(batch).unwrap();
        let values: Vec<&Int64Array> =
            parts.iter().map(|(_, rows)| rows.column(1).as_any().downcast_ref().unwrap()).collect();
        assert_eq!(values[0].values(), &[1, 3, 4]);
        assert_eq!(values[1].values(), &[2]);
    }

    #[test]
    fn what_cannot_name_a_folder_is_refused_with_the_way_out() {
        let schema = Schema::new(vec![
            Field::new("price", DataType::Float64, true),
            Field::new("s", DataType::Utf8, true),
            Field::new("l", DataType::new_list(DataType::Int64, true), true),
        ]);
        assert!(refusal(&schema, &["price"]).contains("CAST(price AS STRING)"));
        assert!(refusal(&schema, &["l"]).contains("column 'l'"));
        assert!(refusal(&schema, &["status"]).contains("gives only price, s, l"));
        assert!(refusal(&schema, &["s", "s"]).contains("twice"));
        let one = Schema::new(vec![Field::new("s", DataType::Utf8, true)]);
        assert!(refusal(&one, &["s"]).contains("at least one must stay"));
    }

    #[test]
    fn a_value_too_long_for_a_folder_is_refused_when_it_comes() {
        let batch = table(vec![
            ("s", Arc::new(StringArray::from(vec!["x".repeat(254)])) as ArrayRef),
            ("v", Arc::new(Float64Array::from(vec![1.0])) as ArrayRef),
        ]);
        let partitioner = Partitioner::new(&batch.schema(), &["s".to_owned()]).unwrap();
        let error = partitioner.split(batch).unwrap_err().to_string();
        assert!(error.contains("256 bytes"), "{error}");
    }
}
