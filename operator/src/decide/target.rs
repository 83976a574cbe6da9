//! Which revision is to run: the one that runs, and the candidate that is tried beside it.

use millrace_crds::spec::{CompletionStatus, RevisionStatus, StreamingJobStatus};

use super::{Decision, failures};
use crate::facts::{Facts, PodFacts, Refused};
use crate::validate::{Invalid, Validated, rfc3339};

/// Chooses the candidate: the spec as it is now, unless it runs already or is wrong.
pub fn choose(facts: &Facts, valid: &Result<Validated, Invalid>, decision: &mut Decision) {
    let status = &mut decision.status;
    let Ok(valid) = valid else {
        // What was tried is not what the user wants any more.
        status.candidate_revision = None;
        return;
    };
    if status.revision.as_ref().is_some_and(|active| active.hash == valid.hash) {
        status.candidate_revision = None;
    } else if status.candidate_revision.as_ref().is_none_or(|candidate| candidate.hash != valid.hash) {
        let named = status.revision.iter().chain(&status.candidate_revision).map(|revision| revision.number);
        let made = facts.revisions.iter().map(|revision| revision.number);
        let used = facts.pods.iter().map(|pod| pod.revision);
        // An earlier job's ConfigMap of the same name says what that job was.
        let taken = facts.taken_revisions.iter().copied();
        let number = named.chain(made).chain(used).chain(taken).max().unwrap_or(0) + 1;
        let since = rfc3339(facts.now);
        let next = RevisionStatus { hash: valid.hash.clone(), number, since, validated: false };
        // Nothing runs that could be disturbed: the first revision is tried in place.
        match status.revision {
            None => status.revision = Some(next),
            Some(_) => status.candidate_revision = Some(next),
        }
        status.retries = None;
    }
    let wanted = status.candidate_revision.as_ref().or(status.revision.as_ref());
    decision.render = wanted.is_some_and(|wanted| {
        let made = facts.revisions.iter().any(|revision| revision.number == wanted.number);
        wanted.hash == valid.hash && !made && facts.may_try(Refused::Revision(wanted.number))
    });
}

/// Notes that a bounded job is done: any runner's word is enough, since the job log says it to all of them.
pub fn note_completion(facts: &Facts, status: &mut StreamingJobStatus) {
    let Some(active) = &status.revision else { return };
    if status.completion.as_ref().is_some_and(|completion| completion.revision == active.number) {
        return;
    }
    let done = |pod: &&PodFacts| pod.revision == active.number && pod.has_completed();
    let time = facts.pods.iter().filter(done).filter_map(|pod| pod.last_end.as_ref()).map(|end| end.finished).min();
    status.completion = time.map(|time| CompletionStatus { revision: active.number, time: rfc3339(time) });
}

/// Makes the candidate the revision that runs once every one of its pods was found valid; or once one of them says that the
/// job is done, for then none of them has anything to do.
pub fn promote(facts: &Facts, status: &mut StreamingJobStatus) {
    let started = |revision: i64, ordinal: u32| {
        let of = |pod: &&PodFacts| pod.revision == revision && pod.ordinal == ordinal && pod.is_live();
        facts.pods.iter().filter(of).any(|pod| pod.started)
    };
    let some_started = |revision: i64| facts.pods.iter().any(|pod| pod.revision == revision && pod.started);
    if let Some(active) = &mut status.revision {
        active.validated |= some_started(active.number);
    }
    let Some(candidate) = &mut status.candidate_revision else { return };
    candidate.validated |= some_started(candidate.number);
    let all = (0..facts.job.parallelism).all(|ordinal| started(candidate.number, ordinal));
    let done = facts.pods.iter().any(|pod| pod.revision == candidate.number && pod.has_completed());
    if (all && candidate.validated || done) && !facts.job.is_suspended() {
        let promoted = RevisionStatus { since: rfc3339(facts.now), ..candidate.clone() };
        status.candidate_revision = None;
        status.revision = Some(promoted);
        status.completion = None;
    }
}

/// Whether the running revision has failed more often in a row than it may.
pub fn is_exhausted(status: &StreamingJobStatus, valid: &Result<Validated, Invalid>) -> bool {
    let max = failures::policy(valid).max_retries;
    max.is_some_and(|max| status.retries.unwrap_or(0) > i64::from(max))
}
