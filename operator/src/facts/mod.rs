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
    /// What could not be created, and when that may be tried again.
    pub refusals: Vec<Refusal>,
}

impl Facts {
    /// When something may be tried again that was refused; `None`: it was not.
    pub fn refused_until(&self, what: Refused) -> Option<Timestamp> {
        self.refusals.iter().find(|refusal| refusal.what == what).map(|refusal| refusal.not_before)
    }

    /// Whether something may be tried now.
    pub fn may_try(&self, what: Refused) -> bool {
        self.refused_until(what).is_none_or(|not_before| not_before <= self.now)
    }
}

/// What can be refused. What one of them waits for holds up none of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The ConfigMap of a revision, or a pod of it.
    Revision(i64),
    /// The disruption budget.
    Budget,
}

/// Why something could not be created, in the API server's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What.
    pub what: Refused,
    /// One word, in CamelCase.
    pub reason: String,
    /// The rest.
    pub message: String,
    /// How often in a row.
    pub times: u32,
    /// When to try again.
    pub not_before: Timestamp,
}
