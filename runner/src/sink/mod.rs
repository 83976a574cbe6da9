//! Where rows go: staged while an epoch is open, published after it was decided.

pub mod console;
pub mod memory;
pub mod names;
pub mod parquet;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

/// What names the staged objects of one epoch: unique for ever, and telling which claim they belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochName {
    /// The job's uid.
    pub job_uid: String,
    /// The seq of the claim under which the epoch is written.
    pub claim_seq: u64,
    /// The incarnation that writes it.
    pub incarnation: String,
    /// The epoch's number within the incarnation, from 0; never used twice, also not for an epoch that was given up.
    pub epoch: u64,
}

/// One staged object and where it belongs once its epoch is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedFile {
    /// Path of the staged object, relative to the output's location; unique for ever.
    pub staged: String,
    /// Its final path, relative to the output's location.
    pub target: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// The staged object's ETag, where the store gives one.
    pub etag: Option<String>,
}

/// The sink of one output.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Checks before the first epoch what can be checked: that the location can be written, that the schema can be
    /// stored.
    async fn check(&self, schema: &SchemaRef) -> Result<(), SinkError>;

    /// Opens the writer of one epoch. Nothing is created in the store before the first row.
    fn open(&self, schema: &SchemaRef, name: EpochName) -> Box<dyn EpochWriter>;

    /// Makes a decided file visible under its final path; doing it twice equals doing it once. Leaves the staged
    /// object in place: [`Sink::discard`] removes it once the log has noted the publish. [`Published::Missing`] says
    /// that the staged object is gone, also when it was published before: the log knows which.
    async fn publish(&self, file: &StagedFile) -> Result<Published, SinkError>;

    /// Removes a staged object; a missing one is fine.
    async fn discard(&self, staged: &str) -> Result<(), SinkError>;

    /// Removes several staged objects, on S3 with one request for a thousand; missing ones are fine.
    async fn discard_all(&self, staged: &[String]) -> Result<(), SinkError> {
        for path in staged {
            self.discard(path).await?;
        }
        Ok(())
    }

    /// Every object in a job's folder of staged ones, relative to the output's location, for the collector. What
    /// [`names::StagedName::parse`] does not know is not ours.
    async fn list_staged(&self, job_uid: &str) -> Result<Vec<String>, SinkError>;

    /// Whether a published file is there ([`Published::Done`]) and is still the one that was published: what
    /// [`Sink::retract`] will find.
    async fn inspect(&self, file: &StagedFile) -> Result<Published, SinkError>;

    /// Removes a published file (a rewind with `retract`) if it is still the one that was published.
    async fn retract(&self, file: &StagedFile) -> Result<Published, SinkError>;
}

/// What publishing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// Done, now or before.
    Done,
    /// The staged object (or, for `inspect` and `retract`, the published file) is not there.
    Missing,
    /// The file is there but is not the one we wrote (for `inspect` and `retract`).
    Changed,
}

/// The writer of one epoch of one output. After an error it takes nothing but [`EpochWriter::abort`], and the epoch has
/// to be read again.
#[async_trait]
pub trait EpochWriter: Send {
    /// Adds rows of the schema it was opened with. Waits while the store is slower than the rows (backpressure). A
    /// fault of these rows may also be told by the next call.
    async fn write(&mut self, batch: RecordBatch) -> Result<(), SinkError>;

    /// Bytes buffered in memory now.
    fn buffered_bytes(&self) -> usize;

    /// Finishes every file: after this the staged objects are complete and durable. None for an epoch without rows. On
    /// an error the epoch is given up as by [`EpochWriter::abort`].
    async fn finish(self: Box<Self>) -> Result<Vec<StagedFile>, SinkError>;

    /// Gives the epoch up and removes what was staged, as far as it can.
    async fn abort(self: Box<Self>);
}

/// What can go wrong in a sink.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The store is away or slow; worth trying again.
    #[error("output '{output}': the store is unavailable: {reason}")]
    Unavailable {
        /// The output's name.
        output: String,
        /// The store's words.
        reason: String,
    },
    /// The user's to mend: no such bucket, no right, a schema that cannot be stored.
    #[error("output '{output}': {reason}")]
    User {
        /// The output's name.
        output: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The disk is full.
    #[error("output '{output}': no space is left at {path}; free some, it goes on by itself")]
    Full {
        /// The output's name.
        output: String,
        /// Where.
        path: String,
    },
    /// A fault of ours or of a library.
    #[error("output '{output}': {reason}")]
    Internal {
        /// The output's name.
        output: String,
        /// What happened.
        reason: String,
    },
}
