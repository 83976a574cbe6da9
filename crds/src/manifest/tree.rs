//! YAML as a plain value, with the place of every field.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};

use super::ManifestError;
use crate::validate::Path;

/// How deep a manifest may be nested: more is a mistake or an attack.
const MAX_DEPTH: usize = 64;

/// A line and a column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
}

/// Where a field is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldPlace {
    /// Its name, or an item's beginning.
    pub(super) name: Place,
    /// Its value.
    pub(super) value: Place,
}

/// One document of a file.
#[derive(Debug)]
pub(super) struct Document {
    /// What it says.
    pub(super) value: Value,
    /// Where it begins.
    pub(super) place: Place,
    /// Where each field is, by path.
    pub(super) places: HashMap<String, FieldPlace>,
}

/// Reads every document of a file.
pub(super) fn documents(text: &str) -> Result<Vec<Document>, ManifestError> {
    let options = serde_saphyr::options! { budget: serde_saphyr::budget! { max_depth: MAX_DEPTH } };
    let nodes: Vec<Node> = serde_saphyr::from_multiple_with_options(text, options).map_err(|error| syntax(&error))?;
    Ok(nodes.into_iter().map(document).collect())
}

fn document(node: Node) -> Document {
    let place = place(node.referenced);
    let mut places = HashMap::new();
    let value = flatten(node, &Path::root(), &mut places);
    Document { value, place, places }
}

fn flatten(node: Node, at: &Path, places: &mut HashMap<String, FieldPlace>) -> Value {
    match node.value {
        Raw::Scalar(value) => value,
        Raw::List(items) => {
            let item = |(index, item): (usize, Node)| {
                let at = at.index(index);
                let place = place(item.referenced);
                places.insert(at.to_string(), FieldPlace { name: place, value: place });
                flatten(item, &at, places)
            };
            Value::Array(items.into_iter().enumerate().map(item).collect())
        }
        Raw::Object(fields) => {
            let mut object = Map::new();
            for (name, field) in fields {
                let at = at.field(&name.value);
                let field_place = FieldPlace { name: place(name.referenced), value: place(field.referenced) };
                places.insert(at.to_string(), field_place);
                let value = flatten(field, &at, places);
                object.insert(name.value, value);
            }
            Value::Object(object)
        }
    }
}

fn place(location: Location) -> Place {
    Place { line: location.line().max(1), column: location.column().max(1) }
}

/// What the YAML library says, in one line.
fn syntax(error: &serde_saphyr::Error) -> ManifestError {
    let place = error.location().map_or(Place { line: 1, column: 1 }, place);
    if let serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } = error.without_snippet() {
        return ManifestError::of_file(place, format!("the field `{key}` is there twice"), "remove one");
    }
    let message = error.without_snippet().render();
    let first = message.lines().next().unwrap_or_default();
    let without_place = first.split(" at line ").next().unwrap_or(first);
    let fix = "check indentation, quotes and brackets there (tabs do not indent YAML)";
    ManifestError::of_file(place, format!("not YAML: {without_place}"), fix)
}

type Node = Spanned<Raw>;

/// YAML without anything that JSON does not have.
#[derive(Debug)]
enum Raw {
    Scalar(Value),
    List(Vec<Node>),
    Object(Vec<(Spanned<String>, Node)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;

        impl<'de> Visitor<'de> for AnyValue {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Null))
            }

            fn visit_none<E>(self) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Bool(value)))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::from(value)))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::from(value)))
            }

            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Raw, E> {
                let number = Number::from_f64(value).ok_or_else(|| E::custom("a number that is none"))?;
                Ok(Raw::Scalar(Value::Number(number)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::from(value)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Raw::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Raw, A::Error> {
                let mut object: Vec<(Spanned<String>, Node)> = Vec::new();
                while let Some((name, value)) = fields.next_entry::<Spanned<String>, Node>()? {
                    if object.iter().any(|(other, _)| other.value == name.value) {
                        return Err(A::Error::custom(format!("the field `{}` is there twice", name.value)));
                    }
                    object.push((name, value));
                }
                Ok(Raw::Object(object))
            }
        }

        deserializer.deserialize_any(AnyValue)
    }
}
