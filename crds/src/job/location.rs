//! Where data lives: a folder in a bucket or on a disk.

use std::fmt;
use std::path::PathBuf;

/// A folder in an S3 bucket or on the local disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Location {
    /// `s3://bucket/prefix` (`s3a://` is the same); the prefix has no leading and no trailing slash.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// The folder inside the bucket, never empty.
        prefix: String,
    },
    /// A path on this machine; relative ones are relative to the runner's working directory.
    Local(PathBuf),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Local(path) => write!(f, "{}", path.display()),
        }
    }
}
