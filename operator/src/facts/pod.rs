//! A runner pod, as far as decisions look at it: only what the kubelet, the scheduler and the node controller report.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition};
use millrace_crds::contract::{
    ANNOTATION_DISPLACES, ANNOTATION_SETTINGS, ANNOTATION_TERM, LABEL_ORDINAL, LABEL_POD_NUMBER, LABEL_REVISION_NUMBER,
    RUNNER_CONTAINER, TerminationMessage,
};

/// A runner pod.
#[derive(Debug, Clone, PartialEq)]
pub struct PodFacts {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The version that was read.
    pub version: String,
    /// The ordinal it works as.
    pub ordinal: u32,
    /// Its number, which only grows within a job.
    pub number: i64,
    /// Number of its revision.
    pub revision: i64,
    /// When it was created.
    pub created: Timestamp,
    /// Where its `/status` is.
    pub ip: Option<String>,
    /// Whether it was asked to go.
    pub deleting: bool,
    /// Whether nothing of it will ever run again.
    pub over: Option<Over>,
    /// Whether its runner was found valid since it started last.
    pub started: bool,
    /// Whether its runner holds its tasks and makes progress.
    pub ready: bool,
    /// Whether its runner's process runs.
    pub running: bool,
    /// Since when it runs.
    pub running_since: Option<Timestamp>,
    /// Why its runner's process does not run yet, or not again.
    pub waiting: Option<Said>,
    /// Why it has no node.
    pub unscheduled: Option<(Said, Timestamp)>,
    /// Whether its node no longer answers for it.
    pub node_lost: bool,
    /// Whether it is about to be evicted.
    pub disrupted: bool,
    /// How its runner's process ended last.
    pub last_end: Option<End>,
    /// The term that it was told, as JSON.
    pub term: Option<String>,
    /// The settings that it was told, as JSON.
    pub settings: Option<String>,
    /// Whether it has the place of a pod of the running revision.
    pub displaces: bool,
}

/// A reason and a message, in the words of whoever said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// One word, in CamelCase.
    pub reason: String,
    /// The rest.
    pub message: String,
}

/// How a pod as a whole ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    /// Its runner exited with 0 and is not started again.
    Succeeded,
    /// Evicted, refused by the kubelet, or lost with its node.
    Failed(Said),
}

/// How a runner's process ended.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// The exit code; 128 + n for a signal n.
    pub exit_code: i32,
    /// The kubelet's word: `Error`, `OOMKilled`, `Completed`.
    pub reason: String,
    /// When.
    pub finished: Timestamp,
    /// What the runner left to say.
    pub message: Option<TerminationMessage>,
}

impl PodFacts {
    /// Reads a pod; `None` if it is no runner pod of ours.
    pub fn of(pod: &Pod) -> Option<Self> {
        let metadata = &pod.metadata;
        let label = |name: &str| metadata.labels.as_ref()?.get(name).map(String::as_str);
        let annotation = |name: &str| metadata.annotations.as_ref().and_then(|all| all.get(name)).cloned();
        let status = pod.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let runner = status.container_statuses.unwrap_or_default().into_iter().find(|c| c.name == RUNNER_CONTAINER);
        let said = |reason: &Option<String>, message: &Option<String>| Said {
            reason: reason.clone().unwrap_or_default(),
            message: message.clone().unwrap_or_default(),
        };
        let over = match status.phase.as_deref() {
            Some("Succeeded") => Some(Over::Succeeded),
            Some("Failed") => Some(Over::Failed(said(&status.reason, &status.message))),
            _ => None,
        };
        let running = runner.as_ref().and_then(|c| c.state.as_ref()?.running.as_ref());
        let created = metadata.creation_timestamp.as_ref()?.0;
        let unscheduled = conditions
            .iter()
            .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
            .map(|condition| (said(&condition.reason, &condition.message), since(condition).unwrap_or(created)));
        Some(Self {
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
            version: metadata.resource_version.clone().unwrap_or_default(),
            ordinal: label(LABEL_ORDINAL)?.parse().ok()?,
            number: label(LABEL_POD_NUMBER)?.parse().ok()?,
            revision: label(LABEL_REVISION_NUMBER)?.parse().ok()?,
            created,
            ip: status.pod_ip.filter(|ip| !ip.is_empty()),
            deleting: metadata.deletion_timestamp.is_some(),
            over,
            started: runner.as_ref().is_some_and(|c| c.started == Some(true)),
            ready: runner.as_ref().is_some_and(|c| c.ready),
            running: running.is_some(),
            running_since: running.and_then(|running| Some(running.started_at.as_ref()?.0)),
            waiting: runner.as_ref().and_then(waiting).map(|w| said(&w.0, &w.1)),
            unscheduled,
            node_lost: is_node_lost(&conditions),
            disrupted: holds(&conditions, "DisruptionTarget"),
            last_end: runner.as_ref().and_then(last_end),
            term: annotation(ANNOTATION_TERM),
            settings: annotation(ANNOTATION_SETTINGS),
            displaces: annotation(ANNOTATION_DISPLACES).is_some(),
        })
    }

    /// Whether its runner found the bounded job done.
    pub fn has_completed(&self) -> bool {
        let said = self.last_end.as_ref().and_then(|end| end.message.as_ref());
        said.is_some_and(|message| message.completed)
    }

    /// Whether it still counts: it was not asked to go, and something of it may run.
    pub fn is_live(&self) -> bool {
        !self.deleting && self.over.is_none()
    }
}

fn holds(conditions: &[PodCondition], kind: &str) -> bool {
    conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

fn since(condition: &PodCondition) -> Option<Timestamp> {
    Some(condition.last_transition_time.as_ref()?.0)
}

/// The kubelet sets `Ready` and `ContainersReady` together; the node controller takes back `Ready` alone when the node is
/// not heard of any more. So the two differ exactly then, and nobody has to be allowed to read nodes.
fn is_node_lost(conditions: &[PodCondition]) -> bool {
    let not_ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "False");
    not_ready && holds(conditions, "ContainersReady")
}

fn waiting(container: &ContainerStatus) -> Option<(Option<String>, Option<String>)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    Some((waiting.reason.clone(), waiting.message.clone()))
}

fn last_end(container: &ContainerStatus) -> Option<End> {
    let terminated = |state: &Option<ContainerState>| state.as_ref()?.terminated.clone();
    let ended: ContainerStateTerminated = terminated(&container.state).or_else(|| terminated(&container.last_state))?;
    Some(End {
        exit_code: ended.exit_code,
        reason: ended.reason.unwrap_or_default(),
        finished: ended.finished_at?.0,
        message: ended.message.as_deref().and_then(TerminationMessage::from_json),
    })
}
