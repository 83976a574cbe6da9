//! The operator's rights against what it used, by the API server's audit log of everything this cluster has seen. To be run
//! after the other tests.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::api::{Api, ListParams};
use millrace_e2e::Result;
use millrace_e2e::cluster::{Cluster, SYSTEM};
use millrace_e2e::node::Node;

/// An API group, a resource with its subresource, and a verb.
type Right = (String, String, String);

/// Made for users and not for the operator.
const FOR_USERS: &str = "rbac.authorization.k8s.io/aggregate-to-";

#[tokio::test]
async fn the_operator_has_the_rights_it_uses_and_no_others() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let (used, denied) = asked(&cluster).await?;
    ensure!(denied.is_empty(), "it was denied {denied:?}");
    let granted = granted(&cluster).await?;
    let unused: Vec<_> = granted.difference(&used).collect();
    println!(
        "figure: rights granted {}, used {}, unused {unused:?}",
        granted.len(),
        used.intersection(&granted).count()
    );
    ensure!(unused.is_empty(), "it never used {unused:?}");
    Ok(())
}

/// What the operator asked of the API server, and of that what it had no right to.
async fn asked(cluster: &Cluster) -> Result<(BTreeSet<Right>, BTreeSet<Right>)> {
    // Summed up on the node: the log is long.
    const LINES: &str = r#"jq -r 'select(.user.username == "system:serviceaccount:millrace-system:millrace-operator" and .objectRef.resource != null)
        | [.objectRef.apiGroup // "", .objectRef.resource, .objectRef.subresource // "", .verb, (.responseStatus.code // 0 | tostring), .annotations["authorization.k8s.io/decision"] // ""]
        | join("|")' /var/log/kubernetes/audit*.log | sort -u"#;
    let lines = Node::control_plane(cluster).await?.run(&["sh", "-c", LINES]).await?;
    let (mut used, mut denied) = (BTreeSet::new(), BTreeSet::new());
    for line in lines.lines() {
        let parts: Vec<&str> = line.split('|').collect();
        let [group, resource, subresource, verb, code, decision] =
            parts.try_into().ok().context("a line of another form")?;
        let resource = if subresource.is_empty() { resource.to_owned() } else { format!("{resource}/{subresource}") };
        let right = (group.to_owned(), resource, verb.to_owned());
        if decision == "forbid" {
            denied.insert(right.clone());
        }
        // An apply that makes its object takes the right to create too, which the log does not say.
        if verb == "patch" && code == "201" {
            used.insert((right.0.clone(), right.1.clone(), "create".to_owned()));
        }
        used.insert(right);
    }
    ensure!(!used.is_empty(), "the audit log says nothing of the operator");
    Ok((used, denied))
}

async fn granted(cluster: &Cluster) -> Result<BTreeSet<Right>> {
    let chart = ListParams::default().labels("app.kubernetes.io/instance=millrace");
    let wide: Api<ClusterRole> = Api::all(cluster.client.clone());
    let narrow: Api<Role> = Api::namespaced(cluster.client.clone(), SYSTEM);
    let mut rules: Vec<PolicyRule> = Vec::new();
    for role in wide.list(&chart).await?.items {
        let labels = role.metadata.labels.unwrap_or_default();
        if !labels.keys().any(|label| label.starts_with(FOR_USERS)) {
            rules.extend(role.rules.unwrap_or_default());
        }
    }
    for role in narrow.list(&chart).await?.items {
        rules.extend(role.rules.unwrap_or_default());
    }
    let mut rights = BTreeSet::new();
    for rule in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                rights.extend(rule.verbs.iter().map(|verb| (group.clone(), resource.clone(), verb.clone())));
            }
        }
    }
    Ok(rights)
}
