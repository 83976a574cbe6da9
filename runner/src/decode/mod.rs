//! From bytes to Arrow: one decoder per source, behind one small interface.
//!
//! [`full_schema`] is what a query can read of a source; [`decoder`] builds the part that the job's queries do read.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field as ArrowField, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use millrace_crds::Format;

use self::binary::BinaryColumn;
use self::json::JsonColumns;
use self::kafka_columns::KafkaColumns;
use self::text::TextColumn;
use crate::batch::{Fetched, RawMessage};
use crate::ids::{Offset, Partition};

mod binary;
pub mod dead_letter;
mod json;
pub mod kafka_columns;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod text;
pub mod types;

/// The column of the formats `text` and `binary`.
pub const VALUE: &str = "value";

/// The most bytes of keys and values that one fetch may have: Arrow's 32-bit offsets must reach every one of them.
pub const MAX_FETCH_BYTES: usize = i32::MAX as usize;

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
    /// The columns it builds: those of the format (only the needed ones), then Kafka's (only the needed ones).
    fn schema(&self) -> SchemaRef;

    /// Decodes one fetch. A bad row never harms its neighbours.
    ///
    /// # Errors
    /// Only for faults that are not a row's; a row that does not decode is in [`Decoded::bad`].
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
        source: ArrowError,
    },
    /// The fetch is larger than [`MAX_FETCH_BYTES`].
    #[error("one fetch from {partition} has {bytes} bytes, more than a record batch can hold; lower fetch.max.bytes")]
    TooLarge {
        /// Where it was read.
        partition: Partition,
        /// Bytes of its keys and values.
        bytes: usize,
    },
}

/// Which columns of a source the job's queries read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Needed {
    /// All that [`full_schema`] has.
    All,
    /// These names; a name that [`full_schema`] does not have is ignored.
    Only(BTreeSet<String>),
}

impl Needed {
    /// Whether this column is read.
    pub fn has(&self, column: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(column),
        }
    }
}

/// All columns that a source of this format offers to queries: the format's in their declared order, then Kafka's.
pub fn full_schema(format: &Format) -> SchemaRef {
    let format_fields: Vec<FieldRef> = match format {
        Format::Json { schema } => schema.iter().map(types::arrow_field).collect(),
        Format::Text => vec![Arc::new(ArrowField::new(VALUE, text::data_type(), true))],
        Format::Binary => vec![Arc::new(ArrowField::new(VALUE, binary::data_type(), true))],
    };
    Arc::new(Schema::new(format_fields.into_iter().chain(kafka_columns::fields()).collect::<Vec<_>>()))
}

/// The decoder of the source called `source_name`. Its schema is [`full_schema`] without what is not needed.
pub fn decoder(source_name: &str, format: &Format, needed: &Needed) -> Box<dyn Decoder> {
    let schema = full_schema(format);
    let wanted: Vec<FieldRef> = schema.fields().iter().filter(|field| needed.has(field.name())).cloned().collect();
    let columns: Box<dyn FormatColumns> = match format {
        Format::Json { schema } => Box::new(JsonColumns::new(schema, |name| needed.has(name))),
        Format::Text => Box::new(TextColumn::new(needed.has(VALUE))),
        Format::Binary => Box::new(BinaryColumn::new(needed.has(VALUE))),
    };
    Box::new(SourceDecoder {
        source_name: source_name.to_owned(),
        schema: Arc::new(Schema::new(wanted)),
        format: columns,
        kafka: KafkaColumns::new(needed),
    })
}

/// The columns that a format makes of messages' values, one message at a time.
trait FormatColumns: Send {
    /// Appends one row, or leaves the columns as they were and says why the message is bad.
    fn push(&mut self, payload: Option<&[u8]>) -> Result<(), String>;

    /// The columns of the rows since the last call, in schema order.
    fn finish(&mut self) -> Result<Vec<ArrayRef>, ArrowError>;
}

/// A format's columns and Kafka's, row by row.
struct SourceDecoder {
    source_name: String,
    schema: SchemaRef,
    format: Box<dyn FormatColumns>,
    kafka: KafkaColumns,
}

impl Decoder for SourceDecoder {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn decode(&mut self, fetched: &Fetched) -> Result<Decoded, DecodeError> {
        check_size(fetched)?;
        let messages = fetched.messages.as_ref();
        let mut bad = Vec::new();
        for index in 0..messages.len() {
            let message = messages.message(index);
            match self.format.push(message.payload) {
                Ok(()) => self.kafka.push(&message, || messages.headers(index)),
                Err(reason) => bad.push(bad_row(&fetched.partition, &message, reason)),
            }
        }
        let rows = messages.len() - bad.len();
        let batch = self
            .finish(&fetched.partition, rows)
            .map_err(|source| DecodeError::Arrow { source_name: self.source_name.clone(), source })?;
        Ok(Decoded { batch, bad })
    }
}

impl SourceDecoder {
    fn finish(&mut self, partition: &Partition, rows: usize) -> Result<RecordBatch, ArrowError> {
        let mut columns = self.format.finish()?;
        columns.extend(self.kafka.finish(partition, rows));
        // Without a column (a query that only counts) the batch still knows its rows.
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
    }
}

/// Counts the bytes anew instead of trusting [`Fetched::bytes`]: an offset past 32 bits would corrupt a batch silently.
fn check_size(fetched: &Fetched) -> Result<(), DecodeError> {
    let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    let topics = fetched.messages.len().saturating_mul(fetched.partition.topic.len());
    let mut bytes: usize = 0;
    for index in 0..fetched.messages.len() {
        let message = fetched.messages.message(index);
        bytes = bytes.saturating_add(length(message.key)).saturating_add(length(message.payload));
    }
    if bytes.max(topics) > MAX_FETCH_BYTES {
        return Err(DecodeError::TooLarge { partition: fetched.partition.clone(), bytes });
    }
    Ok(())
}

fn bad_row(partition: &Partition, message: &RawMessage<'_>, reason: String) -> BadRow {
    BadRow {
        partition: partition.clone(),
        offset: message.offset,
        timestamp: message.timestamp,
        key: message.key.map(<[u8]>::to_vec),
        payload: message.payload.map(<[u8]>::to_vec),
        reason,
    }
}
