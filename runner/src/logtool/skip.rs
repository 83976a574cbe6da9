//! A decided record that cannot be published is given up, after its rows were exported.

use std::collections::BTreeSet;
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
use crate::sink::Published;
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
    /// Files that had been published already, and were taken out of the table again.
    pub taken_back: usize,
}

impl Session {
    /// Exports what record `seq` decided for `output` into `folder`, and gives it up. What of it was published already is
    /// taken back first, so that its rows are only in the folder, which must be new, or the one of an earlier try. A staged
    /// file that is lost stops it unless `give_up_lost`.
    ///
    /// # Errors
    /// Nothing of the record waits to be published; somebody rewrote a file of it that was published; the store's; the
    /// folder cannot be written. Running it again with the same folder finishes it.
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
        let folder = prepare(folder, &self.waiting(output, seq)?)?;
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
            // That took a while. From here on the rows are in the folder only, whatever becomes of this command.
            session.catch_up().await?;
            session.waiting(output, seq)?;
            if !session.holds() {
                return Err(hold_lost());
            }
            let exported = folder.display().to_string();
            let again = |failure: Failure| Failure {
                message: format!("{failure}; run it again with the same --export {exported}, which has rows already"),
                ..failure
            };
            let taken_back = session.take_back(output, &files).await.map_err(again)?;
            let reply = session
                .append(|view| match skip_publish(view, output, seq, &exported) {
                    SkipDecision::Propose(proposal) => Compose::Propose(proposal),
                    other => Compose::Decline(other),
                })
                .await
                .map_err(again)?;
            let skipped = match reply {
                Reply::Won(skipped) => skipped,
                Reply::Declined(SkipDecision::NotHeld) => return Err(again(hold_lost())),
                Reply::Declined(SkipDecision::First(first)) => {
                    return Err(Failure::user(format!(
                        "'{output}' is published in order, and record {first} is first: skip that one before"
                    )));
                }
                Reply::Declined(_) => return Err(session.nothing(output, seq)),
            };
            Ok(Skipped { seq: skipped, folder, files: files.len() - lost.len(), rows, lost, taken_back })
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

    /// Copies the files into the folder, under their final names: from where they are staged, or else published. Returns
    /// the rows and the files that are lost.
    pub(super) async fn export(
        &self,
        output: &OutputName,
        files: &[ParquetFile],
        folder: &Path,
    ) -> Result<(u64, Vec<String>), Failure> {
        let (mut rows, mut lost) = (0, Vec::new());
        let mut folders = Folders::new(&*self.sinks);
        for file in files {
            let placed = Placed::decided(file)?;
            let published = folders.sink(output, &placed.folder)?.inspect(&placed.file).await?;
            if published == Published::Changed {
                return Err(Failure::user(format!(
                    "{} was published, and then rewritten by somebody else: take its rows out of it by hand, move what \
                     remains to another name, and run this again",
                    file.target
                )));
            }
            let at = folder_store(&self.stores, output, &placed.folder)?;
            let to = folder.join(&placed.file.target);
            // A name is one file's for ever, so this is what an earlier try exported.
            let there = std::fs::metadata(&to).is_ok_and(|found| found.len() == file.bytes);
            if there
                || download(&at, &placed.file.staged, &to).await?
                || published == Published::Done && download(&at, &placed.file.target, &to).await?
            {
                rows += file.rows;
            } else {
                lost.push(file.staged.clone());
            }
        }
        Ok((rows, lost))
    }

    /// Deletes what is published, each file after its staged object: whoever is late to publish it then finds nothing to
    /// publish. Returns how many were published.
    pub(super) async fn take_back(&self, output: &OutputName, files: &[ParquetFile]) -> Result<usize, Failure> {
        let mut folders = Folders::new(&*self.sinks);
        let mut taken_back = 0;
        for file in files {
            let placed = Placed::decided(file)?;
            let sink = folders.sink(output, &placed.folder)?;
            sink.discard(&placed.file.staged).await?;
            match sink.retract(&placed.file).await? {
                Published::Done => taken_back += 1,
                Published::Missing => {}
                Published::Changed => {
                    return Err(Failure::user(format!("{} was rewritten by somebody else just now", file.target)));
                }
            }
        }
        Ok(taken_back)
    }
}

/// Creates the folder, or sees that nothing is in it but these files, from an earlier try.
fn prepare(folder: &Path, files: &[ParquetFile]) -> Result<PathBuf, Failure> {
    let wrong = |why: &dyn std::fmt::Display| Failure::user(format!("--export {}: {why}", folder.display()));
    let mut ours = BTreeSet::new();
    for file in files {
        ours.insert(folder.join(Placed::decided(file)?.file.target));
    }
    std::fs::create_dir_all(folder).map_err(|error| wrong(&error))?;
    let mut unread = vec![folder.to_owned()];
    while let Some(next) = unread.pop() {
        for entry in std::fs::read_dir(&next).map_err(|error| wrong(&error))? {
            let entry = entry.map_err(|error| wrong(&error))?;
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => unread.push(entry.path()),
                Ok(kind) if kind.is_file() && ours.contains(&entry.path()) => {}
                _ => return Err(wrong(&"the folder is not empty; name a new one")),
            }
        }
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
