//! Places to write to, and rows to write.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use millrace_crds::{Compression, Location, ParquetSink as Settings};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

use super::super::{Memory, ParquetSink};
use crate::sink::EpochName;
use crate::storage::StoreAt;
use crate::storage::local::DurableLocal;

pub(super) const COMPRESSIONS: [Compression; 4] =
    [Compression::Zstd, Compression::Snappy, Compression::Lz4, Compression::None];

/// A sink with its store.
pub(super) struct Place {
    pub(super) sink: ParquetSink,
    pub(super) store: Arc<dyn ObjectStore>,
    at: StoreAt,
    _dir: Option<TempDir>,
}

/// Settings of a sink.
pub(super) struct Wanted {
    settings: Settings,
    memory: Memory,
}

/// Defaults, to be changed by the methods.
pub(super) fn small() -> Wanted {
    let settings = Settings {
        path: Location::Local("unused".into()),
        partition_by: Vec::new(),
        compression: Compression::Zstd,
        max_file_bytes: 128 << 20,
        max_file_age: None,
        max_open_files: 32,
    };
    Wanted { settings, memory: Memory::default() }
}

impl Wanted {
    pub(super) fn compression(mut self, compression: Compression) -> Self {
        self.settings.compression = compression;
        self
    }

    pub(super) fn partition_by(mut self, columns: &[&str]) -> Self {
        self.settings.partition_by = columns.iter().map(|column| (*column).to_owned()).collect();
        self
    }

    pub(super) fn file_bytes(mut self, bytes: u64) -> Self {
        self.settings.max_file_bytes = bytes;
        self
    }

    pub(super) fn file_age(mut self, age: Duration) -> Self {
        self.settings.max_file_age = Some(age);
        self
    }

    pub(super) fn open_files(mut self, files: usize) -> Self {
        self.settings.max_open_files = files;
        self
    }

    pub(super) fn memory(mut self, memory: Memory) -> Self {
        self.memory = memory;
        self
    }
}

impl Place {
    pub(super) fn disk(wanted: Wanted) -> Self {
        let dir = TempDir::new().unwrap();
        let local = DurableLocal::open(&dir.path().join("lake")).unwrap();
        let shown = local.root().display().to_string();
        Self::new(wanted, StoreAt { store: Arc::new(local), prefix: Path::default(), shown }, Some(dir))
    }

    pub(super) fn memory(wanted: Wanted) -> Self {
        Self::at(wanted, Arc::new(InMemory::new()))
    }

    pub(super) fn faulty(wanted: Wanted, store: Faulty) -> Self {
        Self::at(wanted, Arc::new(store))
    }

    pub(super) fn at(wanted: Wanted, store: Arc<dyn ObjectStore>) -> Self {
        let prefix = Path::parse("lake/t").unwrap();
        Self::new(wanted, StoreAt { store, prefix, shown: "s3://bucket/lake/t".to_owned() }, None)
    }

    pub(super) fn over(wanted: Wanted, at: StoreAt) -> Self {
        Self::new(wanted, at, None)
    }

    fn new(wanted: Wanted, at: StoreAt, dir: Option<TempDir>) -> Self {
        let sink = ParquetSink::with_memory("t", wanted.settings, at.clone(), wanted.memory);
        Self { sink, store: Arc::clone(&at.store), at, _dir: dir }
    }

    pub(super) fn path(&self, relative: &str) -> Path {
        self.at.path(relative).unwrap()
    }

    /// Every object below the location, relative to it, sorted.
    pub(super) async fn names(&self) -> Vec<String> {
        let found: Vec<ObjectMeta> = self.store.list(None).try_collect().await.unwrap();
        let mut names: Vec<String> = found.iter().map(|meta| self.at.relative(&meta.location).unwrap()).collect();
        names.sort();
        names
    }

    pub(super) async fn size(&self, relative: &str) -> u64 {
        self.store.head(&self.path(relative)).await.unwrap().size
    }

    pub(super) async fn read(&self, relative: &str) -> Vec<RecordBatch> {
        let bytes = self.store.get(&self.path(relative)).await.unwrap().bytes().await.unwrap();
        ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap().map(|batch| batch.unwrap()).collect()
    }

    /// Column `v` of every published file, sorted.
    pub(super) async fn all_numbers(&self) -> Vec<i64> {
        let mut numbers = Vec::new();
        for name in self.names().await.iter().filter(|name| name.ends_with(".parquet")) {
            for batch in self.read(name).await {
                numbers.extend(int64(&batch, "v"));
            }
        }
        numbers.sort_unstable();
        numbers
    }
}

pub(super) fn epoch(number: u64) -> EpochName {
    EpochName {
        job_uid: "0f5cab99-1111-2222".to_owned(),
        claim_seq: 7,
        incarnation: "in-car".to_owned(),
        epoch: number,
    }
}

/// Column `v` with a range.
pub(super) fn numbers(range: Range<i64>) -> RecordBatch {
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
    RecordBatch::try_from_iter_with_nullable([("v", values, true)]).unwrap()
}

/// Column `v` with a range, and `k` with its remainder.
pub(super) fn keyed(range: Range<i64>, keys: i64) -> RecordBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(range.clone().map(|value| value % keys)));
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
    RecordBatch::try_from_iter_with_nullable([("k", keys, true), ("v", values, true)]).unwrap()
}

/// Like [`keyed`], with values that no codec makes smaller.
pub(super) fn incompressible(seed: i64, rows: i64, keys: i64) -> RecordBatch {
    let mix = |row: i64| {
        (seed * rows + row).wrapping_mul(0x5851_f42d_4c95_7f2d).rotate_left(31).wrapping_mul(0x1405_7b7e_f767_814f)
    };
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row % keys)));
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(mix)));
    RecordBatch::try_from_iter_with_nullable([("k", keys, true), ("v", values, true)]).unwrap()
}

pub(super) fn int64(batch: &RecordBatch, column: &str) -> Vec<i64> {
    batch.column_by_name(column).unwrap().as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
}

/// A store in memory whose writes fail as those of a full disk do, or are never answered.
#[derive(Debug)]
pub(super) struct Faulty {
    inner: InMemory,
    hangs: bool,
}

impl Faulty {
    pub(super) fn full_disk() -> Self {
        Self { inner: InMemory::new(), hangs: false }
    }

    pub(super) fn that_hangs() -> Self {
        Self { inner: InMemory::new(), hangs: true }
    }
}

fn no_space() -> object_store::Error {
    object_store::Error::Generic { store: "test", source: Box::new(io::Error::from(io::ErrorKind::StorageFull)) }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[derive(Debug)]
struct FullUpload(Box<dyn MultipartUpload>);

#[async_trait]
impl MultipartUpload for FullUpload {
    fn put_part(&mut self, _: PutPayload) -> UploadPart {
        Box::pin(async { Err(no_space()) })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        Err(no_space())
    }

    async fn abort(&mut self) -> Result<()> {
        self.0.abort().await
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Err(no_space())
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(FullUpload(self.inner.put_multipart_opts(path, options).await?)))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
