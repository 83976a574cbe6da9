//! Jobs that are created again, that get into one another's way, and what is asked of them while they run.

use anyhow::ensure;
use millrace_crds::contract::{ANNOTATION_LOG_LEVEL, ANNOTATION_SAVEPOINT};
use millrace_crds::spec::{CONDITION_COMPLETED, CONDITION_READY, CONDITION_STALLED};
use millrace_e2e::Result;
use millrace_e2e::command::kubectl;
use millrace_e2e::job::{Job, SOON};
use millrace_e2e::joblog::Moment;
use millrace_e2e::manifest::Manifest;
use millrace_e2e::pods::processes;
use millrace_e2e::space::TestNamespace;
use millrace_e2e::within::{throughout, within};
use serde_json::json;

use crate::support::{RATE, figure, only_working, s, under_load, with_another_column};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_created_again_goes_on_where_it_was() -> Result<()> {
    under_load("again", RATE, async |space, job| {
        job.delete(SOON).await?;
        let gone = Moment::now();
        job.apply(&Manifest::orders(space)?).await?;
        job.commits_after(gone, SOON).await?;
        job.becomes(SOON, CONDITION_READY, "True").await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_job_on_a_checkpoint_is_refused_and_the_first_goes_on() -> Result<()> {
    under_load("second", RATE, async |space, job| {
        let first = job.pod().await?;
        let second = space.apply(&Manifest::orders(space)?.set("/metadata/name", "second")?).await?;
        let stalled = second.becomes(SOON, CONDITION_STALLED, "True").await?;
        ensure!(stalled.message.contains("orders"), "it does not say whose the checkpoint is: {}", stalled.message);
        let next = job.commits_after(Moment::now(), SOON).await?;
        ensure!(next.pod == first.number, "{next:?}");
        ensure!(processes(&job.pods().await?) == processes([&first]), "{first:?}");
        second.delete(SOON).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pods_of_a_completed_job_go_after_their_time() -> Result<()> {
    TestNamespace::run("ttl", async |space| {
        space.produce(500).await?;
        let manifest = Manifest::orders(space)?
            .set("/spec/trigger", json!({"availableNow": {}}))?
            .set("/spec/ttlSecondsAfterFinished", 5)?;
        let job = space.apply(&manifest).await?;
        job.becomes(SOON, CONDITION_COMPLETED, "True").await?;
        only_working(&job, 0).await?;
        throughout(s(10), "the job stays completed and starts no pod", async || {
            job.condition(CONDITION_COMPLETED, "True").await?;
            ensure!(job.pods().await?.is_empty(), "{:?}", job.pods().await?);
            Ok(())
        })
        .await?;
        space.check_exactly_once(&job, 500).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_savepoint_that_is_asked_for_is_made_and_listed() -> Result<()> {
    under_load("savepoint", RATE, async |_, job| {
        let before = processes(&job.pods().await?);
        save(job, "before-fix").await?;
        ensure!(processes(&job.pods().await?) == before, "a runner was restarted for it");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_begins_at_a_savepoint_replays_into_the_same_tables() -> Result<()> {
    under_load("start-from", RATE, async |space, job| {
        let old = job.pod().await?;
        save(job, "before-fix").await?;
        job.commits_after(Moment::now(), SOON).await?;

        let silent = Manifest::orders(space)?.set("/spec/startFrom", json!({"savepoint": "before-fix"}))?;
        job.apply(&silent).await?;
        let stalled = job.becomes(SOON, CONDITION_STALLED, "True").await?;
        ensure!(stalled.message.contains("startFrom.outputs"), "it does not say what is missing: {}", stalled.message);
        let next = job.commits_after(Moment::now(), SOON).await?;
        ensure!(next.pod == old.number, "{next:?} is not of {old:?}");

        let policies = ["commandes", "items"].map(|output| json!({"name": output, "policy": "retract"}));
        let fixed = with_another_column(Manifest::orders(space)?, "lower(status) AS quiet")?
            .set("/spec/startFrom", json!({"savepoint": "before-fix", "outputs": policies}))?;
        let edited = Moment::now();
        job.apply(&fixed).await?;
        let next = job.commits(SOON, "a commit of the fixed revision", |commit| commit.pod > old.number).await?;
        let pause = job.log(|log| log.longest_pause(edited, next.stored)).await?;
        figure("an edit that goes back to a savepoint, longest time without a commit", pause, s(5), SOON)?;
        job.becomes(SOON, CONDITION_STALLED, "False").await?;
        only_working(job, 1).await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_level_changes_while_the_job_runs() -> Result<()> {
    under_load("log-level", RATE, async |space, job| {
        let pod = job.pod().await?;
        let debug_lines = async || -> Result<usize> {
            let log = kubectl(space.name(), &["logs", &pod.name, "--since=5s"]).await?;
            Ok(log.lines().filter(|line| line.contains("\"DEBUG\"")).count())
        };
        ensure!(debug_lines().await? == 0, "it logs debug lines unasked");
        annotate(job, ANNOTATION_LOG_LEVEL, "debug").await?;
        within(SOON, "debug lines are logged", async || {
            ensure!(debug_lines().await? > 0, "there are none");
            Ok(())
        })
        .await?;
        annotate(job, ANNOTATION_LOG_LEVEL, "info").await?;
        within(SOON, "debug lines are no longer logged", async || {
            let lines = debug_lines().await?;
            ensure!(lines == 0, "there are {lines}");
            Ok(())
        })
        .await?;
        ensure!(processes(&job.pods().await?) == processes([&pod]), "a runner was restarted for it");
        Ok(())
    })
    .await
}

/// Makes a savepoint and waits until it is listed.
async fn save(job: &Job<'_>, name: &str) -> Result<()> {
    annotate(job, ANNOTATION_SAVEPOINT, name).await?;
    within(SOON, "the savepoint is listed", async || {
        let savepoints = job.status().await?.savepoints;
        ensure!(savepoints.iter().any(|savepoint| savepoint.name == name), "{savepoints:?}");
        Ok(())
    })
    .await
}

async fn annotate(job: &Job<'_>, annotation: &str, value: &str) -> Result<()> {
    job.patch(json!({"metadata": {"annotations": {annotation: value}}})).await
}
