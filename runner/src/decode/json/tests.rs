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

/// What one value becomes in a column `c`: its text, or why it is bad.
fn one(data_type: &DataType, value: &str) -> Result<String, String> {
    let decoded = decode(&[field("c", data_type.clone())], &[format!("{{\"c\": {value}}}")]);
    match decoded.bad.into_iter().next() {
        Some(bad) => Err(bad.reason),
        None => Ok(cells(&decoded.batch)[0][0].clone()),
    }
}

fn takes(data_type: DataType, cases: &[(&str, &str)]) {
    for (value, expected) in cases {
        assert_eq!(one(&data_type, value).as_deref(), Ok(*expected), "{value} for {data_type:?}");
    }
}

fn refuses(data_type: DataType, cases: &[(&str, &str)]) {
    for (value, reason) in cases {
        match one(&data_type, value) {
            Ok(cell) => panic!("{value} for {data_type:?} became {cell}"),
            Err(found) => assert!(found.contains(reason), "{value} for {data_type:?}: {found}"),
        }
    }
}

#[test]
fn booleans_are_the_two_literals() {
    takes(DataType::Boolean, &[("true", "true"), ("false", "false"), ("null", "∅")]);
    let cases =
        [("1", "column 'c': expected BOOLEAN, found 1"), ("\"true\"", "found \"true\""), ("truE", "expected true")];
    refuses(DataType::Boolean, &cases);
}

#[test]
fn integers_are_whole_numbers_in_range() {
    takes(DataType::TinyInt, &[("-128", "-128"), ("127", "127"), ("-0", "0")]);
    refuses(
        DataType::TinyInt,
        &[("128", "column 'c': 128 is out of the range of TINYINT"), ("-129", "out of the range")],
    );
    takes(DataType::SmallInt, &[("-32768", "-32768")]);
    refuses(DataType::SmallInt, &[("32768", "SMALLINT")]);
    takes(DataType::Int, &[("2147483647", "2147483647")]);
    refuses(DataType::Int, &[("2147483648", "INT"), ("1.5", "expected INT, found 1.5"), ("2.0", "found 2.0")]);
    refuses(DataType::Int, &[("1e3", "found 1e3"), ("\"5\"", "expected INT, found \"5\""), ("[1]", "found [1]")]);
    takes(DataType::BigInt, &[("9223372036854775807", "9223372036854775807")]);
    takes(
        DataType::BigInt,
        &[("-9223372036854775808", "-9223372036854775808"), ("123456789012345678", "123456789012345678")],
    );
    refuses(
        DataType::BigInt,
        &[("9223372036854775808", "out of the range of BIGINT"), ("-9223372036854775809", "range")],
    );
    refuses(
        DataType::BigInt,
        &[("01", "not valid JSON at byte 7"), ("+1", "expected a value"), ("-", "expected a digit")],
    );
    refuses(
        DataType::BigInt,
        &[
            ("1.", "expected a digit"),
            (".5", "expected a value"),
            ("1e", "expected a digit"),
            ("0x10", "not valid JSON"),
        ],
    );
}

#[test]
fn floating_point_numbers_are_the_nearest_ones() {
    let cases = [("1", "1.0"), ("0.1", "0.1"), ("-2.5e-3", "-0.0025"), ("1E2", "100.0"), ("-0.0", "-0.0")];
    takes(DataType::Double, &cases);
    takes(
        DataType::Double,
        &[("9007199254740993", "9007199254740992.0"), ("123456789.123456789", "123456789.12345679")],
    );
    takes(DataType::Double, &[("\"NaN\"", "NaN"), ("\"-Infinity\"", "-inf"), ("\"+INF\"", "inf"), ("1e-400", "0.0")]);
    refuses(
        DataType::Double,
        &[("1e400", "1e400 is out of the range of DOUBLE"), ("\"1.5\"", "expected DOUBLE, found \"1.5\"")],
    );
    refuses(DataType::Double, &[("NaN", "expected a value, found 'N'"), ("true", "found true")]);
    takes(DataType::Float, &[("0.1", "0.1"), ("16777217", "16777216.0")]);
    refuses(DataType::Float, &[("1e39", "out of the range of FLOAT")]);
}

#[test]
fn decimals_are_exact_and_rounded_half_up_to_their_scale() {
    let money = DataType::Decimal { precision: 10, scale: 2 };
    takes(money.clone(), &[("1", "1.00"), ("12345678.91", "12345678.91"), ("\"-0.5\"", "-0.50"), ("1.5e2", "150.00")]);
    takes(
        money.clone(),
        &[("1.005", "1.01"), ("-1.005", "-1.01"), ("1.0049", "1.00"), ("1e-9", "0.00"), ("0.5e-2", "0.01")],
    );
    refuses(
        money.clone(),
        &[("123456789.0", "out of the range of DECIMAL(10,2)"), ("99999999.995", "range"), ("1e99", "range")],
    );
    refuses(
        money,
        &[("\"ten\"", "expected DECIMAL(10,2), found \"ten\""), ("\"\"", "DECIMAL"), ("\"1.2.3\"", "DECIMAL")],
    );
    let widest = DataType::Decimal { precision: 38, scale: 0 };
    let digits = "9".repeat(38);
    takes(widest.clone(), &[(&digits, &digits), ("1e37", &format!("1{}", "0".repeat(37)))]);
    refuses(
        widest,
        &[(&"9".repeat(39), "range"), ("1e38", "range"), ("1e2147483647", "range"), ("1e99999999999", "range")],
    );
}

#[test]
fn strings_take_escapes_and_the_text_of_other_values() {
    takes(
        DataType::String,
        &[("\"é\\u00e9\\n\\\"\\\\\\/\"", "éé\n\"\\/"), ("\"\\ud83d\\ude00!\"", "😀!"), ("\"\"", "")],
    );
    takes(
        DataType::String,
        &[("1.10", "1.10"), ("true", "true"), ("{\"a\": [1, 2]}", "{\"a\": [1, 2]}"), ("null", "∅")],
    );
    refuses(
        DataType::String,
        &[("\"\\ud83d\"", "surrogate"), ("\"\\ude00\"", "surrogate"), ("\"\\x\"", "unknown escape")],
    );
    refuses(
        DataType::String,
        &[("\"a\nb\"", "control character"), ("\"\\u12g4\"", "hexadecimal"), ("'a'", "expected a value")],
    );
}

#[test]
fn binary_values_are_base64() {
    takes(DataType::Binary, &[("\"AP8Q\"", "00ff10"), ("\"aGk=\"", "6869"), ("\"aA==\"", "68"), ("\"\"", "")]);
    refuses(
        DataType::Binary,
        &[("\"aGk\"", "expected BINARY (base64)"), ("\"a===\"", "BINARY"), ("\"====\"", "BINARY")],
    );
    refuses(DataType::Binary, &[("\"aGl=\"", "BINARY"), ("\"a-_b\"", "BINARY"), ("12", "found 12")]);
}

#[test]
fn dates_are_days_of_the_calendar() {
    takes(
        DataType::Date,
        &[("\"1970-01-01\"", "1970-01-01"), ("\"2024-02-29\"", "2024-02-29"), ("\"0001-01-01\"", "0001-01-01")],
    );
    takes(DataType::Date, &[("\"9999-12-31\"", "9999-12-31"), ("\"2024-05-01T23:59:59+02:00\"", "2024-05-01")]);
    refuses(
        DataType::Date,
        &[("\"2023-02-29\"", "expected DATE (YYYY-MM-DD), found \"2023-02-29\""), ("\"1900-02-29\"", "DATE")],
    );
    refuses(
        DataType::Date,
        &[("\"2024-13-01\"", "DATE"), ("\"2024-1-1\"", "DATE"), ("19000", "found 19000"), ("\"2024-01-01x\"", "DATE")],
    );
}

#[test]
fn timestamps_are_instants_and_without_a_zone_utc() {
    let cases = [
        ("\"2024-05-01T10:20:30\"", "2024-05-01T10:20:30Z"),
        ("\"2024-05-01 10:20:30.5\"", "2024-05-01T10:20:30.500Z"),
        ("\"2024-05-01 10:20\"", "2024-05-01T10:20:00Z"),
        ("\"2024-05-01\"", "2024-05-01T00:00:00Z"),
        ("\"2024-05-01T10:20:30.123456789Z\"", "2024-05-01T10:20:30.123456Z"),
        ("\"2024-05-01T01:20:30+02:00\"", "2024-04-30T23:20:30Z"),
        ("\"2024-05-01T10:20:30-0330\"", "2024-05-01T13:50:30Z"),
        ("\"2024-05-01T10:20:30+02\"", "2024-05-01T08:20:30Z"),
        ("\"2024-05-01 10:20:30 UTC\"", "2024-05-01T10:20:30Z"),
        ("\"1969-12-31T23:59:59.999999Z\"", "1969-12-31T23:59:59.999999Z"),
        ("\"2024-05-01\\u005410:20:30\"", "2024-05-01T10:20:30Z"),
        ("1714558830", "2024-05-01T10:20:30Z"),
        ("-1", "1969-12-31T23:59:59Z"),
    ];
    takes(DataType::Timestamp, &cases);
    let cases = [
        ("\"yesterday\"", "column 'c': expected TIMESTAMP"),
        ("\"2024-05-01T24:00:00\"", "TIMESTAMP"),
        ("\"2024-05-01T10:60:00\"", "TIMESTAMP"),
        ("\"2024-05-01T10:20:60\"", "TIMESTAMP"),
        ("\"2024-05-01T10:20:30.\"", "TIMESTAMP"),
        ("\"2024-05-01T10:20:30 Europe/Paris\"", "TIMESTAMP"),
        ("\"2024-05-01T10:20:30+19:00\"", "TIMESTAMP"),
        ("\"2024-05-01T\"", "TIMESTAMP"),
        ("\"2024-05-01T10:2\"", "TIMESTAMP"),
        ("1714558830123", "to_timestamp_millis"),
        ("9223372036854775807", "to_timestamp_millis"),
        ("1.5", "found 1.5"),
        ("true", "found true"),
    ];
    refuses(DataType::Timestamp, &cases);
}

#[test]
fn timestamps_without_zone_refuse_a_zone_instead_of_dropping_it() {
    takes(DataType::TimestampNtz, &[("\"2024-05-01T10:20:30.25\"", "2024-05-01T10:20:30.250")]);
    refuses(
        DataType::TimestampNtz,
        &[("\"2024-05-01T10:20:30Z\"", "without a zone"), ("1714558830", "found 1714558830")],
    );
}

#[test]
fn arrays_maps_and_structs_nest() {
    takes(array(DataType::Int), &[("[1, null, 3]", "[1, ∅, 3]"), ("[]", "[]"), ("null", "∅")]);
    refuses(
        array(DataType::Int),
        &[("[1, \"x\"]", "column 'c[1]': expected INT, found \"x\""), ("{}", "expected ARRAY, found {}")],
    );
    refuses(
        array(DataType::Int),
        &[("[1,]", "expected a value"), ("[,1]", "expected a value"), ("[1 2]", "expected ',' or ']'")],
    );
    takes(map(DataType::String, DataType::Int), &[("{\"a\": 1, \"b\": null}", "{a: 1, b: ∅}"), ("{}", "{}")]);
    refuses(
        map(DataType::String, DataType::Int),
        &[("{\"a\": true}", "column 'c[a]': expected INT, found true"), ("[]", "MAP")],
    );
    refuses(map(DataType::String, DataType::Int), &[("{\"a\": 1, \"\\u0061\": 2}", "has the key \"a\" twice")]);
    takes(map(DataType::Int, DataType::Double), &[("{\"7\": 1}", "{7: 1.0}")]);
    refuses(map(DataType::Int, DataType::Double), &[("{\"x\": 1}", "expected INT, found \"x\"")]);
    takes(map(DataType::Double, DataType::Boolean), &[("{\"1.5\": true, \"NaN\": false}", "{1.5: true, NaN: false}")]);
    let point = DataType::Struct(vec![required("x", DataType::Int), field("y", array(DataType::String))]);
    takes(
        point.clone(),
        &[("{\"y\": [\"a\"], \"x\": 1}", "{x: 1, y: [a]}"), ("{\"x\": 2, \"z\": {}}", "{x: 2, y: ∅}"), ("null", "∅")],
    );
    refuses(
        point.clone(),
        &[("{}", "column 'c.x': is NOT NULL, but the field is missing"), ("{\"x\": null}", "the value is null")],
    );
    refuses(array(point), &[("[{\"x\": 1}, {\"x\": 1.5}]", "column 'c[1].x': expected INT, found 1.5")]);
}

#[test]
fn a_map_of_many_keys_has_each_once() {
    let keys: Vec<String> = (0..100).map(|key| format!("\"k{key}\": {key}")).collect();
    let unique = format!("{{{}}}", keys.join(", "));
    assert!(one(&map(DataType::String, DataType::Int), &unique).is_ok());
    let twice = format!("{{{}, \"k50\": 1}}", keys.join(", "));
    refuses(map(DataType::String, DataType::Int), &[(&twice, "\"k50\" twice")]);
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
