//! Messages made up for tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arrow::array::{Array, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::batch::{Fetched, Header, Messages, RawMessage};
use crate::ids::{Offset, Partition};

/// One message that owns its bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    pub(crate) offset: i64,
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) headers: Vec<Header>,
}

struct Owned(Vec<Message>);

impl Messages for Owned {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn message(&self, index: usize) -> RawMessage<'_> {
        let message = &self.0[index];
        RawMessage {
            offset: Offset(message.offset),
            timestamp: message.timestamp,
            key: message.key.as_deref(),
            payload: message.payload.as_deref(),
        }
    }

    fn headers(&self, index: usize) -> Vec<Header> {
        self.0[index].headers.clone()
    }
}

/// A fetch of these messages from partition 3 of topic `t` of source `orders`.
pub(crate) fn fetched(messages: Vec<Message>) -> Fetched {
    let position = messages.last().map_or(0, |message| message.offset + 1);
    let bytes = messages.iter().map(|message| message.payload.as_ref().map_or(0, Vec::len)).sum();
    Fetched {
        partition: Partition { source: "orders".into(), topic: "t".into(), partition: 3 },
        messages: Box::new(Owned(messages)),
        position: Offset(position),
        at_end: true,
        bytes,
    }
}

/// A fetch of these values at offsets 100, 101, …
pub(crate) fn fetched_values<T: AsRef<[u8]>>(values: &[T]) -> Fetched {
    let message = |(index, value): (usize, &T)| Message {
        offset: 100 + i64::try_from(index).unwrap(),
        payload: Some(value.as_ref().to_vec()),
        ..Message::default()
    };
    fetched(values.iter().enumerate().map(message).collect())
}

/// Every cell as text, row by row; nulls are `∅`.
pub(crate) fn cells(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("∅");
    let row = |row| {
        let cell = |column: &dyn Array| ArrayFormatter::try_new(column, &options).unwrap().value(row).to_string();
        batch.columns().iter().map(|column| cell(column)).collect()
    };
    (0..batch.num_rows()).map(row).collect()
}
