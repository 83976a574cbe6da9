//! A namespace for each test, with a topic and a bucket of its own, all removed at its end.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures::FutureExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams};
use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

use crate::bench::Bench;
use crate::cluster::{ACCESS_KEY, Cluster, PASSWORD};
use crate::diagnosis::diagnosis;
use crate::job::Job;
use crate::load::{self, Load};
use crate::manifest::Manifest;
use crate::{Result, oracle};

/// Partitions of a test's topic.
pub const PARTITIONS: u32 = 8;
/// No test runs longer than this.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// What one test has to itself.
pub struct TestNamespace {
    /// The cluster it is in.
    pub cluster: Cluster,
    /// Topics and buckets.
    pub bench: Bench,
    name: String,
}

impl TestNamespace {
    /// Runs a test in a new namespace with a topic, a bucket and the secret `minio`, and removes all of it. The namespace
    /// enforces the restricted Pod Security standard. `MILLRACE_E2E_KEEP` keeps what a failed test leaves.
    ///
    /// # Errors
    ///
    /// When the test fails or panics; the error then shows the namespace's jobs, pods, events and logs.
    pub async fn run(name: &str, test: impl AsyncFnOnce(&TestNamespace) -> Result<()>) -> Result<()> {
        let cluster = Cluster::connect().await?;
        let digits = Uuid::new_v4().simple().to_string();
        let name = format!("e2e-{name}-{}", &digits[..6]);
        let space = TestNamespace { bench: Bench::start(&cluster).await?, cluster, name };
        space.create().await?;
        let bounded = timeout(LONGEST, AssertUnwindSafe(test(&space)).catch_unwind());
        let outcome = match bounded.await {
            Err(_) => Err(anyhow!("the test took longer than {LONGEST:?}")),
            Ok(Err(panic)) => Err(anyhow!("the test panicked: {}", message(panic.as_ref()))),
            Ok(Ok(outcome)) => outcome,
        };
        let outcome = match outcome {
            Ok(()) => Ok(()),
            Err(error) => Err(anyhow!("{error:#}\n\n{}", diagnosis(&space).await)),
        };
        if outcome.is_err() && std::env::var_os("MILLRACE_E2E_KEEP").is_some() {
            return outcome;
        }
        let removed = space.remove().await;
        outcome.and(removed)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its topic, of [`PARTITIONS`] partitions.
    pub fn topic(&self) -> &str {
        &self.name
    }

    /// Its bucket.
    pub fn bucket(&self) -> &str {
        &self.name
    }

    /// Applies a job.
    ///
    /// # Errors
    ///
    /// When the API server refuses it.
    pub async fn apply(&self, manifest: &Manifest) -> Result<Job<'_>> {
        let job = Job::new(self, manifest)?;
        job.apply(manifest).await?;
        Ok(job)
    }

    /// Produces so many orders to its topic at once.
    ///
    /// # Errors
    ///
    /// When Kafka does not take them.
    pub async fn produce(&self, orders: u64) -> Result<()> {
        load::produce(&self.cluster, self.topic(), PARTITIONS, orders).await
    }

    /// Starts to produce so many orders a second to its topic.
    ///
    /// # Errors
    ///
    /// When Python is not there.
    pub async fn load(&self, rate: u32) -> Result<Load> {
        Load::start(&self.cluster, self.topic(), PARTITIONS, rate).await
    }

    /// Fails unless each order of the topic is in the job's tables exactly once and nothing else is; waits first until
    /// all of it is committed and published.
    ///
    /// # Errors
    ///
    /// When it is not so; it says how many orders are lost and doubled.
    pub async fn check_exactly_once(&self, job: &Job<'_>, produced: u64) -> Result<()> {
        job.settle().await?;
        let tally = oracle::tally(self, job.paths()).await?;
        if !tally.is_exact(produced) {
            return Err(anyhow!("not each of {produced} orders is there once: {tally:?}"));
        }
        Ok(())
    }

    async fn create(&self) -> Result<()> {
        let labels = json!({"millrace.dev/test": "e2e", "pod-security.kubernetes.io/enforce": "restricted"});
        let metadata = json!({"name": self.name, "labels": labels});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        self.cluster.apply::<Namespace>(None, &namespace).await?;
        let keys = json!({"accessKeyId": ACCESS_KEY, "secretAccessKey": PASSWORD});
        self.cluster.secret(&self.name, "minio", &keys).await?;
        self.bench.create_topic(self.topic(), PARTITIONS).await?;
        self.bench.create_bucket(self.bucket()).await
    }

    /// The namespace goes by itself once its deletion is asked for; its runners may write until then, which the bucket's
    /// deletion puts up with. A test may have deleted topic and bucket itself.
    async fn remove(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        namespaces.delete(&self.name, &DeleteParams::default()).await.context("deleting the namespace")?;
        let _ = self.bench.delete_topic(self.topic()).await;
        let _ = self.bench.delete_bucket(self.bucket()).await;
        Ok(())
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it did not say why")
}
