//! What is said about a job. Pure: from the facts and the decision to the status.

mod conditions;
mod measured;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use millrace_crds::contract::{LABEL_JOB, LABEL_REVISION_NUMBER};
use millrace_crds::spec::StreamingJobStatus;

use crate::decide::Decision;
use crate::facts::Facts;
use crate::validate::{Invalid, Validated};

/// The status of a job after what was decided is done.
pub fn status(facts: &Facts, valid: &Result<Validated, Invalid>, decision: &Decision) -> StreamingJobStatus {
    let mut status = decision.status.clone();
    status.observed_generation = Some(facts.job.generation);
    if let Some(active) = &status.revision {
        let of_active = facts.pods.iter().filter(|pod| pod.revision == active.number && pod.is_live());
        status.replicas = Some(of_active.clone().count() as i32);
        status.ready_replicas = Some(of_active.filter(|pod| pod.ready && !pod.node_lost).count() as i32);
        let job = &facts.job.name;
        status.selector = Some(format!("{LABEL_JOB}={job},{LABEL_REVISION_NUMBER}={}", active.number));
    }
    measured::measure(facts, &mut status);
    conditions::set(facts, valid, decision, &mut status);
    status
}

/// Whether two statuses differ in more than what is measured all the time: then the new one is written at once.
pub fn differ(before: &StreamingJobStatus, after: &StreamingJobStatus) -> bool {
    let lasting = |status: &StreamingJobStatus| StreamingJobStatus {
        lag: None,
        input_rows_per_second: None,
        processed_rows_per_second: None,
        watermark: None,
        last_commit: None,
        ..status.clone()
    };
    lasting(before) != lasting(after)
}

/// Whether a condition is True.
pub fn is_true(status: &StreamingJobStatus, kind: &str) -> bool {
    condition(status, kind).is_some_and(|condition| condition.status == "True")
}

/// A condition of a status.
pub fn condition<'a>(status: &'a StreamingJobStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

/// Reads an instant of a status.
pub fn timestamp(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}
