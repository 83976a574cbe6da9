//! Whole runners in a world that fails on purpose, a seed at a time: the real pipeline, committer and job log over Kafka,
//! tables and a store in memory, in virtual time. One seed is one history, the same on every machine.
//!
//! `MILLRACE_SEEDS=N` runs N seeds (`MILLRACE_FIRST_SEED` on), `MILLRACE_SEED=k` one of them, with everything it does.
//!
//! | file | what |
//! |---|---|
//! | `world.rs` | a seed's world and its life: chaos, healing, rest |
//! | `actions.rs` | what can happen |
//! | `processes.rs`, `deploy.rs` | the supervisor: starts and ends; divisions, revisions and homes |
//! | `person.rs` | people with `millrace log`: rewinds, edits, savepoints, holds |
//! | `producer.rs` | what goes into Kafka, and may come out |
//! | `runner.rs` | one start of one runner: the real pipeline |
//! | `gate.rs`, `faults.rs` | what stands between a process and the world: delay, pause, death; faults |
//! | `watch.rs`, `passes.rs` | the observer of the true log; what rewinds and edits make of the tables |
//! | `check.rs` | what must hold: all the time, and at rest |
//! | `coverage.rs` | what has to have happened in 2,000 seeds |
//! | `chance.rs` | random numbers and digests that are the same everywhere |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::print_stdout)]

mod actions;
mod chance;
mod check;
mod coverage;
mod deploy;
mod faults;
mod gate;
mod passes;
mod person;
mod processes;
mod producer;
mod runner;
mod watch;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use world::Report;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn simulate(seed: u64, loud: bool) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(world::run(seed, loud))
}

#[test]
fn every_record_is_published_once_whatever_happens_to_the_runners() {
    if let Some(seed) = number("MILLRACE_SEED") {
        if let Ok(level) = std::env::var("MILLRACE_LOG") {
            millrace::telemetry::logging::init(millrace::telemetry::logging::Format::Text, &level);
        }
        let report = simulate(seed, true);
        println!("{report:#?}");
        assert!(report.violations.is_empty(), "seed {seed}: {:#?}", report.violations);
        return;
    }
    let first = number("MILLRACE_FIRST_SEED").unwrap_or(0);
    let seeds = number("MILLRACE_SEEDS").unwrap_or(2_000);
    let began = Instant::now();
    let next = AtomicU64::new(first);
    let counts: Mutex<BTreeMap<String, u64>> = Mutex::default();
    let failed: Mutex<BTreeMap<u64, Vec<String>>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= first + seeds || failed.lock().unwrap().len() >= 20 {
                        return;
                    }
                    let report = simulate(seed, false);
                    let mut counts = counts.lock().unwrap();
                    for (what, times) in report.counts {
                        *counts.entry(what).or_default() += times;
                    }
                    if !report.violations.is_empty() {
                        failed.lock().unwrap().insert(seed, report.violations);
                    }
                }
            });
        }
    });
    let took = began.elapsed().as_secs_f64();
    let counts = counts.into_inner().unwrap();
    println!("{seeds} seeds in {took:.1} s, {:.0} a second", seeds as f64 / took);
    for (what, times) in &counts {
        println!("{times:>10} {what}");
    }
    let failed = failed.into_inner().unwrap();
    for (seed, violations) in &failed {
        println!("seed {seed}: {}", violations.join("\n    "));
        println!("    MILLRACE_SEED={seed} cargo test --workspace --test simulation every_record -- --nocapture");
    }
    assert!(failed.is_empty(), "seeds that failed: {:?}", failed.keys().collect::<Vec<_>>());
    if seeds >= coverage::SEEDS {
        let gaps = coverage::gaps(&counts);
        assert!(gaps.is_empty(), "of {seeds} seeds: {gaps:#?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for seed in [3, 14, 159] {
        let (one, other) = (simulate(seed, false), simulate(seed, false));
        assert_eq!(one.digest, other.digest, "seed {seed}");
        assert_eq!(one, other, "seed {seed}");
    }
}
