//! What the operator knows of one job when it decides: plain values, read from the API's objects.

mod job;
mod pod;
mod revision;

use std::collections::BTreeMap;

use jiff::Timestamp;
use millrace_crds::contract::RunnerStatus;

pub use job::{JobError, JobFacts, JobObject};
pub use pod::{End, Over, PodFacts, Said};
pub use revision::RevisionFacts;

/// Everything that is known of one job.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Now.
    pub now: Timestamp,
    /// The job.
    pub job: JobFacts,
    /// Its runner pods, also those that are going.
    pub pods: Vec<PodFacts>,
    /// Its revisions.
    pub revisions: Vec<RevisionFacts>,
    /// What its runners answered last on `/status`, by the pod's name. For the status only: nothing is decided by it.
    pub reports: BTreeMap<String, RunnerStatus>,
    /// Numbers of pods of an earlier job of the same name that are still there.
    pub taken: Vec<i64>,
    /// Numbers of its revisions that are still there.
    pub taken_revisions: Vec<i64>,
    /// Why the last pod could not be created, and when that may be tried again.
    pub refusal: Option<Refusal>,
}

/// Why a pod could not be created, in the API server's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One word, in CamelCase.
    pub reason: String,
    /// The rest.
    pub message: String,
    /// How often in a row.
    pub times: u32,
    /// When to try again.
    pub not_before: Timestamp,
}
