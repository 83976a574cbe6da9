//! The job log's stores on what they are for: a bucket of a real MinIO, and a disk.

use std::sync::Arc;
use std::time::Duration;

use millrace_joblog::store::{
    FaultKind, LocalStore, LogStore, ObjectLogStore, ProbeError, PutIfAbsent, conformance, probe,
};
use millrace_tests::block_on;
use millrace_tests::servers::minio::{ACCESS_KEY, Minio, REGION, SECRET_KEY};
use millrace_tests::servers::scratch;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path as Key;
use object_store::{ClientOptions, RetryConfig};

/// A client of a bucket, made as the runner makes those of job logs: it never repeats a request.
fn builder(minio: &Minio, bucket: &str) -> AmazonS3Builder {
    let retries = RetryConfig { max_retries: 0, retry_timeout: Duration::from_secs(5), ..RetryConfig::default() };
    let options = ClientOptions::new().with_timeout(Duration::from_secs(5)).with_allow_http(true);
    let builder = AmazonS3Builder::new().with_endpoint(minio.endpoint()).with_region(REGION).with_bucket_name(bucket);
    let builder = builder.with_access_key_id(ACCESS_KEY).with_secret_access_key(SECRET_KEY);
    builder.with_retry(retries).with_client_options(options)
}

fn store(builder: AmazonS3Builder, root: &str) -> Arc<dyn LogStore> {
    Arc::new(ObjectLogStore::new(Arc::new(builder.build().unwrap()), Key::from(root)))
}

#[test]
fn a_bucket_of_minio_keeps_every_rule_of_a_job_logs_store() {
    let minio = Minio::shared().unwrap();
    let bucket = minio.unique_bucket("conformance").unwrap();
    block_on(conformance::run(store(builder(minio, &bucket), "checkpoints/orders"))).unwrap().unwrap();
    let keys = minio.keys(&bucket, "").unwrap();
    assert!(keys.iter().all(|key| key.starts_with("checkpoints/orders/")), "{keys:?}");
}

#[test]
fn a_folder_on_disk_keeps_every_rule_of_a_job_logs_store() {
    let directory = scratch("conformance").unwrap();
    let store = Arc::new(LocalStore::open(directory.path().join("checkpoints/orders")).unwrap());
    block_on(conformance::run(store)).unwrap().unwrap();
}

#[test]
fn the_probe_leaves_one_object_that_later_probes_use_again() {
    let minio = Minio::shared().unwrap();
    let bucket = minio.unique_bucket("probe").unwrap();
    for _ in 0..3 {
        block_on(async { probe(&*store(builder(minio, &bucket), "a/b")).await }).unwrap().unwrap();
    }
    assert_eq!(minio.keys(&bucket, "").unwrap(), ["a/b/probe/put-if-absent"]);
}

#[test]
fn the_probe_refuses_a_client_that_sends_no_condition() {
    let minio = Minio::shared().unwrap();
    let bucket = minio.unique_bucket("unfit").unwrap();
    let unconditional = builder(minio, &bucket).with_conditional_put(S3ConditionalPut::Disabled);
    let refused = block_on(async { probe(&*store(unconditional, "log")).await }).unwrap().unwrap_err();
    assert!(
        matches!(&refused, ProbeError::Store(error) if error.kind == FaultKind::Unsupported),
        "{refused}: {refused:?}"
    );
}

#[test]
fn faults_of_a_bucket_are_told_apart() {
    let minio = Minio::shared().unwrap();
    let bucket = minio.unique_bucket("faults").unwrap();
    let ask = |builder| block_on(async { store(builder, "log").put_if_absent("log/0", "x".into()).await }).unwrap();
    assert_eq!(ask(builder(minio, &bucket)).unwrap(), PutIfAbsent::Created);
    for (what, builder, expected) in [
        ("a wrong secret", builder(minio, &bucket).with_secret_access_key("wrong"), FaultKind::Denied),
        ("an unknown user", builder(minio, &bucket).with_access_key_id("nobody"), FaultKind::Denied),
        ("a missing bucket", builder(minio, "there-is-none"), FaultKind::MissingBucket),
        ("nobody listening", builder(minio, &bucket).with_endpoint("http://127.0.0.1:1"), FaultKind::Transient),
    ] {
        let error = ask(builder).unwrap_err();
        assert_eq!(error.kind, expected, "{what}: {error}: {error:?}");
    }
}

#[test]
fn a_frozen_store_is_a_passing_fault_of_unknown_outcome() {
    let mut minio = Minio::start().unwrap();
    minio.create_bucket("frozen").unwrap();
    let options = ClientOptions::new().with_timeout(Duration::from_millis(500)).with_allow_http(true);
    let store = store(builder(&minio, "frozen").with_client_options(options), "log");
    assert_eq!(block_on(store.put_if_absent("log/0", "x".into())).unwrap().unwrap(), PutIfAbsent::Created);
    minio.pause().unwrap();
    let error = block_on(store.put_if_absent("log/1", "x".into())).unwrap().unwrap_err();
    assert_eq!(error.kind, FaultKind::Transient, "{error:?}");
    minio.resume().unwrap();
    // Whether the first request took effect is unknown; that somebody has the slot now is not.
    block_on(store.put_if_absent("log/1", "y".into())).unwrap().unwrap();
    assert!(block_on(store.head("log/1")).unwrap().unwrap());
}
