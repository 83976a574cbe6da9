//! A store that fails as real ones do, on purpose and repeatably.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::store::{FaultKind, LogStore, PutIfAbsent, StoreError};

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nothing.
    None,
    /// The request never arrives; the client sees an error.
    NotSent,
    /// The request takes effect; the client sees an error.
    LostReply,
    /// A create is refused as if the object existed, without effect: a 409.
    Conflict,
    /// The client sees an error now; a write takes effect later, after that many more requests of this client or at
    /// [`FaultyStore::deliver_delayed`].
    Delayed(u32),
    /// The reply takes that many turns of the scheduler.
    Slow(u32),
}

/// Which faults come, request by request.
#[derive(Debug, Clone)]
pub enum Faults {
    /// These, then none.
    Script(VecDeque<Fault>),
    /// Drawn from a seed: the same seed and the same requests, the same faults.
    Seeded {
        /// The generator's state.
        state: u64,
        /// How many of 1,000 requests go wrong.
        per_mille: u64,
    },
}

/// A client of a store through which requests go wrong.
pub struct FaultyStore {
    inner: Arc<dyn LogStore>,
    faults: Mutex<Faults>,
    delayed: Mutex<Vec<(u32, Write)>>,
    requests: Mutex<Vec<(&'static str, String)>>,
}

#[derive(Debug, Clone)]
enum Write {
    Create(String, Bytes),
    Put(String, Bytes),
    Delete(Vec<String>),
}

impl Faults {
    /// These faults, one a request, then none.
    pub fn script(faults: impl IntoIterator<Item = Fault>) -> Self {
        Faults::Script(faults.into_iter().collect())
    }

    /// Faults drawn from a seed.
    pub fn seeded(seed: u64, per_mille: u64) -> Self {
        Faults::Seeded { state: seed, per_mille }
    }

    fn next(&mut self) -> Fault {
        match self {
            Faults::Script(faults) => faults.pop_front().unwrap_or(Fault::None),
            Faults::Seeded { state, per_mille } => {
                if split_mix(state) % 1000 >= *per_mille {
                    return Fault::None;
                }
                match split_mix(state) % 5 {
                    0 => Fault::NotSent,
                    1 => Fault::LostReply,
                    2 => Fault::Conflict,
                    3 => Fault::Delayed((split_mix(state) % 8) as u32),
                    _ => Fault::Slow((split_mix(state) % 8) as u32),
                }
            }
        }
    }
}

impl FaultyStore {
    /// A client of `inner` with these faults.
    pub fn new(inner: Arc<dyn LogStore>, faults: Faults) -> Self {
        Self { inner, faults: Mutex::new(faults), delayed: Mutex::default(), requests: Mutex::default() }
    }

    /// Every request so far: what and which key.
    pub fn requests(&self) -> Vec<(&'static str, String)> {
        lock(&self.requests).clone()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        lock(&self.requests).clear();
    }

    /// Replaces the faults to come.
    pub fn set_faults(&self, faults: Faults) {
        *lock(&self.faults) = faults;
    }

    /// Lets every delayed write take effect now, in the order they were sent.
    pub async fn deliver_delayed(&self) {
        let due: Vec<_> = lock(&self.delayed).drain(..).collect();
        for (_, write) in due {
            self.deliver(write).await;
        }
    }

    async fn begin(&self, operation: &'static str, key: &str) -> Fault {
        lock(&self.requests).push((operation, key.to_owned()));
        let due: Vec<Write> = {
            let mut delayed = lock(&self.delayed);
            let due = delayed.iter().filter(|(left, _)| *left == 0).map(|(_, write)| write.clone()).collect();
            delayed.retain(|(left, _)| *left > 0);
            delayed.iter_mut().for_each(|(left, _)| *left -= 1);
            due
        };
        for write in due {
            self.deliver(write).await;
        }
        let fault = lock(&self.faults).next();
        if let Fault::Slow(turns) = fault {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        }
        fault
    }

    /// A write that arrives late: nobody waits for its reply.
    async fn deliver(&self, write: Write) {
        let outcome = match write {
            Write::Create(key, bytes) => self.inner.put_if_absent(&key, bytes).await.map(drop),
            Write::Put(key, bytes) => self.inner.put(&key, bytes).await,
            Write::Delete(keys) => self.inner.delete(&keys).await,
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "a delayed write failed");
        }
    }

    fn delay(&self, requests: u32, write: Write) {
        lock(&self.delayed).push((requests, write));
    }
}

#[async_trait]
impl LogStore for FaultyStore {
    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<PutIfAbsent, StoreError> {
        match self.begin("create", key).await {
            Fault::None | Fault::Slow(_) => self.inner.put_if_absent(key, bytes).await,
            Fault::Conflict => Ok(PutIfAbsent::Exists),
            Fault::NotSent => Err(injected("create", key)),
            Fault::LostReply => self.inner.put_if_absent(key, bytes).await.and(Err(injected("create", key))),
            Fault::Delayed(requests) => {
                self.delay(requests, Write::Create(key.to_owned(), bytes));
                Err(injected("create", key))
            }
        }
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        match self.begin("write", key).await {
            Fault::None | Fault::Slow(_) => self.inner.put(key, bytes).await,
            Fault::NotSent | Fault::Conflict => Err(injected("write", key)),
            Fault::LostReply => self.inner.put(key, bytes).await.and(Err(injected("write", key))),
            Fault::Delayed(requests) => {
                self.delay(requests, Write::Put(key.to_owned(), bytes));
                Err(injected("write", key))
            }
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        match self.begin("get", key).await {
            Fault::None | Fault::Slow(_) => self.inner.get(key).await,
            _ => Err(injected("read", key)),
        }
    }

    async fn head(&self, key: &str) -> Result<bool, StoreError> {
        match self.begin("head", key).await {
            Fault::None | Fault::Slow(_) => self.inner.head(key).await,
            _ => Err(injected("read", key)),
        }
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        match self.begin("list", folder).await {
            Fault::None | Fault::Slow(_) => self.inner.list(folder).await,
            _ => Err(injected("list", folder)),
        }
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        let Some(first) = keys.first() else { return Ok(()) };
        match self.begin("delete", first).await {
            Fault::None | Fault::Slow(_) => self.inner.delete(keys).await,
            Fault::NotSent | Fault::Conflict => Err(injected("delete", first)),
            Fault::LostReply => self.inner.delete(keys).await.and(Err(injected("delete", first))),
            Fault::Delayed(requests) => {
                self.delay(requests, Write::Delete(keys.to_vec()));
                Err(injected("delete", first))
            }
        }
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

fn injected(operation: &'static str, key: &str) -> StoreError {
    StoreError::new(operation, key, FaultKind::Transient, "injected fault")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// SplitMix64: a generator small enough to be pinned here, so that a seed means the same in every version.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
