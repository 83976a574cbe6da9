//! The conformance suite on the stores that need no server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_joblog::store::{
    FaultKind, LocalStore, MemoryStore, ObjectLogStore, ProbeError, PutIfAbsent, conformance, probe,
};
use millrace_joblog::{LogStore, StoreError};

#[tokio::test]
async fn the_memory_store_conforms() {
    conformance::run(Arc::new(MemoryStore::new())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_local_store_conforms() {
    let root = tempfile::tempdir().unwrap();
    conformance::run(Arc::new(LocalStore::open(root.path().join("a/checkpoint")).unwrap())).await.unwrap();
    let unfinished = std::fs::read_dir(root.path().join("a/checkpoint/tmp")).unwrap().count();
    assert_eq!(unfinished, 0, "nothing unfinished is left behind");
}

#[tokio::test]
async fn an_object_store_client_conforms() {
    let client = Arc::new(object_store::memory::InMemory::new());
    let store = ObjectLogStore::new(client, object_store::path::Path::from("lake/_checkpoints/orders"));
    conformance::run(Arc::new(store)).await.unwrap();
}

#[tokio::test]
async fn a_local_root_that_goes_away_is_a_fault_and_not_an_empty_log() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("checkpoint");
    let store = LocalStore::open(&path).unwrap();
    store.put_if_absent("log/0.json", Bytes::from_static(b"{}")).await.unwrap();
    std::fs::rename(&path, root.path().join("elsewhere")).unwrap();
    assert!(store.get("log/0.json").await.is_err());
    assert!(store.head("log/0.json").await.is_err());
    assert!(store.list("log").await.is_err());
    let error = store.put_if_absent("log/1.json", Bytes::from_static(b"{}")).await.unwrap_err();
    assert_eq!(error.kind, FaultKind::MissingBucket);
    assert!(!path.exists());
}

/// A store that takes conditions for suggestions, as some S3 look-alikes do.
#[derive(Debug)]
struct Liar {
    inner: MemoryStore,
    admits: bool,
}

#[async_trait]
impl LogStore for Liar {
    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<PutIfAbsent, StoreError> {
        self.inner.put(key, bytes).await?;
        Ok(if self.admits { PutIfAbsent::Created } else { PutIfAbsent::Exists })
    }
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.put(key, bytes).await
    }
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.inner.get(key).await
    }
    async fn head(&self, key: &str) -> Result<bool, StoreError> {
        self.inner.head(key).await
    }
    async fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.inner.list(folder).await
    }
    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        self.inner.delete(keys).await
    }
}

#[tokio::test]
async fn the_probe_refuses_a_store_that_lies_and_leaves_one_object() {
    for admits in [true, false] {
        let inner = MemoryStore::new();
        let liar = Liar { inner: inner.clone(), admits };
        for _ in 0..2 {
            let error = probe(&liar).await.unwrap_err();
            assert!(matches!(error, ProbeError::IgnoresConditions { .. }), "{error}");
        }
        assert!(conformance::run(Arc::new(liar)).await.is_err());
    }
    let honest = MemoryStore::new();
    for _ in 0..3 {
        probe(&honest).await.unwrap();
    }
    assert_eq!(honest.objects().len(), 1);
}
