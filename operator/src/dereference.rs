//! Reads everything that a decision needs.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use millrace_crds::contract::LABEL_JOB;

use crate::build::job_selector;
use crate::context::Context;
use crate::facts::{Facts, JobError, JobFacts, JobObject, PodFacts, RevisionFacts};

/// Why the facts could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DereferenceError {
    /// The API server did not answer, or refused.
    #[error("cannot read {what}: {source}")]
    Api {
        /// What.
        what: &'static str,
        /// The reason.
        source: Box<kube::Error>,
    },
    /// The job cannot be worked on.
    #[error(transparent)]
    Job(#[from] JobError),
}

/// The facts as the caches have them: good for everything but creating and deleting.
///
/// # Errors
/// The job cannot be worked on.
pub async fn cached(context: &Context, object: &JobObject) -> Result<Facts, DereferenceError> {
    let job = JobFacts::of(object)?;
    let pods = context.caches.pods.state_filter(|pod| of_job(&pod.metadata, &job));
    let revisions = context.caches.revisions.state_filter(|map| of_job(&map.metadata, &job));
    let pods = pods.iter().map(AsRef::as_ref);
    let revisions = revisions.iter().map(|map| ConfigMap { metadata: map.metadata.clone(), ..ConfigMap::default() });
    Ok(facts(context, job.clone(), pods, revisions.collect()).await)
}

/// The facts as the API server has them now. `None`: the job is gone.
///
/// # Errors
/// The API server does not answer, or the job cannot be worked on.
pub async fn live(context: &Context, job: &JobFacts) -> Result<Option<(JobObject, Facts)>, DereferenceError> {
    let failed = |what| move |error| DereferenceError::Api { what, source: Box::new(error) };
    let jobs: Api<JobObject> = Api::namespaced(context.client.clone(), &job.namespace);
    let Some(object) = jobs.get_opt(&job.name).await.map_err(failed("the StreamingJob"))? else { return Ok(None) };
    let of_object = JobFacts::of(&object)?;
    if of_object.uid != job.uid {
        return Ok(None);
    }
    let selected = ListParams::default().labels(&job_selector(&job.name));
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &job.namespace);
    let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), &job.namespace);
    let pods = pods.list(&selected).await.map_err(failed("the runner pods"))?;
    let maps = maps.list(&selected).await.map_err(failed("the revisions"))?;
    let (maps, others): (Vec<_>, Vec<_>) = maps.items.into_iter().partition(|map| of_job(&map.metadata, job));
    let mut facts = facts(context, of_object, pods.items.iter().filter(|pod| of_job(&pod.metadata, job)), maps).await;
    let foreign = pods.items.iter().filter(|pod| !of_job(&pod.metadata, job));
    facts.taken = foreign.filter_map(PodFacts::of).map(|pod| pod.number).collect();
    facts.taken_revisions = others.iter().filter_map(RevisionFacts::of).map(|revision| revision.number).collect();
    Ok(Some((object, facts)))
}

async fn facts<'a>(
    context: &Context,
    job: JobFacts,
    pods: impl Iterator<Item = &'a Pod>,
    revisions: Vec<ConfigMap>,
) -> Facts {
    let mut pods: Vec<PodFacts> = pods.filter_map(PodFacts::of).collect();
    pods.sort_by_key(|pod| pod.number);
    let reports = context.reports.of(&pods).await;
    Facts {
        now: Timestamp::now(),
        refusals: context.recall(&job.uid).refusals,
        job,
        pods,
        revisions: revisions.iter().filter_map(RevisionFacts::of).collect(),
        reports,
        taken: Vec::new(),
        taken_revisions: Vec::new(),
    }
}

/// Whether an object belongs to this very job: one that was deleted and created again under the same name is another.
pub fn of_job(metadata: &ObjectMeta, job: &JobFacts) -> bool {
    let named = metadata.labels.as_ref().and_then(|labels| labels.get(LABEL_JOB)) == Some(&job.name);
    let owners: &[OwnerReference] = metadata.owner_references.as_deref().unwrap_or_default();
    named
        && metadata.namespace.as_ref() == Some(&job.namespace)
        && owners.iter().any(|owner| owner.uid == job.uid && owner.controller == Some(true))
}

/// Whether a disruption budget of the job is there, as far as the cache knows.
pub fn has_budget(context: &Context, job: &JobFacts) -> bool {
    let budgets = &context.caches.budgets;
    budgets.find(|budget| budget.name_any() == job.name && of_job(&budget.metadata, job)).is_some()
}
