//! The operator killed, upgraded, and doubled: no runner is restarted for it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use millrace_crds::contract::ANNOTATION_RESTART_NONCE;
use millrace_crds::spec::CONDITION_READY;
use millrace_e2e::Result;
use millrace_e2e::cluster::{Cluster, SYSTEM, checkout};
use millrace_e2e::command::{kubectl, run};
use millrace_e2e::job::{Job, SOON, spec};
use millrace_e2e::manifest::Manifest;
use millrace_e2e::node::always;
use millrace_e2e::pods::{doubled, processes};
use millrace_e2e::space::TestNamespace;
use millrace_e2e::within::{throughout, within};
use serde_json::json;
use tokio::time::sleep;

use crate::support::{RATE, only_working, s, under_load, with_another_column};

const OPERATOR: &str = "deployment/millrace-operator";

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_killed_twenty_times_converges_and_restarts_no_runner() -> Result<()> {
    under_load("killed-operator", RATE, async |space, job| {
        let bystander = space.apply(&Manifest::orders(space)?.named("bystander")?).await?;
        bystander.is_under_way().await?;
        let before = processes(&bystander.pods().await?);
        let mut dice = Dice::thrown();
        for round in 0..20 {
            edit_at_random(space, job, &mut dice, round).await?;
            sleep(Duration::from_millis(dice.below(3_000))).await;
            // At once and without a farewell; the Deployment's next pod needs no back-off.
            let now = [
                "delete",
                "pod",
                "--selector",
                "app.kubernetes.io/component=operator",
                "--grace-period=0",
                "--force",
                "--wait=false",
            ];
            kubectl(SYSTEM, &now).await?;
            check_pods(job).await?;
        }
        let last = with_another_column(Manifest::orders(space)?, "'last' AS edited")?.set("/spec/parallelism", 2)?;
        converges(job, &last, 2).await?;
        ensure!(processes(&bystander.pods().await?) == before, "{:?}", bystander.pods().await?);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_without_the_lease_make_no_pod_twice() -> Result<()> {
    under_load("two-operators", RATE, async |space, job| {
        let two = async {
            kubectl(SYSTEM, &["set", "env", OPERATOR, "MILLRACE_NO_LEADER_ELECTION=true"]).await?;
            kubectl(SYSTEM, &["scale", OPERATOR, "--replicas=2"]).await?;
            rolled_out().await?;
            let mut dice = Dice::thrown();
            for round in 0..15 {
                edit_at_random(space, job, &mut dice, round).await?;
                throughout(Duration::from_millis(500 + dice.below(4_000)), "no pod is there twice", async || {
                    check_pods(job).await
                })
                .await?;
            }
            let last =
                with_another_column(Manifest::orders(space)?, "'last' AS edited")?.set("/spec/parallelism", 3)?;
            converges(job, &last, 3).await
        };
        let one = async {
            kubectl(SYSTEM, &["set", "env", OPERATOR, "MILLRACE_NO_LEADER_ELECTION-"]).await?;
            kubectl(SYSTEM, &["scale", OPERATOR, "--replicas=1"]).await?;
            rolled_out().await
        };
        always(two, one).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_of_the_operator_changes_no_runner_of_ten_jobs() -> Result<()> {
    TestNamespace::run("upgrade", async |space| {
        let manifest = Manifest::orders(space)?.set("/spec/trigger/interval", "5s")?;
        space.produce(1_000).await?;
        let mut jobs = Vec::new();
        for number in 0..10 {
            jobs.push(space.apply(&manifest.clone().named(&format!("orders-{number}"))?).await?);
        }
        for job in &jobs {
            job.is_under_way().await?;
        }
        let before = all_processes(&jobs).await?;
        let operators = operator_pods(&space.cluster).await?;

        let chart = checkout().join("charts/millrace").display().to_string();
        let annotation = format!("podAnnotations.upgraded-by={}", space.name());
        let upgrade =
            ["upgrade", "millrace", &chart, "--namespace", SYSTEM, "--reuse-values", "--set", &annotation, "--wait"];
        run(s(180), "helm", &upgrade).await?;
        within(SOON, "the operator's pods are new ones", async || {
            let now = operator_pods(&space.cluster).await?;
            ensure!(!now.is_empty() && now.is_disjoint(&operators), "{now:?} after {operators:?}");
            Ok(())
        })
        .await?;
        throughout(s(30), "no runner is replaced", async || {
            let now = all_processes(&jobs).await?;
            ensure!(now == before, "{before:?} became {now:?}");
            Ok(())
        })
        .await?;
        println!("figure: helm upgrade of the operator with 10 jobs: runner pods unchanged");

        // The new one works.
        let first = jobs.first().context("there are no jobs")?;
        first.scale(2).await?;
        only_working(first, 2).await?;
        for job in &jobs {
            space.check_exactly_once(job, 1_000).await?;
        }
        Ok(())
    })
    .await
}

/// One of the changes that people make.
async fn edit_at_random(space: &TestNamespace, job: &Job<'_>, dice: &mut Dice, round: u64) -> Result<()> {
    match dice.below(4) {
        0 => job.apply(&with_another_column(Manifest::orders(space)?, &format!("{round} AS edited"))?).await,
        1 => job.patch(spec(json!({"parallelism": 1 + dice.below(3)}))).await,
        2 => {
            let nonce = json!({ANNOTATION_RESTART_NONCE: round.to_string()});
            job.patch(json!({"metadata": {"annotations": nonce}})).await
        }
        _ => {
            let Some(pod) = job.pods().await?.into_iter().find(|pod| !pod.terminating) else { return Ok(()) };
            // It may be gone by now, which is as good.
            let _ = job.delete_pod(&pod).await;
            Ok(())
        }
    }
}

/// No ordinal of a revision is held twice, and no container was started again.
async fn check_pods(job: &Job<'_>) -> Result<()> {
    let pods = job.pods().await?;
    ensure!(doubled(&pods).is_empty(), "ordinals {:?} are held twice: {pods:?}", doubled(&pods));
    ensure!(pods.iter().all(|pod| pod.restarts == 0), "{pods:?}");
    Ok(())
}

async fn converges(job: &Job<'_>, manifest: &Manifest, parallelism: u64) -> Result<()> {
    job.apply(manifest).await?;
    job.becomes(2 * SOON, CONDITION_READY, "True").await?;
    only_working(job, parallelism).await?;
    check_pods(job).await
}

async fn rolled_out() -> Result<()> {
    run(s(150), "kubectl", &["--namespace", SYSTEM, "rollout", "status", OPERATOR, "--timeout=140s"]).await?;
    Ok(())
}

async fn all_processes(jobs: &[Job<'_>]) -> Result<BTreeSet<(String, i32)>> {
    let mut all = BTreeSet::new();
    for job in jobs {
        all.extend(processes(&job.pods().await?));
    }
    Ok(all)
}

async fn operator_pods(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), SYSTEM);
    let list = ListParams::default().labels("app.kubernetes.io/component=operator");
    Ok(pods.list(&list).await?.items.into_iter().filter_map(|pod| pod.metadata.uid).collect())
}

/// Chance from a seed that a failing run can be told by.
struct Dice(u64);

impl Dice {
    fn thrown() -> Dice {
        let seed = std::env::var("MILLRACE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
        println!("MILLRACE_SEED={seed}");
        Dice(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        // Knuth's linear congruential generator; its high bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
