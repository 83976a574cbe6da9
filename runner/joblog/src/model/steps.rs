//! The steps of the model, and which of them are possible in a state.

use super::process::{Life, Up};
use super::setup::{Careless, Errand, Setup};
use super::world::World;
use crate::replica::Action;

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

impl Setup {
    pub fn steps_of(&self, world: &World, pod: usize, steps: &mut Vec<Step>) {
        let process = &world.processes[pod];
        let listings = self.listings(world);
        if process.starts < self.pods[pod].starts {
            steps.extend(listings.iter().map(|listing| Step::Start { pod, listing: *listing }));
        }
        let Life::Up(up) = &process.life else { return };
        let listing = Listing::Newest;
        match up.replica.action() {
            Action::Put { seq, .. } => {
                steps.extend(replies(world, seq.0).map(|reply| Step::Go { pod, reply, listing }));
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
                let wishes = self.wishes(up, pod).into_iter();
                for wish in wishes.filter(|wish| self.compose(&self.pods[pod], up, *wish).is_some()) {
                    steps.extend(replies(world, up.next()).map(|reply| Step::Append { pod, wish, reply }));
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

    fn wishes(&self, up: &Up, pod: usize) -> Vec<Wish> {
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

    fn chores(&self, world: &World, up: &Up, pod: usize, steps: &mut Vec<Step>) {
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
        let may_publish = up.replica.is_checked() || self.careless == Some(Careless::PublishesUnchecked);
        if self.publishes && may_publish && up.to_publish().is_some() {
            steps.push(Step::Publish { pod });
        }
        if self.collects {
            let dead = world.store.staged.iter().enumerate().filter(|(_, name)| up.may_collect(name));
            steps.extend(dead.map(|(which, _)| Step::Collect { pod, which }));
        }
    }
}

/// What may become of a create of that slot.
fn replies(world: &World, seq: u64) -> impl Iterator<Item = Reply> {
    let lost = (world.losses > 0).then_some(Reply::Lost);
    let conflict = world.store.late.iter().any(|(late, _)| *late == seq).then_some(Reply::Conflict);
    [Some(Reply::Heard), lost, conflict].into_iter().flatten()
}
