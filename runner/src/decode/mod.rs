//! From bytes to Arrow: one decoder per source, behind one small interface.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::batch::Fetched;
use crate::ids::{Offset, Partition};

/// A message that did not decode, with everything needed to find and to repair it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Where it was read.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp in milliseconds, if it had one.
    pub timestamp: Option<i64>,
    /// The key as received.
    pub key: Option<Vec<u8>>,
    /// The value as received.
    pub payload: Option<Vec<u8>>,
    /// What is wrong with it.
    pub reason: String,
}

/// What a fetch became.
#[derive(Debug)]
pub struct Decoded {
    /// The rows that decoded, in offset order, with the decoder's schema.
    pub batch: RecordBatch,
    /// The rows that did not, in offset order. What happens to them is the pipeline's business (`onError`).
    pub bad: Vec<BadRow>,
}

/// Turns the messages of one source into record batches.
pub trait Decoder: Send {
    /// The columns it builds: those of the format (only the projected ones), then Kafka's (only those asked for).
    fn schema(&self) -> SchemaRef;

    /// Decodes one fetch. A bad row never harms its neighbours.
    ///
    /// # Errors
    /// Only for faults that are not a row's (an Arrow error); a row that does not decode is in [`Decoded::bad`].
    fn decode(&mut self, fetched: &Fetched) -> Result<Decoded, DecodeError>;
}

/// A fault of decoding that no single row is to blame for.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Arrow refused to build the batch.
    #[error("cannot build a record batch for source '{source_name}': {source}")]
    Arrow {
        /// The source's name.
        source_name: String,
        /// Arrow's words.
        source: arrow::error::ArrowError,
    },
}
