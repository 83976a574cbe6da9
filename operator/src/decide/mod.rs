//! What to do about one job, given the facts. Pure: the same facts give the same decision, so that a reconcile can be cut
//! off anywhere and begun again.
//!
//! What must not be decided twice (revision, term, pods' numbers) goes into the status first, by a write that fails if
//! somebody else wrote since the facts were read; only then is anything created, told or deleted.

mod failures;
mod seats;
mod target;
mod term;

use std::time::Duration;

use jiff::Timestamp;
use millrace_crds::contract::{RunnerSettings, TermRequest};
use millrace_crds::spec::{ReservedPod, StreamingJobStatus};

use crate::build::revision_id;
use crate::facts::{Facts, PodFacts};
use crate::validate::{Invalid, Validated};

pub use failures::trouble;
pub use seats::is_ready;
pub use target::is_exhausted;

/// The longest time between two looks at a job that has pods: how its runners are is asked that often.
pub const LOOK_EVERY: Duration = Duration::from_secs(15);

/// What to do.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The status with what was decided in it: revisions, term, numbers. Conditions and measurements come later.
    pub status: StreamingJobStatus,
    /// Whether the candidate's ConfigMap is to be made.
    pub render: bool,
    /// Pods to create; their numbers are reserved in the status.
    pub create: Vec<ReservedPod>,
    /// Pods to tell something.
    pub tell: Vec<Tell>,
    /// Pods to delete.
    pub delete: Vec<Delete>,
    /// Revisions' ConfigMaps to delete, by name and uid.
    pub forget: Vec<(String, String)>,
    /// Whether the job is to have a disruption budget.
    pub budget: bool,
    /// When to look again at the latest.
    pub again: Duration,
}

/// What a pod is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tell {
    /// The pod's name.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// The term, as JSON.
    pub term: String,
    /// The settings, as JSON.
    pub settings: String,
    /// Whether it has the place of a pod of the running revision from now on.
    pub displaces: bool,
}

/// A pod to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// The pod's name.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// The version that was judged.
    pub version: String,
    /// Why, for people.
    pub why: String,
}

impl Delete {
    fn of(pod: &PodFacts, why: &str) -> Self {
        let (pod, uid, version) = (pod.name.clone(), pod.uid.clone(), pod.version.clone());
        Self { pod, uid, version, why: why.to_owned() }
    }
}

impl Decision {
    /// Whether it creates or deletes: then everything is read anew first, because what a cache shows may be old.
    pub fn is_grave(&self) -> bool {
        self.render || !self.create.is_empty() || !self.delete.is_empty() || !self.forget.is_empty()
    }

    /// Looks again after this time at the latest.
    fn within(&mut self, time: Duration) {
        self.again = self.again.min(time.max(Duration::from_millis(200)));
    }
}

/// Decides what to do about a job.
pub fn decide(facts: &Facts, valid: &Result<Validated, Invalid>) -> Decision {
    let mut decision = Decision {
        status: facts.job.status.clone(),
        render: false,
        create: Vec::new(),
        tell: Vec::new(),
        delete: Vec::new(),
        forget: Vec::new(),
        budget: facts.job.parallelism >= 2 && !facts.job.is_suspended(),
        again: if facts.pods.is_empty() { Duration::from_secs(300) } else { LOOK_EVERY },
    };
    if facts.job.deleting {
        return decision;
    }
    failures::count(facts, &mut decision.status);
    target::choose(facts, valid, &mut decision);
    target::promote(facts, &mut decision.status);
    target::note_completion(facts, &mut decision.status);
    term::choose(facts, &mut decision.status);
    seats::fill(facts, valid, &mut decision);
    seats::clear(facts, valid, &mut decision);
    tell(facts, valid, &mut decision);
    forget(facts, &mut decision);
    decision
}

/// The term that every pod of the job is to know, as JSON.
pub fn term_json(status: &StreamingJobStatus) -> String {
    let term = status.term.clone().unwrap_or_default();
    let hash = |number| {
        let all = status.revision.iter().chain(&status.candidate_revision);
        all.clone().find(|revision| revision.number == number).map(|revision| revision.hash.clone())
    };
    let request = TermRequest {
        generation: u64::try_from(term.generation).unwrap_or_default(),
        revision: revision_id(term.revision, &hash(term.revision).unwrap_or_default()),
        parallelism: term.parallelism,
    };
    serde_json::to_string(&request).unwrap_or_default()
}

/// The settings that every pod of the job is to know, as JSON.
pub fn settings_json(facts: &Facts, valid: &Result<Validated, Invalid>) -> String {
    let deadline = valid.as_ref().ok().map(|valid| valid.job.progress_deadline.as_secs().max(1));
    let settings = RunnerSettings {
        log_level: facts.job.log_level.clone(),
        progress_deadline_seconds: deadline,
        savepoint: facts.job.savepoint.clone(),
    };
    serde_json::to_string(&settings).unwrap_or_default()
}

/// Tells live pods the term and the settings if they know others.
fn tell(facts: &Facts, valid: &Result<Validated, Invalid>, decision: &mut Decision) {
    let (term, settings) = (term_json(&decision.status), settings_json(facts, valid));
    for pod in facts.pods.iter().filter(|pod| pod.is_live()) {
        // Without a valid spec nobody knows the settings; those told last stay.
        let settings = match (valid, &pod.settings) {
            (Err(_), Some(told)) => told,
            _ => &settings,
        };
        let knows = pod.term.as_deref() == Some(&term) && pod.settings.as_ref() == Some(settings);
        let displaces = decision.tell.iter().any(|tell| tell.pod == pod.name && tell.displaces);
        if knows && !displaces || decision.delete.iter().any(|delete| delete.pod == pod.name) {
            continue;
        }
        decision.tell.retain(|tell| tell.pod != pod.name);
        decision.tell.push(Tell {
            pod: pod.name.clone(),
            uid: pod.uid.clone(),
            term: term.clone(),
            settings: settings.clone(),
            displaces: displaces || pod.displaces,
        });
    }
}

/// Forgets revisions that nobody runs any more.
fn forget(facts: &Facts, decision: &mut Decision) {
    let status = &decision.status;
    let kept = |number: i64| {
        let named = status.revision.iter().chain(&status.candidate_revision).any(|revision| revision.number == number);
        named || facts.pods.iter().any(|pod| pod.revision == number)
    };
    let gone = facts.revisions.iter().filter(|revision| !kept(revision.number));
    decision.forget = gone.map(|revision| (revision.name.clone(), revision.uid.clone())).collect();
}

/// How long ago; nothing for what is to come.
pub fn age(now: Timestamp, since: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
