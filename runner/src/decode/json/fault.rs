//! Why one JSON message does not become a row.

use std::fmt;

/// The longest piece of a message that a reason repeats.
const EXCERPT: usize = 80;

/// Why a message is bad. Boxed, because good rows outnumber bad ones and a small `Result` is a fast one.
pub(super) type Fault = Box<FaultAt>;

/// A fault and the column in which it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FaultAt {
    /// The steps from the innermost to the outermost: `.name` or `[index]`. Collected while the error unwinds, so a
    /// row without a fault pays nothing for it.
    path: Vec<String>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Not JSON at all.
    Malformed { at: usize, what: String },
    /// JSON, but not what the schema asks for.
    Value(String),
}

impl FaultAt {
    /// The text is not JSON at byte `at`.
    pub(super) fn malformed(at: usize, what: impl Into<String>) -> Fault {
        Box::new(Self { path: Vec::new(), kind: Kind::Malformed { at, what: what.into() } })
    }

    /// The text is JSON, but its value does not fit.
    pub(super) fn value(what: impl Into<String>) -> Fault {
        Box::new(Self { path: Vec::new(), kind: Kind::Value(what.into()) })
    }

    /// The same fault, seen from the struct whose field `name` has it.
    pub(super) fn in_field(mut self: Box<Self>, name: &str) -> Fault {
        self.path.push(format!(".{name}"));
        self
    }

    /// The same fault, seen from the array or map whose entry it is.
    pub(super) fn in_entry(mut self: Box<Self>, entry: impl fmt::Display) -> Fault {
        self.path.push(format!("[{entry}]"));
        self
    }
}

impl fmt::Display for FaultAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Malformed { at, what } => write!(f, "not valid JSON at byte {at}: {what}"),
            Kind::Value(what) if self.path.is_empty() => write!(f, "{what}"),
            Kind::Value(what) => {
                let path: String = self.path.iter().rev().map(String::as_str).collect();
                write!(f, "column '{}': {what}", path.trim_start_matches('.'))
            }
        }
    }
}

/// A piece of the message for a reason: on one line and at most [`EXCERPT`] characters.
pub(super) fn excerpt(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut out: String = text.chars().take(EXCERPT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(EXCERPT).is_some() {
        out.push('…');
    }
    out
}
