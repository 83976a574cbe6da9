//! Failures of runners: counted once each, and what they say about the job now.

use std::time::Duration;

use jiff::Timestamp;
use millrace_crds::Restart;
use millrace_crds::contract::FailureClass;
use millrace_crds::spec::{CONDITION_READY, FailureStatus, StreamingJobStatus};

use super::age;
use crate::facts::{Facts, Over, PodFacts};
use crate::failure::{self, Failure};
use crate::status::{is_true, timestamp};
use crate::validate::{Invalid, Validated, rfc3339};

/// The longest text that a status keeps of a message.
const MAX_MESSAGE: usize = 4096;

/// How failed runners are started again; the standard, if the spec cannot be read.
pub fn policy(valid: &Result<Validated, Invalid>) -> Restart {
    match valid {
        Ok(valid) => valid.job.restart,
        Err(_) => Restart {
            max_retries: None,
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(300),
        },
    }
}

/// Counts failures that were not seen before, and remembers the last one.
pub fn count(facts: &Facts, status: &mut StreamingJobStatus) {
    let counted = status.last_failure.as_ref().and_then(|failure| timestamp(&failure.time));
    let mut new: Vec<(Timestamp, &PodFacts, Failure)> = Vec::new();
    for pod in &facts.pods {
        // A pod that failed as a whole has no instant of its own; its runner's end is as good, or else its beginning.
        let at = pod.last_end.as_ref().map_or(pod.created, |end| end.finished);
        if counted.is_none_or(|counted| at > counted)
            && let Some(failure) = failure::of_pod(pod)
        {
            new.push((at, pod, failure));
        }
    }
    new.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
    let Some((at, pod, failure)) = new.last() else {
        if is_true(status, CONDITION_READY) && is_settled(facts, status) {
            status.retries = status.retries.map(|_| 0);
        }
        return;
    };
    let was_ready = is_true(status, CONDITION_READY);
    let grave = new.iter().filter(|(_, _, failure)| failure::counts(failure.class)).count() as i64;
    let before = if was_ready { 0 } else { status.retries.unwrap_or(0) };
    status.restarts = Some(status.restarts.unwrap_or(0) + new.len() as i64);
    status.retries = Some(before + grave);
    let said = pod.last_end.as_ref().and_then(|end| end.message.as_ref());
    status.last_failure = Some(FailureStatus {
        class: Some(failure.class),
        reason: failure.reason.clone(),
        message: cut(&failure.message),
        pod: pod.name.clone(),
        exit_code: pod.last_end.as_ref().map(|end| end.exit_code),
        time: rfc3339(*at),
        log: said.map(|said| said.log.iter().map(|line| cut(line)).collect()).unwrap_or_default(),
    });
}

/// Ready for long enough since the last failure that the next one is a first one.
fn is_settled(facts: &Facts, status: &StreamingJobStatus) -> bool {
    let failed = status.last_failure.as_ref().and_then(|failure| timestamp(&failure.time));
    failed.is_none_or(|failed| facts.now.duration_since(failed).as_secs() >= 60)
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_MESSAGE / 4) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What is wrong with a pod now, if anything: no place, no image, or a runner that ended and is not back.
pub fn trouble(pod: &PodFacts, now: Timestamp) -> Option<Failure> {
    if pod.deleting {
        return None;
    }
    if pod.node_lost {
        return Some(Failure {
            class: FailureClass::Infrastructure,
            reason: "NodeLost".to_owned(),
            message: format!("the node of pod {} is not heard of any more", pod.name),
        });
    }
    if let Some(failure) = failure::of_placement(pod, age(now, pod.created)) {
        return Some(failure);
    }
    let back = pod.running && pod.started && pod.over.is_none();
    if back || pod.over == Some(Over::Succeeded) {
        return None;
    }
    failure::of_pod(pod)
}
