//! The model of the protocol: every interleaving of a few processes, on a store that loses replies, delivers late and
//! forgets nothing but what it is told to delete.
//!
//! What runs is the code itself: [`crate::replica::Replica`], the decisions, the fold, the sweep and the death of staged
//! names. The model adds the store, the processes' small workflow, and the true log that no process can read.
//!
//! Each setup bounds processes, epochs, starts and lost replies, and is explored to its end. `mutants` takes the
//! safeguards away one by one and names the rule that breaks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ledger;
mod mutants;
mod process;
mod setup;
mod setups;
mod world;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

use self::process::{At, Life, Process};
use self::setup::{Errand, Setup};
use self::world::{Kept, World};
use crate::replica::Action;
use crate::safeguard::without;

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A new process opens the log; one that ran in its pod is gone.
    Start {
        pod: usize,
        listing: Listing,
    },
    /// The next request that the replica asks for.
    Go {
        pod: usize,
        reply: Reply,
        listing: Listing,
    },
    /// An idle process reads the next slot.
    Read {
        pod: usize,
    },
    /// An idle process checks what it read.
    Verify {
        pod: usize,
    },
    /// A record is composed and sent, or what was wanted is found to be impossible.
    Append {
        pod: usize,
        wish: Wish,
        reply: Reply,
    },
    Publish {
        pod: usize,
    },
    Snapshot {
        pod: usize,
    },
    /// The next seal, or the deletion of a slot.
    Sweep {
        pod: usize,
        slot: Option<u64>,
    },
    /// The deletion of a dead staged object.
    Collect {
        pod: usize,
        which: usize,
    },
    /// A create without a reply takes effect.
    Land {
        which: usize,
    },
}

/// What a listing of the snapshots shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    Newest,
    /// This one as the newest.
    Stale(Option<u64>),
}

/// What becomes of a create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    Heard,
    /// Nobody knows: it takes effect later, perhaps at once, or never.
    Lost,
    /// It is refused, because another create of the slot is under way.
    Conflict,
}

/// What a process wants to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Home, term of that number, and claim.
    Begin(usize),
    Claim {
        grace_over: bool,
    },
    Term(usize),
    Commit,
    /// Nothing but the tasks that are no longer its own.
    Give,
    Note,
    /// The last thing published, before what was published earlier.
    NoteLast,
    Truncate,
    Plan,
    Complete,
    Hold,
    /// What a command came for.
    Errand,
}

/// What must hold in every state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    Chain,
    CurrentOwner,
    SupersededForGood,
    BelievedIsTrue,
    BelievedOnce,
    GivenUpIsGone,
    LiveIsKept,
    SlotsNeverChange,
    CheckedIsTrue,
    SnapshotsAreTrue,
    PublishedIsDecided,
    NotedIsPublished,
    NotedByItsPublisher,
    NotedInOrder,
    AppliedInOrder,
    HeldLogRests,
    HomesStayReplaced,
    BoundedRead,
    AttemptOnce,
    Sound,
}

/// What must be possible, or the model says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Milestone {
    Stopped,
    EpochDropped,
    ClaimedMore,
    Void,
    VoidWasReal,
    OwnRecognised,
    LateLanded,
    LitterWritten,
    LitterRead,
    Sealed,
    Deleted,
    OpenedFromSnapshot,
    StagedCollected,
    Swept,
    WaitedForHold,
    Drained,
    Edited,
    Adopted,
    HomeRefused,
    PlanKept,
    Rescaled,
    Completed,
}

macro_rules! rules {
    ($($rule:ident: $says:literal,)*) => {
        /// The rules by the name under which the checker reports them.
        fn properties() -> Vec<Property<Setup>> {
            vec![$(Property::always($says, |_, world: &World| world.broken != Some(Rule::$rule))),*]
        }

        impl Rule {
            fn says(self) -> &'static str {
                match self { $(Rule::$rule => $says),* }
            }
        }
    };
}

rules! {
    Chain: "every offset is consumed exactly once, in a chain",
    CurrentOwner: "only the latest claimer of a task advances it, in the current term and revision",
    SupersededForGood: "a superseded process never owns again, and ranks never fall",
    BelievedIsTrue: "a record believed won is in the true log",
    BelievedOnce: "no two processes believe a commit of the same offsets",
    GivenUpIsGone: "a record that its author gave up is never in the true log",
    LiveIsKept: "nothing that a live record points to is deleted",
    SlotsNeverChange: "no slot that anybody may believe changes",
    CheckedIsTrue: "what a process has checked is the true log",
    SnapshotsAreTrue: "every snapshot is the true log through its slot",
    PublishedIsDecided: "nothing is published that is not decided",
    NotedIsPublished: "what is noted is published",
    NotedByItsPublisher: "records are noted once, by those who may publish them",
    NotedInOrder: "an ordered output is noted in the order of its records",
    AppliedInOrder: "an ordered sink applies every record, in order",
    HeldLogRests: "a held log is neither claimed nor committed to, and edited only when drained",
    HomesStayReplaced: "a home that was replaced never returns",
    BoundedRead: "a bounded read has one set of ends, and is complete only there and published",
    AttemptOnce: "no attempt is decided twice",
    Sound: "no correct process writes or meets a record that the fold refuses",
}

impl Model for Setup {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let mut world = World::new(self.pods.iter().map(|_| Process::down()).collect(), self.losses);
        for step in &self.prefix {
            let next = self.next_state(&world, *step);
            world = next.unwrap_or_else(|| panic!("{step:?} is impossible at the beginning of the model: {world:#?}"));
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
        (world != *before).then_some(world)
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
        let mut at = At { setup: self, index: pod, world, pod: &self.pods[pod], process: &mut process };
        match step {
            Step::Start { listing, .. } => at.start(listing),
            Step::Go { reply, listing, .. } => at.go(reply, listing),
            Step::Read { .. } => at.read(),
            Step::Verify { .. } => at.verify(),
            Step::Append { wish, reply, .. } => at.append(wish, reply),
            Step::Publish { .. } => at.publish(),
            Step::Snapshot { .. } => at.snapshot(),
            Step::Sweep { slot, .. } => at.sweep(slot),
            Step::Collect { which, .. } => at.collect(which),
            Step::Land { .. } => None,
        }?;
        world.processes[pod] = Kept::new(process);
        Some(())
    }

    fn steps_of(&self, world: &World, pod: usize, steps: &mut Vec<Step>) {
        let process = &world.processes[pod];
        let listings = self.listings(world);
        if process.starts < self.pods[pod].starts {
            steps.extend(listings.iter().map(|listing| Step::Start { pod, listing: *listing }));
        }
        let Life::Up(up) = &process.life else { return };
        let listing = Listing::Newest;
        let lost = (world.losses > 0).then_some(Reply::Lost);
        match up.replica.action() {
            Action::Put { seq, .. } => {
                let conflict = world.store.late.iter().any(|(late, _)| *late == seq.0).then_some(Reply::Conflict);
                let replies = [Some(Reply::Heard), lost, conflict].into_iter().flatten();
                steps.extend(replies.map(|reply| Step::Go { pod, reply, listing }));
            }
            Action::Reopen => {
                steps.extend(listings.iter().map(|listing| Step::Go { pod, reply: Reply::Heard, listing: *listing }));
            }
            Action::Get { .. } | Action::CheckSeal { .. } => steps.push(Step::Go { pod, reply: Reply::Heard, listing }),
            Action::Idle if up.opening => steps.push(Step::Go { pod, reply: Reply::Heard, listing }),
            Action::Idle => {
                if world.store.slots.contains_key(&up.next()) {
                    steps.push(Step::Read { pod });
                }
                for wish in self.wishes(up, pod) {
                    let replies = [Some(Reply::Heard), lost].into_iter().flatten();
                    steps.extend(replies.map(|reply| Step::Append { pod, wish, reply }));
                }
                self.chores(world, up, pod, steps);
            }
        }
    }

    fn listings(&self, world: &World) -> Vec<Listing> {
        let mut listings = vec![Listing::Newest];
        if self.stale_listings && !world.store.snapshots.is_empty() {
            let newest = world.store.snapshots.keys().max();
            let older = world.store.snapshots.keys().filter(|through| Some(*through) != newest).copied();
            listings.extend(older.map(Some).chain([None]).map(Listing::Stale));
        }
        listings
    }

    fn wishes(&self, up: &process::Up, pod: usize) -> Vec<Wish> {
        let mut wishes = Vec::new();
        let view = up.replica.view();
        if self.pods[pod].errand != Errand::Run {
            let held = view.fold.held().is_some_and(|hold| hold.incarnation == view.incarnation);
            let saves = matches!(self.pods[pod].errand, Errand::Save(_));
            wishes.push(if held || saves { Wish::Errand } else { Wish::Hold });
            if held && self.publishes {
                wishes.push(Wish::Note);
            }
            return wishes;
        }
        let terms = (0..self.terms.len()).filter(|number| self.terms[*number].1 == self.pods[pod].revision);
        if view.seat.is_none() {
            wishes.extend(terms.map(Wish::Begin));
            if self.terms.len() > 1 {
                wishes.push(Wish::Claim { grace_over: true });
            }
            return wishes;
        }
        if self.terms.len() > 1 {
            wishes.extend(terms.map(Wish::Term));
            wishes.push(Wish::Give);
            wishes.push(Wish::Claim { grace_over: true });
        }
        wishes.push(Wish::Claim { grace_over: false });
        if up.epoch.is_some() {
            wishes.push(Wish::Commit);
        }
        if self.publishes {
            wishes.push(Wish::Note);
        }
        if self.ordered {
            wishes.push(Wish::NoteLast);
        }
        if self.sweeps {
            wishes.push(Wish::Truncate);
        }
        if self.bounded {
            wishes.extend([Wish::Plan, Wish::Complete]);
        }
        wishes
    }

    fn chores(&self, world: &World, up: &process::Up, pod: usize, steps: &mut Vec<Step>) {
        if self.sweeps {
            if !up.replica.is_checked() {
                steps.push(Step::Verify { pod });
            }
            if up.snapshot_due(self) {
                steps.push(Step::Snapshot { pod });
            }
            if up.sweep.is_some() || up.sweep_due() {
                let slots = up.next_to_delete(self).into_iter().map(Some);
                steps.extend(slots.chain([None]).map(|slot| Step::Sweep { pod, slot }));
            }
        }
        if self.publishes && (up.replica.is_checked() || self.publishes_unchecked) {
            steps.push(Step::Publish { pod });
        }
        if self.collects {
            steps.extend((0..world.store.staged.len()).map(|which| Step::Collect { pod, which }));
        }
    }
}

/// Steps that an exploration takes at most. A setup that needs more is too large.
const MOST_STEPS: usize = 1_000_000;

/// What exploring a setup came to.
struct Explored {
    states: usize,
    /// True if nothing was left to explore, or a rule was broken.
    complete: bool,
    broken: Option<(&'static str, Vec<Step>)>,
}

/// Explores a setup to its end, or to the first broken rule.
fn explore(setup: &Setup, name: &str) -> Explored {
    let begun = Instant::now();
    let most = std::env::var("MODEL_MOST").ok().and_then(|n| n.parse().ok()).unwrap_or(MOST_STEPS);
    let checker = setup.clone().checker().finish_when(HasDiscoveries::AnyFailures).target_state_count(most);
    let checker = checker.spawn_bfs().join();
    let broken = checker.discoveries().into_iter().next().map(|(name, path)| {
        let steps = path.into_actions();
        (name, steps)
    });
    let states = checker.unique_state_count();
    let outcome = broken.as_ref().map_or("no rule broken", |(rule, _)| *rule);
    report(&format!(
        "{name}: {states} states, depth {}, {:?}: {outcome}, {} steps",
        checker.max_depth(),
        begun.elapsed(),
        checker.state_count()
    ));
    let complete = broken.is_some() || checker.state_count() < most;
    Explored { states, broken, complete }
}

#[allow(clippy::print_stderr)]
fn report(line: &str) {
    eprintln!("{line}");
}
