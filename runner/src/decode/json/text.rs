//! Strings of a JSON message and their escapes.

use std::borrow::Cow;

use super::fault::{Fault, FaultAt};

/// A string as it stands between its quotes: checked, but with its escapes still in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    raw: &'a [u8],
    escaped: bool,
}

impl<'a> Text<'a> {
    /// Reads the string that begins at `start`, after its quote; gives it and the index after its closing quote.
    #[inline]
    pub(super) fn read(message: &'a [u8], start: usize) -> Result<(Self, usize), Fault> {
        let mut pos = start;
        let mut escaped = false;
        loop {
            pos = next_special(message, pos);
            match message.get(pos) {
                Some(b'"') => return Ok((Self { raw: &message[start..pos], escaped }, pos + 1)),
                Some(b'\\') => {
                    escaped = true;
                    pos = escape_end(message, pos)?;
                }
                Some(_) => return Err(FaultAt::malformed(pos, "a control character in a string must be escaped")),
                None => return Err(FaultAt::malformed(pos, "the message ends within a string")),
            }
        }
    }

    /// Its bytes, if they can be had without unescaping.
    pub(super) fn plain(&self) -> Option<&'a [u8]> {
        (!self.escaped).then_some(self.raw)
    }

    /// The string itself; allocates only if it has escapes.
    pub(super) fn bytes(&self) -> Cow<'a, [u8]> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        let mut out = Vec::with_capacity(self.raw.len());
        unescape(self.raw, &mut out);
        Cow::Owned(out)
    }

    /// Appends the string itself to `out`.
    pub(super) fn append_to(&self, out: &mut Vec<u8>) {
        if self.escaped { unescape(self.raw, out) } else { out.extend_from_slice(self.raw) }
    }
}

/// The index of the first quote, backslash or control character at or after `pos`, or the length. Eight bytes a step.
#[inline]
fn next_special(text: &[u8], mut pos: usize) -> usize {
    const LOW: u64 = u64::from_le_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    const QUOTE: u64 = u64::from_le_bytes([b'"'; 8]);
    const BACKSLASH: u64 = u64::from_le_bytes([b'\\'; 8]);
    const SPACE: u64 = u64::from_le_bytes([b' '; 8]);
    while let Some(chunk) = text[pos..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ QUOTE;
        let backslash = word ^ BACKSLASH;
        // The high bit of each byte that is zero (in `quote`, `backslash`) or below a space. A borrow may mark bytes
        // *after* a true hit too, so only the first mark counts.
        let hits = (quote.wrapping_sub(LOW) & !quote)
            | (backslash.wrapping_sub(LOW) & !backslash)
            | (word.wrapping_sub(SPACE) & !word);
        let hits = hits & HIGH;
        if hits != 0 {
            return pos + (hits.trailing_zeros() / 8) as usize;
        }
        pos += 8;
    }
    while let Some(&byte) = text.get(pos) {
        if byte == b'"' || byte == b'\\' || byte < b' ' {
            return pos;
        }
        pos += 1;
    }
    pos
}

/// Checks the escape whose backslash is at `pos` and gives the index after it.
fn escape_end(text: &[u8], pos: usize) -> Result<usize, Fault> {
    match text.get(pos + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(pos + 2),
        Some(b'u') => {
            let first = hex4(text, pos + 2)?;
            match first {
                0xD800..=0xDBFF => {
                    let paired = text.get(pos + 6..pos + 8) == Some(b"\\u")
                        && matches!(hex4(text, pos + 8), Ok(0xDC00..=0xDFFF));
                    if paired { Ok(pos + 12) } else { Err(lone_surrogate(pos)) }
                }
                0xDC00..=0xDFFF => Err(lone_surrogate(pos)),
                _ => Ok(pos + 6),
            }
        }
        Some(_) => Err(FaultAt::malformed(pos, "an unknown escape")),
        None => Err(FaultAt::malformed(pos + 1, "the message ends within a string")),
    }
}

#[cold]
fn lone_surrogate(pos: usize) -> Fault {
    FaultAt::malformed(pos, "half of a surrogate pair is no character")
}

fn hex4(text: &[u8], pos: usize) -> Result<u32, Fault> {
    let mut value = 0;
    for at in pos..pos + 4 {
        let digit = text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        let digit = digit.ok_or_else(|| FaultAt::malformed(at, "expected four hexadecimal digits"))?;
        value = value * 16 + digit;
    }
    Ok(value)
}

/// Appends `raw` without its escapes, which [`Text::read`] has checked.
fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut pos = 0;
    while pos < raw.len() {
        if raw[pos] != b'\\' {
            let end = next_special(raw, pos).max(pos + 1);
            out.extend_from_slice(&raw[pos..end]);
            pos = end;
            continue;
        }
        let (character, length) = match raw.get(pos + 1) {
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(b'n') => ('\n', 2),
            Some(b'r') => ('\r', 2),
            Some(b't') => ('\t', 2),
            Some(b'u') => unicode_escape(raw, pos),
            Some(other) => (char::from(*other), 2),
            None => (char::REPLACEMENT_CHARACTER, 1),
        };
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        pos += length;
    }
}

fn unicode_escape(raw: &[u8], pos: usize) -> (char, usize) {
    let first = hex4(raw, pos + 2).unwrap_or(0xFFFD);
    if !(0xD800..=0xDBFF).contains(&first) {
        return (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6);
    }
    let second = hex4(raw, pos + 8).unwrap_or(0xDC00);
    let code = 0x10000 + ((first - 0xD800) << 10) + (second.wrapping_sub(0xDC00) & 0x3FF);
    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
}
