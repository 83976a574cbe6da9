//! Dividing the work anew, and new revisions.

use super::*;
use crate::decide::{ClaimDecision, TermDecision, TermRefusal};

/// Ordinal 0 owns everything, and the log is in a term of two; ordinal 1 has not begun.
async fn rescaled(memory: &MemoryStore) -> (Runner, Runner) {
    let mut zero = Runner::begun(memory, 1).await;
    zero.parallelism = 2;
    zero.generation = Some(Generation(2));
    won(zero.new_term().await);
    let mut one = Runner::open(memory, 2).await;
    one.ordinal = Ordinal(1);
    one.parallelism = 2;
    one.generation = Some(Generation(2));
    (zero, one)
}

fn partitions(tasks: &BTreeSet<Task>) -> usize {
    tasks.iter().filter(|task| matches!(task, Task::Partition(_))).count()
}

#[tokio::test]
async fn a_rescale_moves_tasks_with_the_owners_last_epoch_and_loses_none() {
    let memory = MemoryStore::new();
    let (mut zero, mut one) = rescaled(&memory).await;
    let Begin::Claim(ClaimDecision::Nothing { waiting }) = declined(one.begin().await) else { panic!("did not wait") };
    assert!(waiting.len() >= 2);
    let moving = waiting.iter().find_map(|task| match task {
        Task::Partition(partition) => Some(partition.partition),
        _ => None,
    });
    // The open epoch reads a partition that moves away: it is committed once more, and released with that.
    let epoch = zero.epoch(moving.unwrap(), 10);
    let released = won(zero.commit(&epoch).await).commit().unwrap().released.clone();
    assert_eq!(released, waiting);
    one.catch_up().await;
    won(one.claim(false).await);
    zero.catch_up().await;
    assert_eq!(partitions(&zero.owned()), 2);
    assert_eq!(partitions(&one.owned()), 2);
    assert_eq!(one.log.fold().partition(&partition(moving.unwrap())).unwrap().offset, Offset(10));
    let epoch = zero.epoch(moving.unwrap(), 10);
    assert_eq!(declined(zero.commit(&epoch).await), CommitDecision::Lost { tasks: [reads(moving.unwrap())].into() });
}

#[tokio::test]
async fn an_owner_with_an_empty_epoch_releases_all_the_same() {
    let memory = MemoryStore::new();
    let (mut zero, mut one) = rescaled(&memory).await;
    assert!(!won(zero.commit(&Commit::default()).await).commit().unwrap().released.is_empty());
    one.catch_up().await;
    won(one.begin().await);
    assert_eq!(partitions(&one.owned()), 2);
    assert_eq!(declined(zero.commit(&Commit::default()).await), CommitDecision::Nothing);
}

#[tokio::test]
async fn a_rescale_that_one_runner_never_sees_goes_on_after_the_grace_period() {
    let memory = MemoryStore::new();
    let (mut deaf, mut one) = rescaled(&memory).await;
    assert!(matches!(declined(one.begin().await), Begin::Claim(ClaimDecision::Nothing { .. })));
    won(one.claim(true).await);
    let lost = one.owned();
    let moved = lost.iter().find_map(|task| match task {
        Task::Partition(partition) => Some(partition.partition),
        _ => None,
    });
    let epoch = deaf.epoch(moved.unwrap(), 10);
    assert_eq!(declined(deaf.commit(&epoch).await), CommitDecision::Lost { tasks: [reads(moved.unwrap())].into() });
    // It keeps the rest, and takes nothing back.
    let kept = (0..4).find(|number| deaf.owned().contains(&reads(*number))).unwrap();
    deaf.committed(kept, 10).await;
    assert!(matches!(declined(deaf.claim(true).await), ClaimDecision::Nothing { waiting } if waiting.is_empty()));
    assert_eq!(one.owned(), lost);
}

#[tokio::test]
async fn a_runner_of_an_old_revision_writes_nothing_more_and_is_not_waited_for() {
    let memory = MemoryStore::new();
    let mut old = Runner::begun(&memory, 1).await;
    let epoch = old.epoch(0, 10);
    let mut new = Runner::open(&memory, 2).await;
    new.revision = "r2".into();
    new.generation = Some(Generation(7));
    won(new.begin().await);
    assert_eq!(new.owned().len(), 7);
    assert!(matches!(declined(old.commit(&epoch).await), CommitDecision::Superseded(_)));

    // A candidate that only wrote the term: the old runner is not superseded yet, and still writes nothing.
    let mut candidate = Runner::open(&memory, 3).await;
    candidate.revision = "r3".into();
    candidate.generation = Some(Generation(8));
    won(candidate.new_term().await);
    let epoch = new.epoch(0, 10);
    assert!(matches!(declined(new.commit(&epoch).await), CommitDecision::StaleTerm(Some(_))));
    assert!(matches!(declined(new.claim(true).await), ClaimDecision::StaleTerm(Some(_))));
    let ClaimDecision::Propose { waiting, .. } =
        claim(&candidate.log.view(), &candidate.request(candidate.log.fold(), false))
    else {
        panic!("waits for a revision that no longer runs")
    };
    assert!(waiting.is_empty());
}

#[tokio::test]
async fn a_term_needs_a_higher_generation_than_every_term_before() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    runner.generation = Some(Generation(5));
    runner.parallelism = 3;
    won(runner.new_term().await);
    runner.parallelism = 2;
    for old in [1, 4, 5] {
        runner.generation = Some(Generation(old));
        let TermDecision::Behind(term) = declined(runner.new_term().await) else { panic!("an old mount made a term") };
        assert_eq!(term.parallelism, Parallelism::new(3).unwrap());
    }
    runner.parallelism = 3;
    assert_eq!(declined(runner.new_term().await), TermDecision::Current);
}

#[tokio::test]
async fn an_ordinal_without_a_place_claims_nothing() {
    let memory = MemoryStore::new();
    Runner::begun(&memory, 1).await;
    let mut five = Runner::open(&memory, 2).await;
    five.ordinal = Ordinal(5);
    assert!(matches!(declined(five.begin().await), Begin::Claim(ClaimDecision::NotPlaced(_))));
}

#[tokio::test]
async fn an_output_that_moved_or_shares_its_path_is_refused() {
    let memory = MemoryStore::new();
    Runner::begun(&memory, 1).await;
    let mut moved = Runner::open(&memory, 2).await;
    moved.revision = "r2".into();
    moved.outputs.insert(orders(), "s3://lake/elsewhere".into());
    let Begin::Term(TermDecision::Refused(refusal)) = declined(moved.begin().await) else { panic!("not refused") };
    assert!(refusal.to_string().contains("s3://lake/elsewhere"), "{refusal}");
    moved.outputs.insert(screen(), "s3://lake/elsewhere".into());
    let Begin::Term(TermDecision::Refused(refusal)) = declined(moved.begin().await) else { panic!("not refused") };
    assert!(matches!(refusal, TermRefusal::SharedPath { .. } | TermRefusal::OutputMoved { .. }));
}
