//! Kafka through librdkafka.
//!
//! One client in no group reads: its partitions are started and stopped one by one, never subscribed to. A thread
//! (`reader`) takes messages in large batches and hands them over through a channel with room for one batch; when the
//! channel is full the thread waits, librdkafka's own queue fills to its small bound, and fetching stops. A second client
//! is made when offsets are first noted in the group, so that rights on groups and their coordinator cannot disturb
//! reading.

mod config;
mod consume;
mod context;
mod describe;
mod handle;
mod lookup;
mod reader;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use millrace_crds::Kafka;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use self::context::Context;
use self::handle::Handle;
use self::lookup::{Place, Selection};
use self::reader::{Epoch, Event, Reader, Start};
use super::{Discovered, Source, SourceError, offsets};
use crate::batch::Fetched;
use crate::ids::{Offset, Partition};
use crate::secrets::Secrets;

/// A Kafka source of a job.
pub struct KafkaSource {
    place: Place,
    kafka: Kafka,
    topics: Selection,
    handle: Arc<Handle>,
    committer_config: ClientConfig,
    committer: Arc<OnceLock<Arc<Handle>>>,
    reader: Reader,
    /// The current epoch of every assigned partition.
    assigned: HashMap<Partition, Epoch>,
    last_epoch: Epoch,
    /// Received and not yet returned by `next`.
    ready: VecDeque<Event>,
}

impl KafkaSource {
    /// Makes the source's client and reading thread; nothing is asked of the brokers yet.
    ///
    /// `group` is where offsets are noted for lag tools, see [`kafka_group`](millrace_crds::contract::kafka_group). Fails on a secret that is missing, on a
    /// property librdkafka refuses and on certificates it cannot read.
    pub fn open(name: &str, kafka: &Kafka, group: &str, secrets: &Secrets) -> Result<Self, SourceError> {
        let place = Place { source: name.to_owned(), brokers: kafka.bootstrap_servers.clone() };
        let topics = Selection::new(&kafka.topics, &place)?;
        let config = config::config(name, kafka, group, secrets)?;
        let handle = Arc::new(open(&config.reader, &place)?);
        let committer = Arc::new(OnceLock::new());
        let reader = Reader::start(Arc::clone(&handle), Arc::clone(&committer), place.clone())?;
        Ok(Self {
            place,
            kafka: kafka.clone(),
            topics,
            handle,
            committer_config: config.committer,
            committer,
            reader,
            assigned: HashMap::new(),
            last_epoch: Epoch(0),
            ready: VecDeque::new(),
        })
    }

    /// How many messages are in memory: fetched ahead by librdkafka, on their way, and in [`Fetched`]s not yet dropped.
    pub fn buffered(&self) -> usize {
        self.reader.buffered()
    }

    /// Runs a question to the brokers on a thread that may block.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Handle, &Place) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let (handle, place) = (Arc::clone(&self.handle), self.place.clone());
        match tokio::task::spawn_blocking(move || question(&handle, &place)).await {
            Ok(answer) => answer,
            Err(error) => Err(self.place.other(format!("a question to the brokers was given up: {error}"))),
        }
    }

    fn is_current(&self, partition: &Partition, epoch: Epoch) -> bool {
        self.assigned.get(partition) == Some(&epoch)
    }

    /// Takes the next event that still matters.
    fn take_ready(&mut self) -> Option<Event> {
        while let Some(event) = self.ready.pop_front() {
            let current = match &event {
                Event::Fetched { epoch, fetched } => self.is_current(&fetched.partition, *epoch),
                Event::OutOfRange { epoch, partition, .. } | Event::Failed { epoch, partition, .. } => {
                    self.is_current(partition, *epoch)
                }
                Event::Trouble(_) => true,
            };
            if current {
                return Some(event);
            }
        }
        None
    }

    /// Tells what the broker does hold. The event is kept until that is known, for `next` may be cancelled.
    async fn out_of_range(&mut self, epoch: Epoch, partition: Partition, wanted: i64) -> SourceError {
        self.ready.push_front(Event::OutOfRange { epoch, partition: partition.clone(), wanted });
        let asked = vec![partition.clone()];
        match self.watermarks(&asked).await {
            Ok(watermarks) => {
                self.ready.pop_front();
                let (low, high) = watermarks.get(&partition).map_or((-1, -1), |(low, high)| (low.0, high.0));
                SourceError::OffsetOutOfRange { partition, wanted, low, high }
            }
            Err(error) => error,
        }
    }
}

#[async_trait]
impl Source for KafkaSource {
    fn name(&self) -> &str {
        &self.place.source
    }

    async fn discover(&mut self) -> Result<Vec<Discovered>, SourceError> {
        let topics = self.topics.clone();
        self.ask(move |handle, place| lookup::discover(handle, place, &topics)).await
    }

    async fn start_offsets(
        &mut self,
        partitions: &[Partition],
        appeared_later: bool,
    ) -> Result<BTreeMap<Partition, Offset>, SourceError> {
        let wanted = offsets::starts(&self.place.source, &self.kafka.starting, partitions, appeared_later)?;
        self.ask(move |handle, place| lookup::resolve(handle, place, &wanted)).await
    }

    async fn end_offsets(&mut self, partitions: &[Partition]) -> Result<BTreeMap<Partition, Offset>, SourceError> {
        let wanted = offsets::ends(&self.place.source, self.kafka.ending.as_ref(), partitions)?;
        self.ask(move |handle, place| lookup::resolve(handle, place, &wanted)).await
    }

    async fn watermarks(
        &mut self,
        partitions: &[Partition],
    ) -> Result<BTreeMap<Partition, (Offset, Offset)>, SourceError> {
        let partitions = partitions.to_vec();
        self.ask(move |handle, place| lookup::watermarks(handle, place, &partitions)).await
    }

    async fn assign(&mut self, starts: &BTreeMap<Partition, Offset>) -> Result<(), SourceError> {
        let mut assignments = Vec::with_capacity(starts.len());
        for (partition, offset) in starts {
            if offset.0 < 0 {
                return Err(self.place.other(format!("{partition} cannot be read from offset {}", offset.0)));
            }
            self.last_epoch = Epoch(self.last_epoch.0 + 1);
            // Before the reader is asked: should this call be cancelled or fail, nothing of the old epoch passes.
            self.assigned.insert(partition.clone(), self.last_epoch);
            assignments.push(Start { partition: partition.clone(), offset: *offset, epoch: self.last_epoch });
        }
        self.reader.assign(assignments).await
    }

    async fn unassign(&mut self, partitions: &[Partition]) -> Result<(), SourceError> {
        for partition in partitions {
            self.assigned.remove(partition);
        }
        self.reader.unassign(partitions.to_vec()).await
    }

    async fn next(&mut self) -> Result<Fetched, SourceError> {
        loop {
            match self.take_ready() {
                Some(Event::Fetched { fetched, .. }) => return Ok(fetched),
                Some(Event::OutOfRange { epoch, partition, wanted }) => {
                    return Err(self.out_of_range(epoch, partition, wanted).await);
                }
                Some(Event::Failed { error, .. } | Event::Trouble(error)) => return Err(error),
                None => {}
            }
            match self.reader.next().await {
                Some(events) => self.ready.extend(events),
                None => return Err(self.place.other("the reading thread has ended")),
            }
        }
    }

    async fn note_group_offsets(&mut self, offsets: &BTreeMap<Partition, Offset>) -> Result<(), SourceError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let (config, committer, offsets) =
            (self.committer_config.clone(), Arc::clone(&self.committer), offsets.clone());
        self.ask(move |_, place| {
            let committer = match committer.get() {
                Some(committer) => Arc::clone(committer),
                None => {
                    let made = Arc::new(open(&config, place)?);
                    Arc::clone(committer.get_or_init(|| made))
                }
            };
            lookup::commit(&committer, place, &offsets)
        })
        .await
    }
}

/// Makes a client. librdkafka checks here what depends on several properties: certificates, sizes that must fit.
fn open(config: &ClientConfig, place: &Place) -> Result<Handle, SourceError> {
    Handle::open(config, Context::new(&place.source)).map_err(|error| match error {
        KafkaError::ClientConfig(_, reason, property, _) => {
            SourceError::Property { source_name: place.source.clone(), property, reason }
        }
        KafkaError::ClientCreation(reason) => place.settings(format!("kafka settings do not fit together: {reason}")),
        other => place.other(other.to_string()),
    })
}
