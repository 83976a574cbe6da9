//! What is wrong with a job or its surroundings: one clear message that names the place and the fix, the right exit code,
//! and, once it is mended, every row once.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use millrace_crds::contract::ExitCode;
use millrace_tests::duckdb::Oracle;
use millrace_tests::messages::{FIRST_TIMESTAMP, Kind, Message, Messages};
use millrace_tests::produce::{Codec, Producer, produce};
use millrace_tests::runner::{Launch, Runner, binary};
use millrace_tests::servers::kafka::{Kafka, Login, PASSWORD, USER as KAFKA_USER};
use millrace_tests::servers::minio::{Minio, SECRET_KEY};
use millrace_tests::servers::process::Process;
use millrace_tests::servers::{free_port, scratch, unique};
use millrace_tests::wait;
use tempfile::TempDir;

use crate::job::{COMPLETED, DATA, Job, SOON, USER, assert_same, stop};

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
    WHERE TRY_CAST(TRY(_text->>'amount') AS DOUBLE) IS NOT NULL";

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

    /// 500 orders more.
    fn produce_more(&self) {
        produce(self.kafka, &self.topic, &Messages::new(Kind::FlatOrders, 2), 1_000..1_500, Codec::Lz4).unwrap();
    }

    fn send(&self, partition: i32, value: &[u8]) {
        let producer = Producer::new(self.kafka, Login::Plaintext, Codec::None).unwrap();
        let (key, value) = (Some(b"k".to_vec()), Some(value.to_vec()));
        let message = Message { partition, key, value, timestamp: FIRST_TIMESTAMP };
        producer.send(&self.topic, &message).unwrap();
        producer.flush().unwrap();
    }
}

#[test]
fn what_is_wrong_with_a_manifest_is_said_in_one_message_before_anything_is_touched() {
    let setup = Setup::new();
    let cases: [(&str, &str, &[&str]); 7] = [
        ("spec:", "spec: [", &["job.yaml:", "not YAML", "check indentation, quotes and brackets"]),
        ("topics:", "tropics:", &["spec.sources[0].kafka.tropics: unknown field; did you mean `topics`?"]),
        ("amount DOUBLE", "amount DUBLE", &["spec.sources[0].format.json.schema", "DUBLE", "did you mean DOUBLE?"]),
        ("SELECT order_id", "SELEC order_id", &["output 'table': the SQL does not parse", "SELEC"]),
        ("order_id, amount,", "order_id, amout,", &["output 'table'", "'amout'; did you mean 'amount'?"]),
        ("FROM orders", "FROM order", &["output 'table'", "'order'; did you mean 'orders'?"]),
        ("parquet: {", "parquet: {partitionBy: [sttus], ", &["output 'table'", "'sttus'", "order_id, amount"]),
    ];
    for (text, other, parts) in cases {
        assert_refused(&setup.job.edited(|job| job.with(text, other)), USER, parts);
    }
    assert_eq!(setup.minio.keys(&setup.bucket, "").unwrap(), [""; 0], "nothing was written");
    setup.job.complete();
    setup.assert_all_rows_once();
}

#[test]
fn several_mistakes_are_named_at_once() {
    let job = Job::new(ORDERS).with("topics:", "tropics:").with("DOUBLE", "DUBLE").with("sql:", "sequel:");
    let (code, printed) = job.finish();
    assert_eq!(code, USER, "{printed}");
    for part in ["tropics", "DUBLE", "sequel"] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
}

#[test]
fn brokers_that_cannot_be_reached_are_named_once_and_waited_for() {
    let setup = Setup::new();
    let port = free_port().unwrap();
    let address = format!("127.0.0.1:{port}");
    let job = setup.job.edited(|job| job.with(&setup.kafka.bootstrap(), &address));

    // Asked to stop while it waits, it stops.
    let runner = job.start();
    runner.wait_for_line("cannot be reached", SOON).unwrap();
    let printed = stop(runner);
    assert!(!printed.contains("did not commit in time"), "{printed}");

    let mut runner = job.start();
    let line = runner.wait_for_line("cannot be reached", SOON).unwrap();
    for part in [&format!("kafka at {address} cannot be reached"), "Connection refused", "check bootstrapServers"] {
        assert!(line.contains(part), "{line}");
    }
    let degraded = |status: &serde_json::Value| status["degraded"]["reason"] == "KafkaUnreachable";
    let status = runner.wait_for_status(SOON, degraded).unwrap();
    assert_eq!(status["degraded"]["class"], "external", "{status}");
    forward(port, &setup.kafka.bootstrap());
    assert_completes(&mut runner);
    assert_eq!(complaints(&runner.printed()), 1, "it is said once:\n{}", runner.printed());
    setup.assert_all_rows_once();
}

#[test]
fn a_wrong_password_is_the_users_to_mend() {
    let setup = Setup::new();
    let login = "authentication: {type: scram-sha-512, username: miller,
                                  passwordSecret: {secretName: kafka, password: password}}, topics:";
    let address = setup.kafka.bootstrap_for(Login::Scram512);
    let job = setup.job.edited(|job| job.with(&setup.kafka.bootstrap(), &address).with("topics:", login));
    assert_eq!(KAFKA_USER, "miller");
    assert_refused(&job, USER, &["source 'orders'", "secret 'kafka' has no key 'password'"]);
    job.set_secret("kafka", "password", "wrong");
    assert_refused(
        &job,
        USER,
        &[&format!("kafka at {address} denies access"), "check authentication", "source 'orders'"],
    );
    job.set_secret("kafka", "password", PASSWORD);
    job.complete();
    setup.assert_all_rows_once();
}

#[test]
fn a_missing_bucket_is_named() {
    let setup = Setup::new();
    let bucket = unique("missing");
    let job = setup.job.edited(|job| job.with(&setup.bucket, &bucket));
    assert_refused(
        &job,
        USER,
        &[&format!("s3://{bucket}/"), "does not exist", "create the bucket or correct its name"],
    );
    setup.minio.create_bucket(&bucket).unwrap();
    job.complete();
    Setup { bucket, ..setup }.assert_all_rows_once();
}

#[test]
fn denied_credentials_are_the_users_to_mend() {
    let setup = Setup::new();
    setup.job.set_secret("minio", "secretKey", "wrong");
    assert_refused(&setup.job, USER, &[&format!("s3://{}/", setup.bucket), "correct the credentials"]);
    setup.job.set_secret("minio", "secretKey", SECRET_KEY);
    setup.job.complete();
    setup.assert_all_rows_once();
}

#[test]
fn a_store_that_cannot_be_reached_is_named_once_and_waited_for() {
    let setup = Setup::new();
    let port = free_port().unwrap();
    let job = setup.job.edited(|job| job.with(&setup.minio.endpoint(), &format!("http://127.0.0.1:{port}")));
    let mut runner = job.start();
    let degraded = |status: &serde_json::Value| status["degraded"]["reason"] == "StoreUnavailable";
    let status = runner.wait_for_status(SOON, degraded).unwrap();
    let message = status["degraded"]["message"].as_str().unwrap();
    assert!(message.contains(&format!("s3://{}/", setup.bucket)), "{message}");
    forward(port, setup.minio.endpoint().trim_start_matches("http://"));
    assert_completes(&mut runner);
    assert_eq!(complaints(&runner.printed()), 1, "it is said once:\n{}", runner.printed());
    setup.assert_all_rows_once();
}

#[test]
fn the_checkpoint_of_another_job_is_left_to_it() {
    let setup = Setup::new();
    setup.job.complete();
    let other = Job::new(&setup.job.manifest);
    let location = format!("s3://{}/checkpoint", setup.bucket);
    assert_refused(&other, USER, &[&location, &setup.job.home, &other.home, "--take-over or --fork"]);
    setup.produce_more();
    setup.job.complete();
    setup.assert_all_rows_once();
}

#[test]
fn a_changed_query_goes_on_where_the_old_one_stopped() {
    let setup = Setup::new();
    setup.job.complete();
    setup.produce_more();
    setup.job.edited(|job| job.with("order_id, amount,", "order_id, amount, status,")).complete();
    setup.assert_all_rows_once();
    let oracle = Oracle::new().unwrap().bucket("t", setup.minio, &setup.bucket, "table");
    assert_eq!(oracle.value("SELECT count(status)::INT FROM t").unwrap(), 500, "the new rows have the new column");
}

#[test]
fn an_output_that_moved_is_refused_until_its_user_agrees() {
    let setup = Setup::new();
    setup.job.complete();
    setup.produce_more();
    let moved = setup.job.edited(|job| job.with("/table}", "/elsewhere}"));
    let (from, to) = (format!("s3://{}/table", setup.bucket), format!("s3://{}/elsewhere", setup.bucket));
    assert_refused(&moved, USER, &["table", &from, &to, "--accept-moved-outputs"]);
    let (status, printed) = moved.launch().arg("--accept-moved-outputs").finish(SOON).unwrap();
    assert!(status.success(), "{printed}");
    let oracle = Oracle::new()
        .unwrap()
        .topic("messages", setup.kafka, &setup.topic)
        .bucket("before", setup.minio, &setup.bucket, "table")
        .bucket("after", setup.minio, &setup.bucket, "elsewhere");
    assert_same(&oracle, EXPECTED, "FROM before UNION ALL FROM after");
    assert_eq!(oracle.value("SELECT count(*)::INT FROM after").unwrap(), 500);
}

#[test]
fn a_row_that_does_not_decode_is_shown_and_stops_the_job_until_its_user_decides() {
    let setup = Setup::new();
    let offset = setup.kafka.offsets(&setup.topic).unwrap()[1].1;
    setup.send(1, b"{\"order_id\": \"O7\", \"amount\": \"a lot\"}\xff\n");
    setup.produce_more();
    let place = format!("topic {}, partition 1, offset {offset}", setup.topic);
    let bytes = r#"{"order_id": "O7", "amount": "a lot"}\xff\n"#;
    assert_refused(&setup.job, DATA, &["source 'orders'", &place, bytes, "onError"]);
    setup.job.edited(|job| job.with("format:", "onError: {action: skip}\n      format:")).complete();
    setup.assert_all_rows_once();
}

#[test]
fn dead_letters_keep_what_came_where_and_why() {
    let setup = Setup::new();
    let letters: [(&[u8], &str); 4] = [
        (b"{\"order_id\": \"O7\", \"amount\": \"a lot\"}", "amount"),
        (b"no JSON", ""),
        (b"{\"order_id\": \"\xff\"}", ""),
        (b"{\"order_id\": \"O8\", \"amount\": 7", ""),
    ];
    for (bytes, _) in letters {
        setup.send(1, bytes);
    }
    setup.produce_more();
    let path = format!("s3://{}/letters", setup.bucket);
    let action = format!("onError: {{action: deadLetter, deadLetter: {{parquet: {{path: {path}}}}}}}\n      format:");
    setup.job.edited(|job| job.with("format:", &action)).complete();
    setup.assert_all_rows_once();

    let oracle = Oracle::new().unwrap().topic("messages", setup.kafka, &setup.topic);
    let oracle = oracle.bucket("letters", setup.minio, &setup.bucket, "letters");
    let expected = format!(
        "SELECT 'orders', '{}', _partition, _offset, _timestamp, _key, _value FROM messages WHERE _key_text = 'k'",
        setup.topic
    );
    assert_same(&oracle, &expected, "SELECT source, topic, partition, \"offset\", timestamp, key, value FROM letters");
    let reasons = oracle.rows("SELECT reason FROM letters ORDER BY \"offset\"").unwrap();
    assert_eq!(reasons.len(), letters.len());
    for (row, (_, part)) in reasons.iter().zip(letters) {
        let reason = row["reason"].as_str().unwrap();
        assert!(!reason.is_empty() && reason.contains(part), "{reason}");
    }
}

#[test]
fn a_message_of_20_mb_simply_arrives() {
    let setup = Setup::new();
    let topic = unique("large");
    setup.kafka.create_topic(&topic, 1, &[("max.message.bytes", "33554432")]).unwrap();
    let large = format!(r#"{{"order_id":"O1","amount":1.5,"customer_id":"{}"}}"#, "x".repeat(20_000_000));
    let producer = Producer::new(setup.kafka, Login::Plaintext, Codec::None).unwrap();
    for value in [r#"{"order_id":"O0","amount":0.5}"#, &large, r#"{"order_id":"O2","amount":2.5}"#] {
        let message = Message { value: Some(value.into()), timestamp: FIRST_TIMESTAMP, ..Message::default() };
        producer.send(&topic, &message).unwrap();
    }
    producer.flush().unwrap();
    let job = setup
        .job
        .edited(|job| job.with(&setup.topic, &topic).with("order_id, amount,", "order_id, amount, customer_id,"));
    job.complete();

    let oracle = Oracle::new().unwrap().topic("messages", setup.kafka, &topic);
    let oracle = oracle.bucket("t", setup.minio, &setup.bucket, "table");
    let expected = "SELECT _text->>'order_id', (_text->>'amount')::DOUBLE, md5(_text->>'customer_id') FROM messages";
    assert_same(&oracle, expected, "SELECT order_id, amount, md5(customer_id) FROM t");
}

#[test]
fn a_full_disk_is_named_once_and_the_job_goes_on_when_there_is_room() {
    for full in ["table", "checkpoint"] {
        let setup = Setup::new();
        let disk = SmallDisk::mount();
        let place = |part: &str| match part == full {
            true => disk.path().join(part).display().to_string(),
            false => setup.job.directory().join(part).display().to_string(),
        };
        let job = setup.job.edited(|job| {
            let job = job.with(&format!("s3://{}/table", setup.bucket), &place("table"));
            job.with(&format!("s3://{}/checkpoint", setup.bucket), &place("checkpoint"))
        });
        disk.fill();
        let mut runner = disk.launch(&job);
        let line = runner.wait_for_line("DiskFull", SOON).unwrap();
        assert!(line.contains("space") && line.contains("free some") && line.contains(&place(full)), "{line}");
        disk.make_room();
        assert_completes(&mut runner);
        assert_eq!(complaints(&runner.printed()), 1, "it is said once:\n{}", runner.printed());

        let table = if full == "table" { disk.outside("table") } else { place("table").into() };
        let oracle = Oracle::new().unwrap().topic("messages", setup.kafka, &setup.topic).path("t", &table);
        assert_same(&oracle, EXPECTED, "SELECT order_id, amount, part, off FROM t");
    }
}

/// Runs a job that must fail with this exit code and one message, whose lines hold all these parts.
fn assert_refused(job: &Job, code: Option<ExitCode>, parts: &[&str]) {
    let (actual, printed) = job.finish();
    assert_eq!(actual, code, "{printed}");
    assert_eq!(complaints(&printed), 1, "one message says what is wrong:\n{printed}");
    let (_, message) = printed.split_once("error: ").unwrap_or_else(|| panic!("no error is shown:\n{printed}"));
    assert!(message.len() < 700, "a message, not a dump:\n{printed}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

/// How often something is said to be wrong: warnings and errors of the log, and the last word.
fn complaints(printed: &str) -> usize {
    let complains = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ") || line.starts_with("error: ");
    printed.lines().filter(complains).count()
}

fn assert_completes(runner: &mut Runner) {
    let status = runner.wait_for_exit(SOON).unwrap();
    assert_eq!(status.code().and_then(ExitCode::from_code), COMPLETED, "{}", runner.printed());
}

/// From now on, what connects to the port reaches that address; until the test process ends.
fn forward(port: u16, address: &str) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let address = address.to_owned();
    let pump = |mut from: TcpStream, mut to: TcpStream| {
        std::thread::spawn(move || {
            // However it ends, the other side is to see the end too.
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    };
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (Ok(near), Ok(far)) = (near, TcpStream::connect(&address)) else { continue };
            let (Ok(near_again), Ok(far_again)) = (near.try_clone(), far.try_clone()) else { continue };
            pump(near, far);
            pump(far_again, near_again);
        }
    });
}

/// A disk of 2 MiB in a mount namespace of its own, so that it goes with the process that holds the namespace. It needs
/// root, or a kernel that gives users namespaces.
struct SmallDisk {
    holder: Process,
    directory: TempDir,
    flags: &'static [&'static str],
}

impl SmallDisk {
    fn mount() -> SmallDisk {
        let id = Command::new("id").arg("-u").output().unwrap();
        let root = id.stdout == b"0\n";
        let (own, flags): (&[&str], &[&str]) =
            if root { (&[], &[]) } else { (&["--user", "--map-root-user"], &["--user", "--preserve-credentials"]) };
        let directory = scratch("disk").unwrap();
        let script = r#"mount -t tmpfs -o size=2m tmpfs "$0" && touch "$0/mounted" && exec sleep 600"#;
        let mut command = Command::new("unshare");
        command.args(own).args(["--mount", "sh", "-c", script]).arg(directory.path());
        let mut disk = SmallDisk { holder: Process::start("the small disk", &mut command).unwrap(), directory, flags };
        let mounted = disk.outside("mounted");
        wait::until("the small disk", SOON, || match disk.holder.try_wait()? {
            Some(status) => anyhow::bail!("this test mounts a small disk, which failed ({status}): run it as root"),
            None => Ok(mounted.exists().then_some(())),
        })
        .unwrap();
        disk
    }

    /// Where it is for those inside.
    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where a file on it is for those outside.
    fn outside(&self, file: &str) -> PathBuf {
        let path = self.directory.path().strip_prefix("/").unwrap();
        Path::new("/proc").join(self.holder.pid().to_string()).join("root").join(path).join(file)
    }

    fn fill(&self) {
        let mut filler = File::create(self.outside("filler")).unwrap();
        let error = loop {
            if let Err(error) = filler.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }

    fn make_room(&self) {
        std::fs::remove_file(self.outside("filler")).unwrap();
    }

    /// Starts the job where the disk is.
    fn launch(&self, job: &Job) -> Runner {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.holder.pid().to_string()).arg("--mount").args(self.flags);
        command.arg(binary().unwrap()).arg("run");
        let launch = Launch::program(command).unwrap().manifest(&job.manifest).unwrap().arg("--no-http");
        launch.start().unwrap()
    }
}
