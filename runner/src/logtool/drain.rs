//! Publishing as the holder of the log: what is decided becomes visible before a job is moved, and what an earlier rewind
//! still has to delete is deleted.

use std::collections::BTreeMap;

use millrace_joblog::decide::{NoteDecision, note, retracted};
use millrace_joblog::log::Compose;
use millrace_joblog::record::{Intents, Note, ParquetFile, PublishedFile};

use super::files::Folders;
use super::{Reply, Session};
use crate::commit::placed::{Placed, rewritten};
use crate::failure::Failure;
use crate::ids::{OutputName, Seq};
use crate::sink::Published;

impl Session {
    /// Publishes everything that is decided, notes it, and deletes what was staged for it. The log is held by this command.
    /// Returns how many records' outputs that were.
    ///
    /// # Errors
    /// The store's; a staged file is lost.
    pub async fn drain(&mut self) -> Result<usize, Failure> {
        self.catch_up().await?;
        let work = self.pending_files()?;
        let mut folders = Folders::new(&*self.sinks);
        let mut missing = Vec::new();
        for (note, files) in &work {
            for file in files {
                let placed = Placed::decided(file)?;
                let sink = folders.sink(&note.output, &placed.folder)?;
                if sink.publish(&placed.file).await? != Published::Done {
                    missing.push((note.clone(), file.staged.clone()));
                    break;
                }
            }
        }
        // The decider may have published, noted and tidied up in the meantime: then nothing is missing.
        self.catch_up().await?;
        for (note, staged) in missing {
            if self.fold().pending_for(&note.output).any(|(seq, _)| seq == note.seq) {
                return Err(lost(&note, &staged));
            }
        }
        let notes: Vec<Note> = work.iter().map(|(note, _)| note.clone()).collect();
        self.note(&notes).await?;
        let mut folders = Folders::new(&*self.sinks);
        // If the hold was lost meanwhile, somebody else may still look for what is not noted.
        let pending = |note: &Note| self.fold().pending_for(&note.output).any(|(seq, _)| seq == note.seq);
        for (note, files) in work.iter().filter(|(note, _)| !pending(note)) {
            for file in files {
                let placed = Placed::decided(file)?;
                if let Err(error) = folders.sink(&note.output, &placed.folder)?.discard(&placed.file.staged).await {
                    tracing::debug!(%error, "a staged object is left to the collector");
                }
            }
        }
        Ok(work.len())
    }

    /// Deletes the files of rewinds that were decided and not finished, and says so in the log: after this command's own
    /// rewind, or as the holder for one that died.
    ///
    /// # Errors
    /// The store's; a file was rewritten by somebody else.
    pub async fn finish_retractions(&mut self) -> Result<usize, Failure> {
        let open: BTreeMap<(Seq, OutputName), Vec<PublishedFile>> = self
            .fold()
            .retractions()
            .iter()
            .flat_map(|(seq, outputs)| outputs.iter().map(|(output, retraction)| ((*seq, output.clone()), retraction)))
            .map(|(key, retraction)| (key, retraction.files.clone()))
            .collect();
        let mut deleted = 0;
        for ((seq, output), files) in open {
            let changed = Folders::new(&*self.sinks).retract(&output, &files).await?;
            if !changed.is_empty() {
                return Err(rewritten(seq, &output, &changed));
            }
            deleted += files.len();
            let notes = [Note { seq, output }];
            self.append(|view| retracted(view, &notes).map_or(Compose::Decline(()), Compose::Propose)).await?;
        }
        Ok(deleted)
    }

    async fn note(&mut self, notes: &[Note]) -> Result<(), Failure> {
        let reply = self
            .append(|view| match note(view, notes) {
                NoteDecision::Propose(proposal) => Compose::Propose(proposal),
                NoteDecision::Nothing | NoteDecision::Superseded(_) => Compose::Decline(()),
            })
            .await?;
        match reply {
            Reply::Won(_) | Reply::Declined(()) => Ok(()),
        }
    }

    /// What this command, as the holder, has to publish.
    fn pending_files(&self) -> Result<Vec<(Note, Vec<ParquetFile>)>, Failure> {
        let work = self.fold().work_of(self.incarnation());
        work.map(|(seq, output, pending)| match &pending.intents {
            Intents::Parquet { files } => Ok((Note { seq, output: output.clone() }, files.clone())),
            Intents::Console { .. } | Intents::Kafka { .. } | Intents::Delta { .. } => Err(Failure::user(format!(
                "record {seq} has rows for output '{output}' that this version cannot publish: upgrade it, or give them up \
                 with `millrace log skip-publish`"
            ))),
        })
        .collect()
    }
}

fn lost(note: &Note, staged: &str) -> Failure {
    Failure::user(format!(
        "staged file lost: {staged} of record {} for output '{}' was decided and is gone; restore it from the bucket's \
         versions, or give its rows up with `millrace log skip-publish`",
        note.seq, note.output
    ))
}
