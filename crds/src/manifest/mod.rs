//! Manifests on the command line: a file of one StreamingJob, parsed strictly, every mistake with its line and column.

#[cfg(test)]
mod tests;
mod tree;

use std::fmt;

use serde_json::Value;

use crate::contract::{API_VERSION, KIND};
use crate::job::Job;
use crate::suggest::nearest;
use crate::validate::SpecError;
use tree::{Document, Place};

/// A manifest that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The job.
    pub job: Job,
    /// What the reader should be told, for instance that a Secret in the same file is ignored.
    pub notes: Vec<String>,
}

/// Reads a manifest: YAML or JSON with one StreamingJob. Other kinds of objects in the file are ignored with a note.
/// `origin` is the file's name for messages.
pub fn parse(text: &str, origin: &str) -> Result<Manifest, ManifestErrors> {
    let fail = |errors: Vec<ManifestError>| ManifestErrors { origin: origin.to_owned(), errors };
    let documents = tree::documents(text).map_err(|error| fail(vec![error]))?;
    let (document, notes) = choose(documents).map_err(|error| fail(vec![error]))?;
    match Job::from_value(&document.value) {
        Ok(job) => Ok(Manifest { job, notes }),
        Err(errors) => {
            let mut errors: Vec<ManifestError> = errors.into_iter().map(|error| locate(error, &document)).collect();
            errors.sort_by_key(|error| error.place);
            Err(fail(errors))
        }
    }
}

/// Everything that is wrong with a manifest; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestErrors {
    /// The file's name.
    pub origin: String,
    /// The mistakes, from the top of the file down.
    pub errors: Vec<ManifestError>,
}

/// A mistake in a manifest and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    place: Place,
    /// What is wrong.
    pub error: SpecError,
}

impl ManifestError {
    /// The line, from 1.
    pub fn line(&self) -> u64 {
        self.place.line
    }

    /// The column, from 1.
    pub fn column(&self) -> u64 {
        self.place.column
    }

    /// A mistake in the file rather than in a field.
    fn of_file(place: Place, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        let error = SpecError { path: String::new(), value: None, problem: problem.into(), fix: fix.into() };
        Self { place, error }
    }
}

impl fmt::Display for ManifestErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:{error}", self.origin)?;
        }
        Ok(())
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line(), self.column())?;
        match self.error.path.as_str() {
            "" => write!(f, "{}; {}", self.error.problem, self.error.fix),
            _ => write!(f, "{}", self.error),
        }
    }
}

impl std::error::Error for ManifestErrors {}

/// The one StreamingJob among the file's documents.
fn choose(documents: Vec<Document>) -> Result<(Document, Vec<String>), ManifestError> {
    let top = Place { line: 1, column: 1 };
    let several = documents.len() > 1;
    let mut job: Option<Document> = None;
    let mut notes = Vec::new();
    let mut kinds = Vec::new();
    for document in documents {
        let kind = document.value["kind"].as_str().unwrap_or_default();
        if kind != KIND && (several || !kind.is_empty()) && nearest(kind, [KIND]).is_none() {
            if kind.is_empty() {
                let fix =
                    format!("every document begins with `apiVersion` and `kind`; a job's are {API_VERSION} and {KIND}");
                return Err(ManifestError::of_file(document.place, "a document without a kind", fix));
            }
            notes.push(ignored(kind, &document.value));
            kinds.push(kind.to_owned());
            continue;
        }
        if let Some(first) = &job {
            let problem = format!("a second {KIND}, after the one in line {}", first.place.line);
            return Err(ManifestError::of_file(document.place, problem, "put each job into a file of its own"));
        }
        job = Some(document);
    }
    match job {
        Some(job) => Ok((job, notes)),
        None if kinds.is_empty() => {
            let fix = format!("begin with `apiVersion: {API_VERSION}` and `kind: {KIND}`");
            Err(ManifestError::of_file(top, "an empty file", fix))
        }
        None => {
            let problem = format!("no {KIND} in the file, only {}", kinds.join(", "));
            Err(ManifestError::of_file(top, problem, format!("give the file with `kind: {KIND}`")))
        }
    }
}

fn ignored(kind: &str, object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap_or("without a name");
    match kind {
        "Secret" => format!("Secret `{name}` is ignored: secrets are read from files <secrets-dir>/{name}/<key>"),
        _ => format!("{kind} `{name}` is ignored"),
    }
}

/// The place of an error's field, or of the nearest one around it that was written. A wrong value is pointed at itself,
/// anything else at the field's name.
fn locate(error: SpecError, document: &Document) -> ManifestError {
    let mut path = error.path.as_str();
    loop {
        if let Some(place) = document.places.get(path) {
            let exact = path.len() == error.path.len();
            let place = if exact && error.value.is_some() { place.value } else { place.name };
            return ManifestError { place, error };
        }
        match crate::validate::parent(path) {
            Some(outer) => path = outer,
            None => return ManifestError { place: document.place, error },
        }
    }
}
