//! What can go wrong with keyed state, said so that the user knows what to do.

use arrow::error::ArrowError;
use datafusion::common::DataFusionError;

use super::blob::BlobError;

/// A fault of keyed state. After one, the state in memory is of no further use: restore it from its blobs.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It does not fit.
    #[error(
        "the state of {aggregation} is {groups} groups in {bytes} bytes, above its limit of {limit} bytes; \
         give the job more memory, keep fewer groups (a shorter watermark delay or fewer grouping columns), \
         or divide the work among more runners"
    )]
    MemoryLimit {
        /// Whose state.
        aggregation: String,
        /// How many groups are alive.
        groups: usize,
        /// What they take, after compaction.
        bytes: usize,
        /// What they may take.
        limit: usize,
    },
    /// More groups in one window than can be numbered.
    #[error("the state of {aggregation} has more than 4 billion groups in one window; group by fewer columns")]
    TooManyGroups {
        /// Whose state.
        aggregation: String,
    },
    /// A row belongs to a window that was closed and given out. The caller tests for late rows first.
    #[error(
        "a row of {aggregation} arrived for a window that the watermark {watermark} had closed; \
         this is a bug in millrace: a late row was not sorted out"
    )]
    ClosedWindow {
        /// Whose state.
        aggregation: String,
        /// The watermark that closed it, in milliseconds.
        watermark: i64,
    },
    /// Rows under another schema than the state's.
    #[error("the state of {aggregation} was given rows ({found}) that are not its own ({wanted})")]
    Rows {
        /// Whose state.
        aggregation: String,
        /// What came.
        found: String,
        /// What belongs there.
        wanted: String,
    },
    /// A grouping column whose values have no canonical bytes.
    #[error("a key of type {data_type} cannot be grouped by in a stream; cast it to a text or a number")]
    KeyType {
        /// The type, in Arrow's words.
        data_type: String,
    },
    /// A window column that is no point in time.
    #[error("column '{column}' of type {data_type} cannot close windows; it must be a timestamp")]
    WindowType {
        /// The column.
        column: String,
        /// Its type, in Arrow's words.
        data_type: String,
    },
    /// An aggregation that cannot be cut in two.
    #[error("the aggregation {aggregation} cannot keep state: {reason}")]
    Unsupported {
        /// Which one.
        aggregation: String,
        /// Why not.
        reason: &'static str,
    },
    /// The engine failed on it.
    #[error("the state of {aggregation} cannot be computed: {fault}")]
    Compute {
        /// Whose state.
        aggregation: String,
        /// The engine's words.
        #[source]
        fault: Box<DataFusionError>,
    },
    /// Arrow failed on it.
    #[error("rows of keyed state cannot be put together: {0}")]
    Arrow(#[from] ArrowError),
    /// A blob cannot be written or read.
    #[error(transparent)]
    Blob(#[from] BlobError),
}
