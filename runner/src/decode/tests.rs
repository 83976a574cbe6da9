#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType as ArrowType, TimeUnit};
use millrace_crds::{DataType, Field, Format};

use super::testing::{Message, cells, fetched, fetched_values};
use super::*;

fn needed(names: &[&str]) -> Needed {
    Needed::Only(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn kafka_columns_say_where_a_row_came_from() {
    let first = Message {
        offset: 7,
        timestamp: Some(1_714_558_830_123),
        key: Some(b"k".to_vec()),
        payload: Some(b"{\"v\": 1}".to_vec()),
        headers: vec![("trace".into(), Some(b"\x01".to_vec())), ("empty".into(), None)],
    };
    let bad = Message { offset: 8, payload: Some(b"{".to_vec()), ..first.clone() };
    let plain = Message { offset: 11, payload: Some(b"{}".to_vec()), ..Message::default() };
    let format = Format::Json { schema: vec![Field { name: "v".into(), data_type: DataType::Int, nullable: true }] };
    let mut decoder = decoder("orders", &format, &Needed::All);
    let decoded = decoder.decode(&fetched(vec![first, bad, plain])).unwrap();
    let expected = [
        ["1", "6b", "t", "3", "7", "2024-05-01T10:20:30.123Z", "[{key: trace, value: 01}, {key: empty, value: ∅}]"],
        ["∅", "∅", "t", "3", "11", "∅", "∅"],
    ];
    assert_eq!(cells(&decoded.batch), expected);
    assert_eq!(decoded.bad.len(), 1);
    assert_eq!(decoded.bad[0].key.as_deref(), Some(b"k".as_slice()));
    assert_eq!(decoded.bad[0].timestamp, Some(1_714_558_830_123));
}

#[test]
fn kafka_columns_have_the_types_of_sparks_source() {
    let schema = full_schema(&Format::Binary);
    let type_of = |name| schema.field_with_name(name).unwrap().data_type().clone();
    assert_eq!(type_of("value"), ArrowType::Binary);
    assert_eq!(type_of("_key"), ArrowType::Binary);
    assert_eq!(type_of("_topic"), ArrowType::Utf8);
    assert_eq!(type_of("_partition"), ArrowType::Int32);
    assert_eq!(type_of("_offset"), ArrowType::Int64);
    assert_eq!(type_of("_timestamp"), ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    assert!(matches!(type_of("_headers"), ArrowType::List(_)));
}

#[test]
fn text_is_one_column_and_must_be_utf8() {
    let messages = fetched_values(&[b"caf\xc3\xa9".as_slice(), b"\xff", b"", b"ab\xc3"]);
    for (needed, expected) in [(needed(&["value"]), vec![vec!["café"], vec![""]]), (needed(&[]), vec![vec![], vec![]])]
    {
        let decoded = decoder("orders", &Format::Text, &needed).decode(&messages).unwrap();
        assert_eq!(cells(&decoded.batch), expected);
        let reasons: Vec<&str> = decoded.bad.iter().map(|bad| bad.reason.as_str()).collect();
        assert_eq!(reasons, ["not UTF-8 at byte 0", "not UTF-8 at byte 2"]);
    }
}

#[test]
fn binary_takes_everything_and_a_tombstone_is_null() {
    let tombstone = Message { offset: 1, ..Message::default() };
    let bytes = Message { offset: 2, payload: Some(vec![0, 255]), ..Message::default() };
    for format in [Format::Binary, Format::Text] {
        let decoded = decoder("orders", &format, &needed(&["value", "_offset"]))
            .decode(&fetched(vec![tombstone.clone()]))
            .unwrap();
        assert_eq!(cells(&decoded.batch), [["∅", "1"]]);
    }
    let decoded =
        decoder("orders", &Format::Binary, &needed(&["value"])).decode(&fetched(vec![tombstone, bytes])).unwrap();
    assert_eq!(cells(&decoded.batch), [["∅"], ["00ff"]]);
}

#[test]
fn names_that_no_column_has_are_not_needed() {
    let decoder = decoder("orders", &Format::Binary, &needed(&["_offset", "nothing", "value"]));
    let names: Vec<String> = decoder.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["value", "_offset"]);
}

struct Huge(Vec<u8>);

impl crate::batch::Messages for Huge {
    fn len(&self) -> usize {
        5000
    }

    fn message(&self, index: usize) -> RawMessage<'_> {
        RawMessage { offset: Offset(index as i64), timestamp: None, key: None, payload: Some(&self.0) }
    }

    fn headers(&self, _: usize) -> Vec<crate::batch::Header> {
        Vec::new()
    }
}

#[test]
fn a_fetch_beyond_what_a_batch_can_hold_is_refused_before_it_is_read() {
    let mut large = fetched(Vec::new());
    large.messages = Box::new(Huge(vec![b' '; 1 << 20]));
    let error = decoder("orders", &Format::Binary, &Needed::All).decode(&large).unwrap_err();
    assert_eq!(
        error.to_string(),
        "one fetch from orders/t/3 has 5242880000 bytes, more than a record batch can hold; lower fetch.max.bytes"
    );
}

fn bad(payload: Option<&[u8]>) -> BadRow {
    BadRow {
        partition: Partition { source: "orders".into(), topic: "commandes".into(), partition: 2 },
        offset: Offset(41),
        timestamp: Some(5),
        key: Some(b"k".to_vec()),
        payload: payload.map(<[u8]>::to_vec),
        reason: "column 'id': expected INT, found \"x\"".into(),
    }
}

#[test]
fn a_dead_letter_keeps_the_bytes_the_place_and_the_reason() {
    let batch = dead_letter::batch(&[bad(Some(b"{\xff")), BadRow { timestamp: None, key: None, ..bad(None) }]).unwrap();
    assert!(Arc::ptr_eq(&batch.schema(), &dead_letter::schema()));
    let reason = "column 'id': expected INT, found \"x\"";
    let expected = [
        ["orders", "commandes", "2", "41", "1970-01-01T00:00:00.005Z", "6b", "7bff", reason],
        ["orders", "commandes", "2", "41", "∅", "∅", "∅", reason],
    ];
    assert_eq!(cells(&batch), expected);
    assert_eq!(batch.column_by_name("value").unwrap().as_binary::<i32>().value(0), b"{\xff");
    assert_eq!(dead_letter::batch(&[]).unwrap().num_rows(), 0);
}

#[test]
fn a_bad_row_is_described_on_one_line_with_the_start_of_its_bytes() {
    assert_eq!(
        dead_letter::describe(&bad(Some("{\"né\":\n\"\\x\"\0\u{1b}[2J".as_bytes()))),
        "source 'orders': topic commandes, partition 2, offset 41: column 'id': expected INT, found \"x\"; the message's \
         17 bytes: {\"né\":\\n\"\\\\x\"\\x00\\x1b[2J"
    );
    let long = dead_letter::describe(&bad(Some(&[b'a'; 1000])));
    assert!(long.ends_with(&format!("the message's 1000 bytes: {} …", "a".repeat(200))), "{long}");
    assert!(dead_letter::describe(&bad(Some(b""))).ends_with("the message's value is empty"));
    assert!(dead_letter::describe(&bad(None)).ends_with("the message has no value"));
    assert_eq!(dead_letter::printable(b"a\xffb\xc3"), "a\\xffb\\xc3");
}

#[test]
fn decoders_can_move_to_another_thread() {
    fn moves<T: Send>(_: T) {}
    moves(decoder("orders", &Format::Text, &Needed::All));
}
