//! Which pods there are to be: every seat (revision, ordinal) has one, and none is without a seat.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use millrace_crds::Restart;
use millrace_crds::contract::FailureClass;
use millrace_crds::spec::{ReservedPod, StreamingJobStatus};

use super::{Decision, Delete, Tell, age, failures, is_exhausted};
use crate::facts::{Facts, PodFacts, Refused};
use crate::failure;
use crate::status::timestamp;
use crate::validate::{Invalid, Validated};

/// How long a candidate's pod may find no node before a pod of the running revision makes room for it.
const SURGE_PATIENCE: Duration = Duration::from_secs(60);
/// How long the old revision's pods may stay once the new one runs, at most.
const HANDOVER: Duration = Duration::from_secs(60);
/// How long a surplus pod may take to hand its tasks over, at most.
const RELEASE: Duration = Duration::from_secs(30);

/// What becomes of a pod in its seat.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// It stays.
    Keep,
    /// It is going, or over: it holds no seat.
    Gone,
    /// Another pod takes its seat, at this time.
    Replace {
        /// Why, for people.
        why: &'static str,
        /// When.
        at: Timestamp,
    },
}

/// Judges a pod in its seat.
fn fate(pod: &PodFacts, now: Timestamp, retries: u32, policy: &Restart) -> Fate {
    if !pod.is_live() {
        return Fate::Gone;
    }
    if pod.node_lost || pod.disrupted {
        let why = if pod.node_lost { "its node is not heard of any more" } else { "it is about to be evicted" };
        return Fate::Replace { why, at: now };
    }
    let Some(waiting) = &pod.waiting else { return Fate::Keep };
    if waiting.reason == "CrashLoopBackOff" {
        // The kubelet doubles its pause up to five minutes, whatever the reason. Where ours is shorter, a new pod begins
        // with none.
        let Some(end) = &pod.last_end else { return Fate::Keep };
        let class = failure::of_end(end, false).map_or(FailureClass::Internal, |failure| failure.class);
        let at = later(end.finished, failure::pause(class, retries.max(1), policy, chance(&pod.uid)));
        return Fate::Replace { why: "the kubelet would wait longer before it starts the runner again", at };
    }
    if failure::is_image_overdue(waiting, age(now, pod.created)) {
        return Fate::Replace { why: "its image does not come", at: now };
    }
    Fate::Keep
}

/// Gives every seat a pod.
pub fn fill(facts: &Facts, valid: &Result<Validated, Invalid>, decision: &mut Decision) {
    let policy = failures::policy(valid);
    let retries = u32::try_from(decision.status.retries.unwrap_or(0)).unwrap_or(0);
    make_room(facts, decision);
    for (revision, ordinal) in seats(facts, valid, decision) {
        let mut live: Vec<&PodFacts> = facts
            .pods
            .iter()
            .filter(|pod| (pod.revision, pod.ordinal) == (revision, ordinal) && pod.is_live())
            .collect();
        live.sort_by_key(|pod| std::cmp::Reverse(pod.number));
        for pod in live.iter().skip(1) {
            decision.delete.push(Delete::of(pod, "a newer pod has its place"));
        }
        let at = match live.first() {
            None => not_before(facts, decision, (revision, ordinal), retries, &policy),
            Some(pod) => match fate(pod, facts.now, retries, &policy) {
                Fate::Keep | Fate::Gone => continue,
                Fate::Replace { why, at } => {
                    if at <= facts.now {
                        decision.delete.push(Delete::of(pod, why));
                    }
                    at
                }
            },
        };
        let at = facts.refused_until(Refused::Revision(revision)).map_or(at, |refused| at.max(refused));
        if at <= facts.now {
            reserve(facts, decision, revision, ordinal);
        } else {
            decision.within(age(at, facts.now));
        }
    }
    let create = decision.create.clone();
    decision.status.reserved.retain(|reserved| create.contains(reserved));
}

/// The seats that are to be taken.
fn seats(facts: &Facts, valid: &Result<Validated, Invalid>, decision: &Decision) -> Vec<(i64, u32)> {
    let status = &decision.status;
    if facts.job.is_suspended() {
        return Vec::new();
    }
    let displaced =
        |ordinal: u32| facts.pods.iter().any(|pod| pod.displaces && pod.is_live() && pod.ordinal == ordinal);
    let mut seats = Vec::new();
    if let Some(active) = &status.revision {
        let done = status.completion.as_ref().is_some_and(|completion| completion.revision == active.number);
        if !done && !is_exhausted(status, valid) {
            let candidate = status.candidate_revision.is_some();
            let ordinals = (0..facts.job.parallelism).filter(|ordinal| !candidate || !displaced(*ordinal));
            seats.extend(ordinals.map(|ordinal| (active.number, ordinal)));
        }
    }
    if let Some(candidate) = &status.candidate_revision {
        // One tries first. The others follow once it was found valid.
        let tried = if candidate.validated { facts.job.parallelism } else { 1 };
        seats.extend((0..tried).map(|ordinal| (candidate.number, ordinal)));
    }
    seats
}

/// Where the cluster has no place for a candidate beside the running pods, one of these makes room.
fn make_room(facts: &Facts, decision: &mut Decision) {
    let (Some(active), Some(candidate)) = (&decision.status.revision, &decision.status.candidate_revision) else {
        return;
    };
    let (active, candidate) = (active.number, candidate.number);
    let mine = facts.pods.iter().filter(|pod| pod.revision == candidate && pod.is_live() && !pod.displaces);
    for pod in mine {
        let Some((_, since)) = &pod.unscheduled else { continue };
        let waited = age(facts.now, *since);
        if waited < SURGE_PATIENCE {
            decision.within(SURGE_PATIENCE - waited);
            continue;
        }
        let old = facts.pods.iter().find(|old| old.revision == active && old.ordinal == pod.ordinal && old.is_live());
        if let Some(old) = old {
            decision.delete.push(Delete::of(old, "it makes room for the next revision, which finds no other place"));
        }
        decision.tell.push(Tell {
            pod: pod.name.clone(),
            uid: pod.uid.clone(),
            term: String::new(),
            settings: String::new(),
            displaces: true,
        });
    }
}

/// When a seat that has no pod may get one: at once, unless the pod before it failed. What a revision before this one did
/// does not count.
fn not_before(facts: &Facts, decision: &Decision, seat: (i64, u32), retries: u32, policy: &Restart) -> Timestamp {
    let (revision, ordinal) = seat;
    let status = &decision.status;
    let Some(failure) = &status.last_failure else { return facts.now };
    let revisions = status.revision.iter().chain(&status.candidate_revision);
    let since = revisions.filter(|known| known.number == revision).find_map(|known| timestamp(&known.since));
    let of_seat = failure.pod.starts_with(&format!("{}-{ordinal}-", facts.job.name));
    match (timestamp(&failure.time), failure.class) {
        (Some(at), Some(class)) if of_seat && since.is_none_or(|since| at > since) => {
            later(at, failure::pause(class, retries.max(1), policy, chance(&failure.pod)))
        }
        _ => facts.now,
    }
}

/// Gives a seat's next pod its number: the one that was reserved before, unless that pod was created.
fn reserve(facts: &Facts, decision: &mut Decision, revision: i64, ordinal: u32) {
    let status = &mut decision.status;
    let used = || facts.pods.iter().map(|pod| pod.number).chain(facts.taken.iter().copied());
    let exists = |number: i64| used().any(|used| used == number);
    let reserved = status
        .reserved
        .iter()
        .find(|reserved| (reserved.revision, reserved.ordinal) == (revision, ordinal) && !exists(reserved.number));
    let seat = match reserved {
        Some(reserved) => reserved.clone(),
        None => {
            let above = used().max().unwrap_or(0) + 1;
            let number = status.next_pod_number.unwrap_or(1).max(above);
            status.next_pod_number = Some(number + 1);
            let seat = ReservedPod { ordinal, revision, number };
            status.reserved.push(seat.clone());
            seat
        }
    };
    decision.create.push(seat);
}

/// Deletes pods that hold no seat.
pub fn clear(facts: &Facts, valid: &Result<Validated, Invalid>, decision: &mut Decision) {
    let exhausted = is_exhausted(&decision.status, valid);
    for pod in facts.pods.iter().filter(|pod| !pod.deleting) {
        let why = match leaving(facts, valid, &decision.status, pod, exhausted) {
            Leaving::Now(why) => why,
            Leaving::In(time) => {
                decision.within(time);
                continue;
            }
            Leaving::No => continue,
        };
        if !decision.delete.iter().any(|delete| delete.pod == pod.name) {
            decision.delete.push(Delete::of(pod, why));
        }
    }
}

enum Leaving {
    Now(&'static str),
    In(Duration),
    No,
}

fn leaving(
    facts: &Facts,
    valid: &Result<Validated, Invalid>,
    status: &StreamingJobStatus,
    pod: &PodFacts,
    exhausted: bool,
) -> Leaving {
    let Some(active) = &status.revision else { return Leaving::Now("the job has no revision") };
    if facts.job.is_suspended() {
        return Leaving::Now("the job is suspended");
    }
    let completed = status.completion.as_ref().filter(|completion| completion.revision == active.number);
    if let Some(completion) = completed.filter(|_| pod.revision == active.number) {
        let ttl = valid.as_ref().ok().and_then(|valid| valid.job.ttl_after_finished);
        return match (ttl, timestamp(&completion.time)) {
            (Some(ttl), Some(time)) => after(facts.now, time, ttl, "the job is complete"),
            _ => Leaving::No,
        };
    }
    if pod.over.is_some() {
        return Leaving::Now("nothing of it runs any more");
    }
    if pod.revision == active.number {
        if exhausted {
            return Leaving::Now("the job has failed too often in a row");
        }
        if pod.ordinal < facts.job.parallelism {
            return Leaving::No;
        }
        let Some(term) = &status.term else { return Leaving::Now("it has no place in the job") };
        let told = pod.term.as_deref() == Some(&super::term_json(status));
        return match timestamp(&term.since) {
            // It is not ready because it has handed everything over.
            _ if told && !pod.ready => Leaving::Now("it has no place in the job"),
            Some(since) => after(facts.now, since, RELEASE, "it has no place in the job"),
            None => Leaving::Now("it has no place in the job"),
        };
    }
    match &status.candidate_revision {
        Some(candidate) if candidate.number == pod.revision && pod.ordinal < facts.job.parallelism => Leaving::No,
        _ if pod.revision > active.number => Leaving::Now("its revision is not wanted any more"),
        // The old revision's pods have handed over when the new one's are ready.
        _ if is_ready(facts, active.number) => Leaving::Now("a newer revision has taken over"),
        _ => match timestamp(&active.since) {
            Some(since) => after(facts.now, since, HANDOVER, "a newer revision has taken over"),
            None => Leaving::Now("a newer revision has taken over"),
        },
    }
}

/// Whether every seat of a revision has a pod that is ready.
pub fn is_ready(facts: &Facts, revision: i64) -> bool {
    (0..facts.job.parallelism).all(|ordinal| {
        let mut of_seat = facts.pods.iter().filter(|pod| (pod.revision, pod.ordinal) == (revision, ordinal));
        of_seat.any(|pod| pod.is_live() && pod.ready && !pod.node_lost)
    })
}

fn after(now: Timestamp, since: Timestamp, time: Duration, why: &'static str) -> Leaving {
    let passed = age(now, since);
    if passed >= time { Leaving::Now(why) } else { Leaving::In(time - passed) }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| at.checked_add(by).ok()).unwrap_or(at)
}

/// A number from 0 to 1 that is the same each time for the same pod, so that a decision can be taken again.
fn chance(of: &str) -> f64 {
    let hash = of
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}
