//! The harness of the tests against real servers: it starts them, fills them, runs the `millrace` binary as a user would,
//! and compares what came out with another engine's answer. It is synchronous, so that a test reads from top to bottom.

pub mod duckdb;
pub mod http;
pub mod messages;
pub mod orders;
pub mod produce;
pub mod runner;
pub mod servers;
pub mod wait;

/// The harness's result: its errors are read by people, in a failing test.
pub type Result<T, E = anyhow::Error> = std::result::Result<T, E>;

/// Runs a future to its end on the harness's own runtime; for the asynchronous parts of object_store.
///
/// # Errors
///
/// When the runtime cannot be made.
pub fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}
