//! What the runners say of themselves: `GET /status` on their pods. For the status only; a runner that cannot be reached
//! is unknown, and nothing restarts for it.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use millrace_crds::contract::{RUNNER_HTTP_PORT, RunnerStatus};
use tokio::sync::Semaphore;

use crate::decide::LOOK_EVERY;
use crate::facts::PodFacts;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How many runners are asked at a time, over all jobs.
const AT_A_TIME: usize = 64;
/// The longest answer that is read, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// How long a reconcile waits for answers: a runner that does not answer must hold up no job, and not its own either.
const PATIENCE: Duration = Duration::from_millis(50);

/// The last answers.
#[derive(Debug, Clone)]
pub struct Reports(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: reqwest::Client,
    places: Semaphore,
    answers: Mutex<HashMap<String, Answer>>,
}

#[derive(Debug)]
struct Answer {
    asked: Instant,
    /// Whether the answer to the last question has still to come.
    awaited: bool,
    status: Option<RunnerStatus>,
}

impl Default for Reports {
    fn default() -> Self {
        // A proxy of the environment's is for the world outside the cluster.
        let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().unwrap_or_default();
        Self(Arc::new(Inner { client, places: Semaphore::new(AT_A_TIME), answers: Mutex::default() }))
    }
}

impl Reports {
    /// Asks the runners that were not asked lately, and returns the last answers by pod name. One that comes late is there at
    /// the next look.
    pub async fn of(&self, pods: &[PodFacts]) -> BTreeMap<String, RunnerStatus> {
        let running = pods.iter().filter(|pod| pod.running && !pod.deleting);
        let addressed = running.filter_map(|pod| Some((&pod.uid, pod.ip.as_ref()?.parse().ok()?)));
        let due: Vec<(&String, IpAddr)> = addressed.filter(|(uid, _)| self.is_due(uid)).collect();
        if !due.is_empty() {
            let asked = due.into_iter().map(|(uid, ip)| tokio::spawn(self.clone().ask(uid.clone(), ip)));
            let _ = tokio::time::timeout(PATIENCE, join_all(asked)).await;
        }
        let answers = self.answers();
        let known = pods
            .iter()
            .filter(|pod| pod.running)
            .filter_map(|pod| Some((pod.name.clone(), answers.get(&pod.uid)?.status.clone()?)));
        known.collect()
    }

    /// Forgets pods that were not asked for long: they are gone.
    pub fn sweep(&self) {
        self.answers().retain(|_, answer| answer.asked.elapsed() < LOOK_EVERY * 8);
    }

    /// Whether a runner is to be asked now; then it counts as asked.
    fn is_due(&self, uid: &str) -> bool {
        let mut answers = self.answers();
        // A little less than the time between two looks, so that every look finds its answers due.
        let lately = |answer: &Answer| answer.awaited || answer.asked.elapsed() < LOOK_EVERY.mul_f64(0.8);
        if answers.get(uid).is_some_and(lately) {
            return false;
        }
        let status = answers.remove(uid).and_then(|answer| answer.status);
        answers.insert(uid.to_owned(), Answer { asked: Instant::now(), awaited: true, status });
        true
    }

    async fn ask(self, uid: String, ip: IpAddr) {
        let status = self.answer(ip).await;
        if let Some(answer) = self.answers().get_mut(&uid) {
            (answer.awaited, answer.status) = (false, status);
        }
    }

    async fn answer(&self, ip: IpAddr) -> Option<RunnerStatus> {
        let _place = self.0.places.acquire().await.ok()?;
        let url = format!("http://{}/status", std::net::SocketAddr::new(ip, RUNNER_HTTP_PORT));
        let answer = self.0.client.get(url).send().await.ok()?.error_for_status().ok()?;
        if answer.content_length().is_some_and(|length| length > MAX_BYTES as u64) {
            return None;
        }
        let bytes = answer.bytes().await.ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<String, Answer>> {
        self.0.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
