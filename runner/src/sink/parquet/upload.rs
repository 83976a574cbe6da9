//! Bytes to one staged object, sent while the rest is still being encoded.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Attributes, MultipartUpload, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::storage::fault::too_slow;
use crate::storage::{FaultKind, StoreFault, classify};

/// An answer is waited for this long at least.
const PATIENCE: Duration = Duration::from_secs(20);

/// A link slower than this (bytes a second) counts as broken.
const SLOWEST_UPLOAD: u64 = 256 * 1024;

/// How objects are sent. Clones share one bound.
#[derive(Debug, Clone)]
pub(super) struct Sending {
    store: Arc<dyn ObjectStore>,
    /// A smaller object is one PUT; a larger one goes in parts of exactly this size (the last one excepted).
    part_bytes: usize,
    /// Taken by each part and each PUT while on its way, over all objects of a sink.
    slots: Arc<Semaphore>,
    slot_count: usize,
}

impl Sending {
    /// Sends to `store` in parts of `part_bytes`, `parts_in_flight` of them at once over all objects.
    pub(super) fn new(store: Arc<dyn ObjectStore>, part_bytes: usize, parts_in_flight: usize) -> Self {
        let (part_bytes, slot_count) = (part_bytes.max(1), parts_in_flight.max(1));
        Self { store, part_bytes, slots: Arc::new(Semaphore::new(slot_count)), slot_count }
    }

    async fn slot(&self) -> Result<OwnedSemaphorePermit, StoreFault> {
        Arc::clone(&self.slots).acquire_owned().await.map_err(|error| other(error.to_string()))
    }
}

/// One object on its way into the store. Dropping it leaves what was sent to the collector.
pub(super) struct Upload {
    sending: Sending,
    path: Path,
    attributes: Attributes,
    /// Bytes that do not fill a part yet.
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    multipart: Option<Box<dyn MultipartUpload>>,
    /// Parts on their way, each giving its size.
    parts: JoinSet<Result<usize, StoreFault>>,
    in_flight_bytes: usize,
}

impl Upload {
    /// Nothing is sent before the first part is full or the object complete.
    pub(super) fn new(sending: Sending, path: Path, attributes: Attributes) -> Self {
        Self {
            sending,
            path,
            attributes,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            multipart: None,
            parts: JoinSet::new(),
            in_flight_bytes: 0,
        }
    }

    /// Bytes held in memory.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.waiting_bytes + self.in_flight_bytes
    }

    /// Appends `chunks`; waits while as many parts are on their way as may.
    pub(super) async fn append(&mut self, chunks: Vec<Bytes>) -> Result<(), StoreFault> {
        for chunk in chunks {
            self.waiting_bytes += chunk.len();
            self.waiting.push_back(chunk);
        }
        while let Some(done) = self.parts.try_join_next() {
            self.settle(done)?;
        }
        while self.waiting_bytes >= self.sending.part_bytes {
            self.send_part(self.sending.part_bytes).await?;
        }
        Ok(())
    }

    /// Sends the rest; the object is complete and durable when this returns.
    pub(super) async fn finish(mut self) -> Result<PutResult, StoreFault> {
        if self.multipart.is_none() {
            let rest = self.take_waiting(self.waiting_bytes);
            let options = PutOptions { attributes: self.attributes.clone(), ..PutOptions::default() };
            let _slot = self.sending.slot().await?;
            let limit = patience(rest.content_length() * self.sending.slot_count);
            return within(limit, "writing", &self.path, self.sending.store.put_opts(&self.path, rest, options)).await;
        }
        let completed = self.complete().await;
        if completed.is_err() {
            self.abort().await;
        }
        completed
    }

    /// Gives the object up and frees the parts that were sent, as far as the store lets.
    pub(super) async fn abort(mut self) {
        // A part that is still on its way when the upload is given up would stay for ever.
        let settled = async { while self.parts.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(PATIENCE, settled).await;
        self.parts.abort_all();
        if let Some(mut multipart) = self.multipart.take()
            && let Err(fault) = within(PATIENCE, "giving up", &self.path, multipart.abort()).await
        {
            tracing::debug!(path = %self.path, %fault, "parts of an abandoned upload stay in the store");
        }
    }

    async fn complete(&mut self) -> Result<PutResult, StoreFault> {
        if self.waiting_bytes > 0 {
            self.send_part(self.waiting_bytes).await?;
        }
        while let Some(done) = self.parts.join_next().await {
            self.settle(done)?;
        }
        let Some(multipart) = self.multipart.as_mut() else {
            return Err(other("an upload in parts has none".to_owned()));
        };
        within(PATIENCE * 3, "completing", &self.path, multipart.complete()).await
    }

    async fn send_part(&mut self, bytes: usize) -> Result<(), StoreFault> {
        let slot = self.sending.slot().await?;
        let payload = self.take_waiting(bytes);
        let multipart = match &mut self.multipart {
            Some(multipart) => multipart,
            empty => {
                let options = PutMultipartOptions { attributes: self.attributes.clone(), ..Default::default() };
                let start = self.sending.store.put_multipart_opts(&self.path, options);
                empty.insert(within(PATIENCE, "starting to write", &self.path, start).await?)
            }
        };
        let part = multipart.put_part(payload);
        let path = self.path.clone();
        let limit = patience(bytes * self.sending.slot_count);
        self.in_flight_bytes += bytes;
        self.parts.spawn(async move {
            let _slot = slot;
            within(limit, "writing", &path, part).await.map(|()| bytes)
        });
        Ok(())
    }

    fn settle(&mut self, done: Result<Result<usize, StoreFault>, tokio::task::JoinError>) -> Result<(), StoreFault> {
        let bytes = done.map_err(|error| other(format!("the upload of a part stopped: {error}")))??;
        self.in_flight_bytes -= bytes.min(self.in_flight_bytes);
        Ok(())
    }

    /// The first `bytes` of what waits, without a copy.
    fn take_waiting(&mut self, mut bytes: usize) -> PutPayload {
        let mut taken = Vec::new();
        while bytes > 0 {
            let Some(mut chunk) = self.waiting.pop_front() else { break };
            if chunk.len() > bytes {
                self.waiting.push_front(chunk.split_off(bytes));
            }
            bytes -= chunk.len();
            self.waiting_bytes -= chunk.len();
            taken.push(chunk);
        }
        taken.into_iter().collect()
    }
}

/// How long sending `bytes` may take.
fn patience(bytes: usize) -> Duration {
    PATIENCE + Duration::from_secs(bytes as u64 / SLOWEST_UPLOAD)
}

/// Waits for a request, which a store that hangs would never answer, for `limit` at most.
pub(super) async fn within<T>(
    limit: Duration,
    doing: &str,
    path: &Path,
    request: impl Future<Output = object_store::Result<T>>,
) -> Result<T, StoreFault> {
    match tokio::time::timeout(limit, request).await {
        Ok(answer) => answer.map_err(|error| classify(&error)),
        Err(_) => Err(too_slow(&format!("{doing} {path}"), limit)),
    }
}

fn other(message: String) -> StoreFault {
    StoreFault { kind: FaultKind::Other, message }
}
