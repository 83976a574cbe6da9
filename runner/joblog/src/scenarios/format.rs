//! The format, pinned: what version 1 wrote is read for ever (`golden` shows that it is what this version writes).
//!
//! A change that these tests notice is a new format: raise `FORMAT`, keep reading this one, and pin the new one beside it.

use super::*;
use crate::limits::FORMAT;
use crate::paths;
use crate::snapshot::Snapshot;
use crate::task::Task;

const SLOTS: &str = include_str!("../../fixtures/format-1/slots.json");
const SNAPSHOT: &str = include_str!("../../fixtures/format-1/snapshot.json");

/// The fixture: a list of slots that exercises every kind of record.
fn pinned() -> Vec<Slot> {
    let slots: Vec<serde_json::Value> = serde_json::from_str(SLOTS).unwrap();
    slots.iter().map(|slot| Slot::decode("fixture", slot.to_string().as_bytes()).unwrap()).collect()
}

#[test]
fn the_log_of_format_1_is_read_and_folds_to_its_snapshot() {
    let mut fold = Fold::empty();
    for (seq, slot) in pinned().iter().enumerate() {
        fold.apply(Seq(seq as u64), slot).unwrap();
    }
    let through = fold.next().previous().unwrap();
    let snapshot = Snapshot::decode(&crate::paths::snapshot(through), SNAPSHOT.as_bytes()).unwrap();
    assert_eq!(snapshot.into_fold(), fold);
}

#[test]
fn the_log_of_format_1_is_written_as_it_was() {
    let slots: Vec<serde_json::Value> = serde_json::from_str(SLOTS).unwrap();
    for (value, slot) in slots.iter().zip(pinned()) {
        let written: serde_json::Value = serde_json::from_slice(&slot.encode("fixture").unwrap()).unwrap();
        assert_eq!(written, *value);
    }
    let kinds: BTreeSet<String> = slots
        .iter()
        .flat_map(|slot| slot["entries"].as_array().unwrap())
        .flat_map(|entry| entry["body"].as_object().unwrap().keys().cloned())
        .collect();
    assert_eq!(kinds.len(), 16, "a kind of record is missing from the fixture: {kinds:?}");
}

#[test]
fn a_newer_format_is_refused_with_what_to_do() {
    let error = Slot::decode("log/7.json", br#"{"format": 2, "anything": []}"#).unwrap_err().to_string();
    assert_eq!(error, "log/7.json has format 2, this version reads up to 1: upgrade the runner");
}

#[tokio::test]
async fn a_log_that_a_newer_version_wrote_is_not_called_damaged() {
    let newer = r#"{"format":2,"segments":[],"entries":{"how":"different"}}"#;
    let memory = MemoryStore::new();
    let mut runner = Runner::begun(&memory, 1).await;
    put(&memory, &paths::slot(Seq(1)), newer).await;
    let epoch = runner.epoch(0, 1);
    let seen = [runner.log.catch_up().await.unwrap_err(), runner.try_commit(&epoch).await.unwrap_err()];
    put(&memory, &paths::snapshot(Seq(0)), newer).await;
    let clock = Arc::new(TestClock::default());
    let opened = JobLog::open(Arc::new(memory.clone()), clock, incarnation(2), SMALL).await.unwrap_err();
    for error in seen.into_iter().chain([opened]) {
        assert!(matches!(error, LogError::OtherVersion(_)), "{error}");
        assert!(error.to_string().contains("upgrade the runner"), "{error}");
    }
}

#[tokio::test]
async fn a_process_that_counts_other_segments_is_refused_also_by_a_snapshot() {
    let memory = MemoryStore::new();
    let other = Limits { segment_slots: 5, ..SMALL };
    let mut late = Runner::open_with(&memory, 3, Faults::script([]), other).await;
    let mut runner = Runner::begun(&memory, 1).await;
    let open = || JobLog::open(Arc::new(memory.clone()), Arc::new(TestClock::default()), incarnation(2), other);
    let first = open().await.unwrap_err();
    while runner.log.fold().next() < Seq(20) {
        let mut epoch = runner.epoch(0, 1);
        epoch.published = runner.log.fold().pending().keys().map(|seq| Note { seq: *seq, output: orders() }).collect();
        won(runner.commit(&epoch).await);
        let _ = runner.log.maintain().await.unwrap();
    }
    assert!(!memory.objects().contains_key(&paths::slot(Seq(0))));
    let later = open().await.unwrap_err();
    let reopened = match late.log.catch_up().await.unwrap() {
        CaughtUp::Tail { read: 0 } => late.log.reopen().await.unwrap_err(),
        other => panic!("slot 0 is deleted: {other:?}"),
    };
    for error in [first, later, reopened] {
        assert_eq!(
            error.to_string(),
            "the job log has 4 slots to a segment, this version 5: run the version that began it"
        );
    }
}

/// Names every field and variant of the format without `..`: whoever adds one, also an optional one, comes here and raises
/// [`FORMAT`].
fn nothing_was_added(slot: Slot) {
    let Slot { format: _, entries } = slot;
    for Entry { writer, generation: _, at: _, body } in entries {
        let Writer { incarnation: _, attempt: _, ordinal: _, rank } = writer;
        if let Some(Rank { home: _, pod: _ }) = rank {}
        let homed = |home| {
            let Home { place: _, kubernetes_uid: _ } = home;
        };
        match body {
            Body::Init(Init { job: _, home, location: _, segment_slots: _ }) => homed(home),
            Body::Adopt(Adopt { job: _, home, location: _, reason }) => {
                let (AdoptReason::Recreated | AdoptReason::TakenOver | AdoptReason::Forked) = reason;
                homed(home);
            }
            Body::Term(Term { generation: _, revision: _, parallelism: _, outputs: _ }) => {}
            Body::Claim(Claim { ordinal: _, rank: _, revision: _, tasks, first, renews: _ }) => {
                first.into_values().for_each(|FirstClaim { start: _, topic_id: _ }| ());
                for task in tasks {
                    match task {
                        Task::Partition(Partition { source: _, topic: _, partition: _ }) => {}
                        Task::Bucket(_) | Task::Publisher(_) | Task::Collector => {}
                    }
                }
            }
            Body::Commit(commit) => nothing_was_added_to_commits(*commit),
            Body::Published(Published { notes }) | Body::Retracted(Retracted { notes }) => {
                notes.into_iter().for_each(|Note { seq: _, output: _ }| ());
            }
            Body::Plan(Plan { ends: _ }) => {}
            Body::Complete(Complete {}) | Body::Release(Release {}) => {}
            Body::Hold(Hold { reason: _ }) => {}
            Body::Savepoint(Savepoint { name: _, action: SavepointAction::Create | SavepointAction::Delete }) => {}
            Body::Rewind(Rewind { target, positions, outputs, start }) => {
                for StartFrom { point: StartPoint { savepoint: _, nonce: _ }, revision: _ } in start.into_iter() {}
                let (RewindTarget::Seq(_) | RewindTarget::Savepoint(_)) = target;
                for Moved { from, to } in positions.into_values() {
                    for Position { offset: _, watermark: _, idle: _ } in [from, to] {}
                }
                for policy in outputs.into_values() {
                    match policy {
                        RewindPolicy::Retract { files } => {
                            files.into_iter().for_each(|PublishedFile { target: _, staged: _, bytes: _, etag: _ }| ());
                        }
                        RewindPolicy::NewPath | RewindPolicy::Duplicate => {}
                    }
                }
            }
            Body::Edit(Edit { offsets, outputs }) => {
                offsets.into_values().for_each(|Shift { from: _, to: _ }| ());
                outputs.into_values().for_each(|(EditPolicy::NewPath | EditPolicy::Duplicate)| ());
            }
            Body::SkipPublish(SkipPublish { output: _, seq: _, exported: _ }) => {}
            Body::Truncate(Truncate { below: _, collected: _ }) => {}
        }
    }
}

fn nothing_was_added_to_commits(commit: Commit) {
    let Commit {
        ranges,
        data_loss,
        watermarks,
        batch_time: _,
        plan_hash: _,
        static_tables: _,
        state,
        intents,
        published: _,
        released: _,
        counters: Counters { rows_in: _, rows_bad: _, rows_out: _ },
    } = commit;
    ranges.into_values().for_each(|Range { from: _, to: _ }| ());
    data_loss.into_iter().for_each(|DataLoss { partition: _, expected: _, resumed: _, topic_id: _, reason: _ }| ());
    watermarks.into_values().for_each(|PartitionWatermark { before: _, after: _, was_idle: _, idle: _ }| ());
    state.into_iter().for_each(|StateRef { task: _, key: _, bytes: _, base: _ }| ());
    for intents in intents.into_values() {
        match intents {
            Intents::Parquet { files } => {
                files.into_iter().for_each(|ParquetFile { staged: _, target: _, bytes: _, rows: _, etag: _ }| ());
            }
            Intents::Console { blob } | Intents::Kafka { blob } | Intents::Delta { blob } => {
                let Blob { staged: _, bytes: _, rows: _ } = blob;
            }
        }
    }
}

/// Every name that stands in the fixture: of fields, and of variants.
fn names(value: &serde_json::Value, found: &mut BTreeSet<String>) {
    let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphabetic());
    match value {
        serde_json::Value::Array(values) => values.iter().for_each(|value| names(value, found)),
        serde_json::Value::Object(fields) => {
            found.extend(fields.keys().filter(|name| plain(name)).cloned());
            fields.values().for_each(|value| names(value, found));
        }
        _ => {}
    }
}

#[test]
fn every_field_of_format_1_is_in_the_fixture_and_a_new_one_is_another_format() {
    assert_eq!(FORMAT, 1);
    pinned().into_iter().for_each(nothing_was_added);
    let mut found = BTreeSet::new();
    names(&serde_json::from_str(SLOTS).unwrap(), &mut found);
    let optional = [
        "kubernetesUid",
        "ordinal",
        "rank",
        "generation",
        "outputs",
        "first",
        "topicId",
        "renews",
        "ranges",
        "dataLoss",
        "watermarks",
        "before",
        "after",
        "wasIdle",
        "idle",
        "batchTime",
        "planHash",
        "staticTables",
        "state",
        "base",
        "intents",
        "etag",
        "published",
        "released",
        "counters",
        "rowsOut",
        "watermark",
    ];
    let missing: Vec<&str> = optional.into_iter().filter(|name| !found.contains(*name)).collect();
    assert_eq!(missing, [] as [&str; 0], "the history of the fixture has to hold every field once");
}

#[test]
fn variants_that_the_fixture_lacks_are_pinned_too() {
    let policies = [RewindPolicy::NewPath, RewindPolicy::Duplicate];
    assert_eq!(serde_json::to_string(&policies).unwrap(), r#"["newPath","duplicate"]"#);
    assert_eq!(serde_json::to_string(&RewindTarget::Seq(Seq(3))).unwrap(), r#"{"seq":3}"#);
    let reasons = [AdoptReason::Recreated, AdoptReason::TakenOver, AdoptReason::Forked];
    assert_eq!(serde_json::to_string(&reasons).unwrap(), r#"["recreated","takenOver","forked"]"#);
    assert_eq!(serde_json::to_string(&Task::Bucket(17)).unwrap(), r#""bucket:17""#);
}

#[test]
fn an_unknown_field_is_refused_wherever_it_stands() {
    let text = SLOTS.to_owned();
    let slots: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let mut places = 0;
    for slot in &slots {
        for (index, entry) in slot["entries"].as_array().unwrap().iter().enumerate() {
            let (kind, _) = entry["body"].as_object().unwrap().iter().next().unwrap();
            let mut changed = slot.clone();
            changed["entries"][index]["body"][kind]["surprise"] = true.into();
            let error = Slot::decode("fixture", changed.to_string().as_bytes()).unwrap_err().to_string();
            assert!(error.contains("surprise"), "{error}");
            places += 1;
        }
        for place in ["/surprise", "/entries/0/surprise", "/entries/0/writer/surprise"] {
            let mut changed = slot.clone();
            let (parent, name) = place.rsplit_once('/').unwrap();
            changed.pointer_mut(parent).unwrap()[name] = true.into();
            assert!(Slot::decode("fixture", changed.to_string().as_bytes()).is_err(), "{place}");
        }
    }
    assert!(places >= 16);
}

#[test]
fn a_record_that_is_too_large_is_not_written() {
    let mut slot = pinned().remove(0);
    let Body::Init(init) = &mut slot.entries[0].body else { panic!("slot 0 begins with an init") };
    init.location = "x".repeat(crate::limits::MAX_SLOT_BYTES);
    let error = slot.encode("log/0.json").unwrap_err().to_string();
    assert!(error.contains("maxRecords"), "{error}");
}

#[test]
fn a_snapshot_under_another_name_is_refused() {
    let error = Snapshot::decode(&crate::paths::snapshot(Seq(7)), SNAPSHOT.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("through"), "{error}");
}
