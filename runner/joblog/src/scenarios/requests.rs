//! What the log costs in requests.

use super::*;
use crate::store::Fault;

fn count(runner: &Runner) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for (operation, _) in runner.store.requests() {
        *counts.entry(operation).or_insert(0) += 1;
    }
    runner.store.forget_requests();
    counts
}

#[tokio::test]
async fn a_warm_epoch_costs_one_put_and_one_head() {
    let memory = MemoryStore::new();
    let mut runner = Runner::open_with(&memory, 1, Faults::script([]), Limits::STANDARD).await;
    won(runner.begin().await);
    count(&runner);
    for _ in 0..3 {
        let mut epoch = runner.epoch(0, 1);
        epoch.published = runner.log.fold().pending().keys().map(|seq| Note { seq: *seq, output: orders() }).collect();
        won(runner.commit(&epoch).await);
        let _ = runner.log.maintain().await.unwrap();
        assert_eq!(count(&runner), [("create", 1), ("head", 1)].into());
    }
}

#[tokio::test]
async fn a_look_at_an_idle_log_costs_one_get() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    count(&runner);
    assert_eq!(runner.catch_up().await, 0);
    assert_eq!(count(&runner), [("get", 1)].into());
    assert_eq!(declined(runner.commit(&Commit::default()).await), CommitDecision::Nothing);
    assert!(count(&runner).is_empty());
}

#[tokio::test]
async fn what_others_wrote_costs_one_head_more() {
    let memory = MemoryStore::new();
    let (mut zero, mut one) = two_ordinals(&memory).await;
    let number = (0..4).find(|number| one.owned().contains(&reads(*number))).unwrap();
    one.committed(number, 1).await;
    count(&zero);
    assert_eq!(zero.catch_up().await, 1);
    assert_eq!(count(&zero)["head"], 1);
    assert_eq!(zero.catch_up().await, 0);
    assert_eq!(count(&zero), [("get", 1)].into(), "and nothing once it was checked");
}

#[tokio::test]
async fn a_collision_costs_one_get_and_one_more_put() {
    let memory = MemoryStore::new();
    let mut runner = Runner::open_with(&memory, 1, Faults::script([]), Limits::STANDARD).await;
    won(runner.begin().await);
    let mut other = Runner::open_with(&memory, 9, Faults::script([]), Limits::STANDARD).await;
    won(other
        .append(|view| match crate::decide::savepoint(view, "here") {
            crate::decide::SavepointDecision::Propose(proposal) => Err(proposal),
            other => Ok(other),
        })
        .await);
    count(&runner);
    runner.committed(0, 1).await;
    assert_eq!(count(&runner), [("create", 2), ("get", 1), ("head", 1)].into());
}

#[tokio::test]
async fn a_lost_reply_costs_one_get() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    runner.store.set_faults(Faults::script([Fault::LostReply]));
    count(&runner);
    runner.committed(0, 1).await;
    assert_eq!(count(&runner), [("create", 1), ("get", 1), ("head", 1)].into());
}
