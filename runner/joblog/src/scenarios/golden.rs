//! A history that holds every kind of record, and the fixtures made from it.
//!
//! Run with `MILLRACE_BLESS=1` to write the fixtures anew. Once format 1 was released that is only right for the part of a
//! change that older versions read as before.

use super::*;
use crate::decide::*;
use crate::history::Past;
use crate::snapshot::Snapshot;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");

#[tokio::test]
async fn this_version_writes_the_pinned_log_snapshot_and_division() {
    let memory = every_kind().await;
    let slots: Vec<Slot> = slots(&memory).into_iter().map(|(_, slot)| slot).collect();
    let snapshot = Snapshot::of(&fold_all(&memory).unwrap()).unwrap();
    let fixtures = [
        ("format-1/slots.json", serde_json::to_value(slots).unwrap()),
        ("format-1/snapshot.json", serde_json::to_value(snapshot).unwrap()),
        ("division.json", division()),
    ];
    for (name, value) in fixtures {
        let path = format!("{FOLDER}/{name}");
        if std::env::var_os("MILLRACE_BLESS").is_some() {
            std::fs::write(&path, serde_json::to_string_pretty(&value).unwrap() + "\n").unwrap();
        }
        let pinned: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(value, pinned, "{name}");
    }
}

fn division() -> serde_json::Value {
    let metrics = Task::Partition(Partition::new("metrics", "metrics", 0));
    let publishers = [Task::Publisher(orders()), Task::Publisher("totals".into())];
    let others = [metrics, Task::Bucket(0), Task::Bucket(255), Task::Collector];
    let tasks: Vec<Task> = (0..6).map(reads).chain(publishers).chain(others).collect();
    let place = |runners: u32| {
        let parallelism = Parallelism::new(runners).unwrap();
        tasks.iter().map(|task| (task.clone(), crate::owner(task, parallelism))).collect::<BTreeMap<_, _>>()
    };
    let placed: BTreeMap<u32, _> = [1, 2, 3, 5, 64].into_iter().map(|runners| (runners, place(runners))).collect();
    serde_json::to_value(placed).unwrap()
}

/// One runner's bounded read, a rewind and an edit by a command, then a recreated job that truncates and rescales twice.
async fn every_kind() -> MemoryStore {
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    bounded_read(&mut runner).await;
    let names = ["before-fix", "gone"].map(|name| move |view: &View<'_>| savepoint(view, name));
    for decide in names {
        propose(&mut runner, |view| match decide(view) {
            SavepointDecision::Propose(proposal) => Some(proposal),
            _ => None,
        })
        .await;
    }
    propose(&mut runner, |view| match delete_savepoint(view, "gone") {
        SavepointDecision::Propose(proposal) => Some(proposal),
        _ => None,
    })
    .await;
    let mut epoch = runner.epoch(0, 5);
    let (before, after) = (Some(Millis(1_767_225_600_000)), Some(Millis(1_767_225_660_000)));
    epoch.watermarks.insert(partition(0), PartitionWatermark { before, after, was_idle: true, idle: false });
    won(runner.commit(&epoch).await);
    let Intents::Console { blob } = runner.rows_to_show() else { panic!("a blob is shown") };
    let kinds =
        [Intents::Console { blob: blob.clone() }, Intents::Kafka { blob: blob.clone() }, Intents::Delta { blob }];
    for intents in kinds {
        won(runner.commit(&Commit { intents: [(screen(), intents)].into(), ..Commit::default() }).await);
    }
    let mut command = Runner::open(&memory, 2).await;
    commands(&mut command).await;

    let mut recreated = Runner::open(&memory, 3).await;
    recreated.home.kubernetes_uid = Some("uid-2".into());
    recreated.pod = Some(0);
    recreated.outputs.insert(orders(), "s3://lake/orders-again".into());
    won(recreated.begin().await);
    propose(&mut recreated, |view| crate::gc::truncate(view, Seq(8), Seq(0), &SMALL)).await;
    recreated.parallelism = 2;
    won(recreated.new_term().await);
    let kept = (0..4).find(|n| crate::owner(&reads(*n), Parallelism::new(2).unwrap()) == Ordinal(0)).unwrap();
    recreated.committed(kept, 1).await;
    recreated.parallelism = 1;
    won(recreated.new_term().await);
    won(recreated.claim(false).await);
    memory
}

async fn bounded_read(runner: &mut Runner) {
    let revision = runner.revision.clone();
    let ends = BTreeMap::from([(partition(0), Offset(10))]);
    propose(runner, |view| match plan(view, &revision, &ends, false) {
        PlanDecision::Propose(proposal) => Some(proposal),
        _ => None,
    })
    .await;
    let epoch = full_epoch(runner);
    let seq = won(runner.commit(&epoch).await).seq();
    won(runner.note(&[Note { seq, output: orders() }]).await);
    propose(runner, |view| match complete(view, &revision) {
        CompleteDecision::Propose(proposal) => Some(proposal),
        _ => None,
    })
    .await;
    let ends = BTreeMap::from([(partition(0), Offset(15))]);
    propose(runner, |view| match plan(view, &revision, &ends, true) {
        PlanDecision::Propose(proposal) => Some(proposal),
        _ => None,
    })
    .await;
}

/// A commit with every field.
fn full_epoch(runner: &mut Runner) -> Commit {
    let mut epoch = runner.epoch(0, 10);
    let after = Some(Millis(1_767_225_600_000));
    epoch.watermarks.insert(partition(0), PartitionWatermark { before: None, after, was_idle: false, idle: true });
    epoch.batch_time = Some(Millis(1_767_225_601_000));
    epoch.plan_hash = Some("plan-1".into());
    epoch.static_tables.insert("customers".into(), "etag-1".into());
    let name = runner.staged_name().to_string();
    epoch.state = vec![StateRef { task: reads(0), key: crate::paths::state(&name), bytes: 99, base: true }];
    epoch.data_loss = vec![DataLoss {
        partition: partition(1),
        expected: Offset(0),
        resumed: Offset(40),
        topic_id: Some("topic-2".into()),
        reason: "offsets 0 to 40 were deleted by retention".into(),
    }];
    epoch.counters = Counters { rows_in: 10, rows_bad: 1, rows_out: [(orders(), 9)].into() };
    let Some(Intents::Parquet { files }) = epoch.intents.get_mut(&orders()) else { panic!("a file is staged") };
    files[0].etag = Some("\"0f\"".into());
    epoch
}

async fn commands(command: &mut Runner) {
    let held = |view: &View<'_>| match hold(view, "ops", false) {
        HoldDecision::Propose(proposal) => Some(proposal),
        _ => None,
    };
    propose(command, held).await;
    let first = command.log.fold().first_pending(&screen()).unwrap();
    propose(command, |view| match skip_publish(view, &screen(), first, "file:///tmp/rows.json") {
        SkipDecision::Propose(proposal) => Some(proposal),
        _ => None,
    })
    .await;
    let notes: Vec<Note> = {
        let work = command.log.fold().work_of(command.incarnation);
        work.map(|(seq, output, _)| Note { seq, output: output.clone() }).collect()
    };
    won(command.note(&notes).await);
    let target = RewindTarget::Savepoint("before-fix".into());
    let records = command.log.records(Seq(0)).await.unwrap();
    let past = Past::read(command.log.fold(), &target, &records).unwrap();
    let policies = [(orders(), Policy::Retract), (screen(), Policy::Duplicate)].into();
    let point = StartPoint { savepoint: "before-fix".into(), nonce: Some(7) };
    let start = WantedStart { start: StartFrom { point, revision: Revision("fixed".into()) }, generation: None };
    let request = RewindRequest { target, past, policies, start: Some(start) };
    let rewound = propose(command, |view| match rewind(view, &request) {
        RewindDecision::Propose(proposal) => Some(proposal),
        _ => None,
    })
    .await;
    propose(command, |view| retracted(view, &[Note { seq: rewound, output: orders() }])).await;
    propose(command, held).await;
    let offsets = [(partition(1), Offset(30)), (partition(2), Offset(7))].into();
    let policies = [(orders(), Policy::NewPath), (screen(), Policy::Duplicate)].into();
    propose(command, |view| match edit(view, &offsets, &policies) {
        EditDecision::Propose(proposal) => Some(proposal),
        _ => None,
    })
    .await;
}

async fn propose(runner: &mut Runner, mut decide: impl FnMut(&View<'_>) -> Option<Proposal>) -> Seq {
    won(runner.append(|view| decide(view).map_or(Ok(()), Err)).await).seq()
}
