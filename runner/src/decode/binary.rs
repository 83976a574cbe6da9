//! Binary: one message is one row with the message's bytes in the column `value`.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::FormatColumns;

/// The type of the column.
pub(super) fn data_type() -> DataType {
    DataType::Binary
}

/// The column of raw messages. A tombstone is null; no message is bad.
pub(super) struct BinaryColumn {
    values: Option<BinaryBuilder>,
}

impl BinaryColumn {
    /// A column that is not built if it is not wanted.
    pub(super) fn new(wanted: bool) -> Self {
        Self { values: wanted.then(BinaryBuilder::new) }
    }
}

impl FormatColumns for BinaryColumn {
    fn push(&mut self, payload: Option<&[u8]>) -> Result<(), String> {
        if let Some(values) = &mut self.values {
            values.append_option(payload);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(self.values.iter_mut().map(|values| Arc::new(values.finish()) as ArrayRef).collect())
    }
}
