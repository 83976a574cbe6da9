#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use millrace_crds::{DataType, Field, Format};

use crate::decode::testing::{Message, cells, fetched, fetched_values};
use crate::decode::{Decoded, Needed, decoder, full_schema};

pub(super) fn field(name: &str, data_type: DataType) -> Field {
    Field { name: name.into(), data_type, nullable: true }
}

pub(super) fn required(name: &str, data_type: DataType) -> Field {
    Field { nullable: false, ..field(name, data_type) }
}

pub(super) fn array(item: DataType) -> DataType {
    DataType::Array(Box::new(field("element", item)))
}

pub(super) fn map(key: DataType, value: DataType) -> DataType {
    DataType::Map { key: Box::new(key), value: Box::new(field("value", value)) }
}

fn needed(schema: &[Field]) -> Needed {
    Needed::Only(schema.iter().map(|field| field.name.clone()).collect())
}

pub(super) fn decode_with<T: AsRef<[u8]>>(schema: &[Field], needed: &Needed, values: &[T]) -> Decoded {
    decoder("orders", &Format::Json { schema: schema.to_vec() }, needed).decode(&fetched_values(values)).unwrap()
}

pub(super) fn decode<T: AsRef<[u8]>>(schema: &[Field], values: &[T]) -> Decoded {
    decode_with(schema, &needed(schema), values)
}

fn orders() -> Vec<Field> {
    vec![field("id", DataType::Int), field("name", DataType::String), field("tags", array(DataType::String))]
}

#[test]
fn every_kind_of_malformed_message_is_bad_and_harms_no_neighbour() {
    let deep = format!("{{\"x\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let malformed: Vec<(&[u8], &str)> = vec![
        (b"{\"id\": 1} {\"id\": 2}", "one message holds one JSON object"),
        (b"{\"id\": 1}x", "expected nothing after the object"),
        (b"{\"id\": 1}}", "expected nothing after the object"),
        (b"{\"id\": 1, \"tags\": [\"a\", ", "but the message ends"),
        (b"{\"id\": 1, \"na", "the message ends within a string"),
        (b"{\"id\": 1", "expected ',' or '}', but the message ends"),
        (b"{\"id\"", "expected ':'"),
        (b"{", "expected a quoted name"),
        (b"[{\"id\": 1}]", "expected a JSON object, found [{\"id\": 1}]"),
        (b"null", "expected a JSON object, found null"),
        (b"12", "expected a JSON object, found 12"),
        (b"\"text\"", "expected a JSON object, found \"text\""),
        (b"", "the value is empty"),
        (b" \n", "the value is empty"),
        (b"{\"name\": \"\xff\"}", "not valid JSON at byte 10: not UTF-8"),
        (b"{\"other\": \"\xc3\"}", "not UTF-8"),
        (b"{\"id\": 1 \"name\": \"a\"}", "expected ',' or '}', found '\"'"),
        (b"{\"id\": 1,, \"name\": \"a\"}", "expected a quoted name"),
        (b"{\"id\": 1,}", "expected a quoted name, found '}'"),
        (b"{,}", "expected a quoted name"),
        (b"{id: 1}", "expected a quoted name, found 'i'"),
        (b"{\"id\": nul}", "expected null"),
        (b"{\"other\": {\"a\": [1, {]}}", "expected a quoted name"),
        (b"{\"other\": \"\\ud800\"}", "surrogate"),
        (b"{\"other\": [1, 2}", "expected ',' or ']'"),
        (b"\x00\x01\x02", "expected a value"),
        (deep.as_bytes(), "nested deeper than 1000 levels"),
    ];
    let good: &[u8] = b"{\"id\": 7, \"name\": \"good\", \"tags\": [\"a\", \"b\"]}";
    let mut values: Vec<&[u8]> = vec![good];
    for (bad, _) in &malformed {
        values.extend([*bad, good]);
    }
    let decoded = decode(&orders(), &values);
    assert_eq!(cells(&decoded.batch), vec![vec!["7", "good", "[a, b]"]; malformed.len() + 1]);
    assert_eq!(decoded.bad.len(), malformed.len());
    for (index, (bad, (payload, reason))) in decoded.bad.iter().zip(&malformed).enumerate() {
        assert_eq!(bad.offset.0, 101 + 2 * index as i64);
        assert_eq!(bad.payload.as_deref(), Some(*payload));
        assert!(bad.reason.contains(reason), "{:?}: {}", String::from_utf8_lossy(payload), bad.reason);
        assert!(bad.reason.len() < 500, "a reason repeats little of the message");
    }
}

#[test]
fn a_row_that_fails_late_leaves_nothing_behind() {
    let schema = [
        field(
            "a",
            array(DataType::Struct(vec![
                field("s", DataType::String),
                field("m", map(DataType::String, DataType::Int)),
            ])),
        ),
        field("b", DataType::Boolean),
        field("d", DataType::Decimal { precision: 5, scale: 1 }),
        required("z", DataType::Int),
    ];
    let values = [
        "{\"a\": [{\"s\": \"one\", \"m\": {\"k\": 1}}], \"b\": true, \"d\": 1.5, \"z\": 1}",
        "{\"a\": [{\"s\": \"lost\", \"m\": {\"k\": 1, \"l\": 2}}, {\"s\": \"lost\"}], \"b\": null, \"d\": 2, \"z\": \"x\"}",
        "{\"a\": [{\"s\": \"lost\", \"m\": {\"k\": 1, \"l\": \"x\"}}]}",
        "{\"a\": [], \"b\": false, \"d\": null, \"z\": 2}",
        "{\"a\": [{\"s\": \"lost\"}]}",
        "{\"z\": 3, \"a\": [null, {\"s\": \"three\"}]}",
    ];
    let decoded = decode(&schema, &values);
    let expected = [
        ["[{s: one, m: {k: 1}}]", "true", "1.5", "1"],
        ["[]", "false", "∅", "2"],
        ["[∅, {s: three, m: ∅}]", "∅", "∅", "3"],
    ];
    assert_eq!(cells(&decoded.batch), expected);
    assert_eq!(decoded.bad.iter().map(|bad| bad.offset.0).collect::<Vec<_>>(), [101, 102, 104]);
}

#[test]
fn fields_come_in_any_order_and_the_last_of_two_counts() {
    let values = [
        "{\"tags\": [\"x\"], \"name\": \"n\", \"id\": 1}",
        "{\"id\": 1, \"id\": 2, \"tags\": [\"a\", \"b\"], \"tags\": [], \"name\": \"a\", \"name\": null}",
        "{\"ID\": 1, \"Name\": \"n\", \"n\\u0061me\": \"escaped\"}",
        "  \t\r\n{ }  \n",
        "\u{feff}{\"id\": 5}",
    ];
    let decoded = decode(&orders(), &values);
    assert!(decoded.bad.is_empty(), "{:?}", decoded.bad);
    let expected = [["1", "n", "[x]"], ["2", "∅", "[]"], ["∅", "escaped", "∅"], ["∅", "∅", "∅"], ["5", "∅", "∅"]];
    assert_eq!(cells(&decoded.batch), expected);
}

#[test]
fn a_wide_schema_finds_its_fields_in_any_order() {
    let schema: Vec<Field> = (0..40).map(|index| field(&format!("f{index}"), DataType::Int)).collect();
    let backwards: Vec<String> =
        (0..40).rev().map(|index| format!("\"f{index}\": {index}, \"g{index}\": []")).collect();
    let decoded = decode(&schema, &[format!("{{{}}}", backwards.join(","))]);
    assert_eq!(cells(&decoded.batch), [(0..40).map(|index| index.to_string()).collect::<Vec<_>>()]);
}

#[test]
fn only_needed_columns_are_built_and_checked_but_malformed_text_is_always_bad() {
    let schema = [field("id", DataType::Int), required("name", DataType::String), field("tags", array(DataType::Int))];
    let needed = Needed::Only(["id".to_owned(), "_offset".to_owned()].into());
    let values =
        ["{\"id\": 1, \"tags\": \"no array\"}", "{\"id\": 2, \"tags\": [1,}", "{\"id\": \"x\"}", "{\"id\": 4}"];
    let decoded = decode_with(&schema, &needed, &values);
    assert_eq!(cells(&decoded.batch), [["1", "100"], ["4", "103"]]);
    assert_eq!(decoded.bad.iter().map(|bad| bad.offset.0).collect::<Vec<_>>(), [101, 102]);
    let nothing = decode_with(&schema, &Needed::Only(Default::default()), &values);
    assert_eq!((nothing.batch.num_columns(), nothing.batch.num_rows(), nothing.bad.len()), (0, 3, 1));
}

#[test]
fn a_tombstone_is_a_row_of_nulls_unless_a_column_must_not_be_null() {
    let messages = vec![
        Message { offset: 5, payload: Some(b"{\"id\": 1}".to_vec()), ..Message::default() },
        Message { offset: 6, key: Some(b"k".to_vec()), ..Message::default() },
    ];
    let needed = Needed::Only(["id".to_owned(), "_key".to_owned()].into());
    let json = |field| Format::Json { schema: vec![field] };
    let nullable =
        decoder("orders", &json(field("id", DataType::Int)), &needed).decode(&fetched(messages.clone())).unwrap();
    assert_eq!(cells(&nullable.batch), [["1", "∅"], ["∅", "6b"]]);
    assert!(nullable.bad.is_empty());
    let strict = decoder("orders", &json(required("id", DataType::Int)), &needed).decode(&fetched(messages)).unwrap();
    assert_eq!(cells(&strict.batch), [["1", "∅"]]);
    assert_eq!((strict.bad[0].offset.0, strict.bad[0].payload.as_ref()), (6, None));
    assert!(strict.bad[0].reason.contains("column 'id': is NOT NULL, but the message has no value"));
}

#[test]
fn a_decoder_starts_every_fetch_afresh() {
    let schema = orders();
    let mut decoder = decoder("orders", &Format::Json { schema: schema.clone() }, &needed(&schema));
    for _ in 0..3 {
        let decoded = decoder.decode(&fetched_values(&["{\"id\": 1}", "{\"id\": ", "{\"tags\": [\"a\"]}"])).unwrap();
        assert_eq!(cells(&decoded.batch), [["1", "∅", "∅"], ["∅", "∅", "[a]"]]);
        assert_eq!(decoded.bad.len(), 1);
    }
    assert_eq!(decoder.decode(&fetched_values::<&str>(&[])).unwrap().batch.num_rows(), 0);
}

/// Every kind of column, for the schema and for the properties.
pub(super) fn everything() -> Vec<Field> {
    vec![
        field("b", DataType::Boolean),
        field("i", DataType::BigInt),
        field("d", DataType::Double),
        field("s", DataType::String),
        field("n", DataType::Decimal { precision: 18, scale: 3 }),
        field("day", DataType::Date),
        field("at", DataType::Timestamp),
        field("a", array(DataType::Int)),
        field("m", map(DataType::String, DataType::Double)),
        field("o", DataType::Struct(vec![field("x", DataType::TinyInt), field("y", array(DataType::String))])),
        field("l", array(DataType::Struct(vec![field("p", DataType::String), field("q", DataType::Double)]))),
    ]
}

#[test]
fn the_schema_of_a_batch_is_that_of_the_plan() {
    let schema = everything();
    let format = Format::Json { schema: schema.clone() };
    let full = full_schema(&format);
    assert_eq!(decoder("orders", &format, &Needed::All).schema(), full);
    assert_eq!(decode_with(&schema, &Needed::All, &["{}"]).batch.schema(), full);
    let names: Vec<&str> = full.fields().iter().map(|field| field.name().as_str()).collect();
    let expected = [
        "b",
        "i",
        "d",
        "s",
        "n",
        "day",
        "at",
        "a",
        "m",
        "o",
        "l",
        "_key",
        "_topic",
        "_partition",
        "_offset",
        "_timestamp",
        "_headers",
    ];
    assert_eq!(names, expected);
}
