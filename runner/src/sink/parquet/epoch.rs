//! One epoch of one Parquet output: rows go through the encoder into staged objects, neither waiting for the other.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use object_store::{Attribute, Attributes};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::encode::{ClosedFile, EncodeError, Encoded, Encoder};
use super::upload::Upload;
use super::{STAGED_NAME, Shared};
use crate::sink::names::StagedName;
use crate::sink::{EpochName, EpochWriter, SinkError, StagedFile};
use crate::storage::{FaultKind, StoreFault};

/// Complete files whose last bytes are on their way at once.
const FINISHING: usize = 8;

/// The writer of one epoch. One batch is encoded on the blocking pool while the next is being made and earlier bytes
/// are being sent.
pub(super) struct ParquetEpoch {
    sink: Arc<Shared>,
    name: EpochName,
    encoding: Encoding,
    /// Objects being written, by file number.
    uploads: HashMap<u64, Upload>,
    /// Complete files whose upload is being finished.
    finishing: JoinSet<(usize, Result<StagedFile, StoreFault>)>,
    /// Bytes that those still held when they were handed over.
    finishing_bytes: usize,
    finished: Vec<StagedFile>,
    /// The encoder's memory when it was last at rest, and that of the batch it has now.
    encoder_bytes: usize,
    batch_bytes: usize,
}

type Work = (Box<Encoder>, Result<Vec<Encoded>, EncodeError>);

enum Encoding {
    AtRest(Box<Encoder>),
    Busy(JoinHandle<Work>),
    /// Nothing more can be written, because of this.
    Failed(String),
}

impl ParquetEpoch {
    /// An epoch whose encoder is `encoder`, or why there can be none.
    pub(super) fn new(sink: Arc<Shared>, name: EpochName, encoder: Result<Encoder, String>) -> Self {
        let encoding = match encoder {
            Ok(encoder) => Encoding::AtRest(Box::new(encoder)),
            Err(reason) => Encoding::Failed(reason),
        };
        Self {
            sink,
            name,
            encoding,
            uploads: HashMap::new(),
            finishing: JoinSet::new(),
            finishing_bytes: 0,
            finished: Vec::new(),
            encoder_bytes: 0,
            batch_bytes: 0,
        }
    }

    /// Takes the encoder once it is at rest and has its output on the way to the store.
    async fn encoder_at_rest(&mut self) -> Result<Box<Encoder>, SinkError> {
        match std::mem::replace(&mut self.encoding, Encoding::Failed("an earlier write failed".to_owned())) {
            Encoding::AtRest(encoder) => Ok(encoder),
            Encoding::Failed(reason) => {
                self.encoding = Encoding::Failed(reason.clone());
                Err(self.sink.internal(reason))
            }
            Encoding::Busy(work) => {
                let (encoder, encoded) =
                    work.await.map_err(|error| self.sink.internal(format!("the encoder stopped: {error}")))?;
                self.batch_bytes = 0;
                self.encoder_bytes = encoder.memory();
                for encoded in encoded.map_err(|error| self.sink.encode_error(error))? {
                    self.send(encoded).await.map_err(|fault| self.sink.fault(fault))?;
                }
                Ok(encoder)
            }
        }
    }

    /// Hands encoded bytes to their object, and finishes it with its last ones.
    async fn send(&mut self, encoded: Encoded) -> Result<(), StoreFault> {
        let Encoded { number, chunks, closed } = encoded;
        while closed.is_some() && self.finishing.len() >= FINISHING {
            self.settle_one().await?;
        }
        let staged = StagedName::new(&self.name, number);
        let mut upload = match self.uploads.remove(&number) {
            Some(upload) => upload,
            None => {
                let mut attributes = Attributes::new();
                attributes.insert(Attribute::Metadata(STAGED_NAME.into()), staged.path().into());
                Upload::new(self.sink.sending.clone(), self.sink.at.path(&staged.path())?, attributes)
            }
        };
        if let Some(closed) = closed {
            let file = self.staged_file(&staged, closed);
            let held = upload.buffered_bytes() + chunks.iter().map(Bytes::len).sum::<usize>();
            self.finishing_bytes += held;
            self.finishing.spawn(async move { (held, finish(upload, chunks, file).await) });
            return Ok(());
        }
        let appended = upload.append(chunks).await;
        self.uploads.insert(number, upload);
        appended
    }

    fn staged_file(&self, staged: &StagedName, closed: ClosedFile) -> StagedFile {
        StagedFile {
            staged: staged.path(),
            target: staged.target(&closed.partition, self.sink.suffix),
            bytes: closed.bytes,
            rows: closed.rows,
            etag: None,
        }
    }

    /// Waits for one of the files that are being finished.
    async fn settle_one(&mut self) -> Result<(), StoreFault> {
        let Some(done) = self.finishing.join_next().await else { return Ok(()) };
        let (held, done) = done.map_err(|error| StoreFault {
            kind: FaultKind::Other,
            message: format!("the upload of a file stopped: {error}"),
        })?;
        self.finishing_bytes -= held.min(self.finishing_bytes);
        self.finished.push(done?);
        Ok(())
    }

    async fn finish_all(&mut self) -> Result<Vec<StagedFile>, SinkError> {
        let mut encoder = self.encoder_at_rest().await?;
        self.encoding = Encoding::Busy(tokio::task::spawn_blocking(move || {
            let rest = encoder.finish();
            (encoder, rest)
        }));
        self.encoder_at_rest().await?;
        while !self.finishing.is_empty() {
            self.settle_one().await.map_err(|fault| self.sink.fault(fault))?;
        }
        let mut files = std::mem::take(&mut self.finished);
        files.sort_by(|one, other| {
            one.staged.len().cmp(&other.staged.len()).then_with(|| one.staged.cmp(&other.staged))
        });
        Ok(files)
    }

    /// Removes what was staged, as far as the store lets; the collector takes the rest.
    async fn give_up(&mut self) {
        if let Encoding::Busy(work) = std::mem::replace(&mut self.encoding, Encoding::Failed("given up".to_owned())) {
            let _ = work.await;
        }
        for (_, upload) in self.uploads.drain() {
            upload.abort().await;
        }
        while !self.finishing.is_empty() {
            if let Err(fault) = self.settle_one().await {
                tracing::debug!(output = self.sink.output, %fault, "a file of an abandoned epoch was not finished");
            }
        }
        let staged: Vec<String> = self.finished.drain(..).map(|file| file.staged).collect();
        if let Err(error) = self.sink.delete(&staged).await {
            tracing::debug!(output = self.sink.output, %error, "an abandoned epoch leaves staged files to the collector");
        }
    }
}

/// Sends a file's last bytes; its parts are freed if that fails.
async fn finish(mut upload: Upload, chunks: Vec<Bytes>, file: StagedFile) -> Result<StagedFile, StoreFault> {
    if let Err(fault) = upload.append(chunks).await {
        upload.abort().await;
        return Err(fault);
    }
    let etag = upload.finish().await?.e_tag;
    Ok(StagedFile { etag, ..file })
}

#[async_trait]
impl EpochWriter for ParquetEpoch {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), SinkError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut encoder = self.encoder_at_rest().await?;
        self.batch_bytes = batch.get_array_memory_size();
        let now = Instant::now();
        self.encoding = Encoding::Busy(tokio::task::spawn_blocking(move || {
            let encoded = encoder.write(batch, now);
            (encoder, encoded)
        }));
        Ok(())
    }

    fn buffered_bytes(&self) -> usize {
        let uploads: usize = self.uploads.values().map(Upload::buffered_bytes).sum();
        self.encoder_bytes + self.batch_bytes + uploads + self.finishing_bytes
    }

    async fn finish(mut self: Box<Self>) -> Result<Vec<StagedFile>, SinkError> {
        let finished = self.finish_all().await;
        if let Err(error) = &finished
            && !matches!(error, SinkError::Unavailable { .. })
        {
            self.give_up().await;
        }
        finished
    }

    async fn abort(mut self: Box<Self>) {
        self.give_up().await;
    }
}
