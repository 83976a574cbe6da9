//! The ConfigMap of a revision: the manifest and the pods' template, frozen. A later operator renders later revisions in
//! its own way, and restarts nothing by it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec};
use millrace_crds::contract::{POD_CONFIG_FILE, REVISION_TEMPLATE_KEY};
use millrace_crds::spec::RevisionStatus;
use serde_json::Value;

use super::{owned, revision_labels};
use crate::facts::JobFacts;

/// Name of a revision's ConfigMap.
pub fn revision_name(job: &str, number: i64) -> String {
    format!("{job}-r{number}")
}

/// A revision as runners and the job log know it: the same spec, asked for again later, is another revision.
pub fn revision_id(number: i64, hash: &str) -> String {
    format!("{number}-{hash}")
}

/// The ConfigMap of a revision.
pub fn revision_map(
    job: &JobFacts,
    revision: &RevisionStatus,
    manifest: &Value,
    template: &PodTemplateSpec,
) -> ConfigMap {
    let labels = revision_labels(&job.name, &revision.hash, revision.number);
    let template = serde_json::to_string(template).unwrap_or_default();
    // JSON is YAML.
    let manifest = serde_json::to_string_pretty(manifest).unwrap_or_default();
    ConfigMap {
        metadata: owned(job, revision_name(&job.name, revision.number), labels),
        data: Some(BTreeMap::from([
            (POD_CONFIG_FILE.to_owned(), manifest),
            (REVISION_TEMPLATE_KEY.to_owned(), template),
        ])),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}
