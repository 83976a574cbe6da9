//! The term: how the work is divided, and which revision may write.

use millrace_crds::spec::{StreamingJobStatus, TermStatus};

use crate::facts::Facts;
use crate::validate::rfc3339;

/// Asks for another term if the division or the running revision is another.
pub fn choose(facts: &Facts, status: &mut StreamingJobStatus) {
    let Some(active) = &status.revision else { return };
    if facts.job.is_suspended() {
        return;
    }
    let wanted = (active.number, facts.job.parallelism);
    if status.term.as_ref().is_some_and(|term| (term.revision, term.parallelism) == wanted) {
        return;
    }
    let generation = status.term.as_ref().map_or(0, |term| term.generation) + 1;
    let (revision, parallelism) = wanted;
    status.term = Some(TermStatus { generation, revision, parallelism, since: rfc3339(facts.now) });
}
