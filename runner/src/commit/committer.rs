//! Decisions of the job log turned into acts: epochs staged, decided and published, the tail looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millrace_joblog::decide::{self, CommitDecision, CompleteDecision, NoteDecision, Start};
use millrace_joblog::log::Compose;
use millrace_joblog::record::{Commit, Counters, Intents, Note, ParquetFile, StartFrom};
use millrace_joblog::{CaughtUp, Fold, JobLog};
use tokio::time::{Instant, sleep};

use super::append::{Reply, retry};
use super::{Verdict, list};
use crate::control::Control;
use crate::env::Env;
use crate::epoch::{ClosedEpoch, Epoch};
use crate::failpoint::Failpoint;
use crate::failure::Failure;
use crate::ids::{
    DataLoss, Generation, Incarnation, Millis, Offset, Ordinal, OutputName, Partition, Revision, Seq, Task, TopicId,
};
use crate::output::{OutputSlot, Staged};
use crate::progress::{Committed, ProgressHub, Scope};
use crate::sink::{EpochName, StagedFile};

/// After so long without a look, the next one makes sure that the tail is the tail.
const DOUBT_AFTER_SLEEP: Duration = Duration::from_secs(30);
/// And at the latest after so long, for liveness alone: a request more in sixty triggers of a second.
const DOUBT_EVERY: Duration = Duration::from_secs(60);

/// Who this process is towards the log.
#[derive(Debug, Clone)]
pub struct Identity {
    /// This start of this process.
    pub incarnation: Incarnation,
    /// Its place in the division of the work.
    pub ordinal: Ordinal,
    /// The pod's number; `None` outside a cluster.
    pub pod: Option<u64>,
    /// The revision it runs.
    pub revision: Revision,
    /// Its home, and what its user allows.
    pub start: Start,
    /// Where each output goes.
    pub outputs: BTreeMap<OutputName, String>,
    /// Whether outputs may move.
    pub accept_moved_outputs: bool,
    /// The savepoint that its spec begins at.
    pub begins: Option<Beginning>,
}

/// The savepoint at which a revision begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beginning {
    /// The point and the revision.
    pub start: StartFrom,
    /// The outputs that go on under another path from there.
    pub new_paths: BTreeSet<OutputName>,
}

/// Turns closed epochs into records, and records into tables.
pub struct Committer {
    pub(super) env: Env,
    pub(super) hub: Arc<ProgressHub>,
    pub(super) log: JobLog,
    pub(super) identity: Identity,
    pub(super) outputs: Arc<Vec<OutputSlot>>,
    /// Whether the home is settled and the first claim made.
    pub(super) begun: bool,
    /// The wanted term that was asked for last.
    pub(super) told: Option<Control>,
    /// The tasks this process held when it last looked.
    pub(super) mine: BTreeSet<Task>,
    /// The term that was seen last, and when it was first seen.
    pub(super) term_seen: Option<(Generation, Instant)>,
    /// The log's end when this process opened it.
    pub(super) opened_at: Seq,
    /// The bounded read this process works on.
    pub(super) planned: Option<Seq>,
    /// The record for which it was said that this process waits.
    pub(super) waits_for: Option<Seq>,
    /// The savepoint that was asked for last and is made, or cannot be.
    pub(super) savepoint_seen_to: Option<String>,
    /// Published by this process and not noted yet, with the staged objects that go once it is.
    pub(super) published: BTreeMap<Note, Leftover>,
    epochs: u64,
    /// When the log's tail was last seen, and when it was last certain that nothing beyond it had been deleted.
    looked: Instant,
    confirmed: Instant,
}

/// Staged objects of one published record.
#[derive(Debug, Clone, Default)]
pub(super) struct Leftover {
    /// The output's index.
    pub output: usize,
    /// Paths relative to its location.
    pub staged: Vec<String>,
}

impl Committer {
    /// A committer that has not taken its place yet.
    pub fn new(
        env: Env,
        hub: Arc<ProgressHub>,
        log: JobLog,
        identity: Identity,
        outputs: Arc<Vec<OutputSlot>>,
    ) -> Self {
        let opened_at = log.fold().next();
        Self {
            env,
            hub,
            log,
            opened_at,
            identity,
            outputs,
            begun: false,
            told: None,
            mine: BTreeSet::new(),
            term_seen: None,
            planned: None,
            waits_for: None,
            savepoint_seen_to: None,
            published: BTreeMap::new(),
            epochs: 0,
            looked: Instant::now(),
            confirmed: Instant::now(),
        }
    }

    /// Whether the process has taken its place in the log.
    pub fn is_joined(&self) -> bool {
        self.begun
    }

    /// Whether a command holds the log: then nothing is this process's to do.
    pub fn is_held(&self) -> bool {
        self.fold().held().is_some()
    }

    /// The id of a partition's topic as the log knows it.
    pub fn topic_id(&self, partition: &Partition) -> Option<TopicId> {
        self.fold().partition(partition)?.topic_id.clone()
    }

    /// Opens an epoch that continues at `starts`.
    pub fn open(&mut self, starts: &BTreeMap<Partition, Offset>) -> Epoch {
        let job = self.fold().home().map(|home| home.job.to_string()).unwrap_or_default();
        let claim = self.fold().live_claim(self.identity.incarnation).unwrap_or(Seq::ZERO);
        let name = EpochName {
            job_uid: job,
            claim_seq: claim.0,
            incarnation: self.identity.incarnation.0.simple().to_string(),
            epoch: self.epochs,
        };
        self.epochs += 1;
        Epoch::open(name, self.env.clock.now_millis(), starts)
    }

    /// Stages, decides and publishes a closed epoch.
    ///
    /// # Errors
    /// What only the user or a fix can mend.
    pub async fn commit(&mut self, mut epoch: ClosedEpoch) -> Result<Verdict, Failure> {
        self.env.failpoints.reach(Failpoint::Closing).await;
        let begun = Instant::now();
        let staged = match epoch.stage().await {
            Ok(staged) => staged,
            Err(error) => {
                let failure = Failure::from(error);
                if !failure.is_external() {
                    return Err(failure);
                }
                // The files are lost with the store's patience; their rows are read again.
                self.hub.degraded(&failure, self.env.clock.now_millis());
                sleep(self.env.jitter(Duration::from_secs(1))).await;
                return Ok(Verdict::StartOver);
            }
        };
        self.env.failpoints.reach(Failpoint::Staged).await;
        let staging = begun.elapsed();

        let record = self.record(&epoch, &staged);
        let begun = Instant::now();
        let seq = match self.decide(&record).await? {
            Ok(Some(seq)) => seq,
            Ok(None) => return Ok(Verdict::Fine),
            Err(verdict) => {
                // Nobody refers to these files and nobody ever will, unless the log still does.
                self.discard_staged(&staged).await;
                return Ok(verdict);
            }
        };
        self.env.failpoints.reach(Failpoint::Decided).await;
        let owned = self.fold().owned_by(self.identity.incarnation);
        let held = std::mem::replace(&mut self.mine, owned);
        // Also when the record met the new term only on its way into the log.
        if !held.is_subset(&self.mine) {
            self.env.failpoints.reach(Failpoint::Released).await;
        }
        let deciding = begun.elapsed();

        let begun = Instant::now();
        for (index, staged) in &staged {
            match staged {
                Staged::Files(files) if !files.is_empty() => self.publish(seq, *index, files).await?,
                Staged::Files(_) => {}
                Staged::Console(table) => self.show(seq, *index, table),
            }
        }
        self.env.failpoints.reach(Failpoint::Published).await;
        let rows = |index: usize| staged.get(&index).map_or(0, Staged::rows);
        self.hub.committed(&Committed {
            seq: seq.0,
            batch_time: epoch.batch_time,
            total: epoch.opened.elapsed(),
            reading: epoch.closed - epoch.opened,
            staging,
            deciding,
            publishing: begun.elapsed(),
            counts: epoch.counts.clone(),
            ranges: epoch.ranges.clone(),
            outputs: self
                .outputs
                .iter()
                .enumerate()
                .map(|(index, output)| (output.name.clone(), rows(index)))
                .collect(),
        });
        self.hub.recovered(Scope::Store);
        self.sweep_noted().await;
        // A job that always has something to commit looks at nothing else.
        match self.sweep_orphans().await? {
            Verdict::Fine => {}
            other => return Ok(other),
        }
        self.maintain().await?;
        Ok(Verdict::Fine)
    }

    /// Looks at the log's tail, and does what became this process's to do: publishing for others that died, noting,
    /// upkeep. One request if nothing happened.
    ///
    /// # Errors
    /// What only the user or a fix can mend.
    pub async fn tick(&mut self) -> Result<Verdict, Failure> {
        let mut backoff = retry();
        loop {
            match self.log.catch_up().await {
                Ok(CaughtUp::Tail { .. }) if !self.doubts_tail() => break,
                Ok(CaughtUp::Tail { .. }) if self.is_certain().await? => {
                    self.confirmed = Instant::now();
                    break;
                }
                Ok(CaughtUp::Tail { .. }) => return Ok(Verdict::StartOver),
                Ok(CaughtUp::Earlier(_)) => {}
                Ok(CaughtUp::Void) => {
                    self.reopen().await?;
                    return Ok(Verdict::StartOver);
                }
                Err(error) => self.wait_out(error, &mut backoff).await?,
            }
        }
        self.looked = Instant::now();
        self.hub.recovered(Scope::Store);
        self.hub.log_seq(self.fold().next().0.saturating_sub(1));
        match self.judge() {
            Verdict::Fine => {}
            other => return Ok(other),
        }
        match self.sweep_orphans().await? {
            Verdict::Fine => {}
            other => return Ok(other),
        }
        match self.finish_retractions().await? {
            Verdict::Fine => {}
            other => return Ok(other),
        }
        let verdict = self.note().await?;
        self.maintain().await?;
        self.hub.caught_up();
        Ok(verdict)
    }

    /// Whether what looks like the log's tail may be where deleted slots begin: others may have written and collected
    /// whole segments since this process looked last. A process with nothing to write would never find out.
    fn doubts_tail(&self) -> bool {
        self.looked.elapsed() >= DOUBT_AFTER_SLEEP || self.confirmed.elapsed() >= DOUBT_EVERY
    }

    /// What the log as it stands says to this process.
    fn judge(&mut self) -> Verdict {
        if let Some(superseded) = self.log.view().superseded() {
            return Verdict::Superseded(superseded.to_string());
        }
        let done = self.fold().plan().is_some_and(|plan| plan.complete.is_some() && self.planned == Some(plan.seq));
        if done {
            return Verdict::Completed;
        }
        let in_term = self.log.view().term_of(&self.identity.revision).is_some();
        let now = if in_term { self.fold().owned_by(self.identity.incarnation) } else { BTreeSet::new() };
        let lost: Vec<&Task> = self.mine.difference(&now).collect();
        let verdict = if lost.is_empty() { Verdict::Fine } else { Verdict::StartOver };
        if !lost.is_empty() {
            tracing::info!(tasks = list(lost), "no longer ours; what was read of them is dropped");
        }
        self.mine = now;
        verdict
    }

    /// Notes in the log what was published, if something was: an idle job's last words.
    ///
    /// # Errors
    /// What only the user or a fix can mend.
    pub async fn note(&mut self) -> Result<Verdict, Failure> {
        if self.published.is_empty() {
            return Ok(Verdict::Fine);
        }
        let notes: Vec<Note> = self.published.keys().cloned().collect();
        let reply = self
            .append(|view| match decide::note(view, &notes) {
                NoteDecision::Propose(proposal) => Compose::Propose(proposal),
                NoteDecision::Nothing => Compose::Decline(None),
                NoteDecision::Superseded(superseded) => Compose::Decline(Some(superseded)),
            })
            .await?;
        match reply {
            Reply::Won(_) => {
                self.env.failpoints.reach(Failpoint::Noted).await;
                self.sweep_noted().await;
                Ok(Verdict::Fine)
            }
            // Noted by others, or not this process's to note: what was staged goes after its next record.
            Reply::Declined(None) => Ok(Verdict::Fine),
            Reply::Declined(Some(superseded)) => Ok(Verdict::Superseded(superseded.to_string())),
            Reply::Reopened => Ok(Verdict::StartOver),
        }
    }

    /// Records offsets that are lost, and goes on behind them.
    ///
    /// # Errors
    /// What only the user or a fix can mend.
    pub async fn record_losses(&mut self, losses: Vec<DataLoss>) -> Result<Verdict, Failure> {
        let record = Commit { data_loss: losses, ..Commit::default() };
        Ok(match self.decide(&record).await? {
            Ok(_) => Verdict::Fine,
            Err(verdict) => verdict,
        })
    }

    /// Says that the bounded read is done, if it is.
    ///
    /// # Errors
    /// What only the user or a fix can mend.
    pub async fn complete(&mut self) -> Result<Verdict, Failure> {
        if self.fold().check_complete().is_err() {
            return Ok(Verdict::Fine);
        }
        self.env.failpoints.reach(Failpoint::Completing).await;
        let revision = self.identity.revision.clone();
        let reply = self
            .append(|view| match decide::complete(view, &revision) {
                CompleteDecision::Propose(proposal) => Compose::Propose(proposal),
                other => Compose::Decline(other),
            })
            .await?;
        Ok(match reply {
            Reply::Won(_) | Reply::Declined(CompleteDecision::Complete(_)) => Verdict::Completed,
            Reply::Declined(CompleteDecision::Superseded(superseded)) => Verdict::Superseded(superseded.to_string()),
            Reply::Declined(_) => Verdict::Fine,
            Reply::Reopened => Verdict::StartOver,
        })
    }

    /// The log as this process knows it.
    pub(super) fn fold(&self) -> &Fold {
        self.log.fold()
    }

    /// What the epoch says.
    fn record(&self, epoch: &ClosedEpoch, staged: &BTreeMap<usize, Staged>) -> Commit {
        let mut counters = Counters {
            rows_in: epoch.counts.values().map(|counts| counts.rows).sum(),
            rows_bad: epoch.counts.values().map(|counts| counts.bad).sum(),
            rows_out: BTreeMap::new(),
        };
        let mut intents = BTreeMap::new();
        for (index, staged) in staged {
            let output = &self.outputs[*index];
            let name = OutputName(output.name.clone());
            counters.rows_out.insert(name.clone(), staged.rows());
            if let (Staged::Files(files), Some((_, url))) = (staged, output.files()) {
                let files = files.iter().map(|file| intent(url, file)).collect();
                intents.insert(name, Intents::Parquet { files });
            }
        }
        Commit {
            ranges: epoch.ranges.clone(),
            batch_time: Some(Millis(epoch.batch_time)),
            intents,
            published: self.published.keys().cloned().collect(),
            counters,
            ..Commit::default()
        }
    }

    /// Appends the record: its slot, nothing if it has nothing to say, or why the epoch does not count.
    async fn decide(&mut self, record: &Commit) -> Result<Result<Option<Seq>, Verdict>, Failure> {
        let revision = self.identity.revision.clone();
        let mut backoff = retry();
        loop {
            let reply = self
                .append(|view| match decide::commit(view, &revision, record) {
                    CommitDecision::Propose(proposal) => Compose::Propose(proposal),
                    other => Compose::Decline(other),
                })
                .await?;
            let declined = match reply {
                Reply::Won(seq) => return Ok(Ok(Some(seq))),
                Reply::Reopened => return Ok(Err(Verdict::StartOver)),
                Reply::Declined(declined) => declined,
            };
            match declined {
                CommitDecision::Propose(_) | CommitDecision::Nothing => return Ok(Ok(None)),
                CommitDecision::Superseded(superseded) => {
                    return Ok(Err(Verdict::Superseded(superseded.to_string())));
                }
                CommitDecision::Lost { tasks } => {
                    tracing::info!(tasks = list(tasks), "taken over by another runner; the open epoch is dropped");
                    return Ok(Err(Verdict::StartOver));
                }
                CommitDecision::Moved { partitions } => {
                    tracing::info!(partitions = list(partitions), "moved in the log; the open epoch is dropped");
                    return Ok(Err(Verdict::StartOver));
                }
                CommitDecision::BeyondPlan { tasks } => {
                    tracing::info!(
                        tasks = list(tasks),
                        "beyond the bounded read in the log; the open epoch is dropped"
                    );
                    return Ok(Err(Verdict::StartOver));
                }
                CommitDecision::StaleTerm(_) => return Ok(Err(Verdict::StartOver)),
                CommitDecision::Backpressure { outputs } => {
                    let failure = Failure::external(
                        "StoreBehind",
                        format!(
                            "decided records of {} wait to be published; nothing more is decided until they are",
                            list(outputs)
                        ),
                    );
                    self.hub.degraded(&failure, self.env.clock.now_millis());
                    sleep(backoff.next(&self.env)).await;
                    match Box::pin(self.tick()).await? {
                        Verdict::Fine => {}
                        other => return Ok(Err(other)),
                    }
                }
            }
        }
    }
}

/// The intent to publish a staged file, in the log's words: with whole URLs.
fn intent(url: &str, file: &StagedFile) -> ParquetFile {
    ParquetFile {
        staged: format!("{url}/{}", file.staged),
        target: format!("{url}/{}", file.target),
        bytes: file.bytes,
        rows: file.rows,
        etag: file.etag.clone(),
    }
}
