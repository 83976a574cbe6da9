//! Bounded reads.

use super::*;
use crate::decide::{CompleteDecision, PlanDecision, complete, plan};
use crate::fold::Unfinished;

async fn planned(runner: &mut Runner, end: i64, again: bool) -> Appended<PlanDecision> {
    let (revision, ends) = (runner.revision.clone(), BTreeMap::from([(partition(0), Offset(end))]));
    runner
        .append(|view| match plan(view, &revision, &ends, again) {
            PlanDecision::Propose(proposal) => Err(proposal),
            other => Ok(other),
        })
        .await
}

async fn completed(runner: &mut Runner) -> Appended<CompleteDecision> {
    let revision = runner.revision.clone();
    runner
        .append(|view| match complete(view, &revision) {
            CompleteDecision::Propose(proposal) => Err(proposal),
            other => Ok(other),
        })
        .await
}

#[tokio::test]
async fn the_ends_of_a_bounded_read_are_fixed_once_for_all_restarts() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    won(planned(&mut runner, 10, false).await);
    let mut restarted = Runner::begun(&memory, 2).await;
    let PlanDecision::UnderWay(plan) = declined(planned(&mut restarted, 99, true).await) else {
        panic!("planned again")
    };
    assert_eq!(plan.ends[&partition(0)], Offset(10));
}

#[tokio::test]
async fn a_bounded_read_is_complete_at_its_ends_and_with_everything_published() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    assert_eq!(declined(completed(&mut runner).await), CompleteDecision::NotYet(Unfinished::NotPlanned));
    won(planned(&mut runner, 10, false).await);
    assert!(matches!(declined(completed(&mut runner).await), CompleteDecision::NotYet(Unfinished::Short { .. })));
    let seq = runner.committed(0, 10).await;
    assert!(matches!(declined(completed(&mut runner).await), CompleteDecision::NotYet(Unfinished::Unpublished { .. })));
    won(runner.note(&[Note { seq, output: orders() }]).await);
    won(completed(&mut runner).await);
    // Every runner and every restart reads that it is done.
    let mut restarted = Runner::begun(&memory, 2).await;
    assert!(matches!(declined(planned(&mut restarted, 99, false).await), PlanDecision::Complete(_)));
    assert!(matches!(declined(completed(&mut restarted).await), CompleteDecision::Complete(_)));
    // A later run, asked for by a person, reads on.
    won(planned(&mut restarted, 99, true).await);
    assert_eq!(restarted.log.fold().plan_under_way().unwrap().ends[&partition(0)], Offset(99));
}

#[tokio::test]
async fn a_held_log_takes_neither_a_plan_nor_its_completion() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    let mut command = Runner::open(&memory, 2).await;
    let mut hold = async || {
        command.catch_up().await;
        let held = command.append(|view| match crate::decide::hold(view, "test", false) {
            crate::decide::HoldDecision::Propose(proposal) => Err(proposal),
            other => Ok(other),
        });
        won(held.await);
    };
    hold().await;
    runner.catch_up().await;
    assert!(matches!(declined(planned(&mut runner, 0, false).await), PlanDecision::Held(_)));
    let released = runner.append(|view| match crate::decide::release(view, true) {
        crate::decide::ReleaseDecision::Propose(proposal) => Err(proposal),
        other => Ok(other),
    });
    won(released.await);
    won(planned(&mut runner, 0, false).await);
    hold().await;
    runner.catch_up().await;
    assert!(matches!(declined(completed(&mut runner).await), CompleteDecision::Held(_)));
}
