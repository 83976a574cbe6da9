//! Snapshots, seals and deletion, and the zombies that come back after them.

use super::*;
use crate::decide::ClaimDecision;
use crate::gc::{Sweep, SweepAction};
use crate::log::Maintained;
use crate::paths::{self, Segment};
use crate::safeguard::{Safeguard, without};
use crate::staged::is_dead;
use crate::store::Fault;

/// Commits and publishes until the log has that many slots, keeping house on the way.
async fn run_to(runner: &mut Runner, slots: u64) {
    while runner.log.fold().next().0 < slots {
        let mut epoch = runner.epoch(0, 1);
        epoch.published = runner.log.fold().pending().keys().map(|seq| Note { seq: *seq, output: orders() }).collect();
        won(runner.commit(&epoch).await);
        let _ = runner.log.maintain().await.unwrap();
    }
}

fn keys(memory: &MemoryStore, folder: &str) -> Vec<String> {
    memory.objects().into_keys().filter(|key| key.starts_with(folder)).collect()
}

#[tokio::test]
async fn the_log_stays_bounded_and_a_newcomer_knows_the_same() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    run_to(&mut runner, 200).await;
    assert!(keys(&memory, "log/").len() <= 12, "{:?}", keys(&memory, "log/"));
    assert_eq!(keys(&memory, "snapshots/").len(), 2);
    assert!(keys(&memory, "sealed/").len() >= 45);
    let newcomer = Runner::open(&memory, 2).await;
    assert_eq!(newcomer.log.fold(), runner.log.fold());
    // Seals ascend and have no gaps.
    let seals: Vec<_> = (0..keys(&memory, "sealed/").len() as u64).map(|n| paths::seal(Segment(n))).collect();
    assert_eq!(keys(&memory, "sealed/"), seals);
}

#[tokio::test]
async fn a_zombie_that_wins_a_deleted_slot_finds_its_win_void() {
    let memory = MemoryStore::new();
    let mut zombie = Runner::begun(&memory, 1).await;
    let stale = zombie.epoch(0, 99);
    let mut current = Runner::begun(&memory, 2).await;
    run_to(&mut current, 30).await;
    assert!(!memory.objects().contains_key(&paths::slot(Seq(1))));
    assert_eq!(zombie.commit(&stale).await, Appended::Void);
    assert!(memory.objects().contains_key(&paths::slot(Seq(1))), "it did win the slot");
    // Nothing else can be done before the log is opened again, and then it is superseded.
    assert_eq!(zombie.commit(&stale).await, Appended::Void);
    assert_eq!(zombie.log.reopen().await.unwrap(), None);
    assert!(!zombie.log.in_flight());
    assert!(matches!(declined(zombie.commit(&stale).await), CommitDecision::Superseded(_)));
    current.committed(0, 1).await;
}

#[test]
fn without_the_check_a_zombie_would_believe_its_win() {
    let outcome = without(Some(Safeguard::SealCheck), || {
        block_on(async {
            let memory = MemoryStore::new();
            let mut zombie = Runner::begun(&memory, 1).await;
            let stale = zombie.epoch(0, 99);
            let mut current = Runner::begun(&memory, 2).await;
            run_to(&mut current, 30).await;
            zombie.commit(&stale).await
        })
    });
    assert!(matches!(outcome, Appended::Won(_)), "{outcome:?}");
}

/// Ordinal 1, which slept while its log was collected, and in the first deleted slot that it will read the claim of a dead
/// process of higher rank on its ordinal, which came late.
async fn slept_and_replaced_by_litter() -> (MemoryStore, Runner) {
    let memory = MemoryStore::new();
    let (mut zero, one) = two_ordinals(&memory).await;
    let mut dead = Runner::open(&memory, 9).await;
    dead.ordinal = Ordinal(1);
    dead.parallelism = 2;
    dead.store.set_faults(Faults::script([Fault::Delayed(100)].into_iter().chain([Fault::NotSent; 4])));
    let request = dead.request(dead.log.fold(), false);
    let claimed = dead.log.append(|view| match claim(view, &request) {
        ClaimDecision::Propose { proposal, .. } => Compose::Propose(proposal),
        other => Compose::Decline(other),
    });
    assert!(claimed.await.unwrap_err().is_transient());
    assert_eq!(dead.log.fold().next(), one.log.fold().next());
    for _ in 0..20 {
        let number = (0..4).find(|number| zero.owned().contains(&reads(*number))).unwrap();
        let mut commit = zero.epoch(number, 1);
        commit.published = decided_by(&zero);
        won(zero.commit(&commit).await);
        let _ = zero.log.maintain().await.unwrap();
    }
    dead.store.deliver_delayed().await;
    assert!(memory.objects().contains_key(&paths::slot(one.log.fold().next())));
    (memory, one)
}

#[tokio::test]
async fn a_reader_of_litter_finds_out_before_it_acts() {
    let (_memory, mut one) = slept_and_replaced_by_litter().await;
    assert_eq!(one.log.catch_up().await.unwrap(), CaughtUp::Void);
    assert_eq!(one.log.reopen().await.unwrap(), None);
    assert_eq!(one.log.view().superseded(), None);
    let number = (0..4).find(|number| one.owned().contains(&reads(*number))).unwrap();
    one.committed(number, 5).await;
}

#[tokio::test]
async fn nothing_is_declined_because_of_litter() {
    let (_memory, mut one) = slept_and_replaced_by_litter().await;
    let number = (0..4).find(|number| one.owned().contains(&reads(*number))).unwrap();
    let epoch = one.epoch(number, 5);
    assert_eq!(one.commit(&epoch).await, Appended::Void, "its put meets the litter");
    assert_eq!(one.log.reopen().await.unwrap(), None);
    won(one.commit(&epoch).await);
}

#[test]
fn without_the_check_litter_would_stop_a_runner_for_good() {
    let superseded = without(Some(Safeguard::CheckBeforeActing), || {
        block_on(async {
            let (_memory, mut one) = slept_and_replaced_by_litter().await;
            one.catch_up().await;
            one.log.view().superseded()
        })
    });
    assert!(superseded.is_some());
}

#[tokio::test]
async fn what_was_read_before_the_store_failed_is_checked_by_the_next_call() {
    let (_memory, mut one) = slept_and_replaced_by_litter().await;
    one.store.set_faults(Faults::script([Fault::None; 4].into_iter().chain([Fault::NotSent; 4])));
    assert!(one.log.catch_up().await.unwrap_err().is_transient());
    assert_eq!(one.log.catch_up().await.unwrap(), CaughtUp::Void);
}

#[tokio::test]
async fn litter_that_makes_no_sense_is_void_and_real_damage_is_an_error() {
    let memory = MemoryStore::new();
    let mut slow = Runner::begun(&memory, 1).await;
    let mut current = Runner::begun(&memory, 2).await;
    run_to(&mut current, 30).await;
    put(&memory, &paths::slot(Seq(1)), "{}").await;
    assert_eq!(slow.log.catch_up().await.unwrap(), CaughtUp::Void);
    assert_eq!(slow.log.reopen().await.unwrap(), None);

    let next = current.log.fold().next();
    put(&memory, &paths::slot(next), r#"{"format":1,"entries":[]}"#).await;
    let error = current.log.catch_up().await.unwrap_err();
    assert!(matches!(error, LogError::Damaged(_)), "{error}");
    assert!(error.to_string().contains(&next.to_string()), "{error}");
}

#[tokio::test]
async fn a_win_whose_segment_is_sealed_before_its_check_is_recognised_on_reopening() {
    let memory = MemoryStore::new();
    let (mut zero, mut one) = two_ordinals(&memory).await;
    let number = (0..4).find(|number| one.owned().contains(&reads(*number))).unwrap();
    let epoch = one.epoch(number, 10);
    // The commit lands; the process then sleeps before its check, for longer than the log takes to pass by.
    one.store.set_faults(Faults::script([Fault::None].into_iter().chain([Fault::NotSent; 4])));
    assert!(one.try_commit(&epoch).await.unwrap_err().is_transient());
    let landed = one.log.fold().next();
    zero.catch_up().await;
    let until = zero.log.fold().next().0 + 30;
    while zero.log.fold().next().0 < until {
        let number = (0..4).find(|number| zero.owned().contains(&reads(*number))).unwrap();
        let mut epoch = zero.epoch(number, 1);
        epoch.published = zero.log.fold().pending().keys().map(|seq| Note { seq: *seq, output: orders() }).collect();
        won(zero.commit(&epoch).await);
        let _ = zero.log.maintain().await.unwrap();
    }
    assert!(!memory.objects().contains_key(&paths::slot(landed)));
    assert_eq!(one.commit(&epoch).await, Appended::Void);
    assert!(one.log.in_flight(), "the outcome stays open until the log is open again");
    let earlier = one.log.reopen().await.unwrap().expect("it is in the log, through the snapshot");
    assert_eq!(earlier.seq(), landed);
    assert_eq!(declined(one.commit(&epoch).await), CommitDecision::Moved { partitions: [partition(number)].into() });
}

/// The commit of a runner that slept before its check, was replaced, and wakes when its slot is deleted: the record, and
/// what reopening the log says about it.
async fn slept_and_replaced() -> (Commit, Option<Won>, Fold) {
    let memory = MemoryStore::new();
    let (mut zero, mut one) = two_ordinals(&memory).await;
    let owned = |runner: &Runner| (0..4).find(|number| runner.owned().contains(&reads(*number))).unwrap();
    let epoch = one.epoch(owned(&one), 10);
    one.store.set_faults(Faults::script([Fault::None].into_iter().chain([Fault::NotSent; 4])));
    assert!(one.try_commit(&epoch).await.unwrap_err().is_transient());
    let mut replacement = Runner::open(&memory, 3).await;
    replacement.ordinal = Ordinal(1);
    replacement.parallelism = 2;
    won(replacement.begin().await);
    zero.catch_up().await;
    for _ in 0..20 {
        let mut commit = zero.epoch(owned(&zero), 1);
        commit.published = decided_by(&zero);
        won(zero.commit(&commit).await);
        let _ = zero.log.maintain().await.unwrap();
    }
    assert_eq!(one.commit(&epoch).await, Appended::Void);
    let earlier = one.log.reopen().await.unwrap();
    (epoch, earlier, one.log.fold().clone())
}

fn decided_by(runner: &Runner) -> Vec<Note> {
    let pending = runner.log.fold().pending().iter();
    let own = pending.filter(|(_, outputs)| outputs.values().all(|pending| pending.incarnation == runner.incarnation));
    own.map(|(seq, _)| Note { seq: *seq, output: orders() }).collect()
}

#[tokio::test]
async fn a_superseded_writer_whose_void_win_waits_to_be_published_learns_that_it_was_decided() {
    let (epoch, earlier, fold) = slept_and_replaced().await;
    let staged = epoch.intents[&orders()].staged().next().unwrap();
    assert!(fold.refers_to(staged), "whoever sweeps up will look for it");
    assert_eq!(earlier.expect("or its author deletes what it staged").commit().unwrap().ranges, epoch.ranges);
}

#[test]
fn without_looking_for_what_is_needed_it_would_take_its_record_for_undecided() {
    let (epoch, earlier, fold) =
        without(Some(Safeguard::NeededIsDecided), || block_on(async { slept_and_replaced().await }));
    assert_eq!(earlier, None);
    assert!(fold.refers_to(epoch.intents[&orders()].staged().next().unwrap()));
}

/// A commit whose outcome is unknown and that was decided, while its slot is deleted and taken again by a hold that came
/// late: where the commit landed, and what reopening the log says about it.
async fn decided_and_taken_again() -> (Seq, Option<Won>) {
    let memory = MemoryStore::new();
    let (mut zero, mut one) = two_ordinals(&memory).await;
    let owned = |runner: &Runner| (0..4).find(|number| runner.owned().contains(&reads(*number))).unwrap();
    let epoch = one.epoch(owned(&one), 10);
    one.store.set_faults(Faults::script([Fault::LostReply].into_iter().chain([Fault::NotSent; 4])));
    assert!(one.try_commit(&epoch).await.unwrap_err().is_transient());
    let landed = one.log.fold().next();
    let late = one.log.view().propose(Body::Hold(Hold { reason: "late".into() }));
    let late = late.into_slot(incarnation(9), Attempt(1), Millis(0)).encode("late").unwrap();
    zero.catch_up().await;
    for _ in 0..20 {
        let mut commit = zero.epoch(owned(&zero), 1);
        commit.published = decided_by(&zero);
        won(zero.commit(&commit).await);
        let _ = zero.log.maintain().await.unwrap();
    }
    assert!(!memory.objects().contains_key(&paths::slot(landed)));
    put(&memory, &paths::slot(landed), late).await;
    match one.commit(&epoch).await {
        Appended::Void => (landed, one.log.reopen().await.unwrap()),
        _ => (landed, None),
    }
}

#[tokio::test]
async fn anothers_record_in_a_slot_of_unknown_outcome_may_be_litter_over_a_decided_one() {
    let (landed, earlier) = decided_and_taken_again().await;
    assert_eq!(earlier.expect("or its author takes a decided record for lost").seq(), landed);
}

#[test]
fn without_checking_the_slot_it_would_give_a_decided_record_up() {
    let removed = Some(Safeguard::CheckWhenBeaten);
    let (_, earlier) = without(removed, || block_on(decided_and_taken_again()));
    assert_eq!(earlier, None);
}

#[tokio::test]
async fn slots_are_deleted_only_after_their_seal_is_acknowledged_and_in_ascending_order() {
    let mut sweep = Sweep::new(Seq(4), Seq(12), &SMALL);
    let mut steps = Vec::new();
    loop {
        let step = sweep.action(&SMALL);
        steps.push(step.clone());
        if let SweepAction::Done(_) = step {
            break;
        }
        sweep.acknowledged();
    }
    let (one, two) = (Segment(1), Segment(2));
    use SweepAction::*;
    assert_eq!(steps, [Seal(one), Delete(one), Seal(two), Delete(two), Done(Seq(12))]);
}

#[tokio::test]
async fn a_collection_interrupted_anywhere_is_finished_later() {
    for seed in 0..60 {
        let memory = MemoryStore::new();
        let mut runner = Runner::begun(&memory, 1).await;
        for round in 0..40 {
            let mut epoch = runner.epoch(0, 1);
            epoch.published =
                runner.log.fold().pending().keys().map(|seq| Note { seq: *seq, output: orders() }).collect();
            won(runner.commit(&epoch).await);
            runner.store.set_faults(Faults::seeded(seed * 100 + round, 200));
            match runner.log.maintain().await {
                Ok(Maintained::Done { .. }) | Err(_) => {}
                Ok(other) => assert!(matches!(other, Maintained::Earlier(_)), "{other:?}"),
            }
            runner.store.set_faults(Faults::script([]));
            while runner.log.in_flight() {
                let _ = runner.log.catch_up().await.unwrap();
            }
        }
        runner.store.deliver_delayed().await;
        let newcomer = Runner::open(&memory, 2).await;
        assert_eq!(newcomer.log.fold(), runner.log.fold(), "seed {seed}");
        assert_eq!(newcomer.log.fold().totals().rows_in, 40, "seed {seed}");
    }
}

#[tokio::test]
async fn a_snapshot_deleted_between_list_and_read_is_no_obstacle() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    run_to(&mut runner, 20).await;
    let late = Runner::open(&memory, 2).await;
    assert_eq!(late.log.fold(), runner.log.fold());
    let mut sleeper = Runner::open(&memory, 3).await;
    run_to(&mut runner, 60).await;
    assert_eq!(sleeper.log.catch_up().await.unwrap(), CaughtUp::Tail { read: 0 }, "deleted slots look like the end");
    let decision = sleeper.begin().await;
    assert_eq!(decision, Appended::Void, "and what is written there is void");
    sleeper.log.reopen().await.unwrap();
    assert_eq!(sleeper.log.fold(), runner.log.fold());
}

#[tokio::test]
async fn a_staged_name_is_dead_once_its_claim_is_and_nothing_refers_to_it() {
    let memory = MemoryStore::new();
    let mut first = Runner::begun(&memory, 1).await;
    let unused = first.staged_name().to_string();
    let epoch = first.epoch(0, 10);
    let pending = epoch.intents[&orders()].staged().next().unwrap().to_owned();
    let seq = won(first.commit(&epoch).await).seq();
    assert!(!is_dead(&unused, first.log.fold()), "its claim is live: an open epoch may still bring it");
    let mut second = Runner::begun(&memory, 2).await;
    assert!(is_dead(&unused, second.log.fold()));
    assert!(!is_dead(&pending, second.log.fold()), "it is to be published yet");
    won(second.note(&[Note { seq, output: orders() }]).await);
    assert!(is_dead(&pending, second.log.fold()));
    let future = StagedName { claim: Seq(999), incarnation: incarnation(9), label: "1".into() };
    assert!(!is_dead(&future.to_string(), second.log.fold()), "this fold cannot know");
    assert!(!is_dead("part-0001.parquet", second.log.fold()), "not a name of ours");
}

#[tokio::test]
async fn only_the_collector_truncates() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    let mut other = Runner::open(&memory, 2).await;
    assert_eq!(other.log.maintain().await.unwrap(), Maintained::NotCollector);
    run_to(&mut runner, 12).await;
    assert!(runner.log.fold().truncated_below() > Seq(0));
    assert!(crate::gc::truncate(&other.log.view(), Seq(100), Seq(0), &SMALL).is_none());
}
