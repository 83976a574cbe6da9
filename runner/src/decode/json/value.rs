//! Which JSON value is which column's: the rules of `from_json` in Spark's FAILFAST mode.
//!
//! | column | takes |
//! |---|---|
//! | BOOLEAN | `true`, `false` |
//! | TINYINT … BIGINT | a number without fraction and exponent, in range |
//! | FLOAT, DOUBLE | a number in range; the strings `NaN`, `Infinity`, `INF`, with a sign |
//! | DECIMAL | a number, or a string that spells one; rounded half up to the scale |
//! | STRING | a string; of any other value its JSON text as sent |
//! | BINARY | a string in base64 |
//! | DATE | a string `YYYY-MM-DD`, perhaps with a time, which is dropped |
//! | TIMESTAMP | an ISO string, UTC if it names no zone; an integer: seconds since 1970 |
//! | TIMESTAMP_NTZ | an ISO string without a zone |
//! | ARRAY, MAP, STRUCT | an array; an object |
//!
//! `null` and a missing field are null, in a NOT NULL column a fault. Everything else is a fault: a number in quotes is
//! none, and `2.0` is no INT.

use std::borrow::Cow;
use std::collections::HashSet;

use super::column::{Bytes, Column, Values};
use super::fault::{Fault, FaultAt, excerpt};
use super::literal;
use super::scan::{Scanner, Token};
use super::text::Text;

/// Up to this many keys of a map are compared in pairs, without a hash set.
const FEW_KEYS: usize = 16;

impl Column {
    /// Reads the next value into the next row. After an error the row is half written and must be undone with
    /// [`Column::truncate`].
    pub(super) fn push(&mut self, json: &mut Scanner<'_>) -> Result<(), Fault> {
        let token = json.token()?;
        if token == Token::Null {
            json.literal("null")?;
            if !self.nullable {
                return Err(FaultAt::value("is NOT NULL, but the value is null"));
            }
            self.push_absent();
            return Ok(());
        }
        match (&mut self.values, token) {
            (Values::String(values), Token::String) => {
                json.string()?.append_to(&mut values.data);
                values.end();
            }
            (Values::String(values), _) => {
                values.data.extend_from_slice(json.raw_value()?);
                values.end();
            }
            (Values::Double(values), Token::Number) => {
                let text = json.number()?.text;
                values.push(literal::double(text).ok_or_else(|| out_of_range(text, "DOUBLE"))?);
            }
            (Values::Int(values), Token::Number) => values.push(integer(json, "INT")?),
            (Values::BigInt(values), Token::Number) => values.push(integer(json, "BIGINT")?),
            (Values::SmallInt(values), Token::Number) => values.push(integer(json, "SMALLINT")?),
            (Values::TinyInt(values), Token::Number) => values.push(integer(json, "TINYINT")?),
            (Values::Float(values), Token::Number) => {
                let text = json.number()?.text;
                values.push(literal::float(text).ok_or_else(|| out_of_range(text, "FLOAT"))?);
            }
            (Values::Boolean(values), Token::True) => {
                json.literal("true")?;
                values.append(true);
            }
            (Values::Boolean(values), Token::False) => {
                json.literal("false")?;
                values.append(false);
            }
            (Values::Timestamp(values), Token::Number) => {
                let seconds = integer::<i64>(json, "TIMESTAMP")?;
                values.push(literal::timestamp_of_seconds(seconds).ok_or_else(|| not_seconds(seconds))?);
            }
            (Values::Decimal { scaled, precision, scale }, Token::Number) => {
                let text = json.number()?.text;
                let value = literal::decimal(text, *precision, *scale);
                scaled.push(value.ok_or_else(|| out_of_range(text, &format!("DECIMAL({precision},{scale})")))?);
            }
            (Values::Array { ends, item, .. }, Token::Array) => {
                json.open();
                let mut index = 0;
                while json.next_item(index == 0)? {
                    item.push(json).map_err(|fault| fault.in_entry(index))?;
                    index += 1;
                }
                ends.push(item.len());
            }
            (Values::Map { ends, keys, values, .. }, Token::Object) => {
                json.open();
                let mut count = 0;
                while let Some(key) = json.next_key(count == 0)? {
                    keys.push_key(key)?;
                    values.push(json).map_err(|fault| fault.in_entry(excerpt(&key.bytes())))?;
                    count += 1;
                }
                keys.check_distinct(count)?;
                ends.push(keys.len());
            }
            (Values::Struct { rows, fields }, Token::Object) => {
                fields.push_object(json, *rows)?;
                *rows += 1;
            }
            (values, Token::String) if values.takes_text() => {
                let text = json.string()?;
                values.push_text(text)?;
            }
            (values, _) => return Err(json.mismatch(&values.type_name())),
        }
        self.complete();
        Ok(())
    }

    /// Reads a map's key, which JSON always has in quotes, into the next row.
    fn push_key(&mut self, text: Text<'_>) -> Result<(), Fault> {
        let number = match &mut self.values {
            Values::Float(values) => push(values, literal::float(&text.bytes())),
            Values::Double(values) => push(values, literal::double(&text.bytes())),
            _ => None,
        };
        if number.is_none() {
            self.values.push_text(text)?;
        }
        self.complete();
        Ok(())
    }

    /// Refuses two equal ones among the last `count` keys: a map has each key once, and readers of Parquet rely on it.
    fn check_distinct(&self, count: usize) -> Result<(), Fault> {
        let (Values::String(keys) | Values::Binary(keys)) = &self.values else { return Ok(()) };
        match repeated(keys, count) {
            Some(key) => Err(FaultAt::value(format!("the map has the key \"{}\" twice", excerpt(key)))),
            None => Ok(()),
        }
    }
}

impl Values {
    /// Whether a JSON string can stand for a value. (Integers are text only as keys of a map.)
    fn takes_text(&self) -> bool {
        matches!(
            self,
            Self::Float(_)
                | Self::Double(_)
                | Self::Decimal { .. }
                | Self::Binary(_)
                | Self::Date(_)
                | Self::Timestamp(_)
                | Self::TimestampNtz(_)
        )
    }

    /// Appends the value that a string stands for: of a column that takes text, or as a map's key of any scalar type.
    fn push_text(&mut self, text: Text<'_>) -> Result<(), Fault> {
        if let Self::String(values) = self {
            text.append_to(&mut values.data);
            values.end();
            return Ok(());
        }
        let bytes = text.bytes();
        let pushed = match self {
            Self::Boolean(values) => match &*bytes {
                b"true" => Some(true),
                b"false" => Some(false),
                _ => None,
            }
            .map(|value| values.append(value)),
            Self::TinyInt(values) => push(values, literal::integer(&bytes).and_then(|value| value.try_into().ok())),
            Self::SmallInt(values) => push(values, literal::integer(&bytes).and_then(|value| value.try_into().ok())),
            Self::Int(values) => push(values, literal::integer(&bytes).and_then(|value| value.try_into().ok())),
            Self::BigInt(values) => push(values, literal::integer(&bytes)),
            Self::Float(values) => push(values, literal::special_double(&bytes).map(|value| value as f32)),
            Self::Double(values) => push(values, literal::special_double(&bytes)),
            Self::Decimal { scaled, precision, scale } => push(scaled, literal::decimal(&bytes, *precision, *scale)),
            Self::Date(values) => push(values, literal::date(&bytes)),
            Self::Timestamp(values) => push(values, literal::timestamp(&bytes)),
            Self::TimestampNtz(values) => push(values, literal::timestamp_without_zone(&bytes)),
            Self::Binary(values) => literal::base64(&bytes, &mut values.data).map(|()| values.end()),
            Self::String(_) | Self::Array { .. } | Self::Map { .. } | Self::Struct { .. } => None,
        };
        pushed.ok_or_else(|| FaultAt::value(format!("expected {}, found \"{}\"", self.type_name(), excerpt(&bytes))))
    }

    /// The type as a reason names it.
    fn type_name(&self) -> Cow<'static, str> {
        match self {
            Self::Boolean(_) => "BOOLEAN",
            Self::TinyInt(_) => "TINYINT",
            Self::SmallInt(_) => "SMALLINT",
            Self::Int(_) => "INT",
            Self::BigInt(_) => "BIGINT",
            Self::Float(_) => "FLOAT",
            Self::Double(_) => "DOUBLE",
            Self::Decimal { precision, scale, .. } => return format!("DECIMAL({precision},{scale})").into(),
            Self::Date(_) => "DATE (YYYY-MM-DD)",
            Self::Timestamp(_) => "TIMESTAMP (YYYY-MM-DD HH:MM:SS and a zone or none)",
            Self::TimestampNtz(_) => "TIMESTAMP_NTZ (YYYY-MM-DD HH:MM:SS without a zone)",
            Self::String(_) => "STRING",
            Self::Binary(_) => "BINARY (base64)",
            Self::Array { .. } => "ARRAY",
            Self::Map { .. } => "MAP (an object)",
            Self::Struct { .. } => "STRUCT (an object)",
        }
        .into()
    }
}

fn push<T>(values: &mut Vec<T>, value: Option<T>) -> Option<()> {
    values.push(value?);
    Some(())
}

#[inline]
fn integer<T: TryFrom<i64>>(json: &mut Scanner<'_>, name: &str) -> Result<T, Fault> {
    let number = json.number()?;
    if !number.integer {
        return Err(FaultAt::value(format!("expected {name}, found {}", excerpt(number.text))));
    }
    let value = literal::integer(number.text).and_then(|value| T::try_from(value).ok());
    value.ok_or_else(|| out_of_range(number.text, name))
}

#[cold]
fn out_of_range(text: &[u8], name: &str) -> Fault {
    FaultAt::value(format!("{} is out of the range of {name}", excerpt(text)))
}

/// Spark reads an integer as seconds; producers often send milliseconds, which would land thousands of years ahead.
#[cold]
fn not_seconds(value: i64) -> Fault {
    FaultAt::value(format!(
        "{value} as seconds since 1970 lies beyond the years 1 to 9999; for milliseconds declare the column BIGINT and \
         use to_timestamp_millis in the query"
    ))
}

fn repeated(keys: &Bytes, count: usize) -> Option<&[u8]> {
    if count <= FEW_KEYS {
        let last: Vec<&[u8]> = if count > 1 { keys.last_entries(count).collect() } else { Vec::new() };
        return last.iter().enumerate().find(|(index, key)| last[..*index].contains(key)).map(|(_, key)| *key);
    }
    let mut seen = HashSet::with_capacity(count);
    keys.last_entries(count).find(|key| !seen.insert(*key))
}
