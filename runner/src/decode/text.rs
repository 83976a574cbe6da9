//! Text: one message is one row with the message's value in the column `value`.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::FormatColumns;

/// The type of the column.
pub(super) fn data_type() -> DataType {
    DataType::Utf8
}

/// The column of text messages. A tombstone is null; a value that is not UTF-8 is bad, also when nobody reads it.
pub(super) struct TextColumn {
    values: Option<StringBuilder>,
}

impl TextColumn {
    /// A column that is only checked if it is not wanted.
    pub(super) fn new(wanted: bool) -> Self {
        Self { values: wanted.then(StringBuilder::new) }
    }
}

impl FormatColumns for TextColumn {
    fn push(&mut self, payload: Option<&[u8]>) -> Result<(), String> {
        let text = payload.map(std::str::from_utf8).transpose();
        let text = text.map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to()))?;
        if let Some(values) = &mut self.values {
            values.append_option(text);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(self.values.iter_mut().map(|values| Arc::new(values.finish()) as ArrayRef).collect())
    }
}
