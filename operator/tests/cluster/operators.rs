//! Operators that die, come back, or are two.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use millrace_crds::spec::StreamingJob;
use rand::RngExt;
use serde_json::json;

use crate::harness::block_on;
use crate::harness::history::{History, What};
use crate::harness::job::Manifest;
use crate::harness::play;
use crate::harness::world::World;

/// No two pods of the history have the same name, and within a job no two have the same number.
fn names_are_unique(history: &History) {
    let mut numbers: Vec<(String, i64)> = Vec::new();
    for event in history.events.iter().filter(|event| event.what == What::Created) {
        let number = (event.job().to_owned(), event.number);
        assert!(!numbers.contains(&number), "{} has a number that was given before", event.pod);
        numbers.push(number);
    }
}

/// No two pods had one seat for longer than it takes to see that.
fn seats_are_single(history: &History) {
    let longest = history.longest_double();
    let events =
        history.events.iter().map(|event| format!("{:?} ago: {} {:?}", event.at.elapsed(), event.pod, event.what));
    assert!(longest < Duration::from_secs(10), "{longest:?}:\n{}", events.collect::<Vec<_>>().join("\n"));
}

/// A random edit: of the query, of the number of runners, or both; or none at all.
fn edit(world: &World, job: &str, random: &mut impl RngExt) {
    let mut manifest = Manifest::new(job).parallelism(random.random_range(1..4));
    manifest = match random.random_range(0..3) {
        0 => manifest,
        other => manifest.query(&format!("SELECT id + {other} AS id FROM orders")),
    };
    world.apply(&manifest);
}

/// Waits until the job runs as it was written last, and nothing of what was before is left.
fn settles(world: &World, job: &str) {
    let manifest = Manifest::new(job).parallelism(2).query("SELECT id + 99 AS id FROM orders");
    world.apply(&manifest);
    world.wait_until_runs(job, 2);
    let hash = world.status(job).revision.unwrap().hash;
    let pods = world.pods(job);
    assert!(pods.iter().all(|pod| play::label(pod, "millrace.dev/revision") == hash));
    assert_eq!(pods.iter().map(play::ordinal).collect::<Vec<_>>(), [0, 1]);
    assert!(world.status(job).candidate_revision.is_none() && world.status(job).reserved.is_empty());
}

#[test]
fn an_operator_that_is_killed_twenty_times_during_edits_brings_them_about_nevertheless() {
    let world = World::new();
    let mut random = rand::rng();
    let jobs = ["orders", "payments", "quiet"];
    let mut operator = world.operator();
    for job in jobs {
        world.apply(&Manifest::new(job).parallelism(2));
    }
    for job in jobs {
        world.wait_until_runs(job, 2);
    }
    let quiet = world.uids("quiet");
    for _ in 0..20 {
        edit(&world, jobs[random.random_range(0..2)], &mut random);
        std::thread::sleep(Duration::from_millis(random.random_range(0..1_000)));
        operator.kill();
        operator = world.operator();
        std::thread::sleep(Duration::from_millis(random.random_range(0..500)));
    }
    operator.wait_until_ready();
    settles(&world, "orders");
    settles(&world, "payments");
    world.wait_until_runs("quiet", 2);
    assert_eq!(world.uids("quiet"), quiet, "a job that nobody edited was restarted");
    world.kubelet.history(|history| {
        names_are_unique(history);
        seats_are_single(history);
    });
}

#[test]
fn an_operator_that_is_absent_restarted_or_another_touches_no_pod() {
    let world = World::new();
    let mut operator = world.operator();
    let jobs: Vec<String> = (0..10).map(|n| format!("job-{n}")).collect();
    for job in &jobs {
        world.apply(&Manifest::new(job).parallelism(1 + (job.len() as u32 % 2)));
    }
    for job in &jobs {
        world.wait_for(job, "Ready", "True", "Running");
    }
    operator.kill();
    world.kubelet.forget();
    // A release later: another image for jobs that name none. What runs is frozen in its revision.
    let operator = world.operator_with(&["--no-leader-election", "--runner-image", "millrace:next"]);
    operator.wait_until_ready();
    world.wait("every job to be looked at", || operator.metric("millrace_operator_reconciles_total", &[]) >= 10.0);
    world.stays("nothing happens to a pod", Duration::from_secs(5), || {
        world.kubelet.history(|history| history.events.is_empty())
    });
    let writes = operator.metric("millrace_operator_api_calls_total", &["verb=\"PATCH\""])
        + operator.metric("millrace_operator_api_calls_total", &["verb=\"POST\""]);
    assert_eq!(writes, 0.0, "{}", operator.metrics());
    world.apply(&Manifest::new(&jobs[0]).query("SELECT id + 1 AS id FROM orders"));
    world.wait("the next image with the next edit", || {
        world
            .pods(&jobs[0])
            .iter()
            .any(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("millrace:next"))
    });
}

#[test]
fn two_operators_at_once_bring_about_what_one_would() {
    let world = World::new();
    let mut random = rand::rng();
    let _operators = [
        world.operator_with(&["--no-leader-election", "--identity", "one"]),
        world.operator_with(&["--no-leader-election", "--identity", "two"]),
    ];
    let jobs = ["orders", "payments", "quiet"];
    for job in jobs {
        world.apply(&Manifest::new(job).parallelism(2));
    }
    for job in jobs {
        world.wait_until_runs(job, 2);
    }
    let quiet = world.uids("quiet");
    for _ in 0..15 {
        edit(&world, jobs[random.random_range(0..2)], &mut random);
        std::thread::sleep(Duration::from_millis(random.random_range(0..1_000)));
        if let Some(pod) = world.names("payments").first() {
            world.delete_pod(pod);
        }
    }
    settles(&world, "orders");
    settles(&world, "payments");
    assert_eq!(world.uids("quiet"), quiet, "a job that nobody edited was restarted");
    world.kubelet.history(|history| {
        names_are_unique(history);
        seats_are_single(history);
    });
    world.kubelet.forget();
    world.stays("nothing happens at rest", Duration::from_secs(3), || {
        world.kubelet.history(|history| history.events.is_empty())
    });
}

#[test]
fn the_second_operator_takes_over_when_the_first_is_killed_and_sooner_when_it_is_asked_to_end() {
    let world = World::new();
    let start = |name: &str| world.operator_with(&["--identity", name]);
    let holder = || {
        let lease = block_on(world.api::<Lease>().get_opt("millrace-operator")).unwrap()?;
        lease.spec?.holder_identity
    };
    let leads = |name: &str| holder().as_deref() == Some(name);
    let mut first = start("first");
    world.wait("the first to lead", || leads("first"));
    let second = start("second");
    // One that waits for the lead is as it should be.
    second.wait_until_ready();
    world.apply(&Manifest::new("orders"));
    world.wait_until_runs("orders", 1);
    assert_eq!(second.metric("millrace_operator_leader", &[]), 0.0);
    assert_eq!(second.metric("millrace_operator_reconciles_total", &[]), 0.0);

    first.kill();
    let killed = Instant::now();
    world.delete_pod("orders-0-1");
    world.within_time("the second to lead", Duration::from_secs(40), || leads("second").then_some(()));
    assert!(killed.elapsed() > Duration::from_secs(5), "the lead of one that is only slow was taken");
    world.wait("its first pod", || world.names("orders") == ["orders-0-2"]);
    world.wait_until_runs("orders", 1);

    let mut second = second;
    let third = start("third");
    third.wait_until_ready();
    let asked = Instant::now();
    assert!(second.stop().success());
    world.within_time("the third to lead", Duration::from_secs(12), || leads("third").then_some(()));
    assert!(asked.elapsed() < Duration::from_secs(14), "the lease was not given back: {:?}", asked.elapsed());
    world.delete_pod("orders-0-2");
    world.wait("the pod of the third", || world.names("orders") == ["orders-0-3"]);
}

#[test]
fn a_leader_whose_lease_another_took_ends_and_touches_nothing_more() {
    let world = World::new();
    let mut operator = world.operator_with(&["--identity", "first"]);
    world.apply(&Manifest::new("orders"));
    world.wait_until_runs("orders", 1);
    let taken = kube::api::Patch::Merge(json!({ "spec": { "holderIdentity": "somebody else" } }));
    let leases = world.api::<Lease>();
    // A renewal at the same time wins against it; then it is taken again.
    let ended = world.until("the operator to end", || {
        block_on(leases.patch("millrace-operator", &Default::default(), &taken)).unwrap();
        operator.ended()
    });
    assert!(!ended.success());
    assert_eq!(world.names("orders"), ["orders-0-1"]);
    assert!(world.list::<StreamingJob>().iter().all(|job| job.finalizers().is_empty()));
}
