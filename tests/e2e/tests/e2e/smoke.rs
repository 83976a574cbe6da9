//! That everything hangs together: a few minutes.

use anyhow::ensure;
use millrace_crds::spec::{
    CONDITION_ACCEPTED, CONDITION_COMPLETED, CONDITION_READY, CONDITION_STALLED, CONDITION_SUSPENDED,
};
use millrace_e2e::Result;
use millrace_e2e::command::kubectl;
use millrace_e2e::job::{SOON, spec};
use millrace_e2e::joblog::Moment;
use millrace_e2e::manifest::Manifest;
use millrace_e2e::pods::processes;
use millrace_e2e::space::TestNamespace;
use millrace_e2e::within::within;
use serde_json::json;

use crate::support::{RATE, figure, only_working, s, under_load, with_another_column};

#[tokio::test(flavor = "multi_thread")]
async fn an_applied_job_writes_its_tables_and_is_ready() -> Result<()> {
    const ORDERS: u64 = 2_000;
    TestNamespace::run("apply", async |space| {
        space.produce(ORDERS).await?;
        let applied = Moment::now();
        let job = space.apply(&Manifest::example(space)?).await?;
        within(SOON, "the first Parquet file", async || {
            let keys = space.bench.keys(space.bucket(), &job.paths()[0]).await?;
            ensure!(keys.iter().any(|key| key.ends_with(".parquet")), "there is {keys:?}");
            Ok(())
        })
        .await?;
        figure("kubectl apply to the first Parquet file", Moment::now().since(applied), s(15), SOON)?;
        kubectl(space.name(), &["wait", "--for=condition=Ready", "streamingjob/orders-to-lake", "--timeout=50s"])
            .await?;
        job.becomes(SOON, CONDITION_ACCEPTED, "True").await?;
        space.check_exactly_once(&job, ORDERS).await?;
        within(SOON, "the last commit in the status", async || {
            let status = job.status().await?;
            ensure!(status.ready_replicas == Some(1) && status.last_commit.is_some(), "{status:?}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_runner_pod_is_replaced() -> Result<()> {
    under_load("delete-pod", RATE, async |_, job| {
        let old = job.pod().await?;
        let deleted = Moment::now();
        job.delete_pod(&old).await?;
        let next = job.commits(SOON, "a commit of the replacement", |commit| commit.pod > old.number).await?;
        figure("runner pod deleted to the next commit", next.stored.since(deleted), s(15), SOON)?;
        let new = &only_working(job, 1).await?[0];
        ensure!(new.number > old.number && new.restarts == 0, "{new:?}");
        job.becomes(SOON, CONDITION_READY, "True").await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_scales_up_and_down_without_a_restart() -> Result<()> {
    under_load("scale", RATE, async |_, job| {
        let first = job.pod().await?;
        job.scale(2).await?;
        job.commits(SOON, "a commit of the second runner", |commit| commit.ordinal == 1).await?;
        let both = only_working(job, 2).await?;
        ensure!(processes([&both[0]]) == processes([&first]), "{first:?} became {both:?}");
        job.scale(1).await?;
        let left = only_working(job, 1).await?;
        ensure!(processes(&left) == processes([&first]), "{first:?} became {left:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_edit_leaves_the_old_revision_at_work_until_a_good_one() -> Result<()> {
    under_load("edits", RATE, async |space, job| {
        let old = job.pod().await?;
        let manifest = Manifest::orders(space)?;
        job.apply(&manifest.clone().set("/spec/outputs/0/sql", "SELECT nonsense FROM orders")?).await?;
        let stalled = job.becomes(SOON, CONDITION_STALLED, "True").await?;
        ensure!(stalled.message.contains("nonsense"), "{}", stalled.message);
        let ready = job.becomes(SOON, CONDITION_READY, "True").await?;
        ensure!(ready.reason == "PreviousRevisionRunning", "{}: {}", ready.reason, ready.message);
        let next = job.commits_after(Moment::now(), SOON).await?;
        ensure!(next.pod == old.number, "{next:?} is not of {old:?}");

        let edited = Moment::now();
        job.apply(&with_another_column(manifest, "upper(status) AS loud")?).await?;
        let next = job.commits(SOON, "a commit of the new revision", |commit| commit.pod > old.number).await?;
        let pause = job.log(|log| log.longest_pause(edited, next.stored)).await?;
        figure("longest time without a commit at an edit", pause, s(5), SOON)?;
        job.becomes(SOON, CONDITION_STALLED, "False").await?;
        let ready = job.becomes(SOON, CONDITION_READY, "True").await?;
        ensure!(ready.reason != "PreviousRevisionRunning", "{}", ready.message);
        let new = &only_working(job, 1).await?[0];
        ensure!(new.revision > old.revision, "{new:?} after {old:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_job_goes_on_where_it_was() -> Result<()> {
    under_load("suspend", RATE, async |_, job| {
        let old = job.pod().await?;
        job.patch(spec(json!({"suspend": true}))).await?;
        job.becomes(SOON, CONDITION_SUSPENDED, "True").await?;
        job.becomes(SOON, CONDITION_READY, "True").await?;
        only_working(job, 0).await?;
        job.patch(spec(json!({"suspend": false}))).await?;
        job.commits(SOON, "a commit after resuming", |commit| commit.pod > old.number).await?;
        job.becomes(SOON, CONDITION_SUSPENDED, "False").await?;
        job.becomes(SOON, CONDITION_READY, "True").await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounded_job_ends_as_completed_and_keeps_its_pod() -> Result<()> {
    const ORDERS: u64 = 5_000;
    TestNamespace::run("bounded", async |space| {
        space.produce(ORDERS).await?;
        let manifest = Manifest::orders(space)?.set("/spec/trigger", json!({"availableNow": {}}))?;
        let job = space.apply(&manifest).await?;
        job.becomes(SOON, CONDITION_COMPLETED, "True").await?;
        job.becomes(SOON, CONDITION_READY, "True").await?;
        // The kubelet says that the container has ended a little before it says so of the pod.
        within(SOON, "the pod to have succeeded", async || {
            let pod = job.pod().await?;
            ensure!(pod.phase == "Succeeded" && pod.restarts == 0, "{pod:?}");
            Ok(())
        })
        .await?;
        space.check_exactly_once(&job, ORDERS).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_can_be_deleted_when_its_bucket_is_gone() -> Result<()> {
    TestNamespace::run("no-bucket", async |space| {
        space.produce(1_000).await?;
        let job = space.apply(&Manifest::orders(space)?).await?;
        job.is_under_way().await?;
        space.bench.delete_bucket(space.bucket()).await?;
        job.delete(SOON).await
    })
    .await
}

mod on_kind {
    use millrace_e2e::node::Node;

    use super::*;
    use crate::support::killed;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_killed_runner_is_restarted_in_place() -> Result<()> {
        under_load("kill", RATE, async |_, job| {
            let before = job.pod().await?;
            let pause = killed(job, async |pod, container| Node::of(pod)?.kill(container).await).await?;
            figure("kill -9 of a runner to the next commit", pause, s(5), SOON)?;
            let after = job.pod().await?;
            ensure!(after.uid == before.uid && after.restarts == 1, "{before:?} became {after:?}");
            Ok(())
        })
        .await
    }
}
