#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use millrace_crds::DataType;

use super::tests::{array, decode, field, map, required};
use crate::decode::testing::cells;

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
