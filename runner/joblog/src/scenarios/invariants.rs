//! Each invariant, broken by a record that a faulty writer could write, is refused where it is read and where it is written.

use super::*;
use crate::fold::Breach;
use crate::safeguard::{Safeguard, without};

/// A log with one runner, two commits and something pending on both outputs.
async fn world() -> (Fold, Runner) {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    for _ in 0..2 {
        let mut epoch = runner.epoch(0, 10);
        epoch.intents.insert(screen(), runner.rows_to_show());
        won(runner.commit(&epoch).await);
    }
    (fold_all(&memory).unwrap(), runner)
}

fn entry(runner: &Runner, body: Body) -> Entry {
    let seat = runner.log.view().seat.unwrap();
    let writer = Writer {
        incarnation: runner.incarnation,
        attempt: Attempt(100),
        ordinal: Some(seat.ordinal),
        rank: Some(seat.rank),
    };
    Entry { writer, generation: Some(Generation(1)), at: Millis(0), body }
}

fn breach(fold: &Fold, entries: Vec<Entry>) -> Option<Breach> {
    fold.with(fold.next(), &Slot::new(entries)).err().map(|violation| violation.breach)
}

fn commit_body(commit: Commit) -> Body {
    Body::Commit(Box::new(commit))
}

#[tokio::test]
async fn a_sound_record_is_accepted() {
    let (fold, mut runner) = world().await;
    let epoch = runner.epoch(0, 5);
    assert_eq!(breach(&fold, vec![entry(&runner, commit_body(epoch))]), None);
}

#[tokio::test]
async fn invariant_1_a_commit_continues_where_the_partition_stands() {
    let (fold, mut runner) = world().await;
    for (from, to) in [(19, 25), (21, 25), (0, 25)] {
        let mut epoch = runner.epoch(0, 5);
        epoch.ranges.insert(partition(0), Range::new(from, to));
        let found = breach(&fold, vec![entry(&runner, commit_body(epoch))]);
        assert!(matches!(found, Some(Breach::BrokenChain { .. })), "{found:?}");
    }
    for (from, to) in [(20, 20), (20, 19)] {
        let mut epoch = runner.epoch(0, 5);
        epoch.ranges.insert(partition(0), Range::new(from, to));
        let found = breach(&fold, vec![entry(&runner, commit_body(epoch))]);
        assert!(matches!(found, Some(Breach::EmptyRange { .. })), "{found:?}");
    }
    // A recorded loss is the one way over a gap, and it must begin where the partition stands.
    let loss = |expected| DataLoss {
        partition: partition(0),
        expected: Offset(expected),
        resumed: Offset(50),
        topic_id: None,
        reason: "retention".into(),
    };
    let mut epoch = runner.epoch(0, 5);
    epoch.ranges.insert(partition(0), Range::new(50, 55));
    epoch.data_loss = vec![loss(20)];
    assert_eq!(breach(&fold, vec![entry(&runner, commit_body(epoch.clone()))]), None);
    epoch.data_loss = vec![loss(21)];
    assert!(matches!(breach(&fold, vec![entry(&runner, commit_body(epoch))]), Some(Breach::BrokenChain { .. })));
}

#[tokio::test]
async fn invariant_1_watermarks_continue_and_never_go_back() {
    let (fold, mut runner) = world().await;
    let moved = |before: Option<i64>, after: i64| PartitionWatermark {
        before: before.map(Millis),
        after: Some(Millis(after)),
        was_idle: false,
        idle: false,
    };
    let mut epoch = runner.epoch(0, 5);
    epoch.watermarks.insert(partition(0), moved(None, 7));
    let fold = fold.with(fold.next(), &Slot::new(vec![entry(&runner, commit_body(epoch))])).unwrap();
    for (before, after) in [(None, 8), (Some(6), 8), (Some(7), 6)] {
        let mut record = entry(
            &runner,
            commit_body(Commit { watermarks: [(partition(0), moved(before, after))].into(), ..Commit::default() }),
        );
        record.writer.attempt = Attempt(101);
        assert!(matches!(breach(&fold, vec![record]), Some(Breach::WatermarkBroken { .. })));
    }
}

#[tokio::test]
async fn invariant_2_only_the_owner_in_the_current_term_advances_a_task() {
    let (fold, mut runner) = world().await;
    let epoch = runner.epoch(0, 5);
    let sound = entry(&runner, commit_body(epoch));
    let mut stranger = sound.clone();
    stranger.writer.incarnation = incarnation(9);
    assert!(matches!(breach(&fold, vec![stranger]), Some(Breach::NoStanding { .. })));
    let mut command = sound.clone();
    command.writer.ordinal = None;
    assert!(matches!(breach(&fold, vec![command]), Some(Breach::NoStanding { .. })));
    let mut stale = sound.clone();
    stale.generation = Some(Generation(0));
    assert!(matches!(breach(&fold, vec![stale]), Some(Breach::StaleTerm { .. })));

    // A term of another revision: the commit says the right number, but its owner runs the wrong revision.
    let term = Term {
        generation: Generation(2),
        revision: "r2".into(),
        parallelism: Parallelism::ONE,
        outputs: BTreeMap::new(),
    };
    let mut new_term = entry(&runner, Body::Term(term));
    new_term.generation = Some(Generation(2));
    let mut disguised = sound.clone();
    disguised.generation = Some(Generation(2));
    assert!(matches!(breach(&fold, vec![new_term.clone(), disguised]), Some(Breach::StaleRevision { .. })));

    // A rescale: what moved away may be committed once more, if it is released with that.
    let Body::Term(term) = &mut new_term.body else { panic!() };
    term.revision = "r1".into();
    term.parallelism = Parallelism::new(2).unwrap();
    let moved = (0..4).find(|n| crate::owner(&reads(*n), Parallelism::new(2).unwrap()) == Ordinal(1)).unwrap();
    let mut epoch = Commit { ranges: [(partition(moved), Range::new(20, 25))].into(), ..Commit::default() };
    if moved != 0 {
        epoch.ranges = [(partition(moved), Range::new(0, 25))].into();
    }
    let mut last = entry(&runner, commit_body(epoch.clone()));
    last.generation = Some(Generation(2));
    assert!(matches!(breach(&fold, vec![new_term.clone(), last.clone()]), Some(Breach::NotReleased { .. })));
    epoch.released = vec![reads(moved)];
    last.body = commit_body(epoch);
    assert_eq!(breach(&fold, vec![new_term.clone(), last.clone()]), None);
    assert!(matches!(breach(&fold, vec![new_term, last.clone(), last]), Some(Breach::NotOwned { .. })));
}

#[tokio::test]
async fn invariant_2_whatever_moves_a_task_on_that_the_term_gave_to_others_releases_it() {
    let (fold, mut runner) = world().await;
    let parallelism = Parallelism::new(2).unwrap();
    let term = Term { generation: Generation(2), revision: "r1".into(), parallelism, outputs: BTreeMap::new() };
    let mut new_term = entry(&runner, Body::Term(term));
    new_term.generation = Some(Generation(2));
    let moved = (1..4).find(|n| crate::owner(&reads(*n), parallelism) == Ordinal(1)).unwrap();
    let loss = DataLoss {
        partition: partition(moved),
        expected: Offset(0),
        resumed: Offset(5),
        topic_id: None,
        reason: "retention".into(),
    };
    let watermark = PartitionWatermark { before: None, after: Some(Millis(7)), was_idle: false, idle: false };
    let key = crate::paths::state(&runner.staged_name().to_string());
    let epochs = [
        Commit { data_loss: vec![loss], ..Commit::default() },
        Commit { watermarks: [(partition(moved), watermark)].into(), ..Commit::default() },
        Commit { state: vec![StateRef { task: reads(moved), key, bytes: 1, base: true }], ..Commit::default() },
    ];
    for mut epoch in epochs {
        let mut record = entry(&runner, commit_body(epoch.clone()));
        record.generation = Some(Generation(2));
        let found = breach(&fold, vec![new_term.clone(), record.clone()]);
        assert!(matches!(found, Some(Breach::NotReleased { .. })), "{found:?}");
        let records = vec![new_term.clone(), record.clone()];
        assert_eq!(without(Some(Safeguard::ReleasedWithIt), || breach(&fold, records)), None);
        epoch.released = vec![reads(moved)];
        record.body = commit_body(epoch);
        assert_eq!(breach(&fold, vec![new_term.clone(), record]), None);
    }
}

#[tokio::test]
async fn invariant_2_claims_keep_to_rank_division_and_start() {
    let (fold, runner) = world().await;
    let rank = runner.log.view().seat.unwrap().rank;
    let claim = Claim {
        ordinal: Ordinal(0),
        rank: Rank { pod: rank.pod + 1, ..rank },
        revision: "r1".into(),
        tasks: vec![reads(0)],
        first: BTreeMap::new(),
        renews: None,
    };
    let check = |change: &dyn Fn(&mut Claim)| {
        let mut claim = claim.clone();
        change(&mut claim);
        let mut record = entry(&runner, Body::Claim(claim));
        record.writer.incarnation = incarnation(9);
        breach(&fold, vec![record])
    };
    assert_eq!(check(&|_| {}), None);
    assert!(matches!(check(&|c| c.rank.pod = 0), Some(Breach::RankTooLow { .. })));
    assert!(matches!(check(&|c| c.rank.home = Seq(1)), Some(Breach::RankTooLow { .. })));
    assert!(matches!(check(&|c| c.ordinal = Ordinal(1)), Some(Breach::NoSuchOrdinal { .. })));
    assert!(matches!(check(&|c| c.revision = "r0".into()), Some(Breach::StaleRevision { .. })));
    assert!(matches!(check(&|c| c.renews = Some(Seq(0))), Some(Breach::ClaimedBack { .. })));
    assert!(matches!(check(&|c| c.tasks = vec![reads(77)]), Some(Breach::NoStart { .. })));
    let first = FirstClaim { start: Offset(5), topic_id: None };
    assert!(matches!(check(&|c| c.first = [(partition(0), first.clone())].into()), Some(Breach::StartedTwice { .. })));
}

#[tokio::test]
async fn invariant_3_slots_have_no_gaps_and_no_attempt_is_decided_twice() {
    let (fold, mut runner) = world().await;
    let epoch = runner.epoch(0, 5);
    let record = Slot::new(vec![entry(&runner, commit_body(epoch))]);
    for seq in [fold.next().next(), Seq(0)] {
        assert!(matches!(fold.with(seq, &record).unwrap_err().breach, Breach::Gap { .. }));
    }
    assert!(matches!(breach(&fold, Vec::new()), Some(Breach::Empty)));
    let decided = fold.with(fold.next(), &record).unwrap();
    let Entry { writer, generation, at, .. } = record.entries[0].clone();
    let again = Entry { writer, generation, at, body: Body::Published(Published { notes: Vec::new() }) };
    assert!(matches!(breach(&decided, vec![again]), Some(Breach::AttemptTwice { .. })));
    let init = Init { job: JobUid(incarnation(1).0), home: home(), location: String::new(), segment_slots: 4 };
    assert!(matches!(breach(&fold, vec![entry(&runner, Body::Init(init))]), Some(Breach::InitElsewhere)));
    assert!(matches!(
        breach(&Fold::empty(), vec![entry(&runner, Body::Release(Release {}))]),
        Some(Breach::InitElsewhere)
    ));
}

#[tokio::test]
async fn invariant_5_notes_keep_to_order_and_to_their_publisher() {
    let (fold, runner) = world().await;
    let note =
        |seq: u64, output: OutputName| Body::Published(Published { notes: vec![Note { seq: Seq(seq), output }] });
    assert_eq!(breach(&fold, vec![entry(&runner, note(1, screen()))]), None);
    assert_eq!(breach(&fold, vec![entry(&runner, note(2, orders()))]), None);
    assert!(matches!(breach(&fold, vec![entry(&runner, note(2, screen()))]), Some(Breach::PublishOrder { .. })));
    assert!(matches!(breach(&fold, vec![entry(&runner, note(7, orders()))]), Some(Breach::NothingPending { .. })));
    let mut stranger = entry(&runner, note(1, orders()));
    stranger.writer.incarnation = incarnation(9);
    assert!(matches!(breach(&fold, vec![stranger]), Some(Breach::NotPublisher { .. })));
}

#[tokio::test]
async fn records_of_a_bounded_read_and_of_commands_keep_their_rules() {
    let (fold, runner) = world().await;
    let check = |body: Body| breach(&fold, vec![entry(&runner, body)]);
    assert!(matches!(check(Body::Complete(Complete {})), Some(Breach::NotComplete { .. })));
    assert!(matches!(check(Body::Release(Release {})), Some(Breach::NotHeld)));
    let edit = |to, outputs| {
        let shift = Shift { from: Offset(20), to: Offset(to) };
        Body::Edit(Edit { offsets: [(partition(0), shift)].into(), outputs })
    };
    assert!(matches!(check(edit(40, BTreeMap::new())), Some(Breach::NotHolder { .. })));
    let truncate = Truncate { below: Seq(99), collected: Seq(0) };
    assert!(matches!(check(Body::Truncate(truncate)), Some(Breach::TruncateRange)));
    let delete = Savepoint { name: "none".into(), action: SavepointAction::Delete };
    assert!(matches!(check(Body::Savepoint(delete)), Some(Breach::Savepoint { .. })));
    let hold = entry(&runner, Body::Hold(Hold { reason: "test".into() }));
    let rewind =
        |positions| Rewind { target: RewindTarget::Seq(Seq(0)), positions, outputs: BTreeMap::new(), start: None };
    let undrained = entry(&runner, Body::Rewind(rewind(BTreeMap::new())));
    assert!(matches!(breach(&fold, vec![hold.clone(), undrained]), Some(Breach::NotDrained { .. })));
    let policies: BTreeMap<_, _> = [(orders(), EditPolicy::Duplicate), (screen(), EditPolicy::Duplicate)].into();
    let one: BTreeMap<_, _> = [(orders(), EditPolicy::Duplicate)].into();
    let notes = |seq| [orders(), screen()].map(|output| Note { seq: Seq(seq), output });
    let drained = Body::Published(Published { notes: [notes(1), notes(2)].concat() });
    let edited = |to, outputs| {
        breach(&fold, vec![hold.clone(), entry(&runner, drained.clone()), entry(&runner, edit(to, outputs))])
    };
    assert_eq!(edited(40, BTreeMap::new()), None);
    assert_eq!(edited(5, policies.clone()), None);
    for (to, outputs) in [(5, BTreeMap::new()), (5, one), (40, policies)] {
        assert_eq!(edited(to, outputs), Some(Breach::EditPolicies));
    }
    let ends = Plan { ends: [(partition(0), Offset(1))].into() };
    let plan = entry(&runner, Body::Plan(ends));
    assert!(matches!(breach(&fold, vec![plan.clone(), plan]), Some(Breach::PlannedTwice)));
    let adopt =
        Adopt { job: fold.home().unwrap().job, home: home(), location: "x".into(), reason: AdoptReason::Recreated };
    assert!(matches!(check(Body::Adopt(adopt.clone())), Some(Breach::AdoptReason)));
    let other = Adopt { home: Home { kubernetes_uid: Some("uid-2".into()), ..home() }, ..adopt.clone() };
    let records = vec![entry(&runner, Body::Adopt(other)), entry(&runner, Body::Adopt(adopt))];
    assert!(matches!(breach(&fold, records), Some(Breach::HomeReturned { .. })));
}

#[tokio::test]
async fn a_record_that_breaks_an_invariant_is_never_sent() {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    let before = memory.objects();
    let appended: Result<Appended<()>, _> = runner
        .log
        .append(|view| {
            let epoch = Commit { ranges: [(partition(0), Range::new(3, 4))].into(), ..Commit::default() };
            Compose::Propose(view.propose(commit_body(epoch)))
        })
        .await;
    let error = appended.unwrap_err();
    assert!(matches!(error, LogError::Proposed(_)), "{error}");
    assert!(error.to_string().contains("commandes/0"), "{error}");
    assert_eq!(memory.objects(), before);
    assert!(!runner.log.in_flight());
}
