//! Played runners: what answers `GET /status` where a pod's address is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use millrace_crds::contract::{RUNNER_HTTP_PORT, RunnerStatus};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{block_on, runtime};

/// Something that answers as a runner does, at an address on loopback of its own. Dropping it ends it.
pub struct Runner {
    /// Its address, as a pod's.
    pub address: IpAddr,
    answer: Answer,
    silent: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

/// `None`: an error.
type Answer = Arc<Mutex<Option<RunnerStatus>>>;

/// Longer than anybody waits.
const NEVER: Duration = Duration::from_secs(3_600);

impl Runner {
    /// Begins to answer.
    pub fn start(status: RunnerStatus) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let answer: Answer = Arc::new(Mutex::new(Some(status)));
        let silent = Arc::new(AtomicBool::new(false));
        let state = (Arc::clone(&answer), Arc::clone(&silent));
        let router = Router::new().route("/status", get(say)).with_state(state);
        let listener = block_on(async {
            // Test processes that run side by side begin at different addresses; a taken one is passed over.
            for _ in 0..60_000 {
                let next = (std::process::id() << 8).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
                let [_, second, third, fourth] = next.to_be_bytes();
                let address = Ipv4Addr::new(127, second | 128, third, fourth);
                if let Ok(listener) = TcpListener::bind(SocketAddr::new(address.into(), RUNNER_HTTP_PORT)).await {
                    return listener;
                }
            }
            panic!("no address on loopback is free");
        });
        let address = listener.local_addr().unwrap().ip();
        let task = runtime().spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { address, answer, silent, task }
    }

    /// One that takes connections and never answers.
    pub fn silent() -> Self {
        let runner = Self::start(RunnerStatus::default());
        runner.silent.store(true, Ordering::Relaxed);
        runner
    }

    /// What it answers from now on; `None`: an error.
    pub fn answers(&self, status: Option<RunnerStatus>) {
        *self.answer.lock().unwrap() = status;
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn say(State((answer, silent)): State<(Answer, Arc<AtomicBool>)>) -> (StatusCode, String) {
    if silent.load(Ordering::Relaxed) {
        tokio::time::sleep(NEVER).await;
    }
    match &*answer.lock().unwrap() {
        Some(status) => (StatusCode::OK, serde_json::to_string(status).unwrap()),
        None => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
    }
}
