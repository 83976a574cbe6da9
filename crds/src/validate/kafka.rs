//! What is read from Kafka: topics, where reading begins and ends.

use super::{Errors, Path, authentication, properties};
use crate::job::{Ending, Kafka, PartitionOffset, Starting, Topics, TriggerKind};
use crate::spec::{EndingOffsetsSpec, KafkaSpec, StartingOffsetsSpec, TimestampText, TopicName};

/// Validates what is read; `trigger` is unknown if it is wrong itself.
pub(super) fn kafka(kafka: &KafkaSpec, trigger: Option<TriggerKind>, at: &Path, errors: &mut Errors) -> Option<Kafka> {
    let bootstrap_servers = bootstrap_servers(&kafka.bootstrap_servers, &at.field("bootstrapServers"), errors);
    let topics = topics(kafka, at, errors);
    let starting = starting(kafka, trigger, at, errors);
    let ending = ending(kafka, trigger, at, errors);
    if let (Some(Starting::ByPartition(from)), Some(Some(Ending::ByPartition(to)))) = (&starting, &ending) {
        ends_after_start(from, to, at, errors);
    }
    let tls = match &kafka.tls {
        None => Some(None),
        Some(spec) => authentication::tls(spec, &at.field("tls"), errors).map(Some),
    };
    let authentication = match &kafka.authentication {
        None => Some(None),
        Some(spec) => {
            authentication::authentication(spec, kafka.tls.is_some(), &at.field("authentication"), errors).map(Some)
        }
    };
    properties::check(kafka, &at.field("properties"), errors);
    let properties = kafka.properties.iter().flatten().map(|(key, value)| (key.clone(), value.to_string())).collect();
    Some(Kafka {
        bootstrap_servers: bootstrap_servers?,
        topics: topics?,
        starting: starting?,
        ending: ending?,
        fail_on_data_loss: kafka.fail_on_data_loss.unwrap_or(true),
        tls: tls?,
        authentication: authentication?,
        properties,
    })
}

fn bootstrap_servers(text: &str, at: &Path, errors: &mut Errors) -> Option<String> {
    let servers: Vec<&str> = text.split(',').map(str::trim).collect();
    for server in &servers {
        let (host, port) = server.rsplit_once(':').unwrap_or((server, "9092"));
        let problem = if server.is_empty() {
            "an empty address"
        } else if server.contains("://") {
            "a URL; Kafka's addresses have no scheme"
        } else if host.is_empty() || host.contains(char::is_whitespace) {
            "no host in an address"
        } else if !port.parse::<u16>().is_ok_and(|port| port > 0) {
            "no port in an address"
        } else {
            continue;
        };
        errors.add(at, Some(text), problem, "write `host:port`, several separated by commas");
        return None;
    }
    Some(servers.join(","))
}

fn topics(kafka: &KafkaSpec, at: &Path, errors: &mut Errors) -> Option<Topics> {
    match (&kafka.topics, &kafka.topic_pattern) {
        (Some(topics), None) => {
            let before = errors.count();
            if topics.is_empty() {
                errors.add(&at.field("topics"), None, "no topic", "name at least one");
            }
            for (index, (at, topic)) in at.each("topics", topics).enumerate() {
                let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
                if topic.is_empty() || !topic.chars().all(fits) {
                    let fix = "use letters, digits, dots, dashes, underscores; for several topics by a pattern use topicPattern";
                    errors.add(&at, Some(topic), "not the name of a topic", fix);
                }
                if topics[..index].contains(topic) {
                    errors.add(&at, Some(topic), "a topic that is there twice", "remove one");
                }
            }
            (errors.count() == before).then(|| Topics::List(topics.iter().map(ToString::to_string).collect()))
        }
        (None, Some(pattern)) => match regex::Regex::new(pattern) {
            Ok(_) if !pattern.is_empty() => Some(Topics::Pattern(pattern.to_string())),
            Ok(_) => {
                errors.add(
                    &at.field("topicPattern"),
                    None,
                    "no pattern",
                    "write a regular expression, such as `orders-.*`",
                );
                None
            }
            Err(error) => {
                let detail = error.to_string();
                let reason = detail.lines().last().unwrap_or_default().trim_start_matches("error: ");
                let problem = format!("not a regular expression: {reason}");
                errors.add(&at.field("topicPattern"), Some(pattern), problem, "write one such as `orders-.*`");
                None
            }
        },
        (None, None) => {
            errors.add(at, None, "no topic", "add `topics: [name]` or `topicPattern: regex`");
            None
        }
        (Some(_), Some(_)) => {
            errors.add(at, None, "both topics and topicPattern", "keep one of them");
            None
        }
    }
}

fn starting(kafka: &KafkaSpec, trigger: Option<TriggerKind>, at: &Path, errors: &mut Errors) -> Option<Starting> {
    match (&kafka.starting_offsets, &kafka.starting_timestamp, &kafka.starting_offsets_by_partition) {
        (None, None, None) if trigger == Some(TriggerKind::AvailableNow) => Some(Starting::Earliest),
        (None, None, None) | (Some(StartingOffsetsSpec::Latest), None, None) => Some(Starting::Latest),
        (Some(StartingOffsetsSpec::Earliest), None, None) => Some(Starting::Earliest),
        (None, Some(text), None) => timestamp(text, &at.field("startingTimestamp"), errors).map(Starting::Timestamp),
        (None, None, Some(offsets)) => {
            let listed = offsets.iter().map(|spec| (&spec.topic, spec.partition, spec.offset)).collect();
            by_partition(listed, kafka, &STARTS, at, errors).map(Starting::ByPartition)
        }
        _ => {
            let fix = "keep one of startingOffsets, startingTimestamp, startingOffsetsByPartition";
            errors.add(at, None, "several places to start", fix);
            None
        }
    }
}

fn ending(kafka: &KafkaSpec, trigger: Option<TriggerKind>, at: &Path, errors: &mut Errors) -> Option<Option<Ending>> {
    let given = [
        ("endingOffsets", kafka.ending_offsets.is_some()),
        ("endingTimestamp", kafka.ending_timestamp.is_some()),
        ("endingOffsetsByPartition", kafka.ending_offsets_by_partition.is_some()),
    ];
    let first = given.iter().find(|(_, given)| *given).map(|(field, _)| *field);
    if let (Some(field), Some(TriggerKind::Interval(_))) = (first, trigger) {
        let fix = "add `trigger: {availableNow: {}}`, or remove it";
        errors.add(&at.field(field), None, "a job that runs for ever has no end", fix);
        return None;
    }
    match (&kafka.ending_offsets, &kafka.ending_timestamp, &kafka.ending_offsets_by_partition) {
        (None, None, None) => Some(None),
        (Some(EndingOffsetsSpec::Latest), None, None) => Some(Some(Ending::Latest)),
        (None, Some(text), None) => {
            timestamp(text, &at.field("endingTimestamp"), errors).map(|time| Some(Ending::Timestamp(time)))
        }
        (None, None, Some(offsets)) => {
            let listed = offsets.iter().map(|spec| (&spec.topic, spec.partition, spec.offset)).collect();
            by_partition(listed, kafka, &ENDS, at, errors).map(|offsets| Some(Ending::ByPartition(offsets)))
        }
        _ => {
            let fix = "keep one of endingOffsets, endingTimestamp, endingOffsetsByPartition";
            errors.add(at, None, "several places to stop", fix);
            None
        }
    }
}

/// A list of offsets, and which of them mean one.
struct ByPartition {
    field: &'static str,
    least: i64,
    fix: &'static str,
}

const STARTS: ByPartition = ByPartition {
    field: "startingOffsetsByPartition",
    least: -2,
    fix: "write an offset from 0, -2 for the earliest or -1 for the latest",
};

const ENDS: ByPartition = ByPartition {
    field: "endingOffsetsByPartition",
    least: 0,
    fix: "write an offset from 0; partitions that are not listed stop at the end",
};

fn by_partition(
    offsets: Vec<(&TopicName, i32, i64)>,
    kafka: &KafkaSpec,
    list: &ByPartition,
    at: &Path,
    errors: &mut Errors,
) -> Option<Vec<PartitionOffset>> {
    let before = errors.count();
    let mut parsed: Vec<PartitionOffset> = Vec::new();
    for (at, &(name, partition, offset)) in at.each(list.field, &offsets) {
        let topic = name.to_string();
        if let Some(topics) = kafka.topics.as_ref().filter(|topics| !topics.contains(name)) {
            let known = topics.iter().map(|topic| topic.0.as_str());
            let fix = match crate::suggest::nearest(&topic, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "add the topic to topics, or remove this".to_owned(),
            };
            errors.add(&at.field("topic"), Some(&topic), "a topic that the source does not read", fix);
        }
        if partition < 0 {
            errors.add(&at.field("partition"), Some(&partition.to_string()), "no partition", "partitions count from 0");
        }
        if offset < list.least {
            errors.add(&at.field("offset"), Some(&offset.to_string()), "no offset", list.fix);
        }
        if parsed.iter().any(|other| other.topic == topic && other.partition == partition) {
            let problem = format!("partition {partition} of `{topic}` is there twice");
            errors.add(&at, None, problem, "remove one");
        }
        parsed.push(PartitionOffset { topic, partition, offset });
    }
    (errors.count() == before).then_some(parsed)
}

fn ends_after_start(from: &[PartitionOffset], to: &[PartitionOffset], at: &Path, errors: &mut Errors) {
    for (at, end) in at.each("endingOffsetsByPartition", to) {
        let start = from.iter().find(|start| start.topic == end.topic && start.partition == end.partition);
        if let Some(start) = start.filter(|start| start.offset > end.offset) {
            let problem = format!("the end lies before the start, {}", start.offset);
            errors.add(&at.field("offset"), Some(&end.offset.to_string()), problem, "write a greater offset");
        }
    }
}

/// Milliseconds since 1970 of an RFC 3339 instant.
fn timestamp(text: &TimestampText, at: &Path, errors: &mut Errors) -> Option<i64> {
    let parsed = rfc3339_milliseconds(text);
    if parsed.is_none() {
        let fix = "write it as `2026-01-31T00:00:00Z` or `2026-01-31T02:00:00+02:00`";
        errors.add(at, Some(text), "not an instant, or one before 1970", fix);
    }
    parsed
}

fn rfc3339_milliseconds(text: &str) -> Option<i64> {
    // The library reads UTC only: an offset is taken off and counted here.
    let (local, offset_minutes) = match text.char_indices().rev().nth(5) {
        Some((at, sign @ ('+' | '-'))) => {
            let (hours, minutes) = text[at + 1..].split_once(':')?;
            let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
            if !(0..24).contains(&hours) || !(0..60).contains(&minutes) {
                return None;
            }
            let minutes = hours * 60 + minutes;
            (format!("{}Z", &text[..at]), if sign == '+' { minutes } else { -minutes })
        }
        _ => (text.to_owned(), 0),
    };
    let instant = humantime::parse_rfc3339(&local).ok()?;
    let since_1970 = instant.duration_since(std::time::UNIX_EPOCH).ok()?;
    let milliseconds = i64::try_from(since_1970.as_millis()).ok()? - offset_minutes * 60_000;
    (milliseconds >= 0).then_some(milliseconds)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_with_and_without_an_offset() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-01-31T12:00:00Z", Some(1_769_860_800_000)),
            ("2026-01-31T14:00:00+02:00", Some(1_769_860_800_000)),
            ("2026-01-31T06:30:00.250-05:30", Some(1_769_860_800_250)),
            ("2026-01-31", None),
            ("2026-01-31T12:00:00", None),
            ("2026-01-31T12:00:00+25:00", None),
            ("1969-12-31T23:59:59Z", None),
            ("1769860800000", None),
            ("é+00:00", None),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(rfc3339_milliseconds(text), milliseconds, "{text}");
        }
    }
}
