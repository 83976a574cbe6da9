//! The start-up probe: refuse a store that ignores conditions, before anything depends on it.

use bytes::Bytes;

use crate::paths::PROBE;
use crate::store::{LogStore, PutIfAbsent, StoreError};

const FIRST: &[u8] = b"millrace: this object was created once and must never be replaced\n";
const SECOND: &[u8] = b"millrace: this store ignores put-if-absent\n";

/// Why a store is not fit for a job log.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It replaces objects although it was told not to, or says that it created what exists.
    #[error(
        "the store does not honour put-if-absent ({what}), so two runners could both believe that they committed; \
         use a store that does, such as Amazon S3 or MinIO of 2024-11 or later, or a local directory"
    )]
    IgnoresConditions {
        /// What it did.
        what: &'static str,
    },
    /// It does not return what was just written.
    #[error(
        "the store did not return an object that it had just acknowledged; the job log needs read-after-write consistency"
    )]
    ForgetsWrites,
    /// It could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Probes put-if-absent. It leaves one small object, which later probes use again.
pub async fn probe(store: &dyn LogStore) -> Result<(), ProbeError> {
    // Whether this creates the object or an earlier probe did: from here on it exists with the first bytes.
    store.put_if_absent(PROBE, Bytes::from_static(FIRST)).await?;
    let Some(before) = store.get(PROBE).await? else { return Err(ProbeError::ForgetsWrites) };
    let second = store.put_if_absent(PROBE, Bytes::from_static(SECOND)).await?;
    if second == PutIfAbsent::Created {
        return Err(ProbeError::IgnoresConditions { what: "it accepted a second create of one object" });
    }
    match store.get(PROBE).await? {
        None => Err(ProbeError::ForgetsWrites),
        Some(after) if after != before || after == SECOND => Err(ProbeError::IgnoresConditions {
            what: "it refused a second create and replaced the object all the same",
        }),
        Some(_) => Ok(()),
    }
}
