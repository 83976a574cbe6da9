//! One immutable rendering of a job's spec, as its ConfigMap has it.

use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec};
use millrace_crds::contract::{LABEL_REVISION, LABEL_REVISION_NUMBER, REVISION_TEMPLATE_KEY};

/// A revision.
#[derive(Debug, Clone, PartialEq)]
pub struct RevisionFacts {
    /// Name of its ConfigMap.
    pub name: String,
    /// The ConfigMap's uid.
    pub uid: String,
    /// Its number; it only grows within a job.
    pub number: i64,
    /// Hash of what the user wrote.
    pub hash: String,
    /// How its pods look, as rendered by the operator that made it. `None` if that cannot be read.
    pub template: Option<PodTemplateSpec>,
}

impl RevisionFacts {
    /// Reads a ConfigMap; `None` if it is no revision of ours.
    pub fn of(object: &ConfigMap) -> Option<Self> {
        let label = |name: &str| object.metadata.labels.as_ref()?.get(name).cloned();
        let template = object.data.as_ref().and_then(|data| data.get(REVISION_TEMPLATE_KEY));
        Some(Self {
            name: object.metadata.name.clone()?,
            uid: object.metadata.uid.clone()?,
            number: label(LABEL_REVISION_NUMBER)?.parse().ok()?,
            hash: label(LABEL_REVISION)?,
            template: template.and_then(|text| serde_json::from_str(text).ok()),
        })
    }
}
