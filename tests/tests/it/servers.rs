//! The harness itself, on the real servers: what the other tests rely on is shown here first.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use millrace_tests::duckdb::Oracle;
use millrace_tests::messages::{FIRST_TIMESTAMP, Kind, Message, Messages};
use millrace_tests::produce::{Codec, Ending, Producer, produce};
use millrace_tests::runner::Launch;
use millrace_tests::servers::apiserver::ApiServer;
use millrace_tests::servers::kafka::{Kafka, Login, PASSWORD};
use millrace_tests::servers::minio::Minio;
use millrace_tests::servers::process::Process;
use millrace_tests::servers::{free_port, installed, scratch};
use millrace_tests::{block_on, wait};
use object_store::path::Path as Key;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn messages_of_every_codec_come_back_as_they_were_sent() {
    let kafka = Kafka::shared().unwrap();
    for codec in Codec::ALL {
        let topic = kafka.unique_topic("codec", 3).unwrap();
        let messages = Messages::new(Kind::NestedOrders, 3);
        produce(kafka, &topic, &messages, 0..2_000, codec).unwrap();

        let oracle = Oracle::new().unwrap().topic("messages", kafka, &topic);
        let rows = oracle
            .rows("SELECT _partition, epoch_ms(_timestamp) AS time, _key_text, _text FROM messages ORDER BY _timestamp")
            .unwrap();
        assert_eq!(rows.len(), 2_000, "{codec:?}");
        for (index, row) in rows.iter().enumerate() {
            let sent = messages.get(index as u64);
            assert_eq!(row["_partition"], sent.partition);
            assert_eq!(row["time"], sent.timestamp);
            assert_eq!(row["_key_text"], String::from_utf8(sent.key.unwrap()).unwrap());
            assert_eq!(row["_text"], String::from_utf8(sent.value.unwrap()).unwrap());
        }
    }
}

#[test]
fn tombstones_and_null_keys_stay_null() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("nulls", 1).unwrap();
    let producer = Producer::new(kafka, Login::Plaintext, Codec::None).unwrap();
    let message = Message { timestamp: FIRST_TIMESTAMP, ..Message::default() };
    producer.send(&topic, &Message { key: Some(b"k".to_vec()), ..message.clone() }).unwrap();
    producer.send(&topic, &Message { value: Some(b"\xff".to_vec()), ..message.clone() }).unwrap();
    producer.send(&topic, &Message { value: Some(Vec::new()), ..message }).unwrap();
    producer.flush().unwrap();

    let oracle = Oracle::new().unwrap().topic("messages", kafka, &topic);
    let sql = "SELECT _offset, _key IS NULL AS no_key, octet_length(_value) AS length, _text FROM messages ORDER BY 1";
    let rows = serde_json::to_value(oracle.rows(sql).unwrap()).unwrap();
    let expected = serde_json::json!([
        {"_offset": 0, "no_key": false, "length": null, "_text": null},
        {"_offset": 1, "no_key": true, "length": 1, "_text": null},
        {"_offset": 2, "no_key": true, "length": 0, "_text": ""},
    ]);
    assert_eq!(rows, expected);
}

#[test]
fn only_committed_transactions_are_delivered() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("transactions", 2).unwrap();
    let messages = Messages::new(Kind::Logs, 2);
    let producer = Producer::transactional(kafka, Codec::Lz4, &topic).unwrap();
    let endings = [Ending::Commit, Ending::Abort, Ending::Commit, Ending::Abort];
    for (number, ending) in (0u64..).zip(endings) {
        let range = number * 100..number * 100 + 100;
        producer.transaction(ending, |open| open.send_range(&topic, &messages, range)).unwrap();
    }
    // 200 messages and one marker a transaction in each partition: the aborted ones are in the log too. The broker writes the
    // last markers after it has answered.
    wait::until("every marker", Duration::from_secs(60), || {
        Ok((kafka.offsets(&topic)? == [(0, 204), (0, 204)]).then_some(()))
    })
    .unwrap();

    let oracle = Oracle::new().unwrap().topic("messages", kafka, &topic);
    let sql = "SELECT count(*)::INT AS n, count(DISTINCT _timestamp)::INT AS times,
               count(*) FILTER ((epoch_ms(_timestamp) // 100) % 2 = 0)::INT AS committed FROM messages";
    let rows = serde_json::to_value(oracle.rows(sql).unwrap()).unwrap();
    assert_eq!(rows, serde_json::json!([{"n": 200, "times": 200, "committed": 200}]));
}

#[test]
fn a_client_comes_in_by_every_login() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("logins", 1).unwrap();
    let logins = [Login::Plaintext, Login::Tls, Login::Plain, Login::Scram256, Login::Scram512, Login::Scram512Tls];
    for login in logins {
        produce_one(Producer::new(kafka, login, Codec::None).unwrap(), &topic);
    }
    assert_eq!(kafka.offsets(&topic).unwrap(), [(0, logins.len() as i64)]);
}

#[test]
fn a_wrong_password_is_refused() {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let kafka = Kafka::shared().unwrap();
    let ask = |password: &str| {
        let mut config = kafka.client(Login::Scram512);
        config.set("sasl.password", password).set("log_level", "0");
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.fetch_metadata(None, Duration::from_secs(5)).map(|_| ())
    };
    ask(PASSWORD).unwrap();
    ask("wrong").expect_err("the password is wrong");
}

#[test]
fn a_topic_can_grow_and_be_deleted_and_created_again() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("topic", 1).unwrap();
    kafka.create_topic(&topic, 1, &[]).expect_err("it exists");
    kafka.grow_topic(&topic, 3).unwrap();
    assert_eq!(kafka.offsets(&topic).unwrap(), [(0, 0); 3]);
    kafka.delete_topic(&topic).unwrap();
    kafka.offsets(&topic).expect_err("it is gone");
    kafka.create_topic(&topic, 2, &[("cleanup.policy", "compact")]).unwrap();
    assert_eq!(kafka.offsets(&topic).unwrap(), [(0, 0); 2]);
}

#[test]
fn a_killed_broker_comes_back_with_what_it_had() {
    let mut kafka = Kafka::start().unwrap();
    let topic = kafka.unique_topic("kept", 1).unwrap();
    produce_one(Producer::new(&kafka, Login::Plaintext, Codec::Zstd).unwrap(), &topic);
    kafka.kill().unwrap();
    kafka.offsets(&topic).expect_err("the broker is down");
    kafka.start_again().unwrap();
    produce_one(Producer::new(&kafka, Login::Plaintext, Codec::Zstd).unwrap(), &topic);
    assert_eq!(kafka.offsets(&topic).unwrap(), [(0, 2)]);
    kafka.stop().unwrap();
}

#[test]
fn only_the_first_put_of_an_object_succeeds_and_every_request_is_counted() {
    let minio = Minio::shared().unwrap();
    let bucket = minio.unique_bucket("puts").unwrap();
    let store = minio.store(&bucket).unwrap();
    let put = |text: &'static str| {
        let (key, text) = (Key::from("log/0.json"), Bytes::from_static(text.as_bytes()));
        block_on(async { store.put_opts(&key, text.into(), PutMode::Create.into()).await }).unwrap()
    };
    let before = minio.requests(&bucket).unwrap();
    put("first").unwrap();
    let refused = put("second").expect_err("the object exists");
    assert!(matches!(refused, Error::AlreadyExists { .. }), "{refused}");
    let body = block_on(async { store.get(&Key::from("log/0.json")).await?.bytes().await }).unwrap().unwrap();
    assert_eq!(body, "first");
    assert_eq!(minio.keys(&bucket, "log").unwrap(), ["log/0.json"]);

    let after = minio.requests(&bucket).unwrap();
    let grown = |name: &str| after.get(name).unwrap_or(&0) - before.get(name).unwrap_or(&0);
    assert_eq!((grown("PutObject"), grown("GetObject"), grown("ListObjectsV2")), (2, 1, 1), "{after:?}");
}

#[test]
fn a_paused_store_answers_late_and_a_killed_one_keeps_its_objects() {
    let mut minio = Minio::start().unwrap();
    minio.create_bucket("kept").unwrap();
    minio.create_bucket("kept").expect_err("it exists");
    let put = |minio: &Minio, key: &str| {
        let store = minio.store("kept").unwrap();
        block_on(async { store.put(&Key::from(key), "x".into()).await }).unwrap().unwrap();
    };
    put(&minio, "a");
    minio.pause().unwrap();
    let store = minio.store("kept").unwrap();
    let late = block_on(async { tokio::time::timeout(Duration::from_millis(300), store.head(&Key::from("a"))).await });
    late.unwrap().expect_err("nothing answers while the server is frozen");
    minio.resume().unwrap();
    put(&minio, "b");
    minio.kill().unwrap();
    minio.keys("kept", "").map(|keys| panic!("the server is down, but listed {keys:?}")).unwrap_or(());
    minio.start_again().unwrap();
    assert_eq!(minio.keys("kept", "").unwrap(), ["a", "b"]);
}

#[test]
fn the_oracle_finds_what_is_lost_doubled_invented_and_changed() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("orders", 2).unwrap();
    produce(kafka, &topic, &Messages::new(Kind::FlatOrders, 2), 0..500, Codec::Snappy).unwrap();
    let minio = Minio::shared().unwrap();
    let bucket = minio.unique_bucket("lake").unwrap();
    let directory = scratch("tables").unwrap();

    // DuckDB writes the tables that a runner would have written: a right one, and one with four faults.
    let oracle = Oracle::new().unwrap().topic("messages", kafka, &topic);
    let right =
        "SELECT _partition AS part, _offset AS off, _text->>'status' AS status, (_text->>'amount')::DOUBLE AS amount
                 FROM messages";
    let wrong = format!(
        "SELECT part, off, status, CASE WHEN part = 0 AND off = 7 THEN -1 ELSE amount END AS amount FROM ({right})
         WHERE NOT (part = 0 AND off = 5)
         UNION ALL SELECT * FROM ({right}) WHERE part = 1 AND off < 3
         UNION ALL SELECT 9, 9, 'pending', 1.5"
    );
    write_parquet(&oracle, right, &directory.path().join("right"));
    write_parquet(&oracle, &wrong, &directory.path().join("wrong"));
    upload(minio, &bucket, "tables/wrong", &directory.path().join("wrong"));

    let oracle = Oracle::new().unwrap().topic("messages", kafka, &topic);
    let oracle = oracle.path("disk", &directory.path().join("right")).bucket("lake", minio, &bucket, "tables/wrong");
    let exact = oracle.lost_and_doubled("messages", "disk", "part", "off").unwrap();
    assert!(exact.is_exact() && exact.produced == 500, "{exact:?}");
    let faulty = oracle.lost_and_doubled("messages", "lake", "part", "off").unwrap();
    assert_eq!((faulty.lost, faulty.doubled, faulty.invented), (1, 3, 1), "{faulty:?}");

    let columns = "SELECT part, off, status, amount FROM";
    assert!(oracle.compare(right, &format!("{columns} disk")).unwrap().is_none());
    let difference = oracle.compare(right, &format!("{columns} lake")).unwrap();
    assert_eq!((difference.expected, difference.missing, difference.extra), (500, 2, 5), "{difference:?}");
    assert_eq!((difference.missing_rows.len(), difference.extra_rows.len()), (2, 5));
}

#[test]
fn a_real_api_server_keeps_good_objects_and_refuses_bad_ones() {
    let server = ApiServer::shared().unwrap();
    let path = "/api/v1/namespaces/default/configmaps";
    let map = "{apiVersion: v1, kind: ConfigMap, metadata: {name: harness}, data: {key: value}}";
    let created = server.request("POST", path, map).unwrap();
    assert_eq!(created.status, 201, "{}", created.body);
    assert_eq!(server.request("POST", path, map).unwrap().status, 409);
    let applied = server.request("PATCH", &format!("{path}/harness?fieldManager=test&force=true"), map).unwrap();
    assert_eq!(applied.status, 200, "{}", applied.body);
    let bad = server.request("POST", path, &map.replace("value", "[1]")).unwrap();
    assert_eq!(bad.status, 400, "{}", bad.body);
}

#[test]
fn a_process_ends_with_its_handle() {
    let process = Process::start("sleep", Command::new("sleep").arg("600")).unwrap();
    let pid = process.pid();
    assert!(is_alive(pid));
    drop(process);
    assert!(!is_alive(pid));
}

#[test]
fn processes_and_directories_end_with_the_test_process_even_if_it_is_killed() {
    // The second run of this very test, started by the first, is the process that dies.
    const NOTE: &str = "MILLRACE_TESTS_NOTE";
    if let Some(note) = std::env::var_os(NOTE) {
        let process = Process::start("sleep", Command::new("sleep").arg("600")).unwrap();
        let ended = Process::start("true", &mut Command::new("true")).unwrap();
        drop(ended);
        let directory = scratch("left-behind").unwrap();
        let partial = Path::new(&note).with_extension("partial");
        std::fs::write(&partial, format!("{}\n{}", process.pid(), directory.path().display())).unwrap();
        std::fs::rename(partial, note).unwrap();
        std::thread::park_timeout(SOON);
        panic!("nobody killed this process");
    }
    let directory = scratch("watchdog").unwrap();
    let note = directory.path().join("note");
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = "servers::processes_and_directories_end_with_the_test_process_even_if_it_is_killed";
    command.args(["--exact", name]).env(NOTE, &note).stdout(std::process::Stdio::null());
    let mut tests = Process::start("the test process", &mut command).unwrap();
    let noted = wait::until("the note", SOON, || Ok(std::fs::read_to_string(&note).ok())).unwrap();
    let (pid, left_behind) = noted.split_once('\n').unwrap();
    let pid = pid.parse().unwrap();
    assert!(is_alive(pid) && Path::new(left_behind).is_dir());
    tests.kill().unwrap();
    wait::until("the watchdog", SOON, || Ok((!is_alive(pid) && !Path::new(left_behind).exists()).then_some(())))
        .unwrap();
}

#[test]
fn a_child_can_be_watched_frozen_and_asked_to_end() {
    let script = r#"trap 'echo stopping >&2; exit 143' TERM; echo "started $WHO"; while :; do sleep 0.05; done"#;
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    let mut runner = Launch::program(command).unwrap().env("WHO", "miller").start().unwrap();
    assert_eq!(runner.wait_for_line("started", SOON).unwrap(), "started miller");
    runner.pause().unwrap();
    runner.terminate().unwrap();
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", runner.pid())).unwrap();
    wait::until("the freeze", SOON, || Ok(state().contains(") T ").then_some(()))).unwrap();
    runner.resume().unwrap();
    assert_eq!(runner.wait_for_exit(SOON).unwrap().code(), Some(143));
    assert_eq!(runner.printed(), "started miller\nstopping\n");
    let error = runner.wait_for_line("never", SOON).unwrap_err();
    assert!(error.to_string().contains("ended without"), "{error}");
}

#[test]
fn free_ports_are_given_out_once() {
    let ports: BTreeSet<u16> = (0..50).map(|_| free_port().unwrap()).collect();
    assert_eq!(ports.len(), 50);
}

fn produce_one(producer: Producer, topic: &str) {
    producer
        .send(topic, &Message { timestamp: FIRST_TIMESTAMP, value: Some(b"one".to_vec()), ..Message::default() })
        .unwrap();
    producer.flush().unwrap();
}

/// Writes the answer to a query as a table of a few files, some of them in hive directories and one not to be read.
fn write_parquet(oracle: &Oracle, sql: &str, directory: &Path) {
    let rows = oracle.rows(sql).unwrap();
    std::fs::create_dir_all(directory.join("_millrace/staged")).unwrap();
    std::fs::write(directory.join("rows.json"), serde_json::to_vec(&rows).unwrap()).unwrap();
    std::fs::write(directory.join("_millrace/staged/0"), "not for readers").unwrap();
    let script = "import duckdb, sys; duckdb.sql(f\"COPY (FROM read_json('{sys.argv[1]}/rows.json')) TO \
                  '{sys.argv[1]}' (FORMAT parquet, PARTITION_BY (status), OVERWRITE_OR_IGNORE)\")";
    let written = Command::new(installed("PYTHON").unwrap()).args(["-c", script]).arg(directory).status().unwrap();
    assert!(written.success());
}

fn upload(minio: &Minio, bucket: &str, prefix: &str, directory: &Path) {
    let local = object_store::local::LocalFileSystem::new_with_prefix(directory).unwrap();
    let remote = minio.store(bucket).unwrap();
    let copy = async {
        let objects: Vec<_> = local.list(None).try_collect().await?;
        for object in objects {
            let body = local.get(&object.location).await?.bytes().await?;
            remote.put(&Key::from(format!("{prefix}/{}", object.location)), body.into()).await?;
        }
        Ok::<(), Error>(())
    };
    block_on(copy).unwrap().unwrap();
}

/// Whether a process runs; one that has ended but whose parent has not noticed (a zombie, Z) does not.
fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
