//! What most of the tests do around what they are about.

use std::time::Duration;

use anyhow::{Context, ensure};
use millrace_e2e::Result;
use millrace_e2e::job::{Job, SOON};
use millrace_e2e::joblog::{Commit, Moment};
use millrace_e2e::manifest::Manifest;
use millrace_e2e::pods::{self, RunnerPod};
use millrace_e2e::space::TestNamespace;
use millrace_e2e::within::within;
use serde_json::Value;

/// Orders a second while something happens: enough that every epoch has some of every partition.
pub const RATE: u32 = 200;

/// Runs `test` on the job `orders`, which commits every second and is under way, while orders arrive; then makes sure that
/// each of them is in the tables exactly once.
pub async fn under_load(
    name: &str,
    rate: u32,
    test: impl AsyncFnOnce(&TestNamespace, &Job<'_>) -> Result<()>,
) -> Result<()> {
    TestNamespace::run(name, async |space| {
        let load = space.load(rate).await?;
        let job = space.apply(&Manifest::orders(space)?).await?;
        job.is_under_way().await?;
        test(space, &job).await?;
        let produced = load.finish().await?;
        space.check_exactly_once(&job, produced).await
    })
    .await
}

/// Waits until exactly `count` runners work and no other pod is left, and returns them by ordinal.
pub async fn only_working(job: &Job<'_>, count: u64) -> Result<Vec<RunnerPod>> {
    within(SOON, &format!("{} runners of {} work", count, job.name()), async || {
        let pods = job.pods().await?;
        ensure!(pods.len() as u64 == count, "pods are {pods:?}");
        Ok(pods::working(&pods, count)?.into_values().collect())
    })
    .await
}

/// Prints a figure and holds it against a bound that a busy machine keeps too; what is wanted of it is in issue 4's table.
pub fn figure(what: &str, measured: Duration, wanted: Duration, bound: Duration) -> Result<()> {
    let verdict = if measured < wanted { "" } else { "  MISSED" };
    println!("figure: {what}: {:.1} s, wanted < {:.0} s{verdict}", measured.as_secs_f64(), wanted.as_secs_f64());
    ensure!(measured < bound, "{what} took {measured:?}");
    Ok(())
}

/// The example whose first table has one more column.
pub fn with_another_column(manifest: Manifest, column: &str) -> Result<Manifest> {
    const SQL: &str = "/spec/outputs/0/sql";
    let sql = manifest.value().pointer(SQL).and_then(Value::as_str).context("the first output has no query")?;
    let sql = sql.replace("FROM orders", &format!(", {column} FROM orders"));
    manifest.set(SQL, sql)
}

/// Seconds.
pub const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Ends the process of the job's one runner by `end`, and returns how long it took from then to a commit of another process.
pub async fn killed(job: &Job<'_>, end: impl AsyncFnOnce(&RunnerPod, &str) -> Result<()>) -> Result<Duration> {
    let pod = job.pod().await?;
    let container = pod.container.as_deref().with_context(|| format!("{} has no container", pod.name))?;
    let last = job.log(|log| log.commits().last().cloned()).await?.context("nothing was committed yet")?;
    let ended = Moment::now();
    end(&pod, container).await?;
    let other = |commit: &Commit| commit.stored > ended && commit.incarnation != last.incarnation;
    let next = job.commits(SOON, "a commit of another process", other).await?;
    Ok(next.stored.since(ended))
}
