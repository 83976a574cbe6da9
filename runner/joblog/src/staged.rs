//! Names of staged objects and state blobs, and when nothing can refer to one any more.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::fold::Fold;
use crate::ids::{Incarnation, ParseError, Seq};

/// The file name of a staged object or state blob: `<claim>-<incarnation>-<label>`.
///
/// It carries the claim under which it was written, so that its death can be told from the log alone, without a clock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StagedName {
    /// The slot of a live claim of the writer.
    pub claim: Seq,
    /// The writer.
    pub incarnation: Incarnation,
    /// What makes the name unique for this writer. No slash.
    pub label: String,
}

impl StagedName {
    /// The name inside a key, URL or path: its last component.
    pub fn of(path: &str) -> Result<Self, ParseError> {
        path.rsplit('/').next().unwrap_or(path).parse()
    }
}

/// True if the object of that name can be deleted: its claim holds no task any more, so no commit will ever refer to it,
/// and no live record or savepoint does.
///
/// `fold` must be checked and must include the claim; a name from a claim after it is never dead. Idempotent: dead names
/// stay dead.
pub fn is_dead(path: &str, fold: &Fold) -> bool {
    let Ok(name) = StagedName::of(path) else {
        return false; // not ours to judge
    };
    name.claim < fold.next() && !fold.is_live_claim(name.claim, name.incarnation) && !fold.refers_to(path)
}

impl fmt::Display for StagedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{}-{}", self.claim.0, self.incarnation.0.simple(), self.label)
    }
}

impl FromStr for StagedName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseError { what: "staged name", text: text.to_owned(), form: "<claim>-<incarnation>-<label>" };
        let mut parts = text.splitn(3, '-');
        let claim = parts.next().filter(|c| c.len() == 20).and_then(|c| c.parse().ok()).ok_or_else(error)?;
        let incarnation = parts.next().and_then(|i| Uuid::try_parse(i).ok()).ok_or_else(error)?;
        let label = parts.next().filter(|l| !l.is_empty() && !l.contains('/')).ok_or_else(error)?;
        Ok(Self { claim: Seq(claim), incarnation: Incarnation(incarnation), label: label.to_owned() })
    }
}
