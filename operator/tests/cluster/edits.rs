//! Edits of a job that runs: tried beside it, and taken over from it; and the scaling of it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use millrace_crds::contract::FailureClass;
use millrace_crds::spec::StreamingJob;
use serde_json::json;

use crate::harness::block_on;
use crate::harness::history::{Event, What};
use crate::harness::job::Manifest;
use crate::harness::play::{self, Ending};
use crate::harness::world::World;

/// Pods whose revision is above `good` end with a mistake of their user's; the others work.
fn refuse_above(world: &World, good: i64) {
    let ending = Ending::with(64, FailureClass::User, "TopicMissing", "topic `order` is not on kafka:9092");
    world.kubelet.plays(move |pod| match play::revision(pod) > good {
        true => play::backs_off(pod, &ending),
        false => play::works(pod),
    });
}

#[test]
fn a_bad_edit_leaves_what_runs_alone_and_a_good_one_after_it_takes_over() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders").parallelism(2));
    world.wait_until_runs("orders", 2);
    let old = world.uids("orders");

    refuse_above(&world, 1);
    world.apply(&Manifest::new("orders").parallelism(2).query("SELECT order FROM orders"));
    world.wait_for("orders", "Ready", "True", "PreviousRevisionRunning");
    let stalled = world.wait_for("orders", "Stalled", "True", "TopicMissing");
    assert!(stalled.message.contains("topic `order` is not on kafka:9092"), "{}", stalled.message);
    world.wait_for("orders", "Accepted", "False", "TopicMissing");
    world.stays("one candidate tries beside the old pods", Duration::from_secs(3), || {
        let pods = world.pods("orders");
        let of = |revision| pods.iter().filter(move |pod| play::revision(pod) == revision);
        of(1).map(play::uid).eq(old.iter().map(String::as_str)) && of(2).count() == 1
    });
    let failure = world.status("orders").last_failure.unwrap();
    assert_eq!(failure.class, Some(FailureClass::User));
    assert_eq!(failure.log, ["the last line of its log"]);

    world.kubelet.forget();
    world.kubelet.plays(play::works);
    world.apply(&Manifest::new("orders").parallelism(2).query("SELECT id + 1 AS id FROM orders"));
    world.wait_until_runs("orders", 2);
    world.wait_for("orders", "Stalled", "False", "NotStalled");
    world.wait_for("orders", "Accepted", "True", "Validated");
    assert!(world.pods("orders").iter().all(|pod| play::revision(pod) == 3));
    world.wait("the old revisions to go", || {
        world.list::<ConfigMap>().iter().map(ResourceExt::name_any).eq(["orders-r3"])
    });
    world.kubelet.history(|history| {
        let told = |event: &Event| matches!(&event.what, What::Told(term) if term.revision.starts_with("3-"));
        let created = |event: &Event| event.what == What::Created && event.revision == 3;
        let told_first = history.first(told).unwrap();
        assert!(history.last(created).unwrap() < told_first, "the term came before every candidate was there");
        let deleted = history.first(|event| event.what == What::Deleted && event.revision == 1).unwrap();
        let told_new = history.last(|event| told(event) && event.revision == 3).unwrap();
        assert!(told_new < deleted, "an old pod went before every new one was told the term");
        assert!(history.longest_double() == Duration::ZERO);
    });
}

#[test]
fn a_good_edit_is_tried_by_one_pod_then_by_all_and_the_term_changes_when_all_have_started() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders").parallelism(2));
    world.wait_until_runs("orders", 2);
    let old = world.uids("orders");
    let candidates = || world.pods("orders").into_iter().filter(|pod| play::revision(pod) == 2).collect::<Vec<_>>();
    let first_term = || world.pods("orders").iter().all(|pod| play::term(pod).unwrap().generation == 1);
    world.kubelet.plays(|pod| if play::revision(pod) == 1 { play::works(pod) } else { play::begins(pod) });
    world.apply(&Manifest::new("orders").parallelism(2).query("SELECT id + 1 AS id FROM orders"));
    world.wait("one candidate", || candidates().len() == 1);
    world.wait_for("orders", "Reconciling", "True", "TryingRevision");
    world.stays("one candidate tries alone", Duration::from_secs(2), || candidates().len() == 1 && first_term());

    let first = play::name(&candidates()[0]).to_owned();
    world.kubelet.plays_one(&first, play::works);
    world.wait("all candidates", || candidates().len() == 2);
    world.stays("the old term holds", Duration::from_secs(2), first_term);
    world.wait_for("orders", "Ready", "True", "PreviousRevisionRunning");
    assert_eq!(world.uids("orders").iter().filter(|uid| old.contains(uid)).count(), 2);

    world.kubelet.plays(play::works);
    world.wait_until_runs("orders", 2);
    assert!(candidates().iter().all(|pod| play::term(pod).unwrap().generation == 2));
    world.kubelet.history(|history| {
        let told = |event: &Event| matches!(&event.what, What::Told(term) if term.generation == 2);
        let deleted = history.first(|event| event.what == What::Deleted).unwrap();
        assert!(history.last(|event| told(event) && event.revision == 1).unwrap() < deleted, "old pods hear of it too");
    });
}

#[test]
fn going_back_to_what_runs_drops_the_candidate_and_touches_nothing_else() {
    let world = World::new();
    let _operator = world.operator();
    let good = Manifest::new("orders").parallelism(2);
    world.apply(&good);
    world.wait_until_runs("orders", 2);
    let old = world.uids("orders");
    world.kubelet.plays(|pod| if play::revision(pod) == 1 { play::works(pod) } else { play::begins(pod) });
    world.apply(&good.clone().query("SELECT id + 1 AS id FROM orders"));
    world.wait("the candidate", || world.pods("orders").len() == 3);
    world.apply(&good);
    world.wait_until_runs("orders", 2);
    assert_eq!(world.uids("orders"), old);
    assert!(world.pods("orders").iter().all(|pod| play::term(pod).unwrap().generation == 1));
}

#[test]
fn a_spec_that_is_not_valid_is_said_and_blocks_neither_what_runs_nor_other_jobs_nor_suspending() {
    let world = World::new();
    let _operator = world.operator();
    let template = json!({ "podTemplate": { "spec": { "hostNmae": "typo" } } });
    world.apply(&Manifest::new("malformed").with("runner", template.clone()));
    world.apply(&Manifest::new("orders"));
    world.wait_until_runs("orders", 1);
    let stalled = world.wait_for("malformed", "Stalled", "True", "InvalidSpec");
    assert!(stalled.message.contains("unknown field spec.hostNmae"), "{}", stalled.message);
    world.wait_for("malformed", "Accepted", "False", "InvalidSpec");
    world.wait_for("malformed", "Ready", "False", "InvalidSpec");
    assert!(world.pods("malformed").is_empty());

    let old = world.uids("orders");
    world.patch("orders", json!({ "spec": { "runner": template } }));
    world.wait_for("orders", "Ready", "True", "PreviousRevisionRunning");
    world.wait_for("orders", "Stalled", "True", "InvalidSpec");
    assert_eq!(world.uids("orders"), old);
    world.patch("orders", json!({ "spec": { "parallelism": 2 } }));
    world.wait("another runner of what runs", || world.names("orders") == ["orders-0-1", "orders-1-2"]);
    world.patch("orders", json!({ "spec": { "suspend": true } }));
    world.wait("no pods", || world.list::<Pod>().is_empty());
    world.patch("orders", json!({ "spec": { "suspend": false, "runner": null } }));
    world.wait_until_runs("orders", 2);
    world.patch("malformed", json!({ "spec": { "runner": null } }));
    world.wait_until_runs("malformed", 1);
}

#[test]
fn scaling_keeps_the_pods_that_stay_and_tells_everyone_before_a_pod_goes() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders"));
    world.wait_until_runs("orders", 1);
    let one = world.uids("orders");
    // As `kubectl scale` does.
    let scale = |runners: u32| {
        let change = Patch::Merge(json!({ "spec": { "replicas": runners } }));
        block_on(world.api::<StreamingJob>().patch_scale("orders", &PatchParams::default(), &change)).unwrap();
    };
    scale(4);
    world.wait_until_runs("orders", 4);
    let four = world.uids("orders");
    assert_eq!(four[0], one[0]);
    let scaled = block_on(world.api::<StreamingJob>().get_scale("orders")).unwrap();
    assert_eq!(scaled.status.unwrap().replicas, 4);

    world.kubelet.forget();
    scale(2);
    world.wait_until_runs("orders", 2);
    assert_eq!(world.uids("orders"), four[..2]);
    world.kubelet.history(|history| {
        let told: Vec<usize> = (0..4)
            .map(|ordinal| {
                let two = |event: &Event| matches!(&event.what, What::Told(term) if term.parallelism == 2);
                history.first(|event| two(event) && event.ordinal == ordinal).unwrap()
            })
            .collect();
        let deleted = history.first(|event| event.what == What::Deleted).unwrap();
        assert!(told.iter().all(|told| *told < deleted), "a pod went before all were told");
        assert_eq!(history.deletions(), 2);
    });
}

#[test]
fn a_surplus_pod_that_does_not_hand_over_goes_nevertheless_after_its_time() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders").parallelism(2));
    world.wait_until_runs("orders", 2);
    // It does not hear the term and stays ready.
    world.kubelet.plays_one("orders-1-2", |pod| {
        let mut status = play::works(pod);
        status["containerStatuses"][0]["ready"] = true.into();
        status
    });
    world.patch("orders", json!({ "spec": { "parallelism": 1 } }));
    world.wait("the pod to be told", || {
        world.pods("orders").iter().all(|pod| play::term(pod).unwrap().parallelism == 1)
    });
    world.stays("it has time to hand over", Duration::from_secs(10), || world.pods("orders").len() == 2);
    world.wait("the pod to go", || world.names("orders") == ["orders-0-1"]);
}

#[test]
fn a_new_restart_nonce_replaces_the_pods_by_a_revision_of_the_same_spec() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders"));
    world.wait_until_runs("orders", 1);
    let annotations = |nonce: &str| json!({ "metadata": { "annotations": { "millrace.dev/restart-nonce": nonce } } });
    world.patch("orders", annotations("again"));
    world.wait("the second revision", || world.names("orders") == ["orders-0-2"]);
    world.wait_until_runs("orders", 1);
    let status = world.status("orders");
    assert_eq!(status.revision.unwrap().number, 2);
    assert!(status.candidate_revision.is_none());
}

#[test]
fn what_a_user_annotates_reaches_the_runners_without_a_restart() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders"));
    world.wait_until_runs("orders", 1);
    let uids = world.uids("orders");
    let annotations = json!({ "millrace.dev/log-level": "debug", "millrace.dev/savepoint": "before-fix" });
    world.patch("orders", json!({ "metadata": { "annotations": annotations } }));
    world.wait("the settings to reach the pod", || {
        let pod = world.pods("orders").remove(0);
        let told = pod.annotations().get("millrace.dev/settings").cloned().unwrap_or_default();
        told.contains(r#""logLevel":"debug""#) && told.contains(r#""savepoint":"before-fix""#)
    });
    assert_eq!(world.uids("orders"), uids);
}

#[test]
fn where_there_is_no_place_for_a_candidate_beside_what_runs_a_running_pod_makes_room() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders"));
    world.wait_until_runs("orders", 1);
    // The scheduler has said so for more than a minute.
    let since = Timestamp::now().checked_sub(SignedDuration::from_secs(55)).unwrap();
    world.kubelet.plays(move |pod| match play::revision(pod) {
        1 => play::works(pod),
        _ => play::unschedulable_since(pod, since),
    });
    world.apply(&Manifest::new("orders").query("SELECT id + 1 AS id FROM orders"));
    world.wait("the candidate", || world.names("orders") == ["orders-0-1", "orders-0-2"]);
    world.wait_for("orders", "Degraded", "True", "Unschedulable");
    world.wait("the old pod to make room", || world.names("orders") == ["orders-0-2"]);
    world.stays("its place is not taken by another of its kind", Duration::from_secs(2), || {
        world.names("orders") == ["orders-0-2"]
    });
    world.kubelet.plays(play::works);
    world.wait_until_runs("orders", 1);
    assert_eq!(world.names("orders"), ["orders-0-2"]);
}
