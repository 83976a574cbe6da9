//! A StreamingJob in a test's namespace: what is asked of it, and what can be awaited of it.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use millrace_crds::contract::LABEL_JOB;
use millrace_crds::spec::{CONDITION_READY, StreamingJob, StreamingJobStatus};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::joblog::{Commit, JobLog, Moment};
use crate::manifest::Manifest;
use crate::pods::{self, RunnerPod};
use crate::space::TestNamespace;
use crate::within::within;
use crate::{Result, command};

/// A bound for what takes seconds, on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(90);

/// A job that was applied.
pub struct Job<'s> {
    space: &'s TestNamespace,
    name: String,
    paths: [String; 2],
    checkpoint: String,
    log: Mutex<JobLog>,
}

impl<'s> Job<'s> {
    pub(crate) fn new(space: &'s TestNamespace, manifest: &Manifest) -> Result<Job<'s>> {
        let bucket = format!("s3://{}/", space.bucket());
        let path = |pointer: &str| -> Result<String> {
            let path = manifest.value().pointer(pointer).and_then(Value::as_str);
            let path = path.with_context(|| format!("the manifest has no {pointer}"))?;
            path.strip_prefix(&bucket).map(str::to_owned).with_context(|| format!("{path} is not in {bucket}"))
        };
        Ok(Job {
            space,
            name: manifest.name()?,
            paths: [path("/spec/outputs/0/parquet/path")?, path("/spec/outputs/1/parquet/path")?],
            checkpoint: path("/spec/checkpoint/location")?,
            log: Mutex::default(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The prefixes of its tables `commandes` and `items` in the bucket.
    pub fn paths(&self) -> &[String; 2] {
        &self.paths
    }

    /// Applies a manifest of it, as `kubectl apply --server-side` does.
    ///
    /// # Errors
    ///
    /// When the API server refuses it.
    pub async fn apply(&self, manifest: &Manifest) -> Result<()> {
        self.space.cluster.apply::<StreamingJob>(Some(self.space.name()), manifest.value()).await
    }

    /// Changes single fields, as `kubectl patch --type merge` does.
    ///
    /// # Errors
    ///
    /// When the API server refuses it.
    pub async fn patch(&self, change: Value) -> Result<()> {
        self.api().patch(&self.name, &PatchParams::default(), &Patch::Merge(change)).await?;
        Ok(())
    }

    /// `kubectl scale`.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub async fn scale(&self, parallelism: u32) -> Result<()> {
        let (object, replicas) = (format!("streamingjob/{}", self.name), format!("--replicas={parallelism}"));
        command::kubectl(self.space.name(), &["scale", &object, &replicas]).await?;
        Ok(())
    }

    /// Deletes it, and waits until it is gone, its pods too.
    ///
    /// # Errors
    ///
    /// When they are not gone after `bound`.
    pub async fn delete(&self, bound: Duration) -> Result<()> {
        self.api().delete(&self.name, &DeleteParams::default()).await?;
        within(bound, &format!("{} is gone with its pods", self.name), async || {
            ensure!(self.api().get_opt(&self.name).await?.is_none(), "the job is there");
            let pods = self.pods().await?;
            ensure!(pods.is_empty(), "pods are there: {pods:?}");
            Ok(())
        })
        .await
    }

    /// Its status.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub async fn status(&self) -> Result<StreamingJobStatus> {
        Ok(self.api().get(&self.name).await?.status.unwrap_or_default())
    }

    /// Waits until a condition has a status that is about the present spec.
    ///
    /// # Errors
    ///
    /// When it has not after `bound`.
    pub async fn becomes(&self, bound: Duration, condition: &str, status: &str) -> Result<Condition> {
        let what = format!("{} is {condition}={status}", self.name);
        within(bound, &what, async || self.condition(condition, status).await).await
    }

    /// The condition, if it has this status and is about the present spec.
    ///
    /// # Errors
    ///
    /// When it has not.
    pub async fn condition(&self, condition: &str, status: &str) -> Result<Condition> {
        let job = self.api().get(&self.name).await?;
        let generation = job.metadata.generation;
        let found = job.status.unwrap_or_default().conditions.into_iter().find(|found| found.type_ == condition);
        let found = found.with_context(|| format!("there is no condition {condition}"))?;
        let (reason, message) = (&found.reason, &found.message);
        ensure!(found.status == status, "{condition} is {} ({reason}: {message})", found.status);
        ensure!(found.observed_generation == generation, "{condition} is about {:?}", found.observed_generation);
        Ok(found)
    }

    /// Waits until it is Ready and has made its first commit.
    ///
    /// # Errors
    ///
    /// When it is not so soon.
    pub async fn is_under_way(&self) -> Result<Commit> {
        let commit = self.commits(SOON, "first commit", |_| true).await?;
        self.becomes(SOON, CONDITION_READY, "True").await?;
        Ok(commit)
    }

    /// Its pods, those being deleted included, by ordinal and number.
    ///
    /// # Errors
    ///
    /// When they cannot be listed.
    pub async fn pods(&self) -> Result<Vec<RunnerPod>> {
        let list = ListParams::default().labels(&format!("{LABEL_JOB}={}", self.name));
        let found = self.pod_api().list(&list).await?;
        let mut pods = found.items.iter().map(RunnerPod::read).collect::<Result<Vec<_>>>()?;
        pods.sort_by_key(|pod| (pod.ordinal, pod.number));
        Ok(pods)
    }

    /// Its one pod.
    ///
    /// # Errors
    ///
    /// When there is another number of them.
    pub async fn pod(&self) -> Result<RunnerPod> {
        pods::only(&self.pods().await?)
    }

    /// Deletes a pod, as `kubectl delete pod` does, without waiting for its end.
    ///
    /// # Errors
    ///
    /// When it is another pod by now.
    pub async fn delete_pod(&self, pod: &RunnerPod) -> Result<()> {
        let preconditions = Preconditions { uid: Some(pod.uid.clone()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        self.pod_api().delete(&pod.name, &params).await?;
        Ok(())
    }

    /// Waits until its log holds a commit that `wanted` is true of, and returns the first such one.
    ///
    /// # Errors
    ///
    /// When it holds none after `bound`.
    pub async fn commits(&self, bound: Duration, what: &str, wanted: impl Fn(&Commit) -> bool) -> Result<Commit> {
        within(bound, &format!("{}: {what}", self.name), async || {
            self.read_log().await?;
            let log = self.log.lock().await;
            let found = log.commits().iter().find(|commit| wanted(commit)).cloned();
            found.with_context(|| format!("the last commit is {:?}", log.commits().last()))
        })
        .await
    }

    /// Waits for a commit later than a moment.
    ///
    /// # Errors
    ///
    /// When there is none after `bound`.
    pub async fn commits_after(&self, moment: Moment, bound: Duration) -> Result<Commit> {
        self.commits(bound, "the next commit", |commit| commit.stored > moment).await
    }

    /// What was committed so far.
    ///
    /// # Errors
    ///
    /// When MinIO is away.
    pub async fn commits_so_far(&self) -> Result<Vec<Commit>> {
        self.read_log().await?;
        Ok(self.log.lock().await.commits().to_vec())
    }

    /// Its log as far as it goes now, given to `read`.
    ///
    /// # Errors
    ///
    /// When MinIO is away.
    pub async fn log<T>(&self, read: impl FnOnce(&JobLog) -> T) -> Result<T> {
        self.read_log().await?;
        Ok(read(&*self.log.lock().await))
    }

    /// Waits until everything in the topic is committed and published.
    ///
    /// # Errors
    ///
    /// When it is not after three minutes.
    pub async fn settle(&self) -> Result<()> {
        within(2 * SOON, &format!("{} has committed and published everything", self.name), async || {
            let ends = self.space.bench.ends(self.space.topic()).await?;
            self.log(|log| log.is_settled(&ends)).await?
        })
        .await
    }

    /// `GET` on a pod's own port, from the control plane's node.
    ///
    /// # Errors
    ///
    /// When the pod does not answer.
    pub async fn ask(&self, pod: &RunnerPod, path: &str) -> Result<Value> {
        let name = &pod.name;
        let Some(ip) = &pod.ip else { bail!("{name} has no address") };
        let node = crate::node::Node::control_plane(&self.space.cluster).await?;
        let url = format!("http://{ip}:8080{path}");
        let answer = node.run(&["curl", "--silent", "--show-error", "--max-time", "3", &url]).await?;
        serde_json::from_str(&answer).with_context(|| format!("{path} of {name}"))
    }

    async fn read_log(&self) -> Result<()> {
        let mut log = self.log.lock().await;
        let prefix = format!("{}/log/", self.checkpoint);
        let slots = self.space.bench.slots(self.space.bucket(), &prefix, log.last()).await?;
        log.add(&slots)
    }

    fn api(&self) -> Api<StreamingJob> {
        Api::namespaced(self.space.cluster.client.clone(), self.space.name())
    }

    fn pod_api(&self) -> Api<Pod> {
        Api::namespaced(self.space.cluster.client.clone(), self.space.name())
    }
}

/// A merge patch of single fields of `spec`.
pub fn spec(fields: Value) -> Value {
    json!({"spec": fields})
}
