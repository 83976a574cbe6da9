//! A strict reader of JSON text (RFC 8259), driven by whoever knows which value comes next.
//!
//! It never looks past the one message it was given, so no state can leak from a truncated message into the next. It
//! allocates nothing for well-formed text: strings and numbers are slices of the message.

use super::fault::{Fault, FaultAt, excerpt};
use super::text::Text;

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
        let (text, end) = Text::read(self.text, self.pos + 1)?;
        self.pos = end;
        Ok(text)
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
