//! The end of a job: its log, its staged objects and its state are deleted. The tables stay.

use std::path::Path;

use futures::TryStreamExt;
use millrace_crds::{Location, OnError, Sink as SinkSpec};
use object_store::ObjectStore;

use super::Session;
use super::files::Folders;
use crate::failure::Failure;
use crate::ids::OutputName;
use crate::output::dead_letter_output;
use crate::storage::{StoreAt, classify};

/// What Millrace keeps under a checkpoint location, in the order in which it is deleted: without snapshots and the first
/// slot a log reads as empty, and a command that died here can be run again. `tmp` is a local store's own.
const FOLDERS: [&str; 7] = ["snapshots", "log", "state", "staged", "sealed", "probe", "tmp"];

/// How many objects are deleted at once.
const BATCH: usize = 1000;

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
    /// The log is held first and never released: a runner that is still there commits nothing any more.
    ///
    /// # Errors
    /// Another command holds the log; something decided cannot be published; the store's. Running it again finishes it.
    pub async fn destroy(&mut self, abandon: bool, reason: &str) -> Result<Destroyed, Failure> {
        let mut destroyed = Destroyed::default();
        if self.fold().home().is_some() {
            self.own()?;
            self.hold(reason).await?;
            if let Err(failure) = self.settle_accounts(abandon, &mut destroyed).await {
                self.release(false).await?;
                return Err(failure);
            }
        }
        destroyed.staged = self.delete_staged().await?;
        let at = self.stores.data_store(&self.job.checkpoint).map_err(|fault| Failure::user(fault.to_string()))?;
        for folder in FOLDERS {
            destroyed.checkpoint += delete_folder(&at, folder).await?;
        }
        destroyed.left = keys(&at, "").await?.iter().filter_map(|key| at.relative(key)).take(5).collect();
        if let (Location::Local(_), true) = (&self.job.checkpoint, destroyed.left.is_empty()) {
            remove_empty_folders(Path::new(&at.shown));
        }
        Ok(destroyed)
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

    /// Deletes what is staged in every folder that the manifest or the log names as an output's.
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
        let mut folders = Folders::new(&*self.sinks);
        let mut deleted = 0;
        for (output, folder) in places {
            let sink = folders.sink(&output, &folder)?;
            let staged: Vec<String> = sink.list_staged().await?;
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

async fn delete_folder(at: &StoreAt, folder: &str) -> Result<usize, Failure> {
    let keys = keys(at, folder).await?;
    let deleted = keys.len();
    let outcomes = at.store.delete_stream(Box::pin(futures::stream::iter(keys.into_iter().map(Ok))));
    let outcome: Result<Vec<_>, _> = outcomes.try_collect().await;
    match outcome {
        Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(deleted),
        Err(error) => Err(fault(at, &error)),
    }
}

/// Every object below a folder of the location, in order.
async fn keys(at: &StoreAt, folder: &str) -> Result<Vec<object_store::path::Path>, Failure> {
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
        crate::storage::FaultKind::Unavailable => Failure::external("StoreUnavailable", message),
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
