//! DataFusion's errors in the user's terms: the name that is wrong, where it stands, and what was probably meant.

use std::collections::BTreeSet;

use datafusion::common::{DataFusionError, SchemaError, Span};

use super::error::{PlanError, RunError};
use super::text::{QueryText, suggestion};

/// What a query could have meant: the names of its relations and the functions there are.
pub(super) struct Vocabulary<'a> {
    /// Columns of the relations that the query reads.
    pub columns: Vec<&'a str>,
    /// Those, and the fields of their structs.
    pub names: BTreeSet<String>,
    /// Every function's name.
    pub functions: Vec<&'a str>,
}

/// Every fault that `error` holds; never empty.
pub(super) fn plan_errors(error: &DataFusionError, text: &QueryText, vocabulary: &Vocabulary<'_>) -> Vec<PlanError> {
    let mut found = Vec::new();
    describe(error, None, text, vocabulary, &mut found);
    found
}

fn describe(
    error: &DataFusionError,
    span: Option<Span>,
    text: &QueryText,
    vocabulary: &Vocabulary<'_>,
    found: &mut Vec<PlanError>,
) {
    match error {
        DataFusionError::Collection(errors) => {
            for error in errors {
                describe(error, span, text, vocabulary, found);
            }
        }
        DataFusionError::Diagnostic(diagnostic, error) => {
            describe(error, span.or(diagnostic.span), text, vocabulary, found);
        }
        DataFusionError::Context(_, error) => describe(error, span, text, vocabulary, found),
        DataFusionError::Shared(error) => describe(error, span, text, vocabulary, found),
        error => {
            let error = one(error, span, text, vocabulary);
            if !found.contains(&error) {
                found.push(error);
            }
        }
    }
}

fn one(error: &DataFusionError, span: Option<Span>, text: &QueryText, vocabulary: &Vocabulary<'_>) -> PlanError {
    let mut described = match error {
        DataFusionError::SchemaError(schema_error, _) => match schema_error.as_ref() {
            SchemaError::FieldNotFound { field, .. } => {
                return unknown_column(
                    field.relation.as_ref().map(ToString::to_string),
                    &field.name,
                    span.or(field.spans.first()),
                    text,
                    vocabulary,
                );
            }
            SchemaError::AmbiguousReference { field } => {
                let mut error =
                    PlanError::new(text.place.clone(), format!("column '{}' is in several relations", field.name))
                        .with_help(format!("write which one, as in orders.{}", field.name));
                error.position =
                    field.spans.first().and_then(|span| position(text, span)).or_else(|| text.find(&[&field.name]));
                error
            }
            other => PlanError::new(text.place.clone(), other.to_string()),
        },
        DataFusionError::NotImplemented(message) => {
            PlanError::new(text.place.clone(), format!("not supported: {message}"))
        }
        DataFusionError::Plan(message) | DataFusionError::Execution(message) => {
            if let Some(name) = between(message, "Invalid function '", "'") {
                return unknown_function(name, span, text, vocabulary);
            }
            if let Some(name) = between(message, "Field ", " not found in struct") {
                let names: Vec<&str> = vocabulary.names.iter().map(String::as_str).collect();
                let mut error = PlanError::new(text.place.clone(), format!("there is no field '{name}' in the struct"));
                error.help = suggestion(name, "known names", &names);
                error.position = text.find(&[name]);
                return error;
            }
            PlanError::new(text.place.clone(), first_lines(message))
        }
        other => PlanError::new(text.place.clone(), first_lines(&other.strip_backtrace())),
    };
    if described.position.is_none() {
        described.position = span.and_then(|span| position(text, span));
    }
    described
}

fn unknown_column(
    relation: Option<String>,
    name: &str,
    span: Option<Span>,
    text: &QueryText,
    vocabulary: &Vocabulary<'_>,
) -> PlanError {
    let full = match &relation {
        Some(relation) => format!("{relation}.{name}"),
        None => name.to_owned(),
    };
    // The first part of 'a.b' may be what is unknown: 'itm.quantity' is read as column quantity of a relation itm.
    let columns = &vocabulary.columns;
    let known = vocabulary.names.contains(name);
    let mut error = PlanError::new(text.place.clone(), format!("there is no column '{full}'"));
    error.help = match &relation {
        Some(relation) if known => suggestion(relation, "columns", columns),
        _ => suggestion(name, "columns", columns),
    };
    error.position = span.and_then(|span| position(text, span)).or_else(|| text.find(&[name]));
    error
}

fn unknown_function(name: &str, span: Option<Span>, text: &QueryText, vocabulary: &Vocabulary<'_>) -> PlanError {
    let mut error = PlanError::new(text.place.clone(), format!("there is no function '{name}'"));
    error.help = match name {
        "window" | "session_window" => {
            error.message =
                format!("event-time windows ({name}) need state across micro-batches, which is not supported yet");
            Some(format!(
                "over a bounded read group by date_bin(INTERVAL '5 minutes', column) instead, {}",
                super::check::COMPLETE
            ))
        }
        "posexplode" | "inline" => Some("use explode(items) AS item, and item.field from a view".to_owned()),
        "current_time" => Some("use now(), the time of the micro-batch".to_owned()),
        _ => super::text::closest(name, vocabulary.functions.iter().copied())
            .map(|close| format!("did you mean '{close}'?"))
            .or_else(|| Some("functions are those of DataFusion".to_owned())),
    };
    error.position = span.and_then(|span| position(text, span)).or_else(|| text.find(&[name]));
    error
}

/// The error of running a query over rows.
pub(super) fn run_error(error: &DataFusionError, output: &str, memory_limit: usize) -> RunError {
    let output = output.to_owned();
    let reason = first_lines(&error.find_root().strip_backtrace());
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => RunError::Memory { output, limit: memory_limit, reason },
        DataFusionError::Internal(_) | DataFusionError::ExecutionJoin(_) | DataFusionError::NotImplemented(_) => {
            RunError::Internal { output, reason }
        }
        _ => RunError::Row { output, reason },
    }
}

fn position(text: &QueryText, span: Span) -> Option<Box<super::error::Position>> {
    text.position(span.start.line, span.start.column)
}

fn between<'a>(message: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = message.get(message.find(before)? + before.len()..)?;
    rest.get(..rest.find(after)?)
}

/// A message on one line, without DataFusion's invitation to report a bug to its project.
fn first_lines(message: &str) -> String {
    let message = message.split("\nThis issue was likely caused by").next().unwrap_or(message);
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" ").trim_end_matches('.').to_owned()
}
