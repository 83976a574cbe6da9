//! One value as Spark's `show` prints it: `NULL`, `2024-05-01 10:20:30.5`, `[a, b]`, `{1, x}`, `{k -> v}`, `1.0E10`.
//!
//! Timestamps with a zone are shown in UTC. No control character of a value reaches the terminal.

use std::fmt::Write;

use arrow::array::{Array, AsArray, StructArray};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow::util::display::array_value_to_string;
use chrono::DateTime;

/// The value at `row`, on one line.
pub(super) fn text(array: &dyn Array, row: usize) -> String {
    let mut out = String::new();
    push_value(&mut out, array, row);
    on_one_line(&out)
}

/// The text with every control character escaped.
pub(super) fn on_one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other if other.is_control() => push(&mut out, format_args!("\\x{:02x}", u32::from(other))),
            other => out.push(other),
        }
    }
    out
}

/// How many columns of a terminal the text takes: East Asian wide characters take two.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(|character| if is_wide(character) { 2 } else { 1 }).sum()
}

fn is_wide(character: char) -> bool {
    matches!(
        character,
        '\u{1100}'..='\u{115f}'
            | '\u{2e80}'..='\u{a4cf}'
            | '\u{ac00}'..='\u{d7a3}'
            | '\u{f900}'..='\u{faff}'
            | '\u{fe10}'..='\u{fe19}'
            | '\u{fe30}'..='\u{fe6f}'
            | '\u{ff00}'..='\u{ff60}'
            | '\u{ffe0}'..='\u{ffe6}'
            | '\u{1f300}'..='\u{1f64f}'
            | '\u{1f900}'..='\u{1f9ff}'
            | '\u{20000}'..='\u{3fffd}'
    )
}

fn push_value(out: &mut String, array: &dyn Array, row: usize) {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        out.push_str("NULL");
        return;
    }
    match array.data_type() {
        DataType::Utf8 => out.push_str(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => out.push_str(array.as_string::<i64>().value(row)),
        DataType::Utf8View => out.push_str(array.as_string_view().value(row)),
        DataType::Binary => push_bytes(out, array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => push_bytes(out, array.as_binary::<i64>().value(row)),
        DataType::BinaryView => push_bytes(out, array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => push_bytes(out, array.as_fixed_size_binary().value(row)),
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            push_double(out, f64::from(value), &format!("{value:e}"));
        }
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            push_double(out, value, &format!("{value:e}"));
        }
        DataType::Timestamp(unit, _) => push_timestamp(out, array, row, *unit),
        DataType::List(_) => push_list(out, &array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => push_list(out, &array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => push_list(out, &array.as_fixed_size_list().value(row)),
        DataType::Struct(_) => push_struct(out, array.as_struct(), row),
        DataType::Map(..) => push_map(out, &array.as_map().value(row)),
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            match dictionary.normalized_keys().get(row) {
                Some(key) => push_value(out, dictionary.values(), *key),
                None => out.push_str("NULL"),
            }
        }
        _ => match array_value_to_string(array, row) {
            Ok(value) => out.push_str(&value),
            Err(error) => push(out, format_args!("<{error}>")),
        },
    }
}

fn push_list(out: &mut String, items: &dyn Array) {
    out.push('[');
    for index in 0..items.len() {
        push_separator(out, index);
        push_value(out, items, index);
    }
    out.push(']');
}

fn push_struct(out: &mut String, array: &StructArray, row: usize) {
    out.push('{');
    for (index, column) in array.columns().iter().enumerate() {
        push_separator(out, index);
        push_value(out, column, row);
    }
    out.push('}');
}

fn push_map(out: &mut String, entries: &StructArray) {
    out.push('{');
    for index in 0..entries.len() {
        push_separator(out, index);
        push_value(out, entries.column(0), index);
        out.push_str(" -> ");
        push_value(out, entries.column(1), index);
    }
    out.push('}');
}

fn push_separator(out: &mut String, index: usize) {
    if index > 0 {
        out.push_str(", ");
    }
}

fn push_bytes(out: &mut String, bytes: &[u8]) {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    push(out, format_args!("[{}]", hex.join(" ")));
}

/// Java's notation: plain from a thousandth to ten million, otherwise with `E`; always with a digit after the point.
/// `shortest` is the value's shortest text with an exponent, in its own precision.
fn push_double(out: &mut String, value: f64, shortest: &str) {
    if value.is_nan() {
        out.push_str("NaN");
        return;
    }
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
        return;
    }
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let plain = value == 0.0 || (1e-3..1e7).contains(&value.abs());
    if !plain {
        let point = if mantissa.contains('.') { "" } else { ".0" };
        push(out, format_args!("{mantissa}{point}E{exponent}"));
        return;
    }
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let negative = mantissa.starts_with('-');
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let (whole, fraction) = match usize::try_from(exponent) {
        Ok(shift) => {
            let digits = format!("{digits:0<length$}", length = shift + 1);
            (digits[..=shift].to_owned(), digits[shift + 1..].to_owned())
        }
        Err(_) => ("0".to_owned(), format!("{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1))),
    };
    let fraction = if fraction.is_empty() { "0" } else { &fraction };
    push(out, format_args!("{}{whole}.{fraction}", if negative { "-" } else { "" }));
}

fn push_timestamp(out: &mut String, array: &dyn Array, row: usize, unit: TimeUnit) {
    let time = match unit {
        TimeUnit::Second => DateTime::from_timestamp(array.as_primitive::<TimestampSecondType>().value(row), 0),
        TimeUnit::Millisecond => {
            DateTime::from_timestamp_millis(array.as_primitive::<TimestampMillisecondType>().value(row))
        }
        TimeUnit::Microsecond => {
            DateTime::from_timestamp_micros(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        TimeUnit::Nanosecond => {
            Some(DateTime::from_timestamp_nanos(array.as_primitive::<TimestampNanosecondType>().value(row)))
        }
    };
    let Some(time) = time else {
        out.push_str("<beyond the calendar>");
        return;
    };
    push(out, format_args!("{}", time.format("%Y-%m-%d %H:%M:%S")));
    let fraction = format!("{:09}", time.timestamp_subsec_nanos());
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() {
        push(out, format_args!(".{fraction}"));
    }
}

/// Writing to a string cannot fail.
fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}
