//! A store in memory, for tests, models and simulations. Clones share their objects.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::store::{LogStore, PutIfAbsent, StoreError};

/// A store in memory. A clone is another client of the same store.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    objects: Arc<Mutex<BTreeMap<String, Bytes>>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything in the store, by key.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        // No code panics while it holds the lock, and the map is whole after each statement.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl LogStore for MemoryStore {
    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<PutIfAbsent, StoreError> {
        let mut objects = self.lock();
        if objects.contains_key(key) {
            return Ok(PutIfAbsent::Exists);
        }
        objects.insert(key.to_owned(), bytes);
        Ok(PutIfAbsent::Created)
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.lock().insert(key.to_owned(), bytes);
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.lock().get(key).cloned())
    }

    async fn head(&self, key: &str) -> Result<bool, StoreError> {
        Ok(self.lock().contains_key(key))
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let in_folder = |key: &&String| {
            let name = key.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
            name.is_some_and(|name| !name.contains('/'))
        };
        Ok(self.lock().keys().filter(in_folder).cloned().collect())
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        let mut objects = self.lock();
        for key in keys {
            objects.remove(key);
        }
        Ok(())
    }
}
