//! One reconcile, and what asks for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Config, applier, trigger_owners, trigger_self};
use kube::runtime::events::{Event, EventType};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use millrace_crds::contract::{LABEL_APP_MANAGED_BY, MANAGED_BY};
use millrace_crds::spec::{CONDITION_DEGRADED, CONDITION_READY, CONDITION_STALLED, StreamingJobStatus};
use tokio::task::JoinError;

use crate::apply::{self, ApplyError};
use crate::build::Defaults;
use crate::context::{Caches, Context};
use crate::decide::{Decision, decide};
use crate::dereference::{self, DereferenceError};
use crate::facts::{Facts, JobFacts, JobObject, Refused};
use crate::metrics::{Metrics, ResultLabel};
use crate::queue::Queue;
use crate::status::{self, condition};
use crate::task::on_any_core;
use crate::validate::{Invalid, Validated, validate};

/// How often a status is written at most for nothing but measurements.
const MEASURED_EVERY: i64 = 30;
/// How soon a reconcile is tried again after somebody else wrote.
const AFTER_CONFLICT: Duration = Duration::from_millis(200);
/// How soon after a first failure, and at the latest.
const AFTER_ERROR: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Why a reconcile did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The facts could not be read.
    #[error(transparent)]
    Dereference(#[from] DereferenceError),
    /// The decision could not be brought about.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A bug, or the operator is ending.
    #[error("the reconcile did not come to its end: {0}")]
    CutOff(#[from] JoinError),
}

/// Which objects are looked after.
#[derive(Debug, Clone)]
pub struct Scope {
    /// `None`: all namespaces.
    pub namespace: Option<String>,
    /// How many jobs are reconciled at a time.
    pub concurrency: u16,
    /// This operator's name.
    pub identity: String,
}

/// Reconciles every job in scope, until the future is dropped. `filled` is called once the caches are filled.
pub async fn run(client: Client, scope: Scope, defaults: Defaults, metrics: Arc<Metrics>, filled: impl FnOnce()) {
    let (jobs, jobs_writer) = reflector::store::<JobObject>();
    let (pods, pods_writer) = reflector::store::<Pod>();
    let (revisions, revisions_writer) = reflector::store();
    let (budgets, budgets_writer) = reflector::store();
    let ours = watcher::Config::default().labels(&format!("{LABEL_APP_MANAGED_BY}={MANAGED_BY}"));

    let job_events = watcher(api::<JobObject>(&client, &scope), watcher::Config::default())
        .modify(|job| job.metadata.managed_fields = None)
        .default_backoff()
        .reflect(jobs_writer)
        .touched_objects();
    let pod_events = watcher(api::<Pod>(&client, &scope), ours.clone())
        .modify(|pod| {
            pod.metadata.managed_fields = None;
            pod.spec = None;
        })
        .default_backoff()
        .reflect(pods_writer)
        .touched_objects();
    let revision_events = watcher(api::<PartialObjectMeta<ConfigMap>>(&client, &scope), ours.clone())
        .default_backoff()
        .reflect(revisions_writer)
        .touched_objects();
    let budget_events = watcher(api::<PartialObjectMeta<PodDisruptionBudget>>(&client, &scope), ours)
        .default_backoff()
        .reflect(budgets_writer)
        .touched_objects();

    let caches = Caches { pods: pods.clone(), revisions: revisions.clone(), budgets: budgets.clone() };
    let context = Arc::new(Context::new(client, caches, defaults, Arc::clone(&metrics), &scope.identity));
    let queue = Queue::new(metrics);
    let requests = stream::select_all([
        trigger_self(job_events, ()).boxed(),
        trigger_owners(pod_events, (), ()).boxed(),
        trigger_owners(revision_events, (), ()).boxed(),
        trigger_owners(budget_events, (), ()).boxed(),
    ]);
    let requests = queue.clone().watch(requests);
    let reconciler = {
        let queue = queue.clone();
        move |object: Arc<JobObject>, context: Arc<Context>| {
            queue.begins(&object);
            Box::pin(reconcile(object, context))
        }
    };
    let config = Config::default().concurrency(scope.concurrency);
    let work = applier(reconciler, after_error, Arc::clone(&context), jobs.clone(), requests, config);
    let work = work.for_each(|outcome| {
        use kube::runtime::controller::Error;
        match outcome {
            Err(Error::QueueError(error)) => tracing::warn!(%error, "a watch was interrupted; it is taken up again"),
            // A job that is gone is not reconciled any more.
            Err(Error::ObjectNotFound(job)) => drop(queue.take(&job.name, job.namespace.clone())),
            _ => {}
        }
        std::future::ready(())
    });
    let ready = async {
        let _ = jobs.wait_until_ready().await;
        context.caches.wait_until_filled().await;
        filled();
    };
    let sweep = async {
        loop {
            tokio::time::sleep(Duration::from_secs(60)).await;
            context.reports.sweep();
            context.sweep(&jobs);
            count_jobs(&context.metrics, &jobs);
        }
    };
    tokio::select! {
        () = async { tokio::join!(work, ready); } => {}
        () = sweep => {}
    }
}

fn api<K>(client: &Client, scope: &Scope) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    match &scope.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// One reconcile: facts, validation, decision, its application, and what is said about it.
async fn reconcile(object: Arc<JobObject>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    // A cache that is still empty would say that a job has nothing. It is waited for here, in the controller's own task: of
    // several tasks a cache wakes only the one that asked last.
    context.caches.wait_until_filled().await;
    let began = Instant::now();
    let outcome = {
        let (object, context) = (Arc::clone(&object), Arc::clone(&context));
        let once = on_any_core(async move { once(&object, &context).await }).await;
        once.unwrap_or_else(|cut_off| Err(cut_off.into()))
    };
    context.metrics.reconcile_seconds.observe(began.elapsed().as_secs_f64());
    let quiet = matches!(&outcome, Err(ReconcileError::Apply(ApplyError::Conflict)));
    let result = if outcome.is_ok() || quiet { "ok" } else { "error" };
    context.metrics.reconciles.get_or_create(&ResultLabel { result }).inc();
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    match &outcome {
        Ok(_) => context.remember(uid, |memory| memory.failed = 0),
        Err(error) if !quiet => {
            tracing::warn!(job = object.name_any(), namespace = object.namespace(), %error, "cannot reconcile");
            context.remember(uid, |memory| memory.failed = memory.failed.saturating_add(1));
        }
        Err(_) => {}
    }
    outcome.map(Action::requeue)
}

async fn once(object: &JobObject, context: &Context) -> Result<Duration, ReconcileError> {
    let facts = dereference::cached(context, object).await?;
    if facts.job.deleting {
        return Ok(Duration::from_secs(300));
    }
    let valid = validate(object, &facts.job);
    let decision = decide(&facts, &valid);
    if !decision.is_grave() {
        if context.recall(&facts.job.uid).is_newer_than(&facts.job, facts.now) {
            return Ok(AFTER_CONFLICT);
        }
        return finish(context, facts, &valid, decision).await;
    }
    // Caches may be old: what creates or deletes is decided again by what the API server has now.
    let Some((object, facts)) = dereference::live(context, &facts.job).await? else {
        return Ok(Duration::from_secs(300));
    };
    if facts.job.deleting {
        return Ok(Duration::from_secs(300));
    }
    let valid = validate(&object, &facts.job);
    let decision = decide(&facts, &valid);
    finish(context, facts, &valid, decision).await
}

/// Brings a decision about and writes the status.
async fn finish(
    context: &Context,
    mut facts: Facts,
    valid: &Result<Validated, Invalid>,
    decision: Decision,
) -> Result<Duration, ReconcileError> {
    let (version, refused) = apply::apply(context, &facts, valid, &decision).await?;
    let all_created = refused.iter().all(|refusal| refusal.what == Refused::Budget);
    // A refusal holds until what was refused may be tried again, or is not wanted any more.
    let named = decision.status.revision.iter().chain(&decision.status.candidate_revision);
    let wanted =
        |what: Refused| what == Refused::Budget || named.clone().any(|named| what == Refused::Revision(named.number));
    let now = facts.now;
    facts.refusals.retain(|refusal| refusal.not_before > now && wanted(refusal.what));
    facts.refusals.extend(refused);
    context.remember(&facts.job.uid, |memory| memory.refusals = facts.refusals.clone());
    let mut after = status::status(&facts, valid, &decision);
    if all_created {
        // Every pod was created: one that is gone before the next reconcile leaves no number to be given again.
        after.reserved.clear();
    }
    let before = if version == facts.job.resource_version { &facts.job.status } else { &decision.status };
    let written = context.recall(&facts.job.uid).written;
    let overdue = written.is_none_or(|at| Timestamp::now().duration_since(at).as_secs() >= MEASURED_EVERY);
    if status::differ(before, &after) || (overdue && *before != after) {
        apply::write_status(context, &facts, &version, before, &after).await?;
        tell_events(context, &facts, &after).await;
    }
    let pauses = facts.refusals.iter().map(|refusal| refusal.not_before.duration_since(facts.now));
    let pause = pauses.min().and_then(|pause| Duration::try_from(pause).ok()).unwrap_or(Duration::MAX);
    Ok(decision.again.min(pause.max(Duration::from_millis(200))))
}

/// Says what changed, where `kubectl describe` shows it.
async fn tell_events(context: &Context, facts: &Facts, after: &StreamingJobStatus) {
    for kind in [CONDITION_READY, CONDITION_STALLED, CONDITION_DEGRADED] {
        let (before, after) = (condition(&facts.job.status, kind), condition(after, kind));
        let Some(now) = after else { continue };
        let same = before.is_some_and(|before| (&before.status, &before.reason) == (&now.status, &now.reason));
        let quiet = now.status != "True" && (kind != CONDITION_READY || before.is_none());
        if same || quiet {
            continue;
        }
        let good = (kind == CONDITION_READY) == (now.status == "True");
        let event = Event {
            type_: if good { EventType::Normal } else { EventType::Warning },
            reason: now.reason.chars().take(128).collect(),
            note: Some(now.message.chars().take(1000).collect()),
            action: kind.to_owned(),
            secondary: None,
        };
        if let Err(error) = context.recorder.publish(&event, &reference(&facts.job)).await {
            tracing::debug!(%error, "cannot publish an event");
        }
    }
}

fn reference(job: &JobFacts) -> k8s_openapi::api::core::v1::ObjectReference {
    k8s_openapi::api::core::v1::ObjectReference {
        api_version: Some(millrace_crds::contract::API_VERSION.to_owned()),
        kind: Some(millrace_crds::contract::KIND.to_owned()),
        name: Some(job.name.clone()),
        namespace: Some(job.namespace.clone()),
        uid: Some(job.uid.clone()),
        ..Default::default()
    }
}

fn after_error(object: Arc<JobObject>, error: &ReconcileError, context: Arc<Context>) -> Action {
    if matches!(error, ReconcileError::Apply(ApplyError::Conflict)) {
        return Action::requeue(AFTER_CONFLICT);
    }
    let failed = context.recall(object.metadata.uid.as_deref().unwrap_or_default()).failed;
    let (first, longest) = AFTER_ERROR;
    Action::requeue(first.saturating_mul(1 << failed.saturating_sub(1).min(10)).min(longest))
}

/// Counts jobs by condition.
fn count_jobs(metrics: &Metrics, jobs: &Store<JobObject>) {
    let mut counts: HashMap<(String, String), i64> = HashMap::new();
    for job in jobs.state() {
        let Ok(facts) = JobFacts::of(&job) else { continue };
        for condition in &facts.status.conditions {
            *counts.entry((condition.type_.clone(), condition.status.clone())).or_default() += 1;
        }
    }
    metrics.jobs.clear();
    for ((condition, status), count) in counts {
        metrics.jobs.get_or_create(&crate::metrics::ConditionLabel { condition, status }).set(count);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::pending;

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use tokio::sync::{mpsc, oneshot};
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    /// What an API server with one job answers. What is asked of the job itself is not answered: each such question is told
    /// of by a channel that closes when nobody waits for the answer any more.
    async fn answer(request: Request<Body>, asked: mpsc::UnboundedSender<oneshot::Receiver<()>>) -> Value {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let list = |kind: &str, items: Value| {
            let api = format!("{kind}List");
            json!({ "apiVersion": "v1", "kind": api, "metadata": { "resourceVersion": "1" }, "items": items })
        };
        if query.contains("watch=true") {
            return pending().await;
        }
        match path.rsplit('/').next().unwrap() {
            "streamingjobs" => {
                let metadata = json!({ "name": "orders", "namespace": "shop", "uid": "u-1", "resourceVersion": "1" });
                let spec = json!({
                    "sources": [{ "name": "orders", "format": { "text": {} },
                                  "kafka": { "bootstrapServers": "kafka:9092", "topics": ["orders"] } }],
                    "outputs": [{ "name": "lake", "sql": "SELECT value FROM orders",
                                  "parquet": { "path": "s3://lake/orders" } }],
                    "checkpoint": { "location": "s3://lake/_checkpoints/orders" },
                });
                list("StreamingJob", json!([{ "metadata": metadata, "spec": spec }]))
            }
            "orders" => {
                let (waits, gone) = oneshot::channel();
                asked.send(gone).unwrap();
                let answer = pending().await;
                drop(waits);
                answer
            }
            _ => list("Object", json!([])),
        }
    }

    #[tokio::test]
    async fn an_operator_that_stops_leading_has_no_reconcile_under_way_any_more() {
        let (asked, mut questions) = mpsc::unbounded_channel();
        let server = tower::service_fn(move |request: Request<Body>| {
            let asked = asked.clone();
            async move {
                let answer = answer(request, asked).await;
                Ok::<_, std::convert::Infallible>(Response::new(Body::from(answer.to_string().into_bytes())))
            }
        });
        let client = Client::new(server, "shop");
        let scope = Scope { namespace: None, concurrency: 16, identity: "one".into() };
        let work = tokio::spawn(run(client, scope, Defaults::default(), Arc::default(), || {}));
        let question = timeout(SOON, questions.recv()).await.unwrap().unwrap();
        work.abort();
        timeout(SOON, question).await.unwrap().unwrap_err();
    }
}
