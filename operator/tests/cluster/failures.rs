//! What goes wrong with pods, and what the operator makes of it.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ResourceQuota};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use millrace_crds::contract::{CommitPoint, Degraded, FailureClass, Lag, Phase, RunnerStatus, SavepointPoint};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::harness::block_on;
use crate::harness::job::Manifest;
use crate::harness::play::{self, Ending};
use crate::harness::runners::Runner;
use crate::harness::world::World;

#[test]
fn a_restart_in_place_leaves_the_pod_alone_and_a_long_back_off_makes_a_new_one() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders"));
    world.wait_until_runs("orders", 1);
    let killed = Ending::now(137, "Error");
    world.kubelet.plays_one("orders-0-1", move |pod| play::restarted(pod, &killed));
    world.wait("the restart to be counted", || world.status("orders").restarts == Some(1));
    world.wait_until_runs("orders", 1);
    let failure = world.status("orders").last_failure.unwrap();
    assert_eq!((failure.class, failure.reason.as_str()), (Some(FailureClass::Infrastructure), "Killed"));
    assert_eq!(failure.exit_code, Some(137));
    world.stays("the pod stays", Duration::from_secs(2), || world.names("orders") == ["orders-0-1"]);

    let again = Ending::now(137, "Error");
    world.kubelet.plays_one("orders-0-1", move |pod| play::backs_off(pod, &again));
    world.wait("another pod", || world.names("orders") == ["orders-0-2"]);
    world.wait_until_runs("orders", 1);
    assert_eq!(world.status("orders").restarts, Some(2));
}

#[test]
fn a_runner_out_of_memory_is_replaced_and_the_status_says_what_to_do() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders"));
    world.wait_until_runs("orders", 1);
    let killed = Ending::now(137, "OOMKilled");
    world.kubelet.plays_one("orders-0-1", move |pod| play::backs_off(pod, &killed));
    world.wait("another pod", || world.names("orders") == ["orders-0-2"]);
    world.wait_until_runs("orders", 1);
    let failure = world.status("orders").last_failure.unwrap();
    assert_eq!((failure.class, failure.reason.as_str()), (Some(FailureClass::Infrastructure), "OOMKilled"));
    assert!(failure.message.contains("limits.memory"), "{}", failure.message);
}

#[test]
fn after_too_many_failures_in_a_row_nothing_runs_until_the_job_is_changed() {
    let world = World::new();
    let _operator = world.operator();
    world.kubelet.plays(|pod| {
        let created = pod.metadata.creation_timestamp.as_ref().unwrap().0;
        let mut ending = Ending::with(70, FailureClass::Internal, "Panic", "a bug");
        // Each pod ends a second after it began.
        ending.at = created.checked_add(jiff::SignedDuration::from_secs(1)).unwrap();
        play::backs_off(pod, &ending)
    });
    let restart = json!({ "maxRetries": 1, "backoff": { "initial": "1s", "max": "1s" } });
    world.apply(&Manifest::new("orders").with("restart", restart));
    let stalled = world.wait_for("orders", "Stalled", "True", "RetriesExhausted");
    assert!(stalled.message.contains("a bug") && stalled.message.contains("restart-nonce"), "{}", stalled.message);
    world.wait_for("orders", "Reconciling", "False", "Stalled");
    world.wait("no pods", || world.list::<Pod>().is_empty());
    world.stays("nothing runs", Duration::from_secs(3), || world.list::<Pod>().is_empty());
    world.kubelet.plays(play::works);
    world.apply(&Manifest::new("orders").query("SELECT id + 1 AS id FROM orders"));
    world.wait_for("orders", "Ready", "True", "Running");
    world.wait("the new revision alone", || {
        let pods = world.pods("orders");
        pods.len() == 1 && play::revision(&pods[0]) == 2
    });
}

#[test]
fn a_pod_that_failed_as_a_whole_or_whose_node_is_lost_is_replaced() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders"));
    world.wait_until_runs("orders", 1);
    world.kubelet.plays_one("orders-0-1", |pod| play::failed(pod, "Evicted", "the node was low on memory"));
    world.wait("another pod", || world.names("orders") == ["orders-0-2"]);
    world.wait_until_runs("orders", 1);
    let failure = world.status("orders").last_failure.unwrap();
    assert_eq!((failure.reason.as_str(), failure.message.as_str()), ("Evicted", "the node was low on memory"));

    // The kubelet of a lost node removes nothing.
    world.kubelet.removes(false);
    world.kubelet.plays_one("orders-0-2", play::lost);
    world.wait("another pod", || world.names("orders") == ["orders-0-3"]);
    world.wait_for("orders", "Ready", "True", "Running");
    world.wait_for("orders", "Reconciling", "False", "Settled");
    assert_eq!(world.list::<Pod>().len(), 2, "the pod of the lost node still stops");
}

#[test]
fn a_pod_without_a_place_degrades_the_job_in_the_schedulers_words_until_it_has_one() {
    let world = World::new();
    let _operator = world.operator();
    world.kubelet.plays(play::unschedulable);
    world.apply(&Manifest::new("orders"));
    let degraded = world.wait_for("orders", "Degraded", "True", "Unschedulable");
    assert!(degraded.message.contains("3 Insufficient cpu"), "{}", degraded.message);
    world.wait_for("orders", "Ready", "False", "Unschedulable");
    assert_eq!(world.condition("orders", "Stalled").unwrap().status, "False");
    world.kubelet.plays(play::works);
    world.wait_until_runs("orders", 1);
    world.wait_for("orders", "Degraded", "False", "NotDegraded");
    assert_eq!(world.names("orders"), ["orders-0-1"]);
}

/// A quota of a namespace, counted as the quota's controller does, which is not there.
fn quota(world: &World, name: &str, hard: &Value, used: &Value) {
    world.create::<ResourceQuota>(json!({ "metadata": { "name": name }, "spec": { "hard": hard } }));
    let counted = Patch::Merge(json!({ "status": { "hard": hard, "used": used } }));
    block_on(world.api::<ResourceQuota>().patch_status(name, &PatchParams::default(), &counted)).unwrap();
}

/// Waits until the API server, which learns of a quota some time later, refuses an object for it.
fn wait_until_refused<K>(world: &World, object: Value)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
{
    let object: K = serde_json::from_value(object).unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    world.wait("the quota to be in force", || {
        let created = block_on(world.api::<K>().create(&dry, &object));
        created.is_err_and(|error| error.to_string().contains("exceeded quota"))
    });
}

fn lift_quota(world: &World, name: &str) {
    block_on(world.api::<ResourceQuota>().delete(name, &DeleteParams::default())).unwrap();
}

#[test]
fn a_quota_degrades_the_job_in_the_api_servers_words_and_what_is_mended_is_used_within_a_minute() {
    let world = World::new();
    let _operator = world.operator();
    quota(&world, "one-pod", &json!({ "pods": "1" }), &json!({ "pods": "0" }));
    world.apply(&Manifest::new("orders").parallelism(2));
    let degraded = world.wait_for("orders", "Degraded", "True", "QuotaExceeded");
    assert!(degraded.message.contains("exceeded quota: one-pod"), "{}", degraded.message);
    world.wait_for("orders", "Ready", "False", "Starting");
    assert_eq!(world.pods("orders").len(), 1);
    let kept = world.uids("orders");
    lift_quota(&world, "one-pod");
    world.within_time("the other pod", Duration::from_secs(90), || (world.pods("orders").len() == 2).then_some(()));
    world.wait_until_runs("orders", 2);
    world.wait_for("orders", "Degraded", "False", "NotDegraded");
    assert!(world.uids("orders").contains(&kept[0]));
}

#[test]
fn a_quota_on_what_is_no_pod_is_said_and_holds_up_nothing_else() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders"));
    world.wait_until_runs("orders", 1);
    let one = json!({ "configmaps": "1" });
    quota(&world, "one-config-map", &one, &one);
    wait_until_refused::<ConfigMap>(&world, json!({ "metadata": { "name": "probe" } }));
    world.apply(&Manifest::new("orders").query("SELECT id + 1 AS id FROM orders"));
    let degraded = world.wait_for("orders", "Degraded", "True", "QuotaExceeded");
    assert!(degraded.message.contains("cannot create ConfigMap orders-r2: "), "{}", degraded.message);
    assert!(degraded.message.contains("exceeded quota: one-config-map"), "{}", degraded.message);
    world.wait_for("orders", "Ready", "True", "PreviousRevisionRunning");
    // What runs is replaced as if nothing were the matter.
    world.delete_pod("orders-0-1");
    world.within_time("a new pod", Duration::from_secs(15), || (!world.names("orders").is_empty()).then_some(()));
    assert!(world.pods("orders").iter().all(|pod| play::revision(pod) == 1));
    lift_quota(&world, "one-config-map");
    world.within_time("the edit", Duration::from_secs(90), || {
        world.condition("orders", "Ready").filter(|ready| ready.reason == "Running")
    });
    world.wait_for("orders", "Degraded", "False", "NotDegraded");

    let none = json!({ "count/poddisruptionbudgets.policy": "0" });
    quota(&world, "no-budget", &none, &none);
    wait_until_refused::<PodDisruptionBudget>(&world, json!({ "metadata": { "name": "probe" }, "spec": {} }));
    world.patch("orders", json!({ "spec": { "parallelism": 2 } }));
    let degraded = world.wait_for("orders", "Degraded", "True", "QuotaExceeded");
    assert!(degraded.message.contains("cannot apply the disruption budget: "), "{}", degraded.message);
    world.wait_until_runs("orders", 2);
    lift_quota(&world, "no-budget");
    world.within_time("the disruption budget", Duration::from_secs(90), || world.list::<PodDisruptionBudget>().pop());
    world.wait_for("orders", "Degraded", "False", "NotDegraded");
}

#[test]
fn a_runner_that_commits_nothing_while_input_waits_is_not_ready_and_one_that_is_caught_up_is() {
    let world = World::new();
    let _operator = world.operator();
    let says = |records| RunnerStatus {
        phase: Phase::Running,
        last_commit: Some(CommitPoint { seq: 41, time: "2026-01-31T12:00:00Z".into() }),
        lag: [("orders".to_owned(), Lag { records })].into(),
        ..RunnerStatus::default()
    };
    let runner = Runner::start(says(0));
    world.kubelet.places("orders-0-1", runner.address);
    let trigger = json!({ "interval": "1s" });
    world.apply(&Manifest::new("orders").with("trigger", trigger).with("progressDeadline", "2s"));
    world.wait_until_runs("orders", 1);
    let uids = world.uids("orders");
    let settings = world.pods("orders")[0].annotations()["millrace.dev/settings"].clone();
    assert_eq!(settings, r#"{"progressDeadlineSeconds":2}"#);
    world.wait("its last commit", || world.status("orders").last_commit.is_some());
    world.stays("idle and caught up counts as progress", Duration::from_secs(4), || {
        world.condition("orders", "Ready").is_some_and(|ready| ready.status == "True")
    });

    // The runner's own readiness probe says so; here it is played.
    runner.answers(Some(says(500)));
    world.kubelet.plays(play::starts);
    let ready = world.wait_for("orders", "Ready", "False", "NoProgress");
    assert!(ready.message.contains("progressDeadline of 2 s"), "{}", ready.message);
    world.wait("the lag to be said", || {
        let ready = world.condition("orders", "Ready").unwrap();
        ready.message.contains("500 messages wait; its last commit was at 2026-01-31T12:00:00Z")
    });
    assert_eq!(world.uids("orders"), uids, "nothing restarts for it");

    world.patch("orders", json!({ "spec": { "progressDeadline": "90s" } }));
    world.wait("the new deadline to reach the runner", || {
        world.pods("orders")[0].annotations()["millrace.dev/settings"] == r#"{"progressDeadlineSeconds":90}"#
    });
    world.kubelet.plays(play::works);
    world.wait_until_runs("orders", 1);
    assert_eq!(world.uids("orders"), uids);
    assert_eq!(world.status("orders").revision.unwrap().number, 1, "a deadline is no revision");
}

#[test]
fn a_running_revision_whose_config_map_somebody_deleted_is_rendered_again() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders"));
    world.wait_until_runs("orders", 1);
    block_on(world.api::<ConfigMap>().delete("orders-r1", &DeleteParams::default())).unwrap();
    world.wait("the ConfigMap to be there again", || world.list::<ConfigMap>().len() == 1);
    assert_eq!(world.names("orders"), ["orders-0-1"]);
}

#[test]
fn a_lost_config_map_of_what_ran_before_does_not_hold_up_the_revision_that_is_wanted() {
    let world = World::new();
    let mut operator = world.operator();
    world.apply(&Manifest::new("orders"));
    world.wait_until_runs("orders", 1);
    operator.kill();
    block_on(world.api::<ConfigMap>().delete("orders-r1", &DeleteParams::default())).unwrap();
    world.delete_pod("orders-0-1");
    world.apply(&Manifest::new("orders").query("SELECT id + 1 AS id FROM orders"));
    let _operator = world.operator();
    world.wait_for("orders", "Ready", "True", "Running");
    assert_eq!(world.status("orders").revision.unwrap().number, 2);
}

#[test]
fn a_status_that_cannot_be_read_is_neither_overwritten_nor_acted_on() {
    let world = World::new();
    let mut operator = world.operator();
    world.apply(&Manifest::new("orders"));
    world.apply(&Manifest::new("payments"));
    world.wait_until_runs("orders", 1);
    world.wait_until_runs("payments", 1);
    operator.kill();
    // The resource definition takes it, and this operator cannot hold it.
    world.patch_status("orders", json!({ "term": { "parallelism": 5_000_000_000_u64 } }));
    let operator = world.operator();
    operator.wait_until_ready();
    world.delete_pod("orders-0-1");
    world.delete_pod("payments-0-1");
    world.wait("the other job's new pod", || world.names("payments") == ["payments-0-2"]);
    world.wait("the log to say why", || operator.printed().contains("the status cannot be read"));
    assert!(world.pods("orders").is_empty());
    world.patch_status("orders", json!({ "term": { "parallelism": 1 } }));
    world.wait("a new pod", || world.names("orders") == ["orders-0-2"]);
}

#[test]
fn what_runners_say_of_themselves_is_in_the_status_and_what_they_do_not_say_is_not() {
    let world = World::new();
    let _operator = world.operator();
    let says = |seq, records| RunnerStatus {
        phase: Phase::Running,
        last_commit: Some(CommitPoint { seq, time: format!("2026-11-21T12:00:{seq}Z") }),
        lag: [("orders".to_owned(), Lag { records })].into(),
        savepoints: vec![SavepointPoint { name: "before-fix".into(), seq: 7 }],
        ..RunnerStatus::default()
    };
    let (first, second) = (Runner::start(says(41, 100)), Runner::start(says(42, 23)));
    world.kubelet.places("orders-0-1", first.address);
    world.kubelet.places("orders-1-2", second.address);
    world.apply(&Manifest::new("orders").parallelism(2));
    world.wait_until_runs("orders", 2);
    let status = world.until("the lag of both", || {
        Some(world.status("orders")).filter(|status| status.lag.as_ref().is_some_and(|lag| lag.records == Some(123)))
    });
    assert_eq!(status.last_commit.unwrap().seq, 42);
    assert_eq!(status.savepoints[0].name, "before-fix");

    let away = Degraded {
        class: Some(FailureClass::External),
        reason: "KafkaUnreachable".into(),
        message: "kafka:9092 does not answer".into(),
        since: "2026-11-21T12:01:00Z".into(),
    };
    second.answers(Some(RunnerStatus { degraded: Some(away), ..says(42, 23) }));
    let degraded = world.wait_for("orders", "Degraded", "True", "KafkaUnreachable");
    assert!(degraded.message.contains("kafka:9092 does not answer"), "{}", degraded.message);
    assert_eq!(world.names("orders"), ["orders-0-1", "orders-1-2"]);
    second.answers(None);
    world.wait_for("orders", "Degraded", "False", "NotDegraded");
    world.wait("a lag that is not known", || world.status("orders").lag.is_none());
    assert_eq!(world.status("orders").last_commit.unwrap().seq, 42);
    assert_eq!(world.names("orders"), ["orders-0-1", "orders-1-2"]);
}

#[test]
fn an_edit_that_the_namespace_does_not_allow_is_said_and_leaves_what_runs_alone() {
    let world = World::new();
    let _operator = world.operator();
    world.apply(&Manifest::new("orders"));
    world.wait_until_runs("orders", 1);
    let uids = world.uids("orders");
    world.patch("orders", json!({ "spec": { "runner": { "podTemplate": { "spec": { "hostNetwork": true } } } } }));
    let degraded = world.wait_for("orders", "Degraded", "True", "PodSecurity");
    assert!(degraded.message.contains("violates PodSecurity"), "{}", degraded.message);
    world.wait_for("orders", "Ready", "True", "PreviousRevisionRunning");
    assert_eq!(world.uids("orders"), uids);
    world.patch("orders", json!({ "spec": { "runner": null } }));
    world.wait_until_runs("orders", 1);
    world.wait_for("orders", "Degraded", "False", "NotDegraded");
    assert_eq!(world.uids("orders"), uids);
}

#[test]
fn a_webhook_that_is_away_degrades_the_job_until_it_is_mended() {
    let world = World::new();
    let _operator = world.operator();
    let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(world.client());
    let webhook = json!({
        "metadata": { "name": format!("{}-pods", world.namespace) },
        "webhooks": [{
            "name": "pods.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
            // Nothing listens there.
            "clientConfig": { "url": "https://127.0.0.1:9/pods" },
            "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }],
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": world.namespace } },
        }],
    });
    let webhook: ValidatingWebhookConfiguration = serde_json::from_value(webhook).unwrap();
    let webhook = block_on(webhooks.create(&PostParams::default(), &webhook)).unwrap();
    // The API server learns of it some time later; what the namespace allows is judged before.
    let security = json!({
        "allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": { "drop": ["ALL"] },
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    let container = json!({ "name": "probe", "image": "probe", "securityContext": security });
    let pod = json!({ "metadata": { "name": "probe" }, "spec": { "containers": [container] } });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    world.wait("the webhook to be asked", || {
        block_on(world.api::<Pod>().create(&dry, &pod))
            .is_err_and(|error| error.to_string().contains("failed calling webhook"))
    });
    world.apply(&Manifest::new("orders"));
    let degraded = world.wait_for("orders", "Degraded", "True", "WebhookDenied");
    assert!(degraded.message.contains("failed calling webhook \"pods.example.com\""), "{}", degraded.message);
    block_on(webhooks.delete(&webhook.name_any(), &DeleteParams::default())).unwrap();
    world.within_time("the pod", Duration::from_secs(90), || (world.pods("orders").len() == 1).then_some(()));
    world.wait_until_runs("orders", 1);
    world.wait_for("orders", "Degraded", "False", "NotDegraded");
}

#[test]
fn runners_that_do_not_answer_hold_up_no_job() {
    let world = World::new();
    let operator = world.operator_with(&["--no-leader-election", "--concurrency", "1"]);
    let silent = Runner::silent();
    let jobs: Vec<String> = (0..20).map(|n| format!("job-{n}")).collect();
    for job in &jobs {
        world.kubelet.places(&format!("{job}-0-1"), silent.address);
        world.apply(&Manifest::new(job));
    }
    for job in &jobs {
        world.wait_for(job, "Ready", "True", "Running");
    }
    // Were each waited for, twenty answers that do not come would take 40 s.
    world.apply(&Manifest::new("orders"));
    let bound = Duration::from_secs(15);
    world.within_time("another job to run", bound, || {
        world.condition("orders", "Ready").filter(|ready| ready.status == "True")
    });
    let stuck = operator.metric("millrace_operator_queue_depth", &[]);
    assert!(stuck < 20.0, "{stuck} jobs wait");
    assert!(world.status("job-0").lag.is_none());
}
