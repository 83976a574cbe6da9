//! Texts with a meaning and a maximum, so that the schema states each maximum in one place.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The form of durations: `10s`, `1h30m`, `500ms`.
pub(crate) const DURATION_PATTERN: &str = "^([0-9]+(ms|s|m|h|d))+$";

/// Declares a text type of the schema: its name, its maximum length, and whatever else its schema says.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $max:literal $(, $key:literal: $value:expr)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "maxLength": $max $(, $key: $value)* })
            }
        }

        impl std::ops::Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

text!(
    /// A name that SQL can use without quotes.
    SqlName, 63, "pattern": "^[A-Za-z][A-Za-z0-9_]*$"
);
text!(
    /// A query.
    SqlText, 65536, "minLength": 1
);
text!(
    /// Spark's schema language.
    DdlText, 65536, "minLength": 1
);
text!(
    /// A folder: `s3://bucket/folder`, `file:///folder` or a path.
    LocationText, 1024, "minLength": 1
);
text!(
    /// A duration: `10s`, `1h30m`, `500ms`.
    DurationText, 32, "pattern": DURATION_PATTERN
);
text!(
    /// An instant as RFC 3339 writes it: `2026-01-31T00:00:00Z`.
    TimestampText, 64, "format": "date-time"
);
text!(
    /// Name of a Kafka topic.
    TopicName, 249, "pattern": "^[a-zA-Z0-9._-]+$"
);
text!(
    /// Name of a Kubernetes object.
    ObjectName, 253, "minLength": 1
);
text!(
    /// Key in a Secret.
    SecretKey, 253, "pattern": "^[-._a-zA-Z0-9]+$"
);
text!(
    /// A name or a word.
    ShortText, 253, "minLength": 1
);
text!(
    /// A longer text: addresses, property values, patterns.
    LongText, 4096
);

/// A number of bytes: `128Mi`, `1G`, `1000000`; with or without quotes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QuantityText(pub String);

impl JsonSchema for QuantityText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "QuantityText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-int-or-string": true })
    }
}

impl From<&str> for QuantityText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Serialize for QuantityText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.parse::<i64>() {
            Ok(number) => serializer.serialize_i64(number),
            Err(_) => serializer.serialize_str(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for QuantityText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntOrText;

        impl Visitor<'_> for IntOrText {
            type Value = QuantityText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a text such as 128Mi")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<QuantityText, E> {
                Ok(QuantityText(number.to_string()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<QuantityText, E> {
                Ok(QuantityText(number.to_string()))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<QuantityText, E> {
                Err(E::invalid_type(Unexpected::Float(number), &self))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<QuantityText, E> {
                Ok(QuantityText(text.to_owned()))
            }
        }

        deserializer.deserialize_any(IntOrText)
    }
}

/// Leaves the description to the field: an optional enum's own one would replace it.
pub(crate) fn without_description(schema: &mut Schema) {
    schema.remove("description");
}

/// An object without fields, written `{}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Empty {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_a_number_or_a_text_and_stays_what_it_was() {
        for json in ["1000000", "\"128Mi\""] {
            let quantity: QuantityText = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&quantity).unwrap(), json);
        }
        assert!(serde_json::from_str::<QuantityText>("1.5").is_err());
    }
}
