//! One runner pod: a revision's template with a name, a number and a term.

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use millrace_crds::contract::{ANNOTATION_SETTINGS, ANNOTATION_TERM, LABEL_ORDINAL, LABEL_POD_NUMBER};
use millrace_crds::spec::ReservedPod;

use super::owned;
use crate::facts::JobFacts;

/// Name of a pod: its number makes it one that never was before.
pub fn pod_name(job: &str, ordinal: u32, number: i64) -> String {
    format!("{job}-{ordinal}-{number}")
}

/// A runner pod.
pub fn pod(job: &JobFacts, seat: &ReservedPod, template: &PodTemplateSpec, term: &str, settings: &str) -> Pod {
    let from = template.metadata.clone().unwrap_or_default();
    let mut labels = from.labels.unwrap_or_default();
    labels.insert(LABEL_ORDINAL.to_owned(), seat.ordinal.to_string());
    labels.insert(LABEL_POD_NUMBER.to_owned(), seat.number.to_string());
    let mut annotations = from.annotations.unwrap_or_default();
    annotations.insert(ANNOTATION_TERM.to_owned(), term.to_owned());
    annotations.insert(ANNOTATION_SETTINGS.to_owned(), settings.to_owned());
    let mut metadata = owned(job, pod_name(&job.name, seat.ordinal, seat.number), labels);
    metadata.annotations = Some(annotations);
    Pod { metadata, spec: template.spec.clone(), ..Pod::default() }
}
