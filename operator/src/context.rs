//! What every reconcile shares: the client, the caches, and what is remembered between two reconciles of a job.
//!
//! Nothing that is remembered here decides anything that must not be forgotten: an operator that starts anew finds its way
//! from the API's objects alone.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use kube::core::PartialObjectMeta;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::Store;
use millrace_crds::contract::MANAGED_BY;

use crate::build::Defaults;
use crate::facts::{JobFacts, JobObject, Refusal};
use crate::metrics::Metrics;
use crate::poll::Reports;

/// The caches of the objects that jobs own. They trigger reconciles, and serve decisions that create and delete nothing.
#[derive(Clone)]
pub struct Caches {
    /// Runner pods, without their specs.
    pub pods: Store<Pod>,
    /// Revisions, without their content.
    pub revisions: Store<PartialObjectMeta<ConfigMap>>,
    /// Disruption budgets, without their content.
    pub budgets: Store<PartialObjectMeta<PodDisruptionBudget>>,
}

impl Caches {
    /// Waits until each was filled once.
    pub async fn wait_until_filled(&self) {
        // An error says that the watch has ended, and with it the operator.
        let _ = self.pods.wait_until_ready().await;
        let _ = self.revisions.wait_until_ready().await;
        let _ = self.budgets.wait_until_ready().await;
    }
}

/// What every reconcile shares.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The caches.
    pub caches: Caches,
    /// What pods look like whose jobs do not say.
    pub defaults: Defaults,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// What the runners answered.
    pub reports: Reports,
    /// Writes events about jobs.
    pub recorder: Recorder,
    memory: Mutex<HashMap<String, Memory>>,
}

/// What is remembered of a job, by its uid.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// What could not be created.
    pub refusals: Vec<Refusal>,
    /// When its status was written last.
    pub written: Option<Timestamp>,
    /// The version that its last write gave it: what the cache shows before that is old.
    pub version: Option<String>,
    /// Failed reconciles in a row.
    pub failed: u32,
}

/// How long a cache may be behind this operator's own writes before that is no longer waited for.
const BEHIND: SignedDuration = SignedDuration::from_secs(10);

impl Memory {
    /// Whether what a cache shows of a job is older than what was written of it here: pods would be told an old term by it.
    pub fn is_newer_than(&self, job: &JobFacts, now: Timestamp) -> bool {
        let number = |version: &str| version.parse::<u64>().ok();
        let lately = self.written.is_some_and(|at| now.duration_since(at) < BEHIND);
        lately && self.version.as_deref().and_then(number) > number(&job.resource_version)
    }
}

impl Context {
    /// A context.
    pub fn new(client: Client, caches: Caches, defaults: Defaults, metrics: Arc<Metrics>, identity: &str) -> Self {
        let reporter = Reporter { controller: MANAGED_BY.to_owned(), instance: Some(identity.to_owned()) };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            caches,
            defaults,
            metrics,
            reports: Reports::default(),
            memory: Mutex::default(),
        }
    }

    /// What is remembered of a job.
    pub fn recall(&self, uid: &str) -> Memory {
        self.memory().get(uid).cloned().unwrap_or_default()
    }

    /// Remembers something of a job.
    pub fn remember(&self, uid: &str, change: impl FnOnce(&mut Memory)) {
        change(self.memory().entry(uid.to_owned()).or_default());
    }

    /// Forgets jobs that are gone.
    pub fn sweep(&self, jobs: &Store<JobObject>) {
        let there: HashSet<String> = jobs.state().iter().filter_map(|job| job.metadata.uid.clone()).collect();
        self.memory().retain(|uid, _| there.contains(uid));
    }

    fn memory(&self) -> MutexGuard<'_, HashMap<String, Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cache_that_does_not_show_ones_own_write_is_behind_for_a_while() {
        let metadata = json!({ "name": "orders", "namespace": "shop", "uid": "u-1", "resourceVersion": "99" });
        let object: JobObject = serde_json::from_value(json!({ "metadata": metadata, "spec": {} })).unwrap();
        let job = JobFacts::of(&object).unwrap();
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let wrote =
            |version: &str| Memory { written: Some(now), version: Some(version.to_owned()), ..Memory::default() };
        assert!(wrote("100").is_newer_than(&job, now));
        assert!(!wrote("99").is_newer_than(&job, now));
        assert!(!Memory::default().is_newer_than(&job, now));
        assert!(
            !wrote("100").is_newer_than(&job, now.checked_add(BEHIND).unwrap()),
            "the cache is not waited for for ever"
        );
    }
}
