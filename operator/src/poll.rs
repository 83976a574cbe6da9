//! What the runners say of themselves: `GET /status` on their pods. For the status only; a runner that cannot be reached
//! is unknown, and nothing restarts for it.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
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

/// The last answers.
#[derive(Debug)]
pub struct Reports {
    client: reqwest::Client,
    places: Semaphore,
    answers: Mutex<HashMap<String, Answer>>,
}

#[derive(Debug)]
struct Answer {
    asked: Instant,
    status: Option<RunnerStatus>,
}

impl Default for Reports {
    fn default() -> Self {
        // A proxy of the environment's is for the world outside the cluster.
        let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().unwrap_or_default();
        Self { client, places: Semaphore::new(AT_A_TIME), answers: Mutex::default() }
    }
}

impl Reports {
    /// Asks the runners that were not asked lately, and returns the last answers by pod name.
    pub async fn of(&self, pods: &[PodFacts]) -> BTreeMap<String, RunnerStatus> {
        let due = pods.iter().filter(|pod| pod.running && !pod.deleting && self.is_due(&pod.uid));
        let asked = due.filter_map(|pod| Some((pod, pod.ip.as_ref()?.parse().ok()?)));
        let asked: Vec<(&PodFacts, IpAddr)> = asked.collect();
        stream::iter(asked)
            .for_each_concurrent(AT_A_TIME, |(pod, ip)| async move {
                let status = self.ask(ip).await;
                self.answers().insert(pod.uid.clone(), Answer { asked: Instant::now(), status });
            })
            .await;
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

    fn is_due(&self, uid: &str) -> bool {
        // A little less than the time between two looks, so that every look finds its answers due.
        self.answers().get(uid).is_none_or(|answer| answer.asked.elapsed() >= LOOK_EVERY.mul_f64(0.8))
    }

    async fn ask(&self, ip: IpAddr) -> Option<RunnerStatus> {
        let _place = self.places.acquire().await.ok()?;
        let url = format!("http://{}/status", std::net::SocketAddr::new(ip, RUNNER_HTTP_PORT));
        let answer = self.client.get(url).send().await.ok()?.error_for_status().ok()?;
        if answer.content_length().is_some_and(|length| length > MAX_BYTES as u64) {
            return None;
        }
        let bytes = answer.bytes().await.ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<String, Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
