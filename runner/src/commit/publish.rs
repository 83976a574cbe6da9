//! Publishing what was decided: staged files get their final names, and the log is told.

use millrace_joblog::CaughtUp;
use millrace_joblog::record::{Intents, Note, ParquetFile};
use tokio::time::sleep;

use super::append::retry;
use super::committer::Leftover;
use super::{Committer, Verdict};
use crate::failpoint::Failpoint;
use crate::failure::Failure;
use crate::ids::{OutputName, Seq};
use crate::output::Staged;
use crate::sink::console::ConsoleTable;
use crate::sink::{Published, StagedFile};

impl Committer {
    /// Publishes the files of one record to one output, as long as it takes.
    ///
    /// # Errors
    /// A staged file is gone although the log does not know it as published.
    pub(super) async fn publish(&mut self, seq: Seq, index: usize, files: &[StagedFile]) -> Result<(), Failure> {
        let output = self.outputs[index].clone();
        let Some((sink, _)) = output.files() else { return Ok(()) };
        let note = Note { seq, output: OutputName(output.name.clone()) };
        for (place, file) in files.iter().enumerate() {
            if place > 0 {
                self.env.failpoints.reach(Failpoint::Publishing).await;
            }
            let mut backoff = retry();
            loop {
                match sink.publish(file).await {
                    Ok(Published::Done) => break,
                    Ok(Published::Missing | Published::Changed) => {
                        return if self.is_noted(&note).await? { Ok(()) } else { Err(lost(&note, file)) };
                    }
                    Err(error) => {
                        // Decided is decided: even a lost right is waited out, for the rows have no other way.
                        let failure = Failure::from(error);
                        self.hub.degraded(&failure, self.env.clock.now_millis());
                        sleep(backoff.next(&self.env)).await;
                        // A command may have published it meanwhile, or given it up and exported its rows.
                        if self.is_noted(&note).await? {
                            return Ok(());
                        }
                    }
                }
            }
        }
        let staged = files.iter().map(|file| file.staged.clone()).collect();
        self.published.insert(note, Leftover { output: index, staged });
        Ok(())
    }

    /// Publishes what fenced runners decided and did not publish, to the outputs whose publisher this process is.
    ///
    /// # Errors
    /// As for publishing; or the files lie in a place that the job does not write to any more.
    pub(super) async fn sweep_orphans(&mut self) -> Result<Verdict, Failure> {
        let known = |seq: Seq, output: &OutputName| self.published.contains_key(&Note { seq, output: output.clone() });
        let orphans: Vec<(Seq, OutputName, Vec<ParquetFile>)> = self
            .fold()
            .work_of(self.identity.incarnation)
            .filter(|(seq, output, _)| !known(*seq, output))
            .filter_map(|(seq, output, pending)| match &pending.intents {
                Intents::Parquet { files } => Some((seq, output.clone(), files.clone())),
                // No output of this version is published in order.
                Intents::Console { .. } | Intents::Kafka { .. } | Intents::Delta { .. } => None,
            })
            .collect();
        if orphans.is_empty() {
            return Ok(Verdict::Fine);
        }
        // Others' records are published only once it is certain that nobody has noted them.
        if !self.is_certain().await? {
            return Ok(Verdict::StartOver);
        }
        for (seq, output, files) in orphans {
            let (index, files) = self.relative(&output, &files)?;
            tracing::info!(%output, record = %seq, files = files.len(), "publishing what another runner decided");
            self.publish(seq, index, &files).await?;
        }
        Ok(Verdict::Fine)
    }

    /// Whether what was read of the log goes to its end, so that what it does not say may be acted on: what looks like the
    /// end may be where deleted slots begin. Else the log was opened anew.
    pub(super) async fn is_certain(&mut self) -> Result<bool, Failure> {
        let mut backoff = retry();
        loop {
            match self.log.confirm().await {
                Ok(true) => return Ok(true),
                Ok(false) => {
                    self.reopen().await?;
                    return Ok(false);
                }
                Err(error) => self.wait_out(error, &mut backoff).await?,
            }
        }
    }

    /// Removes the staged objects of everything that is noted by now. Failures leave them to the collector.
    pub(super) async fn sweep_noted(&mut self) {
        let pending = self.log.fold().pending();
        let is_pending = |note: &Note| pending.get(&note.seq).is_some_and(|outputs| outputs.contains_key(&note.output));
        let noted: Vec<Note> = self.published.keys().filter(|note| !is_pending(note)).cloned().collect();
        for note in noted {
            let Some(leftover) = self.published.remove(&note) else { continue };
            self.discard(leftover.output, &leftover.staged).await;
        }
    }

    /// Removes what was staged for an epoch that does not count. What the log refers to stays: a process that lost its
    /// ordinal cannot tell from a log opened anew whether its last record was decided, and then others publish it.
    pub(super) async fn discard_staged(&mut self, staged: &std::collections::BTreeMap<usize, Staged>) {
        for (index, staged) in staged {
            if let Staged::Files(files) = staged {
                let staged = files.iter().map(|file| file.staged.clone());
                let paths: Vec<String> = staged.filter(|path| !self.fold().refers_to(path)).collect();
                self.discard(*index, &paths).await;
            }
        }
    }

    pub(super) async fn discard(&self, index: usize, staged: &[String]) {
        let Some((sink, _)) = self.outputs[index].files() else { return };
        let outcome = match staged {
            [] => Ok(()),
            [one] => sink.discard(one).await,
            many => sink.discard_all(many).await,
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "staged objects are left to the collector");
        }
    }

    /// Prints an epoch's rows on standard output.
    pub(super) fn show(&self, seq: Seq, index: usize, table: &ConsoleTable) {
        let consoles = self.outputs.iter().filter(|output| output.files().is_none()).count();
        let name = (consoles > 1).then_some(self.outputs[index].name.as_str());
        if let Err(error) = table.print(seq.0, name, &mut std::io::stdout().lock()) {
            tracing::warn!(%error, "cannot print to standard output");
        }
    }

    /// Whether the log knows the record as published; read from its tail.
    async fn is_noted(&mut self, note: &Note) -> Result<bool, Failure> {
        let mut backoff = retry();
        loop {
            match self.log.catch_up().await {
                // The end that a process sees after a long sleep may be where slots were deleted.
                Ok(CaughtUp::Tail { .. }) if self.is_certain().await? => break,
                Ok(CaughtUp::Tail { .. } | CaughtUp::Earlier(_)) => {}
                Ok(CaughtUp::Void) => {
                    self.reopen().await?;
                }
                Err(error) => self.wait_out(error, &mut backoff).await?,
            }
        }
        let pending = self.fold().pending().get(&note.seq);
        Ok(!pending.is_some_and(|outputs| outputs.contains_key(&note.output)))
    }

    /// The files of a record as the output's sink knows them.
    fn relative(&self, name: &OutputName, files: &[ParquetFile]) -> Result<(usize, Vec<StagedFile>), Failure> {
        let found = self.outputs.iter().enumerate().find(|(_, output)| output.name == name.as_str());
        let Some((index, url)) = found.and_then(|(index, output)| Some((index, output.files()?.1))) else {
            return Err(Failure::user(format!(
                "decided files of output '{name}' are not published, and the manifest has no such output any more; \
                 run the earlier manifest once more so that they are published"
            )));
        };
        let below = |whole: &str| whole.strip_prefix(url).and_then(|rest| rest.strip_prefix('/')).map(str::to_owned);
        let files = files.iter().map(|file| {
            let elsewhere = || {
                Failure::user(format!(
                    "decided files of output '{name}' lie at {}, not under {url}; run the earlier manifest once more so \
                     that they are published",
                    file.staged
                ))
            };
            Ok(StagedFile {
                staged: below(&file.staged).ok_or_else(elsewhere)?,
                target: below(&file.target).ok_or_else(elsewhere)?,
                bytes: file.bytes,
                rows: file.rows,
                etag: file.etag.clone(),
            })
        });
        Ok((index, files.collect::<Result<_, Failure>>()?))
    }
}

fn lost(note: &Note, file: &StagedFile) -> Failure {
    Failure::new(
        millrace_crds::contract::FailureClass::Internal,
        "StagedFileLost",
        format!(
            "staged file lost: {} of record {} for output '{}' was decided and is gone; restore it from the bucket's \
             versions, or give its rows up with `millrace log skip-publish`",
            file.staged, note.seq, note.output
        ),
    )
}
