//! Kafka, MinIO and the API server away for a minute.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use millrace_crds::spec::{CONDITION_DEGRADED, CONDITION_READY};
use millrace_e2e::Result;
use millrace_e2e::job::{Job, SOON};
use millrace_e2e::joblog::Moment;
use millrace_e2e::outage::{Server, without_api_server};
use millrace_e2e::pods::processes;
use millrace_e2e::within::{throughout, within};

use crate::support::{RATE, figure, s, under_load};

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_without_kafka_restarts_nothing() -> Result<()> {
    minute_without(Server::Kafka, "KafkaUnreachable").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_without_minio_restarts_nothing() -> Result<()> {
    minute_without(Server::Minio, "StoreUnavailable").await
}

async fn minute_without(server: Server, reason: &str) -> Result<()> {
    under_load(&format!("no-{server:?}").to_lowercase(), RATE, async |space, job| {
        let before = running(job).await?;
        let outage = async {
            let gone = Moment::now();
            let degraded = job.becomes(SOON, CONDITION_DEGRADED, "True").await?;
            ensure!(degraded.reason == reason, "{}: {}", degraded.reason, degraded.message);
            throughout(s(60).saturating_sub(Moment::now().since(gone)), "no runner is restarted", async || {
                ensure!(running(job).await? == before, "{:?}", job.pods().await?);
                Ok(())
            })
            .await
        };
        server.stopped(&space.cluster, outage).await?;
        let back = Moment::now();
        let next = job.commits_after(back, SOON).await?;
        figure(&format!("{server:?} back to the next commit"), next.stored.since(back), s(10), SOON)?;
        job.becomes(SOON, CONDITION_DEGRADED, "False").await?;
        job.becomes(SOON, CONDITION_READY, "True").await?;
        ensure!(running(job).await? == before, "{:?}", job.pods().await?);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_without_the_api_server_changes_no_pod_and_stops_no_commit() -> Result<()> {
    under_load("no-api", RATE, async |space, job| {
        let before = running(job).await?;
        let gone = Moment::now();
        let outage = throughout(s(60), "commits go on", async || {
            let last = job.log(|log| log.commits().last().cloned()).await?.context("there is no commit")?;
            let since = Moment::now().since(last.stored);
            ensure!(since < s(20), "the last commit was {since:?} ago");
            Ok(())
        });
        without_api_server(&space.cluster, outage).await?;
        let back = Moment::now();
        let pause = job.log(|log| log.longest_pause(gone, back)).await?;
        figure("a minute without the API server, longest time without a commit", pause, s(5), SOON)?;
        ensure!(running(job).await? == before, "{:?}", job.pods().await?);
        within(SOON, "the operator acts again", async || {
            job.scale(2).await?;
            let pods = job.pods().await?;
            ensure!(pods.len() == 2, "{pods:?}");
            Ok(())
        })
        .await?;
        figure("API server back to the operator's next act", Moment::now().since(back), s(20), SOON)?;
        job.becomes(SOON, CONDITION_READY, "True").await?;
        ensure!(running(job).await?.is_superset(&before), "{:?}", job.pods().await?);
        Ok(())
    })
    .await
}

async fn running(job: &Job<'_>) -> Result<BTreeSet<(String, i32)>> {
    Ok(processes(&job.pods().await?))
}
