#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, TimeUnit};

use super::ConsoleTable;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn orders() -> RecordBatch {
    batch(vec![
        ("id", Arc::new(Int32Array::from(vec![Some(1), None, Some(300)]))),
        ("customer", Arc::new(StringArray::from(vec!["Ann", "a name of twenty chs", "a name of more than twenty"]))),
    ])
}

fn shown(column: impl Array + 'static) -> Vec<String> {
    (0..column.len()).map(|row| super::cell::text(&column, row)).collect()
}

#[test]
fn a_table_is_aligned_to_the_right_and_long_cells_are_cut() {
    let expected = "\
+----+--------------------+
|  id|            customer|
+----+--------------------+
|   1|                 Ann|
|NULL|a name of twenty chs|
| 300|a name of more th...|
+----+--------------------+
";
    assert_eq!(ConsoleTable::render(&orders().schema(), &[orders()], 20, Some(20)), expected);
}

#[test]
fn whole_cells_are_aligned_to_the_left() {
    let expected = "\
+----+--------------------------+
|id  |customer                  |
+----+--------------------------+
|1   |Ann                       |
|NULL|a name of twenty chs      |
|300 |a name of more than twenty|
+----+--------------------------+
";
    assert_eq!(ConsoleTable::render(&orders().schema(), &[orders()], 20, None), expected);
}

#[test]
fn rows_beyond_the_limit_are_counted_and_announced() {
    let expected = "\
+---+---+
| id|cus|
+---+---+
|  1|Ann|
+---+---+
only showing top 1 row
";
    let columns = orders().columns().to_vec();
    let renamed = batch(vec![("id", columns[0].clone()), ("cus", columns[1].clone())]);
    assert_eq!(ConsoleTable::render(&renamed.schema(), std::slice::from_ref(&renamed), 1, Some(20)), expected);
    let mut table = ConsoleTable::new(&renamed.schema(), 4, Some(3));
    table.push(&renamed);
    assert!(!table.to_text().contains("only showing"));
    for _ in 0..1000 {
        table.push(&renamed);
    }
    assert_eq!(table.rows(), 3003);
    assert!(table.buffered_bytes() < 100, "only the rows that will be shown are kept");
    assert!(
        table.to_text().ends_with("|300|a n|\n|  1|Ann|\n+---+---+\nonly showing top 4 rows\n"),
        "{}",
        table.to_text()
    );
    assert!(
        ConsoleTable::render(&renamed.schema(), std::slice::from_ref(&renamed), 0, None)
            .ends_with("only showing top 0 rows\n")
    );
}

#[test]
fn an_epoch_without_rows_is_a_table_without_rows() {
    let text = ConsoleTable::render(&orders().schema(), &[], 20, Some(20));
    assert_eq!(text, "+---+--------+\n| id|customer|\n+---+--------+\n+---+--------+\n");
}

#[test]
fn a_batch_is_printed_under_its_number() {
    let one = batch(vec![("v", Arc::new(Int32Array::from(vec![5])) as ArrayRef)]);
    let mut table = ConsoleTable::new(&one.schema(), 20, Some(20));
    table.push(&one);
    let mut out = Vec::new();
    table.print(3, None, &mut out).unwrap();
    let rule = "-".repeat(43);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        format!("{rule}\nBatch: 3\n{rule}\n+---+\n|  v|\n+---+\n|  5|\n+---+\n\n")
    );
    let mut out = Vec::new();
    table.print(0, Some("errors"), &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().contains("\nBatch: 0 (errors)\n"));
}

#[test]
fn wide_characters_keep_the_columns_straight() {
    let names = batch(vec![("n", Arc::new(StringArray::from(vec!["日本", "é", "abcde"])) as ArrayRef)]);
    let text = ConsoleTable::render(&names.schema(), std::slice::from_ref(&names), 20, Some(20));
    assert_eq!(text, "+-----+\n|    n|\n+-----+\n| 日本|\n|    é|\n|abcde|\n+-----+\n");
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let hostile = StringArray::from(vec!["a\nb\tc\r", "\u{1b}[2J", "\u{7}\u{9b}"]);
    assert_eq!(shown(hostile.clone()), ["a\\nb\\tc\\r", "\\x1b[2J", "\\x07\\x9b"]);
    let list = ListArray::new(
        Arc::new(Field::new_list_field(DataType::Utf8, true)),
        arrow::buffer::OffsetBuffer::from_lengths([3]),
        Arc::new(hostile),
        None,
    );
    assert_eq!(shown(list), ["[a\\nb\\tc\\r, \\x1b[2J, \\x07\\x9b]"]);
}

#[test]
fn doubles_are_in_javas_notation() {
    let doubles =
        [0.0, -0.0, 1.0, 0.1, -12.5, 1234567.0, 9999999.5, 1e7, 123456789.25, 0.001, 0.00099, 5e-324, f64::MAX];
    let expected = [
        "0.0",
        "-0.0",
        "1.0",
        "0.1",
        "-12.5",
        "1234567.0",
        "9999999.5",
        "1.0E7",
        "1.2345678925E8",
        "0.001",
        "9.9E-4",
        "5.0E-324",
        "1.7976931348623157E308",
    ];
    assert_eq!(shown(Float64Array::from(doubles.to_vec())), expected);
    let special = Float64Array::from(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
    assert_eq!(shown(special), ["NaN", "Infinity", "-Infinity"]);
    assert_eq!(shown(Float32Array::from(vec![0.1, 16777216.0, 2.5])), ["0.1", "1.6777216E7", "2.5"]);
}

#[test]
fn times_are_shown_to_their_last_digit() {
    let micros = TimestampMicrosecondArray::from(vec![1_714_558_830_123_000, 1_714_558_830_000_000, -1]);
    let expected = ["2024-05-01 10:20:30.123", "2024-05-01 10:20:30", "1969-12-31 23:59:59.999999"];
    assert_eq!(shown(micros.clone()), expected);
    assert_eq!(shown(micros.with_timezone("UTC")), expected);
    assert_eq!(shown(TimestampSecondArray::from(vec![0])), ["1970-01-01 00:00:00"]);
    assert_eq!(shown(TimestampMillisecondArray::from(vec![1500])), ["1970-01-01 00:00:01.5"]);
    assert_eq!(shown(TimestampNanosecondArray::from(vec![1])), ["1970-01-01 00:00:00.000000001"]);
    assert_eq!(shown(TimestampSecondArray::from(vec![i64::MAX])), ["<beyond the calendar>"]);
    assert_eq!(shown(Date32Array::from(vec![19844])), ["2024-05-01"]);
}

#[test]
fn scalars_of_other_types_have_their_usual_text() {
    assert_eq!(shown(BooleanArray::from(vec![Some(true), Some(false), None])), ["true", "false", "NULL"]);
    assert_eq!(shown(Int64Array::from(vec![i64::MIN])), ["-9223372036854775808"]);
    let money = Decimal128Array::from(vec![-5, 12345]).with_precision_and_scale(10, 2).unwrap();
    assert_eq!(shown(money), ["-0.05", "123.45"]);
    assert_eq!(shown(BinaryArray::from(vec![b"\x00\xffA".as_slice(), b""])), ["[00 FF 41]", "[]"]);
    assert_eq!(shown(NullArray::new(1)), ["NULL"]);
    assert_eq!(shown(StringViewArray::from(vec!["a view"])), ["a view"]);
    let dictionary: DictionaryArray<Int32Type> = [Some("x"), None, Some("y"), Some("x")].into_iter().collect();
    assert_eq!(shown(dictionary), ["x", "NULL", "y", "x"]);
}

#[test]
fn nested_values_are_bracketed_as_in_spark() {
    let mut list = ListBuilder::new(StringBuilder::new());
    list.append_value([Some("a"), None, Some("b")]);
    list.append_value([] as [Option<&str>; 0]);
    list.append_null();
    assert_eq!(shown(list.finish()), ["[a, NULL, b]", "[]", "NULL"]);

    let at = TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC");
    let fields = Fields::from(vec![
        Field::new("n", DataType::Int32, true),
        Field::new("s", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
    ]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int32Array::from(vec![1])), Arc::new(StringArray::from(vec![None::<&str>])), Arc::new(at)];
    assert_eq!(shown(StructArray::new(fields, columns, None)), ["{1, NULL, 1970-01-01 00:00:00}"]);

    let mut map = MapBuilder::new(None, StringBuilder::new(), Float64Builder::new());
    map.keys().append_value("k");
    map.values().append_value(1.0);
    map.keys().append_value("l");
    map.values().append_null();
    map.append(true).unwrap();
    map.append(true).unwrap();
    assert_eq!(shown(map.finish()), ["{k -> 1.0, l -> NULL}", "{}"]);
}
