#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::job::{DataType, Field};

fn column(name: &str, data_type: DataType) -> Field {
    Field { name: name.to_owned(), data_type, nullable: true }
}

fn array(data_type: DataType) -> DataType {
    DataType::Array(Box::new(column("element", data_type)))
}

fn map(key: DataType, value: DataType) -> DataType {
    DataType::Map { key: Box::new(key), value: Box::new(column("value", value)) }
}

#[test]
fn the_orders_of_scenario_s1_are_read() {
    let text = "order_id INT, customer_id STRING, timestamp STRING,\n \
                items ARRAY<STRUCT<product_id INT, product_name STRING, quantity INT, unit_price DOUBLE, subtotal DOUBLE>>,\n \
                total DOUBLE, status STRING\n";
    let item = vec![
        column("product_id", DataType::Int),
        column("product_name", DataType::String),
        column("quantity", DataType::Int),
        column("unit_price", DataType::Double),
        column("subtotal", DataType::Double),
    ];
    let schema = vec![
        column("order_id", DataType::Int),
        column("customer_id", DataType::String),
        column("timestamp", DataType::String),
        column("items", array(DataType::Struct(item))),
        column("total", DataType::Double),
        column("status", DataType::String),
    ];
    assert_eq!(parse_schema(text).unwrap(), schema);
}

#[test]
fn every_name_spark_knows_is_a_type() {
    let cases = [
        ("boolean", DataType::Boolean),
        ("TINYINT", DataType::TinyInt),
        ("byte", DataType::TinyInt),
        ("SMALLINT", DataType::SmallInt),
        ("SHORT", DataType::SmallInt),
        ("INT", DataType::Int),
        ("Integer", DataType::Int),
        ("BIGINT", DataType::BigInt),
        ("LONG", DataType::BigInt),
        ("FLOAT", DataType::Float),
        ("REAL", DataType::Float),
        ("DOUBLE", DataType::Double),
        ("DOUBLE PRECISION", DataType::Double),
        ("DECIMAL", DataType::Decimal { precision: 10, scale: 0 }),
        ("DEC(5)", DataType::Decimal { precision: 5, scale: 0 }),
        ("NUMERIC ( 38 , 38 )", DataType::Decimal { precision: 38, scale: 38 }),
        ("STRING", DataType::String),
        ("VARCHAR(20)", DataType::String),
        ("CHAR(3)", DataType::String),
        ("CHARACTER(3)", DataType::String),
        ("BINARY", DataType::Binary),
        ("DATE", DataType::Date),
        ("TIMESTAMP", DataType::Timestamp),
        ("TIMESTAMP_LTZ", DataType::Timestamp),
        ("TIMESTAMP_NTZ", DataType::TimestampNtz),
        ("array<map<string,array<int>>>", array(map(DataType::String, array(DataType::Int)))),
    ];
    for (text, data_type) in cases {
        assert_eq!(parse_type(text).unwrap(), data_type, "{text}");
        assert_eq!(parse_schema(&format!("c {text}")).unwrap(), vec![column("c", data_type)], "{text}");
    }
    for name in types::NAMES {
        assert!(types::lookup(name).is_some(), "{name} is suggested but not understood");
    }
}

#[test]
fn colons_comments_not_null_and_quoted_names_are_understood() {
    let text = "struct<`my id`: LONG NOT NULL COMMENT 'it''s \\' the, key', `a``b` INT COMMENT \"x\", 1st DATE NULL, struct STRUCT<x INT>>";
    let not_null = Field { nullable: false, ..column("my id", DataType::BigInt) };
    let schema = vec![
        not_null,
        column("a`b", DataType::Int),
        column("1st", DataType::Date),
        column("struct", DataType::Struct(vec![column("x", DataType::Int)])),
    ];
    assert_eq!(parse_schema(text).unwrap(), schema);
    assert_eq!(parse_schema("struct STRUCT<x INT>").unwrap(), schema[3..]);
}

#[test]
fn each_mistake_says_where_it_is_and_what_to_write() {
    let cases = [
        (
            "order_id BIGINT, total DOUBEL, status STRING",
            "unknown type `DOUBEL` at character 24; did you mean DOUBLE?\n  order_id BIGINT, total DOUBEL, status STRING\n                         ^^^^^^",
        ),
        ("a TEXT", "unknown type `TEXT` at character 3; write STRING\n  a TEXT\n    ^^^^"),
        ("a INT64", "unknown type `INT64` at character 3; write BIGINT\n  a INT64\n    ^^^^^"),
        (
            "a INTERVAL",
            "unknown type `INTERVAL` at character 3; no such type can be read; STRING keeps the text\n  a INTERVAL\n    ^^^^^^^^",
        ),
        ("a", "the column `a` has no type at character 2; write a type after the name, such as `a STRING`\n  a\n   ^"),
        ("", "a column is missing at character 1; write a name and a type, such as `id BIGINT`\n  \n  ^"),
        (
            "a INT,",
            "a column is missing after the comma at character 7; remove the comma or add a column\n  a INT,\n        ^",
        ),
        ("a INT b INT", "unexpected `b` at character 7; separate columns by a comma\n  a INT b INT\n        ^"),
        (
            "a INT, A STRING",
            "the column `A` is there twice at character 8; remove or rename one (case does not count)\n  a INT, A STRING\n         ^",
        ),
        ("a ARRAY<INT", "ARRAY< is never closed at character 12; write `>` at the end\n  a ARRAY<INT\n             ^"),
        (
            "a ARRAY",
            "ARRAY says nothing of what is in it at character 8; write it as ARRAY<STRING>\n  a ARRAY\n         ^",
        ),
        (
            "a STRUCT<b INT",
            "STRUCT< is never closed at character 15; write `>` at the end\n  a STRUCT<b INT\n                ^",
        ),
        (
            "a STRUCT<>",
            "a column is missing at character 10; write a name and a type, such as `id BIGINT`\n  a STRUCT<>\n           ^",
        ),
        ("a INT>", "`>` closes nothing at character 6; remove it\n  a INT>\n       ^"),
        ("a MAP<INT>", "a map has a key and a value at character 10; write MAP<STRING, …>\n  a MAP<INT>\n           ^"),
        (
            "a DECIMAL(50, 2)",
            "a precision of 50 at character 10; write a precision of 1 to 38, such as DECIMAL(10, 2)\n  a DECIMAL(50, 2)\n           ^^^^^^^",
        ),
        (
            "a DECIMAL(5, 6)",
            "a scale of 6 with a precision of 5 at character 10; the scale is at most the precision\n  a DECIMAL(5, 6)\n           ^^^^^^",
        ),
        (
            "a DECIMAL(x)",
            "a whole number is missing at character 11; write it as DECIMAL(10, 2)\n  a DECIMAL(x)\n            ^",
        ),
        ("a INT(5)", "the type takes no arguments at character 6; remove the brackets\n  a INT(5)\n       ^"),
        (
            "my-col INT",
            "`-` in the name `my-col` at character 1; put the name between back-quotes: `` `my-col` ``\n  my-col INT\n  ^^^^^^",
        ),
        (
            "`a INT",
            "a back-quote that is never closed at character 1; close the name with another back-quote\n  `a INT\n  ^",
        ),
        ("a INT NOT", "NOT without NULL at character 10; write NOT NULL\n  a INT NOT\n           ^"),
        (
            "a INT COMMENT x",
            "COMMENT without a text at character 15; write COMMENT 'text'\n  a INT COMMENT x\n                ^",
        ),
        (
            "a INT DEFAULT 5",
            "DEFAULT is not supported at character 7; leave it out, and use coalesce in the query\n  a INT DEFAULT 5\n        ^^^^^^^",
        ),
        (
            "{\"a\": 1}",
            "a column's name is missing before `{` at character 1; begin names with a letter, or put them between back-quotes\n  {\"a\": 1}\n  ^",
        ),
    ];
    for (text, error) in cases {
        assert_eq!(parse_schema(text).unwrap_err().to_string(), error, "{text}");
    }
}

#[test]
fn a_long_text_is_shown_around_the_mistake_only() {
    let many: Vec<String> = (0..50).map(|n| format!("column_{n} STRING")).collect();
    let text = format!("{}, wrong STRNG, {}", many.join(", "), many.join(", ").replace("column", "other"));
    let error = parse_schema(&text).unwrap_err();
    let lines: Vec<&str> = error.excerpt.lines().collect();
    assert!(lines[0].starts_with("  … ") && lines[0].ends_with(" …"), "{}", lines[0]);
    assert!(lines[0].chars().count() < 90, "{}", lines[0]);
    let caret = lines[1].chars().position(|c| c == '^').unwrap();
    assert_eq!(lines[0].chars().skip(caret).take(5).collect::<String>(), "STRNG");
}

#[test]
fn bottomless_nesting_is_refused() {
    let text = format!("a {}INT{}", "ARRAY<".repeat(10_000), ">".repeat(10_000));
    assert_eq!(parse_schema(&text).unwrap_err().problem, "types are nested more than 32 deep");
}

fn any_type() -> impl Strategy<Value = DataType> {
    let leaf = prop_oneof![
        Just(DataType::Boolean),
        Just(DataType::TinyInt),
        Just(DataType::SmallInt),
        Just(DataType::Int),
        Just(DataType::BigInt),
        Just(DataType::Float),
        Just(DataType::Double),
        Just(DataType::String),
        Just(DataType::Binary),
        Just(DataType::Date),
        Just(DataType::Timestamp),
        Just(DataType::TimestampNtz),
        (1u8..=38)
            .prop_flat_map(|p| (Just(p), 0..=p as i8))
            .prop_map(|(precision, scale)| DataType::Decimal { precision, scale }),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(array),
            (inner.clone(), inner.clone()).prop_map(|(key, value)| map(key, value)),
            any_fields(inner).prop_map(DataType::Struct),
        ]
    })
}

fn any_fields(types: impl Strategy<Value = DataType>) -> impl Strategy<Value = Vec<Field>> {
    let field = ("[a-z_0-9]{1,6}|[^\\x00]{1,8}", types, any::<bool>());
    proptest::collection::vec(field, 1..5).prop_map(|fields| {
        let number = |(n, (name, data_type, nullable))| Field { name: format!("{name}{n}"), data_type, nullable };
        let mut fields: Vec<Field> = fields.into_iter().enumerate().map(number).collect();
        fields.dedup_by_key(|field| field.name.to_lowercase());
        fields
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back_as_the_same_columns(fields in any_fields(any_type())) {
        let distinct: std::collections::BTreeSet<String> = fields.iter().map(|field| field.name.to_lowercase()).collect();
        prop_assume!(distinct.len() == fields.len());
        prop_assert_eq!(parse_schema(&show_schema(&fields)).unwrap(), fields);
    }

    #[test]
    fn no_text_makes_the_parser_fail_otherwise_than_by_an_error(
        text in "([a-z`'(),<>: ]|ARRAY<|STRUCT<|MAP<|INT|NOT NULL|COMMENT|DECIMAL\\(){0,30}|.{0,40}",
    ) {
        if let Err(error) = parse_schema(&text) {
            prop_assert!(error.position <= text.chars().count());
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
