//! Properties of the decoder over messages made up at random, with other readers of JSON as oracles.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arrow::array::RecordBatch;
use arrow::json::ReaderBuilder;
use arrow::util::pretty::pretty_format_batches;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::literal;
use super::tests::{decode, decode_with, everything};
use crate::decode::{Decoded, Needed};

fn text() -> impl Strategy<Value = Value> {
    prop_oneof!["[a-z \"\\\\\n\té€😀]{0,12}", ".{0,20}"].prop_map(Value::from)
}

/// A value that fits the column of [`everything`] with this name; or null.
fn fitting(name: &str) -> BoxedStrategy<Value> {
    let double = || any::<f64>().prop_filter("JSON has finite numbers only", |value| value.is_finite());
    let value: BoxedStrategy<Value> = match name {
        "b" => any::<bool>().prop_map(Value::from).boxed(),
        "i" => any::<i64>().prop_map(Value::from).boxed(),
        "d" => double().prop_map(Value::from).boxed(),
        "s" => text().boxed(),
        "n" => (-999_999_999i64..999_999_999, 0u32..1000)
            .prop_map(|(whole, rest)| json!(format!("{whole}.{rest:03}")))
            .boxed(),
        "day" => {
            (1u32..=9999, 1u32..=12, 1u32..=28).prop_map(|(y, m, d)| json!(format!("{y:04}-{m:02}-{d:02}"))).boxed()
        }
        "at" => (1902u32..=9998, 1u32..=12, 1u32..=28, 0u32..24, 0u32..60, 0u32..1_000_000, -12i32..=12)
            .prop_map(|(y, mo, d, h, mi, us, z)| {
                json!(format!("{y:04}-{mo:02}-{d:02}T{h:02}:{mi:02}:07.{us:06}{z:+03}:00"))
            })
            .boxed(),
        "a" => prop::collection::vec(prop::option::of(any::<i32>()), 0..4).prop_map(Value::from).boxed(),
        "m" => prop::collection::btree_map("[a-z]{1,5}", double(), 0..4).prop_map(|map| json!(map)).boxed(),
        "o" => (any::<i8>(), prop::collection::vec(text(), 0..3))
            .prop_map(|(x, y)| json!({"x": x, "y": y, "z": [{}]}))
            .boxed(),
        _ => prop::collection::vec((text(), double()), 0..3)
            .prop_map(|pairs| pairs.into_iter().map(|(p, q)| json!({"q": q, "p": p})).collect())
            .boxed(),
    };
    prop_oneof![1 => Just(Value::Null), 6 => value].boxed()
}

/// An object with some of the fields of [`everything`], in any order, all fitting, and some unknown ones.
fn fitting_object() -> impl Strategy<Value = String> {
    let names: Vec<String> = everything().into_iter().map(|field| field.name).chain(["unknown".into()]).collect();
    prop::sample::subsequence(names.clone(), 0..=names.len()).prop_shuffle().prop_flat_map(|names| {
        let values: Vec<_> = names.iter().map(|name| fitting(name)).collect();
        (Just(names), values, any::<bool>()).prop_map(|(names, values, pretty)| {
            let object: serde_json::Map<_, _> = names.into_iter().zip(values).collect();
            if pretty {
                serde_json::to_string_pretty(&object).unwrap()
            } else {
                serde_json::to_string(&object).unwrap()
            }
        })
    })
}

/// Objects that fit, that do not, that are cut short or altered in a byte, and plain garbage.
fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    let json_like = "[\\[\\]{}:,\"\\\\a-fnrtu0-9.eE+ -]{0,30}";
    let mismatched =
        (prop::sample::select(everything()), prop::sample::select(everything())).prop_flat_map(|(column, other)| {
            fitting(&other.name).prop_map(move |value| json!({ column.name.clone(): value }).to_string())
        });
    prop_oneof![
        4 => fitting_object().prop_map(String::into_bytes),
        2 => mismatched.prop_map(String::into_bytes),
        2 => (fitting_object(), any::<prop::sample::Index>()).prop_map(|(text, at)| {
            let mut bytes = text.into_bytes();
            bytes.truncate(at.index(bytes.len()));
            bytes
        }),
        2 => (fitting_object(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(text, at, byte)| {
            let mut bytes = text.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        }),
        1 => json_like.prop_map(String::into_bytes),
        1 => json_like.prop_map(|inner| format!("{{\"u\":{inner}}}").into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

fn concatenated(parts: &[RecordBatch], like: &RecordBatch) -> RecordBatch {
    arrow::compute::concat_batches(&like.schema(), parts).unwrap()
}

fn shown(batch: &RecordBatch) -> String {
    pretty_format_batches(std::slice::from_ref(batch)).unwrap().to_string()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The point of the decoder: in company a message fares as it does alone.
    #[test]
    fn messages_decode_together_as_each_does_alone(payloads in prop::collection::vec(any_payload(), 0..12)) {
        let schema = everything();
        let together = decode(&schema, &payloads);
        let alone: Vec<Decoded> = payloads.iter().map(|payload| decode(&schema, &[payload])).collect();
        let rows: Vec<RecordBatch> = alone.iter().map(|decoded| decoded.batch.clone()).collect();
        let expected = concatenated(&rows, &together.batch);
        prop_assert!(expected == together.batch, "{}\n{}", shown(&expected), shown(&together.batch));
        let bad: Vec<(i64, &str)> = together.bad.iter().map(|bad| (bad.offset.0, bad.reason.as_str())).collect();
        let expected_bad: Vec<(i64, &str)> = (100..).zip(&alone)
            .filter_map(|(offset, decoded)| decoded.bad.first().map(|bad| (offset, bad.reason.as_str())))
            .collect();
        prop_assert_eq!(bad, expected_bad);
    }

    /// Another reader of JSON agrees on what is JSON.
    #[test]
    fn what_is_bad_without_any_column_is_what_serde_json_refuses(payload in any_payload()) {
        let decoded = decode_with(&everything(), &Needed::Only(Default::default()), &[&payload]);
        let refused = serde_json::from_slice::<serde_json::Map<String, Value>>(&payload).err();
        // serde_json reads numbers, and refuses those beyond a double; unread numbers have no range here.
        let out_of_range = refused.as_ref().is_some_and(|error| error.to_string().contains("number out of range"));
        if !out_of_range {
            prop_assert_eq!(decoded.bad.is_empty(), refused.is_none(), "{:?} / {:?}", decoded.bad, refused);
        }
    }

    /// Another engine's reader agrees on the values, where its rules are ours.
    #[test]
    fn fitting_objects_become_what_arrow_json_makes_of_them(payloads in prop::collection::vec(fitting_object(), 1..8)) {
        let schema = everything();
        let decoded = decode(&schema, &payloads);
        prop_assert!(decoded.bad.is_empty(), "{:?}", decoded.bad);
        let mut reader = ReaderBuilder::new(decoded.batch.schema()).build_decoder().unwrap();
        for payload in &payloads {
            prop_assert_eq!(reader.decode(payload.as_bytes()).unwrap(), payload.len());
        }
        let expected = reader.flush().unwrap().unwrap();
        prop_assert!(expected == decoded.batch, "{}\n{}", shown(&expected), shown(&decoded.batch));
    }

    #[test]
    fn doubles_are_read_back_as_they_were_written(value in any::<f64>(), digits in "-?(0|[1-9][0-9]{0,17})(\\.[0-9]{1,18})?") {
        if value.is_finite() {
            prop_assert_eq!(literal::double(format!("{value:e}").as_bytes()), Some(value));
            prop_assert_eq!(literal::double(format!("{value}").as_bytes()), Some(value));
        }
        let expected: f64 = digits.parse().unwrap();
        prop_assert_eq!(literal::double(digits.as_bytes()).map(f64::to_bits), Some(expected.to_bits()));
    }

    #[test]
    fn dates_agree_with_chrono(days in -719_162i32..2_932_896) {
        let date = chrono::NaiveDate::from_epoch_days(days).unwrap();
        prop_assert_eq!(literal::date(date.format("%Y-%m-%d").to_string().as_bytes()), Some(days));
    }
}
