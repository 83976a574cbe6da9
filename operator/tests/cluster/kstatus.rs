//! What Flux makes of a job: its library, kstatus, judges the object as it comes from the API server.

use std::io::Write;
use std::process::{Command, Stdio};

use kube::api::PropagationPolicy;
use millrace_crds::contract::FailureClass;
use millrace_tests::servers::installed_kstatus;
use serde_json::json;

use crate::harness::job::Manifest;
use crate::harness::play::{self, Ending};
use crate::harness::world::World;

/// The status of a job, and why it is that.
fn compute(world: &World, job: &str) -> (String, String) {
    let mut command = Command::new(installed_kstatus("KSTATUS").unwrap());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(world.raw_job(job).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let (status, why) = printed.split_once('\n').unwrap();
    (status.to_owned(), why.trim_end().to_owned())
}

/// Waits until the status is this one; the statuses that it had until then. Returns why.
fn becomes(world: &World, job: &str, status: &str, until_then: &[&str]) -> String {
    world.until(&format!("kstatus to say {status}"), || {
        let (now, why) = compute(world, job);
        if now == status {
            return Some(why);
        }
        assert!(until_then.contains(&now.as_str()), "{now} ({why}) on the way to {status}");
        None
    })
}

#[test]
fn a_job_is_current_only_when_it_is_as_its_spec_has_it_and_failed_when_a_person_has_to_help() {
    let world = World::new();
    let good = Manifest::new("orders");
    world.apply(&good);
    assert_eq!(compute(&world, "orders").0, "InProgress", "nobody has seen it yet");
    world.kubelet.plays(play::begins);
    let _operator = world.operator();
    world.wait_for("orders", "Ready", "False", "Starting");
    assert_eq!(compute(&world, "orders").0, "InProgress");
    world.kubelet.plays(play::works);
    becomes(&world, "orders", "Current", &["InProgress"]);

    // Scaled: up until every runner works, down until the last surplus one is gone.
    world.kubelet.plays(|pod| if play::ordinal(pod) == 0 { play::works(pod) } else { play::starts(pod) });
    world.patch("orders", json!({ "spec": { "parallelism": 2 } }));
    assert_eq!(compute(&world, "orders").0, "InProgress");
    world.wait("the second pod", || world.pods("orders").len() == 2);
    assert_eq!(compute(&world, "orders").0, "InProgress");
    world.kubelet.plays(play::works);
    becomes(&world, "orders", "Current", &["InProgress"]);
    world.kubelet.removes(false);
    world.patch("orders", json!({ "spec": { "parallelism": 1 } }));
    world.wait("the second pod to be asked to go", || world.pods("orders").len() == 1);
    assert_eq!(compute(&world, "orders").0, "InProgress", "its second pod still stops");
    world.kubelet.removes(true);
    becomes(&world, "orders", "Current", &["InProgress"]);

    // A bad edit over what runs, and a good one.
    let ending = Ending::with(64, FailureClass::User, "TopicMissing", "topic `order` is not on kafka:9092");
    world.kubelet.plays(move |pod| match play::revision(pod) {
        2 => play::backs_off(pod, &ending),
        _ => play::works(pod),
    });
    world.apply(&good.clone().query("SELECT id FROM order"));
    let why = becomes(&world, "orders", "Failed", &["InProgress"]);
    assert!(why.contains("topic `order` is not on kafka:9092"), "{why}");
    world.kubelet.plays(|pod| if play::revision(pod) < 3 { play::works(pod) } else { play::begins(pod) });
    world.apply(&good.clone().query("SELECT id + 1 AS id FROM orders"));
    world.wait_for("orders", "Reconciling", "True", "TryingRevision");
    assert_eq!(compute(&world, "orders").0, "InProgress");
    world.kubelet.plays(|pod| if play::revision(pod) < 3 { play::works(pod) } else { play::unschedulable(pod) });
    world.wait_for("orders", "Degraded", "True", "Unschedulable");
    assert_eq!(compute(&world, "orders").0, "InProgress", "it runs, and not yet as it was edited");
    world.kubelet.plays(play::works);
    becomes(&world, "orders", "Current", &["InProgress"]);
    assert_eq!(world.status("orders").revision.unwrap().number, 3);

    // Suspended, and resumed.
    world.patch("orders", json!({ "spec": { "suspend": true } }));
    becomes(&world, "orders", "Current", &["InProgress"]);
    assert!(world.pods("orders").is_empty());
    world.patch("orders", json!({ "spec": { "suspend": false } }));
    becomes(&world, "orders", "Current", &["InProgress"]);
    world.wait_until_runs("orders", 1);

    // Nothing removes the finalizer of the garbage collector.
    world.delete_job_and("orders", PropagationPolicy::Foreground);
    assert_eq!(compute(&world, "orders").0, "Terminating");
}

#[test]
fn a_bounded_job_is_current_while_it_runs_and_when_it_is_complete() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders").bounded());
    becomes(&world, "orders", "Current", &["InProgress"]);
    let ending = Ending::complete();
    world.kubelet.plays(move |pod| play::succeeded(pod, &ending));
    world.wait_for("orders", "Completed", "True", "Completed");
    becomes(&world, "orders", "Current", &["InProgress"]);
}

#[test]
fn a_spec_that_is_not_valid_has_failed_in_its_own_words() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders").with("runner", json!({ "podTemplate": { "spec": { "hostNmae": "typo" } } })));
    let why = becomes(&world, "orders", "Failed", &["InProgress"]);
    assert!(why.contains("unknown field spec.hostNmae"), "{why}");
}
