//! The shape of an object: checks it against the resource's own schema and finds every unknown field, missing field and
//! wrong type at once. The same schema is installed in clusters, so the command line and the API server agree.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::{Errors, Path};
use crate::contract::{API_VERSION, KIND};
use crate::spec::DURATION_PATTERN;
use crate::suggest::nearest;

/// Fields that a later version brings: `(the last two parts of the path, what to say)`.
const PLANNED: [(&str, &str); 8] = [
    ("outputs.delta", "Delta tables cannot be written by this version; write `parquet`"),
    ("outputs.kafka", "topics cannot be written by this version; write `parquet` or `console`"),
    ("format.avro", "Avro cannot be read by this version; `binary: {}` passes the bytes on"),
    ("format.protobuf", "Protobuf cannot be read by this version; `binary: {}` passes the bytes on"),
    ("format.csv", "CSV cannot be read by this version; `text: {}` passes the lines on"),
    ("format.debezium", "Debezium's envelope cannot be read by this version; declare its fields under `json`"),
    ("deadLetter.kafka", "dead letters go to Parquet in this version"),
    ("spec.tables", "static tables cannot be read by this version"),
];

/// Checks an object. Returns what is wrong, and the object with the wrong parts taken out or filled in, so that it has the
/// right shape whatever was written, and the fields that were filled in.
pub(super) fn check(object: &Value) -> (Errors, Value, Vec<Path>) {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    let schema = SCHEMA.get_or_init(whole_schema);
    let mut shape = Shape { errors: Errors::default(), filled_in: Vec::new() };
    let patched = shape.value(object, schema, &Path::root());
    (shape.errors, patched.unwrap_or_else(|| placeholder(schema)), shape.filled_in)
}

/// The custom resource's schema says nothing of what every object has.
fn whole_schema() -> Value {
    let text = json!({ "type": "string" });
    let texts = json!({ "type": "object", "additionalProperties": text });
    let anything = json!({ "x-kubernetes-preserve-unknown-fields": true });
    let metadata = json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": { "type": "string", "description": "The job's name." },
            "namespace": text, "uid": text, "generateName": text, "resourceVersion": text, "selfLink": text,
            "labels": texts, "annotations": texts,
            "generation": anything, "creationTimestamp": anything, "deletionTimestamp": anything,
            "deletionGracePeriodSeconds": anything, "finalizers": anything, "ownerReferences": anything,
            "managedFields": anything,
        },
    });
    json!({
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": { "type": "string", "enum": [API_VERSION] },
            "kind": { "type": "string", "enum": [KIND] },
            "metadata": metadata,
            "spec": crate::crd::schema()["properties"]["spec"],
            "status": anything,
        },
    })
}

struct Shape {
    errors: Errors,
    filled_in: Vec<Path>,
}

impl Shape {
    /// Checks a value; returns it in the right shape, or nothing if it has to be left out.
    fn value(&mut self, value: &Value, schema: &Value, at: &Path) -> Option<Value> {
        if value.is_null() && schema["type"].is_string() {
            self.errors.add(at, None, "is empty", "give it a value, or remove the line");
            return None;
        }
        if schema["x-kubernetes-int-or-string"] == true {
            let fits = value.is_string() || value.is_i64() || value.is_u64();
            return self.expect(fits, value, at, "a number or a text with a unit", "write it as `128Mi` or `1000000`");
        }
        match schema["type"].as_str() {
            Some("object") => self.object(value, schema, at),
            Some("array") => self.array(value, schema, at),
            Some("string") => self.text(value, schema, at),
            Some("integer") => self.integer(value, schema, at),
            Some("number") => self.expect(value.is_number(), value, at, "a number", "write a number"),
            Some("boolean") => {
                self.expect(value.is_boolean(), value, at, "true or false", "write true or false, without quotes")
            }
            _ => Some(value.clone()),
        }
    }

    fn expect(&mut self, fits: bool, value: &Value, at: &Path, expected: &str, fix: &str) -> Option<Value> {
        if fits {
            return Some(value.clone());
        }
        self.errors.add(at, Some(&shown(value)), format!("{} where {expected} belongs", kind(value)), fix);
        None
    }

    fn object(&mut self, value: &Value, schema: &Value, at: &Path) -> Option<Value> {
        let Value::Object(fields) = value else {
            let fix = match schema["properties"].as_object().filter(|properties| !properties.is_empty()) {
                Some(properties) => format!("write fields in it: {}", list(properties.keys())),
                None => "write `{}`, or fields in it".to_owned(),
            };
            return self.expect(false, value, at, "an object", &fix);
        };
        if schema["x-kubernetes-preserve-unknown-fields"] == true {
            return Some(value.clone());
        }
        if schema["additionalProperties"].is_object() {
            return Some(Value::Object(self.map(fields, schema, at)));
        }
        let nothing = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&nothing);
        let mut patched = Map::new();
        let mut meant: Vec<&str> = Vec::new();
        for (name, field) in fields {
            match properties.get(name) {
                Some(schema) => {
                    if let Some(field) = self.value(field, schema, &at.field(name)) {
                        patched.insert(name.clone(), field);
                    }
                }
                None => {
                    let missing = properties.keys().map(String::as_str).filter(|known| !fields.contains_key(*known));
                    let near = nearest(name, missing);
                    meant.extend(near);
                    self.unknown(name, near, properties, &at.field(name));
                }
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if patched.contains_key(name) {
                continue;
            }
            let schema = &properties[name];
            if !fields.contains_key(name) && !meant.contains(&name) {
                self.missing(name, schema, &at.field(name));
            }
            self.filled_in.push(at.field(name));
            patched.insert(name.to_owned(), placeholder(schema));
        }
        Some(Value::Object(patched))
    }

    fn map(&mut self, fields: &Map<String, Value>, schema: &Value, at: &Path) -> Map<String, Value> {
        if let Some(most) = schema["maxProperties"].as_u64().filter(|most| fields.len() as u64 > *most) {
            let problem = format!("{} entries where {most} are allowed", fields.len());
            self.errors.add(at, None, problem, "remove some");
        }
        let mut patched = Map::new();
        for (name, field) in fields {
            if let Some(field) = self.value(field, &schema["additionalProperties"], &at.field(name)) {
                patched.insert(name.clone(), field);
            }
        }
        patched
    }

    fn array(&mut self, value: &Value, schema: &Value, at: &Path) -> Option<Value> {
        let Value::Array(items) = value else {
            let fix = match value {
                Value::String(text) => format!("write it as a list: `[{text}]`"),
                _ => "write a list: `- ` before each item".to_owned(),
            };
            return self.expect(false, value, at, "a list", &fix);
        };
        if let Some(most) = schema["maxItems"].as_u64().filter(|most| items.len() as u64 > *most) {
            self.errors.add(at, None, format!("{} items where {most} are allowed", items.len()), "remove some");
        }
        if schema["minItems"].as_u64().is_some_and(|least| (items.len() as u64) < least) {
            self.errors.add(at, None, "an empty list", "write at least one item");
        }
        // An item that is left out is replaced, so that the paths of the others stay what they are.
        let item = |(index, item)| self.value(item, &schema["items"], &at.index(index));
        let patched = items.iter().enumerate().map(item);
        Some(Value::Array(patched.map(|item| item.unwrap_or_else(|| placeholder(&schema["items"]))).collect()))
    }

    fn text(&mut self, value: &Value, schema: &Value, at: &Path) -> Option<Value> {
        let known: Vec<&str> = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let Value::String(text) = value else {
            let fix = match value {
                _ if !known.is_empty() => format!("write {}", alternatives(&known)),
                Value::Number(number) if schema["pattern"] == DURATION_PATTERN => {
                    format!("write the unit too, such as `{number}s`")
                }
                _ if at.may_hold_a_secret() => "put it between quotes".to_owned(),
                Value::Number(_) | Value::Bool(_) => format!("put it between quotes: `\"{}\"`", shown(value)),
                Value::Array(_) => "write one text, not a list".to_owned(),
                _ => "write a text".to_owned(),
            };
            let expected = if schema["pattern"] == DURATION_PATTERN { "a duration" } else { "a text" };
            return self.expect(false, value, at, expected, &fix);
        };
        if !known.is_empty() {
            if known.contains(&text.as_str()) {
                return Some(value.clone());
            }
            let fix = match nearest(text, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write {}", alternatives(&known)),
            };
            self.errors.add(at, Some(text), "not a known value", fix);
            return None;
        }
        if let Some(most) = schema["maxLength"].as_u64().filter(|most| text.chars().count() as u64 > *most) {
            let problem = format!("{} characters where {most} are allowed", text.chars().count());
            self.errors.add(at, Some(text), problem, "shorten it");
        }
        if text.is_empty() && schema["minLength"].as_u64().is_some_and(|least| least > 0) {
            self.errors.add(at, None, "is empty", "give it a value");
        }
        Some(value.clone())
    }

    fn integer(&mut self, value: &Value, schema: &Value, at: &Path) -> Option<Value> {
        let Some(number) = value.as_i64() else {
            let fix = match value.as_str().map(|text| text.replace('_', "")).filter(|text| text.parse::<i64>().is_ok())
            {
                Some(text) => format!("write {text} without quotes"),
                None => "write a whole number".to_owned(),
            };
            return self.expect(false, value, at, "a whole number", &fix);
        };
        let least = schema["minimum"].as_f64().map_or(i64::MIN, |least| least as i64);
        let most = schema["maximum"].as_f64().map_or(i64::MAX, |most| most as i64);
        let most = if schema["format"] == "int32" { most.min(i64::from(i32::MAX)) } else { most };
        if number < least {
            self.errors.add(at, Some(&shown(value)), "too small", format!("write {least} or more"));
            return None;
        }
        if number > most {
            self.errors.add(at, Some(&shown(value)), "too large", format!("write {most} or less"));
            return None;
        }
        Some(value.clone())
    }

    fn unknown(&mut self, name: &str, near: Option<&str>, properties: &Map<String, Value>, at: &Path) {
        let path = at.to_string();
        if let Some((_, message)) = PLANNED.iter().find(|(field, _)| *field == last_two(&path)) {
            self.errors.add(at, None, "not supported yet", *message);
            return;
        }
        let inside = properties.iter().find(|(_, schema)| schema["properties"].get(name).is_some());
        let fix = match (near, inside) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, _) if properties.contains_key(name) => "remove it".to_owned(),
            (None, Some((holder, _))) => format!("it belongs under `{holder}`"),
            (None, None) if properties.is_empty() => "write `{}`".to_owned(),
            (None, None) => format!("known here are {}", list(properties.keys())),
        };
        self.errors.add(at, None, "unknown field", fix);
    }

    fn missing(&mut self, name: &str, schema: &Value, at: &Path) {
        let fix = match (schema["enum"].as_array().map(Vec::as_slice), schema["description"].as_str()) {
            (Some([only]), _) => format!("add `{name}: {}`", shown(only)),
            (_, Some(description)) => {
                let sentence = description.split_once(". ").map_or(description, |(first, _)| first);
                let sentence = sentence.trim_end_matches('.');
                format!("add `{name}`: {}", decapitalized(sentence))
            }
            _ => format!("add `{name}`"),
        };
        self.errors.add(at, None, "is missing", fix);
    }
}

/// The least value that has the shape of a schema: errors about it are known already, so what it says does not matter.
fn placeholder(schema: &Value) -> Value {
    match schema["type"].as_str() {
        Some("object") => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let fields = required.map(|name| (name.to_owned(), placeholder(&schema["properties"][name])));
            Value::Object(fields.collect())
        }
        Some("array") => Value::Array(Vec::new()),
        Some("integer" | "number") => Value::from(schema["minimum"].as_f64().map_or(0, |least| least as i64)),
        Some("boolean") => Value::Bool(false),
        Some("string") => schema["enum"].get(0).cloned().unwrap_or_else(|| Value::from("")),
        _ if schema["x-kubernetes-int-or-string"] == true => Value::from(0),
        _ => Value::Null,
    }
}

/// `outputs.delta` of `spec.outputs[3].delta`.
fn last_two(path: &str) -> String {
    let without_indexes: String =
        path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect();
    let parts: Vec<&str> = without_indexes.split('.').collect();
    parts[parts.len().saturating_sub(2)..].join(".")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn alternatives(names: &[&str]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [only] => format!("`{only}`"),
        [rest @ .., last] => {
            format!("{} or `{last}`", rest.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
        }
    }
}

fn decapitalized(sentence: &str) -> String {
    let mut characters = sentence.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}
