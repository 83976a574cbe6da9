//! More and fewer runners.

use anyhow::ensure;
use millrace_e2e::Result;
use millrace_e2e::job::SOON;
use millrace_e2e::joblog::Moment;
use millrace_e2e::pods::processes;
use millrace_e2e::space::PARTITIONS;

use crate::support::{figure, only_working, s, under_load};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_scales_to_four_and_to_two_under_load_without_a_restart() -> Result<()> {
    under_load("one-four-two", 2_000, async |_, job| {
        let first = job.pod().await?;
        let began = Moment::now();
        job.scale(4).await?;
        for ordinal in 1..4 {
            job.commits(SOON, "a commit of each new runner", |commit| commit.ordinal == ordinal).await?;
        }
        let four = only_working(job, 4).await?;
        ensure!(processes([&four[0]]) == processes([&first]), "{first:?} became {four:?}");
        job.scale(2).await?;
        let two = only_working(job, 2).await?;
        ensure!(processes(&two) == processes(&four[..2]), "{four:?} became {two:?}");
        let ended = job.commits_after(Moment::now(), SOON).await?.stored;
        let pauses = job.log(|log| log.longest_pause_by_partition(began, ended)).await?;
        ensure!(pauses.len() as u32 == PARTITIONS, "{pauses:?}");
        println!("figure: scale 1 to 4 to 2 under 2,000 orders/s, each partition's longest pause: {pauses:.1?}");
        figure(
            "scale 1 to 4 to 2, the longest pause of a partition",
            pauses.into_values().max().unwrap_or_default(),
            s(3),
            SOON,
        )
    })
    .await
}
