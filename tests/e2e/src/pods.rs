//! Runner pods as a test looks at them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use millrace_crds::contract::{LABEL_ORDINAL, LABEL_POD_NUMBER, LABEL_REVISION_NUMBER, RUNNER_CONTAINER};

use crate::Result;

/// A runner pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerPod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its ordinal.
    pub ordinal: u64,
    /// Its number.
    pub number: u64,
    /// Number of the revision it runs.
    pub revision: u64,
    /// The node it is on.
    pub node: Option<String>,
    /// Its address.
    pub ip: Option<String>,
    /// `Pending`, `Running`, `Succeeded`, `Failed`.
    pub phase: String,
    /// Whether the kubelet says that it is ready.
    pub ready: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// How often its container was started again.
    pub restarts: i32,
    /// Its container's id at the container runtime, without the runtime's name.
    pub container: Option<String>,
}

impl RunnerPod {
    /// Reads a pod that the operator made.
    ///
    /// # Errors
    ///
    /// When it lacks a label that every runner pod has.
    pub fn read(pod: &Pod) -> Result<RunnerPod> {
        let metadata = &pod.metadata;
        let name = metadata.name.clone().context("a pod without a name")?;
        let label = |label: &str| -> Result<u64> {
            let value = metadata.labels.as_ref().and_then(|labels| labels.get(label));
            value.and_then(|value| value.parse().ok()).with_context(|| format!("pod {name} has no number in {label}"))
        };
        let status = pod.status.clone().unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        let runner: Option<&ContainerStatus> = containers.iter().find(|container| container.name == RUNNER_CONTAINER);
        let container = runner.and_then(|runner| runner.container_id.as_deref()?.split_once("://"));
        Ok(RunnerPod {
            uid: metadata.uid.clone().context("a pod without a uid")?,
            ordinal: label(LABEL_ORDINAL)?,
            number: label(LABEL_POD_NUMBER)?,
            revision: label(LABEL_REVISION_NUMBER)?,
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            ip: status.pod_ip,
            phase: status.phase.unwrap_or_default(),
            ready: runner.is_some_and(|runner| runner.ready),
            terminating: metadata.deletion_timestamp.is_some(),
            restarts: runner.map_or(0, |runner| runner.restart_count),
            container: container.map(|(_, id)| id.to_owned()),
            name,
        })
    }

    /// The node it is on.
    ///
    /// # Errors
    ///
    /// When it has not been placed.
    pub fn node(&self) -> Result<&str> {
        self.node.as_deref().with_context(|| format!("{} is on no node", self.name))
    }
}

/// The only one of the pods that is not being deleted.
///
/// # Errors
///
/// When there is another number of them.
pub fn only(pods: &[RunnerPod]) -> Result<RunnerPod> {
    let live: Vec<_> = pods.iter().filter(|pod| !pod.terminating).collect();
    match live.as_slice() {
        [pod] => Ok((*pod).clone()),
        _ => bail!("{} pods where one is expected: {live:?}", live.len()),
    }
}

/// The pods that work, by ordinal: exactly `count` from 0 on, all ready, and no other that is not being deleted.
///
/// # Errors
///
/// When it is not so.
pub fn working(pods: &[RunnerPod], count: u64) -> Result<BTreeMap<u64, RunnerPod>> {
    let live: Vec<_> = pods.iter().filter(|pod| !pod.terminating).collect();
    let ordinals: Vec<_> = live.iter().map(|pod| pod.ordinal).collect::<BTreeSet<_>>().into_iter().collect();
    ensure!(ordinals == (0..count).collect::<Vec<_>>() && live.len() as u64 == count, "{count} wanted: {live:?}");
    if let Some(waiting) = live.iter().find(|pod| !pod.ready) {
        bail!("{} is not ready: {waiting:?}", waiting.name);
    }
    Ok(live.into_iter().map(|pod| (pod.ordinal, pod.clone())).collect())
}

/// Which processes run: each pod's uid and how often it was started again. Equal before and after means that nothing was
/// replaced or restarted.
pub fn processes<'p>(pods: impl IntoIterator<Item = &'p RunnerPod>) -> BTreeSet<(String, i32)> {
    pods.into_iter().map(|pod| (pod.uid.clone(), pod.restarts)).collect()
}

/// The ordinals that more than one pod of one revision holds, not counting pods that are being deleted or have ended.
pub fn doubled(pods: &[RunnerPod]) -> Vec<(u64, u64)> {
    let mut held = BTreeMap::<_, u32>::new();
    let live = |pod: &&RunnerPod| !pod.terminating && !matches!(pod.phase.as_str(), "Succeeded" | "Failed");
    for pod in pods.iter().filter(live) {
        *held.entry((pod.ordinal, pod.revision)).or_default() += 1;
    }
    held.into_iter().filter(|(_, pods)| *pods > 1).map(|(place, _)| place).collect()
}
