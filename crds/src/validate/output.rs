//! Outputs.

use super::{Errors, Path, bytes, duration, location, names, sql};
use crate::job::{Compression, ConsoleSink, Output, OutputMode, ParquetSink, Sink};
use crate::spec::{CompressionSpec, ConsoleSpec, OutputModeSpec, OutputSpec, ParquetSpec};

/// A file's size if the manifest does not say: what readers of lakes like.
const DEFAULT_FILE_BYTES: u64 = 128 << 20;
/// Smaller files would hold little beside their footers.
const MIN_FILE_BYTES: u64 = 1 << 10;
/// Open files if the manifest does not say.
const DEFAULT_OPEN_FILES: u32 = 64;
/// Rows and characters that the console shows if the manifest does not say, as Spark's.
const DEFAULT_ROWS: u32 = 20;
const DEFAULT_TRUNCATE: u32 = 20;

pub(super) fn output(output: &OutputSpec, at: &Path, errors: &mut Errors) -> Option<Output> {
    let name = names::identifier(&output.name, &at.field("name"), errors);
    let sql = sql(&output.sql, &at.field("sql"), errors);
    let sink = match (&output.parquet, &output.console) {
        (Some(parquet), None) => self::parquet(parquet, &at.field("parquet"), errors).map(Sink::Parquet),
        (None, Some(spec)) => Some(Sink::Console(console(spec))),
        (None, None) => {
            errors.add(at, None, "nowhere to write", "add `parquet: {path: …}` or `console: {}`");
            None
        }
        (Some(_), Some(_)) => {
            errors.add(at, None, "two places to write", "make two outputs, one with parquet and one with console");
            None
        }
    };
    let mode = match output.output_mode {
        None | Some(OutputModeSpec::Append) => OutputMode::Append,
        Some(OutputModeSpec::Update) => OutputMode::Update,
        Some(OutputModeSpec::Complete) => OutputMode::Complete,
    };
    Some(Output { name: name?, sql: sql?, mode, sink: sink? })
}

fn parquet(parquet: &ParquetSpec, at: &Path, errors: &mut Errors) -> Option<ParquetSink> {
    let path = location(&parquet.path, &at.field("path"), errors);
    for (index, (at, column)) in at.each("partitionBy", &parquet.partition_by).enumerate() {
        let lower = column.to_lowercase();
        if parquet.partition_by[..index].iter().any(|other| other.to_lowercase() == lower) {
            errors.add(&at, Some(column), "a column that is there twice", "remove one");
        }
        if column.trim().is_empty() {
            errors.add(&at, None, "no column", "write the name of a column of the query");
        }
    }
    let max_file_bytes = match &parquet.max_file_bytes {
        None => Some(DEFAULT_FILE_BYTES),
        Some(text) => bytes(text, MIN_FILE_BYTES, &at.field("maxFileBytes"), errors),
    };
    let max_file_age = match &parquet.max_file_age {
        None => Some(None),
        Some(text) => {
            let at = at.field("maxFileAge");
            let age = duration(text, &at, errors);
            if age.is_some_and(|age| age.is_zero()) {
                errors.add(&at, Some(text), "no time at all", "write a longer time, or remove it");
            }
            age.map(Some)
        }
    };
    let max_open_files = parquet.max_open_files.unwrap_or(DEFAULT_OPEN_FILES);
    if max_open_files == 0 {
        errors.add(&at.field("maxOpenFiles"), Some("0"), "no file could be written", "write 1 or more");
    }
    let compression = match parquet.compression {
        None | Some(CompressionSpec::Zstd) => Compression::Zstd,
        Some(CompressionSpec::Snappy) => Compression::Snappy,
        Some(CompressionSpec::Lz4) => Compression::Lz4,
        Some(CompressionSpec::None) => Compression::None,
    };
    Some(ParquetSink {
        path: path?,
        partition_by: parquet.partition_by.iter().map(ToString::to_string).collect(),
        compression,
        max_file_bytes: max_file_bytes?,
        max_file_age: max_file_age?,
        max_open_files: max_open_files as usize,
    })
}

fn console(console: &ConsoleSpec) -> ConsoleSink {
    let truncate = console.truncate.unwrap_or(DEFAULT_TRUNCATE) as usize;
    ConsoleSink { rows: console.rows.unwrap_or(DEFAULT_ROWS) as usize, truncate: (truncate > 0).then_some(truncate) }
}
