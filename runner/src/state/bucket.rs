//! Buckets: the pieces of keyed state that move between runners.

use std::fmt;

use arrow::array::ArrayRef;

use super::error::StateError;
use super::hash::hash_rows;

/// How many buckets there are. For ever: a bucket is a task of the job log, and its number is in every blob.
pub const BUCKETS: usize = 256;

/// The bucket of each of `rows` rows with these keys: the range of the hash it falls into, by its highest 8 bits.
///
/// # Errors
/// A type that cannot be a key.
pub fn buckets_of(keys: &[ArrayRef], rows: usize) -> Result<Vec<u8>, StateError> {
    Ok(hash_rows(keys, rows)?.into_iter().map(|hash| (hash >> 56) as u8).collect())
}

/// Some of the buckets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BucketSet([u64; BUCKETS / 64]);

impl BucketSet {
    /// No bucket.
    pub const NONE: Self = Self([0; BUCKETS / 64]);
    /// Every bucket.
    pub const ALL: Self = Self([u64::MAX; BUCKETS / 64]);

    /// Adds one.
    pub fn insert(&mut self, bucket: u8) {
        self.0[usize::from(bucket) / 64] |= 1 << (bucket % 64);
    }

    /// Whether `bucket` is among them.
    pub fn contains(&self, bucket: u8) -> bool {
        self.0[usize::from(bucket) / 64] & (1 << (bucket % 64)) != 0
    }

    /// Whether they are all there.
    pub fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// Them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=u8::MAX).filter(|bucket| self.contains(*bucket))
    }
}

impl FromIterator<u8> for BucketSet {
    fn from_iter<I: IntoIterator<Item = u8>>(buckets: I) -> Self {
        let mut set = Self::NONE;
        buckets.into_iter().for_each(|bucket| set.insert(bucket));
        set
    }
}

impl fmt::Debug for BucketSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
