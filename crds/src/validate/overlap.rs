//! Folders: each is written by one thing only.

use super::{Errors, Path};
use crate::job::{Location, OnError, Output, Overlap, Sink, Source};

/// Checks that outputs, dead letters and the checkpoint have folders of their own, none inside another. Folders whose
/// name begins with an underscore are skipped by readers of tables, so a checkpoint may lie in one of them.
pub(super) fn check(
    sources: &[Option<Source>],
    outputs: &[Option<Output>],
    checkpoint: Option<&Location>,
    at: &Path,
    errors: &mut Errors,
) {
    let mut folders: Vec<(Path, &Location)> = Vec::new();
    if let Some(checkpoint) = checkpoint {
        folders.push((at.field("checkpoint").field("location"), checkpoint));
    }
    for (at, output) in at.each("outputs", outputs) {
        if let Some(Sink::Parquet(sink)) = output.as_ref().map(|output| &output.sink) {
            folders.push((at.field("parquet").field("path"), &sink.path));
        }
    }
    for (at, source) in at.each("sources", sources) {
        if let Some(OnError::DeadLetter { path }) = source.as_ref().map(|source| &source.on_error) {
            folders.push((at.field("onError").field("deadLetter").field("parquet").field("path"), path));
        }
    }
    for (index, (at, location)) in folders.iter().enumerate() {
        for (first_at, first) in &folders[..index] {
            let problem = match location.overlap(first) {
                Overlap::Apart => continue,
                Overlap::Same => format!("the folder of {first_at} too"),
                Overlap::Inside => format!("inside the folder of {first_at}, `{first}`"),
                Overlap::Around => format!("around the folder of {first_at}, `{first}`"),
            };
            errors.add(at, Some(&location.to_string()), problem, "give it a folder of its own");
        }
    }
}
