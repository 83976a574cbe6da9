//! The conditions, each about the generation that was observed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use millrace_crds::contract::{FailureClass, RunnerSettings};
use millrace_crds::spec::{
    CONDITION_ACCEPTED, CONDITION_COMPLETED, CONDITION_DEGRADED, CONDITION_READY, CONDITION_RECONCILING,
    CONDITION_STALLED, CONDITION_SUSPENDED, StreamingJobStatus,
};

use super::{condition, is_true, timestamp};
use crate::decide::{Decision, age, is_exhausted, is_ready, trouble};
use crate::facts::{Facts, PodFacts};
use crate::failure::Failure;
use crate::validate::{Invalid, Validated};

/// The longest message of a condition, in bytes.
const MAX_MESSAGE: usize = 4096;

/// A StreamingJob reads to the end once, whatever is edited later: the runners' plan in the job log stands.
const COMPLETE: &str = "everything that was there was read, committed and published; neither an edit nor a restart reads \
                        more: to read what has come since, delete the job and create it again";

/// One answer: `True`, `False` or `Unknown`, with a reason and a message.
struct Answer {
    status: &'static str,
    reason: String,
    message: String,
}

fn answer(status: &'static str, reason: &str, message: impl Into<String>) -> Answer {
    Answer { status, reason: word(reason), message: message.into() }
}

/// A reason is one word, and never empty.
fn word(reason: &str) -> String {
    let word: String = reason.chars().filter(char::is_ascii_alphanumeric).collect();
    if word.starts_with(|c: char| c.is_ascii_alphabetic()) { word } else { "Failed".to_owned() }
}

/// Sets every condition.
pub fn set(facts: &Facts, valid: &Result<Validated, Invalid>, decision: &Decision, status: &mut StreamingJobStatus) {
    let view = View::of(facts, valid, decision, status);
    let answers = [
        (CONDITION_ACCEPTED, view.accepted()),
        (CONDITION_READY, view.ready()),
        (CONDITION_RECONCILING, view.reconciling()),
        (CONDITION_STALLED, view.stalled()),
        (CONDITION_DEGRADED, view.degraded()),
        (CONDITION_SUSPENDED, view.suspended()),
        (CONDITION_COMPLETED, view.completed()),
    ];
    let conditions = answers.map(|(kind, answer)| {
        let before = condition(&facts.job.status, kind).filter(|before| before.status == answer.status);
        let since = before.map_or(facts.now, |before| before.last_transition_time.0);
        Condition {
            type_: kind.to_owned(),
            status: answer.status.to_owned(),
            reason: answer.reason,
            message: cut(answer.message),
            observed_generation: Some(facts.job.generation),
            last_transition_time: Time(since),
        }
    });
    status.conditions = conditions.into();
}

fn cut(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        let mut end = MAX_MESSAGE - 4;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    message
}

/// What the conditions are told from.
struct View<'a> {
    facts: &'a Facts,
    valid: &'a Result<Validated, Invalid>,
    decision: &'a Decision,
    suspended: bool,
    complete: bool,
    exhausted: bool,
    /// Every seat of the running revision has a pod that is ready.
    all_ready: bool,
    /// What is wrong with a pod of the running revision, and of the candidate.
    active: Option<(&'a PodFacts, Failure)>,
    candidate: Option<(&'a PodFacts, Failure)>,
    trying: bool,
    validated: bool,
}

impl<'a> View<'a> {
    fn of(
        facts: &'a Facts,
        valid: &'a Result<Validated, Invalid>,
        decision: &'a Decision,
        status: &StreamingJobStatus,
    ) -> Self {
        let troubled = |revision: Option<i64>| {
            let of_revision = facts.pods.iter().filter(|pod| Some(pod.revision) == revision);
            // What only its user can mend is said first.
            let troubles = of_revision.filter_map(|pod| trouble(pod, facts.now).map(|failure| (pod, failure)));
            troubles.min_by_key(|(pod, failure)| (rank(failure.class), pod.number))
        };
        let active = status.revision.as_ref().map(|revision| revision.number);
        let complete = status.completion.as_ref().is_some_and(|completion| Some(completion.revision) == active);
        Self {
            facts,
            valid,
            decision,
            suspended: facts.job.is_suspended(),
            complete,
            exhausted: is_exhausted(status, valid),
            all_ready: active.is_some_and(|active| is_ready(facts, active)),
            active: troubled(active).filter(|_| !complete),
            candidate: status.candidate_revision.as_ref().and_then(|candidate| troubled(Some(candidate.number))),
            trying: status.candidate_revision.is_some(),
            validated: status.revision.as_ref().is_some_and(|revision| revision.validated),
        }
    }

    /// Is the spec, as it is now, one that can run?
    fn accepted(&self) -> Answer {
        if let Err(invalid) = self.valid {
            return answer("False", "InvalidSpec", invalid.to_string());
        }
        let troubled = if self.trying { &self.candidate } else { &self.active };
        if !self.trying && (self.validated || self.complete) {
            return answer("True", "Validated", "the spec is valid, and a runner found what it names");
        }
        let said = troubled.as_ref().map(|(_, failure)| failure).filter(|failure| is_users(failure.class));
        match said.cloned().or_else(|| self.reported(true)) {
            Some(failure) => answer("False", &failure.reason, failure.message),
            None => answer("Unknown", "Validating", "a runner has still to try the spec against Kafka and the store"),
        }
    }

    fn ready(&self) -> Answer {
        if self.suspended {
            return answer("True", "Suspended", "suspended, as the spec has it; the checkpoint is kept");
        }
        if self.complete {
            return answer("True", "Completed", COMPLETE);
        }
        if self.all_ready {
            let behind = self.valid.is_err() || self.trying;
            return match behind {
                true => answer("True", "PreviousRevisionRunning", "runs as the spec was before the last change"),
                false => answer("True", "Running", "every runner holds its tasks and makes progress"),
            };
        }
        if self.exhausted {
            return answer("False", "RetriesExhausted", self.exhausted_message());
        }
        if let Some((pod, failure)) = &self.active {
            let status = if pod.node_lost { "Unknown" } else { "False" };
            return answer(status, &failure.reason, format!("pod {}: {}", pod.name, failure.message));
        }
        if self.facts.job.status.revision.is_none() && self.valid.is_err() {
            return answer("False", "InvalidSpec", "nothing runs: the spec is not valid");
        }
        let reported = self.reported(true).or_else(|| self.reported(false));
        let why = reported.map(|failure| format!(": {}", failure.message)).unwrap_or_default();
        if let Some((pod, deadline)) = self.idle() {
            let message = format!(
                "pod {} has made no progress within the progressDeadline of {deadline} s: it commits nothing, or waits for \
                 tasks that are its own{}{why}",
                pod.name,
                self.behind(pod)
            );
            return answer("False", "NoProgress", message);
        }
        answer("False", "Starting", format!("not every runner holds its tasks and makes progress yet{why}"))
    }

    /// A pod whose runner is valid and has not done its part for longer than it was told it may, and how many seconds that is.
    fn idle(&self) -> Option<(&PodFacts, u64)> {
        let status = &self.decision.status;
        let active = status.revision.as_ref()?.number;
        let told = status.term.as_ref().and_then(|term| timestamp(&term.since))?;
        let of_job = |pod: &&PodFacts| pod.revision == active && pod.ordinal < self.facts.job.parallelism;
        self.facts.pods.iter().filter(of_job).find_map(|pod| {
            let is_idle = pod.is_live() && pod.started && !pod.ready && !pod.node_lost;
            let since = pod.running_since.filter(|_| is_idle)?.max(told);
            let settings: RunnerSettings = serde_json::from_str(pod.settings.as_ref()?).ok()?;
            let deadline = settings.progress_deadline_seconds?;
            (age(self.facts.now, since).as_secs() >= deadline).then_some((pod, deadline))
        })
    }

    /// What a runner says of how far it is behind.
    fn behind(&self, pod: &PodFacts) -> String {
        let Some(report) = self.facts.reports.get(&pod.name) else { return String::new() };
        let lag = report.lag.values().map(|lag| lag.records).sum::<u64>();
        let lag = (!report.lag.is_empty()).then(|| format!("; {lag} messages wait")).unwrap_or_default();
        let commit = report.last_commit.as_ref().map(|commit| format!("; its last commit was at {}", commit.time));
        lag + &commit.unwrap_or_default()
    }

    fn reconciling(&self) -> Answer {
        // Tools that know no job of ours take the first of the two that is true.
        if self.stall().is_some() {
            return answer("False", "Stalled", "a person has to help first");
        }
        if self.suspended {
            let left = self.facts.pods.len();
            return match left {
                0 => answer("False", "Settled", "the job is as its spec has it"),
                _ => answer("True", "Stopping", format!("{left} pods are still stopping")),
            };
        }
        if self.trying {
            let why = self.candidate.as_ref().map(|(pod, failure)| format!(": pod {}: {}", pod.name, failure.message));
            let why = why.unwrap_or_default();
            return answer("True", "TryingRevision", format!("the last change of the spec is being tried{why}"));
        }
        let busy = !self.decision.create.is_empty() || !self.decision.delete.is_empty();
        // Nobody knows when a pod goes whose node is not heard of.
        let going = self.facts.pods.iter().any(|pod| pod.deleting && !pod.node_lost);
        // They still hand over what they have.
        let surplus = self.facts.pods.iter().any(|pod| pod.is_live() && pod.ordinal >= self.facts.job.parallelism);
        let waits = !self.all_ready && self.idle().is_none();
        if !self.complete && (busy || going || surplus || waits) {
            return answer("True", "BringingAbout", "pods are being started, told or stopped");
        }
        answer("False", "Settled", "the job is as its spec has it")
    }

    fn stalled(&self) -> Answer {
        match self.stall() {
            Some(failure) => answer("True", &failure.reason, &*failure.message),
            None => answer("False", "NotStalled", ""),
        }
    }

    /// What only a person can mend.
    fn stall(&self) -> Option<Failure> {
        if let Err(invalid) = self.valid {
            let failure =
                Failure { class: FailureClass::User, reason: "InvalidSpec".to_owned(), message: invalid.to_string() };
            return Some(failure);
        }
        if self.suspended {
            return None;
        }
        if self.exhausted && !self.trying {
            let message = self.exhausted_message();
            let failure = Failure { class: FailureClass::Internal, reason: "RetriesExhausted".to_owned(), message };
            return Some(failure);
        }
        let both = [&self.candidate, &self.active];
        let ended = both.into_iter().flatten().find(|(_, failure)| is_users(failure.class));
        let ended = ended.map(|(pod, failure)| {
            let message = format!("pod {}: {}", pod.name, failure.message);
            Failure { message, ..failure.clone() }
        });
        ended.or_else(|| self.reported(true))
    }

    fn exhausted_message(&self) -> String {
        let last = self.decision.status.last_failure.as_ref();
        let last = last.map(|failure| format!("; the last time: {}", failure.message)).unwrap_or_default();
        format!(
            "the job failed more often in a row than restart.maxRetries allows; change the spec, or annotate the job with a \
             new millrace.dev/restart-nonce{last}"
        )
    }

    fn degraded(&self) -> Answer {
        if self.suspended {
            return answer("False", "Suspended", "");
        }
        if let Some(refusal) = self.facts.refusals.first() {
            return answer("True", &refusal.reason, &*refusal.message);
        }
        let both = [&self.active, &self.candidate];
        if let Some((pod, failure)) = both.into_iter().flatten().find(|(_, failure)| !is_users(failure.class)) {
            return answer("True", &failure.reason, format!("pod {}: {}", pod.name, failure.message));
        }
        match self.reported(false) {
            Some(failure) => answer("True", &failure.reason, failure.message),
            None => answer("False", "NotDegraded", ""),
        }
    }

    /// What a runner says of itself while it goes on trying: what only a person can mend, or what will pass.
    fn reported(&self, users: bool) -> Option<Failure> {
        let live = self.facts.pods.iter().filter(|pod| pod.is_live());
        let degraded = live.filter_map(|pod| Some((pod, self.facts.reports.get(&pod.name)?.degraded.as_ref()?)));
        let class = |class: Option<FailureClass>| class.unwrap_or(FailureClass::External);
        let (pod, degraded) = degraded
            .filter(|(_, degraded)| is_users(class(degraded.class)) == users)
            .min_by_key(|(pod, _)| pod.number)?;
        let message = format!("pod {}: {} (since {})", pod.name, degraded.message, degraded.since);
        Some(Failure { class: class(degraded.class), reason: degraded.reason.clone(), message })
    }

    fn suspended(&self) -> Answer {
        match self.suspended {
            true => answer("True", "Suspended", "spec.suspend is true, or spec.parallelism is 0"),
            false => answer("False", "NotSuspended", ""),
        }
    }

    fn completed(&self) -> Answer {
        match self.complete {
            true => answer("True", "Completed", COMPLETE),
            false => answer(
                "False",
                if is_true(&self.facts.job.status, CONDITION_COMPLETED) { "StartedAgain" } else { "NotCompleted" },
                "",
            ),
        }
    }
}

/// Whether only a person can mend it.
fn is_users(class: FailureClass) -> bool {
    matches!(class, FailureClass::User | FailureClass::Data)
}

fn rank(class: FailureClass) -> u8 {
    match class {
        FailureClass::User | FailureClass::Data => 0,
        FailureClass::Internal => 1,
        FailureClass::Placement => 2,
        FailureClass::Infrastructure => 3,
        FailureClass::External => 4,
    }
}
