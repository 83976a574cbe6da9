//! What the operator costs with many jobs, on a real API server with its etcd: `figures-operator [<jobs>]`. Scheduler and
//! kubelet are played by this program, on the same machine.
//!
//! Each figure is one line with its target beside it; a missed target fails the command. `MILLRACE_OPERATOR_BIN` names the
//! binary that is measured.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic)]

#[path = "../tests/cluster/harness/mod.rs"]
#[allow(dead_code)]
mod harness;

use std::fmt::Display;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{ListParams, PostParams};
use millrace_crds::contract::{CommitPoint, Lag, Phase, RunnerStatus};
use millrace_crds::spec::StreamingJob;

use harness::block_on;
use harness::job::Manifest;
use harness::operator::samples;
use harness::runners::Runner;
use harness::world::World;

const LONG: Duration = Duration::from_secs(900);
/// For how long edits are made, and for how long nothing is done.
const PHASE: Duration = Duration::from_secs(60);
/// Edits a second of jobs that run.
const EDITS: u32 = 10;
const DELAY: &str = "millrace_operator_event_to_reconcile_seconds";
const CALLS: &str = "millrace_operator_api_calls_total";

fn main() -> anyhow::Result<ExitCode> {
    let count = std::env::args().nth(1).map(|jobs| jobs.parse()).transpose().context("jobs is not a number")?;
    let count: usize = count.unwrap_or(1_000);
    let mut figures = Figures::default();
    let world = World::new();
    let runner = Runner::start(RunnerStatus {
        phase: Phase::Running,
        last_commit: Some(CommitPoint { seq: 42, time: "2026-11-21T12:00:00Z".into() }),
        lag: [("orders".to_owned(), Lag { records: 0 })].into(),
        ..RunnerStatus::default()
    });
    let names: Vec<String> = (0..count).map(|n| format!("job-{n:04}")).collect();
    for name in &names {
        world.kubelet.places(&format!("{name}-0-1"), runner.address);
    }

    let mut operator = world.operator();
    operator.wait_until_ready();
    let before = operator.metrics();
    let begun = Instant::now();
    create(&world, &names);
    let created = begun.elapsed();
    wait(&world, "a ConfigMap and a pod of every job", || {
        listed::<Pod>(&world) == count && listed::<ConfigMap>(&world) == count
    });
    let seconds = begun.elapsed().as_secs_f64();
    println!("{count} jobs, created in {:.1} s:", created.as_secs_f64());
    figures.at_least("  jobs a second to their ConfigMap and pod", count as f64 / seconds, 50.0);
    wait(&world, "every job to be ready", || ready(&world) == count);
    figures.report(
        "  seconds until every job is Ready",
        format!("{:.1}", begun.elapsed().as_secs_f64()),
        "all pods played",
    );
    let after = operator.metrics();
    figures.report(
        "  p99 from event to reconcile meanwhile, s",
        quantile(&before, &after, 0.99),
        "upper bound of its bucket",
    );

    println!("{EDITS} edits a second, each a new revision, for {} s:", PHASE.as_secs());
    let before = operator.metrics();
    let begun = Instant::now();
    for n in 0.. {
        if begun.elapsed() >= PHASE {
            break;
        }
        world.apply(&Manifest::new(&names[n as usize % count]).query(&format!("SELECT id + {n} AS id FROM orders")));
        std::thread::sleep(
            (begun + PHASE * n / (EDITS * PHASE.as_secs() as u32)).saturating_duration_since(Instant::now()),
        );
    }
    let after = operator.metrics();
    figures.at_most("  p99 from event to reconcile, s", quantile(&before, &after, 0.99), 1.0);
    figures.report("  calls to the API server a second", rate(&before, &after), "all verbs");
    wait(&world, "every job to be settled", || ready(&world) == count && listed::<Pod>(&world) == count);

    // Candidates' pods have no address to be asked at; the first ones' have.
    println!("nothing happens for {} s:", PHASE.as_secs());
    std::thread::sleep(Duration::from_secs(35));
    let before = operator.metrics();
    std::thread::sleep(PHASE);
    let after = operator.metrics();
    figures.report("  calls to the API server a second", rate(&before, &after), "watches renewed, statuses written");
    let peak = peak_mib(operator.pid())?;
    figures.at_most("  peak resident memory, MiB", peak, 128.0);

    operator.kill();
    let begun = Instant::now();
    operator = world.operator();
    operator.wait_until_ready();
    wait(&world, "every job to be looked at", || {
        operator.metric("millrace_operator_reconciles_total", &[]) >= count as f64
    });
    println!("killed and started again:");
    figures.report("  seconds until every job was looked at", format!("{:.1}", begun.elapsed().as_secs_f64()), "");
    let calls = operator.metric(CALLS, &[]);
    figures.report("  calls to the API server", calls, "the lists are among them");
    figures.at_most("  peak resident memory, MiB", peak_mib(operator.pid())?, 128.0);
    Ok(if figures.missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Creates jobs, eight at a time.
fn create(world: &World, names: &[String]) {
    let jobs = world.api::<StreamingJob>();
    let one = |name: &String| {
        let job: StreamingJob = serde_json::from_value(Manifest::new(name).0).unwrap();
        let jobs = jobs.clone();
        async move { jobs.create(&PostParams::default(), &job).await.unwrap() }
    };
    block_on(stream::iter(names.iter().map(one)).buffer_unordered(8).for_each(|_| async {}));
}

fn wait(world: &World, what: &str, mut holds: impl FnMut() -> bool) {
    world.within_time(what, LONG, || {
        let holds = holds();
        // Listing a thousand objects is work, too.
        std::thread::sleep(Duration::from_millis(400));
        holds.then_some(())
    });
}

/// How many objects of a type the jobs have.
fn listed<K>(world: &World) -> usize
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let of_jobs = ListParams::default().labels("millrace.dev/job");
    block_on(world.api::<K>().list_metadata(&of_jobs)).unwrap().items.len()
}

/// How many jobs run as their spec is now.
fn ready(world: &World) -> usize {
    let runs = |job: &StreamingJob| {
        let conditions = job.status.iter().flat_map(|status| &status.conditions);
        let mut found = conditions.filter(|found| found.type_ == "Ready" && found.reason == "Running");
        found.any(|found| found.status == "True" && found.observed_generation == job.metadata.generation)
    };
    world.list::<StreamingJob>().iter().filter(|job| runs(job)).count()
}

/// The upper bound of the bucket that holds a quantile of what was observed between two looks at the metrics.
fn quantile(before: &str, after: &str, quantile: f64) -> f64 {
    let name = format!("{DELAY}_bucket");
    let bounds: Vec<String> = after
        .lines()
        .filter_map(|line| line.strip_prefix(&name)?.split("le=\"").nth(1)?.split('"').next().map(str::to_owned))
        .collect();
    let count = |bound: &str| {
        let label = format!("le=\"{bound}\"");
        samples(after, &name, &[&label]).sum::<f64>() - samples(before, &name, &[&label]).sum::<f64>()
    };
    let all = count("+Inf");
    let found = bounds.iter().find(|bound| count(bound) >= all * quantile).map(String::as_str);
    found.and_then(|bound| bound.parse().ok()).unwrap_or(f64::INFINITY)
}

/// Calls to the API server a second between two looks a phase apart.
fn rate(before: &str, after: &str) -> String {
    let calls = samples(after, CALLS, &[]).sum::<f64>() - samples(before, CALLS, &[]).sum::<f64>();
    format!("{:.2}", calls / PHASE.as_secs_f64())
}

fn peak_mib(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the kernel tells no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

/// Prints figures and remembers whether one was missed.
#[derive(Default)]
struct Figures {
    missed: u32,
}

impl Figures {
    fn tell(&mut self, what: &str, value: f64, target: &str, met: bool) {
        let verdict = if met { "ok" } else { "MISSED" };
        println!("{what:<58} {value:>14.2}   target {target:<12} {verdict}");
        self.missed += u32::from(!met);
    }

    fn at_most(&mut self, what: &str, value: f64, target: f64) {
        self.tell(what, value, &format!("<= {target}"), value <= target);
    }

    fn at_least(&mut self, what: &str, value: f64, target: f64) {
        self.tell(what, value, &format!(">= {target}"), value >= target);
    }

    /// A figure that is reported and has no bound.
    fn report(&mut self, what: &str, value: impl Display, beside: &str) {
        println!("{what:<58} {value:>14}   ({beside})");
    }
}
