//! Nodes that go away.

use anyhow::ensure;
use millrace_crds::spec::CONDITION_READY;
use millrace_e2e::Result;
use millrace_e2e::command::run;
use millrace_e2e::job::SOON;
use millrace_e2e::joblog::Moment;
use millrace_e2e::node::{NOTICED, Node, always};
use millrace_e2e::within::{throughout, within};

use crate::support::{RATE, figure, only_working, s, under_load};

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_is_replaced_and_superseded_and_goes_when_its_node_returns() -> Result<()> {
    under_load("zombie", RATE, async |space, job| {
        let old = job.pod().await?;
        let node = Node::of(&old)?;
        let cut = Moment::now();
        let next = node
            .cut_from_api_server(async {
                node.becomes_ready(&space.cluster, false).await?;
                let lost = Moment::now();
                // Until it is replaced it works, which is what makes it dangerous.
                let working = job.log(|log| log.longest_pause(cut, lost)).await?;
                ensure!(working < s(20), "the runner did not go on: {working:?} without a commit");
                let next = job.commits(SOON, "a commit of the replacement", |commit| commit.pod > old.number).await?;
                figure(
                    "node cut from the API server, NotReady to the next runner's commit",
                    next.stored.since(lost),
                    s(30),
                    SOON,
                )?;
                let superseded = async || {
                    let status = job.ask(&old, "/status").await?;
                    ensure!(status["superseded"] == true, "{status}");
                    Ok(())
                };
                within(SOON, "the zombie is superseded", superseded).await?;
                throughout(s(20), "the zombie stays superseded", superseded).await?;
                Ok(next)
            })
            .await?;
        node.becomes_ready(&space.cluster, true).await?;
        let pods = only_working(job, 1).await?;
        ensure!(pods[0].number == next.pod, "{pods:?} after {next:?}");
        let commits = job.commits_so_far().await?;
        ensure!(commits.iter().all(|commit| commit.seq < next.seq || commit.pod >= next.pod), "the zombie committed");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runner_of_a_lost_node_is_replaced() -> Result<()> {
    under_load("lost-node", RATE, async |space, job| {
        let old = job.pod().await?;
        let node = Node::of(&old)?;
        node.paused(async {
            node.becomes_ready(&space.cluster, false).await?;
            let lost = Moment::now();
            let next = job.commits(SOON, "a commit of the replacement", |commit| commit.pod > old.number).await?;
            figure("node lost, NotReady to the next runner's commit", next.stored.since(lost), s(30), SOON)
        })
        .await?;
        node.becomes_ready(&space.cluster, true).await?;
        only_working(job, 1).await?;
        job.becomes(SOON, CONDITION_READY, "True").await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_hands_its_runner_over() -> Result<()> {
    under_load("drain", RATE, async |_, job| {
        let mut pauses = Vec::new();
        for _ in 0..5 {
            let old = only_working(job, 1).await?.remove(0);
            let node = old.node()?;
            let drain = async {
                let began = Moment::now();
                // No --force, and no consent to losing local data: the runner's pods need neither.
                run(NOTICED, "kubectl", &["drain", node, "--ignore-daemonsets", "--timeout=120s"]).await?;
                let next = job.commits(SOON, "a commit elsewhere", |commit| commit.pod > old.number).await?;
                job.log(|log| log.longest_pause(began, next.stored)).await
            };
            let uncordon = async {
                run(s(20), "kubectl", &["uncordon", node]).await?;
                Ok(())
            };
            pauses.push(always(drain, uncordon).await?);
            let new = only_working(job, 1).await?.remove(0);
            ensure!(new.node != old.node, "{new:?} is where {old:?} was");
        }
        println!("figure: five drains, each its longest time without a commit: {pauses:.1?}");
        pauses.sort();
        figure("kubectl drain, longest time without a commit (median of 5)", pauses[2], s(5), SOON)
    })
    .await
}
