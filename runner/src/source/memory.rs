//! Kafka in memory: the same contract without brokers, threads or clocks, for tests and the simulation.
//!
//! What a run sees depends only on the order of the calls, so that the same seed gives the same bytes.

mod cluster;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use millrace_crds::{Ending, Starting, Topics};
use regex::Regex;

use self::cluster::Cluster;
pub use self::cluster::{Call, Fault, MemoryKafka, Record};
use super::{Discovered, Source, SourceError, offsets};
use crate::batch::{Fetched, Header, Messages, RawMessage};
use crate::ids::{Offset, Partition};

/// What error messages call the brokers.
const BROKERS: &str = "memory";

/// A source that reads a [`MemoryKafka`].
pub struct MemorySource {
    name: String,
    topics: Topics,
    starting: Starting,
    ending: Option<Ending>,
    batch: usize,
    kafka: MemoryKafka,
    positions: BTreeMap<Partition, Reading>,
    /// The partition served last; the others have their turn before it comes again.
    turn: Option<Partition>,
}

/// How far a partition has been read.
struct Reading {
    topic_id: Option<String>,
    position: i64,
    /// The end that was reported last, so that each is reported once.
    end_reported: Option<i64>,
    /// The offset is out of range and that has been said.
    stopped: bool,
}

impl MemoryKafka {
    /// A source that reads this cluster, at most `batch` messages at a time.
    pub fn source(
        &self,
        name: &str,
        topics: &Topics,
        starting: Starting,
        ending: Option<Ending>,
        batch: usize,
    ) -> MemorySource {
        MemorySource {
            name: name.to_owned(),
            topics: topics.clone(),
            starting,
            ending,
            batch: batch.max(1),
            kafka: self.clone(),
            positions: BTreeMap::new(),
            turn: None,
        }
    }
}

impl MemorySource {
    fn fault(&self, call: Call) -> Result<(), SourceError> {
        match self.kafka.take_fault(call) {
            Some(Fault::Denied) => {
                Err(SourceError::Denied { brokers: BROKERS.to_owned(), reason: "denied by the test".to_owned() })
            }
            Some(Fault::Unreachable) => Err(self.unreachable("unreachable by the test")),
            None if self.kafka.lock().down && !matches!(call, Call::Next | Call::Assign) => {
                Err(self.unreachable("brokers are down"))
            }
            None => Ok(()),
        }
    }

    fn unreachable(&self, reason: &str) -> SourceError {
        SourceError::Unreachable { brokers: BROKERS.to_owned(), reason: reason.to_owned() }
    }

    fn topic_missing(&self, topic: &str) -> SourceError {
        SourceError::TopicMissing {
            source_name: self.name.clone(),
            topic: topic.to_owned(),
            brokers: BROKERS.to_owned(),
        }
    }

    fn settle(&self, wanted: BTreeMap<Partition, offsets::Wanted>) -> Result<BTreeMap<Partition, Offset>, SourceError> {
        let cluster = self.kafka.lock();
        let mut settled = BTreeMap::new();
        for (partition, wanted) in wanted {
            let log = cluster.log(&partition).ok_or_else(|| self.topic_missing(&partition.topic))?;
            let end = log.stable_end();
            let at_time = match wanted {
                offsets::Wanted::Timestamp(millis) => log
                    .records
                    .range(..end)
                    .find(|(_, record)| record.timestamp.is_some_and(|timestamp| timestamp >= millis))
                    .map(|(offset, _)| Offset(*offset)),
                _ => None,
            };
            let offset = offsets::settle(&partition, wanted, Offset(log.low), Offset(end), at_time)?;
            settled.insert(partition, offset);
        }
        Ok(settled)
    }

    /// What can be returned now.
    fn look(&mut self) -> Option<Result<Fetched, SourceError>> {
        if let Err(error) = self.fault(Call::Next) {
            return Some(Err(error));
        }
        let kafka = self.kafka.clone();
        let cluster = kafka.lock();
        if cluster.down {
            return None;
        }
        let after = self.turn.clone();
        let later = self.positions.keys().filter(|partition| Some(*partition) > after.as_ref());
        let earlier = self.positions.keys().filter(|partition| Some(*partition) <= after.as_ref());
        let order: Vec<Partition> = later.chain(earlier).cloned().collect();
        for partition in order {
            if let Some(result) = self.read(&cluster, &partition) {
                self.turn = Some(partition);
                return Some(result);
            }
        }
        None
    }

    fn read(&mut self, cluster: &Cluster, partition: &Partition) -> Option<Result<Fetched, SourceError>> {
        let missing = self.topic_missing(&partition.topic);
        let batch = self.batch;
        let reading = self.positions.get_mut(partition)?;
        if reading.stopped {
            return None;
        }
        let topic_id = cluster.topics.get(&partition.topic).map(|topic| topic.id.clone());
        let Some(log) = cluster.log(partition) else {
            // Said once for each time the topic goes away.
            let gone = reading.topic_id.take();
            return gone.map(|_| Err(missing));
        };
        reading.topic_id = topic_id;
        let end = log.stable_end();
        if reading.position < log.low || reading.position > log.end {
            reading.stopped = true;
            return Some(Err(SourceError::OffsetOutOfRange {
                partition: partition.clone(),
                wanted: reading.position,
                low: log.low,
                high: log.end,
            }));
        }
        if reading.position > end {
            // Moved by hand behind the beginning of an open transaction: what comes is not to be read yet.
            return None;
        }
        let messages: Vec<(Offset, Arc<Record>)> = log
            .records
            .range(reading.position..end)
            .take(batch)
            .map(|(offset, record)| (Offset(*offset), Arc::clone(record)))
            .collect();
        let position = match messages.last() {
            Some((offset, _)) if messages.len() == batch => offset.0 + 1,
            // Nothing more below the end: what is left are gaps.
            _ => end,
        };
        let at_end = position == end;
        if messages.is_empty() && position == reading.position && reading.end_reported == Some(end) {
            return None;
        }
        reading.position = position;
        reading.end_reported = at_end.then_some(end);
        let bytes = messages.iter().map(|(_, record)| len(&record.key) + len(&record.value)).sum();
        Some(Ok(Fetched {
            partition: partition.clone(),
            messages: Box::new(MemoryMessages(messages)),
            position: Offset(position),
            at_end,
            bytes,
        }))
    }
}

fn len(bytes: &Option<Vec<u8>>) -> usize {
    bytes.as_ref().map_or(0, Vec::len)
}

#[async_trait]
impl Source for MemorySource {
    fn name(&self) -> &str {
        &self.name
    }

    async fn discover(&mut self) -> Result<Vec<Discovered>, SourceError> {
        self.fault(Call::Discover)?;
        let cluster = self.kafka.lock();
        let names: BTreeSet<&str> = match &self.topics {
            Topics::List(names) => {
                if let Some(missing) = names.iter().find(|name| !cluster.topics.contains_key(*name)) {
                    return Err(self.topic_missing(missing));
                }
                names.iter().map(String::as_str).collect()
            }
            Topics::Pattern(pattern) => {
                let pattern = Regex::new(&format!("^(?:{pattern})$")).map_err(|error| SourceError::Other {
                    source_name: self.name.clone(),
                    reason: format!("topicPattern '{pattern}' is no regular expression: {error}"),
                })?;
                cluster.topics.keys().map(String::as_str).filter(|name| pattern.is_match(name)).collect()
            }
        };
        let mut found = Vec::new();
        for (name, topic) in names.into_iter().filter_map(|name| cluster.topics.get_key_value(name)) {
            found.extend((0i32..).zip(&topic.partitions).map(|(number, _)| Discovered {
                partition: Partition::new(self.name.clone(), name.clone(), number),
                topic_id: Some(topic.id.clone()),
            }));
        }
        Ok(found)
    }

    async fn start_offsets(
        &mut self,
        partitions: &[Partition],
        appeared_later: bool,
    ) -> Result<BTreeMap<Partition, Offset>, SourceError> {
        self.fault(Call::Offsets)?;
        self.settle(offsets::starts(&self.name, &self.starting, partitions, appeared_later)?)
    }

    async fn end_offsets(&mut self, partitions: &[Partition]) -> Result<BTreeMap<Partition, Offset>, SourceError> {
        self.fault(Call::Offsets)?;
        self.settle(offsets::ends(&self.name, self.ending.as_ref(), partitions)?)
    }

    async fn watermarks(
        &mut self,
        partitions: &[Partition],
    ) -> Result<BTreeMap<Partition, (Offset, Offset)>, SourceError> {
        self.fault(Call::Offsets)?;
        let cluster = self.kafka.lock();
        partitions
            .iter()
            .map(|partition| {
                let log = cluster.log(partition).ok_or_else(|| self.topic_missing(&partition.topic))?;
                Ok((partition.clone(), (Offset(log.low), Offset(log.stable_end()))))
            })
            .collect()
    }

    async fn assign(&mut self, starts: &BTreeMap<Partition, Offset>) -> Result<(), SourceError> {
        self.fault(Call::Assign)?;
        for (partition, offset) in starts {
            // A topic that is not there now is reported by `next`, as if it had been.
            let topic_id = Some(String::new());
            let reading = Reading { topic_id, position: offset.0, end_reported: None, stopped: false };
            self.positions.insert(partition.clone(), reading);
        }
        Ok(())
    }

    async fn unassign(&mut self, partitions: &[Partition]) -> Result<(), SourceError> {
        self.fault(Call::Assign)?;
        self.positions.retain(|partition, _| !partitions.contains(partition));
        Ok(())
    }

    async fn next(&mut self) -> Result<Fetched, SourceError> {
        loop {
            let changed = self.kafka.change_after_now();
            if let Some(result) = self.look() {
                return result;
            }
            changed.await;
        }
    }

    async fn note_group_offsets(&mut self, offsets: &BTreeMap<Partition, Offset>) -> Result<(), SourceError> {
        self.fault(Call::NoteGroupOffsets)?;
        self.kafka.note(offsets);
        Ok(())
    }
}

struct MemoryMessages(Vec<(Offset, Arc<Record>)>);

impl Messages for MemoryMessages {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn message(&self, index: usize) -> RawMessage<'_> {
        let (offset, record) = &self.0[index];
        RawMessage {
            offset: *offset,
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            payload: record.value.as_deref(),
        }
    }

    fn headers(&self, index: usize) -> Vec<Header> {
        self.0[index].1.headers.clone()
    }
}
