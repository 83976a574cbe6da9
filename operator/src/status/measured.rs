//! What the runners say of themselves on `/status`: lag, rates, commits. What nobody said is absent, never zero.

use millrace_crds::contract::RunnerStatus;
use millrace_crds::spec::{CommitStatus, LagStatus, SavepointStatus, StreamingJobStatus};

use crate::facts::Facts;

/// Fills in what was measured. A job none of whose runners answers keeps its last commit and savepoints, and loses the rest.
pub fn measure(facts: &Facts, status: &mut StreamingJobStatus) {
    let active = status.revision.as_ref().map(|revision| revision.number);
    let runners: Vec<&RunnerStatus> = facts
        .pods
        .iter()
        .filter(|pod| Some(pod.revision) == active && pod.is_live())
        .filter_map(|pod| facts.reports.get(&pod.name))
        .collect();
    let all = facts.pods.iter().filter(|pod| Some(pod.revision) == active && pod.is_live()).count();
    let complete = !runners.is_empty() && runners.len() == all;

    let commits = runners.iter().filter_map(|runner| runner.last_commit.as_ref());
    if let Some(last) = commits.max_by_key(|commit| commit.seq) {
        let seq = i64::try_from(last.seq).unwrap_or(i64::MAX);
        if status.last_commit.as_ref().is_none_or(|known| known.seq < seq) {
            status.last_commit = Some(CommitStatus { seq, time: last.time.clone() });
        }
    }
    let records = runners.iter().flat_map(|runner| runner.lag.values()).map(|lag| lag.records).sum::<u64>();
    // A runner that has not looked yet says nothing of its sources.
    let looked = runners.iter().any(|runner| !runner.lag.is_empty());
    status.lag = (complete && looked).then(|| LagStatus { records: i64::try_from(records).ok(), seconds: None });
    let rate = |pick: fn(&millrace_crds::contract::Progress) -> f64| {
        let rates = runners.iter().filter_map(|runner| runner.last_progress.as_ref()).map(pick);
        complete.then(|| rates.sum::<f64>().round() as i64)
    };
    status.input_rows_per_second = rate(|progress| progress.input_rows_per_second);
    status.processed_rows_per_second = rate(|progress| progress.processed_rows_per_second);
    let watermarks = runners.iter().filter_map(|runner| runner.last_progress.as_ref()?.event_time.watermark.clone());
    status.watermark = watermarks.min();
    // Whoever has read most of the log knows them best.
    let newest = runners.iter().max_by_key(|runner| runner.last_commit.as_ref().map_or(0, |commit| commit.seq));
    if let Some(runner) = newest {
        let savepoints = runner.savepoints.iter().map(|savepoint| SavepointStatus {
            name: savepoint.name.clone(),
            seq: i64::try_from(savepoint.seq).unwrap_or(i64::MAX),
        });
        status.savepoints = savepoints.take(1000).collect();
    }
}
