#![allow(clippy::unwrap_used, clippy::panic)]

//! A job in a cluster of values: what is decided is done at once, and the kubelet is played by the test.

use jiff::{SignedDuration, Timestamp};
use millrace_crds::contract::TerminationMessage;
use millrace_crds::spec::{
    CONDITION_ACCEPTED, CONDITION_COMPLETED, CONDITION_DEGRADED, CONDITION_READY, CONDITION_RECONCILING,
    CONDITION_STALLED,
};
use serde_json::{Value, json};

use super::*;
use crate::facts::{End, JobFacts, JobObject, Over, RevisionFacts, Said};
use crate::status::{condition, status as say};
use crate::validate::validate;

struct World {
    object: JobObject,
    now: Timestamp,
    pods: Vec<PodFacts>,
    revisions: Vec<RevisionFacts>,
    version: u64,
}

fn spec(sql: &str, parallelism: u32) -> Value {
    json!({
        "sources": [{ "name": "orders", "kafka": { "bootstrapServers": "kafka:9092", "topics": ["orders"] },
                      "format": { "json": { "schema": "id BIGINT" } } }],
        "outputs": [{ "name": "lake", "sql": sql, "parquet": { "path": "s3://lake/orders" } }],
        "checkpoint": { "location": "s3://lake/_checkpoints/orders" },
        "parallelism": parallelism,
    })
}

impl World {
    fn new(parallelism: u32) -> Self {
        let object = json!({
            "metadata": { "name": "orders", "namespace": "shop", "uid": "u-1", "resourceVersion": "1", "generation": 1 },
            "spec": spec("SELECT id FROM orders", parallelism),
        });
        let object = serde_json::from_value(object).unwrap();
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        Self { object, now, pods: Vec::new(), revisions: Vec::new(), version: 1 }
    }

    fn facts(&self) -> Facts {
        Facts {
            now: self.now,
            job: JobFacts::of(&self.object).unwrap(),
            pods: self.pods.clone(),
            revisions: self.revisions.clone(),
            reports: Default::default(),
            taken: Vec::new(),
            taken_revisions: Vec::new(),
            refusals: Vec::new(),
        }
    }

    fn status(&self) -> StreamingJobStatus {
        self.facts().job.status
    }

    fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.object.spec);
        *self.object.metadata.generation.as_mut().unwrap() += 1;
    }

    /// One reconcile; the API server does what it is told.
    fn step(&mut self) -> Decision {
        let facts = self.facts();
        let valid = validate(&self.object, &facts.job);
        let decision = decide(&facts, &valid);
        if decision.render {
            let wanted = decision.status.candidate_revision.as_ref().or(decision.status.revision.as_ref()).unwrap();
            let name = format!("orders-r{}", wanted.number);
            let (number, hash) = (wanted.number, wanted.hash.clone());
            self.revisions.push(RevisionFacts { uid: name.clone(), name, number, hash, template: None });
        }
        let (term, settings) = (term_json(&decision.status), settings_json(&facts, &valid));
        for seat in &decision.create {
            let name = format!("orders-{}-{}", seat.ordinal, seat.number);
            assert!(self.pods.iter().all(|pod| pod.name != name), "{name} is created a second time");
            self.pods.push(PodFacts {
                uid: format!("uid-of-{name}"),
                name,
                version: "1".into(),
                ordinal: seat.ordinal,
                number: seat.number,
                revision: seat.revision,
                created: self.now,
                ip: None,
                deleting: false,
                over: None,
                started: false,
                ready: false,
                running: false,
                running_since: None,
                waiting: None,
                unscheduled: None,
                node_lost: false,
                disrupted: false,
                last_end: None,
                term: Some(term.clone()),
                settings: Some(settings.clone()),
                displaces: false,
            });
        }
        for tell in &decision.tell {
            let pod = self.pods.iter_mut().find(|pod| pod.name == tell.pod).unwrap();
            pod.term = Some(tell.term.clone());
            pod.settings = Some(tell.settings.clone());
            pod.displaces |= tell.displaces;
        }
        for delete in &decision.delete {
            self.pods.iter_mut().find(|pod| pod.name == delete.pod).unwrap().deleting = true;
        }
        self.revisions.retain(|revision| decision.forget.iter().all(|(name, _)| *name != revision.name));
        self.version += 1;
        self.object.status = Some(serde_json::to_value(say(&facts, &valid, &decision)).unwrap());
        self.object.metadata.resource_version = Some(self.version.to_string());
        decision
    }

    /// Reconciles until nothing is to be done, pods that were asked to go being gone and the others as `play` has them.
    fn settle(&mut self, play: impl Fn(&mut PodFacts)) {
        let mut quiet = 0;
        for _ in 0..30 {
            let decision = self.step();
            self.pods.retain(|pod| !pod.deleting);
            self.pods.iter_mut().for_each(&play);
            self.later(1);
            let busy = decision.is_grave() || !decision.tell.is_empty() || !decision.forget.is_empty();
            quiet = if busy { 0 } else { quiet + 1 };
            if quiet == 2 {
                return;
            }
        }
        panic!("it does not settle: {:#?}", self.pods);
    }

    fn later(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    fn pod(&mut self, name: &str) -> &mut PodFacts {
        self.pods.iter_mut().find(|pod| pod.name == name).unwrap_or_else(|| panic!("there is no pod {name}"))
    }

    fn names(&self) -> Vec<&str> {
        self.pods.iter().filter(|pod| pod.is_live()).map(|pod| pod.name.as_str()).collect()
    }

    fn says(&self, kind: &str) -> (String, String) {
        let status = self.status();
        let condition = condition(&status, kind).unwrap();
        (condition.status.clone(), condition.reason.clone())
    }
}

/// A runner that is valid and works.
fn works(pod: &mut PodFacts) {
    (pod.running, pod.started, pod.ready, pod.waiting) = (true, true, true, None);
}

/// A runner whose bounded job is done.
fn completes(pod: &mut PodFacts) {
    (pod.running, pod.started, pod.ready, pod.over) = (false, false, false, Some(Over::Succeeded));
    let said = TerminationMessage { completed: true, ..TerminationMessage::default() };
    let finished = pod.created;
    pod.last_end = Some(End { exit_code: 0, reason: "Completed".into(), finished, message: Some(said) });
}

fn ends(pod: &mut PodFacts, at: Timestamp, exit_code: i32, message: Option<TerminationMessage>) {
    (pod.running, pod.started, pod.ready) = (false, false, false);
    pod.waiting = Some(Said { reason: "CrashLoopBackOff".into(), message: "back-off 5m0s".into() });
    pod.last_end = Some(End { exit_code, reason: "Error".into(), finished: at, message });
}

fn is(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn a_new_job_gets_its_pods_at_once_and_is_ready_when_they_are() {
    let mut world = World::new(2);
    let decision = world.step();
    assert!(decision.render && decision.budget);
    assert_eq!(world.names(), ["orders-0-1", "orders-1-2"]);
    assert_eq!(world.says(CONDITION_READY), is("False", "Starting"));
    assert_eq!(world.says(CONDITION_RECONCILING).0, "True");
    assert!(world.pods[0].term.as_ref().unwrap().contains(r#""generation":1,"revision":"1-"#));
    world.settle(works);
    assert_eq!(world.says(CONDITION_READY), is("True", "Running"));
    assert_eq!(world.says(CONDITION_ACCEPTED), is("True", "Validated"));
    assert_eq!(world.says(CONDITION_RECONCILING), is("False", "Settled"));
    assert_eq!((world.status().replicas, world.status().ready_replicas), (Some(2), Some(2)));
    assert!(world.status().reserved.is_empty());
}

#[test]
fn an_operator_that_died_after_it_wrote_the_numbers_creates_the_very_same_pods() {
    let mut world = World::new(2);
    let facts = world.facts();
    let valid = validate(&world.object, &facts.job);
    let first = decide(&facts, &valid);
    world.object.status = Some(serde_json::to_value(&first.status).unwrap());
    let again = world.step();
    assert_eq!(first.create, again.create);
    assert_eq!(world.names(), ["orders-0-1", "orders-1-2"]);
}

#[test]
fn a_deleted_pod_is_replaced_while_it_still_stops() {
    let mut world = World::new(1);
    world.settle(works);
    world.pod("orders-0-1").deleting = true;
    world.step();
    assert_eq!(world.names(), ["orders-0-2"]);
    assert_eq!(world.pods.len(), 2);
}

#[test]
fn a_pod_of_a_lost_node_is_replaced_and_its_job_is_not_known_to_be_ready() {
    let mut world = World::new(1);
    world.settle(works);
    world.pod("orders-0-1").node_lost = true;
    let decision = world.step();
    assert_eq!(decision.delete.len(), 1);
    assert_eq!(world.names(), ["orders-0-2"]);
    assert_eq!(world.says(CONDITION_READY).0, "Unknown");
}

#[test]
fn a_runner_that_is_killed_now_and_then_is_back_at_once_however_long_the_kubelet_would_wait() {
    let mut world = World::new(1);
    world.settle(works);
    for round in 1..=10 {
        let name = world.names()[0].to_owned();
        let now = world.now;
        ends(world.pod(&name), now, 137, None);
        world.step();
        assert_eq!(world.names(), [format!("orders-0-{}", round + 1)], "round {round}");
        assert_eq!(world.status().retries, Some(1));
        world.settle(works);
    }
    assert_eq!(world.status().restarts, Some(10));
}

#[test]
fn a_runner_that_crashes_before_it_is_ready_is_tried_less_and_less_often() {
    let mut world = World::new(1);
    let mut pauses = Vec::new();
    world.step();
    for _ in 0..6 {
        let now = world.now;
        let name = world.names()[0].to_owned();
        ends(world.pod(&name), now, 101, None);
        let mut waited = 0;
        while world.names() == [name.as_str()] {
            world.step();
            world.pods.retain(|pod| !pod.deleting);
            world.later(1);
            waited += 1;
            assert!(waited < 400);
        }
        pauses.push(waited);
    }
    assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]) && pauses[5] > 20, "{pauses:?}");
}

#[test]
fn after_too_many_failures_in_a_row_nothing_runs_until_the_job_is_changed() {
    let mut world = World::new(1);
    world.edit(|spec| spec["restart"] = json!({ "maxRetries": 2 }));
    world.step();
    for _ in 0..200 {
        if let Some(name) = world.names().first().map(ToString::to_string) {
            let now = world.now;
            ends(world.pod(&name), now, 101, None);
        }
        world.step();
        world.pods.retain(|pod| !pod.deleting);
        world.later(1);
    }
    assert!(world.names().is_empty());
    assert_eq!(world.says(CONDITION_STALLED), is("True", "RetriesExhausted"));
    world.edit(|spec| spec["outputs"][0]["sql"] = "SELECT id + 0 AS id FROM orders".into());
    world.settle(works);
    assert_eq!(world.says(CONDITION_READY), is("True", "Running"));
}

#[test]
fn a_users_mistake_stalls_the_job_with_the_runners_words_and_is_tried_again_within_a_minute() {
    let mut world = World::new(1);
    world.step();
    let said = TerminationMessage {
        class: Some(millrace_crds::contract::FailureClass::User),
        reason: "TopicMissing".into(),
        message: "topic `orders` is not there".into(),
        ..TerminationMessage::default()
    };
    let now = world.now;
    ends(world.pod("orders-0-1"), now, 64, Some(said));
    world.step();
    assert_eq!(world.says(CONDITION_STALLED), is("True", "TopicMissing"));
    assert_eq!(world.says(CONDITION_ACCEPTED), is("False", "TopicMissing"));
    assert_eq!(world.names(), ["orders-0-1"]);
    world.later(50);
    world.step();
    assert_eq!(world.names(), ["orders-0-2"]);
    world.settle(works);
    assert_eq!(world.says(CONDITION_STALLED).0, "False");
    assert_eq!(world.says(CONDITION_READY).0, "True");
}

#[test]
fn a_bad_edit_leaves_the_running_revision_alone_and_a_good_one_replaces_it() {
    let mut world = World::new(2);
    world.settle(works);
    world.edit(|spec| spec["outputs"][0]["sql"] = "SELECT wrong FROM orders".into());
    world.step();
    assert_eq!(world.names(), ["orders-0-1", "orders-1-2", "orders-0-3"], "one candidate tries first");
    assert!(world.pod("orders-0-3").term.as_ref().unwrap().contains(r#""revision":"1-"#), "it has no term of its own");
    let said = TerminationMessage {
        class: Some(millrace_crds::contract::FailureClass::User),
        reason: "Sql".into(),
        ..TerminationMessage::default()
    };
    let now = world.now;
    ends(world.pod("orders-0-3"), now, 64, Some(said));
    world.step();
    assert_eq!(world.says(CONDITION_READY), is("True", "PreviousRevisionRunning"));
    assert_eq!(world.says(CONDITION_STALLED), is("True", "Sql"));
    assert_eq!(world.says(CONDITION_ACCEPTED), is("False", "Sql"));

    world.edit(|spec| spec["outputs"][0]["sql"] = "SELECT id, 1 AS one FROM orders".into());
    world.step();
    assert_eq!(world.status().candidate_revision.unwrap().number, 3);
    world.pods.retain(|pod| !pod.deleting);
    works(world.pod("orders-0-4"));
    world.pod("orders-0-4").ready = false;
    world.step();
    assert_eq!(world.names(), ["orders-0-1", "orders-1-2", "orders-0-4", "orders-1-5"]);
    world.settle(works);
    assert_eq!(world.names(), ["orders-0-4", "orders-1-5"]);
    assert_eq!(world.status().revision.unwrap().number, 3);
    assert_eq!(world.status().term.unwrap().generation, 2);
    assert_eq!(world.says(CONDITION_READY), is("True", "Running"));
    assert_eq!(world.revisions.iter().map(|revision| revision.number).collect::<Vec<_>>(), [3]);
}

#[test]
fn going_back_to_what_runs_only_drops_the_candidate() {
    let mut world = World::new(1);
    world.settle(works);
    let before = world.object.spec.clone();
    world.edit(|spec| spec["outputs"][0]["sql"] = "SELECT wrong FROM orders".into());
    world.step();
    world.edit(|spec| *spec = before);
    world.step();
    assert_eq!(world.names(), ["orders-0-1"]);
    assert_eq!(world.status().candidate_revision, None);
    assert_eq!(world.status().term.unwrap().generation, 1);
}

#[test]
fn an_invalid_spec_is_said_and_what_runs_goes_on_and_can_be_suspended() {
    let mut world = World::new(1);
    world.settle(works);
    world.edit(|spec| spec["outputs"][0]["sqll"] = "SELECT 1".into());
    world.step();
    assert_eq!(world.says(CONDITION_STALLED), is("True", "InvalidSpec"));
    assert_eq!(world.says(CONDITION_READY), is("True", "PreviousRevisionRunning"));
    assert_eq!(world.names(), ["orders-0-1"]);
    world.edit(|spec| spec["suspend"] = true.into());
    world.step();
    assert!(world.names().is_empty());
}

#[test]
fn scaling_tells_everyone_first_and_deletes_who_has_handed_over() {
    let mut world = World::new(1);
    world.settle(works);
    world.edit(|spec| spec["parallelism"] = 4.into());
    world.settle(works);
    assert_eq!(world.names(), ["orders-0-1", "orders-1-2", "orders-2-3", "orders-3-4"]);
    assert_eq!(world.status().term.unwrap().parallelism, 4);
    world.edit(|spec| spec["parallelism"] = 2.into());
    let decision = world.step();
    assert!(decision.delete.is_empty() && decision.tell.len() == 4, "{decision:?}");
    assert_eq!(world.says(CONDITION_READY), is("True", "Running"));
    assert_eq!(world.says(CONDITION_RECONCILING), is("True", "BringingAbout"), "two pods are too many");
    world.pod("orders-2-3").ready = false;
    world.step();
    assert_eq!(world.names(), ["orders-0-1", "orders-1-2", "orders-3-4"]);
    world.later(31);
    world.step();
    assert_eq!(world.names(), ["orders-0-1", "orders-1-2"], "who does not say that it handed over is not waited for");
}

#[test]
fn a_suspended_job_has_no_pods_and_comes_back_with_higher_numbers() {
    let mut world = World::new(2);
    world.settle(works);
    world.edit(|spec| spec["suspend"] = true.into());
    world.settle(works);
    assert!(world.names().is_empty());
    assert_eq!(world.says(CONDITION_READY), is("True", "Suspended"));
    assert_eq!(world.says(CONDITION_RECONCILING).0, "False");
    world.edit(|spec| spec["suspend"] = false.into());
    world.settle(works);
    assert_eq!(world.names(), ["orders-0-3", "orders-1-4"]);
    assert_eq!(world.says(CONDITION_READY), is("True", "Running"));
}

#[test]
fn a_bounded_job_is_complete_when_a_runner_says_so_and_its_pods_go_after_their_time() {
    let mut world = World::new(1);
    world.edit(|spec| {
        spec["trigger"] = json!({ "availableNow": {} });
        spec["ttlSecondsAfterFinished"] = 60.into();
    });
    world.step();
    let done = TerminationMessage { completed: true, ..TerminationMessage::default() };
    let now = world.now;
    let pod = world.pod("orders-0-1");
    pod.over = Some(Over::Succeeded);
    pod.last_end = Some(End { exit_code: 0, reason: "Completed".into(), finished: now, message: Some(done) });
    world.step();
    assert_eq!(world.says(CONDITION_COMPLETED), is("True", "Completed"));
    assert_eq!(world.says(CONDITION_READY), is("True", "Completed"));
    assert_eq!(world.pods.len(), 1, "its log is kept");
    world.later(59);
    assert!(world.step().delete.is_empty());
    world.later(2);
    assert_eq!(world.step().delete.len(), 1);
    world.pods.clear();
    assert!(world.step().create.is_empty(), "it is not started again");
    assert_eq!(world.says(CONDITION_COMPLETED).0, "True");
}

#[test]
fn a_completed_job_that_is_edited_tries_the_edit_with_one_pod_and_is_complete_again() {
    let mut world = World::new(2);
    world.edit(|spec| spec["trigger"] = json!({ "availableNow": {} }));
    world.settle(works);
    world.settle(completes);
    assert_eq!(world.says(CONDITION_READY), is("True", "Completed"));
    world.edit(|spec| spec["outputs"][0]["sql"] = "SELECT id, 1 AS one FROM orders".into());
    world.step();
    assert_eq!(world.names(), ["orders-0-3"]);
    // It may learn from the job log that nothing is left to read before the operator has seen it start.
    completes(world.pod("orders-0-3"));
    world.settle(completes);
    assert_eq!(world.pods.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["orders-0-3"], "its log is kept");
    assert_eq!(world.status().revision.unwrap().number, 2);
    assert_eq!(world.says(CONDITION_COMPLETED), is("True", "Completed"));
    assert_eq!(world.says(CONDITION_READY), is("True", "Completed"));
    assert_eq!(world.says(CONDITION_RECONCILING), is("False", "Settled"));
    assert!(condition(&world.status(), CONDITION_COMPLETED).unwrap().message.contains("create it again"));
}

#[test]
fn a_runner_that_makes_no_progress_within_its_deadline_is_said_to_make_none() {
    let mut world = World::new(1);
    world.edit(|spec| spec["progressDeadline"] = "30s".into());
    world.settle(works);
    let (now, pod) = (world.now, world.pod("orders-0-1"));
    (pod.ready, pod.running_since) = (false, Some(now));
    world.later(29);
    world.step();
    assert_eq!(world.says(CONDITION_READY), is("False", "Starting"));
    world.later(1);
    world.step();
    assert_eq!(world.says(CONDITION_READY), is("False", "NoProgress"));
    assert!(condition(&world.status(), CONDITION_READY).unwrap().message.contains("30 s"));
    assert_eq!(world.names(), ["orders-0-1"], "nothing restarts for it");
    // What it is told now, it has time to do.
    world.edit(|spec| spec["parallelism"] = 2.into());
    world.step();
    assert_eq!(world.says(CONDITION_READY), is("False", "Starting"));
}

#[test]
fn two_pods_of_one_seat_become_the_newer_one() {
    let mut world = World::new(1);
    world.settle(works);
    let twin = PodFacts { name: "orders-0-7".into(), uid: "twin".into(), number: 7, ..world.pods[0].clone() };
    world.pods.push(twin);
    world.step();
    assert_eq!(world.names(), ["orders-0-7"]);
    world.pod("orders-0-7").deleting = true;
    world.step();
    assert_eq!(world.names(), ["orders-0-8"]);
}

#[test]
fn where_there_is_no_place_for_a_candidate_a_running_pod_makes_room_after_a_minute() {
    let mut world = World::new(1);
    world.settle(works);
    world.edit(|spec| spec["outputs"][0]["sql"] = "SELECT id, 2 AS two FROM orders".into());
    world.step();
    let (now, said) = (world.now, Said { reason: "Unschedulable".into(), message: "0/3 nodes".into() });
    world.pod("orders-0-2").unscheduled = Some((said, now));
    world.later(30);
    world.step();
    assert_eq!(world.names(), ["orders-0-1", "orders-0-2"]);
    assert_eq!(world.says(CONDITION_DEGRADED), is("True", "Unschedulable"));
    assert_eq!(world.says(CONDITION_RECONCILING), is("True", "TryingRevision"));
    world.later(31);
    world.step();
    assert_eq!(world.names(), ["orders-0-2"]);
    world.pods.retain(|pod| !pod.deleting);
    world.step();
    assert_eq!(world.names(), ["orders-0-2"], "its place is not taken back");
    world.pod("orders-0-2").unscheduled = None;
    world.settle(works);
    assert_eq!(world.says(CONDITION_READY), is("True", "Running"));
}

#[test]
fn a_new_restart_nonce_is_a_new_revision_of_the_same_spec() {
    let mut world = World::new(1);
    world.settle(works);
    let nonce = [("millrace.dev/restart-nonce".to_owned(), "1".to_owned())].into();
    world.object.metadata.annotations = Some(nonce);
    world.settle(works);
    assert_eq!(world.names(), ["orders-0-2"]);
    assert_eq!(world.status().revision.unwrap().number, 2);
}

#[test]
fn numbers_of_an_earlier_job_of_the_same_name_are_not_given_again() {
    let world = World::new(1);
    let facts = Facts { taken: vec![3], taken_revisions: vec![1, 2], ..world.facts() };
    let decision = decide(&facts, &validate(&world.object, &facts.job));
    assert_eq!(decision.status.revision.unwrap().number, 3);
    assert_eq!(decision.create, [ReservedPod { ordinal: 0, revision: 3, number: 4 }]);
}

#[test]
fn a_revision_is_not_forgotten_by_what_a_cache_says() {
    let mut world = World::new(1);
    world.settle(works);
    world.revisions.push(RevisionFacts {
        name: "orders-r2".into(),
        uid: "uid-of-orders-r2".into(),
        number: 2,
        hash: "of a status that this one has not seen yet".into(),
        template: None,
    });
    let facts = world.facts();
    let decision = decide(&facts, &validate(&world.object, &facts.job));
    assert_eq!(decision.forget.len(), 1);
    assert!(decision.is_grave());
}

#[test]
fn a_pod_that_cannot_go_because_its_node_is_lost_does_not_keep_its_job_from_being_settled() {
    let mut world = World::new(1);
    world.settle(works);
    world.pod("orders-0-1").node_lost = true;
    world.step();
    works(world.pod("orders-0-2"));
    world.step();
    assert!(world.pod("orders-0-1").deleting);
    assert_eq!(world.says(CONDITION_READY), is("True", "Running"));
    assert_eq!(world.says(CONDITION_RECONCILING), is("False", "Settled"));
}
