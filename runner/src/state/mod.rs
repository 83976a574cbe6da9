//! Keyed state: the groups of a streaming aggregation between its epochs.
//!
//! A stateful aggregation is cut out of its query's plan. What arrives here are *partial rows*, the output of the
//! aggregation's first half: group columns, then the accumulators' states. What leaves are partial rows too, one per
//! group, for the second half to finish ([`Aggregation`]). So the state is nothing but record batches, and works for
//! every aggregate that can merge.
//!
//! The life of an epoch, all of it in memory and without I/O:
//!
//! 1. [`KeyedState::merge`], any number of times, with rows that are on time ([`KeyedState::split_late`]);
//! 2. [`KeyedState::changed`] or [`KeyedState::all`], for the output modes `update` and `complete`;
//! 3. [`KeyedState::close`] at the epoch's last watermark: for `append`, its result is the output;
//! 4. [`KeyedState::checkpoint`]: the delta to be committed with the epoch; [`KeyedState::base`] now and then.
//!
//! An epoch that is dropped instead of committed has no undo: the state is restored from its blobs
//! ([`KeyedState::restore`]), which a runner that lost some buckets does anyhow for the others it takes on.
//! The same holds after an error.
//!
//! **How it is kept.** Each window is an instance: an index from the group's key to its newest row, and a
//! log of immutable segments. A merge reduces what came, gathers the present rows of just the groups it
//! touches, reduces both and appends the result: its cost follows the change. Compaction copies, with
//! every merge, about as many rows as were appended, and so keeps the dead below the living. Closing a window drops its
//! instance. A deletion is never written down: the watermark in the job log says which windows are gone.
//!
//! **Buckets.** Every group belongs to one of 256 buckets by a hash of its key without the window;
//! runners own buckets, and blobs can be read by bucket.
//!
//! **Memory** is counted (rows, index, bookkeeping) against a limit; above it the dead go first, then there is an
//! error that says what to do.

pub mod blob;
mod bucket;
mod compaction;
mod error;
mod hash;
mod instance;
mod keyed;
mod keys;
mod reduce;
mod restore;
mod schema;
mod segment;
mod snapshot;
mod window;

#[cfg(test)]
mod tests;

pub use self::blob::BlobError;
pub use self::bucket::{BUCKETS, BucketSet, buckets_of};
pub use self::error::StateError;
pub use self::keyed::{KeyedState, StateSize, StateSpec};
pub use self::reduce::{Aggregation, first_half};
pub use self::snapshot::Snapshot;
pub use self::window::WindowColumns;
