//! Durations and numbers of bytes, as Kubernetes users write them.

use std::time::Duration;

/// Why a text is no duration or no quantity, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {fix}")]
pub struct QuantityError {
    /// What is wrong.
    pub problem: String,
    /// What to write.
    pub fix: String,
}

/// Milliseconds by unit, greatest first.
const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// The longest duration: 100 years. Deadlines computed with it stay within every clock's range.
const MAX_DURATION_MS: u64 = 100 * 365 * 86_400_000;

/// Bytes by suffix.
const BYTE_UNITS: [(&str, u64); 13] = [
    ("", 1),
    ("k", 1000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
];

/// Reads a duration: `10s`, `1h30m`, `500ms`, `2d`.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (digits, after) = split_at_non_digit(rest);
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, tail) = after.split_at(unit_end);
        let factor = DURATION_UNITS.iter().find(|(name, _)| *name == unit);
        let (Ok(number), Some((_, factor))) = (digits.parse::<u64>(), factor) else { return Err(no_duration(text)) };
        let sum = number.checked_mul(*factor).and_then(|part| total.checked_add(part));
        total = match sum {
            Some(sum) if sum <= MAX_DURATION_MS => sum,
            _ => return Err(duration_error("the duration is longer than 100 years", "write a shorter one")),
        };
        rest = tail;
    }
    if text.is_empty() {
        return Err(no_duration(text));
    }
    Ok(Duration::from_millis(total))
}

/// Writes a duration the way [`parse_duration`] reads it; what is below a millisecond is dropped.
pub fn show_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, factor) in DURATION_UNITS {
        let count = rest / factor;
        rest %= factor;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Reads a number of bytes: `128Mi`, `1.5G`, `1000000`.
pub fn parse_bytes(text: &str) -> Result<u64, QuantityError> {
    let (whole, after) = split_at_non_digit(text);
    let (fraction, suffix) = match after.strip_prefix('.') {
        Some(decimals) => split_at_non_digit(decimals),
        None => ("", after),
    };
    let factor = BYTE_UNITS.iter().find(|(name, _)| *name == suffix).map(|(_, factor)| u128::from(*factor));
    let digits = format!("{whole}{fraction}");
    let (Some(factor), Ok(number), false) = (factor, digits.parse::<u128>(), whole.is_empty()) else {
        return Err(no_quantity(text));
    };
    let too_large =
        || QuantityError { problem: "the number is too large".to_owned(), fix: "write at most 8Ei".to_owned() };
    let divisor =
        u32::try_from(fraction.len()).ok().and_then(|digits| 10u128.checked_pow(digits)).ok_or_else(too_large)?;
    let bytes = number.checked_mul(factor).ok_or_else(too_large)?;
    if bytes % divisor != 0 {
        return Err(QuantityError {
            problem: "not a whole number of bytes".to_owned(),
            fix: "write bytes as `1000000`, or with a suffix as `128Mi` or `1G`".to_owned(),
        });
    }
    u64::try_from(bytes / divisor).ok().filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or_else(too_large)
}

fn split_at_non_digit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn duration_error(problem: &str, fix: &str) -> QuantityError {
    QuantityError { problem: problem.to_owned(), fix: fix.to_owned() }
}

/// Spark's `10 seconds` and decimals are understood well enough to say how they are written here.
fn no_duration(text: &str) -> QuantityError {
    let trimmed = text.trim();
    let meant = trimmed
        .parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .or_else(|| humantime::parse_duration(trimmed.trim_start_matches("INTERVAL ").trim_matches('\'')).ok())
        .or_else(|| decimal_duration(trimmed))
        .filter(|duration| {
            duration.subsec_nanos() % 1_000_000 == 0 && duration.as_millis() <= u128::from(MAX_DURATION_MS)
        });
    match meant {
        Some(duration) if !duration.is_zero() => {
            duration_error("not a duration", &format!("write `{}`", show_duration(duration)))
        }
        _ => duration_error("not a duration", "write a number and a unit (ms, s, m, h, d), such as `10s` or `1h30m`"),
    }
}

/// `1.5h` as Go would read it.
fn decimal_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let (_, factor) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
    let milliseconds = number.trim().parse::<f64>().ok()? * *factor as f64;
    Duration::try_from_secs_f64(milliseconds / 1000.0).ok()
}

fn no_quantity(text: &str) -> QuantityError {
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let (number, suffix) = compact.split_at(compact.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(compact.len()));
    let known = match suffix.to_ascii_lowercase().trim_end_matches('b') {
        "k" => Some("k"),
        "m" => Some("M"),
        "g" => Some("G"),
        "t" => Some("T"),
        "ki" => Some("Ki"),
        "mi" => Some("Mi"),
        "gi" => Some("Gi"),
        "ti" => Some("Ti"),
        _ => None,
    };
    let is_number = number.parse::<f64>().is_ok_and(|number| number > 0.0);
    let fix = match known {
        Some(suffix) if is_number => format!("write `{number}{suffix}`"),
        _ => "write bytes as `1000000`, or with a suffix as `128Mi` or `1G`".to_owned(),
    };
    QuantityError { problem: "not a number of bytes".to_owned(), fix }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_kubernetes_users_write_them() {
        let cases = [
            ("10s", 10_000),
            ("500ms", 500),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("1m1s1ms", 61_001),
            ("90m", 5_400_000),
            ("0s", 0),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(milliseconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_what_was_meant() {
        let cases = [
            ("10", "not a duration; write `10s`"),
            ("10 seconds", "not a duration; write `10s`"),
            ("5 minutes", "not a duration; write `5m`"),
            ("1.5h", "not a duration; write `1h30m`"),
            ("0.25s", "not a duration; write `250ms`"),
            ("", "not a duration; write a number and a unit (ms, s, m, h, d), such as `10s` or `1h30m`"),
            ("soon", "not a duration; write a number and a unit (ms, s, m, h, d), such as `10s` or `1h30m`"),
            ("-5s", "not a duration; write a number and a unit (ms, s, m, h, d), such as `10s` or `1h30m`"),
            ("5s5", "not a duration; write a number and a unit (ms, s, m, h, d), such as `10s` or `1h30m`"),
            ("99999999999999999d", "the duration is longer than 100 years; write a shorter one"),
            (
                "99999999999999999999d",
                "not a duration; write a number and a unit (ms, s, m, h, d), such as `10s` or `1h30m`",
            ),
        ];
        for (text, error) in cases {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), error, "{text:?}");
        }
    }

    #[test]
    fn bytes_are_read_with_binary_and_decimal_suffixes() {
        let cases = [
            ("1000000", 1_000_000),
            ("128Mi", 134_217_728),
            ("1G", 1_000_000_000),
            ("1.5Gi", 1_610_612_736),
            ("1k", 1000),
            ("0", 0),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_bytes(text).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_what_was_meant() {
        let cases = [
            ("128MB", "not a number of bytes; write `128M`"),
            ("128MiB", "not a number of bytes; write `128Mi`"),
            ("1 Gi", "not a number of bytes; write `1Gi`"),
            ("1K", "not a number of bytes; write `1k`"),
            ("500m", "not a number of bytes; write `500M`"),
            ("much", "not a number of bytes; write bytes as `1000000`, or with a suffix as `128Mi` or `1G`"),
            ("-1", "not a number of bytes; write bytes as `1000000`, or with a suffix as `128Mi` or `1G`"),
            (".5", "not a number of bytes; write bytes as `1000000`, or with a suffix as `128Mi` or `1G`"),
            ("0.3", "not a whole number of bytes; write bytes as `1000000`, or with a suffix as `128Mi` or `1G`"),
            ("16Ei", "the number is too large; write at most 8Ei"),
        ];
        for (text, error) in cases {
            assert_eq!(parse_bytes(text).unwrap_err().to_string(), error, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_reads_back_as_it_was_written(milliseconds in 0..MAX_DURATION_MS) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_duration(&show_duration(duration)).unwrap(), duration);
        }

        #[test]
        fn no_text_makes_the_readers_fail_otherwise_than_by_an_error(text in "[0-9.]{0,30}[a-zA-Z ]{0,8}|.{0,20}") {
            let _ = parse_duration(&text);
            let _ = parse_bytes(&text);
        }
    }
}
