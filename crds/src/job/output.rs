//! Outputs: named queries with their sinks.

use std::time::Duration;

use super::Location;

/// A named query with its sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// An SQL identifier, unique among the outputs.
    pub name: String,
    /// The query over sources and views.
    pub sql: String,
    /// Which results are written.
    pub mode: OutputMode,
    /// Where they are written.
    pub sink: Sink,
}

/// Which results of a query are written, as in Spark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputMode {
    /// Each result once, when it is final.
    Append,
    /// Results that changed.
    Update,
    /// The whole result.
    Complete,
}

/// Where an output writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// Parquet files.
    Parquet(ParquetSink),
    /// Tables on standard output, for trying out.
    Console(ConsoleSink),
}

/// Parquet files in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetSink {
    /// The table's folder; no other output, dead letter or checkpoint shares it.
    pub path: Location,
    /// Columns that become hive partitions (`column=value` folders), outermost first.
    pub partition_by: Vec<String>,
    /// Compression of the column data.
    pub compression: Compression,
    /// A file is closed once it holds about this many bytes.
    pub max_file_bytes: u64,
    /// A file is closed once it has been open this long, also within an epoch.
    pub max_file_age: Option<Duration>,
    /// How many files are open at once; the least recently used one is closed first.
    pub max_open_files: usize,
}

/// Compression of Parquet column data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Zstandard, the default.
    Zstd,
    /// Snappy.
    Snappy,
    /// LZ4 in Parquet's raw form.
    Lz4,
    /// None.
    None,
}

/// Tables on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsoleSink {
    /// At most this many rows of an epoch are shown.
    pub rows: usize,
    /// Cells are cut to this many characters; `None` shows them whole.
    pub truncate: Option<usize>,
}
