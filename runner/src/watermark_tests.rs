#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_crds::{EventTime as Settings, WatermarkPolicy};
use millrace_joblog::{Millis, Partition, SourceName};
use proptest::prelude::*;

use super::{EpochWatermarks, Seen, Watermarks, is_late};

const TIMEOUT: Duration = Duration::from_secs(60);

fn settings(policy: WatermarkPolicy) -> Settings {
    Settings {
        column: "at".to_owned(),
        watermark_delay: Duration::from_millis(10),
        idle_timeout: Some(TIMEOUT),
        policy,
    }
}

fn partition(source: &str, number: i32) -> Partition {
    Partition::new(source, "topic", number)
}

/// Sources by name and number of partitions, which have seen nothing.
fn watermarks(policy: WatermarkPolicy, sources: &[(&str, i32)]) -> Watermarks {
    let mut watermarks = Watermarks::new(None);
    for (name, partitions) in sources {
        watermarks.add_source(SourceName((*name).to_owned()), &settings(policy));
        (0..*partitions).for_each(|number| watermarks.add_partition(partition(name, number), None, false));
    }
    watermarks
}

fn row(at: i64) -> Seen {
    Seen { newest: Some(Millis(at)), ..Seen::default() }
}

fn silent(caught_up: bool) -> Seen {
    Seen { newest: None, caught_up, silent_for: TIMEOUT }
}

/// Runs one epoch and applies its record.
fn epoch(watermarks: &mut Watermarks, seen: &[(&str, i32, Seen)]) -> EpochWatermarks {
    let seen = seen.iter().map(|(source, number, seen)| (partition(source, *number), *seen)).collect();
    let epoch = watermarks.advance(&seen);
    assert_eq!(epoch.before, watermarks.job());
    watermarks.apply(&epoch.partitions);
    assert_eq!(epoch.after, watermarks.job());
    epoch
}

#[test]
fn the_job_waits_for_the_slowest_partition() {
    let mut w = watermarks(WatermarkPolicy::Min, &[("a", 2)]);
    assert_eq!(epoch(&mut w, &[("a", 0, row(100))]).after, None);
    assert_eq!(epoch(&mut w, &[("a", 1, row(50))]).after, Some(Millis(40)));
    let second = epoch(&mut w, &[("a", 0, row(500)), ("a", 1, row(70))]);
    assert_eq!((second.before, second.after), (Some(Millis(40)), Some(Millis(60))));
    assert_eq!(second.partitions[&partition("a", 1)].before, Some(Millis(40)));
}

#[test]
fn policy_max_follows_the_fastest_partition_as_spark_does() {
    let mut w = watermarks(WatermarkPolicy::Max, &[("a", 2)]);
    assert_eq!(epoch(&mut w, &[("a", 0, row(100))]).after, Some(Millis(90)));
    assert_eq!(epoch(&mut w, &[("a", 1, row(50))]).after, Some(Millis(90)));
}

#[test]
fn several_sources_give_the_lowest_of_theirs() {
    let mut w = watermarks(WatermarkPolicy::Max, &[("a", 1), ("b", 1)]);
    assert_eq!(epoch(&mut w, &[("a", 0, row(100))]).after, None);
    assert_eq!(epoch(&mut w, &[("b", 0, row(30))]).after, Some(Millis(20)));
}

#[test]
fn a_silent_partition_that_is_caught_up_holds_nothing_back() {
    let mut w = watermarks(WatermarkPolicy::Min, &[("a", 2)]);
    let first = epoch(&mut w, &[("a", 0, row(100)), ("a", 1, silent(true))]);
    assert_eq!(first.after, Some(Millis(90)));
    assert!(first.partitions[&partition("a", 1)].idle);
}

#[test]
fn a_silent_partition_that_lags_does_hold_back() {
    let mut w = watermarks(WatermarkPolicy::Min, &[("a", 2)]);
    assert_eq!(epoch(&mut w, &[("a", 0, row(100)), ("a", 1, silent(false))]).after, None);
}

#[test]
fn a_partition_that_wakes_up_with_older_rows_does_not_take_the_watermark_back() {
    let mut w = watermarks(WatermarkPolicy::Min, &[("a", 2)]);
    epoch(&mut w, &[("a", 0, row(100)), ("a", 1, silent(true))]);
    let woken = epoch(&mut w, &[("a", 1, row(30))]);
    assert_eq!(woken.after, Some(Millis(90)));
    assert!(woken.partitions[&partition("a", 1)].was_idle);
    assert!(is_late(Millis(30), woken.before));
    // From here on it is waited for.
    assert_eq!(epoch(&mut w, &[("a", 0, row(900))]).after, Some(Millis(90)));
    assert_eq!(epoch(&mut w, &[("a", 1, row(300))]).after, Some(Millis(290)));
}

#[test]
fn a_partition_that_appears_later_does_not_take_the_watermark_back() {
    let mut w = watermarks(WatermarkPolicy::Min, &[("a", 1)]);
    epoch(&mut w, &[("a", 0, row(100))]);
    w.add_partition(partition("a", 1), None, false);
    assert_eq!(epoch(&mut w, &[("a", 0, row(200))]).after, Some(Millis(90)));
}

#[test]
fn where_everything_is_idle_the_watermark_stays() {
    let mut w = watermarks(WatermarkPolicy::Min, &[("a", 2)]);
    epoch(&mut w, &[("a", 0, row(100)), ("a", 1, row(50))]);
    let idle = epoch(&mut w, &[("a", 0, silent(true)), ("a", 1, silent(true))]);
    assert_eq!(idle.after, Some(Millis(40)));
    assert_eq!(idle.partitions.len(), 2);
}

#[test]
fn a_source_that_is_wholly_idle_does_not_hold_back_the_others() {
    let mut w = watermarks(WatermarkPolicy::Min, &[("a", 1), ("b", 1)]);
    epoch(&mut w, &[("a", 0, row(100)), ("b", 0, row(20))]);
    assert_eq!(epoch(&mut w, &[("b", 0, silent(true))]).after, Some(Millis(90)));
}

#[test]
fn a_source_whose_partitions_are_unknown_holds_back() {
    let mut w = watermarks(WatermarkPolicy::Min, &[("a", 1), ("b", 0)]);
    assert_eq!(epoch(&mut w, &[("a", 0, row(100))]).after, None);
}

#[test]
fn an_epoch_that_moves_nothing_records_nothing() {
    let mut w = watermarks(WatermarkPolicy::Min, &[("a", 1)]);
    epoch(&mut w, &[("a", 0, row(100))]);
    let still = epoch(&mut w, &[("a", 0, row(90)), ("unknown", 0, row(1))]);
    assert_eq!(
        still,
        EpochWatermarks { before: Some(Millis(90)), after: Some(Millis(90)), partitions: BTreeMap::new() }
    );
}

#[test]
fn a_row_is_late_once_the_watermark_has_reached_the_end_of_its_last_window() {
    assert!(!is_late(Millis(100), None));
    assert!(!is_late(Millis(100), Some(Millis(99))));
    assert!(is_late(Millis(100), Some(Millis(100))));
}

fn seen() -> impl Strategy<Value = Seen> {
    (proptest::option::of(-1_000..1_000_i64), any::<bool>(), 0..120_u64).prop_map(|(newest, caught_up, silent)| Seen {
        newest: newest.map(Millis),
        caught_up,
        silent_for: Duration::from_secs(silent),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn watermarks_never_go_back_and_a_replay_of_the_records_gives_the_same(
        is_max in any::<bool>(),
        epochs in proptest::collection::vec(proptest::collection::btree_map((0..2_usize, 0..3_i32), seen(), 0..4), 0..20),
        resumed_at in 0..20_usize,
    ) {
        let policy = if is_max { WatermarkPolicy::Max } else { WatermarkPolicy::Min };
        let sources = ["a", "b"];
        let mut live = watermarks(policy, &[("a", 3), ("b", 3)]);
        let mut records = Vec::new();
        let mut at_resume = live.clone();
        for (number, epoch) in epochs.iter().enumerate() {
            if number == resumed_at {
                at_resume = live.clone();
            }
            let seen = epoch.iter().map(|((source, number), seen)| (partition(sources[*source], *number), *seen)).collect();
            let before = live.clone();
            let decided = live.advance(&seen);
            live.apply(&decided.partitions);
            prop_assert!(decided.before <= decided.after);
            for (partition, moved) in &decided.partitions {
                prop_assert!(moved.before <= moved.after);
                prop_assert_eq!(moved.before, before.of(partition));
            }
            records.push(decided);
        }
        // Resumed from the partitions as the log has them and the job's watermark.
        let mut resumed = Watermarks::new(at_resume.job());
        for name in sources {
            resumed.add_source(SourceName(name.to_owned()), &settings(policy));
            for number in 0..3 {
                let standing = at_resume.sources[&SourceName(name.to_owned())].partitions[&partition(name, number)];
                resumed.add_partition(partition(name, number), standing.watermark, standing.idle);
            }
        }
        let from = if resumed_at < records.len() { resumed_at } else { 0 };
        for record in &records[from..] {
            prop_assert_eq!(resumed.job(), record.before);
            resumed.apply(&record.partitions);
            prop_assert_eq!(resumed.job(), record.after);
        }
        prop_assert_eq!(resumed, live);
    }
}
