//! A decided record that cannot be published is given up, after its rows were exported.

use std::path::{Path, PathBuf};

use futures::StreamExt;
use millrace_joblog::decide::{SkipDecision, skip_publish};
use millrace_joblog::log::Compose;
use millrace_joblog::record::{Intents, ParquetFile};
use object_store::ObjectStoreExt;
use tokio::io::AsyncWriteExt;

use super::files::{Folders, folder_store};
use super::hold::hold_lost;
use super::{Reply, Session};
use crate::commit::placed::Placed;
use crate::failure::Failure;
use crate::ids::{OutputName, Seq};
use crate::storage::{FaultKind, StoreAt, classify};

/// What was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The slot that says so.
    pub seq: Seq,
    /// The folder that the rows were exported to.
    pub folder: PathBuf,
    /// Files exported.
    pub files: usize,
    /// Their rows.
    pub rows: u64,
    /// Staged files that were lost and could not be exported.
    pub lost: Vec<String>,
}

impl Session {
    /// Exports what record `seq` decided for `output` into `folder`, which must be new or empty, and gives it up. A staged
    /// file that is lost stops it unless `give_up_lost`.
    ///
    /// # Errors
    /// Nothing of the record waits to be published; the store's; the folder cannot be written.
    pub async fn skip_publish(
        &mut self,
        output: &OutputName,
        seq: Seq,
        folder: &Path,
        give_up_lost: bool,
        reason: &str,
    ) -> Result<Skipped, Failure> {
        self.own()?;
        self.catch_up().await?;
        self.waiting(output, seq)?;
        let folder = prepare(folder)?;
        self.while_held(reason, async |session| {
            let files = session.waiting(output, seq)?;
            let (rows, lost) = session.export(output, &files, &folder).await?;
            if !lost.is_empty() && !give_up_lost {
                return Err(Failure::user(format!(
                    "staged files of record {seq} are lost, so their rows cannot be exported: {}; restore them from the \
                     bucket's versions, or give them up too with --give-up-lost",
                    lost.join(", ")
                )));
            }
            let exported = folder.display().to_string();
            let reply = session
                .append(|view| match skip_publish(view, output, seq, &exported) {
                    SkipDecision::Propose(proposal) => Compose::Propose(proposal),
                    other => Compose::Decline(other),
                })
                .await?;
            let skipped = match reply {
                Reply::Won(skipped) => skipped,
                Reply::Declined(SkipDecision::NotHeld) => return Err(hold_lost()),
                Reply::Declined(SkipDecision::First(first)) => {
                    return Err(Failure::user(format!(
                        "'{output}' is published in order, and record {first} is first: skip that one before"
                    )));
                }
                Reply::Declined(_) => return Err(session.nothing(output, seq)),
            };
            // Whoever still tries to publish them then finds nothing to publish.
            session.discard(output, &files).await;
            Ok(Skipped { seq: skipped, folder, files: files.len() - lost.len(), rows, lost })
        })
        .await
    }

    /// The files that record `seq` has waiting for `output`.
    fn waiting(&self, output: &OutputName, seq: Seq) -> Result<Vec<ParquetFile>, Failure> {
        let pending = self.fold().pending_for(output).find(|(pending, _)| *pending == seq);
        match pending.map(|(_, pending)| &pending.intents) {
            Some(Intents::Parquet { files }) => Ok(files.clone()),
            Some(_) => {
                Err(Failure::user(format!("the rows of '{output}' are not in files: this version cannot export them")))
            }
            None => Err(self.nothing(output, seq)),
        }
    }

    fn nothing(&self, output: &OutputName, seq: Seq) -> Failure {
        let waiting = self
            .fold()
            .pending()
            .iter()
            .flat_map(|(seq, outputs)| outputs.keys().map(move |output| format!("{output} {seq}")));
        let waiting: Vec<String> = waiting.collect();
        let there = match waiting.as_slice() {
            [] => "nothing does".to_owned(),
            some => format!("what does is {}", some.join(", ")),
        };
        Failure::user(format!("record {seq} has nothing that waits to be published to '{output}'; {there}"))
    }

    /// Copies the staged files into the folder, under their final names. Returns the rows and the files that are lost.
    async fn export(
        &self,
        output: &OutputName,
        files: &[ParquetFile],
        folder: &Path,
    ) -> Result<(u64, Vec<String>), Failure> {
        let (mut rows, mut lost) = (0, Vec::new());
        for file in files {
            let placed = Placed::decided(file)?;
            let at = folder_store(&self.stores, output, &placed.folder)?;
            if download(&at, &placed.file.staged, &folder.join(&placed.file.target)).await? {
                rows += file.rows;
            } else {
                lost.push(file.staged.clone());
            }
        }
        Ok((rows, lost))
    }

    async fn discard(&self, output: &OutputName, files: &[ParquetFile]) {
        let mut folders = Folders::new(&*self.sinks);
        for file in files {
            let Ok(placed) = Placed::decided(file) else { continue };
            let Ok(sink) = folders.sink(output, &placed.folder) else { continue };
            if let Err(error) = sink.discard(&placed.file.staged).await {
                tracing::warn!(%error, staged = file.staged, "a skipped staged file could not be deleted");
            }
        }
    }
}

/// Creates the folder, or sees that it is empty.
fn prepare(folder: &Path) -> Result<PathBuf, Failure> {
    let wrong = |why: &dyn std::fmt::Display| Failure::user(format!("--export {}: {why}", folder.display()));
    std::fs::create_dir_all(folder).map_err(|error| wrong(&error))?;
    let mut entries = std::fs::read_dir(folder).map_err(|error| wrong(&error))?;
    if entries.next().is_some() {
        return Err(wrong(&"the folder is not empty; name a new one"));
    }
    folder.canonicalize().map_err(|error| wrong(&error))
}

/// Copies an object to a local file, durably. False if there is no such object.
async fn download(at: &StoreAt, from: &str, to: &Path) -> Result<bool, Failure> {
    let wrong = |error: std::io::Error| Failure::user(format!("cannot export to {}: {error}", to.display()));
    let path = at.path(from).map_err(|fault| Failure::internal(fault.to_string()))?;
    let found = match at.store.get(&path).await {
        Ok(found) => found,
        Err(error) => {
            let fault = classify(&error);
            if fault.kind == FaultKind::NotFound {
                return Ok(false);
            }
            return Err(Failure::external("StoreUnavailable", format!("{}: {fault}", at.shown)));
        }
    };
    if let Some(parent) = to.parent() {
        tokio::fs::create_dir_all(parent).await.map_err(wrong)?;
    }
    let mut file = tokio::fs::File::create(to).await.map_err(wrong)?;
    let mut bytes = found.into_stream();
    while let Some(chunk) = bytes.next().await {
        let chunk = chunk
            .map_err(|error| Failure::external("StoreUnavailable", format!("{}: {}", at.shown, classify(&error))))?;
        file.write_all(&chunk).await.map_err(wrong)?;
    }
    file.flush().await.map_err(wrong)?;
    file.sync_all().await.map_err(wrong)?;
    Ok(true)
}
