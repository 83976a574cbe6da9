//! The disruption budget: a drained cluster takes one runner of a job at a time.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use millrace_crds::contract::LABEL_JOB;

use super::{labels, owned};
use crate::facts::JobFacts;

/// The disruption budget of a job. The number of pods that there should be is read from the job's scale subresource. Pods
/// that are not ready may always be evicted: they would otherwise hold up the drain that may mend them.
pub fn disruption_budget(job: &JobFacts) -> PodDisruptionBudget {
    let of_job = [(LABEL_JOB.to_owned(), job.name.clone())].into();
    PodDisruptionBudget {
        metadata: owned(job, job.name.clone(), labels(&job.name)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector { match_labels: Some(of_job), ..LabelSelector::default() }),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
