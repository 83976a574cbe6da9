//! The scenarios that the first users run, as the manifests in `examples/`, on real servers; DuckDB says what is right.

use millrace_tests::duckdb::Oracle;
use millrace_tests::messages::{Kind, Message, Messages};
use millrace_tests::produce::{Codec, Producer, produce};
use millrace_tests::runner::Launch;
use millrace_tests::servers::kafka::{Kafka, Login};
use millrace_tests::servers::minio::Minio;
use millrace_tests::servers::unique;

use crate::job::{
    Job, SOON, USER, assert_same, console, examples, metric, sorted, stop, texts, wait_for_rows, wait_until_read,
};

/// The orders of a topic as DuckDB reads them out of the messages that are orders.
const ORDERS: &str = "
    SELECT (_text->>'order_id')::INT AS order_id, _text->>'customer_id' AS customer_id,
           _text->>'timestamp' AS timestamp, (_text->>'total')::DOUBLE AS total, _text->>'status' AS status,
           _partition AS kafka_partition, _offset AS kafka_offset, _timestamp AS kafka_timestamp,
           _key_text AS customer_key
    FROM messages WHERE TRY_CAST(TRY(_text->>'order_id') AS INT) IS NOT NULL";

/// Their items, one row each.
const ITEMS: &str = r#"
    SELECT (_text->>'order_id')::INT AS order_id, _text->>'customer_id' AS customer_id,
           _text->>'timestamp' AS timestamp, (item->>'product_id')::INT AS product_id,
           item->>'product_name' AS product_name, (item->>'quantity')::INT AS quantity,
           (item->>'unit_price')::DOUBLE AS unit_price, (item->>'subtotal')::DOUBLE AS subtotal,
           _partition AS kafka_partition, _offset AS kafka_offset
    FROM (SELECT *, unnest((_text->'items')::JSON[]) AS item FROM messages
          WHERE TRY_CAST(TRY(_text->>'order_id') AS INT) IS NOT NULL)"#;

#[test]
fn s1_orders_and_their_items_go_to_the_lake_and_what_is_no_order_to_the_dead_letters() {
    let (kafka, minio) = (Kafka::shared().unwrap(), Minio::shared().unwrap());
    let topic = kafka.unique_topic("commandes-json", 4).unwrap();
    let bucket = minio.unique_bucket("lake").unwrap();
    let orders = Messages::new(Kind::NestedOrders, 4);
    let job = Job::example("orders-to-lake.yaml").reading(kafka, "commandes-json", &topic).writing(minio, &bucket);

    // Stopped in the middle and started again, so that the tables are of two runs.
    produce(kafka, &topic, &orders, 0..10_000, Codec::Lz4).unwrap();
    job.run_until_read(10_000);
    let producer = Producer::new(kafka, Login::Plaintext, Codec::None).unwrap();
    for bad in [r#"{"order_id": "seven", "customer_id": "C1"}"#, "no JSON at all"] {
        let message = Message { key: Some(b"C1".to_vec()), value: Some(bad.into()), ..orders.get(10_000) };
        producer.send(&topic, &message).unwrap();
    }
    producer.flush().unwrap();
    produce(kafka, &topic, &orders, 10_000..15_000, Codec::Zstd).unwrap();
    job.run_until_read(5_002);

    let oracle = Oracle::new()
        .unwrap()
        .topic("messages", kafka, &topic)
        .bucket("commandes", minio, &bucket, "kafka/commandes")
        .bucket("items", minio, &bucket, "kafka/items")
        .bucket("letters", minio, &bucket, "bad-orders");
    let tally = oracle
        .lost_and_doubled(&format!("({ORDERS})").replace("kafka_", "_"), "commandes", "kafka_partition", "kafka_offset")
        .unwrap();
    assert!(tally.is_exact() && tally.produced == 15_000, "{tally:?}");
    assert_same(&oracle, ORDERS, "FROM commandes");
    assert_same(&oracle, ITEMS, "FROM items");
    assert_same(
        &oracle,
        &format!(
            "SELECT 'orders', '{topic}', _partition, _offset, _timestamp, _key, _value FROM messages
             ANTI JOIN ({ORDERS}) ON _partition = kafka_partition AND _offset = kafka_offset"
        ),
        "SELECT source, topic, partition, \"offset\", timestamp, key, value FROM letters WHERE reason <> ''",
    );
}

#[test]
fn s2_statistics_by_product_are_computed_once_over_everything_there_is() {
    let (kafka, minio) = (Kafka::shared().unwrap(), Minio::shared().unwrap());
    let topic = kafka.unique_topic("commandes-json", 4).unwrap();
    let bucket = minio.unique_bucket("lake").unwrap();
    produce(kafka, &topic, &Messages::new(Kind::NestedOrders, 4), 0..20_000, Codec::Lz4).unwrap();

    let job = Job::example("orders-statistics.yaml").reading(kafka, "commandes-json", &topic).writing(minio, &bucket);
    job.complete();

    let oracle = Oracle::new().unwrap().topic("messages", kafka, &topic).bucket(
        "by_product",
        minio,
        &bucket,
        "statistics/by_product",
    );
    // Sums of doubles depend on their order in the last digits.
    let expected = format!(
        "SELECT product_name, count(*) AS lines, sum(quantity)::BIGINT AS quantity, round(sum(subtotal), 2) AS revenue
         FROM ({ITEMS}) GROUP BY product_name"
    );
    assert_same(
        &oracle,
        &expected,
        "SELECT product_name, lines, quantity, round(revenue, 2) AS revenue FROM by_product",
    );
    let written = texts(&oracle, "SELECT product_name FROM by_product");
    let ordered = texts(&oracle, "SELECT product_name FROM by_product ORDER BY revenue DESC");
    assert_eq!(written, ordered, "the table is in the order that the query asks for");
}

#[test]
fn s3_new_orders_and_only_those_appear_on_the_console() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("commandes-json", 2).unwrap();
    let orders = Messages::new(Kind::NestedOrders, 2);
    produce(kafka, &topic, &orders, 0..50, Codec::None).unwrap();
    let job =
        Job::example("orders-on-the-console.yaml").reading(kafka, "commandes-json", &topic).on_disk("checkpoints");
    let mut runner = job.start();
    runner.wait_for_status(SOON, |status| status["phase"] == "running").unwrap();

    produce(kafka, &topic, &orders, 50..65, Codec::None).unwrap();
    let shown = wait_for_rows(&runner, 15);
    // Twenty characters a cell: the last three of a longer one are dots.
    let expected = "
        SELECT _text->>'order_id', _text->>'customer_id', left(_text->>'timestamp', 17) || '...', _text->>'total',
               _text->>'status'
        FROM messages WHERE epoch_ms(_timestamp) >= epoch_ms(TIMESTAMP '2025-01-01 00:00:00.050') ORDER BY ALL";
    let oracle = Oracle::new().unwrap().topic("messages", kafka, &topic);
    assert_eq!(sorted(shown), texts(&oracle, expected));
    assert!(runner.printed().contains("|order_id|customer_id|           timestamp|"), "{}", runner.printed());

    // However many epochs these are read in, one of them has more rows than a table shows.
    produce(kafka, &topic, &orders, 65..125, Codec::None).unwrap();
    wait_until_read(&mut runner, 75);
    let printed = stop(runner);
    assert!(printed.contains("only showing top 20 rows"), "{printed}");
    let oracle = Oracle::new().unwrap().topic("messages", kafka, &topic);
    let (rows, known) = (sorted(console(&printed)), texts(&oracle, expected));
    assert!(rows.len() >= 35 && rows.windows(2).all(|pair| pair[0] != pair[1]), "each row once: {printed}");
    assert!(rows.iter().all(|row| known.contains(row)), "{printed}");
}

#[test]
fn s5_application_logs_are_counted_by_level_and_module() {
    let (kafka, minio) = (Kafka::shared().unwrap(), Minio::shared().unwrap());
    let topic = kafka.unique_topic("logs-application", 3).unwrap();
    let bucket = minio.unique_bucket("lake").unwrap();
    produce(kafka, &topic, &Messages::new(Kind::Logs, 3), 0..10_000, Codec::Snappy).unwrap();
    Job::example("application-logs.yaml").reading(kafka, "logs-application", &topic).writing(minio, &bucket).complete();

    let oracle = Oracle::new()
        .unwrap()
        .topic("messages", kafka, &topic)
        .bucket("by_level", minio, &bucket, "logs/by_level")
        .bucket("by_module", minio, &bucket, "logs/by_module");
    assert_same(&oracle, "SELECT _text->>'level', count(*) FROM messages GROUP BY ALL", "FROM by_level");
    assert_same(
        &oracle,
        "SELECT _text->>'module', count(*), round(avg((_text->>'duration_ms')::INT), 6) FROM messages GROUP BY ALL",
        "SELECT module, n, round(mean_duration_ms, 6) FROM by_module",
    );
    for (written, ordered) in [
        ("SELECT level FROM by_level", "SELECT level FROM by_level ORDER BY n DESC, level"),
        ("SELECT module FROM by_module", "SELECT module FROM by_module ORDER BY module"),
    ] {
        assert_eq!(texts(&oracle, written), texts(&oracle, ordered));
    }
}

#[test]
fn s6_the_most_loaded_server_comes_first() {
    let (kafka, minio) = (Kafka::shared().unwrap(), Minio::shared().unwrap());
    let topic = kafka.unique_topic("metrics", 4).unwrap();
    let bucket = minio.unique_bucket("lake").unwrap();
    produce(kafka, &topic, &Messages::new(Kind::Metrics, 4), 0..10_000, Codec::Gzip).unwrap();
    Job::example("server-metrics.yaml").reading(kafka, "metrics", &topic).writing(minio, &bucket).complete();
    assert_load_is_right(kafka, &topic, minio, &bucket);
}

#[test]
fn s7_errors_and_fatal_events_appear_on_the_console_as_they_happen() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("events", 2).unwrap();
    let events = Messages::new(Kind::Events, 2);
    produce(kafka, &topic, &events, 0..120, Codec::Lz4).unwrap();
    let producer = Producer::new(kafka, Login::Plaintext, Codec::None).unwrap();
    producer.send(&topic, &Message { value: Some(b"ERROR: not JSON".to_vec()), ..events.get(120) }).unwrap();
    producer.flush().unwrap();

    let job = Job::example("errors-only.yaml").reading(kafka, "events", &topic).on_disk("checkpoints");
    let runner = job.start();
    let wanted = |kafka: &Kafka| {
        let oracle = Oracle::new().unwrap().topic("messages", kafka, &topic);
        let sql = "SELECT _text->>'timestamp', _text->>'level', _text->>'message'
                   FROM messages
                   WHERE TRY(_text->>'level') IN ('ERROR', 'FATAL') ORDER BY ALL";
        texts(&oracle, sql)
    };
    let first = wanted(kafka);
    assert_eq!(sorted(wait_for_rows(&runner, first.len())), first);
    produce(kafka, &topic, &events, 121..240, Codec::Lz4).unwrap();
    let both = wanted(kafka);
    assert!(first.len() > 10 && both.len() > first.len() + 10);
    assert_eq!(sorted(wait_for_rows(&runner, both.len())), both);
    assert_eq!(metric(&runner, "millrace_source_bad_rows_total"), 1);
    stop(runner);
}

#[test]
fn s22_a_job_is_stopped_goes_on_and_is_replayed_from_an_offset_and_from_a_time_into_new_tables() {
    let (kafka, minio) = (Kafka::shared().unwrap(), Minio::shared().unwrap());
    let topic = kafka.unique_topic("commandes-json", 4).unwrap();
    let bucket = minio.unique_bucket("lake").unwrap();
    let orders = Messages::new(Kind::NestedOrders, 4);
    let job = Job::example("orders-to-lake.yaml").reading(kafka, "commandes-json", &topic).writing(minio, &bucket);
    produce(kafka, &topic, &orders, 0..8_000, Codec::Lz4).unwrap();
    job.run_until_read(8_000);
    produce(kafka, &topic, &orders, 8_000..9_000, Codec::Lz4).unwrap();
    job.run_until_read(1_000);

    let replay = |file: &str| Job::example(file).reading(kafka, "commandes-json", &topic).writing(minio, &bucket);
    replay("replay-from-offset.yaml").with("topic: commandes-json", &format!("topic: {topic}")).complete();
    replay("replay-from-time.yaml").complete();

    let oracle = Oracle::new()
        .unwrap()
        .topic("messages", kafka, &topic)
        .bucket("commandes", minio, &bucket, "kafka/commandes")
        .bucket("from_offset", minio, &bucket, "kafka/commandes_from_offset")
        .bucket("from_time", minio, &bucket, "kafka/commandes_from_time");
    assert_same(&oracle, ORDERS, "FROM commandes");
    assert_same(&oracle, &format!("{ORDERS} AND _offset >= 1000"), "FROM from_offset");
    let since = "_timestamp >= '2025-01-01T00:00:05Z'::TIMESTAMPTZ";
    assert_same(&oracle, &format!("{ORDERS} AND {since}"), "FROM from_time");
    let replayed = oracle.value("SELECT count(*)::INT FROM from_time").unwrap();
    assert_eq!(replayed, 4_000, "message 5,000 is of that time");
}

#[test]
fn s23_a_bounded_job_says_in_one_line_which_topic_is_missing_and_completes_once_it_is_there() {
    let (kafka, minio) = (Kafka::shared().unwrap(), Minio::shared().unwrap());
    let topic = unique("metrics");
    let bucket = minio.unique_bucket("lake").unwrap();
    let job = Job::example("server-metrics.yaml").reading(kafka, "metrics", &topic).writing(minio, &bucket);
    let (code, printed) = job.finish();
    assert_eq!(code, USER, "{printed}");
    let [line] = lines_with(&printed, &topic)[..] else { panic!("not one line:\n{printed}") };
    assert_eq!(
        line,
        format!(
            "error: topic '{topic}' does not exist on {}; create it, or correct source 'metrics'",
            kafka.bootstrap()
        )
    );

    kafka.create_topic(&topic, 2, &[]).unwrap();
    produce(kafka, &topic, &Messages::new(Kind::Metrics, 2), 0..1_000, Codec::Lz4).unwrap();
    job.complete();
    assert_load_is_right(kafka, &topic, minio, &bucket);
}

#[test]
fn s23_a_running_job_says_in_one_line_which_topic_is_missing_and_picks_it_up_when_it_appears() {
    let kafka = Kafka::shared().unwrap();
    let topic = unique("events");
    let job = Job::example("errors-only.yaml").reading(kafka, "events", &topic).on_disk("checkpoints");
    let mut runner = job.start();
    let line = runner.wait_for_line("does not exist", SOON).unwrap();
    for part in [&topic, &kafka.bootstrap(), "create it, or correct source 'events'"] {
        assert!(line.contains(part), "{line}");
    }
    let status = runner.wait_for_status(SOON, |status| status["phase"] == "stalled").unwrap();
    assert_eq!((&status["degraded"]["class"], &status["degraded"]["reason"]), (&"user".into(), &"TopicMissing".into()));

    kafka.create_topic(&topic, 2, &[]).unwrap();
    produce(kafka, &topic, &Messages::new(Kind::Events, 2), 0..100, Codec::None).unwrap();
    let oracle = Oracle::new().unwrap().topic("messages", kafka, &topic);
    let errors = "SELECT _text->>'timestamp', _text->>'level', _text->>'message' FROM messages
                  WHERE TRY(_text->>'level') IN ('ERROR', 'FATAL') ORDER BY ALL";
    let errors = texts(&oracle, errors);
    assert_eq!(sorted(wait_for_rows(&runner, errors.len())), errors);
    runner.wait_for_status(SOON, |status| status["phase"] == "running" && status.get("degraded").is_none()).unwrap();
    let printed = stop(runner);
    assert_eq!(lines_with(&printed, "does not exist").len(), 1, "it is said once:\n{printed}");
}

#[test]
fn every_example_is_valid_and_is_run_by_a_test_in_this_file() {
    let tests = include_str!("scenarios.rs");
    let mut files = 0;
    for entry in std::fs::read_dir(examples()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let (status, printed) = Launch::command("validate").unwrap().arg(&path).finish(SOON).unwrap();
        assert!(status.success(), "{name}: {printed}");
        let runs = [format!("example(\"{name}\")"), format!("replay(\"{name}\")")];
        assert!(runs.iter().any(|run| tests.contains(run)), "no test here runs {name}");
        files += 1;
    }
    assert!(files >= 8, "only {files} examples");
}

/// S6's table against its messages.
fn assert_load_is_right(kafka: &Kafka, topic: &str, minio: &Minio, bucket: &str) {
    let oracle = Oracle::new().unwrap().topic("messages", kafka, topic).bucket("load", minio, bucket, "metrics/load");
    assert_same(
        &oracle,
        "SELECT _text->>'server', round(avg((_text->>'cpu')::DOUBLE), 6), round(avg((_text->>'memory')::DOUBLE), 6),
                count(*) FROM messages GROUP BY 1",
        "SELECT server, round(mean_cpu, 6), round(mean_memory, 6), n FROM load",
    );
    let written = texts(&oracle, "SELECT server FROM load");
    assert_eq!(written, texts(&oracle, "SELECT server FROM load ORDER BY mean_cpu DESC, server"));
}

/// The lines with that text in them.
fn lines_with<'a>(printed: &'a str, text: &str) -> Vec<&'a str> {
    printed.lines().filter(|line| line.contains(text)).collect()
}
