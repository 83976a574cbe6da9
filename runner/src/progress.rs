//! What a runner knows of its own progress: one place that every stage reports to and every view reads from.

mod health;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use millrace_crds::contract::{
    CommitPoint, Degraded, FailureClass, Lag, Offsets, Phase, Progress, RunnerStatus, SavepointPoint, SinkProgress,
    SourceProgress,
};
use tokio::time::Instant;

use crate::epoch::Counts;
use crate::failure::Failure;
use crate::ids::{Offset, Partition, Range};
use crate::telemetry::metrics::{Metrics, OutputLabel, SourceLabel};

use self::health::Health;

/// An outage that goes on under other words is not said again before this.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Where a trouble lies, so that one side's recovery does not hide the other's trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Kafka.
    Source,
    /// The store of tables and job log.
    Store,
}

impl Scope {
    fn of(failure: &Failure) -> Self {
        let of_store = failure.reason.starts_with("Store") || ["DiskFull", "Sink"].contains(&failure.reason);
        if of_store { Self::Store } else { Self::Source }
    }
}

/// One epoch that was committed and published.
#[derive(Debug, Clone)]
pub struct Committed {
    /// Its record's sequence.
    pub seq: u64,
    /// Its batch time in milliseconds.
    pub batch_time: i64,
    /// From opening to published.
    pub total: Duration,
    /// Spent reading, decoding, planning and writing.
    pub reading: Duration,
    /// Spent finishing files.
    pub staging: Duration,
    /// Spent on the record.
    pub deciding: Duration,
    /// Spent publishing.
    pub publishing: Duration,
    /// What was read, by source.
    pub counts: BTreeMap<String, Counts>,
    /// The ranges.
    pub ranges: BTreeMap<Partition, Range>,
    /// Rows by output.
    pub outputs: Vec<(String, u64)>,
}

/// The hub. Cheap to report to; nothing in it is needed for correctness.
pub struct ProgressHub {
    metrics: Metrics,
    /// The manifest's.
    deadline: Duration,
    state: Mutex<State>,
}

struct State {
    status: RunnerStatus,
    /// Empty until the log has one.
    job_uid: String,
    troubles: BTreeMap<Scope, Degraded>,
    /// When the log was last told of each trouble.
    said: BTreeMap<Scope, Instant>,
    ends: BTreeMap<Partition, Offset>,
    committed: BTreeMap<Partition, Offset>,
    health: Health,
    totals: Totals,
}

/// Sums since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages committed.
    pub rows_in: u64,
    /// Rows committed, over all outputs.
    pub rows_out: u64,
    /// Messages that did not decode.
    pub bad: u64,
    /// Epochs committed.
    pub commits: u64,
}

impl ProgressHub {
    /// A hub for one start of one runner. Without progress for `deadline` the runner is not ready.
    pub fn new(job: &str, revision: &str, ordinal: u32, incarnation: &str, deadline: Duration) -> Self {
        let status = RunnerStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            job: job.to_owned(),
            incarnation: incarnation.to_owned(),
            ordinal,
            revision: revision.to_owned(),
            ..RunnerStatus::default()
        };
        Self {
            metrics: Metrics::default(),
            deadline,
            state: Mutex::new(State {
                status,
                job_uid: String::new(),
                troubles: BTreeMap::new(),
                said: BTreeMap::new(),
                ends: BTreeMap::new(),
                committed: BTreeMap::new(),
                health: Health::new(deadline),
                totals: Totals::default(),
            }),
        }
    }

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What `/status` answers.
    pub fn status(&self) -> RunnerStatus {
        self.state().status.clone()
    }

    /// Sums since the start.
    pub fn totals(&self) -> Totals {
        self.state().totals
    }

    /// The loop turned.
    pub fn turned(&self) {
        self.state().health.turned();
    }

    /// The log was looked at and there was nothing to do: progress, if the brokers answer and nothing waits there.
    pub fn caught_up(&self) {
        let mut state = self.state();
        let waiting = state.status.lag.values().any(|lag| lag.records > 0);
        if !waiting && !state.troubles.contains_key(&Scope::Source) {
            state.health.progressed();
        }
    }

    /// What the runner is doing now.
    pub fn phase(&self, phase: Phase) {
        let mut state = self.state();
        state.status.phase = phase;
        state.status.superseded = phase == Phase::Superseded;
    }

    /// The term it works in.
    pub fn generation(&self, generation: u64) {
        self.state().status.generation = generation;
    }

    /// The job's uid, as its log has it.
    pub fn job_uid(&self, uid: String) {
        self.state().job_uid = uid;
    }

    /// The savepoints in the log, as it has read it.
    pub fn savepoints<'a>(&self, savepoints: impl Iterator<Item = (&'a str, u64)>) {
        let point = |(name, seq): (&str, u64)| SavepointPoint { name: name.to_owned(), seq };
        self.state().status.savepoints = savepoints.map(point).collect();
    }

    /// The newest record it has read.
    pub fn log_seq(&self, seq: u64) {
        self.metrics.log_seq.set(i64::try_from(seq).unwrap_or(i64::MAX));
    }

    /// Something outside is away, or only the user can mend it. Said once in the log, until it changes; an outage whose
    /// words change with every attempt (a file's name, a request) is said again after a minute at the earliest.
    pub fn degraded(&self, failure: &Failure, now_millis: i64) {
        let mut state = self.state();
        // Whoever waits for something outside is alive: a restart would not bring it back sooner.
        state.health.turned();
        let scope = Scope::of(failure);
        let known = state.troubles.get(&scope);
        if known.is_some_and(|known| known.message == failure.message) {
            return;
        }
        self.metrics.degraded.set(1);
        let same_outage = failure.is_external() && known.is_some_and(|known| known.reason == failure.reason);
        let lately = state.said.get(&scope).is_some_and(|said| said.elapsed() < SAY_AGAIN_AFTER);
        if !(same_outage && lately) {
            tracing::warn!(class = %failure.class, reason = failure.reason, "{}", failure.message);
            state.said.insert(scope, Instant::now());
        }
        let trouble = Degraded {
            class: Some(failure.class),
            reason: failure.reason.to_owned(),
            message: failure.message.clone(),
            since: rfc3339(now_millis),
        };
        if failure.class == FailureClass::User {
            state.status.phase = Phase::Stalled;
        }
        state.status.degraded = Some(trouble.clone());
        state.troubles.insert(scope, trouble);
    }

    /// That side works again.
    pub fn recovered(&self, scope: Scope) {
        let mut state = self.state();
        let Some(trouble) = state.troubles.remove(&scope) else { return };
        tracing::info!(reason = trouble.reason, since = trouble.since, "recovered");
        state.status.degraded = state.troubles.values().next().cloned();
        if state.troubles.is_empty() {
            self.metrics.degraded.set(0);
        }
        if state.status.phase == Phase::Stalled {
            state.status.phase = Phase::Running;
        }
    }

    /// Messages were read.
    pub fn read(&self, source: &str, rows: u64, bytes: u64, bad: u64) {
        let label = SourceLabel { source: source.to_owned() };
        self.metrics.rows_in.get_or_create(&label).inc_by(rows);
        self.metrics.bytes_in.get_or_create(&label).inc_by(bytes);
        if bad > 0 {
            self.metrics.rows_bad.get_or_create(&label).inc_by(bad);
        }
    }

    /// The partitions this runner reads, and where the log has them.
    pub fn assigned(&self, committed: BTreeMap<Partition, Offset>) {
        self.metrics.partitions.set(i64::try_from(committed.len()).unwrap_or(i64::MAX));
        let mut state = self.state();
        state.ends.retain(|partition, _| committed.contains_key(partition));
        state.committed = committed;
        self.measure_lag(&mut state);
    }

    /// Where partitions end now.
    pub fn ends(&self, ends: impl IntoIterator<Item = (Partition, Offset)>) {
        let mut state = self.state();
        state.ends.extend(ends);
        self.measure_lag(&mut state);
    }

    /// An epoch was committed and published.
    pub fn committed(&self, epoch: &Committed) {
        self.metrics.commits.inc();
        self.metrics.commit_seconds.observe((epoch.total - epoch.reading.min(epoch.total)).as_secs_f64());
        self.metrics.last_commit_seconds.set(epoch.batch_time / 1000);
        for (output, rows) in &epoch.outputs {
            self.metrics.rows_out.get_or_create(&OutputLabel { output: output.clone() }).inc_by(*rows);
        }
        let mut state = self.state();
        state.totals.commits += 1;
        state.totals.rows_in += epoch.counts.values().map(|counts| counts.rows).sum::<u64>();
        state.totals.bad += epoch.counts.values().map(|counts| counts.bad).sum::<u64>();
        state.totals.rows_out += epoch.outputs.iter().map(|(_, rows)| rows).sum::<u64>();
        state.health.progressed();
        for (partition, range) in &epoch.ranges {
            state.committed.insert(partition.clone(), range.to);
            let end = state.ends.entry(partition.clone()).or_insert(range.to);
            *end = (*end).max(range.to);
        }
        self.measure_lag(&mut state);
        state.status.last_commit =
            Some(CommitPoint { seq: epoch.seq, time: rfc3339(epoch.batch_time + millis(epoch.total)) });
        state.status.last_progress = Some(progress(epoch, &state));
        self.log_seq(epoch.seq);
    }

    fn measure_lag(&self, state: &mut State) {
        let mut lags: BTreeMap<String, u64> = BTreeMap::new();
        for (partition, at) in &state.committed {
            if let Some(end) = state.ends.get(partition) {
                *lags.entry(partition.source.to_string()).or_default() += u64::try_from(end.0 - at.0).unwrap_or(0);
            }
        }
        for (source, records) in &lags {
            let label = SourceLabel { source: source.clone() };
            self.metrics.lag_records.get_or_create(&label).set(i64::try_from(*records).unwrap_or(i64::MAX));
        }
        state.status.lag = lags.into_iter().map(|(source, records)| (source, Lag { records })).collect();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The epoch under Spark's names.
fn progress(epoch: &Committed, state: &State) -> Progress {
    let seconds = epoch.total.as_secs_f64().max(0.001);
    let busy = (epoch.staging + epoch.deciding + epoch.publishing + epoch.reading).as_secs_f64().max(0.001);
    let sources = epoch.counts.iter().map(|(source, counts)| {
        let offsets = |pick: &dyn Fn(&Partition, &Range) -> Option<i64>| -> Option<Offsets> {
            let mut offsets = Offsets::new();
            for (partition, range) in epoch.ranges.iter().filter(|(partition, _)| partition.source.as_str() == source) {
                if let Some(offset) = pick(partition, range) {
                    offsets.entry(partition.topic.clone()).or_default().insert(partition.partition, offset);
                }
            }
            (!offsets.is_empty()).then_some(offsets)
        };
        SourceProgress {
            description: source.clone(),
            start_offset: offsets(&|_, range| Some(range.from.0)),
            end_offset: offsets(&|_, range| Some(range.to.0)),
            latest_offset: offsets(&|partition, _| state.ends.get(partition).map(|end| end.0)),
            num_input_rows: signed(counts.rows),
            input_rows_per_second: counts.rows as f64 / seconds,
            processed_rows_per_second: counts.rows as f64 / busy,
            metrics: BTreeMap::from([
                ("bytes".to_owned(), counts.bytes.to_string()),
                ("badRows".to_owned(), counts.bad.to_string()),
            ]),
        }
    });
    let rows: u64 = epoch.counts.values().map(|counts| counts.rows).sum();
    let outputs: Vec<SinkProgress> = epoch
        .outputs
        .iter()
        .map(|(output, rows)| SinkProgress { description: output.clone(), num_output_rows: signed(*rows) })
        .collect();
    Progress {
        id: state.job_uid.clone(),
        run_id: state.status.incarnation.clone(),
        name: Some(state.status.job.clone()),
        timestamp: rfc3339(epoch.batch_time),
        batch_id: signed(epoch.seq),
        batch_duration: millis(epoch.total),
        num_input_rows: signed(rows),
        input_rows_per_second: rows as f64 / seconds,
        processed_rows_per_second: rows as f64 / busy,
        duration_ms: BTreeMap::from([
            ("triggerExecution".to_owned(), millis(epoch.total)),
            ("addBatch".to_owned(), millis(epoch.reading)),
            ("stage".to_owned(), millis(epoch.staging)),
            ("walCommit".to_owned(), millis(epoch.deciding)),
            ("publish".to_owned(), millis(epoch.publishing)),
        ]),
        sources: sources.collect(),
        sink: SinkProgress {
            description: "all outputs".to_owned(),
            num_output_rows: outputs.iter().map(|output| output.num_output_rows).sum(),
        },
        outputs,
        ..Progress::default()
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC with milliseconds.
pub fn rfc3339(millis: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(millis).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}
