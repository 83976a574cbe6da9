//! What can be wrong with a query, said so that the user sees where and what to do.

use std::fmt;

/// Which part of the manifest a query comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// A source of this name.
    Source(String),
    /// A view of this name.
    View(String),
    /// An output of this name.
    Output(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(name) => write!(f, "source '{name}'"),
            Self::View(name) => write!(f, "view '{name}'"),
            Self::Output(name) => write!(f, "output '{name}'"),
        }
    }
}

/// A position in the text of a query, both counted from 1 in characters, as editors count them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The query it is in; a refused construct of an output may stand in a view that the output reads.
    pub place: Place,
    /// The line within the query's text.
    pub line: usize,
    /// The column within the line.
    pub column: usize,
    /// The line itself.
    pub text: String,
}

impl Position {
    /// The position of (`line`, `column`) in `sql`; `None` if the text has no such line.
    pub(super) fn new(place: &Place, sql: &str, line: u64, column: u64) -> Option<Self> {
        let line = usize::try_from(line).ok().filter(|line| *line > 0)?;
        let column = usize::try_from(column).ok().filter(|column| *column > 0)?;
        let text = sql.lines().nth(line - 1)?.to_owned();
        Some(Self { place: place.clone(), line, column, text })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A folded YAML scalar is one very long line: show the part around the position.
        const BEFORE: usize = 50;
        const SHOWN: usize = 100;
        let start = self.column.saturating_sub(1 + BEFORE);
        let cut: String = self.text.chars().skip(start).take(SHOWN).map(|c| if c == '\t' { ' ' } else { c }).collect();
        let (lead, tail) = (if start > 0 { "…" } else { "" }, self.text.chars().count() > start + SHOWN);
        let indent = self.column - 1 - start + lead.chars().count();
        write!(f, "line {}, column {}:", self.line, self.column)?;
        write!(f, "\n  {lead}{cut}{}", if tail { "…" } else { "" })?;
        write!(f, "\n  {:indent$}^", "")
    }
}

/// A query that cannot be planned: whose it is, what is wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PlanError {
    /// The part of the manifest that must be mended.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Where in the SQL, when that is known.
    pub position: Option<Box<Position>>,
}

impl PlanError {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into(), help: None, position: None }
    }

    pub(super) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        if let Some(position) = &self.position {
            if position.place == self.place {
                write!(f, "\n  at {position}")?;
            } else {
                write!(f, "\n  at {}, {position}", position.place)?;
            }
        }
        Ok(())
    }
}

/// Why rows could not be run through a planned query.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A row's value does not suit the query: a cast that fails, a division by zero. Running the same rows again
    /// gives the same error.
    #[error(
        "output '{output}': a row cannot be computed: {reason} (to get NULL instead of an error, use TRY_CAST for a cast, NULLIF for a divisor)"
    )]
    Row {
        /// The output's name.
        output: String,
        /// DataFusion's words.
        reason: String,
    },
    /// The query needs more memory than it may have.
    #[error(
        "output '{output}': the query needs more than its memory limit of {} MiB: {reason}; group by fewer distinct values, or read less at a time",
        limit >> 20
    )]
    Memory {
        /// The output's name.
        output: String,
        /// The limit in bytes.
        limit: usize,
        /// Who asked for how much.
        reason: String,
    },
    /// Rows for a source that the plan does not know.
    #[error("the plan has no source '{source_name}'")]
    UnknownSource {
        /// The name given.
        source_name: String,
    },
    /// The batch does not have the columns that the plan asked for.
    #[error("source '{source_name}': the batch does not fit the plan: {reason}")]
    Batch {
        /// The source's name.
        source_name: String,
        /// What differs.
        reason: String,
    },
    /// A fault of ours or of DataFusion.
    #[error("output '{output}': {reason}")]
    Internal {
        /// The output's name.
        output: String,
        /// What happened.
        reason: String,
    },
}
