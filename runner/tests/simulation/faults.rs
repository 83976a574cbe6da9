//! The job log's store, the sinks and the source as one process sees them: behind its gate, and with faults.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use millrace::batch::Fetched;
use millrace::ids::{Offset, Partition};
use millrace::sink::{EpochName, EpochWriter, Published, Sink, SinkError, StagedFile};
use millrace::source::memory::MemorySource;
use millrace::source::{Discovered, Source, SourceError};
use millrace_joblog::StoreError;
use millrace_joblog::store::{FaultyStore, LogStore, PutIfAbsent};

use crate::gate::Gate;

/// The job log's store as one runner sees it.
pub struct GatedStore {
    pub gate: Arc<Gate>,
    pub store: Arc<FaultyStore>,
}

impl std::fmt::Debug for GatedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GatedStore")
    }
}

#[async_trait]
impl LogStore for GatedStore {
    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<PutIfAbsent, StoreError> {
        self.gate.travel().await;
        let outcome = self.store.put_if_absent(key, bytes.clone()).await;
        match &outcome {
            Err(_) => {
                self.gate.lost().insert(key.to_owned(), bytes);
            }
            Ok(PutIfAbsent::Exists) => self.gate.watch.count("creates refused"),
            Ok(PutIfAbsent::Created) => {}
        }
        self.gate.travel().await;
        outcome
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.gate.travel().await;
        let outcome = self.store.put(key, bytes).await;
        self.gate.travel().await;
        outcome
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.gate.travel().await;
        let outcome = self.store.get(key).await;
        if let Ok(Some(bytes)) = &outcome
            && self.gate.lost().remove(key).is_some_and(|sent| sent == *bytes)
        {
            self.gate.watch.count("lost replies recognised");
        }
        self.gate.travel().await;
        outcome
    }

    async fn head(&self, key: &str) -> Result<bool, StoreError> {
        self.gate.travel().await;
        let outcome = self.store.head(key).await;
        if let Ok(true) = outcome
            && key.starts_with("sealed/")
        {
            self.gate.watch.count("seals met");
        }
        self.gate.travel().await;
        outcome
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.gate.travel().await;
        let outcome = self.store.list(folder).await;
        self.gate.travel().await;
        outcome
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        self.gate.travel().await;
        let outcome = self.store.delete(keys).await;
        self.gate.travel().await;
        outcome
    }
}

/// A sink as one runner sees it.
pub struct GatedSink {
    pub gate: Arc<Gate>,
    pub sink: Arc<dyn Sink>,
    pub output: String,
}

#[async_trait]
impl Sink for GatedSink {
    async fn check(&self, schema: &SchemaRef) -> Result<(), SinkError> {
        self.sink.check(schema).await
    }

    fn open(&self, schema: &SchemaRef, name: EpochName) -> Box<dyn EpochWriter> {
        let writer = self.sink.open(schema, name);
        Box::new(GatedWriter { gate: Arc::clone(&self.gate), writer, output: self.output.clone() })
    }

    async fn publish(&self, file: &StagedFile) -> Result<Published, SinkError> {
        self.gate.travel().await;
        let outcome = self.sink.publish(file).await;
        self.gate.watch.event(&format!("publish {} {outcome:?}", file.target));
        self.gate.travel().await;
        outcome
    }

    async fn discard(&self, staged: &str) -> Result<(), SinkError> {
        self.gate.travel().await;
        let outcome = self.sink.discard(staged).await;
        self.gate.watch.event(&format!("discard {staged} {outcome:?}"));
        self.gate.travel().await;
        outcome
    }

    async fn list_staged(&self, job_uid: &str) -> Result<Vec<String>, SinkError> {
        self.gate.travel().await;
        let outcome = self.sink.list_staged(job_uid).await;
        self.gate.travel().await;
        outcome
    }

    async fn inspect(&self, file: &StagedFile) -> Result<Published, SinkError> {
        self.gate.travel().await;
        let outcome = self.sink.inspect(file).await;
        self.gate.travel().await;
        outcome
    }

    async fn retract(&self, file: &StagedFile) -> Result<Published, SinkError> {
        if self.gate.fails(8) {
            // Between two files that a rewind takes back, for which there is no failpoint.
            self.gate.kill();
        }
        self.gate.travel().await;
        let outcome = self.sink.retract(file).await;
        self.gate.watch.event(&format!("retract {} {outcome:?}", file.target));
        self.gate.travel().await;
        outcome
    }
}

struct GatedWriter {
    gate: Arc<Gate>,
    writer: Box<dyn EpochWriter>,
    output: String,
}

#[async_trait]
impl EpochWriter for GatedWriter {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), SinkError> {
        self.gate.pass().await;
        if self.gate.fails(100) {
            self.gate.watch.count("failed writes");
            return Err(SinkError::Unavailable { output: self.output.clone(), reason: "injected fault".to_owned() });
        }
        self.writer.write(batch).await
    }

    fn buffered_bytes(&self) -> usize {
        self.writer.buffered_bytes()
    }

    async fn finish(self: Box<Self>) -> Result<Vec<StagedFile>, SinkError> {
        self.gate.travel().await;
        let outcome = self.writer.finish().await;
        self.gate.travel().await;
        outcome
    }

    async fn abort(self: Box<Self>) {
        self.writer.abort().await;
    }
}

/// A source as one runner sees it.
pub struct GatedSource {
    pub gate: Arc<Gate>,
    pub source: MemorySource,
}

#[async_trait]
impl Source for GatedSource {
    fn name(&self) -> &str {
        self.source.name()
    }

    async fn discover(&mut self) -> Result<Vec<Discovered>, SourceError> {
        self.gate.travel().await;
        let outcome = self.source.discover().await;
        self.gate.travel().await;
        outcome
    }

    async fn start_offsets(
        &mut self,
        partitions: &[Partition],
        appeared_later: bool,
    ) -> Result<BTreeMap<Partition, Offset>, SourceError> {
        self.gate.travel().await;
        let outcome = self.source.start_offsets(partitions, appeared_later).await;
        self.gate.travel().await;
        outcome
    }

    async fn end_offsets(&mut self, partitions: &[Partition]) -> Result<BTreeMap<Partition, Offset>, SourceError> {
        self.gate.travel().await;
        let outcome = self.source.end_offsets(partitions).await;
        self.gate.travel().await;
        outcome
    }

    async fn watermarks(
        &mut self,
        partitions: &[Partition],
    ) -> Result<BTreeMap<Partition, (Offset, Offset)>, SourceError> {
        self.source.watermarks(partitions).await
    }

    async fn assign(&mut self, starts: &BTreeMap<Partition, Offset>) -> Result<(), SourceError> {
        self.gate.pass().await;
        self.source.assign(starts).await
    }

    async fn unassign(&mut self, partitions: &[Partition]) -> Result<(), SourceError> {
        self.gate.pass().await;
        self.source.unassign(partitions).await
    }

    async fn next(&mut self) -> Result<Fetched, SourceError> {
        // Nothing is awaited once a fetch is in hand: the pipeline may drop this future at any await.
        self.gate.travel().await;
        self.source.next().await
    }

    async fn note_group_offsets(&mut self, offsets: &BTreeMap<Partition, Offset>) -> Result<(), SourceError> {
        self.source.note_group_offsets(offsets).await
    }
}
