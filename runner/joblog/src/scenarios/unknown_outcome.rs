//! Replies that are lost, late or wrong, and futures that are dropped.

use super::*;
use crate::decide::{StartDecision, start};
use crate::paths::Segment;
use crate::replica::{Action, Observation, Progress, Replica};
use crate::safeguard::{Safeguard, without};
use crate::store::Fault;

/// Commits until it is settled, as a runner does: again after each fault.
async fn commit_through(runner: &mut Runner, epoch: &Commit) -> Seq {
    for _ in 0..50 {
        match runner.try_commit(epoch).await {
            Ok(Appended::Won(won) | Appended::Earlier(won)) => return won.seq(),
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
    panic!("never settled");
}

#[tokio::test]
async fn an_epoch_is_decided_once_whatever_becomes_of_the_reply() {
    use Fault::*;
    let scripts: &[&[Fault]] = &[
        &[LostReply],
        &[NotSent],
        &[Conflict],
        &[Delayed(0)],
        &[Delayed(1)],
        &[Delayed(2)],
        &[Slow(3)],
        &[LostReply, NotSent, LostReply],
        &[NotSent, NotSent, NotSent, NotSent, NotSent, NotSent],
        &[None, NotSent, NotSent, NotSent, NotSent], // the win stands, its check fails for long
        &[Delayed(1), None, LostReply, None],
        &[Conflict, None, Conflict, None, Conflict, None, Conflict, None],
    ];
    for script in scripts {
        let memory = MemoryStore::new();
        let mut runner = Runner::begun(&memory, 1).await;
        runner.store.set_faults(Faults::script(script.iter().copied()));
        let epoch = runner.epoch(0, 10);
        let seq = commit_through(&mut runner, &epoch).await;
        runner.store.deliver_delayed().await;
        assert_eq!(seq, Seq(1), "{script:?}");
        let fold = fold_all(&memory).unwrap();
        assert_eq!(fold, *runner.log.fold(), "{script:?}");
        assert_eq!(fold.totals().rows_in, 10, "{script:?}");
        runner.committed(0, 1).await;
    }
}

#[tokio::test]
async fn while_an_outcome_is_unknown_nothing_else_is_composed() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    // Sent, delayed beyond all patience: the slot stays empty and the store does not answer.
    runner.store.set_faults(Faults::script([Fault::Delayed(100)].into_iter().chain([Fault::NotSent; 4])));
    let first = runner.epoch(0, 10);
    assert!(runner.try_commit(&first).await.unwrap_err().is_transient());
    assert!(runner.log.in_flight());
    let second = runner.epoch(1, 7);
    runner.store.set_faults(Faults::script([]));
    let Appended::Earlier(won) = runner.try_commit(&second).await.unwrap() else {
        panic!("composed over an open outcome")
    };
    assert_eq!(won.commit().unwrap().ranges, first.ranges);
    runner.store.deliver_delayed().await;
    assert_eq!(slots(&memory).len(), 2);
    assert!(!runner.log.in_flight());
}

#[test]
fn without_either_rule_a_decided_epoch_is_taken_for_undecided() {
    for removed in [Safeguard::IdenticalResend, Safeguard::RecogniseOwn] {
        let (outcome, rows) = without(Some(removed), || {
            block_on(async {
                let memory = MemoryStore::new();
                let mut runner = Runner::begun(&memory, 1).await;
                runner.store.set_faults(Faults::script([Fault::LostReply]));
                let epoch = runner.epoch(0, 10);
                (runner.commit(&epoch).await, fold_all(&memory).unwrap().totals().rows_in)
            })
        });
        assert!(matches!(outcome, Appended::Declined(CommitDecision::Moved { .. })), "{removed:?}: {outcome:?}");
        assert_eq!(rows, 10, "it was decided, and its staged files would be deleted");
    }
}

#[tokio::test]
async fn a_slot_with_our_attempt_is_our_own_win_and_another_one_is_not() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    let mut other = Runner::open(&memory, 2).await;
    runner.store.set_faults(Faults::script([Fault::NotSent]));
    won(other.begin().await); // takes slot 1 while our put never arrives
    let epoch = runner.epoch(0, 10);
    let decision = declined(runner.commit(&epoch).await);
    assert!(matches!(decision, CommitDecision::Superseded(_)), "{decision:?}");
    assert!(!runner.log.in_flight());
}

/// Who is told that another's record has the slot: the author of one that was put that often, of which only the last reply
/// came.
fn another_has_the_slot(puts: u32) -> (Progress, Action) {
    let memory = MemoryStore::new();
    let runner = block_on(Runner::open(&memory, 1));
    let proposal = |view: &View<'_>| match start(view, &runner.start()) {
        StartDecision::Propose(proposal) => proposal,
        other => panic!("{other:?}"),
    };
    let mut replica = Replica::new(incarnation(1), SMALL, Fold::empty());
    let another = proposal(&replica.view()).into_slot(incarnation(9), Attempt(1), Millis(0));
    replica.propose(proposal(&replica.view()), Millis(0)).unwrap();
    for _ in 0..puts {
        assert!(matches!(replica.action(), Action::Put { .. }));
        replica.sending();
    }
    assert_eq!(replica.observe(Observation::Exists), Progress::Continue);
    let progress = replica.observe(Observation::Slot(Box::new(another)));
    (progress, replica.action())
}

#[test]
fn a_put_whose_reply_nobody_waited_for_may_have_arrived() {
    assert_eq!(another_has_the_slot(1), (Progress::Beaten, Action::Idle));
    let check = Action::CheckSeal { segment: Segment(0) };
    assert_eq!(another_has_the_slot(2), (Progress::Continue, check));
}

#[tokio::test]
async fn dropping_an_append_at_any_point_leaves_the_outcome_to_be_settled() {
    for polls in 0..12 {
        let memory = MemoryStore::new();
        let mut runner = Runner::begun(&memory, 1).await;
        let faults = [Fault::Slow(2), Fault::Slow(2), Fault::Slow(2)];
        runner.store.set_faults(Faults::script(faults));
        let epoch = runner.epoch(0, 10);
        let revision = runner.revision.clone();
        {
            let appended = runner.log.append(|view| match commit(view, &revision, &epoch) {
                CommitDecision::Propose(proposal) => Compose::Propose(proposal),
                other => Compose::Decline(other),
            });
            let mut appended = Box::pin(appended);
            for _ in 0..polls {
                if futures::poll!(&mut appended).is_ready() {
                    break;
                }
            }
        }
        let again = runner.try_commit(&epoch).await.unwrap();
        let decided_before = matches!(again, Appended::Declined(CommitDecision::Moved { .. }));
        assert!(decided_before || matches!(again, Appended::Won(_) | Appended::Earlier(_)), "{polls}: {again:?}");
        let fold = fold_all(&memory).unwrap();
        assert_eq!(fold.totals().rows_in, 10, "after {polls} polls");
        assert_eq!(fold, *runner.log.fold());
    }
}

#[tokio::test]
async fn a_fault_that_waiting_does_not_cure_is_reported_at_once() {
    #[derive(Debug)]
    struct Denied;
    #[async_trait]
    impl LogStore for Denied {
        async fn put_if_absent(
            &self,
            key: &str,
            _: bytes::Bytes,
        ) -> Result<crate::store::PutIfAbsent, crate::StoreError> {
            Err(crate::StoreError::new("create", key, crate::store::FaultKind::Denied, "403"))
        }
        async fn put(&self, key: &str, _: bytes::Bytes) -> Result<(), crate::StoreError> {
            Err(crate::StoreError::new("write", key, crate::store::FaultKind::Denied, "403"))
        }
        async fn get(&self, _: &str) -> Result<Option<bytes::Bytes>, crate::StoreError> {
            Ok(None)
        }
        async fn head(&self, _: &str) -> Result<bool, crate::StoreError> {
            Ok(false)
        }
        async fn list(&self, _: &str) -> Result<Vec<String>, crate::StoreError> {
            Ok(Vec::new())
        }
        async fn delete(&self, _: &[String]) -> Result<(), crate::StoreError> {
            Ok(())
        }
    }
    let clock = Arc::new(TestClock::default());
    let mut log = JobLog::open(Arc::new(Denied), clock, incarnation(1), SMALL).await.unwrap();
    let runner = Runner::open(&MemoryStore::new(), 1).await;
    let decide = runner.decider();
    let appended = log.append(|view| match decide.decide_begin(view) {
        Begin::Propose { proposal, .. } => Compose::Propose(proposal),
        other => Compose::Decline(other),
    });
    let error = appended.await.unwrap_err();
    assert!(!error.is_transient());
    assert!(error.to_string().contains("credentials"), "{error}");
    assert!(log.in_flight());
}

#[tokio::test]
async fn two_runners_with_random_faults_decide_every_row_once() {
    for seed in 0..200 {
        let memory = MemoryStore::new();
        let (mut zero, mut one) = two_ordinals(&memory).await;
        zero.store.set_faults(Faults::seeded(seed, 300));
        one.store.set_faults(Faults::seeded(seed + 1_000_000, 300));
        let mut rows = 0;
        for step in 0..12 {
            let runner = if (seed + step) % 2 == 0 { &mut zero } else { &mut one };
            let number = (0..4).find(|number| runner.owned().contains(&reads(*number))).unwrap();
            let mut epoch = runner.epoch(number, 3);
            epoch.published = runner
                .log
                .fold()
                .work_of(runner.incarnation)
                .map(|(seq, output, _)| Note { seq, output: output.clone() })
                .collect();
            let before = runner.log.fold().partition(&partition(number)).unwrap().offset;
            let seq = commit_through(runner, &epoch).await;
            assert!(runner.log.fold().partition(&partition(number)).unwrap().offset > before || seq > Seq(0));
            rows += 3;
        }
        zero.store.deliver_delayed().await;
        one.store.deliver_delayed().await;
        assert_eq!(fold_all(&memory).unwrap().totals().rows_in, rows, "seed {seed}");
    }
}
