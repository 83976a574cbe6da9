//! Sources.

use super::{Errors, Path, duration, kafka, location, names};
use crate::ddl::{self, DdlError};
use crate::job::{DataType, EventTime, Field, Format, OnError, Source, TriggerKind, WatermarkPolicy};
use crate::spec::{EventTimeSpec, FormatSpec, JsonSpec, OnErrorAction, OnErrorSpec, SourceSpec, WatermarkPolicySpec};

/// Columns that Kafka adds to every source.
const KAFKA_COLUMNS: [&str; 6] = ["_key", "_topic", "_partition", "_offset", "_timestamp", "_headers"];
/// Columns that the runner uses between its stages begin with this.
const OWN_COLUMNS: &str = "_millrace";

/// Validates one source; `trigger` is unknown if it is wrong itself.
pub(super) fn source(
    source: &SourceSpec,
    trigger: Option<TriggerKind>,
    at: &Path,
    errors: &mut Errors,
) -> Option<Source> {
    let name = names::identifier(&source.name, &at.field("name"), errors);
    let kafka = kafka::kafka(&source.kafka, trigger, &at.field("kafka"), errors);
    let format = format(&source.format, &at.field("format"), errors);
    let on_error = on_error(source.on_error.as_ref(), &at.field("onError"), errors);
    let event_time = match &source.event_time {
        None => Some(None),
        Some(spec) => event_time(spec, format.as_ref(), &at.field("eventTime"), errors).map(Some),
    };
    Some(Source { name: name?, kafka: kafka?, format: format?, on_error: on_error?, event_time: event_time? })
}

fn format(format: &FormatSpec, at: &Path, errors: &mut Errors) -> Option<Format> {
    match (&format.json, format.text, format.binary) {
        (Some(json), None, None) => {
            let schema = json_schema(json, &at.field("json"), errors)?;
            Some(Format::Json { schema })
        }
        (None, Some(_), None) => Some(Format::Text),
        (None, None, Some(_)) => Some(Format::Binary),
        (None, None, None) => {
            errors.add(at, None, "no format", "add `json: {schema: …}`, `text: {}` or `binary: {}`");
            None
        }
        _ => {
            errors.add(at, None, "several formats", "keep one of json, text, binary");
            None
        }
    }
}

fn json_schema(json: &JsonSpec, at: &Path, errors: &mut Errors) -> Option<Vec<Field>> {
    let before = errors.count();
    let columns: Vec<(Path, Field)> = match (&json.schema, &json.fields) {
        (Some(text), None) => {
            let at = at.field("schema");
            match ddl::parse_schema(text) {
                Ok(fields) => fields.into_iter().map(|field| (at.clone(), field)).collect(),
                Err(error) => return bad_ddl(&error, &at, errors),
            }
        }
        (None, Some(specs)) => {
            let mut columns: Vec<(Path, Field)> = Vec::new();
            for (at, spec) in at.each("fields", specs) {
                if columns.iter().any(|(_, other)| other.name.to_lowercase() == spec.name.to_lowercase()) {
                    let fix = "remove or rename one (case does not count)";
                    errors.add(&at.field("name"), Some(&spec.name), "a column that is there twice", fix);
                }
                match ddl::parse_type(&spec.data_type) {
                    Ok(data_type) => {
                        let nullable = spec.nullable.unwrap_or(true);
                        columns.push((at, Field { name: spec.name.to_string(), data_type, nullable }));
                    }
                    Err(error) => {
                        bad_ddl::<()>(&error, &at.field("type"), errors);
                    }
                }
            }
            columns
        }
        (None, None) => {
            errors.add(at, None, "no columns", "add `schema: \"id BIGINT, name STRING\"`");
            return None;
        }
        (Some(_), Some(_)) => {
            errors.add(at, None, "both schema and fields", "keep one of them");
            return None;
        }
    };
    for (at, field) in &columns {
        let lower = field.name.to_lowercase();
        if KAFKA_COLUMNS.contains(&lower.as_str()) || lower.starts_with(OWN_COLUMNS) {
            let problem = "a column that Millrace adds itself";
            errors.add(at, Some(&field.name), problem, "leave it out; the message's field of this name cannot be read");
        }
        if let Some(key) = other_than_text_key(&field.data_type) {
            let problem = format!("the column `{}` has a map with keys of type {key}", field.name);
            errors.add(at, None, problem, "names in JSON are text: write MAP<STRING, …>");
        }
    }
    (errors.count() == before).then(|| columns.into_iter().map(|(_, field)| field).collect())
}

fn bad_ddl<T>(error: &DdlError, at: &Path, errors: &mut Errors) -> Option<T> {
    let problem = format!("{} at character {}", error.problem, error.position + 1);
    errors.add(at, None, problem, format!("{}\n{}", error.fix, error.excerpt));
    None
}

fn other_than_text_key(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::Array(element) => other_than_text_key(&element.data_type),
        DataType::Map { key, value } if **key == DataType::String => other_than_text_key(&value.data_type),
        DataType::Map { key, .. } => Some(key),
        DataType::Struct(fields) => fields.iter().find_map(|field| other_than_text_key(&field.data_type)),
        _ => None,
    }
}

fn on_error(spec: Option<&OnErrorSpec>, at: &Path, errors: &mut Errors) -> Option<OnError> {
    let Some(spec) = spec else { return Some(OnError::Fail) };
    let dead_letter = spec.dead_letter.as_ref();
    match (spec.action, dead_letter) {
        (OnErrorAction::Fail, None) => Some(OnError::Fail),
        (OnErrorAction::Skip, None) => Some(OnError::Skip),
        (OnErrorAction::DeadLetter, Some(dead_letter)) => {
            let at = at.field("deadLetter").field("parquet").field("path");
            location(&dead_letter.parquet.path, &at, errors).map(|path| OnError::DeadLetter { path })
        }
        (OnErrorAction::DeadLetter, None) => {
            let fix = "add `deadLetter: {parquet: {path: …}}`";
            errors.add(&at.field("deadLetter"), None, "is missing: where messages that do not decode go", fix);
            None
        }
        (OnErrorAction::Fail | OnErrorAction::Skip, Some(_)) => {
            let problem = "a place for dead letters, but the action is another";
            errors.add(&at.field("deadLetter"), None, problem, "write `action: deadLetter`, or remove it");
            None
        }
    }
}

fn event_time(spec: &EventTimeSpec, format: Option<&Format>, at: &Path, errors: &mut Errors) -> Option<EventTime> {
    let column = column(&spec.column, format, &at.field("column"), errors);
    let watermark_delay = duration(&spec.watermark_delay, &at.field("watermarkDelay"), errors);
    let idle_timeout = match &spec.idle_timeout {
        None => Some(None),
        Some(text) => duration(text, &at.field("idleTimeout"), errors).map(Some),
    };
    let policy = match spec.policy {
        None | Some(WatermarkPolicySpec::Min) => WatermarkPolicy::Min,
        Some(WatermarkPolicySpec::Max) => WatermarkPolicy::Max,
    };
    Some(EventTime { column: column?, watermark_delay: watermark_delay?, idle_timeout: idle_timeout?, policy })
}

/// A column of the source: of its format or Kafka's.
fn column(name: &str, format: Option<&Format>, at: &Path, errors: &mut Errors) -> Option<String> {
    let own: Vec<&str> = match format? {
        Format::Json { schema } => schema.iter().map(|field| field.name.as_str()).collect(),
        Format::Text | Format::Binary => vec!["value"],
    };
    let known = || own.iter().copied().chain(KAFKA_COLUMNS);
    if known().any(|column| column == name) {
        return Some(name.to_owned());
    }
    let fix = match crate::suggest::nearest(name, known()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "name a column of the format, or `_timestamp`, Kafka's own".to_owned(),
    };
    errors.add(at, Some(name), "not a column of the source", fix);
    None
}
