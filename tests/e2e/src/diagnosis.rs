//! What a person would look at first when a test fails.

use crate::cluster::SYSTEM;
use crate::command::kubectl;
use crate::space::TestNamespace;

/// The namespace's jobs, pods and events, the last lines of the runners' logs, and what the operator said of it.
pub async fn diagnosis(space: &TestNamespace) -> String {
    let name = space.name();
    let looks: [(&str, &[&str]); 5] = [
        ("jobs", &["get", "streamingjobs", "--output", "yaml"]),
        ("pods", &["get", "pods", "--output", "wide"]),
        ("events", &["get", "events", "--sort-by", ".lastTimestamp"]),
        ("runners", &["logs", "--selector", "millrace.dev/job", "--prefix", "--tail", "30"]),
        ("runners before", &["logs", "--selector", "millrace.dev/job", "--prefix", "--tail", "30", "--previous"]),
    ];
    let mut text = String::new();
    for (what, arguments) in looks {
        add(&mut text, what, &shown(kubectl(name, arguments).await));
    }
    let operator = ["logs", "--selector", "app.kubernetes.io/component=operator", "--prefix", "--tail", "2000"];
    let operator = shown(kubectl(SYSTEM, &operator).await);
    let ours: Vec<_> = operator.lines().filter(|line| line.contains(name)).collect();
    add(&mut text, "operator", &ours[ours.len().saturating_sub(40)..].join("\n"));
    text
}

fn shown(printed: crate::Result<String>) -> String {
    printed.unwrap_or_else(|error| format!("({error:#})"))
}

fn add(text: &mut String, what: &str, printed: &str) {
    text.push_str(&format!("--- {what}\n{printed}\n"));
}
