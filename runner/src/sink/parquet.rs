//! Parquet files in a folder: staged while an epoch is open, copied to their final names once it was decided.
//!
//! ```text
//! <location>/_millrace/staged/<job uid>/<claim seq>-<incarnation>-<epoch>-<n>.staged     no reader takes it for data
//! <location>/[column=value/…]part-<job>-<incarnation>-<epoch>-<n>.zstd.parquet  published
//! ```

mod encode;
mod epoch;
mod partition;
mod table;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use millrace_crds::{Compression, ParquetSink as Settings};
use object_store::path::Path;
use object_store::{Attribute, GetOptions, ObjectStore, ObjectStoreExt, PutPayload};
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::file::properties::WriterProperties;
use uuid::Uuid;

use super::names::{RESERVED_DIR, staged_dir};
use super::{EpochName, EpochWriter, Published, Sink, SinkError, StagedFile};
use crate::storage::{FaultKind, StoreAt, StoreFault, classify};
use encode::{EncodeError, Encoder, Limits};
use epoch::ParquetEpoch;
use partition::{PartitionError, Partitioner};
use table::StoredTable;
use upload::{Sending, within};

/// The metadata key under which an object says which staged object it is or was copied from.
const STAGED_NAME: &str = "millrace-staged";

/// One server-side copy takes at most 5 GB; this leaves room for the last row group.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// A request without a body is waited for this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A store that copies slower than this (bytes a second) counts as broken.
const SLOWEST_COPY: u64 = 8 << 20;

/// How much memory the files of one output take, and when row groups end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Rows of a row group.
    pub row_group_rows: usize,
    /// Encoded bytes of a row group.
    pub row_group_bytes: usize,
    /// The size of one part of an upload, at least 5 MiB on S3; a smaller file is a single PUT.
    pub part_bytes: usize,
    /// Parts and whole files on their way at once.
    pub parts_in_flight: usize,
    /// All open files together; above it row groups end early, and then files.
    pub open_bytes: usize,
}

impl Default for Memory {
    /// About 60 MiB for one file at a time, 100 MiB for many.
    fn default() -> Self {
        Self {
            row_group_rows: 1 << 20,
            row_group_bytes: 16 << 20,
            part_bytes: 8 << 20,
            parts_in_flight: 3,
            open_bytes: 64 << 20,
        }
    }
}

/// The sink of one Parquet output, or of dead letters.
#[derive(Debug, Clone)]
pub struct ParquetSink {
    shared: Arc<Shared>,
}

/// What the sink and its epochs share.
#[derive(Debug)]
struct Shared {
    output: String,
    at: StoreAt,
    settings: Settings,
    memory: Memory,
    properties: WriterProperties,
    /// The end of a published file's name.
    suffix: &'static str,
    sending: Sending,
}

impl ParquetSink {
    /// The sink of `output` at `at`, the store of `settings.path`.
    pub fn new(output: impl Into<String>, settings: Settings, at: StoreAt) -> Self {
        Self::with_memory(output, settings, at, Memory::default())
    }

    /// Like [`ParquetSink::new`], with other bounds.
    pub fn with_memory(output: impl Into<String>, settings: Settings, at: StoreAt, memory: Memory) -> Self {
        let (codec, suffix) = codec(settings.compression);
        let properties = WriterProperties::builder()
            .set_compression(codec)
            .set_created_by(concat!("millrace version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_max_row_group_row_count(Some(memory.row_group_rows.max(1)))
            .set_max_row_group_bytes(Some(memory.row_group_bytes.max(1)))
            // Lists and maps get the names that the format's specification gives them.
            .set_coerce_types(true)
            .build();
        let sending = Sending::new(Arc::clone(&at.store), memory.part_bytes, memory.parts_in_flight);
        let output = output.into();
        Self { shared: Arc::new(Shared { output, at, settings, memory, properties, suffix, sending }) }
    }
}

#[async_trait]
impl Sink for ParquetSink {
    async fn check(&self, schema: &SchemaRef) -> Result<(), SinkError> {
        let (table, _) = self.shared.table(schema).map_err(|error| self.shared.user(error.to_string()))?;
        if let Some(reason) = table.refusal() {
            return Err(self.shared.user(reason));
        }
        self.shared.probe().await.map_err(|fault| self.shared.fault(fault))
    }

    fn open(&self, schema: &SchemaRef, name: EpochName) -> Box<dyn EpochWriter> {
        let shared = &self.shared;
        let encoder = shared
            .table(schema)
            .map_err(|error| error.to_string())
            .map(|(table, partitioner)| Encoder::new(table, partitioner, shared.properties.clone(), shared.limits()));
        Box::new(ParquetEpoch::new(Arc::clone(shared), name, encoder))
    }

    async fn publish(&self, file: &StagedFile) -> Result<Published, SinkError> {
        let limit = PATIENCE + Duration::from_secs(file.bytes / SLOWEST_COPY);
        let copied = async {
            let (from, to) = (self.shared.at.path(&file.staged)?, self.shared.at.path(&file.target)?);
            within(limit, "publishing", &to, self.shared.at.store.copy(&from, &to)).await
        };
        match copied.await {
            Ok(()) => Ok(Published::Done),
            Err(fault) if fault.kind == FaultKind::NotFound => Ok(Published::Missing),
            Err(fault) => Err(self.shared.fault(fault)),
        }
    }

    async fn discard(&self, staged: &str) -> Result<(), SinkError> {
        self.shared.delete(&[staged.to_owned()]).await
    }

    async fn discard_all(&self, staged: &[String]) -> Result<(), SinkError> {
        self.shared.delete(staged).await
    }

    async fn list_staged(&self, job_uid: &str) -> Result<Vec<String>, SinkError> {
        let listed = async {
            let prefix = self.shared.at.path(&staged_dir(job_uid))?;
            let list = self.shared.at.store.list(Some(&prefix)).map_ok(|meta| meta.location).try_collect();
            let found: Vec<Path> = within(PATIENCE * 6, "listing", &prefix, list).await?;
            Ok(found.iter().filter_map(|path| self.shared.at.relative(path)).collect())
        };
        listed.await.map_err(|fault| self.shared.fault(fault))
    }

    async fn inspect(&self, file: &StagedFile) -> Result<Published, SinkError> {
        match self.shared.inspect(file).await {
            Ok(outcome) => Ok(outcome),
            Err(fault) if fault.kind == FaultKind::NotFound => Ok(Published::Missing),
            Err(fault) => Err(self.shared.fault(fault)),
        }
    }

    async fn retract(&self, file: &StagedFile) -> Result<Published, SinkError> {
        match self.shared.retract(file).await {
            Ok(outcome) => Ok(outcome),
            Err(fault) if fault.kind == FaultKind::NotFound => Ok(Published::Missing),
            Err(fault) => Err(self.shared.fault(fault)),
        }
    }
}

impl Shared {
    fn table(&self, schema: &Schema) -> Result<(StoredTable, Partitioner), PartitionError> {
        let partitioner = Partitioner::new(schema, &self.settings.partition_by)?;
        let table = StoredTable::new(schema, partitioner.stored_columns(schema));
        Ok((table, partitioner))
    }

    fn limits(&self) -> Limits {
        Limits {
            file_bytes: self.settings.max_file_bytes.clamp(1, MAX_FILE_BYTES),
            file_age: self.settings.max_file_age,
            open_files: self.settings.max_open_files,
            memory_bytes: self.memory.open_bytes,
            part_bytes: self.memory.part_bytes,
        }
    }

    /// Does once, with an object of its own, all that staging and publishing will ask of the store.
    async fn probe(&self) -> Result<(), StoreFault> {
        let name = format!("{RESERVED_DIR}/probe-{}", Uuid::new_v4().simple());
        let (first, second) = (self.at.path(&name)?, self.at.path(&format!("{name}-copy"))?);
        let store = &self.at.store;
        within(PATIENCE, "writing", &first, store.put(&first, PutPayload::from_static(b"probe"))).await?;
        let copied = within(PATIENCE, "copying to", &second, store.copy(&first, &second)).await;
        let deleted = self.delete_paths(vec![first, second]).await;
        copied.and(deleted)
    }

    async fn delete(&self, staged: &[String]) -> Result<(), SinkError> {
        let deleted = async {
            let paths = staged.iter().map(|path| self.at.path(path)).collect::<Result<Vec<_>, _>>()?;
            self.delete_paths(paths).await
        };
        deleted.await.map_err(|fault| self.fault(fault))
    }

    /// Deletes objects, a thousand to a request; one that is not there is fine.
    async fn delete_paths(&self, paths: Vec<Path>) -> Result<(), StoreFault> {
        let Some(first) = paths.first().cloned() else { return Ok(()) };
        let deletes = self.at.store.delete_stream(stream::iter(paths.into_iter().map(Ok)).boxed());
        // Every answer is taken, so that one failure does not keep the objects behind it.
        let answers = async { Ok(deletes.collect::<Vec<_>>().await) };
        for answer in within(PATIENCE * 2, "deleting", &first, answers).await? {
            match answer.map_err(|error| classify(&error)) {
                Err(fault) if fault.kind != FaultKind::NotFound => return Err(fault),
                _ => {}
            }
        }
        Ok(())
    }

    async fn retract(&self, file: &StagedFile) -> Result<Published, StoreFault> {
        let found = self.inspect(file).await?;
        if found == Published::Done {
            self.delete_paths(vec![self.at.path(&file.target)?]).await?;
        }
        Ok(found)
    }

    async fn inspect(&self, file: &StagedFile) -> Result<Published, StoreFault> {
        let target = self.at.path(&file.target)?;
        let head = GetOptions { head: true, ..GetOptions::default() };
        let found = within(PATIENCE, "looking at", &target, self.at.store.get_opts(&target, head)).await?;
        let written_as = found.attributes.get(&Attribute::Metadata(STAGED_NAME.into()));
        let same_name = written_as.is_some_and(|name| name.as_ref() == file.staged);
        let same_etag = file.etag.is_some() && found.meta.e_tag == file.etag;
        if found.meta.size != file.bytes || !(same_name || same_etag) {
            return Ok(Published::Changed);
        }
        Ok(Published::Done)
    }

    fn fault(&self, fault: StoreFault) -> SinkError {
        let (output, shown) = (self.output.clone(), &self.at.shown);
        let reason = format!("{shown}: {}", fault.message);
        match fault.kind {
            FaultKind::Unavailable => SinkError::Unavailable { output, reason },
            FaultKind::NoSpace => SinkError::Full { output, path: shown.clone() },
            FaultKind::Denied | FaultKind::BucketMissing | FaultKind::Misconfigured => {
                SinkError::User { output, reason }
            }
            FaultKind::NotFound | FaultKind::Other => SinkError::Internal { output, reason },
        }
    }

    fn encode_error(&self, error: EncodeError) -> SinkError {
        match error {
            EncodeError::Partition(error @ PartitionError::TooLong { .. }) => self.user(error.to_string()),
            other => self.internal(other.to_string()),
        }
    }

    fn user(&self, reason: String) -> SinkError {
        SinkError::User { output: self.output.clone(), reason }
    }

    fn internal(&self, reason: String) -> SinkError {
        SinkError::Internal { output: self.output.clone(), reason }
    }
}

/// The library's codec and the end of a file's name, which is Spark's.
fn codec(compression: Compression) -> (Codec, &'static str) {
    match compression {
        // Level 1: measured as the best of size and CPU.
        Compression::Zstd => (Codec::ZSTD(ZstdLevel::try_new(1).unwrap_or_default()), ".zstd.parquet"),
        Compression::Snappy => (Codec::SNAPPY, ".snappy.parquet"),
        Compression::Lz4 => (Codec::LZ4_RAW, ".lz4raw.parquet"),
        Compression::None => (Codec::UNCOMPRESSED, ".parquet"),
    }
}

#[cfg(test)]
mod tests;
