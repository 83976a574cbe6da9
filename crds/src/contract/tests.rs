//! The JSON of the contract is pinned: a change of these files is a change that older operators and runners must survive.

#![allow(clippy::unwrap_used)]

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;

fn offsets(partitions: &[(i32, i64)]) -> Offsets {
    Offsets::from([("orders".to_owned(), partitions.iter().copied().collect())])
}

fn progress() -> Progress {
    Progress {
        id: "5f2d2d0e-6f2b-4a52-9d2e-3c3b0c7f6a10".into(),
        run_id: "0b7f0f0a-58f7-4f0e-8a55-0c9f4a1d7e21".into(),
        name: Some("orders-to-lake".into()),
        timestamp: "2026-01-31T12:00:00.000Z".into(),
        batch_id: 42,
        batch_duration: 180,
        num_input_rows: 1000,
        input_rows_per_second: 100.0,
        processed_rows_per_second: 5555.5,
        duration_ms: [("addBatch".to_owned(), 120), ("triggerExecution".to_owned(), 180)].into(),
        event_time: EventTimeProgress { watermark: Some("2026-01-31T11:50:00.000Z".into()), ..Default::default() },
        state_operators: vec![StateOperatorProgress {
            operator_name: "aggregate".into(),
            num_rows_total: 7,
            ..Default::default()
        }],
        sources: vec![SourceProgress {
            description: "orders: Kafka[orders]".into(),
            start_offset: Some(offsets(&[(0, 10), (1, 20)])),
            end_offset: Some(offsets(&[(0, 510), (1, 520)])),
            latest_offset: Some(offsets(&[(0, 600), (1, 700)])),
            num_input_rows: 1000,
            input_rows_per_second: 100.0,
            processed_rows_per_second: 5555.5,
            metrics: [("maxOffsetsBehindLatest".to_owned(), "180".to_owned())].into(),
        }],
        sink: SinkProgress { description: "2 outputs".into(), num_output_rows: 1800 },
        outputs: vec![SinkProgress {
            description: "commandes: Parquet[s3://lake/orders]".into(),
            num_output_rows: 1000,
        }],
    }
}

fn status() -> RunnerStatus {
    RunnerStatus {
        version: "0.1.0".into(),
        job: "orders-to-lake".into(),
        incarnation: "0b7f0f0a-58f7-4f0e-8a55-0c9f4a1d7e21".into(),
        ordinal: 1,
        revision: "aa4da38374ac7b24".into(),
        generation: 3,
        phase: Phase::Running,
        degraded: Some(Degraded {
            class: Some(FailureClass::External),
            reason: "StoreUnreachable".into(),
            message: "s3://lake answers 503; retrying".into(),
            since: "2026-01-31T12:00:00.000Z".into(),
        }),
        last_commit: Some(CommitPoint { seq: 42, time: "2026-01-31T12:00:00.180Z".into() }),
        lag: [("orders".to_owned(), Lag { records: 270 })].into(),
        last_progress: Some(progress()),
        superseded: false,
        savepoints: vec![SavepointPoint { name: "before-fix".into(), seq: 40 }],
    }
}

fn termination() -> TerminationMessage {
    TerminationMessage {
        completed: false,
        class: Some(FailureClass::User),
        reason: "TopicMissing".into(),
        message: "topic `metrics` is not on kafka:9092; create it or correct spec.sources[0].kafka.topics".into(),
        incarnation: "0b7f0f0a-58f7-4f0e-8a55-0c9f4a1d7e21".into(),
        revision: "aa4da38374ac7b24".into(),
        log: vec!["starting".into(), "reading metadata".into()],
    }
}

fn pinned<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, fixture: &str) {
    let json = serde_json::to_string_pretty(value).unwrap();
    assert_eq!(json, fixture.trim_end());
    assert_eq!(&serde_json::from_str::<T>(fixture).unwrap(), value);
}

#[test]
fn progress_has_the_names_of_sparks_streaming_query_progress() {
    pinned(&progress(), include_str!("../../fixtures/contract/progress.json"));
}

#[test]
fn the_status_of_a_runner_is_pinned() {
    pinned(&status(), include_str!("../../fixtures/contract/status.json"));
}

#[test]
fn the_termination_message_is_pinned() {
    pinned(&termination(), include_str!("../../fixtures/contract/termination.json"));
    assert!(termination().to_json().len() < MAX_TERMINATION_BYTES);
}

#[test]
fn what_a_newer_runner_adds_does_not_disturb_an_older_operator() {
    let mut newer = serde_json::to_value(status()).unwrap();
    newer["phase"] = "hibernating".into();
    newer["temperature"] = 5.into();
    newer["degraded"]["class"] = "cosmic".into();
    let read: RunnerStatus = serde_json::from_value(newer).unwrap();
    let degraded = Some(Degraded { class: None, ..status().degraded.unwrap() });
    assert_eq!(read, RunnerStatus { phase: Phase::Unknown, degraded, ..status() });
}

#[test]
fn what_an_older_runner_does_not_say_is_absent() {
    let older: RunnerStatus = serde_json::from_str(r#"{"incarnation":"x","phase":"running"}"#).unwrap();
    assert_eq!((older.last_commit, older.lag.len(), older.superseded), (None, 0, false));
}
