//! The operator with the rights that its chart gives it, and none more.

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use millrace_tests::servers::apiserver::ApiServer;
use serde_json::{Value, json};

use crate::harness::block_on;
use crate::harness::job::Manifest;
use crate::harness::play::{self, Ending};
use crate::harness::world::World;

/// What the operator may do where it looks after jobs.
fn rules() -> Value {
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
fn own_rules() -> Value {
    json!([{ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"] }])
}

#[test]
fn the_rights_of_the_chart_are_enough_for_everything_the_operator_does() {
    let world = World::new();
    let subjects = json!([{ "kind": "ServiceAccount", "name": "operator", "namespace": world.namespace }]);
    world.create::<ServiceAccount>(json!({ "metadata": { "name": "operator" } }));
    for (name, rules) in [("jobs", rules()), ("lease", own_rules())] {
        world.create::<Role>(json!({ "metadata": { "name": name }, "rules": rules }));
        let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name });
        world.create::<RoleBinding>(json!({ "metadata": { "name": name }, "roleRef": role, "subjects": subjects }));
    }
    let name = format!("{}-cluster", world.namespace);
    let rule =
        json!([{ "apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["kube-system"], "verbs": ["get"] }]);
    let role: ClusterRole = serde_json::from_value(json!({ "metadata": { "name": name }, "rules": rule })).unwrap();
    block_on(Api::all(world.client()).create(&PostParams::default(), &role)).unwrap();
    let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name });
    let binding = json!({ "metadata": { "name": name }, "roleRef": role, "subjects": subjects });
    let binding: ClusterRoleBinding = serde_json::from_value(binding).unwrap();
    block_on(Api::all(world.client()).create(&PostParams::default(), &binding)).unwrap();

    let accounts = world.api::<ServiceAccount>();
    let request = TokenRequest::default();
    let token = block_on(accounts.create_token_request("operator", &PostParams::default(), &request)).unwrap();
    let token = token.status.unwrap().token;
    let kubeconfig = ApiServer::shared().unwrap().kubeconfig(Some(&token)).unwrap();
    let mut operator = world.operator_of(&kubeconfig, &["--identity", "one"]);

    // Every object that it makes, tells and deletes, and every event that it writes.
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
        world
            .list::<Event>()
            .iter()
            .any(|event| event.regarding.as_ref().is_some_and(|job| job.name.as_deref() == Some("orders")))
    });
    for code in ["401", "403"] {
        let label = format!("code=\"{code}\"");
        assert_eq!(operator.metric("millrace_operator_api_calls_total", &[&label]), 0.0, "{}", operator.metrics());
    }
    assert!(operator.stop().success());
    assert!(!operator.printed().contains("forbidden"), "{}", operator.printed());
}
