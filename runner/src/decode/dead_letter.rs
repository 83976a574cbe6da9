//! What becomes of bad rows: a table of dead letters, or the message that stops the job.

use std::fmt::Write;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::kafka_columns::micros;
use super::{BadRow, types};

/// How many bytes of a bad message's value [`describe`] shows.
const SHOWN_BYTES: usize = 200;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("source", DataType::Utf8, false),
        Field::new("topic", DataType::Utf8, false),
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("timestamp", types::timestamp(), true),
        Field::new("key", DataType::Binary, true),
        Field::new("value", DataType::Binary, true),
        Field::new("reason", DataType::Utf8, false),
    ]))
});

/// The columns of dead letters: the same for every source and for ever, so that one table can hold those of many jobs.
pub fn schema() -> SchemaRef {
    SCHEMA.clone()
}

/// Bad rows as dead letters, one row each, in their order.
///
/// # Errors
/// When Arrow refuses the batch, which takes more than 2 GiB of keys, values or reasons.
pub fn batch(rows: &[BadRow]) -> Result<RecordBatch, ArrowError> {
    let timestamps: TimestampMicrosecondArray = rows.iter().map(|row| row.timestamp.map(micros)).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.partition.source.as_str()))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.partition.topic))),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.partition.partition))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.offset.0))),
        Arc::new(timestamps.with_timezone(types::UTC)),
        Arc::new(rows.iter().map(|row| row.key.as_deref()).collect::<BinaryArray>()),
        Arc::new(rows.iter().map(|row| row.payload.as_deref()).collect::<BinaryArray>()),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.reason))),
    ];
    RecordBatch::try_new(schema(), columns)
}

/// One bad row in one line, for the error that stops the job under `onError: fail` and for logs: where it is, what is
/// wrong, how its value begins.
pub fn describe(row: &BadRow) -> String {
    let BadRow { partition, offset, reason, payload, .. } = row;
    let mut out = format!(
        "source '{}': topic {}, partition {}, offset {}: {reason}; ",
        partition.source, partition.topic, partition.partition, offset.0
    );
    match payload {
        None => out.push_str("the message has no value"),
        Some(bytes) if bytes.is_empty() => out.push_str("the message's value is empty"),
        Some(bytes) => {
            let shown = &bytes[..bytes.len().min(SHOWN_BYTES)];
            let rest = if shown.len() < bytes.len() { " …" } else { "" };
            out.push_str(&format!("the message's {} bytes: {}{rest}", bytes.len(), printable(shown)));
        }
    }
    out
}

/// Bytes on one line of a terminal: text as it is, everything else as `\n`, `\t`, `\r`, `\xNN`. A backslash of the text
/// is doubled, so that nothing is ambiguous. Control characters never reach the terminal.
pub fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                other if other.is_control() => push_hex(&mut out, other.encode_utf8(&mut [0; 4]).as_bytes()),
                other => out.push(other),
            }
        }
        push_hex(&mut out, chunk.invalid());
    }
    out
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(out, "\\x{byte:02x}");
    }
}
