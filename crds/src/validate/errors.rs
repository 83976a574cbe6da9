//! Errors with their paths, and the list they are collected in.

use std::fmt;

/// The longest value that an error shows, in characters.
const MAX_SHOWN: usize = 80;

/// How the path of the whole object is shown.
const ROOT: &str = "manifest";

/// A mistake in a manifest: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError {
    /// The field: `spec.sources[0].kafka.topics`.
    pub path: String,
    /// The value as written, if showing it helps; shortened.
    pub value: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do; may end with lines that point into the value.
    pub fix: String,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)?;
        if let Some(value) = &self.value {
            write!(f, " (it says `{value}`)")?;
        }
        write!(f, "; {}", self.fix)
    }
}

impl std::error::Error for SpecError {}

/// Errors found so far.
#[derive(Debug, Default)]
pub(crate) struct Errors(Vec<SpecError>);

impl Errors {
    /// Notes an error.
    pub(crate) fn add(&mut self, at: &Path, value: Option<&str>, problem: impl Into<String>, fix: impl Into<String>) {
        let value = value.filter(|value| !value.is_empty() && !at.may_hold_a_secret()).map(shorten);
        self.0.push(SpecError { path: at.to_string(), value, problem: problem.into(), fix: fix.into() });
    }

    /// Adds what the rules found in an object that had to be patched up first: not what follows from the patches, that is,
    /// nothing at, below or directly above a field that has an error already or was filled in.
    pub(crate) fn add_consequences(&mut self, found: Self, filled_in: &[Path]) {
        let filled_in = filled_in.iter().map(|path| path.0.clone());
        let patched: Vec<String> = self.0.iter().map(|error| error.path.clone()).chain(filled_in).collect();
        for error in found.0 {
            let follows =
                patched.iter().any(|patch| within(&error.path, patch) || parent(patch) == Some(error.path.as_str()));
            if !follows {
                self.0.push(error);
            }
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The value if there are no errors. An error is certain to be there if the value is not.
    pub(crate) fn into_result<T>(mut self, value: Option<T>) -> Result<T, Vec<SpecError>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => {
                if self.0.is_empty() {
                    let problem = "the job could not be built, though no field is wrong";
                    self.add(&Path::root().field("spec"), None, problem, "this is a bug in Millrace: please report it");
                }
                Err(self.0)
            }
        }
    }
}

/// The path of a field.
#[derive(Debug, Clone, Default)]
pub(crate) struct Path(String);

impl Path {
    /// The whole object.
    pub(crate) fn root() -> Self {
        Self::default()
    }

    /// A field of the object at this path. Names with dots are quoted: `properties["group.id"]`.
    pub(crate) fn field(&self, name: &str) -> Self {
        let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
        match (self.0.is_empty(), plain) {
            (true, true) => Self(name.to_owned()),
            (false, true) => Self(format!("{}.{name}", self.0)),
            (_, false) => Self(format!("{}[\"{name}\"]", self.0)),
        }
    }

    /// An item of the list at this path.
    pub(crate) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// Whether the value may be a password or a key that somebody put into a property: it is never shown.
    pub(crate) fn may_hold_a_secret(&self) -> bool {
        ["properties[\"sasl.", "properties[\"ssl.", "properties[\"kafka.s"].iter().any(|part| self.0.contains(part))
    }

    /// Every item of a list in the field `name`, with its path.
    pub(crate) fn each<'a, T>(&self, name: &str, items: &'a [T]) -> impl Iterator<Item = (Self, &'a T)> + use<'a, T> {
        let list = self.field(name);
        items.iter().enumerate().map(move |(index, item)| (list.index(index), item))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { ROOT } else { &self.0 })
    }
}

/// The path one level up.
pub(crate) fn parent(path: &str) -> Option<&str> {
    path.rfind(['.', '[']).map(|at| &path[..at])
}

fn within(path: &str, outer: &str) -> bool {
    outer == ROOT || path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn shorten(value: &str) -> String {
    let one_line = value.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = if value.contains('\n') { one_line.as_str() } else { value };
    match line.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
