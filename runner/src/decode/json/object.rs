//! The fields of a JSON object, each with the column it goes to.

use std::collections::HashMap;

use arrow::array::ArrayRef;
use arrow::datatypes::{FieldRef, Fields};
use arrow::error::ArrowError;
use millrace_crds::Field;

use super::column::Column;
use super::fault::{Fault, FaultAt};
use super::scan::Scanner;
use super::text::Text;
use crate::decode::types;

/// From this many fields on, a name out of order is looked up by its hash.
const HASHED_FROM: usize = 12;

/// The declared fields of a struct or of the whole message.
pub(super) struct ObjectFields {
    fields: Vec<ObjectField>,
    by_name: Option<HashMap<Box<[u8]>, usize>>,
    /// How many of the fields have a column.
    wanted: usize,
}

struct ObjectField {
    name: Box<str>,
    arrow: FieldRef,
    /// `None`: known, so that the guess of the next name holds, but not asked for. It is passed like an unknown one.
    column: Option<Column>,
}

impl ObjectFields {
    /// All of these fields, each with a column.
    pub(super) fn all(fields: &[Field]) -> Self {
        Self::only(fields, |_| true)
    }

    /// These fields, with a column for those that are wanted.
    pub(super) fn only(fields: &[Field], wanted: impl Fn(&str) -> bool) -> Self {
        let fields: Vec<ObjectField> = fields
            .iter()
            .map(|field| ObjectField {
                name: field.name.as_str().into(),
                arrow: types::arrow_field(field),
                column: wanted(&field.name).then(|| Column::of_field(field)),
            })
            .collect();
        let by_name = (fields.len() >= HASHED_FROM)
            .then(|| fields.iter().enumerate().map(|(index, field)| (field.name.as_bytes().into(), index)).collect());
        let wanted = fields.iter().filter(|field| field.column.is_some()).count();
        Self { fields, by_name, wanted }
    }

    /// The Arrow fields of the columns.
    pub(super) fn arrow_fields(&self) -> Fields {
        self.fields.iter().filter(|field| field.column.is_some()).map(|field| field.arrow.clone()).collect()
    }

    /// Reads the object that [`Scanner::token`] announced into row `row`, which is the columns' next. Unknown names are
    /// passed over; of a name given twice the last counts; a missing field is null. After an error the row is half
    /// written and must be undone with [`ObjectFields::truncate`].
    pub(super) fn push_object(&mut self, json: &mut Scanner<'_>, row: usize) -> Result<(), Fault> {
        json.open();
        let mut first = true;
        let mut guess = 0;
        let mut filled = 0;
        while let Some(key) = json.next_key(first)? {
            first = false;
            let Some(index) = self.find(&key, guess) else {
                json.skip_value()?;
                continue;
            };
            guess = index + 1;
            let field = &mut self.fields[index];
            let Some(column) = &mut field.column else {
                json.skip_value()?;
                continue;
            };
            if column.len() > row {
                column.truncate(row);
            } else {
                filled += 1;
            }
            column.push(json).map_err(|fault| fault.in_field(&field.name))?;
        }
        if filled == self.wanted { Ok(()) } else { self.fill_missing(row) }
    }

    /// Makes row `row` all nulls, for a message without a value.
    pub(super) fn push_nulls(&mut self, row: usize) -> Result<(), Fault> {
        for field in &mut self.fields {
            let Some(column) = &mut field.column else { continue };
            if !column.nullable {
                let what = "is NOT NULL, but the message has no value (a tombstone)";
                return Err(FaultAt::value(what).in_field(&field.name));
            }
            debug_assert_eq!(column.len(), row, "columns grow together");
            column.push_absent();
        }
        Ok(())
    }

    /// Appends a row below a null struct.
    pub(super) fn push_absent(&mut self) {
        for column in self.columns() {
            column.push_absent();
        }
    }

    /// Forgets everything from row `rows` on.
    pub(super) fn truncate(&mut self, rows: usize) {
        for column in self.columns() {
            column.truncate(rows);
        }
    }

    /// The finished columns.
    pub(super) fn finish(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        self.columns().map(Column::finish).collect()
    }

    fn columns(&mut self) -> impl Iterator<Item = &mut Column> {
        self.fields.iter_mut().filter_map(|field| field.column.as_mut())
    }

    /// The field called `key`. Most producers write the fields in one order, often the schema's, so the guess is the
    /// field after the last one found.
    #[inline]
    fn find(&self, key: &Text<'_>, guess: usize) -> Option<usize> {
        let owned;
        let key = match key.plain() {
            Some(plain) => plain,
            None => {
                owned = key.bytes();
                &*owned
            }
        };
        if self.fields.get(guess).is_some_and(|field| field.name.as_bytes() == key) {
            return Some(guess);
        }
        match &self.by_name {
            Some(index) => index.get(key).copied(),
            None => self.fields.iter().position(|field| field.name.as_bytes() == key),
        }
    }

    fn fill_missing(&mut self, row: usize) -> Result<(), Fault> {
        for field in &mut self.fields {
            let Some(column) = &mut field.column else { continue };
            if column.len() > row {
                continue;
            }
            if !column.nullable {
                return Err(FaultAt::value("is NOT NULL, but the field is missing").in_field(&field.name));
            }
            column.push_absent();
        }
        Ok(())
    }
}
