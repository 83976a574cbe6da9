//! Runners that are ended from outside.

use anyhow::{Context, ensure};
use millrace_crds::contract::FailureClass;
use millrace_e2e::Result;
use millrace_e2e::job::SOON;
use millrace_e2e::node::Node;
use millrace_e2e::within::within;

use crate::support::{RATE, figure, killed, only_working, s, under_load};

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_killed_ten_times_in_a_row_commits_soon_each_time() -> Result<()> {
    under_load("ten-kills", RATE, async |_, job| {
        let mut pauses = Vec::new();
        for _ in 0..10 {
            only_working(job, 1).await?;
            pauses.push(killed(job, async |pod, container| Node::of(pod)?.kill(container).await).await?);
        }
        println!("figure: ten kills -9 in a row, each to the next commit: {pauses:.1?}");
        figure("ten kills in a row, the longest", pauses.into_iter().max().unwrap_or_default(), s(15), 2 * SOON)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_out_of_memory_is_replaced_and_the_status_says_why() -> Result<()> {
    under_load("memory", RATE, async |_, job| {
        let pause = killed(job, async |pod, container| Node::of(pod)?.exhaust_memory(container).await).await?;
        figure("runner out of memory to the next commit", pause, s(15), SOON)?;
        within(SOON, "the status says what happened", async || {
            let failure = job.status().await?.last_failure.context("there is no last failure")?;
            ensure!(failure.class == Some(FailureClass::Infrastructure), "{failure:?}");
            ensure!(failure.reason == "OOMKilled", "{failure:?}");
            Ok(())
        })
        .await
    })
    .await
}
