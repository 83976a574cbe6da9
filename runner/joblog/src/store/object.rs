//! A store behind the `object_store` crate: S3 and what speaks its language.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::store::{FaultKind, LogStore, PutIfAbsent, StoreError};

/// A checkpoint location in an object store.
///
/// The client must be built with `RetryConfig { max_retries: 0, .. }` and request timeouts: a client that repeats a create
/// by itself finds the object it created and reports that another did.
#[derive(Debug, Clone)]
pub struct ObjectLogStore {
    client: Arc<dyn ObjectStore>,
    root: Path,
}

impl ObjectLogStore {
    /// The location under `root`, a key prefix in the client's bucket.
    pub fn new(client: Arc<dyn ObjectStore>, root: Path) -> Self {
        Self { client, root }
    }

    fn path(&self, key: &str) -> Path {
        key.split('/').fold(self.root.clone(), |path, part| path.join(part))
    }

    fn key(&self, path: &Path) -> Option<String> {
        let parts: Vec<_> = path.prefix_match(&self.root)?.map(|part| part.as_ref().to_owned()).collect();
        Some(parts.join("/"))
    }
}

#[async_trait]
impl LogStore for ObjectLogStore {
    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<PutIfAbsent, StoreError> {
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        match self.client.put_opts(&self.path(key), PutPayload::from(bytes), options).await {
            Ok(_) => Ok(PutIfAbsent::Created),
            // A 409 ends here as well: another create of the key is under way, and may yet fail.
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. }) => {
                Ok(PutIfAbsent::Exists)
            }
            Err(error) => Err(fault("create", key, error)),
        }
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let put = self.client.put(&self.path(key), PutPayload::from(bytes)).await;
        put.map(drop).map_err(|error| fault("write", key, error))
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let path = self.path(key);
        let read = async { self.client.get(&path).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_missing_object(&error) => Ok(None),
            Err(error) => Err(fault("read", key, error)),
        }
    }

    async fn head(&self, key: &str) -> Result<bool, StoreError> {
        match self.client.head(&self.path(key)).await {
            Ok(_) => Ok(true),
            Err(error) if is_missing_object(&error) => Ok(false),
            Err(error) => Err(fault("read", key, error)),
        }
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let path = self.path(folder);
        let listed: Result<Vec<_>, _> = self.client.list(Some(&path)).try_collect().await;
        let objects = match listed {
            Ok(objects) => objects,
            Err(error) if is_missing_object(&error) => Vec::new(),
            Err(error) => return Err(fault("list", folder, error)),
        };
        let depth = folder.split('/').count() + 1;
        let keys = objects.iter().filter_map(|object| self.key(&object.location));
        let mut keys: Vec<String> = keys.filter(|key| key.split('/').count() == depth).collect();
        keys.sort();
        Ok(keys)
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        let Some(first) = keys.first() else { return Ok(()) };
        let paths: Vec<_> = keys.iter().map(|key| Ok(self.path(key))).collect();
        let mut deleted = self.client.delete_stream(futures::stream::iter(paths).boxed());
        while let Some(one) = deleted.next().await {
            match one {
                Ok(_) => {}
                Err(error) if is_missing_object(&error) => {}
                Err(error) => return Err(fault("delete", first, error)),
            }
        }
        Ok(())
    }
}

/// A 404 for the object, not for its bucket.
fn is_missing_object(error: &Error) -> bool {
    matches!(error, Error::NotFound { .. }) && !names_bucket(error)
}

fn names_bucket(error: &Error) -> bool {
    says(error, &["NoSuchBucket"])
}

fn fault(operation: &'static str, key: &str, error: Error) -> StoreError {
    let kind = match &error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => FaultKind::Denied,
        Error::NotImplemented { .. } | Error::NotSupported { .. } => FaultKind::Unsupported,
        Error::NotFound { .. } => FaultKind::MissingBucket,
        other if names_bucket(other) => FaultKind::MissingBucket,
        // A listing keeps its status to itself; what the server said is all there is.
        other if says(other, &["AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId"]) => FaultKind::Denied,
        other if says(other, &["StorageFull", "QuotaExceeded"]) => FaultKind::Full,
        _ => FaultKind::Transient,
    };
    StoreError::new(operation, key, kind, error)
}

/// True if the error or a cause of it names one of these codes.
fn says(error: &Error, codes: &[&str]) -> bool {
    let first: Option<&dyn std::error::Error> = Some(error);
    let mut chain = std::iter::successors(first, |error| error.source()).map(|error| error.to_string());
    chain.any(|text| codes.iter().any(|code| text.contains(code)))
}
