//! The format, pinned: what version 1 wrote is read for ever (`golden` shows that it is what this version writes).

use super::*;
use crate::snapshot::Snapshot;

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
