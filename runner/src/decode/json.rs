//! JSON by a declared schema: one message is one object is one row.
//!
//! The schema drives a strict reader straight into Arrow columns. Each message is read alone and to its end, so a fault
//! is its own message's: what it had written is taken back, and its neighbours never know.
//!
//! Why not arrow-json: it cuts `1.5` to `1` for an INT, takes numbers in quotes, reads an integer for a TIMESTAMP as
//! microseconds, moves zoned text in a TIMESTAMP_NTZ column, reads BINARY as hexadecimal, takes missing commas, panics
//! on a number for BINARY, overflows the stack when it reports a deeply nested value, and one bad row costs it the
//! batch. None of that can be set right from outside without reading every message twice.
//!
//! Unknown fields are passed over, fields may come in any order, names are case-sensitive. Which values a column
//! takes is written in [`value`]. Only wanted columns are built and checked; text that is not JSON is bad whatever the
//! query reads.

use arrow::array::ArrayRef;
use arrow::error::ArrowError;
use millrace_crds::Field;

use self::fault::{Fault, FaultAt};
use self::object::ObjectFields;
use self::scan::{Scanner, Token};
use super::FormatColumns;

mod column;
mod fault;
mod literal;
mod object;
mod scan;
mod text;
mod value;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod value_tests;

/// The columns of JSON messages.
pub(super) struct JsonColumns {
    fields: ObjectFields,
    rows: usize,
}

impl JsonColumns {
    /// Columns for those of the declared fields that are wanted.
    pub(super) fn new(schema: &[Field], wanted: impl Fn(&str) -> bool) -> Self {
        Self { fields: ObjectFields::only(schema, wanted), rows: 0 }
    }

    fn push_message(&mut self, text: &[u8]) -> Result<(), Fault> {
        let mut json = Scanner::new(text)?;
        if json.at_end() {
            return Err(FaultAt::value("the value is empty: expected a JSON object"));
        }
        if json.token()? != Token::Object {
            return Err(json.mismatch("a JSON object"));
        }
        self.fields.push_object(&mut json, self.rows)?;
        if !json.at_end() {
            return Err(json.unexpected("nothing after the object (one message holds one JSON object)"));
        }
        Ok(())
    }
}

impl FormatColumns for JsonColumns {
    /// A tombstone is a row whose format columns are all null, as in Spark, so that its key and offset stay usable;
    /// unless a wanted column is NOT NULL: then it is bad.
    fn push(&mut self, payload: Option<&[u8]>) -> Result<(), String> {
        let pushed = match payload {
            Some(text) => self.push_message(text),
            None => self.fields.push_nulls(self.rows),
        };
        if let Err(fault) = pushed {
            self.fields.truncate(self.rows);
            return Err(fault.to_string());
        }
        self.rows += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        self.rows = 0;
        self.fields.finish()
    }
}
