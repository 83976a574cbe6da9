//! What a kubelet reports of a runner pod: the statuses that it writes, as values.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use millrace_crds::contract::{
    ANNOTATION_TERM, FailureClass, LABEL_ORDINAL, LABEL_POD_NUMBER, LABEL_REVISION, LABEL_REVISION_NUMBER, TermRequest,
    TerminationMessage,
};
use serde_json::{Value, json};

/// A label of a pod.
pub fn label<'a>(pod: &'a Pod, name: &str) -> &'a str {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str).unwrap_or_default()
}

/// A pod's name.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap()
}

/// A pod's uid.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap()
}

/// A pod's ordinal.
pub fn ordinal(pod: &Pod) -> u32 {
    label(pod, LABEL_ORDINAL).parse().unwrap()
}

/// A pod's number.
pub fn number(pod: &Pod) -> i64 {
    label(pod, LABEL_POD_NUMBER).parse().unwrap()
}

/// Number of a pod's revision.
pub fn revision(pod: &Pod) -> i64 {
    label(pod, LABEL_REVISION_NUMBER).parse().unwrap()
}

/// Whether a pod was asked to go.
pub fn is_going(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// The term that a pod was told.
pub fn term(pod: &Pod) -> Option<TermRequest> {
    let told = pod.metadata.annotations.as_ref()?.get(ANNOTATION_TERM)?;
    Some(serde_json::from_str(told).unwrap())
}

/// Its process runs, and has not found its job valid yet.
pub fn begins(pod: &Pod) -> Value {
    running(pod, false, false)
}

/// Its process has found its job valid; it holds no tasks.
pub fn starts(pod: &Pod) -> Value {
    running(pod, true, false)
}

/// A runner as it should be: valid, and ready when the term is of its revision and has a place for it.
pub fn works(pod: &Pod) -> Value {
    let own = format!("{}-{}", revision(pod), label(pod, LABEL_REVISION));
    let has_place = term(pod).is_some_and(|term| term.revision == own && ordinal(pod) < term.parallelism);
    running(pod, true, has_place)
}

/// Its node is not heard of any more: what was reported last stays, and the node controller takes `Ready` back.
pub fn lost(pod: &Pod) -> Value {
    let mut status = works(pod);
    status["conditions"] = conditions(false, true);
    status
}

/// No node has a place for it.
pub fn unschedulable(pod: &Pod) -> Value {
    unschedulable_since(pod, pod.metadata.creation_timestamp.as_ref().unwrap().0)
}

/// No node has had a place for it since then.
pub fn unschedulable_since(_: &Pod, since: Timestamp) -> Value {
    let message = "0/3 nodes are available: 3 Insufficient cpu.";
    let condition = json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message, "lastTransitionTime": seconds(since) });
    json!({ "phase": "Pending", "conditions": [condition] })
}

/// How a runner's process ended.
#[derive(Debug, Clone)]
pub struct Ending {
    pub code: i32,
    pub reason: &'static str,
    pub at: Timestamp,
    pub message: Option<TerminationMessage>,
}

impl Ending {
    /// It ended now, and said nothing.
    pub fn now(code: i32, reason: &'static str) -> Self {
        Self { code, reason, at: Timestamp::now(), message: None }
    }

    /// It ended now, and said whose problem it is.
    pub fn with(code: i32, class: FailureClass, reason: &str, message: &str) -> Self {
        let (reason, message) = (reason.to_owned(), message.to_owned());
        let log = vec!["the last line of its log".to_owned()];
        let said = TerminationMessage { class: Some(class), reason, message, log, ..TerminationMessage::default() };
        Self { message: Some(said), ..Self::now(code, "Error") }
    }

    /// It ended now because its bounded job is complete.
    pub fn complete() -> Self {
        let said = TerminationMessage { completed: true, reason: "Completed".into(), ..TerminationMessage::default() };
        Self { message: Some(said), ..Self::now(0, "Completed") }
    }

    fn state(&self) -> Value {
        let message = self.message.as_ref().map(TerminationMessage::to_json);
        json!({ "terminated": {
            "exitCode": self.code, "reason": self.reason, "message": message,
            "startedAt": seconds(self.at), "finishedAt": seconds(self.at),
        } })
    }
}

/// Its process ended and the kubelet waits before it starts it again.
pub fn backs_off(_: &Pod, ending: &Ending) -> Value {
    let waiting =
        json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container" } });
    let mut status = with_state(waiting, false, false);
    status["containerStatuses"][0]["lastState"] = ending.state();
    status
}

/// Its process ended and the kubelet has started it again.
pub fn restarted(pod: &Pod, ending: &Ending) -> Value {
    let mut status = works(pod);
    status["containerStatuses"][0]["lastState"] = ending.state();
    status["containerStatuses"][0]["restartCount"] = 1.into();
    status
}

/// Its process ended with 0 for good.
pub fn succeeded(_: &Pod, ending: &Ending) -> Value {
    let mut status = with_state(ending.state(), false, false);
    status["phase"] = "Succeeded".into();
    status
}

/// The pod as a whole failed: evicted, refused, or gone with its node.
pub fn failed(_: &Pod, reason: &str, message: &str) -> Value {
    json!({ "phase": "Failed", "reason": reason, "message": message })
}

fn running(pod: &Pod, started: bool, ready: bool) -> Value {
    let since = seconds(pod.metadata.creation_timestamp.as_ref().unwrap().0);
    with_state(json!({ "running": { "startedAt": since } }), started, ready)
}

fn with_state(state: Value, started: bool, ready: bool) -> Value {
    let container = json!({
        "name": "runner", "image": "millrace:test", "imageID": "", "restartCount": 0,
        "started": started, "ready": ready, "state": state, "lastState": {},
    });
    json!({ "phase": "Running", "conditions": conditions(ready, ready), "containerStatuses": [container] })
}

fn conditions(ready: bool, containers_ready: bool) -> Value {
    let status = |holds: bool| if holds { "True" } else { "False" };
    json!([
        { "type": "PodScheduled", "status": "True" },
        { "type": "Initialized", "status": "True" },
        { "type": "ContainersReady", "status": status(containers_ready) },
        { "type": "Ready", "status": status(ready) },
    ])
}

/// An instant as Kubernetes writes it.
pub fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
