//! Questions to the brokers: topics, partitions and offsets. All of it blocks; callers are on a thread for that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millrace_crds::Topics;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};
use regex::Regex;

use super::super::offsets::{Wanted, settle};
use super::super::{Discovered, SourceError};
use super::context::Trouble;
use super::describe::describe;
use super::handle::Handle;
use crate::ids::{Offset, Partition};

/// How long the brokers are given to answer, try by try; after each one the reasons heard so far decide whether another
/// is worth it. A caller waits 8 s at most.
const PATIENCE: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];
/// How many topics are described in one request.
const DESCRIBED_AT_ONCE: usize = 500;

/// What an error message says about where it happened.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub source: String,
    pub brokers: String,
}

impl Place {
    pub(super) fn other(&self, reason: impl Into<String>) -> SourceError {
        SourceError::Other { source_name: self.source.clone(), reason: reason.into() }
    }

    pub(super) fn settings(&self, reason: impl Into<String>) -> SourceError {
        SourceError::Settings { source_name: self.source.clone(), reason: reason.into() }
    }

    pub(super) fn unreachable(&self, reason: impl Into<String>) -> SourceError {
        SourceError::Unreachable { brokers: self.brokers.clone(), reason: reason.into() }
    }

    pub(super) fn denied(&self, reason: impl Into<String>) -> SourceError {
        SourceError::Denied { brokers: self.brokers.clone(), reason: reason.into() }
    }

    pub(super) fn topic_missing(&self, topic: &str) -> SourceError {
        SourceError::TopicMissing {
            source_name: self.source.clone(),
            topic: topic.to_owned(),
            brokers: self.brokers.clone(),
        }
    }

    pub(super) fn in_trouble(&self, trouble: Trouble) -> SourceError {
        match trouble {
            Trouble::Denied(reason) => {
                self.denied(format!("{reason}; check authentication and tls of source '{}'", self.source))
            }
            Trouble::Unreachable(reason) => self.unreachable(reason),
        }
    }

    /// What a code means that was answered for one topic or one of its partitions.
    pub(super) fn topic_error(&self, topic: &str, code: RDKafkaErrorCode) -> SourceError {
        use RDKafkaErrorCode as Code;
        match code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic => self.topic_missing(topic),
            Code::UnknownPartition => {
                self.other(format!("topic '{topic}' has fewer partitions than were read from it"))
            }
            Code::TopicAuthorizationFailed => {
                self.denied(format!("no right on topic '{topic}'; grant this user DESCRIBE and READ on it"))
            }
            Code::InvalidTopic => self.settings(format!("'{topic}' is no valid name of a topic")),
            code if is_passing(code) => self.unreachable(format!("topic '{topic}': {code}")),
            code => self.other(format!("topic '{topic}': {code}")),
        }
    }
}

/// Whether asking again may give another answer.
fn is_passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::TimedOutQueue
            | Code::Resolve
            | Code::RequestTimedOut
            | Code::BrokerDestroy
            | Code::DestroyBroker
            | Code::WaitCache
            | Code::WaitingForCoordinator
            | Code::InProgress
            | Code::Retry
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::NetworkException
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::OffsetNotAvailable
            | Code::ListenerNotFound
            | Code::KafkaStorageError
    )
}

/// Asks until there is an answer, a lasting error, or no patience left.
pub(super) fn ask<T>(
    handle: &Handle,
    place: &Place,
    question: impl Fn(Duration) -> Result<T, RDKafkaErrorCode>,
) -> Result<T, SourceError> {
    let mut last = RDKafkaErrorCode::OperationTimedOut;
    for patience in PATIENCE {
        let asked = Instant::now();
        match question(patience) {
            Ok(answer) => {
                handle.context().recovered();
                return Ok(answer);
            }
            Err(code) if is_passing(code) => last = code,
            Err(RDKafkaErrorCode::ClusterAuthorizationFailed) => {
                return Err(place.denied("no right on the cluster"));
            }
            Err(code) => return Err(place.other(code.to_string())),
        }
        handle.serve_events();
        if let Some(trouble) = handle.context().trouble(Duration::ZERO) {
            return Err(place.in_trouble(trouble));
        }
        // An error that came at once would be asked about again at once.
        std::thread::sleep(Duration::from_millis(100).saturating_sub(asked.elapsed()));
    }
    Err(place.unreachable(handle.context().last_words().unwrap_or_else(|| last.to_string())))
}

/// The topics of a manifest.
#[derive(Debug, Clone)]
pub(super) enum Selection {
    List(Vec<String>),
    Pattern(Regex),
}

impl Selection {
    /// A pattern is for the whole name, whether or not it says so.
    pub(super) fn new(topics: &Topics, place: &Place) -> Result<Self, SourceError> {
        match topics {
            Topics::List(names) => Ok(Self::List(names.clone())),
            Topics::Pattern(pattern) => Regex::new(&format!("^(?:{pattern})$"))
                .map(Self::Pattern)
                .map_err(|error| place.settings(format!("topicPattern '{pattern}' is no regular expression: {error}"))),
        }
    }
}

/// Every partition of the selected topics, sorted. A listed topic must exist; a pattern may match none.
pub(super) fn discover(handle: &Handle, place: &Place, topics: &Selection) -> Result<Vec<Discovered>, SourceError> {
    // Of a list one name will do: the answer is for the brokers in it.
    let some_topic = match topics {
        Selection::List(names) => names.first().map(String::as_str),
        Selection::Pattern(_) => None,
    };
    let metadata =
        ask(handle, place, |patience| handle.fetch_metadata(some_topic, patience).map_err(|error| code(&error)))?;
    let names: Vec<String> = match topics {
        Selection::List(names) => names.clone(),
        Selection::Pattern(pattern) => {
            let all = metadata.topics().iter().map(|topic| topic.name());
            all.filter(|name| pattern.is_match(name)).map(str::to_owned).collect()
        }
    };
    let answered = metadata.orig_broker_id();
    let broker = metadata.brokers().iter().map(|broker| broker.id()).find(|id| *id == answered || answered < 0);
    let broker = broker.or_else(|| metadata.brokers().first().map(|broker| broker.id()));
    let Some(broker) = broker else {
        return Err(place.unreachable("the cluster names no brokers"));
    };
    let listed = matches!(topics, Selection::List(_));
    let mut found = Vec::new();
    for names in names.chunks(DESCRIBED_AT_ONCE) {
        for topic in ask(handle, place, |patience| describe(handle, broker, names, patience))? {
            match topic.error {
                RDKafkaErrorCode::NoError if !listed && (topic.internal || topic.name.starts_with("__")) => continue,
                RDKafkaErrorCode::NoError => {}
                // A topic that was matched a moment ago and is gone, or that one may not read, was never asked for.
                RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::TopicAuthorizationFailed if !listed => {
                    continue;
                }
                code => return Err(place.topic_error(&topic.name, code)),
            }
            found.extend(topic.partitions.iter().map(|&partition| Discovered {
                partition: Partition::new(place.source.clone(), topic.name.clone(), partition),
                topic_id: topic.id.clone(),
            }));
        }
    }
    found.sort_by(|a, b| a.partition.cmp(&b.partition));
    Ok(found)
}

/// The first and the next offset of each partition; the next one as a `read_committed` reader sees it.
pub(super) fn watermarks(
    handle: &Handle,
    place: &Place,
    partitions: &[Partition],
) -> Result<BTreeMap<Partition, (Offset, Offset)>, SourceError> {
    let query = |offset| partitions.iter().map(|partition| (partition.clone(), offset)).collect();
    let lows = list_offsets(handle, place, &query(KafkaOffset::Beginning))?;
    let highs = list_offsets(handle, place, &query(KafkaOffset::End))?;
    partitions
        .iter()
        .map(|partition| match (lows.get(partition), highs.get(partition)) {
            (Some(Some(low)), Some(Some(high))) => Ok((partition.clone(), (*low, *high))),
            _ => Err(place.unreachable(format!("no broker tells the offsets of {partition}"))),
        })
        .collect()
}

/// Looks up what is wanted of each partition.
pub(super) fn resolve(
    handle: &Handle,
    place: &Place,
    wanted: &BTreeMap<Partition, Wanted>,
) -> Result<BTreeMap<Partition, Offset>, SourceError> {
    let partitions: Vec<Partition> = wanted.keys().cloned().collect();
    let watermarks = watermarks(handle, place, &partitions)?;
    let times = wanted
        .iter()
        .filter_map(|(partition, wanted)| match wanted {
            Wanted::Timestamp(millis) => Some((partition.clone(), KafkaOffset::Offset(*millis))),
            _ => None,
        })
        .collect();
    let at_times = list_offsets(handle, place, &times)?;
    let mut offsets = BTreeMap::new();
    for (partition, (low, high)) in watermarks {
        let Some(&wanted) = wanted.get(&partition) else { continue };
        let at_time = at_times.get(&partition).copied().flatten();
        offsets.insert(partition.clone(), settle(&partition, wanted, low, high, at_time)?);
    }
    Ok(offsets)
}

/// The offsets at these times, one request a broker; `Beginning` and `End` stand for themselves. `None` where there is
/// no message at or after the time.
fn list_offsets(
    handle: &Handle,
    place: &Place,
    times: &BTreeMap<Partition, KafkaOffset>,
) -> Result<BTreeMap<Partition, Option<Offset>>, SourceError> {
    if times.is_empty() {
        return Ok(BTreeMap::new());
    }
    let answers = ask(handle, place, |patience| {
        let mut list = TopicPartitionList::with_capacity(times.len());
        for (partition, time) in times {
            list.add_partition_offset(&partition.topic, partition.partition, *time).map_err(|error| code(&error))?;
        }
        match handle.offsets_for_times(list, patience) {
            Ok(answers) => Ok(Ok(answers)),
            // librdkafka fails the whole question when it knows no leader for a partition.
            Err(error) => match code(&error) {
                unknown @ (RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::TopicAuthorizationFailed) => Ok(Err(unknown)),
                code => Err(code),
            },
        }
    })?;
    let answers = answers.map_err(|code| {
        let topics: std::collections::BTreeSet<&str> = times.keys().map(|partition| partition.topic.as_str()).collect();
        place.topic_error(&topics.into_iter().collect::<Vec<_>>().join(", "), code)
    })?;
    let mut offsets = BTreeMap::new();
    for answer in answers.elements() {
        if let Err(error) = answer.error() {
            return Err(place.topic_error(answer.topic(), code(&error)));
        }
        let partition = Partition::new(place.source.clone(), answer.topic(), answer.partition());
        let offset = match answer.offset() {
            KafkaOffset::Offset(offset) => Some(Offset(offset)),
            _ => None,
        };
        offsets.insert(partition, offset);
    }
    Ok(offsets)
}

/// Notes offsets in the group; waits for the brokers to acknowledge.
pub(super) fn commit(
    committer: &Handle,
    place: &Place,
    offsets: &BTreeMap<Partition, Offset>,
) -> Result<(), SourceError> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (partition, offset) in offsets {
        list.add_partition_offset(&partition.topic, partition.partition, KafkaOffset::Offset(offset.0))
            .map_err(|error| place.other(error.to_string()))?;
    }
    committer.commit(&list, CommitMode::Sync).map_err(|error| match code(&error) {
        RDKafkaErrorCode::GroupAuthorizationFailed => {
            place.denied("no right on the group; grant this user READ on it to have its lag shown")
        }
        code if is_passing(code) => place.unreachable(format!("offsets were not noted in the group: {code}")),
        code => place.other(format!("offsets were not noted in the group: {code}")),
    })
}

fn code(error: &KafkaError) -> RDKafkaErrorCode {
    error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)
}
