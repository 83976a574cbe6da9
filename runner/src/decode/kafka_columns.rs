//! Kafka's own columns, which every source offers: where a row came from, when, and under which key.
//!
//! Types are those of Spark's Kafka source, except that the names begin with an underscore to leave room for the
//! format's: `_key BINARY, _topic STRING, _partition INT, _offset BIGINT, _timestamp TIMESTAMP,
//! _headers ARRAY<STRUCT<key STRING, value BINARY>>`. A key of text is read with `CAST(_key AS STRING)`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int32Array, Int64Array, ListBuilder, StringArray, StringBuilder, StructBuilder,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};

use super::{Needed, types};
use crate::batch::{Header, RawMessage};
use crate::ids::Partition;

/// The message's key; null if it has none.
pub const KEY: &str = "_key";
/// The topic.
pub const TOPIC: &str = "_topic";
/// The partition's number.
pub const PARTITION: &str = "_partition";
/// The offset.
pub const OFFSET: &str = "_offset";
/// The message's timestamp: its creation or its append, as the topic is set. Null if the broker gave none.
pub const TIMESTAMP: &str = "_timestamp";
/// The headers in their order; null if there are none.
pub const HEADERS: &str = "_headers";

/// The fields of all of them, in their order.
pub(super) fn fields() -> Vec<FieldRef> {
    vec![
        Arc::new(Field::new(KEY, DataType::Binary, true)),
        Arc::new(Field::new(TOPIC, DataType::Utf8, false)),
        Arc::new(Field::new(PARTITION, DataType::Int32, false)),
        Arc::new(Field::new(OFFSET, DataType::Int64, false)),
        Arc::new(Field::new(TIMESTAMP, types::timestamp(), true)),
        Arc::new(Field::new(HEADERS, DataType::List(header_field()), true)),
    ]
}

/// A time of Kafka's, which is in milliseconds, in ours; times that 64 bits of microseconds do not reach (292,000 years
/// off) become the last one they do.
pub(super) fn micros(millis: i64) -> i64 {
    millis.saturating_mul(1000)
}

/// Those of Kafka's columns that are needed, under construction.
pub(super) struct KafkaColumns {
    key: Option<BinaryBuilder>,
    topic: bool,
    partition: bool,
    offset: Option<Vec<i64>>,
    timestamp: Option<Vec<Option<i64>>>,
    headers: Option<ListBuilder<StructBuilder>>,
}

impl KafkaColumns {
    /// Builders of what is needed.
    pub(super) fn new(needed: &Needed) -> Self {
        Self {
            key: needed.has(KEY).then(BinaryBuilder::new),
            topic: needed.has(TOPIC),
            partition: needed.has(PARTITION),
            offset: needed.has(OFFSET).then(Vec::new),
            timestamp: needed.has(TIMESTAMP).then(Vec::new),
            headers: needed.has(HEADERS).then(headers_builder),
        }
    }

    /// Appends a row. Asks for the headers, which are copied, only if they are needed.
    #[inline]
    pub(super) fn push(&mut self, message: &RawMessage<'_>, headers: impl FnOnce() -> Vec<Header>) {
        if let Some(keys) = &mut self.key {
            keys.append_option(message.key);
        }
        if let Some(offsets) = &mut self.offset {
            offsets.push(message.offset.0);
        }
        if let Some(timestamps) = &mut self.timestamp {
            timestamps.push(message.timestamp.map(micros));
        }
        if let Some(lists) = &mut self.headers {
            push_headers(lists, headers());
        }
    }

    /// The columns of the `rows` rows since the last call, in the order of [`fields`].
    pub(super) fn finish(&mut self, partition: &Partition, rows: usize) -> Vec<ArrayRef> {
        let mut columns: Vec<ArrayRef> = Vec::new();
        if let Some(keys) = &mut self.key {
            columns.push(Arc::new(keys.finish()));
        }
        if self.topic {
            columns.push(Arc::new(StringArray::new_repeated(&partition.topic, rows)));
        }
        if self.partition {
            columns.push(Arc::new(Int32Array::from_value(partition.partition, rows)));
        }
        if let Some(offsets) = &mut self.offset {
            columns.push(Arc::new(Int64Array::from(std::mem::take(offsets))));
        }
        if let Some(timestamps) = &mut self.timestamp {
            let array = TimestampMicrosecondArray::from(std::mem::take(timestamps));
            columns.push(Arc::new(array.with_timezone(types::UTC)));
        }
        if let Some(lists) = &mut self.headers {
            columns.push(Arc::new(lists.finish()));
        }
        columns
    }
}

fn header_fields() -> Fields {
    Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)])
}

fn header_field() -> FieldRef {
    Arc::new(Field::new(Field::LIST_FIELD_DEFAULT_NAME, DataType::Struct(header_fields()), false))
}

fn headers_builder() -> ListBuilder<StructBuilder> {
    ListBuilder::new(StructBuilder::from_fields(header_fields(), 0)).with_field(header_field())
}

fn push_headers(lists: &mut ListBuilder<StructBuilder>, headers: Vec<Header>) {
    let any = !headers.is_empty();
    let structs = lists.values();
    for (key, value) in headers {
        // The builders are those of `header_fields`, so both are there.
        if let Some(keys) = structs.field_builder::<StringBuilder>(0) {
            keys.append_value(key);
        }
        if let Some(values) = structs.field_builder::<BinaryBuilder>(1) {
            values.append_option(value);
        }
        structs.append(true);
    }
    lists.append(any);
}
