//! Which tasks may this process take over now?

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::{Proposal, Superseded, View};
use crate::fold::{Fold, HoldState, Owner, TermState};
use crate::ids::{Ordinal, OutputName, Partition, Rank, Revision};
use crate::record::{Body, Claim, FirstClaim};
use crate::replica::Seat;
use crate::safeguard::{Safeguard, on};
use crate::task::{Task, owner};

/// What a process would like to own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimRequest {
    /// The ordinal it works as.
    pub ordinal: Ordinal,
    /// Its pod's number, given by the operator; `None` outside a cluster: the highest rank so far plus one, taken once.
    pub pod: Option<u64>,
    /// The revision it runs.
    pub revision: Revision,
    /// Every task of the job, whoever's it is (see [`candidates`]).
    pub tasks: BTreeSet<Task>,
    /// Where the partitions start that the log does not know yet. A partition that is in neither is not claimed.
    pub first: BTreeMap<Partition, FirstClaim>,
    /// True once the owners of a term before had their time to release what is no longer theirs.
    pub grace_over: bool,
}

/// Which tasks a process may take over now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClaimDecision {
    /// Some, once this is written.
    Propose {
        /// What to write.
        proposal: Proposal,
        /// The tasks it takes over.
        tasks: Vec<Task>,
        /// Tasks that their owner may still release.
        waiting: Vec<Task>,
    },
    /// None now.
    Nothing {
        /// Tasks that their owner may still release.
        waiting: Vec<Task>,
    },
    /// None ever again.
    Superseded(Superseded),
    /// The log is in a term of another revision, or in none.
    StaleTerm(Option<TermState>),
    /// The division has no place for this ordinal.
    NotPlaced(TermState),
    /// A command stopped all work. Look again later.
    Held(HoldState),
}

/// Every task of a job: its partitions, the publishers of its outputs and of those that the log has work for, and the
/// collector.
pub fn candidates<'a>(
    fold: &Fold,
    partitions: impl IntoIterator<Item = Partition>,
    outputs: impl IntoIterator<Item = &'a OutputName>,
) -> BTreeSet<Task> {
    let outputs: BTreeSet<OutputName> = outputs.into_iter().cloned().chain(fold.outputs_with_work()).collect();
    let mut tasks: BTreeSet<Task> = partitions.into_iter().map(Task::Partition).collect();
    tasks.extend(outputs.into_iter().map(Task::Publisher));
    tasks.insert(Task::Collector);
    tasks
}

/// Decides which tasks this process may take over now.
///
/// At once: what nobody owns, what an earlier process of the same ordinal owns, and what belongs to a superseded process or
/// to another revision. After the grace period: what an owner of the same revision should have released.
pub fn claim(view: &View<'_>, request: &ClaimRequest) -> ClaimDecision {
    if let Some(hold) = view.fold.held().filter(|_| on(Safeguard::Hold)) {
        return ClaimDecision::Held(hold.clone());
    }
    let rank = match rank(view, request) {
        Ok(rank) => rank,
        Err(superseded) => return ClaimDecision::Superseded(superseded),
    };
    let Some(term) = view.term_of(&request.revision) else {
        return ClaimDecision::StaleTerm(view.fold.term().cloned());
    };
    if !term.parallelism.includes(request.ordinal) {
        return ClaimDecision::NotPlaced(term.clone());
    }
    let mut tasks = Vec::new();
    let mut waiting = Vec::new();
    for task in request.tasks.iter().filter(|task| owner(task, term.parallelism) == request.ordinal) {
        if !can_start(view.fold, task, &request.first) {
            continue;
        }
        match view.fold.owners().get(task) {
            Some(owner) if owner.incarnation == view.incarnation => {}
            Some(owner) if !request.grace_over && !is_gone(view.fold, owner, term, request.ordinal) => {
                waiting.push(task.clone())
            }
            _ => tasks.push(task.clone()),
        }
    }
    if tasks.is_empty() {
        return ClaimDecision::Nothing { waiting };
    }
    let claimed = tasks.iter().filter_map(|task| match task {
        Task::Partition(partition) if view.fold.partition(partition).is_none() => Some(partition),
        _ => None,
    });
    let first = claimed.filter_map(|p| request.first.get(p).map(|first| (p.clone(), first.clone()))).collect();
    let standing = view.fold.standing(request.ordinal).filter(|standing| standing.incarnation == view.incarnation);
    let claim = Claim {
        ordinal: request.ordinal,
        rank,
        revision: request.revision.clone(),
        tasks: tasks.clone(),
        first,
        renews: standing.map(|standing| standing.claim),
    };
    let seat = Seat { ordinal: request.ordinal, rank };
    let proposal = view.propose_as(Some(seat), view.generation(), vec![Body::Claim(claim)]);
    ClaimDecision::Propose { proposal, tasks, waiting }
}

/// The rank to claim with, or why there is none.
fn rank(view: &View<'_>, request: &ClaimRequest) -> Result<Rank, Superseded> {
    if let Some(superseded) = view.superseded() {
        return Err(superseded);
    }
    if let Some(seat) = view.seat {
        return Ok(seat.rank); // taken once, at the first claim
    }
    let home = view.fold.home_since();
    let standing = view.fold.standing(request.ordinal);
    let highest = standing.map(|standing| standing.rank);
    // Taken once: a process that took the highest rank again after each claim of unknown outcome would leapfrog another.
    let taken = view.pod.filter(|_| on(Safeguard::OneRank));
    let pod = request.pod.or(taken).unwrap_or(highest.map_or(0, |rank| rank.pod.saturating_add(1)));
    let rank = Rank { home, pod };
    match standing {
        Some(standing) if !crate::fold::rank_suffices(rank, home, standing.rank) => {
            Err(Superseded { ordinal: request.ordinal, rank, by: Some((standing.incarnation, standing.rank)) })
        }
        _ => Ok(rank),
    }
}

fn can_start(fold: &Fold, task: &Task, first: &BTreeMap<Partition, FirstClaim>) -> bool {
    match task {
        Task::Partition(partition) => fold.partition(partition).is_some() || first.contains_key(partition),
        _ => true,
    }
}

/// True if an owner need not be waited for: its ordinal is ours or has another holder, or its revision no longer runs.
fn is_gone(fold: &Fold, owner: &Owner, term: &TermState, ordinal: Ordinal) -> bool {
    owner.ordinal == ordinal || owner.revision != term.revision || !fold.holds(owner.ordinal, owner.incarnation)
}
