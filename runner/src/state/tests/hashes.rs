//! The hash of keys, pinned: the fixture was computed from the definition by a program that is not ours.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Decimal32Array, Decimal128Array, Decimal256Array, DictionaryArray, Float32Array,
    Float64Array, Int8Array, Int32Array, Int64Array, IntervalDayTimeArray, IntervalMonthDayNanoArray, LargeStringArray,
    ListArray, NullArray, StringArray, StringViewArray, StructArray, TimestampNanosecondArray, UInt8Array, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, Int8Type, Int64Type, IntervalDayTime, IntervalMonthDayNano, i256};

use crate::state::hash::hash_rows;
use crate::state::{BucketSet, buckets_of};

fn struct_of(texts: StringArray, numbers: Int64Array, valid: Vec<bool>) -> StructArray {
    let fields = Fields::from(vec![Field::new("t", DataType::Utf8, true), Field::new("n", DataType::Int64, true)]);
    StructArray::new(fields, vec![Arc::new(texts), Arc::new(numbers)], Some(NullBuffer::from(valid)))
}

/// Every column of keys that must hash as the case says.
fn cases() -> Vec<(&'static str, Vec<Vec<ArrayRef>>)> {
    let words = vec![Some(""), Some("a"), Some("Zürich"), Some("abcdefghijklmnopqrstuvwxyz0123456789"), None];
    let nan = f64::NAN;
    let one = |columns: Vec<ArrayRef>| columns.into_iter().map(|column| vec![column]).collect::<Vec<_>>();
    vec![
        ("null", one(vec![Arc::new(NullArray::new(1))])),
        ("boolean", one(vec![Arc::new(BooleanArray::from(vec![Some(false), Some(true), None]))])),
        (
            "integers -1, 0, 7, null",
            one(vec![
                Arc::new(Int8Array::from(vec![Some(-1), Some(0), Some(7), None])),
                Arc::new(Int32Array::from(vec![Some(-1), Some(0), Some(7), None])),
                Arc::new(Int64Array::from(vec![Some(-1), Some(0), Some(7), None])),
                Arc::new(TimestampNanosecondArray::from(vec![Some(-1), Some(0), Some(7), None])),
            ]),
        ),
        (
            "unsigned 0, 7, null",
            one(vec![
                Arc::new(UInt8Array::from(vec![Some(0), Some(7), None])),
                Arc::new(UInt64Array::from(vec![Some(0), Some(7), None])),
            ]),
        ),
        (
            "floats 0, -0, 1.5, nan, -nan, null",
            one(vec![
                Arc::new(Float64Array::from(vec![Some(0.0), Some(-0.0), Some(1.5), Some(nan), Some(-nan), None])),
                Arc::new(Float32Array::from(vec![
                    Some(0.0),
                    Some(-0.0),
                    Some(1.5),
                    Some(f32::NAN),
                    Some(-f32::NAN),
                    None,
                ])),
            ]),
        ),
        (
            "decimals -12345, 7, null",
            one(vec![
                Arc::new(Decimal32Array::from(vec![Some(-12345), Some(7), None])),
                Arc::new(Decimal128Array::from(vec![Some(-12345), Some(7), None])),
            ]),
        ),
        (
            "decimal256 -12345, 7, null",
            one(vec![Arc::new(Decimal256Array::from(vec![
                Some(i256::from_i128(-12345)),
                Some(i256::from_i128(7)),
                None,
            ]))]),
        ),
        (
            "texts \"\", a, Zürich, 36 characters, null",
            one(vec![
                Arc::new(StringArray::from(words.clone())),
                Arc::new(LargeStringArray::from(words.clone())),
                Arc::new(StringViewArray::from(words.clone())),
                Arc::new(words.iter().copied().collect::<DictionaryArray<Int8Type>>()),
            ]),
        ),
        (
            "text and integer: (a, 1), (null, 1), (a, null), (\"\", 1)",
            vec![vec![
                Arc::new(StringArray::from(vec![Some("a"), None, Some("a"), Some("")])),
                Arc::new(Int64Array::from(vec![Some(1), Some(1), None, Some(1)])),
            ]],
        ),
        (
            "lists [1, 2], [], null, [null]",
            one(vec![Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
                Some(vec![Some(1), Some(2)]),
                Some(vec![]),
                None,
                Some(vec![None]),
            ]))]),
        ),
        (
            "structs {a, 1}, null, {null, null}",
            one(vec![Arc::new(struct_of(
                StringArray::from(vec![Some("a"), Some("hidden"), None]),
                Int64Array::from(vec![Some(1), Some(9), None]),
                vec![true, false, true],
            ))]),
        ),
        (
            "month-day-nano 1 2 3",
            one(vec![Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 3)]))]),
        ),
        ("day-time 1 2", one(vec![Arc::new(IntervalDayTimeArray::from(vec![IntervalDayTime::new(1, 2)]))])),
    ]
}

#[test]
fn the_hash_of_a_key_never_changes_between_versions() {
    let pinned: BTreeMap<String, Vec<String>> =
        serde_json::from_str(include_str!("../../../fixtures/state/hashes.json")).unwrap();
    let cases = cases();
    assert_eq!(pinned.len(), cases.len() + 1, "and the one without columns");
    for (name, variants) in cases {
        for columns in variants {
            let rows = columns[0].len();
            let hashes = hash_rows(&columns, rows).unwrap();
            let texts: Vec<String> = hashes.iter().map(|hash| format!("{hash:016x}")).collect();
            assert_eq!(texts, pinned[name], "{name} as {}", columns[0].data_type());
        }
    }
    assert_eq!(hash_rows(&[], 1).unwrap(), [0], "no columns");
    assert_eq!(pinned["no columns"], ["0000000000000000"]);
}

#[test]
fn a_slice_of_keys_hashes_as_the_keys_in_it() {
    for (name, variants) in cases() {
        for columns in variants {
            let rows = columns[0].len();
            let whole = hash_rows(&columns, rows).unwrap();
            for start in 0..rows {
                let slices: Vec<ArrayRef> = columns.iter().map(|column| column.slice(start, rows - start)).collect();
                assert_eq!(hash_rows(&slices, rows - start).unwrap(), whole[start..], "{name} from {start}");
            }
        }
    }
}

#[test]
fn keys_are_spread_over_the_buckets() {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
    let mut load = [0_usize; 256];
    buckets_of(&[keys], 100_000).unwrap().into_iter().for_each(|bucket| load[usize::from(bucket)] += 1);
    assert!(load.iter().all(|rows| (250..600).contains(rows)), "{load:?}");
}

#[test]
fn a_set_of_buckets_has_what_was_put_in() {
    let odd: BucketSet = (0..=255).filter(|bucket| bucket % 2 == 1).collect();
    assert_eq!(odd.len(), 128);
    assert!(odd.contains(255) && !odd.contains(0) && !odd.is_all() && !odd.is_empty());
    assert_eq!(odd.iter().collect::<BucketSet>(), odd);
    assert!((0..=255).collect::<BucketSet>().is_all());
    assert!(BucketSet::NONE.is_empty());
}
