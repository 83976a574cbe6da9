//! The few operations that the log asks of an object store.

pub mod conformance;
mod faulty;
mod local;
mod memory;
mod object;
mod probe;

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::faulty::{Fault, Faults, FaultyStore};
pub use self::local::LocalStore;
pub use self::memory::MemoryStore;
pub use self::object::ObjectLogStore;
pub use self::probe::{ProbeError, probe};

/// What became of a put-if-absent, as far as the store said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PutIfAbsent {
    /// The object did not exist and does now, with these bytes.
    Created,
    /// The store refused, because the object exists or another create of it is under way. Only a read tells which, and
    /// whose the object is.
    Exists,
}

/// The store of one checkpoint location. Keys are relative to it, made by [`crate::paths`].
///
/// Every method must be free of retries of its own: after a lost reply only the log knows what may be sent again. Any
/// error of a write means that its outcome is unknown.
#[async_trait]
pub trait LogStore: Debug + Send + Sync {
    /// Creates the object unless it exists: atomically, exclusively, durably before the reply.
    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<PutIfAbsent, StoreError>;

    /// Creates or replaces the object. For nothing that must be exclusive.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError>;

    /// The object's bytes, or `None` if it does not exist. Sees every write that was acknowledged before.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError>;

    /// True if the object exists. Sees every write that was acknowledged before.
    async fn head(&self, key: &str) -> Result<bool, StoreError>;

    /// The keys of the objects right in `folder` (no trailing slash), sorted. It may miss the newest.
    async fn list(&self, folder: &str) -> Result<Vec<String>, StoreError>;

    /// Deletes the objects. One that does not exist is no error.
    async fn delete(&self, keys: &[String]) -> Result<(), StoreError>;
}

/// A store operation that failed. For a write: whether it took effect is unknown.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {key}: {kind}")]
pub struct StoreError {
    /// What was tried: `read`, `create`, `write`, `list` or `delete`.
    pub operation: &'static str,
    /// The key, or the folder of a listing.
    pub key: String,
    /// The class of the fault.
    pub kind: FaultKind,
    /// What the store said.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync + 'static>>,
}

/// The class of a store's fault: whether waiting helps, and what the user can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FaultKind {
    /// The store is away or overloaded; it is worth trying again.
    #[error("the store did not answer as it should; it will be tried again")]
    Transient,
    /// The credentials are missing, wrong, or lack a right.
    #[error("access denied: check the credentials and that they may read, write, list and delete here")]
    Denied,
    /// The bucket or the folder above does not exist.
    #[error("the bucket or directory does not exist: create it or correct checkpoint.location")]
    MissingBucket,
    /// No space is left.
    #[error("no space is left: free some")]
    Full,
    /// The store lacks an operation that the log needs.
    #[error("the store lacks what the job log needs (a create that is atomic and exclusive)")]
    Unsupported,
}

impl FaultKind {
    /// True if the same request may succeed by itself a moment later.
    pub fn is_transient(self) -> bool {
        self == FaultKind::Transient
    }
}

impl StoreError {
    pub(crate) fn new(
        operation: &'static str,
        key: &str,
        kind: FaultKind,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { operation, key: key.to_owned(), kind, source: Some(source.into()) }
    }
}
