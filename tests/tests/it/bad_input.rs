//! What is wrong with a job or its surroundings: one clear message that names the place and the fix, the right exit code,
//! and, once it is mended, every row once.

use std::io::{copy, ErrorKind};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use millrace_tests::duckdb::Oracle;
use millrace_tests::messages::{FIRST_TIMESTAMP, Kind, Message, Messages};
use millrace_tests::produce::{Codec, Producer, produce};
use millrace_tests::runner::Launch;
use millrace_tests::servers::kafka::{Kafka, Login, PASSWORD, USER as KAFKA_USER};
use millrace_tests::servers::minio::{Minio, SECRET_KEY};
use millrace_tests::servers::process::Process;
use millrace_tests::servers::{free_port, unique};
use millrace_tests::wait;

use crate::job::{DATA, Job, SOON, USER, assert_same, metric, stop, wait_until_read};

/// Flat orders into one table in a bucket, and the end.
const ORDERS: &str = "\
apiVersion: millrace.dev/v1alpha1
kind: StreamingJob
metadata: {name: orders}
spec:
  sources:
    - name: orders
      kafka: {bootstrapServers: kafka:9092, topics: [orders], startingOffsets: earliest}
      format: {json: {schema: \"order_id STRING, customer_id STRING, amount DOUBLE, status STRING\"}}
  outputs:
    - name: table
      sql: SELECT order_id, amount, _partition AS part, _offset AS off FROM orders
      parquet: {path: s3://lake/table}
  trigger: {availableNow: {}}
  checkpoint: {location: s3://lake/checkpoint}
  storage: {s3: {endpoint: http://minio:9000, credentialsSecret: {name: minio}}}
";

/// What the table of [`ORDERS`] holds, as DuckDB reads it out of the messages that are orders.
const EXPECTED: &str = "
    SELECT _text->>'order_id', (_text->>'amount')::DOUBLE, _partition, _offset FROM messages
    WHERE TRY(json_valid(_text)) AND TRY_CAST(_text->>'amount' AS DOUBLE) IS NOT NULL";

/// A topic with 1,000 orders in two partitions, a bucket, and the job between them.
struct Setup {
    kafka: &'static Kafka,
    minio: &'static Minio,
    topic: String,
    bucket: String,
    job: Job,
}

impl Setup {
    fn new() -> Setup {
        let (kafka, minio) = (Kafka::shared().unwrap(), Minio::shared().unwrap());
        let topic = kafka.unique_topic("orders", 2).unwrap();
        let bucket = minio.unique_bucket("lake").unwrap();
        produce(kafka, &topic, &Messages::new(Kind::FlatOrders, 2), 0..1_000, Codec::Lz4).unwrap();
        let job = Job::new(ORDERS).reading(kafka, "orders", &topic).writing(minio, &bucket);
        Setup { kafka, minio, topic, bucket, job }
    }

    /// Every order is in the table once, and nothing else.
    fn assert_all_rows_once(&self) {
        let oracle = Oracle::new().unwrap().topic("messages", self.kafka, &self.topic);
        let oracle = oracle.bucket("t", self.minio, &self.bucket, "table");
        assert_same(&oracle, EXPECTED, "SELECT order_id, amount, part, off FROM t");
    }

    fn send(&self, partition: i32, value: &[u8]) {
        let producer = Producer::new(self.kafka, Login::Plaintext, Codec::None).unwrap();
        let message = Message { partition, key: Some(b"k".to_vec()), value: Some(value.to_vec()), timestamp: FIRST_TIMESTAMP };
        producer.send(&self.topic, &message).unwrap();
        producer.flush().unwrap();
    }
}

/// Runs a job that must fail with this exit code and exactly one line, which holds all these parts.
fn assert_one_line(job: &Job, code: i32, parts: &[&str]) {
    let (actual, printed) = job.finish();
    assert_eq!(actual, code, "{printed}");
    let errors: Vec<&str> = printed.lines().filter(|line| line.starts_with("error: ")).collect();
    let [line] = errors[..] else { panic!("not one line says what is wrong:\n{printed}") };
    assert!(printed.ends_with(&format!("{line}\n")), "it is the last line:\n{printed}");
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in: {line}\n{printed}");
    }
    let complaints = printed.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).count();
    assert_eq!(complaints, 0, "the same is said twice:\n{printed}");
}

#[test]
fn what_is_wrong_with_a_manifest_is_said_in_one_line_before_anything_is_touched() {
    let setup = Setup::new();
    let cases: [(&str, &str, &[&str]); 7] = [
        ("spec:", "spec: [", &["job.yaml:"]),
        ("bootstrapServers", "bootstrapServer", &["spec.sources", "bootstrapServer", "did you mean"]),
        ("amount DOUBLE", "amount DUBLE", &["spec.sources", "DUBLE", "did you mean DOUBLE"]),
        ("SELECT order_id", "SELEC order_id", &["output 'table'", "SELEC"]),
        ("order_id, amount", "order_id, amout", &["output 'table'", "amout", "did you mean"]),
        ("FROM orders", "FROM order", &["output 'table'", "order", "did you mean"]),
        ("interval", "", &[]),
    ];
    for (text, other, parts) in cases.iter().take(6) {
        assert_one_line(&setup.job.edited(|job| job.with(text, other)), USER, parts);
    }
    assert_eq!(setup.minio.keys(&setup.bucket, "").unwrap(), [""; 0], "nothing was written");
    setup.job.complete();
    setup.assert_all_rows_once();
}
