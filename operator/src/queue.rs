//! The jobs that wait for a reconcile, and since when.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::{Stream, TryStreamExt};
use kube::ResourceExt;
use kube::runtime::controller::ReconcileRequest;
use kube::runtime::reflector::ObjectRef;

use crate::facts::JobObject;
use crate::metrics::Metrics;

/// How long requests wait.
#[derive(Clone)]
pub struct Queue {
    metrics: Arc<Metrics>,
    since: Arc<Mutex<HashMap<ObjectRef<JobObject>, Instant>>>,
}

impl Queue {
    /// Nobody waits yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, since: Arc::default() }
    }

    /// Notes each request as it comes.
    pub fn watch<S, E>(self, requests: S) -> impl Stream<Item = Result<ReconcileRequest<JobObject>, E>>
    where
        S: Stream<Item = Result<ReconcileRequest<JobObject>, E>>,
    {
        requests.inspect_ok(move |request| {
            let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
            since.entry(request.obj_ref.clone()).or_insert_with(Instant::now);
            self.metrics.queue_depth.set(since.len() as i64);
        })
    }

    /// Notes that a job's reconcile begins.
    pub fn begins(&self, job: &JobObject) {
        if let Some(asked) = self.take(&job.name_any(), job.namespace()) {
            self.metrics.event_to_reconcile_seconds.observe(asked.elapsed().as_secs_f64());
        }
    }

    /// Since when a job waits; it does no longer.
    pub fn take(&self, name: &str, namespace: Option<String>) -> Option<Instant> {
        let mut job = ObjectRef::new(name);
        job.namespace = namespace;
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = since.remove(&job);
        self.metrics.queue_depth.set(since.len() as i64);
        asked
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};

    use super::*;

    #[test]
    fn a_request_waits_once_until_it_is_taken_by_name_and_namespace() {
        let queue = Queue::new(Arc::default());
        let of = |namespace: &str| ObjectRef::new("orders").within(namespace);
        let requests = [of("shop"), of("shop"), of("web")].map(|job| Ok::<_, ()>(ReconcileRequest::from(job)));
        futures::executor::block_on(queue.clone().watch(stream::iter(requests)).for_each(|_| async {}));
        assert_eq!(queue.metrics.queue_depth.get(), 2);
        assert!(queue.take("orders", Some("shop".into())).is_some());
        assert!(queue.take("orders", Some("shop".into())).is_none());
        assert!(queue.take("orders", None).is_none());
        assert!(queue.take("orders", Some("web".into())).is_some());
        assert_eq!(queue.metrics.queue_depth.get(), 0);
    }
}
