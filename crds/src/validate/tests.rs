#![allow(clippy::unwrap_used)]

use std::time::Duration;

use serde_json::{Value, json};

use crate::job::{
    Compression, ConsoleSink, Format, Job, Location, OnError, OutputMode, ParquetSink, Sink, Starting, Storage,
    Trigger, TriggerKind,
};
use crate::spec::StreamingJob;

fn object() -> Value {
    json!({
        "apiVersion": "millrace.dev/v1alpha1",
        "kind": "StreamingJob",
        "metadata": { "name": "small", "uid": "u-1" },
        "spec": {
            "sources": [{
                "name": "lines",
                "kafka": { "bootstrapServers": "kafka:9092", "topics": ["lines"] },
                "format": { "text": {} },
            }],
            "outputs": [
                { "name": "copy", "sql": "SELECT value FROM lines", "parquet": { "path": "s3://lake/lines" } },
                { "name": "look", "sql": "SELECT value FROM lines", "console": {} },
            ],
            "checkpoint": { "location": "out/checkpoint" },
        },
    })
}

fn with(path: &str, value: Value) -> Value {
    let mut object = object();
    let (holder, field) = path.rsplit_once('/').unwrap();
    object.pointer_mut(holder).unwrap()[field] = value;
    object
}

#[test]
fn what_is_not_written_gets_its_default_here() {
    let job = Job::from_value(&object()).unwrap();
    let source = &job.sources[0];
    assert_eq!(source.format, Format::Text);
    assert_eq!(source.on_error, OnError::Fail);
    assert_eq!(source.kafka.starting, Starting::Latest);
    assert!(source.kafka.fail_on_data_loss);
    assert_eq!((&source.event_time, &source.kafka.tls, &source.kafka.authentication), (&None, &None, &None));
    let parquet = ParquetSink {
        path: Location::S3 { bucket: "lake".into(), prefix: "lines".into() },
        partition_by: vec![],
        compression: Compression::Zstd,
        max_file_bytes: 128 << 20,
        max_file_age: None,
        max_open_files: 64,
    };
    assert_eq!(job.outputs[0].sink, Sink::Parquet(parquet));
    assert_eq!(job.outputs[1].sink, Sink::Console(ConsoleSink { rows: 20, truncate: Some(20) }));
    assert_eq!(job.outputs[0].mode, OutputMode::Append);
    let kind = TriggerKind::Interval(Duration::from_secs(10));
    assert_eq!(job.trigger, Trigger { kind, max_records: None, max_bytes: None });
    assert_eq!(job.checkpoint, Location::Local("out/checkpoint".into()));
    assert_eq!(job.storage, Storage { s3: None });
    assert_eq!((job.parallelism, job.suspend, job.start_from), (1, false, None));
    assert_eq!(job.restart.max_retries, None);
    assert_eq!(
        (job.restart.initial_backoff, job.restart.max_backoff),
        (Duration::from_secs(1), Duration::from_secs(300))
    );
    assert_eq!(job.progress_deadline, Duration::from_secs(100));
    assert_eq!((job.namespace, job.uid.as_deref()), (None, Some("u-1")));
}

#[test]
fn a_bounded_job_reads_from_the_beginning_unless_told_otherwise() {
    let job = Job::from_value(&with("/spec/trigger", json!({ "availableNow": {} }))).unwrap();
    assert_eq!(job.sources[0].kafka.starting, Starting::Earliest);
    assert_eq!(job.trigger.kind, TriggerKind::AvailableNow);
}

#[test]
fn a_slow_trigger_gets_a_longer_progress_deadline() {
    let job = Job::from_value(&with("/spec/trigger", json!({ "interval": "1h" }))).unwrap();
    assert_eq!(job.progress_deadline, Duration::from_secs(36_000));
}

#[test]
fn with_an_endpoint_the_bucket_goes_into_the_path() {
    for (s3, force_path_style) in [
        (json!({ "endpoint": "http://minio:9000" }), true),
        (json!({ "endpoint": "http://minio:9000", "forcePathStyle": false }), false),
        (json!({ "region": "eu-west-1" }), false),
    ] {
        let job = Job::from_value(&with("/spec/storage", json!({ "s3": s3 }))).unwrap();
        assert_eq!(job.storage.s3.unwrap().force_path_style, force_path_style);
    }
}

#[test]
fn an_object_of_the_api_server_is_the_same_job_as_the_file() {
    let typed: StreamingJob = serde_json::from_value(object()).unwrap();
    assert_eq!(Job::from_object(&typed).unwrap(), Job::from_value(&object()).unwrap());
}

#[test]
fn policies_do_not_change_the_revision_and_everything_else_does() {
    let revision = |object: &Value| Job::from_value(object).unwrap().revision;
    let first = revision(&object());
    assert_eq!(first.len(), 16);
    for (path, value) in [
        ("/spec/parallelism", json!(3)),
        ("/spec/suspend", json!(true)),
        ("/spec/restart", json!({ "maxRetries": 1 })),
        ("/spec/progressDeadline", json!("1h")),
        ("/metadata/uid", json!("u-2")),
    ] {
        assert_eq!(revision(&with(path, value)), first, "{path}");
    }
    for (path, value) in [
        ("/spec/outputs/0/sql", json!("SELECT _key FROM lines")),
        ("/spec/outputs/0/parquet/path", json!("s3://lake/other")),
        ("/spec/trigger", json!({ "interval": "10s" })),
        ("/spec/runner", json!({ "image": "millrace:next" })),
    ] {
        assert_ne!(revision(&with(path, value)), first, "{path}");
    }
}

#[test]
fn the_order_of_fields_does_not_change_the_revision() {
    let mut reordered = object();
    let spec = reordered["spec"].as_object_mut().unwrap();
    let sources = spec.shift_remove("sources").unwrap();
    spec.insert("sources".to_owned(), sources);
    assert_eq!(Job::from_value(&reordered).unwrap().revision, Job::from_value(&object()).unwrap().revision);
}

#[test]
fn the_revision_of_a_manifest_is_pinned() {
    // A different hash for the same text would restart every job when the operator is upgraded.
    assert_eq!(Job::from_value(&object()).unwrap().revision, "aa4da38374ac7b24");
}

#[test]
fn the_whole_result_needs_one_runner() {
    let mut object = with("/spec/outputs/1/outputMode", json!("complete"));
    object["spec"]["trigger"] = json!({ "availableNow": {} });
    assert_eq!(Job::from_value(&object).unwrap().outputs[1].mode, OutputMode::Complete);
    object["spec"]["parallelism"] = json!(2);
    let errors = Job::from_value(&object).unwrap_err();
    let text = "spec.outputs[1].outputMode: 2 runners would each know only a part of the result (it says `complete`); \
                write `parallelism: 1`";
    assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), [text]);
}

#[test]
fn no_property_can_touch_offsets_groups_or_what_other_fields_say() {
    let refused = [
        "group.id",
        "enable.auto.commit",
        "auto.offset.reset",
        "enable.auto.offset.store",
        "enable.partition.eof",
        "bootstrap.servers",
        "metadata.broker.list",
        "partition.assignment.strategy",
        "sasl.password",
        "kafka.client.id",
        "sasl.jaas.config",
        "key.deserializer",
    ];
    let with_security = ["security.protocol", "ssl.ca.location", "ssl.key.password", "sasl.mechanism", "sasl.username"];
    let harmless = [
        "fetch.max.bytes",
        "client.id",
        "security.protocol",
        "ssl.ca.location",
        "ssl.endpoint.identification.algorithm",
    ];
    let errors = |properties: &[&str], security: bool| {
        let mut object = object();
        let kafka = &mut object["spec"]["sources"][0]["kafka"];
        kafka["properties"] = properties.iter().map(|key| ((*key).to_owned(), json!("x"))).collect();
        if security {
            kafka["tls"] = json!({});
            let password = json!({ "secretName": "u", "password": "p" });
            kafka["authentication"] = json!({ "type": "plain", "username": "u", "passwordSecret": password });
        }
        Job::from_value(&object).map_or_else(|errors| errors.len(), |_| 0)
    };
    assert_eq!(errors(&refused, false), refused.len());
    assert_eq!(errors(&with_security, true), with_security.len());
    assert_eq!(errors(&harmless, false), 0);
}

#[test]
fn a_value_in_an_error_is_shortened() {
    let long = "x".repeat(500);
    let errors = Job::from_value(&with("/spec/trigger", json!({ "interval": long }))).unwrap_err();
    assert!(errors[0].value.as_ref().unwrap().chars().count() <= 81);
}

#[test]
fn what_may_be_a_password_is_never_shown() {
    let secrets = [json!("hunter2"), json!(4711), json!(["hunter2"])];
    for key in ["sasl.password", "sasl.jaas.config", "ssl.key.password", "kafka.sasl.jaas.config"] {
        for secret in &secrets {
            let mut object = object();
            object["spec"]["sources"][0]["kafka"]["tls"] = json!({});
            object["spec"]["sources"][0]["kafka"]["properties"] = json!({ key: secret });
            let errors = Job::from_value(&object).unwrap_err();
            assert!(!errors.is_empty(), "{key}");
            let text = format!("{errors:?}");
            assert!(!text.contains("hunter2") && !text.contains("4711"), "{text}");
        }
    }
}
