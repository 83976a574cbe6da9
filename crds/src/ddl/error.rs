//! Errors of the schema language: where, what, and what to write instead.

use std::fmt;

/// How much of the text an error shows on either side of the mistake, in characters.
const CONTEXT: usize = 36;

/// A mistake in a schema text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DdlError {
    /// Where it is: characters from the start of the text, from 0.
    pub position: usize,
    /// How many characters are wrong, at least 1.
    pub length: usize,
    /// What is wrong.
    pub problem: String,
    /// What to write.
    pub fix: String,
    /// The text around it on one line, and below it a line of carets.
    pub excerpt: String,
}

impl DdlError {
    pub(super) fn new(text: &[char], position: usize, length: usize, problem: String, fix: String) -> Self {
        let length = length.max(1);
        Self { position, length, problem, fix, excerpt: excerpt(text, position, length) }
    }
}

impl fmt::Display for DdlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at character {}; {}\n{}", self.problem, self.position + 1, self.fix, self.excerpt)
    }
}

impl std::error::Error for DdlError {}

fn excerpt(text: &[char], position: usize, length: usize) -> String {
    let mut end = (position + length).min(text.len());
    while end < text.len() && end < position + CONTEXT && text[end] != '\n' {
        end += 1;
    }
    let mut start = position.min(text.len());
    while start > 0 && position - start < CONTEXT && text[start - 1] != '\n' {
        start -= 1;
    }
    while start < position && text.get(start).is_some_and(|c| c.is_whitespace()) {
        start += 1;
    }
    let line: String = text[start..end].iter().map(|c| if c.is_control() { ' ' } else { *c }).collect();
    let carets = length.min(end.saturating_sub(position)).max(1);
    let (before, after) = (if start > 0 { "… " } else { "" }, if end < text.len() { " …" } else { "" });
    let indent = position - start + before.chars().count();
    format!("  {before}{}{after}\n  {}{}", line.trim_end(), " ".repeat(indent), "^".repeat(carets))
}
