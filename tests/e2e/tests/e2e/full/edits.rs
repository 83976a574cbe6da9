//! Edits, good ones and bad ones.

use anyhow::ensure;
use millrace_crds::spec::{CONDITION_READY, CONDITION_STALLED};
use millrace_e2e::Result;
use millrace_e2e::job::SOON;
use millrace_e2e::joblog::Moment;
use millrace_e2e::manifest::Manifest;
use serde_json::json;

use crate::support::{RATE, figure, only_working, s, under_load, with_another_column};

#[tokio::test(flavor = "multi_thread")]
async fn no_bad_edit_stops_the_revision_that_runs() -> Result<()> {
    under_load("bad-edits", RATE, async |space, job| {
        let good = Manifest::orders(space)?;
        let old = job.pod().await?;
        let began = Moment::now();
        let bad = [
            ("nonsense", good.clone().set("/spec/outputs/0/sql", "SELECT nonsense FROM orders")?),
            ("no-such-topic", good.clone().set("/spec/sources/0/kafka/topics", json!(["no-such-topic"]))?),
            ("no-such-secret", good.clone().set("/spec/storage/s3/credentialsSecret/name", "no-such-secret")?),
        ];
        for (word, manifest) in bad {
            job.apply(&manifest).await?;
            let stalled = job.becomes(SOON, CONDITION_STALLED, "True").await?;
            ensure!(stalled.message.contains(word), "{word} is not in: {}", stalled.message);
            let ready = job.becomes(SOON, CONDITION_READY, "True").await?;
            ensure!(ready.reason == "PreviousRevisionRunning", "{}: {}", ready.reason, ready.message);
        }
        let next = job.commits_after(Moment::now(), SOON).await?;
        ensure!(next.pod == old.number, "{next:?} is not of {old:?}");
        let pause = job.log(|log| log.longest_pause(began, next.stored)).await?;
        figure("three bad edits, longest time without a commit", pause, s(5), SOON)?;

        let edited = Moment::now();
        job.apply(&with_another_column(good, "lower(status) AS quiet")?).await?;
        let next = job.commits(SOON, "a commit of the good edit", |commit| commit.pod > old.number).await?;
        let pause = job.log(|log| log.longest_pause(edited, next.stored)).await?;
        figure("a good edit, longest time without a commit", pause, s(5), SOON)?;
        job.becomes(SOON, CONDITION_STALLED, "False").await?;
        only_working(job, 1).await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_is_taken_back_at_once_disturbs_nothing() -> Result<()> {
    under_load("there-and-back", RATE, async |space, job| {
        let first = Manifest::orders(space)?;
        let second = with_another_column(first.clone(), "lower(status) AS quiet")?;
        let began = Moment::now();
        for _ in 0..3 {
            job.apply(&second).await?;
            job.apply(&first).await?;
        }
        let ready = job.becomes(SOON, CONDITION_READY, "True").await?;
        ensure!(ready.reason != "PreviousRevisionRunning", "{}", ready.message);
        only_working(job, 1).await?;

        // And once more with the second revision's pod on its way.
        let number = job.pod().await?.number;
        job.apply(&second).await?;
        let pods = millrace_e2e::within::within(SOON, "a pod of the second revision", async || {
            let pods = job.pods().await?;
            ensure!(pods.iter().any(|pod| pod.number > number), "{pods:?}");
            Ok(pods)
        });
        pods.await?;
        job.apply(&first).await?;
        let ready = job.becomes(SOON, CONDITION_READY, "True").await?;
        ensure!(ready.reason != "PreviousRevisionRunning", "{}", ready.message);
        only_working(job, 1).await?;
        let next = job.commits_after(Moment::now(), SOON).await?;
        let pause = job.log(|log| log.longest_pause(began, next.stored)).await?;
        figure("A to B to A, longest time without a commit", pause, s(5), SOON)
    })
    .await
}
