//! Every format and type on its whole way: from bytes in Kafka to a Parquet table that DuckDB reads.

use millrace_tests::duckdb::Oracle;
use millrace_tests::messages::{FIRST_TIMESTAMP, Kind, Message, Messages};
use millrace_tests::produce::{Codec, Producer, produce};
use millrace_tests::servers::kafka::{Kafka, Login};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::{Value, json};

use crate::job::{Job, SOON, assert_same, texts};

/// A topic into a table on disk.
const COPY: &str = "\
apiVersion: millrace.dev/v1alpha1
kind: StreamingJob
metadata: {name: copy}
spec:
  sources:
    - name: source
      kafka: {bootstrapServers: kafka:9092, topics: [topic], startingOffsets: earliest}
      format: {FORMAT}
  outputs:
    - name: table
      sql: SQL
      parquet: {path: lake/table}
  trigger: {availableNow: {}}
  checkpoint: {location: lake/checkpoint}
";

/// Runs a copy of the topic to its end, and gives the messages and the table to ask about.
fn copy(kafka: &Kafka, topic: &str, format: &str, sql: &str, settings: &str) -> (Job, Oracle) {
    let job = Job::new(COPY).reading(kafka, "topic", topic).with("FORMAT", format).with("SQL", sql);
    let lake = job.directory().join("lake").display().to_string();
    let job = job.with("path: lake/table", &format!("path: {lake}/table{settings}"));
    let job = job.with("location: lake", &format!("location: {lake}"));
    job.complete();
    let oracle = Oracle::new().unwrap().topic("messages", kafka, topic);
    let oracle = oracle.path("t", &job.directory().join("lake/table"));
    (job, oracle)
}

fn send(kafka: &Kafka, topic: &str, values: &[&str]) {
    let producer = Producer::new(kafka, Login::Plaintext, Codec::Zstd).unwrap();
    for (index, value) in (0..).zip(values) {
        let timestamp = FIRST_TIMESTAMP + index;
        producer
            .send(topic, &Message { value: Some(value.as_bytes().into()), timestamp, ..Message::default() })
            .unwrap();
    }
    producer.flush().unwrap();
}

#[test]
fn every_type_of_json_arrives_as_it_was_sent() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("types", 1).unwrap();
    let full = json!({
        "id": i64::MIN, "flag": true, "tiny": -128, "small": 32767, "number": 2147483647, "ratio": 0.5, "mean": 1e-300,
        "price": "12345678901234.5678", "day": "2024-02-29", "instant": "2025-03-30T02:30:00.123456+02:00",
        "local": "2025-03-30 02:30:00.5", "raw": "AAEC/w==", "note": "Zürich\u{1F980}\"\\\n",
        "tags": ["a", null, ""], "place": {"street": "Rue de l'Été", "geo": {"lat": 47.37, "lon": null}},
        "prices": {"net": "1.10", "gross": "1.19"}, "lines": [{"sku": "x", "parts": [1, 2]}, {"sku": "y", "parts": []}],
        "unknown": {"is": "ignored"},
    });
    let empty = json!({"id": 1, "flag": null, "tags": [], "prices": {}, "lines": [], "place": {}});
    send(kafka, &topic, &[&full.to_string(), &empty.to_string(), r#"{"lines":[{"parts":[3],"sku":"z"}],"id":2}"#]);

    let schema = "id BIGINT, flag BOOLEAN, tiny TINYINT, small SMALLINT, number INT, ratio FLOAT, mean DOUBLE, \
                  price DECIMAL(18, 4), day DATE, instant TIMESTAMP, local TIMESTAMP_NTZ, raw BINARY, note STRING, \
                  tags ARRAY<STRING>, place STRUCT<street STRING, geo STRUCT<lat DOUBLE, lon DOUBLE>>, \
                  prices MAP<STRING, DECIMAL(10, 2)>, lines ARRAY<STRUCT<sku STRING, parts ARRAY<INT>>>";
    let columns =
        "id, flag, tiny, small, number, ratio, mean, price, day, instant, local, raw, note, tags, place, prices, lines";
    let (_job, oracle) =
        copy(kafka, &topic, &format!("json: {{schema: \"{schema}\"}}"), &format!("SELECT {columns} FROM source"), "");
    let types = texts(&oracle, "SELECT column_type FROM (DESCRIBE FROM t)").concat().join("; ");
    assert_eq!(
        types,
        "BIGINT; BOOLEAN; TINYINT; SMALLINT; INTEGER; FLOAT; DOUBLE; DECIMAL(18,4); DATE; TIMESTAMP WITH TIME ZONE; \
         TIMESTAMP; BLOB; VARCHAR; VARCHAR[]; STRUCT(street VARCHAR, geo STRUCT(lat DOUBLE, lon DOUBLE)); \
         MAP(VARCHAR, DECIMAL(10,2)); STRUCT(sku VARCHAR, parts INTEGER[])[]"
    );
    assert_same(
        &oracle,
        "SELECT (_text->>'id')::BIGINT, (_text->>'flag')::BOOLEAN, (_text->>'tiny')::TINYINT,
                (_text->>'small')::SMALLINT, (_text->>'number')::INT, (_text->>'ratio')::FLOAT,
                (_text->>'mean')::DOUBLE, (_text->>'price')::DECIMAL(18, 4), (_text->>'day')::DATE,
                (_text->>'instant')::TIMESTAMPTZ, (_text->>'local')::TIMESTAMP, from_base64(_text->>'raw'), _text->>'note',
                from_json(_text->'tags', '[\"VARCHAR\"]'),
                from_json(_text->'place', '{\"street\": \"VARCHAR\", \"geo\": {\"lat\": \"DOUBLE\", \"lon\": \"DOUBLE\"}}'),
                from_json(_text->'prices', '\"MAP(VARCHAR, DECIMAL(10, 2))\"'),
                from_json(_text->'lines', '[{\"sku\": \"VARCHAR\", \"parts\": [\"INT\"]}]') FROM messages",
        &format!("SELECT {columns} FROM t"),
    );
}

#[test]
fn kafkas_own_columns_arrive_with_tombstones_null_keys_and_headers() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("columns", 1).unwrap();
    let producer: BaseProducer = kafka.client(Login::Plaintext).create().unwrap();
    let headers = OwnedHeaders::new()
        .insert(Header { key: "trace", value: Some(&b"\x00\xff"[..]) })
        .insert(Header { key: "empty", value: None::<&[u8]> });
    let plain = BaseRecord::<[u8], [u8]>::to(&topic).partition(0).timestamp(FIRST_TIMESTAMP);
    producer.send(plain.key(b"\xfe").payload(b"\x00\x01").headers(headers)).unwrap();
    for (key, value) in [(None, Some(&b"value"[..])), (Some(&b"key"[..]), None), (None, None), (Some(b""), Some(b""))] {
        let mut record = BaseRecord::<[u8], [u8]>::to(&topic).partition(0).timestamp(FIRST_TIMESTAMP + 1);
        record.key = key;
        record.payload = value;
        producer.send(record).unwrap();
    }
    producer.flush(SOON).unwrap();

    let sql = "SELECT _topic, _partition, _offset, _timestamp, _key, value, _headers FROM source";
    let (_job, oracle) = copy(kafka, &topic, "binary: {}", sql, "");
    assert_same(
        &oracle,
        &format!("SELECT '{topic}', _partition, _offset, _timestamp, _key, _value FROM messages"),
        "SELECT _topic, _partition, _offset, _timestamp, _key, value FROM t",
    );
    let headers = oracle.rows("SELECT _offset, _headers FROM t WHERE _headers IS NOT NULL").unwrap();
    let expected: Vec<Value> = vec![
        json!({"_offset": 0, "_headers": [{"key": "trace", "value": "\\x00\\xFF"}, {"key": "empty", "value": null}]}),
    ];
    assert_eq!(serde_json::to_value(headers).unwrap(), Value::from(expected));
}

#[test]
fn lines_of_text_arrive_as_text_and_a_tombstone_as_null() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("lines", 1).unwrap();
    send(kafka, &topic, &["the quick brown fox", "", "naïve \u{1F980}\ttab", "the end\n"]);
    let producer = Producer::new(kafka, Login::Plaintext, Codec::None).unwrap();
    producer.send(&topic, &Message { timestamp: FIRST_TIMESTAMP, ..Message::default() }).unwrap();
    producer.flush().unwrap();
    let (_job, oracle) = copy(kafka, &topic, "text: {}", "SELECT _offset, value, upper(value) AS loud FROM source", "");
    assert_same(&oracle, "SELECT _offset, _text, upper(_text) FROM messages", "FROM t");
}

#[test]
fn a_table_is_divided_into_hive_folders_whatever_the_values_are() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("folders", 1).unwrap();
    let values = ["plain", "with space", "a/b=c%d", "Zoë", "..", "x:y*z?", "true"];
    let mut messages: Vec<String> =
        (0..70).map(|id| json!({"id": id, "kind": values[id % 7], "day": "2025-01-31"}).to_string()).collect();
    messages.push(json!({"id": 70, "day": "2025-02-01"}).to_string());
    send(kafka, &topic, &messages.iter().map(String::as_str).collect::<Vec<_>>());

    let format = "json: {schema: \"id INT, kind STRING, day DATE\"}";
    let (job, oracle) = copy(kafka, &topic, format, "SELECT day, id, kind FROM source", ", partitionBy: [day, kind]");
    let null = "SELECT (_text->>'id')::INT, _text->>'kind', _text->>'day' FROM messages";
    assert_same(&oracle, null, "SELECT id, nullif(kind, '__HIVE_DEFAULT_PARTITION__'), day FROM t");
    assert!(job.directory().join("lake/table/day=2025-01-31/kind=with space").is_dir());
    assert!(job.directory().join("lake/table/day=2025-02-01/kind=__HIVE_DEFAULT_PARTITION__").is_dir());
}

#[test]
fn files_roll_at_their_size_and_no_row_is_cut_or_lost() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("rolling", 2).unwrap();
    produce(kafka, &topic, &Messages::new(Kind::NestedOrders, 2), 0..60_000, Codec::Lz4).unwrap();
    let (job, oracle) = copy(
        kafka,
        &topic,
        "json: {schema: \"order_id INT, customer_id STRING, timestamp STRING, total DOUBLE\"}",
        "SELECT order_id, customer_id, timestamp, total, _partition AS part, _offset AS off FROM source",
        ", maxFileBytes: 1Mi, compression: none",
    );
    let expected = "SELECT (_text->>'order_id')::INT, _text->>'customer_id', _text->>'timestamp',
                           (_text->>'total')::DOUBLE, _partition, _offset FROM messages";
    assert_same(&oracle, expected, "FROM t");
    let mut sizes = Vec::new();
    for entry in std::fs::read_dir(job.directory().join("lake/table")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().ends_with(".parquet") {
            sizes.push(entry.metadata().unwrap().len());
        }
    }
    assert!(sizes.len() >= 3, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size < 2 << 20), "no file is much larger than 1 MiB: {sizes:?}");
}
