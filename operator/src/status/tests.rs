#![allow(clippy::unwrap_used)]

use millrace_crds::spec::{CommitStatus, LagStatus};

use super::*;

#[test]
fn measurements_alone_are_no_reason_to_write_at_once() {
    let before = StreamingJobStatus { replicas: Some(1), ..StreamingJobStatus::default() };
    let measured = StreamingJobStatus {
        lag: Some(LagStatus { records: Some(1), seconds: None }),
        last_commit: Some(CommitStatus { seq: 7, time: "2026-11-21T12:00:00Z".into() }),
        ..before.clone()
    };
    assert!(!differ(&before, &measured));
    assert!(differ(&before, &StreamingJobStatus { replicas: Some(2), ..before.clone() }));
}
