//! A job from its first pod to its last.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use millrace_crds::spec::StreamingJob;
use serde_json::json;

use crate::harness::history::What;
use crate::harness::job::Manifest;
use crate::harness::play::{self, Ending};
use crate::harness::world::World;

#[test]
fn a_job_gets_its_revision_its_pods_and_from_two_runners_on_a_disruption_budget() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders"));
    world.wait_until_runs("orders", 1);
    let job = world.job("orders");
    let maps: Vec<ConfigMap> = world.list();
    assert_eq!(maps.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["orders-r1"]);
    assert_eq!(maps[0].immutable, Some(true));
    assert!(world.list::<PodDisruptionBudget>().is_empty());

    let pods = world.pods("orders");
    assert_eq!(play::name(&pods[0]), "orders-0-1");
    let hash = job.status.unwrap().revision.unwrap().hash;
    for (label, value) in [
        ("app.kubernetes.io/name", "millrace"),
        ("app.kubernetes.io/instance", "orders"),
        ("app.kubernetes.io/component", "runner"),
        ("app.kubernetes.io/managed-by", "millrace-operator"),
        ("millrace.dev/job", "orders"),
        ("millrace.dev/revision", &hash),
        ("millrace.dev/revision-number", "1"),
        ("millrace.dev/ordinal", "0"),
        ("millrace.dev/pod-number", "1"),
    ] {
        assert_eq!(play::label(&pods[0], label), value, "{label}");
    }
    let term = play::term(&pods[0]).unwrap();
    assert_eq!((term.generation, term.parallelism), (1, 1));

    world.patch("orders", json!({ "spec": { "parallelism": 2 } }));
    world.wait_until_runs("orders", 2);
    let budget = world.until("the disruption budget", || world.list::<PodDisruptionBudget>().pop());
    assert_eq!(budget.name_any(), "orders");
    let owned = |references: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference]| {
        let owner = &references[0];
        (owner.kind.clone(), owner.uid.clone(), owner.controller)
            == ("StreamingJob".into(), world.job("orders").uid().unwrap(), Some(true))
    };
    assert!(owned(budget.owner_references()) && owned(maps[0].owner_references()));
    assert!(world.pods("orders").iter().all(|pod| owned(pod.owner_references())));

    world.patch("orders", json!({ "spec": { "parallelism": 1 } }));
    world.wait("the disruption budget to go", || world.list::<PodDisruptionBudget>().is_empty());
}

#[test]
fn the_conditions_say_what_the_kubelet_reports() {
    let world = World::new();
    let _operator = world.operator();
    world.kubelet.plays(play::begins);
    world.apply(&Manifest::new("orders"));
    world.wait_for("orders", "Accepted", "Unknown", "Validating");
    world.wait_for("orders", "Ready", "False", "Starting");
    world.wait_for("orders", "Reconciling", "True", "BringingAbout");
    for (kind, reason) in [("Stalled", "NotStalled"), ("Degraded", "NotDegraded"), ("Suspended", "NotSuspended")] {
        world.wait_for("orders", kind, "False", reason);
    }

    world.kubelet.plays(play::starts);
    world.wait_for("orders", "Accepted", "True", "Validated");
    assert_eq!(world.condition("orders", "Ready").unwrap().status, "False");

    world.kubelet.plays(play::works);
    world.wait_until_runs("orders", 1);
    let status = world.status("orders");
    assert_eq!((status.replicas, status.ready_replicas), (Some(1), Some(1)));
    assert_eq!(status.selector.as_deref(), Some("millrace.dev/job=orders,millrace.dev/revision-number=1"));
    assert_eq!(status.observed_generation, world.job("orders").metadata.generation);
    assert_eq!(world.kubelet.history(|history| history.created()), ["orders-0-1"]);
}

#[test]
fn a_deleted_pod_is_replaced_by_one_of_a_higher_number_while_it_still_stops() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders").parallelism(2));
    world.wait_until_runs("orders", 2);
    world.kubelet.removes(false);
    let stays = world.uids("orders")[1].clone();
    world.delete_pod("orders-0-1");
    world.wait("the new pod", || world.names("orders") == ["orders-0-3", "orders-1-2"]);
    assert!(world.list::<Pod>().iter().any(|pod| play::name(pod) == "orders-0-1" && play::is_going(pod)));
    world.wait_for("orders", "Ready", "True", "Running");
    assert_eq!(world.uids("orders")[1], stays);
    world.kubelet.removes(true);
    world.wait_until_runs("orders", 2);
    assert_eq!(world.names("orders"), ["orders-0-3", "orders-1-2"]);
}

#[test]
fn a_suspended_job_has_no_pods_and_comes_back_with_higher_numbers() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders").parallelism(2));
    world.wait_until_runs("orders", 2);
    world.kubelet.removes(false);
    world.patch("orders", json!({ "spec": { "suspend": true } }));
    world.wait_for("orders", "Ready", "True", "Suspended");
    world.wait_for("orders", "Suspended", "True", "Suspended");
    world.wait_for("orders", "Reconciling", "True", "Stopping");
    world.kubelet.removes(true);
    world.wait_for("orders", "Reconciling", "False", "Settled");
    assert!(world.list::<Pod>().is_empty());
    assert!(world.list::<PodDisruptionBudget>().is_empty());
    world.patch("orders", json!({ "spec": { "suspend": false } }));
    world.wait_until_runs("orders", 2);
    assert_eq!(world.names("orders"), ["orders-0-3", "orders-1-4"]);
    assert_eq!(world.status("orders").revision.unwrap().number, 1, "the same revision");
    world.patch("orders", json!({ "spec": { "parallelism": 0 } }));
    world.wait_for("orders", "Suspended", "True", "Suspended");
    world.wait("no pods", || world.pods("orders").is_empty());
}

#[test]
fn a_bounded_job_is_complete_when_a_runner_says_so_and_its_pods_go_after_their_time() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders").bounded());
    world.wait_until_runs("orders", 1);
    let ending = Ending::complete();
    world.kubelet.plays(move |pod| play::succeeded(pod, &ending));
    world.wait_for("orders", "Completed", "True", "Completed");
    world.wait_for("orders", "Ready", "True", "Completed");
    world.wait_for("orders", "Reconciling", "False", "Settled");
    world.stays("the pod is kept", Duration::from_secs(3), || world.names("orders") == ["orders-0-1"]);
    world.patch("orders", json!({ "spec": { "ttlSecondsAfterFinished": 1 } }));
    world.wait("the pod to go", || world.list::<Pod>().is_empty());
    world.wait_for("orders", "Completed", "True", "Completed");
    world.stays("nothing runs again", Duration::from_secs(3), || world.list::<Pod>().is_empty());
    assert_eq!(world.kubelet.history(|history| history.created()), ["orders-0-1"]);
}

#[test]
fn a_completed_job_that_is_edited_tries_the_edit_once_and_says_how_to_read_again() {
    let world = World::new();
    let _operator = world.operator();
    let ending = Ending::complete();
    world.kubelet.plays(move |pod| play::succeeded(pod, &ending));
    let manifest = Manifest::new("orders").bounded();
    world.apply(&manifest);
    world.wait_for("orders", "Completed", "True", "Completed");
    // The runner of the next revision learns from the job log that nothing is left to read.
    world.apply(&manifest.query("SELECT id + 1 AS id FROM orders"));
    let completed = world.wait_for("orders", "Completed", "True", "Completed");
    assert!(completed.message.contains("delete the job and create it again"), "{}", completed.message);
    world.wait_for("orders", "Reconciling", "False", "Settled");
    world.wait("the second revision", || world.status("orders").revision.unwrap().number == 2);
    world.stays("one pod tried it and is kept", Duration::from_secs(3), || {
        let created = world.kubelet.history(|history| history.created());
        created == ["orders-0-1", "orders-0-2"] && !world.names("orders").is_empty()
    });
    let nonce = json!({ "metadata": { "annotations": { "millrace.dev/restart-nonce": "1" } } });
    world.patch("orders", nonce);
    world.wait("the third revision", || world.status("orders").revision.unwrap().number == 3);
    world.wait_for("orders", "Completed", "True", "Completed");
    world.wait("its pod alone", || world.names("orders") == ["orders-0-3"]);
}

#[test]
fn an_exit_with_zero_that_does_not_say_complete_is_a_failure() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders").bounded());
    world.wait_until_runs("orders", 1);
    let ending = Ending::now(0, "Completed");
    world.kubelet.plays_one("orders-0-1", move |pod| play::succeeded(pod, &ending));
    world.wait("another pod", || world.names("orders") == ["orders-0-2"]);
    world.wait_until_runs("orders", 1);
    let failure = world.status("orders").last_failure.unwrap();
    assert_eq!((failure.reason.as_str(), failure.pod.as_str()), ("NoTerminationMessage", "orders-0-1"));
}

#[test]
fn a_deleted_job_is_gone_at_once_and_leaves_nothing_that_blocks() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders").parallelism(2));
    world.wait_until_runs("orders", 2);
    assert!(world.job("orders").finalizers().is_empty());
    let job = world.job("orders").uid().unwrap();
    world.delete_job("orders");
    assert!(world.list::<StreamingJob>().is_empty());
    assert!(world.list::<Pod>().iter().all(|pod| pod.finalizers().is_empty()));
    world.collect_garbage(&job);
    world.wait("everything to be gone", || {
        world.list::<Pod>().is_empty()
            && world.list::<ConfigMap>().is_empty()
            && world.list::<PodDisruptionBudget>().is_empty()
    });
    world.stays("nothing comes back", Duration::from_secs(3), || {
        world.list::<Pod>().is_empty() && world.list::<ConfigMap>().is_empty()
    });
}

#[test]
fn a_job_that_is_created_again_gets_pods_and_a_revision_of_its_own_while_the_old_ones_still_stop() {
    let world = World::new();
    let operator = world.operator();
    world.apply(&Manifest::new("orders").parallelism(2).query("SELECT id FROM orders"));
    world.wait_until_runs("orders", 2);
    let old = world.job("orders").uid().unwrap();
    world.kubelet.removes(false);
    world.kubelet.forget();
    world.delete_job("orders");
    world.apply(&Manifest::new("orders").parallelism(2).query("SELECT id + 1 AS id FROM orders"));
    let job = world.job("orders").uid().unwrap();
    assert_ne!(job, old);
    let mine = || -> Vec<Pod> {
        let all: Vec<Pod> = world.list();
        all.into_iter().filter(|pod| pod.owner_references().iter().any(|owner| owner.uid == job)).collect()
    };
    world.wait("pods of the new job", || mine().len() == 2);
    // The garbage collector is late.
    world.collect_garbage(&old);
    world.wait_for("orders", "Ready", "True", "Running");
    let hash = world.status("orders").revision.unwrap().hash;
    for pod in mine() {
        assert!(play::number(&pod) > 2, "{}: a name that was there before", play::name(&pod));
        assert_eq!(play::label(&pod, "millrace.dev/revision"), hash);
        let map = world.list::<ConfigMap>().into_iter().find(|map| {
            let volumes = pod.spec.as_ref().unwrap().volumes.as_ref().unwrap();
            let of_pod = volumes.iter().find_map(|volume| volume.config_map.as_ref()).unwrap();
            of_pod.name == map.name_any()
        });
        let map = map.unwrap_or_else(|| panic!("the revision of {} is not there", play::name(&pod)));
        assert_eq!(map.owner_references()[0].uid, job);
        assert!(map.data.unwrap()["job.yaml"].contains("SELECT id + 1"));
    }
    world.kubelet.removes(true);
    world.wait_until_runs("orders", 2);
    world.wait("the disruption budget of the new job", || {
        world.list::<PodDisruptionBudget>().iter().any(|budget| budget.owner_references()[0].uid == job)
    });
    let deleted_by_operator = world.kubelet.history(|history| {
        let of_new = |event: &&crate::harness::history::Event| event.what == What::Deleted && event.number > 2;
        history.events.iter().filter(of_new).count()
    });
    assert_eq!(deleted_by_operator, 0, "{}", operator.printed());
}
