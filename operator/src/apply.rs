//! Brings about what was decided. The order matters: first the numbers, so that nothing is created that nobody counted;
//! then what is new; then who is told; and last what goes.

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodTemplateSpec};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use kube::{Api, Resource};
use millrace_crds::contract::{
    ANNOTATION_DISPLACES, ANNOTATION_SETTINGS, ANNOTATION_TERM, API_VERSION, KIND, MANAGED_BY,
};
use millrace_crds::spec::{ReservedPod, RevisionStatus, StreamingJobStatus};
use serde_json::{Map, Value, json};

use crate::build;
use crate::context::Context;
use crate::decide::{Decision, Delete, Tell, settings_json, term_json};
use crate::dereference::{has_budget, of_job};
use crate::facts::{Facts, JobObject, Refusal, Refused, RevisionFacts};
use crate::validate::{Invalid, Validated};

/// How many pods of one job are created or told at a time.
const AT_A_TIME: usize = 8;
/// The shortest and the longest pause before something refused is tried again, in seconds.
const REFUSED: (i64, i64) = (5, 60);

/// Why something could not be brought about.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Somebody else wrote since the facts were read: decide again.
    #[error("the job was changed meanwhile")]
    Conflict,
    /// The API server did not answer, or refused.
    #[error("cannot {what}: {source}")]
    Api {
        /// What.
        what: String,
        /// The reason.
        source: Box<kube::Error>,
    },
    /// Somebody deleted what the pods are made from.
    #[error(
        "ConfigMap {0} of the running revision is gone or cannot be read, so that its pods cannot be started again; change \
         the spec, or annotate the job with a new millrace.dev/restart-nonce"
    )]
    NoTemplate(String),
}

fn failed(what: impl Into<String>) -> impl FnOnce(kube::Error) -> ApplyError {
    let what = what.into();
    move |error| match error {
        kube::Error::Api(status) if status.code == 409 => ApplyError::Conflict,
        error => ApplyError::Api { what, source: Box::new(error) },
    }
}

/// Brings the decision about. Returns the version of the job after it, and what was refused: that is no error, the job says so
/// and goes on with what it has.
///
/// # Errors
/// What stood in the way; the next reconcile goes on from there.
pub async fn apply(
    context: &Context,
    facts: &Facts,
    valid: &Result<Validated, Invalid>,
    decision: &Decision,
) -> Result<(String, Vec<Refusal>), ApplyError> {
    let mut version = facts.job.resource_version.clone();
    if decision.status != facts.job.status {
        version = write_status(context, facts, &version, &facts.job.status, &decision.status).await?;
    }
    let mut refusals = Refusals { facts, all: Vec::new() };
    let wanted = decision.status.candidate_revision.as_ref().or(decision.status.revision.as_ref());
    let rendered = match (wanted, valid) {
        (Some(wanted), Ok(valid)) if decision.render => {
            let rendered = render(context, facts, valid, wanted).await;
            refusals.unless_refused(Refused::Revision(wanted.number), rendered)?.flatten()
        }
        _ => None,
    };
    create(context, facts, valid, decision, rendered, &mut refusals).await?;
    let tells: Vec<_> = decision.tell.iter().map(|tell| self::tell(context, facts, tell)).collect();
    let told: Vec<_> = stream::iter(tells).buffer_unordered(AT_A_TIME).collect().await;
    told.into_iter().collect::<Result<(), _>>()?;
    if decision.budget != has_budget(context, &facts.job) && facts.may_try(Refused::Budget) {
        let outcome = budget(context, facts, decision.budget).await;
        refusals.unless_refused(Refused::Budget, outcome)?;
    }
    for delete in &decision.delete {
        self::delete(context, facts, delete).await?;
    }
    for (name, uid) in &decision.forget {
        let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), &facts.job.namespace);
        gone(maps.delete(name, &with_uid(uid)).await.map(|_| ()))
            .map_err(failed(format!("delete ConfigMap {name}")))?;
    }
    Ok((version, refusals.all))
}

/// Writes a status over the one that was read. Fails with a conflict if somebody else wrote since. Returns the job's new
/// version.
///
/// # Errors
/// A conflict, or the API server does not answer.
pub async fn write_status(
    context: &Context,
    facts: &Facts,
    version: &str,
    before: &StreamingJobStatus,
    after: &StreamingJobStatus,
) -> Result<String, ApplyError> {
    let value = |status: &StreamingJobStatus| serde_json::to_value(status).unwrap_or_default();
    let change = difference(&value(before), &value(after));
    let body = json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": { "uid": facts.job.uid, "resourceVersion": version },
        "status": change,
    });
    let jobs: Api<JobObject> = Api::namespaced(context.client.clone(), &facts.job.namespace);
    let written = jobs.patch_status(&facts.job.name, &PatchParams::default(), &Patch::Merge(&body)).await;
    let written = written.map_err(failed("write the status"))?;
    let version = written.metadata.resource_version.unwrap_or_default();
    context.remember(&facts.job.uid, |memory| {
        memory.written = Some(Timestamp::now());
        memory.version = Some(version.clone());
    });
    Ok(version)
}

/// A merge patch (RFC 7396) that makes `after` of `before`.
fn difference(before: &Value, after: &Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (before, after) else { return after.clone() };
    let mut change = Map::new();
    for (name, value) in after {
        match before.get(name) {
            Some(old) if old == value => {}
            Some(old @ Value::Object(_)) if value.is_object() => {
                change.insert(name.clone(), difference(old, value));
            }
            _ => {
                change.insert(name.clone(), value.clone());
            }
        }
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        change.insert(name.clone(), Value::Null);
    }
    Value::Object(change)
}

/// Makes the ConfigMap of the revision that is wanted. That it is there already is as good.
async fn render(
    context: &Context,
    facts: &Facts,
    valid: &Validated,
    wanted: &RevisionStatus,
) -> Result<Option<(i64, PodTemplateSpec)>, ApplyError> {
    let template = build::template(&context.defaults, valid, wanted);
    let map = build::revision_map(&facts.job, wanted, &valid.manifest, &template);
    let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), &facts.job.namespace);
    let name = build::revision_name(&facts.job.name, wanted.number);
    match maps.create(&post(), &map).await {
        Ok(_) => return Ok(Some((wanted.number, template))),
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(failed(format!("create ConfigMap {name}"))(error)),
    }
    let there = maps.get_opt(&name).await.map_err(failed(format!("read ConfigMap {name}")))?;
    let owners = there.iter().flat_map(|map| map.metadata.owner_references.iter().flatten());
    if owners.into_iter().any(|owner| owner.uid == facts.job.uid) {
        // Made by this operator before it was cut off, or by another one: pods are made from what is there.
        return Ok(None);
    }
    // It is of an earlier job of the same name, whose objects the garbage collector has still to delete.
    if let Some(uid) = there.and_then(|map| map.metadata.uid) {
        gone(maps.delete(&name, &with_uid(&uid)).await.map(|_| ()))
            .map_err(failed(format!("delete ConfigMap {name}")))?;
    }
    Err(ApplyError::Conflict)
}

/// Creates pods.
async fn create(
    context: &Context,
    facts: &Facts,
    valid: &Result<Validated, Invalid>,
    decision: &Decision,
    rendered: Option<(i64, PodTemplateSpec)>,
    refusals: &mut Refusals<'_>,
) -> Result<(), ApplyError> {
    let mut templates: Vec<(i64, PodTemplateSpec)> = rendered.into_iter().collect();
    for seat in &decision.create {
        if templates.iter().any(|(revision, _)| *revision == seat.revision) {
            continue;
        }
        // A revision whose ConfigMap is lost holds up no other: the next one is what mends it.
        let template = template(context, facts, seat.revision).await;
        let template = refusals.unless_refused(Refused::Revision(seat.revision), template)?;
        templates.extend(template.map(|template| (seat.revision, template)));
    }
    let (term, settings) = (term_json(&decision.status), settings_json(facts, valid));
    let one = |seat: &ReservedPod| {
        let template = templates.iter().find(|(revision, _)| *revision == seat.revision).map(|(_, template)| template);
        let pod = template.map(|template| build::pod(&facts.job, seat, template, &term, &settings));
        let (what, ordinal) = (Refused::Revision(seat.revision), seat.ordinal);
        async move {
            let outcome = match pod {
                Some(pod) => create_pod(context, facts, &pod).await,
                None => Ok(()),
            };
            (what, outcome.map_err(failed(format!("create the pod of ordinal {ordinal}"))))
        }
    };
    let outcomes: Vec<_> = stream::iter(decision.create.iter().map(one)).buffer_unordered(AT_A_TIME).collect().await;
    for (what, outcome) in outcomes {
        refusals.unless_refused(what, outcome)?;
    }
    Ok(())
}

/// What was refused at this reconcile, each thing once.
struct Refusals<'a> {
    facts: &'a Facts,
    all: Vec<Refusal>,
}

impl Refusals<'_> {
    /// Takes note of a refusal. Everything else is an error.
    fn unless_refused<T>(&mut self, what: Refused, outcome: Result<T, ApplyError>) -> Result<Option<T>, ApplyError> {
        let (reason, message) = match outcome {
            Ok(value) => return Ok(Some(value)),
            Err(error) => words(error)?,
        };
        if self.all.iter().all(|refusal| refusal.what != what) {
            let before = self.facts.refusals.iter().find(|refusal| refusal.what == what);
            let times = before.map_or(1, |before| before.times.saturating_add(1));
            // Less and less often.
            let (least, most) = REFUSED;
            let pause = least.saturating_mul(1 << times.saturating_sub(1).min(10)).min(most);
            let now = self.facts.now;
            let not_before = now.checked_add(SignedDuration::from_secs(pause)).unwrap_or(now);
            self.all.push(Refusal { what, reason, message, times, not_before });
        }
        Ok(None)
    }
}

/// One word for a refusal, and the words of whoever refused. What is no refusal is given back.
fn words(error: ApplyError) -> Result<(String, String), ApplyError> {
    match error {
        ApplyError::NoTemplate(_) => Ok(("RevisionLost".to_owned(), error.to_string())),
        ApplyError::Conflict => Err(error),
        ApplyError::Api { what, source } => match *source {
            kube::Error::Api(status) if is_refusal(status.code, &status.message) => {
                Ok((reason(&status.message, &status.reason), format!("cannot {what}: {}", status.message)))
            }
            other => Err(ApplyError::Api { what, source: Box::new(other) }),
        },
    }
}

/// Whether it takes somebody else to have it done: who writes the spec, a quota, a policy, a webhook that is not there.
fn is_refusal(code: u16, message: &str) -> bool {
    (400..500).contains(&code) && code != 429 || code == 500 && message.contains("failed calling webhook")
}

/// One word for a refusal: Kubernetes has no reason of its own for quotas and policies.
fn reason(message: &str, reason: &str) -> String {
    let words =
        [("exceeded quota", "QuotaExceeded"), ("violates PodSecurity", "PodSecurity"), ("webhook", "WebhookDenied")];
    let known = words.into_iter().find(|(part, _)| message.contains(part)).map(|(_, word)| word);
    known.unwrap_or(if reason.is_empty() { "Refused" } else { reason }).to_owned()
}

/// The template of a revision, as it was rendered when the revision was made.
async fn template(context: &Context, facts: &Facts, revision: i64) -> Result<PodTemplateSpec, ApplyError> {
    let name = build::revision_name(&facts.job.name, revision);
    let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), &facts.job.namespace);
    let map = maps.get_opt(&name).await.map_err(failed(format!("read ConfigMap {name}")))?;
    // One of an earlier job of the same name is another job's.
    let map = map.filter(|map| of_job(&map.metadata, &facts.job));
    map.as_ref().and_then(RevisionFacts::of).and_then(|map| map.template).ok_or(ApplyError::NoTemplate(name))
}

/// Creates a pod; fields that the API server does not know are an error. That it is there already is as good: its name says
/// all of it.
async fn create_pod(context: &Context, facts: &Facts, pod: &Pod) -> Result<(), kube::Error> {
    let body = serde_json::to_vec(pod).map_err(kube::Error::SerdeError)?;
    let request = Request::new(Pod::url_path(&(), Some(&facts.job.namespace)));
    let mut request = request.create(&post(), body).map_err(kube::Error::BuildRequest)?;
    let uri = format!("{}&fieldValidation=Strict", request.uri());
    *request.uri_mut() = uri.parse().map_err(|error: http::uri::InvalidUri| kube::Error::HttpError(error.into()))?;
    match context.client.request::<Pod>(request).await {
        Ok(_) => {
            context.metrics.pods_created.inc();
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            tracing::info!(job = facts.job.name, namespace = facts.job.namespace, pod = name, "created a pod");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => Ok(()),
        Err(error) => Err(error),
    }
}

async fn tell(context: &Context, facts: &Facts, tell: &Tell) -> Result<(), ApplyError> {
    let mut annotations = json!({ ANNOTATION_TERM: tell.term, ANNOTATION_SETTINGS: tell.settings });
    if tell.displaces {
        annotations[ANNOTATION_DISPLACES] = "true".into();
    }
    let body = json!({ "metadata": { "uid": tell.uid, "annotations": annotations } });
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &facts.job.namespace);
    let told = pods.patch_metadata(&tell.pod, &PatchParams::default(), &Patch::Merge(&body)).await;
    gone(told.map(|_| ())).map_err(failed(format!("annotate pod {}", tell.pod)))
}

/// Deletes a pod, if it is still the one that was judged.
async fn delete(context: &Context, facts: &Facts, delete: &Delete) -> Result<(), ApplyError> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &facts.job.namespace);
    let preconditions = Preconditions { uid: Some(delete.uid.clone()), resource_version: Some(delete.version.clone()) };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    tracing::info!(
        job = facts.job.name,
        namespace = facts.job.namespace,
        pod = delete.pod,
        delete.why,
        "deleting a pod"
    );
    context.metrics.pods_deleted.inc();
    gone(pods.delete(&delete.pod, &params).await.map(|_| ())).map_err(failed(format!("delete pod {}", delete.pod)))
}

async fn budget(context: &Context, facts: &Facts, wanted: bool) -> Result<(), ApplyError> {
    let name = &facts.job.name;
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(context.client.clone(), &facts.job.namespace);
    if !wanted {
        return gone(budgets.delete(name, &DeleteParams::default()).await.map(|_| ()))
            .map_err(failed("delete the disruption budget"));
    }
    let budget = build::disruption_budget(&facts.job);
    let params = PatchParams::apply(MANAGED_BY).force();
    let applied = budgets.patch(name, &params, &Patch::Apply(&budget)).await;
    applied.map(|_| ()).map_err(failed("apply the disruption budget"))
}

fn post() -> PostParams {
    PostParams { field_manager: Some(MANAGED_BY.to_owned()), ..PostParams::default() }
}

fn with_uid(uid: &str) -> DeleteParams {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}

/// What is gone already needs no more.
fn gone(outcome: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match outcome {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_that_is_away_is_a_refusal_and_an_api_server_that_is_busy_is_none() {
        let webhook = "Internal error occurred: failed calling webhook \"pods.example.com\": connection refused";
        assert!(is_refusal(500, webhook));
        assert_eq!(reason(webhook, "InternalError"), "WebhookDenied");
        assert!(is_refusal(403, "exceeded quota"));
        assert!(!is_refusal(429, "too many requests") && !is_refusal(500, "etcdserver: request timed out"));
    }

    #[test]
    fn a_difference_removes_what_is_gone_at_any_depth_and_leaves_the_rest() {
        let before = json!({ "a": 1, "b": { "x": 1, "y": [1, 2] }, "c": [1], "d": { "e": 1 } });
        let after = json!({ "a": 1, "b": { "x": 2 }, "c": [1, 2], "f": true });
        let change = json!({ "b": { "x": 2, "y": null }, "c": [1, 2], "d": null, "f": true });
        assert_eq!(difference(&before, &after), change);
    }
}
