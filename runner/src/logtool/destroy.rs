//! The end of a job: its log, its staged objects and its state are deleted. The tables stay.

use std::path::Path;

use futures::{StreamExt, TryStreamExt, stream};
use millrace_crds::{Location, OnError, Sink as SinkSpec};
use millrace_joblog::fold::HoldState;
use millrace_joblog::paths;
use object_store::ObjectStore;
use object_store::path::Path as Key;

use super::Session;
use super::files::Folders;
use crate::failure::Failure;
use crate::ids::{OutputName, Seq};
use crate::output::dead_letter_output;
use crate::storage::{FaultKind, StoreAt, classify};

/// What Millrace keeps under a checkpoint location, in the order in which it is deleted: a command that dies anywhere can be
/// run again. Without its seals a log can be read as long as a snapshot is there; without the first slot and the last
/// snapshot it reads as empty. A seal that outlived both would make it unreadable. `tmp` is a local store's own.
pub(super) const STEPS: [Step; 8] = [
    Step::Folder(paths::SEALED),
    Step::FirstSlot,
    Step::OldestFirst(paths::SNAPSHOTS),
    Step::Folder(paths::LOG),
    Step::Folder("state"),
    Step::Folder("staged"),
    Step::Folder("probe"),
    Step::Folder("tmp"),
];

/// How the reason of a destruction's hold begins. Whoever destroys the job too may take it over.
pub(super) const DESTRUCTION: &str = "the job is being destroyed: ";

/// How many objects are deleted at once.
const BATCH: usize = 1000;

/// A part of a checkpoint that is deleted at once.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Folder(&'static str),
    FirstSlot,
    /// One object after the other.
    OldestFirst(&'static str),
}

/// What was deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Destroyed {
    /// Records' outputs that were published before.
    pub published: usize,
    /// Objects under the checkpoint location.
    pub checkpoint: usize,
    /// Staged objects of the outputs.
    pub staged: usize,
    /// What else lies under the checkpoint location, and was left.
    pub left: Vec<String>,
}

impl Session {
    /// Deletes everything that the job keeps beside its tables. What is decided is published first, unless `abandon`.
    ///
    /// The log is held first and never released: a runner that is still there commits nothing any more. A destruction that
    /// died is taken over.
    ///
    /// # Errors
    /// Another command holds the log; something decided cannot be published; the store's. Running it again finishes it.
    pub async fn destroy(&mut self, abandon: bool, reason: &str) -> Result<Destroyed, Failure> {
        let mut destroyed = Destroyed::default();
        let held = self.fold().home().is_some();
        if held {
            self.own()?;
            self.catch_up().await?;
            let begun = self.fold().held().is_some_and(is_destruction);
            self.hold_over(&format!("{DESTRUCTION}{reason}"), is_destruction).await?;
            if let Err(failure) = self.settle_accounts(abandon, &mut destroyed).await {
                // One that had begun to delete must not let runners go on.
                return match begun {
                    false if self.release(false).await.is_ok() => Err(failure),
                    _ => Err(still_held(failure)),
                };
            }
        }
        self.delete_all(&mut destroyed).await.map_err(|failure| if held { still_held(failure) } else { failure })?;
        Ok(destroyed)
    }

    async fn delete_all(&mut self, destroyed: &mut Destroyed) -> Result<(), Failure> {
        destroyed.staged = self.delete_staged().await?;
        let at = self.stores.data_store(&self.job.checkpoint).map_err(|fault| Failure::user(fault.to_string()))?;
        for step in STEPS {
            destroyed.checkpoint += delete_step(&at, step).await?;
        }
        destroyed.left = keys(&at, "").await?.iter().filter_map(|key| at.relative(key)).take(5).collect();
        if let (Location::Local(_), true) = (&self.job.checkpoint, destroyed.left.is_empty()) {
            remove_empty_folders(Path::new(&at.shown));
        }
        Ok(())
    }

    async fn settle_accounts(&mut self, abandon: bool, destroyed: &mut Destroyed) -> Result<(), Failure> {
        if abandon {
            return Ok(());
        }
        let advice = |failure: Failure| Failure {
            message: format!(
                "{failure}. Decided rows would be lost: mend that, or give them up with --abandon-unpublished"
            ),
            ..failure
        };
        self.finish_retractions().await.map_err(advice)?;
        destroyed.published = self.drain().await.map_err(advice)?;
        Ok(())
    }

    /// Deletes what this job staged in every folder that the manifest or the log names as an output's.
    async fn delete_staged(&mut self) -> Result<usize, Failure> {
        let mut places: Vec<(OutputName, String)> =
            self.fold().outputs().iter().map(|(output, path)| (output.clone(), path.clone())).collect();
        let declared = self.job.outputs.iter().filter_map(|output| match &output.sink {
            SinkSpec::Parquet(settings) => Some((output.name.clone(), &settings.path)),
            SinkSpec::Console(_) => None,
        });
        let letters = self.job.sources.iter().filter_map(|source| match &source.on_error {
            OnError::DeadLetter { path } => Some((dead_letter_output(&source.name), path)),
            OnError::Fail | OnError::Skip => None,
        });
        for (name, path) in declared.chain(letters) {
            if matches!(path, Location::Local(folder) if !folder.is_dir()) {
                continue; // opening it would create it
            }
            let at = self.stores.data_store(path).map_err(|fault| Failure::user(format!("{path}: {fault}")))?;
            places.push((OutputName(name), at.shown.trim_end_matches('/').to_owned()));
        }
        places.sort_by(|one, other| one.1.cmp(&other.1));
        places.dedup_by(|one, other| one.1 == other.1);
        // Other jobs may write to the same table.
        let Some(job) = self.fold().home().map(|home| home.job.to_string()) else { return Ok(0) };
        let mut folders = Folders::new(&*self.sinks);
        let mut deleted = 0;
        for (output, folder) in places {
            let sink = folders.sink(&output, &folder)?;
            let staged: Vec<String> = sink.list_staged(&job).await?;
            for batch in staged.chunks(BATCH) {
                sink.discard_all(batch).await?;
            }
            deleted += staged.len();
            if folder.starts_with('/') {
                remove_empty_folders(&Path::new(&folder).join(crate::sink::names::RESERVED_DIR));
            }
        }
        Ok(deleted)
    }
}

pub(super) fn is_destruction(hold: &HoldState) -> bool {
    hold.reason.starts_with(DESTRUCTION)
}

fn still_held(failure: Failure) -> Failure {
    let message = format!("{failure}; the job log stays held: run `millrace log destroy` again to finish it");
    Failure { message, ..failure }
}

/// Deletes a part of the checkpoint. Returns how many objects were there.
pub(super) async fn delete_step(at: &StoreAt, step: Step) -> Result<usize, Failure> {
    match step {
        Step::Folder(folder) => delete(at, keys(at, folder).await?).await,
        Step::FirstSlot => {
            let first = at.path(&paths::slot(Seq::ZERO)).map_err(|fault| Failure::internal(fault.to_string()))?;
            delete(at, vec![first]).await
        }
        Step::OldestFirst(folder) => {
            let mut deleted = 0;
            for key in keys(at, folder).await? {
                deleted += delete(at, vec![key]).await?;
            }
            Ok(deleted)
        }
    }
}

/// Deletes objects; one that is gone by now is fine.
pub(super) async fn delete(at: &StoreAt, keys: Vec<Key>) -> Result<usize, Failure> {
    let mut deleted = 0;
    let mut outcomes = at.store.delete_stream(stream::iter(keys.into_iter().map(Ok)).boxed());
    while let Some(outcome) = outcomes.next().await {
        match outcome {
            Ok(_) => deleted += 1,
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(fault(at, &error)),
        }
    }
    Ok(deleted)
}

/// Every object below a folder of the location, in order.
pub(super) async fn keys(at: &StoreAt, folder: &str) -> Result<Vec<Key>, Failure> {
    let prefix = if folder.is_empty() {
        at.prefix.clone()
    } else {
        at.path(folder).map_err(|fault| Failure::internal(fault.to_string()))?
    };
    let listed = at.store.list(Some(&prefix)).map_ok(|meta| meta.location).try_collect::<Vec<_>>().await;
    let mut keys = listed.map_err(|error| fault(at, &error))?;
    keys.sort();
    Ok(keys)
}

fn fault(at: &StoreAt, error: &object_store::Error) -> Failure {
    let fault = classify(error);
    let message = format!("{}: {fault}", at.shown);
    match fault.kind {
        FaultKind::Unavailable => Failure::external("StoreUnavailable", message),
        _ => Failure::user(message),
    }
}

/// Removes a folder of a local disk that holds nothing but empty folders; anything else stays.
fn remove_empty_folders(folder: &Path) {
    if let Ok(entries) = std::fs::read_dir(folder) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_empty_folders(&entry.path());
            }
        }
    }
    // Fails if something is in it, which is what is wanted.
    let _ = std::fs::remove_dir(folder);
}
