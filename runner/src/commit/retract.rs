//! Finishing a rewind whose command died before it had deleted the files that it takes back.

use millrace_joblog::decide::retracted;
use millrace_joblog::log::Compose;
use millrace_joblog::record::{Note, PublishedFile};

use super::append::Reply;
use super::placed::{Placed, retract, rewritten};
use super::{Committer, Verdict};
use crate::failure::Failure;
use crate::ids::{OutputName, Seq, Task};

impl Committer {
    /// Deletes what rewinds left to be deleted of the outputs whose publisher this process is. A store that fails makes it
    /// wait for the next time.
    ///
    /// # Errors
    /// A file was rewritten by somebody else after the rewind.
    pub(super) async fn finish_retractions(&mut self) -> Result<Verdict, Failure> {
        let fold = self.fold();
        let mine = |output: &OutputName| fold.owns(&Task::Publisher(output.clone()), self.identity.incarnation);
        let open: Vec<(Seq, OutputName, Vec<PublishedFile>)> = fold
            .retractions()
            .iter()
            .flat_map(|(seq, outputs)| outputs.iter().map(|(output, retraction)| (*seq, output, retraction)))
            .filter(|(_, output, _)| mine(output))
            .map(|(seq, output, retraction)| (seq, output.clone(), retraction.files.clone()))
            .collect();
        if open.is_empty() {
            return Ok(Verdict::Fine);
        }
        if !self.is_certain().await? {
            return Ok(Verdict::StartOver);
        }
        for (seq, output, files) in open {
            tracing::info!(%output, rewind = %seq, files = files.len(), "deleting what a rewind takes back");
            if self.retract(seq, &output, &files).await? {
                let notes = [Note { seq, output }];
                // Whatever comes of it: if the log does not know it, the next look does it again.
                let _: Reply<()> =
                    self.append(|view| retracted(view, &notes).map_or(Compose::Decline(()), Compose::Propose)).await?;
            }
        }
        Ok(Verdict::Fine)
    }

    /// False if that has to wait.
    async fn retract(&self, seq: Seq, output: &OutputName, files: &[PublishedFile]) -> Result<bool, Failure> {
        let slot = self.outputs.iter().find(|slot| slot.name == output.as_str());
        let Some((sink, url)) = slot.and_then(|slot| slot.files()) else {
            tracing::warn!(%output, "the manifest has no such output; run the rewind again to have its files deleted");
            return Ok(false);
        };
        let mut changed = Vec::new();
        for file in files {
            let placed = Placed::published(file)?;
            if placed.folder != url {
                tracing::warn!(%output, file = file.target, "not in the output's folder; run the rewind again");
                return Ok(false);
            }
            match retract(&**sink, &placed.file).await {
                Ok(false) => {}
                Ok(true) => changed.push(file.target.clone()),
                Err(failure) if failure.is_external() => {
                    tracing::debug!(%failure, "the files of a rewind are deleted later");
                    return Ok(false);
                }
                Err(failure) => return Err(failure),
            }
        }
        if changed.is_empty() { Ok(true) } else { Err(rewritten(seq, output, &changed)) }
    }
}
