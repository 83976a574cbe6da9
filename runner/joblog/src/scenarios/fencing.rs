//! Two processes, one ordinal: the later claim wins, whatever the earlier one does, and stays the winner.

use super::*;
use crate::decide::ClaimDecision;
use crate::safeguard::{Safeguard, without};
use crate::store::Fault;

#[tokio::test]
async fn a_start_writes_home_term_and_claim_in_one_record() {
    let memory = MemoryStore::new();
    let runner = Runner::begun(&memory, 1).await;
    assert_eq!(slots(&memory).len(), 1);
    assert_eq!(slots(&memory)[0].1.entries.len(), 3);
    assert_eq!(runner.owned().len(), 4 + 2 + 1);
    assert_eq!(fold_all(&memory).unwrap(), *runner.log.fold());
}

#[tokio::test]
async fn a_zombie_finds_the_replacements_claim_in_its_way_and_is_superseded() {
    let memory = MemoryStore::new();
    let mut zombie = Runner::begun(&memory, 1).await;
    zombie.committed(0, 10).await;
    let epoch = zombie.epoch(0, 5);
    let mut replacement = Runner::begun(&memory, 2).await;
    let superseded = declined(zombie.commit(&epoch).await);
    assert!(matches!(superseded, CommitDecision::Superseded(_)), "{superseded:?}");
    assert!(matches!(declined(zombie.claim(true).await), ClaimDecision::Superseded(_)));
    let CommitDecision::Superseded(superseded) = superseded else { return };
    assert!(superseded.to_string().contains("superseded"), "{superseded}");
    assert_eq!(replacement.log.fold().partition(&partition(0)).unwrap().offset, Offset(10));
    replacement.committed(0, 5).await;
    assert_eq!(fold_all(&memory).unwrap().totals().rows_in, 15);
}

#[tokio::test]
async fn a_zombies_commit_that_lands_first_counts_and_the_claim_goes_one_slot_higher() {
    let memory = MemoryStore::new();
    let mut zombie = Runner::begun(&memory, 1).await;
    let mut replacement = Runner::open(&memory, 2).await;
    zombie.committed(0, 10).await;
    let claim = won(replacement.begin().await);
    assert_eq!(claim.seq(), Seq(2));
    assert_eq!(replacement.log.fold().partition(&partition(0)).unwrap().offset, Offset(10));
}

#[tokio::test]
async fn a_superseded_process_that_restarts_twenty_times_never_steals_the_claim_back() {
    let memory = MemoryStore::new();
    Runner::begun(&memory, 1).await;
    let current = Runner::begun(&memory, 2).await;
    let slots_before = slots(&memory).len();
    for restart in 0..20 {
        let mut old = Runner::open(&memory, 100 + restart).await;
        old.pod = Some(1); // the same old pod, a fresh process
        let Begin::Claim(ClaimDecision::Superseded(by)) = declined(old.begin().await) else { panic!("not superseded") };
        assert_eq!(by.by.unwrap().0, current.incarnation);
    }
    assert_eq!(slots(&memory).len(), slots_before);
}

#[tokio::test]
async fn the_same_pods_container_may_claim_again_with_equal_rank_and_the_process_before_it_may_not() {
    let memory = MemoryStore::new();
    let mut first = Runner::begun(&memory, 1).await;
    let mut second = Runner::open(&memory, 2).await;
    second.pod = Some(1);
    won(second.begin().await);
    assert_eq!(second.owned().len(), 7);
    first.catch_up().await;
    assert!(matches!(declined(first.claim(true).await), ClaimDecision::Superseded(_)));
    let stolen = without(Some(Safeguard::NoReturn), || {
        let view = first.log.view();
        matches!(claim(&view, &first.request(view.fold, true)), ClaimDecision::Propose { .. })
    });
    assert!(stolen, "without the safeguard two processes of one rank would take turns for ever");
}

#[tokio::test]
async fn outside_a_cluster_each_start_takes_the_highest_rank_plus_one() {
    let memory = MemoryStore::new();
    for number in 1..=3 {
        let mut runner = Runner::open(&memory, number).await;
        runner.pod = None;
        won(runner.begin().await);
        assert_eq!(runner.log.view().seat.unwrap().rank.pod, number as u64 - 1);
    }
}

/// A process outside a cluster whose first claim was decided and superseded, as it finds the log when it wakes: it knows
/// neither. What it then says about claiming.
async fn claimed_slept_and_superseded() -> Begin {
    let memory = MemoryStore::new();
    Runner::begun(&memory, 1).await;
    let mut slept = Runner::open(&memory, 2).await;
    slept.pod = None;
    slept.store.set_faults(Faults::script([Fault::LostReply].into_iter().chain([Fault::NotSent; 4])));
    let decide = slept.decider();
    let claimed = slept.log.append(|view| match decide.decide_begin(view) {
        Begin::Propose { proposal, .. } => Compose::Propose(proposal),
        other => Compose::Decline(other),
    });
    assert!(claimed.await.unwrap_err().is_transient());
    let mut successor = Runner::open(&memory, 3).await;
    successor.pod = None;
    won(successor.begin().await);
    for _ in 0..20 {
        let mut epoch = successor.epoch(0, 1);
        epoch.published =
            successor.log.fold().pending().keys().map(|seq| Note { seq: *seq, output: orders() }).collect();
        won(successor.commit(&epoch).await);
        let _ = successor.log.maintain().await.unwrap();
    }
    assert_eq!(slept.begin().await, Appended::Void);
    assert_eq!(slept.log.reopen().await.unwrap(), None);
    assert_eq!(slept.log.view().seat, None);
    match slept.begin().await {
        Appended::Won(_) => Begin::Claim(ClaimDecision::Nothing { waiting: Vec::new() }),
        other => declined(other),
    }
}

#[tokio::test]
async fn a_rank_is_taken_once_although_nobody_knows_what_became_of_the_claim() {
    let said = claimed_slept_and_superseded().await;
    assert!(matches!(said, Begin::Claim(ClaimDecision::Superseded(_))), "{said:?}");
}

#[test]
fn without_a_rank_taken_once_two_processes_would_leapfrog() {
    let removed = Some(Safeguard::OneRank);
    let said = without(removed, || block_on(claimed_slept_and_superseded()));
    assert!(!matches!(said, Begin::Claim(ClaimDecision::Superseded(_))), "{said:?}");
}

#[tokio::test]
async fn two_processes_that_start_at_once_end_with_one_owner() {
    let memory = MemoryStore::new();
    let mut a = Runner::open(&memory, 1).await;
    let mut b = Runner::open(&memory, 2).await;
    a.pod = None;
    b.pod = None;
    won(a.begin().await);
    won(b.begin().await);
    assert_eq!(b.owned().len(), 7);
    let epoch = a.epoch(0, 1);
    assert!(matches!(declined(a.commit(&epoch).await), CommitDecision::Superseded(_)));
}

#[tokio::test]
async fn an_epoch_decided_before_is_not_decided_again() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    let epoch = runner.epoch(0, 10);
    won(runner.commit(&epoch).await);
    let moved = declined(runner.commit(&epoch).await);
    assert_eq!(moved, CommitDecision::Moved { partitions: [partition(0)].into() });
}

#[tokio::test]
async fn a_commit_cannot_bring_objects_that_the_collector_may_have_deleted() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    let mut epoch = runner.epoch(0, 10);
    let foreign = StagedName { claim: Seq(0), incarnation: incarnation(9), label: "1".into() };
    let Intents::Parquet { files } = epoch.intents.get_mut(&orders()).unwrap() else { panic!() };
    files[0].staged = format!("s3://lake/orders/_millrace/staged/{foreign}");
    assert_eq!(declined(runner.commit(&epoch).await), CommitDecision::Lost { tasks: BTreeSet::new() });
}
