//! Which of several operators leads: a Lease, as Kubernetes' own controllers use it.
//!
//! A Lease is no fence: one that lost it may be in the middle of a reconcile. Every write is safe from that.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout};

/// How long a leader that is not heard of stays the leader.
const DURATION: Duration = Duration::from_secs(15);
/// How often a leader renews, and the others look.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// A leader that could not renew for so long stops leading: before the others may think so.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// The claim to lead.
#[derive(Clone)]
pub struct Election {
    leases: Api<Lease>,
    name: String,
    identity: String,
    /// What another holder was last seen to have written, and when that was first seen here: clocks are not compared.
    seen: Option<(Option<String>, Instant)>,
}

/// What a Lease says to one who would lead.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Mine,
    Free,
    Anothers,
}

impl Election {
    /// A candidate of this name.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        let leases = Api::namespaced(client, namespace);
        Self { leases, name: name.to_owned(), identity: identity.to_owned(), seen: None }
    }

    /// Waits until this one leads.
    pub async fn acquire(&mut self) {
        while self.attempt(GIVE_UP_AFTER).await != Some(true) {
            sleep(RENEW_EVERY).await;
        }
    }

    /// Renews until that fails for too long or another leads.
    pub async fn keep(&mut self) {
        // Of the last renewal that went through, when it was begun: the others count from some time after that.
        let mut renewed = Instant::now();
        while renewed.elapsed() < GIVE_UP_AFTER {
            sleep(RENEW_EVERY).await;
            let begun = Instant::now();
            match self.attempt(GIVE_UP_AFTER.saturating_sub(renewed.elapsed())).await {
                Some(true) => renewed = begun,
                Some(false) => return,
                None => {}
            }
        }
    }

    /// Takes or renews the lease if that is possible now; `None` if the API server does not say so within `patience`.
    async fn attempt(&mut self, patience: Duration) -> Option<bool> {
        match timeout(patience, self.try_once()).await {
            Ok(Ok(held)) => return Some(held),
            Ok(Err(error)) => tracing::warn!(%error, "cannot take or renew the lease"),
            Err(_) => tracing::warn!("cannot take or renew the lease: the API server does not answer"),
        }
        None
    }

    /// Lets another lead at once.
    pub async fn resign(&mut self) {
        if let Ok(Some(mut lease)) = self.leases.get_opt(&self.name).await
            && self.standing(&lease) == Standing::Mine
            && let Some(spec) = &mut lease.spec
        {
            spec.holder_identity = None;
            let _ = self.leases.replace(&self.name, &PostParams::default(), &lease).await;
        }
    }

    /// Takes or renews the lease if that is possible now. The write names the version it was read in.
    async fn try_once(&mut self) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.held(None)) };
            return is_won(self.leases.create(&PostParams::default(), &lease).await);
        };
        match self.standing(&lease) {
            Standing::Anothers => return Ok(false),
            Standing::Mine | Standing::Free => {}
        }
        lease.spec = Some(self.held(lease.spec.as_ref()));
        is_won(self.leases.replace(&self.name, &PostParams::default(), &lease).await)
    }

    fn standing(&mut self, lease: &Lease) -> Standing {
        let spec = lease.spec.clone().unwrap_or_default();
        let Some(holder) = spec.holder_identity.filter(|holder| !holder.is_empty()) else { return Standing::Free };
        if holder == self.identity {
            return Standing::Mine;
        }
        let written = lease.metadata.resource_version.clone();
        match &self.seen {
            Some((seen, since)) if *seen == written => {
                if since.elapsed() >= DURATION {
                    Standing::Free
                } else {
                    Standing::Anothers
                }
            }
            _ => {
                self.seen = Some((written, Instant::now()));
                Standing::Anothers
            }
        }
    }

    /// The lease as this one holds it.
    fn held(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let mine = before.filter(|before| before.holder_identity.as_ref() == Some(&self.identity));
        let transitions = before.and_then(|before| before.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            acquire_time: mine.and_then(|mine| mine.acquire_time.clone()).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_duration_seconds: SignedDuration::try_from(DURATION)
                .ok()
                .and_then(|d| i32::try_from(d.as_secs()).ok()),
            lease_transitions: Some(if mine.is_some() || before.is_none() { transitions } else { transitions + 1 }),
            ..LeaseSpec::default()
        }
    }
}

/// Whether a write went through; that somebody else wrote first is no error.
fn is_won(written: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    /// An API server without a lease, which does not answer its first `silent` requests.
    fn election(silent: usize) -> Election {
        let asked = Arc::new(AtomicUsize::new(0));
        let server = tower::service_fn(move |request: Request<Body>| {
            let before = asked.fetch_add(1, Ordering::Relaxed);
            async move {
                if before < silent {
                    pending::<()>().await;
                }
                let (code, answer) = answer(request.method().as_str());
                let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
                *response.status_mut() = code;
                Ok::<_, Infallible>(response)
            }
        });
        Election::new(Client::new(server, "system"), "system", "millrace-operator", "one")
    }

    fn answer(method: &str) -> (http::StatusCode, Value) {
        let missing = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                              "message": "there is none", "reason": "NotFound", "code": 404 });
        let lease = json!({ "kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": {} });
        match method {
            "GET" => (http::StatusCode::NOT_FOUND, missing),
            _ => (http::StatusCode::CREATED, lease),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_does_not_answer_once_keeps_nobody_from_leading() {
        let begun = Instant::now();
        election(1).acquire().await;
        assert_eq!(begun.elapsed().as_secs(), (GIVE_UP_AFTER + RENEW_EVERY).as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_is_not_answered_gives_up_before_another_may_lead() {
        let begun = Instant::now();
        election(usize::MAX).keep().await;
        let held = begun.elapsed();
        assert!(held >= GIVE_UP_AFTER && held < DURATION, "{held:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_is_answered_keeps_the_lead() {
        let mut election = election(0);
        assert!(timeout(Duration::from_secs(600), election.keep()).await.is_err());
    }
}
