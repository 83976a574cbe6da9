//! The way of a row, and nothing else: every stage is named here, in order.
//!
//! `source → decode → plan → sink → commit`. An epoch is open while rows stream in; closing it hands it to the
//! committer, which stages, decides and publishes it while the next epoch is already reading.

mod join;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use millrace_crds::OnError;
use millrace_crds::contract::{FailureClass, Phase, RunnerSettings};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::batch::Fetched;
use crate::commit::{Committing, Verdict};
use crate::control::Control;
use crate::decode::dead_letter;
use crate::env::{Backoff, Env};
use crate::epoch::Epoch;
use crate::failpoint::Failpoint;
use crate::failure::Failure;
use crate::ids::Offset;
use crate::intake::Intakes;
use crate::output::OutputSlot;
use crate::progress::{ProgressHub, Scope};
use crate::queries::Queries;
use crate::source::{Discovered, SourceError};

/// When an epoch closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// At the latest so long after the one before.
    pub interval: Duration,
    /// How often the log is looked at while the runner waits for others: for the tasks that they still hold, for its
    /// revision's term, for the end of a bounded read.
    pub poll: Duration,
    /// With so many messages.
    pub max_records: Option<u64>,
    /// With so many bytes of messages.
    pub max_bytes: Option<u64>,
    /// Whether the job ends by itself: `availableNow`.
    pub bounded: bool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// A bounded job read, committed and published everything.
    Completed,
    /// It was told to stop and has committed what it had read.
    Stopped,
    /// Another incarnation has taken its ordinal over for good; says which.
    Superseded(String),
    /// The job has to go back to the savepoint at which this runner's revision begins; then it runs again.
    StartDue,
}

/// A runner's stages, put together.
pub struct Pipeline {
    /// Time, chance, failpoints.
    pub env: Env,
    /// Where progress is reported.
    pub hub: Arc<ProgressHub>,
    /// When epochs close.
    pub closing: Closing,
    /// Sources and decoders.
    pub intakes: Intakes,
    /// The queries.
    pub queries: Box<dyn Queries>,
    /// The declared outputs, then one for the dead letters of each source that has them.
    pub outputs: Arc<Vec<OutputSlot>>,
    /// Stages, decides and publishes.
    pub committing: Committing,
    /// The term that is wanted, as it changes.
    pub control: watch::Receiver<Control>,
    /// What else may change while it runs; here the savepoint that there is to be.
    pub settings: watch::Receiver<RunnerSettings>,
    /// Becomes true when the process is told to stop.
    pub stop: watch::Receiver<bool>,
}

/// The loop turns at least so often, however long the trigger: whoever asks whether it is stuck need not know that.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// The first epoch of a runner that begins to read closes so long after its first message, if the trigger is longer: what is
/// there when a job starts is in its tables at once.
const FIRST_EPOCH: Duration = Duration::from_secs(1);

/// What the loop wakes up for.
enum Event {
    Stop,
    Committed(Result<Verdict, Failure>),
    Trigger,
    /// The log is to be looked at before the trigger.
    Look,
    Fetched(usize, Result<Fetched, SourceError>),
    /// Nothing for a while.
    Nothing,
}

/// The loop's own state between two events.
struct Turn {
    epoch: Epoch,
    /// When the trigger fires.
    deadline: Instant,
    /// It has fired, and the epoch is not closed yet.
    due: bool,
    /// When the log is looked at before that: the runner waits for others.
    look_at: Option<Instant>,
    /// Nothing was read yet since the runner began to read.
    fresh: bool,
    stopping: bool,
    /// Whether the final results of a bounded read are written.
    finished: bool,
    discovered: Vec<Discovered>,
    discovered_at: Instant,
    /// When lag and group offsets were last seen to.
    measured_at: Option<Instant>,
    backoff: Backoff,
}

impl Pipeline {
    /// Runs until the job is complete, told to stop, superseded, or failed. External failures are waited out.
    ///
    /// # Errors
    /// What only the user or a fix can mend.
    pub async fn run(mut self) -> Result<Ended, Failure> {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
        let now = Instant::now();
        let mut turn = Turn {
            epoch: Epoch::closed_to_all(),
            deadline: now + self.closing.interval,
            due: false,
            look_at: None,
            fresh: true,
            stopping: false,
            finished: false,
            discovered: Vec::new(),
            discovered_at: now,
            measured_at: None,
            backoff,
        };
        self.env.failpoints.reach(Failpoint::Opened).await;
        let mut verdict = Verdict::StartOver;
        loop {
            self.hub.turned();
            if *self.stop.borrow() && !turn.stopping {
                turn.stopping = true;
                self.hub.phase(Phase::Stopping);
            }
            match verdict {
                Verdict::Superseded(by) => return Ok(Ended::Superseded(by)),
                Verdict::Completed => {
                    self.hub.phase(Phase::Completed);
                    return Ok(Ended::Completed);
                }
                Verdict::StartDue => return Ok(Ended::StartDue),
                Verdict::StartOver => {
                    verdict = self.join(&mut turn).await?;
                    continue;
                }
                Verdict::Fine => {}
            }
            if let Some(next) = self.close_if_due(&mut turn).await? {
                verdict = next;
                continue;
            }
            if turn.stopping && !self.committing.is_busy() {
                return Ok(Ended::Stopped);
            }
            verdict = match self.wait(&mut turn).await {
                Event::Stop | Event::Nothing => Verdict::Fine,
                Event::Committed(outcome) => match outcome? {
                    Verdict::Fine if !turn.stopping => self.settle(&mut turn).await?,
                    other => other,
                },
                Event::Fetched(index, fetched) => self.take(&mut turn, index, fetched).await?,
                Event::Look => self.look_around(&mut turn).await?,
                Event::Trigger => {
                    turn.due = true;
                    Verdict::Fine
                }
            };
        }
    }

    /// One fetch's way through the stages, up to the open files.
    async fn process(&mut self, epoch: &mut Epoch, index: usize, fetched: &Fetched) -> Result<(), Failure> {
        epoch.advance(fetched).map_err(|broken| Failure::internal(broken.to_string()))?;

        let intake = self.intakes.get(index);
        let decoded = intake.decoder.decode(fetched).map_err(|error| Failure::internal(error.to_string()))?;
        let bad = decoded.bad.len() as u64;
        self.hub.read(&intake.name, fetched.messages.len() as u64, fetched.bytes as u64, bad);
        epoch.count_bad(&intake.name, bad);
        self.env.failpoints.reach(Failpoint::Read).await;

        if let Some(first) = decoded.bad.first() {
            match &intake.on_error {
                OnError::Fail => {
                    let way_out = "set onError of this source to skip or deadLetter to go on without such messages";
                    let message = format!("{}; {way_out}", dead_letter::describe(first));
                    return Err(Failure::new(FailureClass::Data, "RowDoesNotDecode", message));
                }
                OnError::Skip => {}
                OnError::DeadLetter { .. } => {
                    let letters = dead_letter::batch(&decoded.bad)
                        .map_err(|error| Failure::internal(format!("cannot build the dead letters: {error}")))?;
                    if let Some(output) = intake.dead_letters {
                        epoch.write(output, &self.outputs[output], letters).await?;
                    }
                }
            }
        }
        if decoded.batch.num_rows() > 0 {
            for rows in self.queries.run(&intake.name, &decoded.batch, epoch.batch_time).await? {
                for batch in rows.batches {
                    epoch.write(rows.output, &self.outputs[rows.output], batch).await?;
                }
            }
        }
        self.env.failpoints.reach(Failpoint::Written).await;
        Ok(())
    }

    /// At the trigger, when the committer is free: commits what was read, or looks around if there was nothing.
    /// `None`: go on and wait for the next event.
    async fn close_if_due(&mut self, turn: &mut Turn) -> Result<Option<Verdict>, Failure> {
        if turn.stopping && turn.epoch.positions().is_empty() {
            // Nothing is read, so nothing is finished either.
            return match self.committing.is_busy() {
                true => Ok(None),
                false => self.committing.idle()?.note().await.map(Verdict::interesting),
            };
        }
        // While a command holds the log, a runner reads nothing, which is not the same as having read all.
        let read_all = self.intakes.have_read_all(&turn.epoch.positions()) && !self.committing.is_held();
        let last = read_all && (!turn.finished || turn.epoch.moved());
        let due = turn.due || turn.stopping || last || self.is_full(&turn.epoch);
        if self.committing.is_busy() || !due {
            return Ok(None);
        }
        if self.queries.holds_epoch() && !read_all {
            // A result over everything read is committed with everything read, or not at all.
            if turn.stopping {
                std::mem::replace(&mut turn.epoch, Epoch::closed_to_all()).abort().await;
                return Ok(None);
            }
            self.rearm(turn);
            return self.look_around(turn).await.map(Some);
        }
        if read_all && !turn.finished {
            match self.finish(turn).await {
                Ok(()) => turn.finished = true,
                Err(failure) if failure.is_external() => {
                    self.hold_out(turn, &failure).await;
                    return Ok(Some(Verdict::StartOver));
                }
                Err(failure) => return Err(failure),
            }
        }
        let worth_a_record = turn.epoch.rows() > 0 || turn.epoch.has_files() || (read_all && turn.epoch.moved());
        if worth_a_record {
            return match self.verify_topics(turn).await? {
                Some(Verdict::Fine) if turn.stopping => {
                    // The brokers are away. A stop does not wait for them: what was read is read again.
                    std::mem::replace(&mut turn.epoch, Epoch::closed_to_all()).abort().await;
                    Ok(Some(Verdict::Fine))
                }
                Some(verdict) => Ok(Some(verdict)),
                None => {
                    self.commit(turn)?;
                    Ok(None)
                }
            };
        }
        if turn.stopping {
            return self.committing.idle()?.note().await.map(|verdict| verdict.interesting());
        }
        self.rearm(turn);
        let verdict = self.look_around(turn).await?;
        match verdict {
            // Unless tasks are being released: then there is a next time.
            Verdict::Fine if read_all && !self.committing.is_busy() => {
                self.committing.idle()?.complete().await.map(|verdict| verdict.interesting())
            }
            other => Ok(other.interesting()),
        }
    }

    /// Writes the results that only the end of a bounded read gives.
    async fn finish(&mut self, turn: &mut Turn) -> Result<(), Failure> {
        for rows in self.queries.finish(turn.epoch.batch_time).await? {
            for batch in rows.batches {
                turn.epoch.write(rows.output, &self.outputs[rows.output], batch).await?;
            }
        }
        Ok(())
    }

    /// Closes the open epoch and hands it to the committer; the next one continues where it ends.
    fn commit(&mut self, turn: &mut Turn) -> Result<(), Failure> {
        let next = self.committing.idle()?.open(&turn.epoch.positions());
        let closed = std::mem::replace(&mut turn.epoch, next).close();
        self.committing.start(closed)?;
        self.rearm(turn);
        Ok(())
    }

    /// Waits for the next thing to do. Every branch is cancellation-safe.
    async fn wait(&mut self, turn: &mut Turn) -> Event {
        let busy = self.committing.is_busy();
        let may_look = !busy && !turn.stopping;
        let look_at = turn.look_at.unwrap_or(turn.deadline);
        let reading = !turn.stopping && !self.is_full(&turn.epoch) && self.intakes.is_reading();
        tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop), if !turn.stopping => Event::Stop,
            outcome = self.committing.done(), if busy => Event::Committed(outcome),
            Ok(()) = self.control.changed(), if may_look => Event::Look,
            Ok(()) = self.settings.changed(), if may_look => Event::Look,
            () = sleep_until(look_at), if may_look && turn.look_at.is_some() => Event::Look,
            () = sleep_until(turn.deadline), if !turn.due => Event::Trigger,
            (index, fetched) = self.intakes.next(), if reading => Event::Fetched(index, fetched),
            () = sleep(HEARTBEAT) => Event::Nothing,
        }
    }

    /// What one read gave: rows for the open epoch, or trouble with the source.
    async fn take(
        &mut self,
        turn: &mut Turn,
        index: usize,
        fetched: Result<Fetched, SourceError>,
    ) -> Result<Verdict, Failure> {
        match fetched {
            Ok(fetched) => {
                if fetched.at_end {
                    self.hub.ends([(fetched.partition.clone(), fetched.position)]);
                }
                if turn.fresh && !fetched.messages.is_empty() {
                    turn.fresh = false;
                    self.hasten(turn);
                }
                match self.process(&mut turn.epoch, index, &fetched).await {
                    Ok(()) => {
                        self.hub.recovered(Scope::Source);
                        turn.backoff.reset();
                        Ok(Verdict::Fine)
                    }
                    // The store failed in the middle of a file: the epoch is given up and read again.
                    Err(failure) if failure.is_external() => {
                        self.hold_out(turn, &failure).await;
                        Ok(Verdict::StartOver)
                    }
                    Err(failure) => Err(failure),
                }
            }
            Err(SourceError::OffsetOutOfRange { partition, wanted, low, high }) => {
                let error = SourceError::OffsetOutOfRange { partition: partition.clone(), wanted, low, high };
                self.out_of_range(turn, index, &partition, (Offset(low), Offset(high)), error).await
            }
            Err(error) => {
                let failure = Failure::from(error);
                if failure.class == FailureClass::Internal {
                    return Err(failure);
                }
                // librdkafka goes on trying, and so do we: a topic that appears and a right that is granted are picked up.
                self.hold_out(turn, &failure).await;
                Ok(Verdict::Fine)
            }
        }
    }

    /// Waits a little after a failure from outside, having said so.
    async fn hold_out(&mut self, turn: &mut Turn, failure: &Failure) {
        self.hub.degraded(failure, self.env.clock.now_millis());
        tokio::select! {
            () = sleep(turn.backoff.next(&self.env)) => {}
            Ok(_) = self.stop.wait_for(|stop| *stop), if !turn.stopping => {}
        }
    }

    /// Whether the open epoch holds as much as one may.
    fn is_full(&self, epoch: &Epoch) -> bool {
        self.closing.max_records.is_some_and(|max| epoch.rows() >= max)
            || self.closing.max_bytes.is_some_and(|max| epoch.bytes() >= max)
    }

    /// The trigger fires soon, for the first messages that a runner reads. A bounded job commits when it has read all.
    fn hasten(&self, turn: &mut Turn) {
        if !self.closing.bounded {
            turn.deadline = turn.deadline.min(Instant::now() + FIRST_EPOCH);
        }
    }

    /// The trigger fires again an interval from now; sooner for a bounded job that only waits for others.
    fn rearm(&self, turn: &mut Turn) {
        let waits = self.closing.bounded && self.intakes.have_read_all(&turn.epoch.positions());
        turn.due = false;
        turn.deadline = Instant::now() + if waits { self.closing.poll } else { self.closing.interval };
    }
}
