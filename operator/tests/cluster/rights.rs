//! The operator with the rights that its chart gives it, and none more; in all namespaces, and while the API server is away.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use millrace_tests::servers::apiserver::ApiServer;
use millrace_tests::servers::process::Signal;
use serde_json::{Value, json};

use crate::harness::block_on;
use crate::harness::job::Manifest;
use crate::harness::operator::Operator;
use crate::harness::play::{self, Ending};
use crate::harness::world::{World, install};

/// What the operator may do where it looks after jobs.
fn of_jobs() -> Value {
    json!([
        { "apiGroups": ["millrace.dev"], "resources": ["streamingjobs"], "verbs": ["get", "list", "watch"] },
        { "apiGroups": ["millrace.dev"], "resources": ["streamingjobs/status"], "verbs": ["patch"] },
        { "apiGroups": [""], "resources": ["pods", "configmaps"],
          "verbs": ["get", "list", "watch", "create", "patch", "delete"] },
        { "apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"] },
        { "apiGroups": ["policy"], "resources": ["poddisruptionbudgets"],
          "verbs": ["get", "list", "watch", "create", "patch", "delete"] },
    ])
}

/// What it may do where it runs.
fn of_lease() -> Value {
    json!([{ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"] }])
}

/// What it may do in the cluster in any case.
fn of_cluster() -> Value {
    json!([{ "apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["kube-system"], "verbs": ["get"] }])
}

/// A kubeconfig of a service account that may do so much in a namespace, and in the cluster.
fn account(server: &ApiServer, world: &World, in_namespace: &[Value], in_cluster: &[Value]) -> PathBuf {
    let subjects = json!([{ "kind": "ServiceAccount", "name": "operator", "namespace": world.namespace }]);
    world.create::<ServiceAccount>(json!({ "metadata": { "name": "operator" } }));
    let reference =
        |kind: &str, name: &str| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name });
    for (n, rules) in in_namespace.iter().enumerate() {
        let name = format!("operator-{n}");
        world.create::<Role>(json!({ "metadata": { "name": name }, "rules": rules }));
        let role = reference("Role", &name);
        world.create::<RoleBinding>(json!({ "metadata": { "name": name }, "roleRef": role, "subjects": subjects }));
    }
    for (n, rules) in in_cluster.iter().enumerate() {
        let name = format!("{}-operator-{n}", world.namespace);
        let role = json!({ "metadata": { "name": name }, "rules": rules });
        let role: ClusterRole = serde_json::from_value(role).unwrap();
        block_on(Api::all(world.client()).create(&PostParams::default(), &role)).unwrap();
        let role = reference("ClusterRole", &name);
        let binding = json!({ "metadata": { "name": name }, "roleRef": role, "subjects": subjects });
        let binding: ClusterRoleBinding = serde_json::from_value(binding).unwrap();
        block_on(Api::all(world.client()).create(&PostParams::default(), &binding)).unwrap();
    }
    let accounts = world.api::<ServiceAccount>();
    let request = TokenRequest::default();
    let token = block_on(accounts.create_token_request("operator", &PostParams::default(), &request)).unwrap();
    server.kubeconfig(Some(&token.status.unwrap().token)).unwrap()
}

/// Has the operator make, tell and delete every kind of object, and write events.
fn exercise(world: &World) {
    world.apply(&Manifest::new("orders").parallelism(2));
    world.wait_until_runs("orders", 2);
    world.wait("the disruption budget", || world.list::<PodDisruptionBudget>().len() == 1);
    world.apply(&Manifest::new("orders").query("SELECT id + 1 AS id FROM orders"));
    world.wait_until_runs("orders", 1);
    world.wait("the old revision and the budget to go", || {
        world.list::<ConfigMap>().iter().map(ResourceExt::name_any).eq(["orders-r2"])
            && world.list::<PodDisruptionBudget>().is_empty()
    });
    let killed = Ending::now(137, "OOMKilled");
    let pod = world.names("orders").remove(0);
    world.kubelet.plays_one(&pod, move |pod| play::backs_off(pod, &killed));
    world.wait("another pod", || world.names("orders").first().is_some_and(|name| *name != pod));
    world.wait_until_runs("orders", 1);
    world.wait("an event about the job", || {
        let regards = |event: &Event| event.regarding.as_ref().is_some_and(|job| job.name.as_deref() == Some("orders"));
        world.list::<Event>().iter().any(regards)
    });
}

fn was_never_refused(operator: &Operator) {
    for code in ["401", "403"] {
        let label = format!("code=\"{code}\"");
        let refused = operator.metric("millrace_operator_api_calls_total", &[&label]);
        assert_eq!(refused, 0.0, "{}\n{}", operator.metrics(), operator.printed());
    }
    assert!(!operator.printed().contains("forbidden"), "{}", operator.printed());
}

#[test]
fn the_rights_of_the_chart_are_enough_for_all_that_the_operator_does_in_named_namespaces() {
    let world = World::new();
    let kubeconfig = account(ApiServer::shared().unwrap(), &world, &[of_jobs(), of_lease()], &[of_cluster()]);
    let mut operator = world.operator_of(&kubeconfig, &["--identity", "one"]);
    exercise(&world);
    was_never_refused(&operator);
    assert!(operator.stop().success());
}

#[test]
fn an_operator_of_all_namespaces_has_enough_rights_and_outlives_an_api_server_that_does_not_answer() {
    let mut server = ApiServer::start().unwrap();
    install(&server);
    let administrator = server.kubeconfig(None).unwrap();
    let (here, there) = (World::within(administrator.clone()), World::within(administrator));
    let kubeconfig = account(&server, &here, &[of_lease()], &[of_jobs(), of_cluster()]);
    let operator = here.operator_everywhere(&kubeconfig, &["--no-leader-election"]);
    exercise(&here);
    exercise(&there);
    let uids = (here.uids("orders"), there.uids("orders"));

    server.signal(Signal::Stop).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        assert_eq!(operator.get("/livez").map(|answer| answer.status), Some(200));
        std::thread::sleep(Duration::from_millis(200));
    }
    server.signal(Signal::Continue).unwrap();
    assert_eq!((here.uids("orders"), there.uids("orders")), uids);
    let gone = there.names("orders").remove(0);
    there.delete_pod(&gone);
    there.wait("a new pod", || there.names("orders").first().is_some_and(|name| *name != gone));
    there.wait_until_runs("orders", 1);
    assert_eq!(here.uids("orders"), uids.0);
    was_never_refused(&operator);
}
