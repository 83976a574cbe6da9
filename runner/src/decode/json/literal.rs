//! What the text of a number, a date, a timestamp or a binary value stands for. Pure functions over bytes.

/// The widest range of timestamps: years 0001 to 9999, in microseconds since 1970 UTC.
const MICROS: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// An integer in JSON's grammar; `None` if it does not fit into 64 bits.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    // Eighteen digits cannot overflow, so the checks are for the rare rest.
    let mut value: i64 = 0;
    for (index, digit) in digits.iter().enumerate() {
        if !digit.is_ascii_digit() {
            return None;
        }
        let digit = i64::from(digit - b'0');
        value = if index < 18 { value * 10 - digit } else { value.checked_mul(10)?.checked_sub(digit)? };
    }
    // Summed up below zero, where the range is one larger.
    if negative { Some(value) } else { value.checked_neg() }
}

/// A number in JSON's grammar as the nearest double; `None` if it is too large for one.
pub(super) fn double(text: &[u8]) -> Option<f64> {
    if let Some(value) = short_double(text) {
        return Some(value);
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

/// A number in JSON's grammar as the nearest float; `None` if it is too large for one.
pub(super) fn float(text: &[u8]) -> Option<f32> {
    let value: f32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

/// The strings that stand for doubles which JSON has no number for, as Spark reads them.
pub(super) fn special_double(text: &[u8]) -> Option<f64> {
    match text {
        b"NaN" => Some(f64::NAN),
        b"INF" | b"+INF" | b"Infinity" | b"+Infinity" => Some(f64::INFINITY),
        b"-INF" | b"-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// Up to 15 digits without an exponent: digits and power of ten are exact doubles, so one division rounds correctly.
fn short_double(text: &[u8]) -> Option<f64> {
    const POWERS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if rest.is_empty() || rest.len() > 16 {
        return None;
    }
    let mut digits: u64 = 0;
    let mut count = 0;
    let mut fraction: Option<usize> = None;
    for byte in rest {
        match byte {
            b'0'..=b'9' => {
                digits = digits * 10 + u64::from(byte - b'0');
                count += 1;
            }
            b'.' if fraction.is_none() => fraction = Some(count),
            _ => return None,
        }
    }
    if count > 15 {
        return None;
    }
    let power = POWERS.get(fraction.map_or(0, |at| count - at))?;
    let value = digits as f64 / power;
    Some(if negative { -value } else { value })
}

/// A decimal number, perhaps with an exponent, as an integer scaled by `10^scale`: digits beyond the scale are rounded
/// half up (away from zero), as Spark does. `None` if it is no number or needs more than `precision` digits.
pub(super) fn decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (mantissa, exponent) = match rest.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&rest[..at], std::str::from_utf8(&rest[at + 1..]).ok()?.parse::<i32>().ok()?),
        None => (rest, 0),
    };
    let (whole, fraction) = match mantissa.iter().position(|byte| *byte == b'.') {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &mantissa[..0]),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // How many of the mantissa's digits count; the one after them decides the rounding.
    let keep = i64::try_from(whole.len()).ok()? + i64::from(exponent) + i64::from(scale);
    let limit = 10_i128.checked_pow(u32::from(precision))?;
    let mut value: i128 = 0;
    let mut length: i64 = 0;
    for digit in whole.iter().chain(fraction) {
        if !digit.is_ascii_digit() {
            return None;
        }
        let digit = i128::from(digit - b'0');
        if length < keep {
            value = value.checked_mul(10)?.checked_add(digit)?;
        } else if length == keep && digit >= 5 {
            value += 1;
        }
        if value >= limit {
            return None;
        }
        length += 1;
    }
    // Zeros that the text does not spell out.
    while value != 0 && length < keep {
        value = value.checked_mul(10)?;
        length += 1;
        if value >= limit {
            return None;
        }
    }
    Some(if negative { -value } else { value })
}

/// Days since 1970 of `YYYY-MM-DD`; a time of day after it is checked and ignored, as Spark does.
pub(super) fn date(text: &[u8]) -> Option<i32> {
    let (days, rest) = calendar_date(text)?;
    if !rest.is_empty() {
        time_and_zone(rest)?;
    }
    i32::try_from(days).ok()
}

/// Microseconds since 1970 UTC of `YYYY-MM-DD`, followed perhaps by `T` or a space and `HH:MM[:SS[.fraction]]`,
/// followed perhaps by a zone (`Z`, `UTC`, `GMT`, `±HH`, `±HHMM`, `±HH:MM`). Without a zone it is UTC. Fractions are
/// cut to microseconds.
pub(super) fn timestamp(text: &[u8]) -> Option<i64> {
    let (micros, zone) = local_timestamp(text)?;
    let micros = micros - zone.unwrap_or(0) * MICROS_PER_SECOND;
    MICROS.contains(&micros).then_some(micros)
}

/// The same without a zone: microseconds since 1970 as its clock shows them. `None` if it names a zone: dropping that
/// would change what the text means.
pub(super) fn timestamp_without_zone(text: &[u8]) -> Option<i64> {
    match local_timestamp(text)? {
        (micros, None) => Some(micros),
        (_, Some(_)) => None,
    }
}

/// Microseconds of whole seconds since 1970, within the years 0001 to 9999.
pub(super) fn timestamp_of_seconds(seconds: i64) -> Option<i64> {
    let micros = seconds.checked_mul(MICROS_PER_SECOND)?;
    MICROS.contains(&micros).then_some(micros)
}

/// The bytes of a base64 text (RFC 4648, standard alphabet, padded), appended to `out`; `None`, with nothing appended,
/// if it is none.
pub(super) fn base64(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    let decoded = base64_groups(text, out);
    if decoded.is_none() {
        out.truncate(start);
    }
    decoded
}

fn base64_groups(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
    let digits = &text[..text.len() - padding];
    for group in digits.chunks(4) {
        let mut bits: u32 = 0;
        for byte in group {
            bits = bits << 6 | base64_digit(*byte)?;
        }
        bits <<= 6 * (4 - group.len());
        let bytes = bits.to_be_bytes();
        // Two digits are one byte and four bits that must be zero; three are two bytes and two such bits.
        let used = group.len() - 1;
        if bytes[1 + used..].iter().any(|byte| *byte != 0) {
            return None;
        }
        out.extend_from_slice(&bytes[1..=used]);
    }
    Some(())
}

fn base64_digit(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

/// Microseconds as the text's own clock shows them, and the zone's offset east of UTC in seconds if it names one.
fn local_timestamp(text: &[u8]) -> Option<(i64, Option<i64>)> {
    let (days, rest) = calendar_date(text)?;
    let midnight = days * SECONDS_PER_DAY * MICROS_PER_SECOND;
    if rest.is_empty() {
        return Some((midnight, None));
    }
    let (time, zone) = time_and_zone(rest)?;
    Some((midnight + time, zone))
}

/// Days since 1970 and what follows the date.
fn calendar_date(text: &[u8]) -> Option<(i64, &[u8])> {
    let (date, rest) = text.split_first_chunk::<10>()?;
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }
    let year = i64::from(two_digits(&date[0..])?) * 100 + i64::from(two_digits(&date[2..])?);
    let month = i64::from(two_digits(&date[5..])?);
    let day = i64::from(two_digits(&date[8..])?);
    if year == 0 || !(1..=12).contains(&month) || day == 0 || day > days_of_month(year, month) {
        return None;
    }
    Some((days_since_1970(year, month, day), rest))
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the proleptic Gregorian calendar. Years start in March here, so that the leap day is a year's last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    year * 365 + leap_days + day_of_year - 719_468
}

/// Microseconds since midnight and the zone of `THH:MM[:SS[.fraction]][zone]`.
fn time_and_zone(text: &[u8]) -> Option<(i64, Option<i64>)> {
    let rest = match text {
        [b'T' | b' ', rest @ ..] => rest,
        _ => return None,
    };
    let (clock, mut rest) = rest.split_first_chunk::<5>()?;
    let hour = i64::from(two_digits(clock)?);
    let minute = i64::from(two_digits(&clock[3..])?);
    if clock[2] != b':' || hour > 23 || minute > 59 {
        return None;
    }
    let mut second = 0;
    let mut micros = 0;
    if let [b':', after @ ..] = rest {
        second = i64::from(two_digits(after)?);
        if second > 59 {
            return None;
        }
        rest = &after[2..];
        if let [b'.', digits @ ..] = rest {
            let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if length == 0 {
                return None;
            }
            for place in 0..6 {
                let digit = digits[..length].get(place).map_or(0, |digit| digit - b'0');
                micros = micros * 10 + i64::from(digit);
            }
            rest = &digits[length..];
        }
    }
    let time = ((hour * 60 + minute) * 60 + second) * MICROS_PER_SECOND + micros;
    Some((time, zone(rest)?))
}

/// The offset east of UTC in seconds; `Some(None)` if no zone is named, `None` if what is there is none we know.
fn zone(text: &[u8]) -> Option<Option<i64>> {
    let (sign, offset) = match text {
        b"" => return Some(None),
        b"Z" | b"z" | b"UTC" | b" UTC" | b"GMT" | b" GMT" => return Some(Some(0)),
        [b'+', offset @ ..] => (1, offset),
        [b'-', offset @ ..] => (-1, offset),
        _ => return None,
    };
    let (hours, minutes) = match offset {
        [_, _] => (two_digits(offset)?, 0),
        [_, _, b':', minutes @ ..] | [_, _, minutes @ ..] if minutes.len() == 2 => {
            (two_digits(offset)?, two_digits(minutes)?)
        }
        _ => return None,
    };
    if hours > 18 || minutes > 59 {
        return None;
    }
    Some(Some(sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60)))
}

/// The number that the first two bytes spell.
fn two_digits(text: &[u8]) -> Option<u8> {
    match text {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9', ..] => Some((tens - b'0') * 10 + (ones - b'0')),
        _ => None,
    }
}
