//! A cluster for the operator to work in: a real API server with its etcd. Scheduler, kubelet and garbage collector are
//! played by the test. It is synchronous, so that a test reads from top to bottom.

pub mod history;
pub mod job;
pub mod kubelet;
pub mod operator;
pub mod play;
pub mod runners;
pub mod world;

use std::sync::OnceLock;

use tokio::runtime::Runtime;

/// The runtime of the client, the played kubelets and the played runners.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

/// Runs a future to its end.
pub fn block_on<F: Future>(future: F) -> F::Output {
    runtime().block_on(future)
}
