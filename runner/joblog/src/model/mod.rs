//! The model of the protocol: every interleaving of a few processes, explored to its end.
//!
//! What runs is the code itself: [`crate::replica::Replica`], the decisions, the fold, the sweep and the death of staged
//! names. The model adds what surrounds them:
//!
//! - `world`: the store, with lost replies and creates that take effect late or never; and the true log, which is what
//!   each slot held first and which no process can read.
//! - `process`, `work`, `chores`: the small workflow of a process, in the place of [`crate::log`] and of its callers.
//! - `steps`: what can happen next. One step is one request to the store, or one decision and the request that it leads
//!   to. A pause is another process's step; a crash is a process that starts in the same pod.
//! - `ledger`, `rules`: books kept of the true log without a fold, and what must hold in every state.
//! - `setup`, `setups`: the bounds of each exploration, and the milestones that it must reach to mean anything.
//! - `mutants`: each safeguard taken away, and the rule that breaks.
//!
//! Not here: a listing may be old where a setup says so, but reads are never stale; a slot is read at a time; an epoch is a
//! row of each partition, without watermarks, state, data loss or dead letters; staging does not fail. Nobody rewinds, forks,
//! takes a job over or skips a record, and no store is damaged. That all which is decided gets published in the end is not
//! asked: the rules speak of safety. What a setup leaves out (publishing, deletion, a second partition) it leaves out
//! altogether.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod chores;
mod ledger;
mod mutants;
mod process;
mod rules;
mod setup;
mod setups;
mod steps;
mod work;
mod world;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

use self::process::{Process, Turn};
use self::rules::{Milestone, properties};
use self::setup::Setup;
use self::steps::Step;
use self::world::{Kept, World};
use crate::safeguard::without;

impl Model for Setup {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let mut world = World::new(self.pods.iter().map(|_| Process::down()).collect(), self.losses);
        let by_the_book = Setup { removed: None, ..self.clone() };
        for step in &self.prefix {
            let next = by_the_book.next_state(&world, *step);
            world = next.unwrap_or_else(|| panic!("{step:?} is impossible in the beginning"));
            assert_eq!(world.broken, None, "{step:?} in the beginning");
        }
        vec![world]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.broken.is_some() {
            return;
        }
        without(self.removed, || {
            (0..self.pods.len()).for_each(|pod| self.steps_of(world, pod, steps));
        });
        steps.extend((0..world.store.late.len()).map(|which| Step::Land { which }));
    }

    fn next_state(&self, before: &World, step: Step) -> Option<World> {
        let mut world = before.clone();
        without(self.removed, || self.take(&mut world, step))?;
        let elsewhere = self.sought.is_some() && world.broken.is_some() && world.broken != self.sought;
        (world != *before && !elsewhere).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties()
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.truth.records.len() as u64 <= self.slots
    }
}

impl Setup {
    fn take(&self, world: &mut World, step: Step) -> Option<()> {
        let pod = match step {
            Step::Land { which } => {
                let (seq, slot) = world.store.late.remove(which);
                if world.create(seq, &slot, &self.limits) {
                    self.reached(Milestone::LateLanded);
                }
                return Some(());
            }
            Step::Start { pod, .. }
            | Step::Go { pod, .. }
            | Step::Read { pod }
            | Step::Verify { pod }
            | Step::Append { pod, .. }
            | Step::Publish { pod }
            | Step::Snapshot { pod }
            | Step::Sweep { pod, .. }
            | Step::Collect { pod, .. } => pod,
        };
        let mut process = Process::clone(&world.processes[pod]);
        let mut turn = Turn { setup: self, index: pod, world, pod: &self.pods[pod], process: &mut process };
        match step {
            Step::Start { listing, .. } => turn.start(listing),
            Step::Go { reply, listing, .. } => turn.go(reply, listing),
            Step::Read { .. } => turn.read(),
            Step::Verify { .. } => turn.verify(),
            Step::Append { wish, reply, .. } => turn.append(wish, reply),
            Step::Publish { .. } => turn.publish(),
            Step::Snapshot { .. } => turn.snapshot(),
            Step::Sweep { slot, .. } => turn.sweep(slot),
            Step::Collect { which, .. } => turn.collect(which),
            Step::Land { .. } => None,
        }?;
        world.processes[pod] = Kept::new(process);
        Some(())
    }
}

/// Steps that an exploration takes at most. A setup that needs more is too large.
const MOST_STEPS: usize = 1_000_000;
const MOST_STEPS_DEEP: usize = 20_000_000;

/// What exploring a setup came to.
struct Explored {
    states: usize,
    /// True if nothing was left to explore, or a rule was broken.
    complete: bool,
    broken: Option<(&'static str, Vec<Step>)>,
}

/// Explores a setup to its end, or to the first broken rule, on a thread of its own.
fn explore(setup: &Setup, name: &str, most_steps: usize) -> Explored {
    let begun = Instant::now();
    let checker = setup.clone().checker().finish_when(HasDiscoveries::AnyFailures).target_state_count(most_steps);
    let checker = checker.spawn_bfs().join();
    // Several rules may break within one block of states; the shortest way to one of them tells most.
    let found = checker.discoveries().into_iter().map(|(rule, path)| (rule, path.into_actions()));
    let broken = found.min_by_key(|(rule, steps)| (steps.len(), *rule));
    let (states, steps) = (checker.unique_state_count(), checker.state_count());
    let outcome =
        broken.as_ref().map_or("no rule broken".to_owned(), |(rule, path)| format!("{rule} ({} steps)", path.len()));
    println!(
        "{name}: {states} states, {steps} steps, depth {}, {:.1?}: {outcome}",
        checker.max_depth(),
        begun.elapsed()
    );
    Explored { states, complete: broken.is_some() || steps < most_steps, broken }
}
