//! From what was written to a validated [`Job`]: the one place where defaults are filled in and rules are checked.
//!
//! Everything is pure. All mistakes are reported at once, each with the path of its field, the value, and the fix.

mod authentication;
mod errors;
mod kafka;
mod names;
mod output;
mod overlap;
mod properties;
mod revision;
mod shape;
mod source;
mod start_from;
mod storage;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::Value;

pub use errors::SpecError;
pub(crate) use errors::{Errors, Path, parent};
pub(crate) use revision::POLICIES;

use crate::contract::API_VERSION;
use crate::job::{Job, JobName, Location, LocationError, Output, OutputMode, Restart, Trigger, TriggerKind, View};
use crate::quantity::{parse_bytes, parse_duration, show_duration};
use crate::spec::{
    DurationText, LocationText, QuantityText, RestartSpec, SqlText, StreamingJob, StreamingJobSpec, TriggerSpec,
    ViewSpec,
};

/// How often an epoch closes if the manifest does not say.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
/// Below this a commit's requests would take longer than the interval.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// How long a runner may go without progress if the manifest does not say, at least; and how many triggers.
const DEFAULT_PROGRESS_DEADLINE: (Duration, u32) = (Duration::from_secs(60), 10);
/// First and longest pause before a restart if the manifest does not say.
const DEFAULT_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// What of an object's metadata a job needs.
struct Metadata<'a> {
    name: &'a str,
    namespace: Option<&'a str>,
    uid: Option<&'a str>,
}

impl Job {
    /// Validates an object read from the API server, whose schema has been checked there.
    pub fn from_object(object: &StreamingJob) -> Result<Self, Vec<SpecError>> {
        let metadata = Metadata {
            name: object.metadata.name.as_deref().unwrap_or_default(),
            namespace: object.metadata.namespace.as_deref(),
            uid: object.metadata.uid.as_deref(),
        };
        let mut errors = Errors::default();
        let job = job(&metadata, &object.spec, &mut errors);
        errors.into_result(job)
    }

    /// Validates an object of which nothing is known yet: unknown fields, wrong types and missing fields are reported
    /// together with what the rules find in the rest.
    pub fn from_value(object: &Value) -> Result<Self, Vec<SpecError>> {
        let (mut errors, whole, filled_in) = shape::check(object);
        let spec = match StreamingJobSpec::deserialize_from(&whole["spec"]) {
            Ok(spec) => spec,
            Err(problem) => {
                if errors.count() == 0 {
                    errors.add(
                        &Path::root().field("spec"),
                        None,
                        problem,
                        format!("compare it with {API_VERSION}'s schema"),
                    );
                }
                return errors.into_result(None);
            }
        };
        let metadata = &whole["metadata"];
        let metadata = Metadata {
            name: metadata["name"].as_str().unwrap_or_default(),
            namespace: metadata["namespace"].as_str(),
            uid: metadata["uid"].as_str(),
        };
        let mut found = Errors::default();
        let job = job(&metadata, &spec, &mut found);
        errors.add_consequences(found, &filled_in);
        errors.into_result(job)
    }
}

impl StreamingJobSpec {
    fn deserialize_from(value: &Value) -> Result<Self, String> {
        serde::Deserialize::deserialize(value).map_err(|error: serde_json::Error| error.to_string())
    }
}

fn job(metadata: &Metadata<'_>, spec: &StreamingJobSpec, errors: &mut Errors) -> Option<Job> {
    let root = Path::root();
    let at = root.field("spec");
    let name = job_name(metadata.name, &root.field("metadata").field("name"), errors);
    names::check(spec, &at, errors);
    let trigger = trigger(spec.trigger.as_ref(), &at.field("trigger"), errors);
    let kind = trigger.map(|trigger| trigger.kind);
    let mut sources = Vec::new();
    for (at, source) in at.each("sources", &spec.sources) {
        sources.push(source::source(source, kind, &at, errors));
    }
    let views: Vec<_> = at.each("views", &spec.views).map(|(at, view)| self::view(view, &at, errors)).collect();
    let outputs: Vec<_> =
        at.each("outputs", &spec.outputs).map(|(at, output)| output::output(output, &at, errors)).collect();
    let checkpoint = location(&spec.checkpoint.location, &at.field("checkpoint").field("location"), errors);
    let storage = storage::storage(spec.storage.as_ref(), &at.field("storage"), errors);
    let restart = restart(spec.restart.as_ref(), &at.field("restart"), errors);
    let progress_deadline = progress_deadline(spec.progress_deadline.as_ref(), trigger, &at, errors);
    let start_from = start_from::start_from(spec.start_from.as_ref(), &at.field("startFrom"), errors);
    if spec.sources.is_empty() {
        errors.add(&at.field("sources"), None, "no source", "add at least one");
    }
    if spec.outputs.is_empty() {
        errors.add(&at.field("outputs"), None, "no output", "add at least one");
    }
    overlap::check(&sources, &outputs, checkpoint.as_ref(), &at, errors);
    if let Some(kind) = kind {
        complete_outputs(&outputs, kind, spec.parallelism, &at, errors);
    }
    Some(Job {
        name: name?,
        namespace: metadata.namespace.map(str::to_owned),
        uid: metadata.uid.map(str::to_owned),
        sources: sources.into_iter().collect::<Option<_>>()?,
        views: views.into_iter().collect::<Option<_>>()?,
        outputs: outputs.into_iter().collect::<Option<_>>()?,
        trigger: trigger?,
        checkpoint: checkpoint?,
        storage: storage?,
        start_from: start_from?,
        parallelism: spec.parallelism,
        suspend: spec.suspend.unwrap_or(false),
        restart: restart?,
        progress_deadline: progress_deadline?,
        ttl_after_finished: spec
            .ttl_seconds_after_finished
            .and_then(|s| u64::try_from(s).ok())
            .map(Duration::from_secs),
        runner: spec.runner.clone().unwrap_or_default(),
        revision: revision::revision(spec),
    })
}

fn job_name(name: &str, at: &Path, errors: &mut Errors) -> Option<JobName> {
    match JobName::new(name) {
        Ok(name) => Some(name),
        Err(problem) => {
            errors.add(at, Some(name), problem, "use lower-case letters, digits and dashes, such as `orders-to-lake`");
            None
        }
    }
}

fn view(view: &ViewSpec, at: &Path, errors: &mut Errors) -> Option<View> {
    let name = names::identifier(&view.name, &at.field("name"), errors);
    let sql = sql(&view.sql, &at.field("sql"), errors);
    Some(View { name: name?, sql: sql? })
}

fn sql(sql: &SqlText, at: &Path, errors: &mut Errors) -> Option<String> {
    if sql.trim().is_empty() {
        errors.add(at, None, "no query", "write a SELECT");
        return None;
    }
    Some(sql.to_string())
}

fn trigger(trigger: Option<&TriggerSpec>, at: &Path, errors: &mut Errors) -> Option<Trigger> {
    let Some(trigger) = trigger else {
        return Some(Trigger { kind: TriggerKind::Interval(DEFAULT_INTERVAL), max_records: None, max_bytes: None });
    };
    let given = usize::from(trigger.interval.is_some())
        + usize::from(trigger.available_now.is_some())
        + usize::from(trigger.once.is_some());
    if given > 1 {
        errors.add(at, None, "several triggers", "give one of interval, availableNow, once");
    }
    let kind = match &trigger.interval {
        _ if trigger.available_now.is_some() || trigger.once.is_some() => Some(TriggerKind::AvailableNow),
        None => Some(TriggerKind::Interval(DEFAULT_INTERVAL)),
        Some(text) => {
            let at = at.field("interval");
            let interval = duration(text, &at, errors);
            if interval.is_some_and(|interval| interval < MIN_INTERVAL) {
                let fix = format!("write {} or more", show_duration(MIN_INTERVAL));
                errors.add(&at, Some(text), "every commit asks the object store, this often it could not answer", fix);
            }
            interval.map(TriggerKind::Interval)
        }
    };
    let max_records = at_least_one(trigger.max_records, &at.field("maxRecords"), errors);
    let max_bytes = match &trigger.max_bytes {
        None => Some(None),
        Some(text) => bytes(text, 1, &at.field("maxBytes"), errors).map(Some),
    };
    Some(Trigger { kind: kind?, max_records: max_records?, max_bytes: max_bytes? })
}

fn at_least_one(number: Option<i64>, at: &Path, errors: &mut Errors) -> Option<Option<u64>> {
    let Some(number) = number else { return Some(None) };
    match u64::try_from(number) {
        Ok(number) if number > 0 => Some(Some(number)),
        _ => {
            errors.add(at, Some(&number.to_string()), "too small", "write 1 or more, or remove it");
            None
        }
    }
}

fn restart(restart: Option<&RestartSpec>, at: &Path, errors: &mut Errors) -> Option<Restart> {
    let backoff = restart.and_then(|restart| restart.backoff.as_ref());
    let at = at.field("backoff");
    let (default_initial, default_max) = DEFAULT_BACKOFF;
    let initial = match backoff.and_then(|backoff| backoff.initial.as_ref()) {
        Some(text) => duration(text, &at.field("initial"), errors)?,
        None => default_initial,
    };
    let max = match backoff.and_then(|backoff| backoff.max.as_ref()) {
        Some(text) => duration(text, &at.field("max"), errors)?,
        None => default_max.max(initial),
    };
    if max < initial {
        let fix = format!("write {} or more", show_duration(initial));
        errors.add(&at.field("max"), Some(&show_duration(max)), "shorter than the first pause", fix);
    }
    let max_retries = restart.and_then(|restart| restart.max_retries);
    Some(Restart { max_retries, initial_backoff: initial, max_backoff: max })
}

/// Unset: long enough for several intervals, because a runner that commits every hour makes progress every hour.
fn progress_deadline(
    text: Option<&DurationText>,
    trigger: Option<Trigger>,
    at: &Path,
    errors: &mut Errors,
) -> Option<Duration> {
    let interval = match trigger?.kind {
        TriggerKind::Interval(interval) => interval,
        TriggerKind::AvailableNow => Duration::ZERO,
    };
    let (least, triggers) = DEFAULT_PROGRESS_DEADLINE;
    let Some(text) = text else { return Some(least.max(interval * triggers)) };
    let at = at.field("progressDeadline");
    let deadline = duration(text, &at, errors)?;
    if deadline <= interval || deadline.is_zero() {
        let fix = format!("write more than the trigger's interval, {}", show_duration(interval));
        errors.add(&at, Some(text), "no runner could keep to it", fix);
        return None;
    }
    Some(deadline)
}

/// The whole result exists only where one runner has read everything.
fn complete_outputs(outputs: &[Option<Output>], kind: TriggerKind, parallelism: u32, at: &Path, errors: &mut Errors) {
    for (at, output) in at.each("outputs", outputs) {
        if output.as_ref().is_none_or(|output| output.mode != OutputMode::Complete) {
            continue;
        }
        let at = at.field("outputMode");
        if kind != TriggerKind::AvailableNow {
            let problem = "the whole result is known only where everything has been read";
            errors.add(&at, Some("complete"), problem, "add `trigger: {availableNow: {}}`, or write `append`");
        }
        if parallelism > 1 {
            let problem = format!("{parallelism} runners would each know only a part of the result");
            errors.add(&at, Some("complete"), problem, "write `parallelism: 1`");
        }
    }
}

fn duration(text: &DurationText, at: &Path, errors: &mut Errors) -> Option<Duration> {
    match parse_duration(text) {
        Ok(duration) => Some(duration),
        Err(error) => {
            errors.add(at, Some(text), error.problem, error.fix);
            None
        }
    }
}

fn bytes(text: &QuantityText, least: u64, at: &Path, errors: &mut Errors) -> Option<u64> {
    match parse_bytes(&text.0) {
        Ok(bytes) if bytes >= least => Some(bytes),
        Ok(_) => {
            errors.add(at, Some(&text.0), "too small", format!("write {least} bytes or more"));
            None
        }
        Err(error) => {
            errors.add(at, Some(&text.0), error.problem, error.fix);
            None
        }
    }
}

fn location(text: &LocationText, at: &Path, errors: &mut Errors) -> Option<Location> {
    let parsed: Result<Location, LocationError> = text.parse();
    match parsed {
        Ok(location) => Some(location),
        Err(error) => {
            errors.add(at, Some(text), error.problem, error.fix);
            None
        }
    }
}
