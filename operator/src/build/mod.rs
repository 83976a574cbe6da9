//! The objects that a job is to have, as values. Pure: the same facts give the same objects.

mod disruption;
mod overlay;
mod pod;
mod revision;
mod template;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use millrace_crds::contract::{
    API_VERSION, APP_NAME, COMPONENT_RUNNER, KIND, LABEL_APP_COMPONENT, LABEL_APP_INSTANCE, LABEL_APP_MANAGED_BY,
    LABEL_APP_NAME, LABEL_JOB, LABEL_REVISION, LABEL_REVISION_NUMBER, MANAGED_BY,
};

pub use disruption::disruption_budget;
pub use overlay::{Overlay, OverlayError};
pub use pod::{pod, pod_name};
pub use revision::{revision_id, revision_map, revision_name};
pub use template::{Defaults, template};

use crate::facts::JobFacts;

/// Labels of everything that belongs to a job.
fn labels(job: &str) -> BTreeMap<String, String> {
    let labels = [
        (LABEL_APP_NAME, APP_NAME),
        (LABEL_APP_INSTANCE, job),
        (LABEL_APP_COMPONENT, COMPONENT_RUNNER),
        (LABEL_APP_MANAGED_BY, MANAGED_BY),
        (LABEL_JOB, job),
    ];
    labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Labels of everything that belongs to a revision of a job.
fn revision_labels(job: &str, hash: &str, number: i64) -> BTreeMap<String, String> {
    let mut labels = labels(job);
    labels.insert(LABEL_REVISION.to_owned(), hash.to_owned());
    labels.insert(LABEL_REVISION_NUMBER.to_owned(), number.to_string());
    labels
}

/// The selector of a job's pods.
pub fn job_selector(job: &str) -> String {
    format!("{LABEL_JOB}={job}")
}

/// Metadata of an object that goes with the job. `controller: true` lets `kubectl drain` delete its pods without `--force`.
fn owned(job: &JobFacts, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
    let owner = OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        name: job.name.clone(),
        uid: job.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(false),
    };
    ObjectMeta {
        name: Some(name),
        namespace: Some(job.namespace.clone()),
        labels: Some(labels),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests;
