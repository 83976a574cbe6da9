//! A strict reader of JSON text (RFC 8259), driven by whoever knows which value comes next.
//!
//! It never looks past the one message it was given, so no state can leak from a truncated message into the next. It
//! allocates nothing for well-formed text: strings and numbers are slices of the message.

use std::borrow::Cow;

use super::fault::{Fault, FaultAt, excerpt};

/// How deep objects and arrays may nest in what the schema does not name. (What it does name is as deep as the schema.)
const MAX_DEPTH: usize = 1000;

/// What the next value is, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

/// A string as it stands between its quotes: checked, but with its escapes still in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    raw: &'a [u8],
    escaped: bool,
}

impl<'a> Text<'a> {
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

/// A number's text, which follows JSON's grammar.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number<'a> {
    /// The text as sent.
    pub(super) text: &'a [u8],
    /// Whether it has neither a fraction nor an exponent.
    pub(super) integer: bool,
}

/// Reads one message from its start to its end.
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    pos: usize,
}

impl<'a> Scanner<'a> {
    /// A scanner at the start of a message, past a byte order mark if there is one.
    ///
    /// # Errors
    /// When the message is not UTF-8: everything after this may rely on it.
    pub(super) fn new(text: &'a [u8]) -> Result<Self, Fault> {
        if let Err(error) = std::str::from_utf8(text) {
            return Err(FaultAt::malformed(error.valid_up_to(), "not UTF-8"));
        }
        let pos = if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        Ok(Self { text, pos })
    }

    /// Passes white space and says what the next value is, without reading it.
    #[inline]
    pub(super) fn token(&mut self) -> Result<Token, Fault> {
        self.space();
        match self.text.get(self.pos) {
            Some(b'{') => Ok(Token::Object),
            Some(b'[') => Ok(Token::Array),
            Some(b'"') => Ok(Token::String),
            Some(b'-' | b'0'..=b'9') => Ok(Token::Number),
            Some(b't') => Ok(Token::True),
            Some(b'f') => Ok(Token::False),
            Some(b'n') => Ok(Token::Null),
            _ => Err(self.unexpected("a value")),
        }
    }

    /// Whether only white space is left.
    pub(super) fn at_end(&mut self) -> bool {
        self.space();
        self.pos == self.text.len()
    }

    /// Reads the literal that [`Scanner::token`] announced.
    pub(super) fn literal(&mut self, word: &'static str) -> Result<(), Fault> {
        if !self.text[self.pos..].starts_with(word.as_bytes()) {
            return Err(FaultAt::malformed(self.pos, format!("expected {word}")));
        }
        self.pos += word.len();
        Ok(())
    }

    /// Passes the `{` or `[` that [`Scanner::token`] announced.
    #[inline]
    pub(super) fn open(&mut self) {
        self.pos += 1;
    }

    /// Within an object: the next key, the colon after it passed; `None` at the closing brace, which is passed too.
    #[inline]
    pub(super) fn next_key(&mut self, first: bool) -> Result<Option<Text<'a>>, Fault> {
        if !self.next_entry(first, b'}')? {
            return Ok(None);
        }
        if self.text.get(self.pos) != Some(&b'"') {
            return Err(self.unexpected("a quoted name"));
        }
        let key = self.string()?;
        self.space();
        if self.text.get(self.pos) != Some(&b':') {
            return Err(self.unexpected("':'"));
        }
        self.pos += 1;
        Ok(Some(key))
    }

    /// Within an array: whether there is another item; passes the closing bracket if not.
    #[inline]
    pub(super) fn next_item(&mut self, first: bool) -> Result<bool, Fault> {
        self.next_entry(first, b']')
    }

    /// Reads the string that [`Scanner::token`] announced.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Text<'a>, Fault> {
        let start = self.pos + 1;
        let mut pos = start;
        let mut escaped = false;
        loop {
            pos = next_special(self.text, pos);
            match self.text.get(pos) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    pos = escape_end(self.text, pos)?;
                }
                Some(_) => return Err(FaultAt::malformed(pos, "a control character in a string must be escaped")),
                None => return Err(FaultAt::malformed(pos, "the message ends within a string")),
            }
        }
        self.pos = pos + 1;
        Ok(Text { raw: &self.text[start..pos], escaped })
    }

    /// Reads the number that [`Scanner::token`] announced.
    #[inline]
    pub(super) fn number(&mut self) -> Result<Number<'a>, Fault> {
        let start = self.pos;
        let mut pos = start;
        if self.text[pos] == b'-' {
            pos += 1;
        }
        pos = match self.text.get(pos) {
            Some(b'0') => pos + 1,
            _ => digits_end(self.text, pos)?,
        };
        let mut integer = true;
        if self.text.get(pos) == Some(&b'.') {
            integer = false;
            pos = digits_end(self.text, pos + 1)?;
        }
        if let Some(b'e' | b'E') = self.text.get(pos) {
            integer = false;
            pos += 1;
            if let Some(b'+' | b'-') = self.text.get(pos) {
                pos += 1;
            }
            pos = digits_end(self.text, pos)?;
        }
        self.pos = pos;
        Ok(Number { text: &self.text[start..pos], integer })
    }

    /// Passes one value of any kind, checking it, and gives its text as sent.
    pub(super) fn raw_value(&mut self) -> Result<&'a [u8], Fault> {
        self.space();
        let start = self.pos;
        self.skip_value()?;
        Ok(&self.text[start..self.pos])
    }

    /// Passes one value of any kind, checking it: a malformed message is bad even where nobody reads it.
    pub(super) fn skip_value(&mut self) -> Result<(), Fault> {
        match self.token()? {
            Token::Object | Token::Array => self.skip_nested(),
            _ => self.skip_scalar(),
        }
    }

    /// The fault of a value that is not what the schema asks for; reads the value, which may be malformed instead.
    #[cold]
    pub(super) fn mismatch(&mut self, expected: &str) -> Fault {
        match self.raw_value() {
            Ok(found) => FaultAt::value(format!("expected {expected}, found {}", excerpt(found))),
            Err(malformed) => malformed,
        }
    }

    /// The fault of finding something else than `expected` here.
    #[cold]
    pub(super) fn unexpected(&self, expected: &str) -> Fault {
        let what = match std::str::from_utf8(&self.text[self.pos..]).ok().and_then(|rest| rest.chars().next()) {
            Some(found) => format!("expected {expected}, found {found:?}"),
            None => format!("expected {expected}, but the message ends"),
        };
        FaultAt::malformed(self.pos, what)
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.pos) {
            self.pos += 1;
        }
    }

    #[inline]
    fn next_entry(&mut self, first: bool, close: u8) -> Result<bool, Fault> {
        self.space();
        match self.text.get(self.pos) {
            Some(&b) if b == close => {
                self.pos += 1;
                return Ok(false);
            }
            _ if first => return Ok(true),
            Some(b',') => self.pos += 1,
            _ => return Err(self.unexpected(if close == b'}' { "',' or '}'" } else { "',' or ']'" })),
        }
        self.space();
        // A comma promises another entry.
        if self.text.get(self.pos) == Some(&close) {
            return Err(self.unexpected(if close == b'}' { "a quoted name" } else { "a value" }));
        }
        Ok(true)
    }

    fn skip_scalar(&mut self) -> Result<(), Fault> {
        match self.token()? {
            Token::String => self.string().map(drop),
            Token::Number => self.number().map(drop),
            Token::True => self.literal("true"),
            Token::False => self.literal("false"),
            Token::Null => self.literal("null"),
            Token::Object | Token::Array => Err(self.unexpected("a scalar")),
        }
    }

    /// Passes an object or array with an explicit stack: the depth of a message must not become ours.
    fn skip_nested(&mut self) -> Result<(), Fault> {
        let mut open: Vec<Token> = Vec::new();
        loop {
            // At a value.
            let token = self.token()?;
            let mut first = false;
            match token {
                Token::Object | Token::Array => {
                    if open.len() == MAX_DEPTH {
                        return Err(FaultAt::malformed(self.pos, format!("nested deeper than {MAX_DEPTH} levels")));
                    }
                    self.open();
                    open.push(token);
                    first = true;
                }
                _ => self.skip_scalar()?,
            }
            // After a value, or just within an object or array: on to the next value, leaving what ends here.
            loop {
                let more = match open.last() {
                    None => return Ok(()),
                    Some(Token::Object) => self.next_key(first)?.is_some(),
                    Some(_) => self.next_item(first)?,
                };
                if more {
                    break;
                }
                open.pop();
                first = false;
            }
        }
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

fn digits_end(text: &[u8], start: usize) -> Result<usize, Fault> {
    let mut pos = start;
    while let Some(b'0'..=b'9') = text.get(pos) {
        pos += 1;
    }
    if pos == start {
        return Err(FaultAt::malformed(pos, "expected a digit"));
    }
    Ok(pos)
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

/// Appends `raw` without its escapes, which [`Scanner::string`] has checked.
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
