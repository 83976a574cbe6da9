//! Bounded reads.

use super::*;
use crate::decide::{CompleteDecision, PlanDecision, complete, plan};
use crate::fold::{Breach, Unfinished};
use crate::safeguard::{Safeguard, without};

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

/// Reads to the end at offset 10 and says so.
async fn finished(memory: &MemoryStore) -> Runner {
    let mut runner = Runner::begun(memory, 1).await;
    won(planned(&mut runner, 10, false).await);
    let seq = runner.committed(0, 10).await;
    won(runner.note(&[Note { seq, output: orders() }]).await);
    won(completed(&mut runner).await);
    runner
}

/// The record that a partition's topic, of which nothing was read, was created again.
fn created_again(number: i32, resumed: i64) -> Commit {
    let loss = DataLoss {
        partition: partition(number),
        expected: Offset(0),
        resumed: Offset(resumed),
        topic_id: Some("topic-2".into()),
        reason: "created again".into(),
    };
    Commit { data_loss: vec![loss], ..Commit::default() }
}

#[tokio::test]
async fn a_topic_created_again_leaves_the_bounded_read_that_is_under_way() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    won(planned(&mut runner, 10, false).await);
    won(runner.commit(&created_again(0, 0)).await);
    assert!(runner.log.fold().plan_under_way().unwrap().ends.is_empty());
    let epoch = runner.epoch(0, 1);
    assert!(matches!(refused(&mut runner, epoch).await.0, CommitDecision::BeyondPlan { .. }));
    won(completed(&mut runner).await);
    won(planned(&mut runner, 10, true).await);
    runner.committed(0, 10).await;
}

/// What deciding the epoch says, and what folding it would say if a faulty writer sent it.
async fn refused(runner: &mut Runner, epoch: Commit) -> (CommitDecision, Option<Breach>) {
    let said = declined(runner.commit(&epoch).await);
    let view = runner.log.view();
    let record = view.propose(Body::Commit(Box::new(epoch))).into_slot(runner.incarnation, Attempt(99), Millis(0));
    (said, view.fold.with(view.fold.next(), &record).err().map(|violation| violation.breach))
}

#[tokio::test]
async fn a_bounded_read_reads_nothing_beyond_its_ends() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    won(planned(&mut runner, 10, false).await);
    for (number, rows) in [(0, 11), (1, 1)] {
        let epoch = runner.epoch(number, rows);
        let (said, breach) = refused(&mut runner, epoch).await;
        assert_eq!(said, CommitDecision::BeyondPlan { tasks: [reads(number)].into() });
        assert_eq!(breach, Some(Breach::BeyondPlan { task: reads(number) }));
    }
    runner.committed(0, 10).await;
    let epoch = runner.epoch(0, 1);
    let beyond = without(Some(Safeguard::WithinPlan), || {
        matches!(commit(&runner.log.view(), &runner.revision, &epoch), CommitDecision::Propose(_))
    });
    assert!(beyond);
}

#[tokio::test]
async fn after_a_bounded_read_nothing_is_committed_until_another_is_planned() {
    let memory = MemoryStore::new();
    let mut runner = finished(&memory).await;
    let epoch = runner.epoch(0, 1);
    let (said, breach) = refused(&mut runner, epoch.clone()).await;
    assert!(matches!(said, CommitDecision::BeyondPlan { .. }), "{said:?}");
    assert!(matches!(breach, Some(Breach::BeyondPlan { .. })), "{breach:?}");
    let rows_only = Commit { intents: epoch.intents.clone(), ..Commit::default() };
    let (said, _) = refused(&mut runner, rows_only).await;
    assert!(matches!(said, CommitDecision::BeyondPlan { .. }), "{said:?}");
    // But a topic that is another by now is found so before the next read is planned.
    won(runner.commit(&created_again(1, 5)).await);
    won(planned(&mut runner, 99, true).await);
    won(runner.commit(&epoch).await);
}

/// The job, edited: another revision, on the same log.
async fn edited(memory: &MemoryStore, number: u128, revision: &str) -> Runner {
    let mut runner = Runner::open(memory, number).await;
    runner.revision = revision.into();
    won(runner.begin().await);
    runner
}

#[tokio::test]
async fn a_job_edited_in_the_middle_of_a_bounded_read_is_not_bound_by_it() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    won(planned(&mut runner, 10, false).await);
    runner.committed(0, 5).await;
    let mut interval = edited(&memory, 2, "r2").await;
    interval.committed(0, 95).await;
    interval.committed(1, 1).await;
    // Made bounded again, it reads what is there now.
    let mut bounded = edited(&memory, 3, "r1").await;
    let plan = won(planned(&mut bounded, 200, false).await);
    assert_eq!(bounded.log.fold().plan_under_way().unwrap().seq, plan.seq());
    assert_eq!(fold_all(&memory).unwrap(), *bounded.log.fold());
}

#[tokio::test]
async fn a_completed_read_stays_complete_until_another_revision_reads_on() {
    let memory = MemoryStore::new();
    finished(&memory).await;
    let mut fixed = edited(&memory, 2, "r2").await;
    assert!(matches!(declined(planned(&mut fixed, 99, false).await), PlanDecision::Complete(_)));
    let mut interval = edited(&memory, 3, "r3").await;
    interval.committed(0, 1).await;
    assert_eq!(interval.log.fold().plan(), None);
    let mut bounded = edited(&memory, 4, "r1").await;
    won(planned(&mut bounded, 99, false).await);
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
