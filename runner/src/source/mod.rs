//! Where rows come from: Kafka partitions, assigned and never subscribed.

pub mod kafka;
pub mod memory;
mod offsets;

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::batch::Fetched;
use crate::ids::{Offset, Partition};

/// A partition that exists now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    /// The partition.
    pub partition: Partition,
    /// The id of its topic (a re-created topic has another one); `None` where the broker tells none.
    pub topic_id: Option<String>,
}

/// One Kafka source of a job. All methods are called from one task. `next` is cancellation-safe: a fetch that was
/// not returned is returned by a later call.
#[async_trait]
pub trait Source: Send {
    /// The source's name in the manifest.
    fn name(&self) -> &str;

    /// Every partition of the source's topics as the brokers know them now, sorted. A listed topic that does not exist is
    /// an error; a pattern may match nothing yet. Topics of Kafka's own are never matched by a pattern.
    async fn discover(&mut self) -> Result<Vec<Discovered>, SourceError>;

    /// Where reading of partitions never read before begins, by the manifest's starting offsets. With
    /// `appeared_later` (a partition created while the job ran) it is always the earliest offset.
    async fn start_offsets(
        &mut self,
        partitions: &[Partition],
        appeared_later: bool,
    ) -> Result<BTreeMap<Partition, Offset>, SourceError>;

    /// The offsets at which a bounded read ends: the manifest's ending offsets, or the ends as they are now (the
    /// last stable offset for `read_committed`).
    async fn end_offsets(&mut self, partitions: &[Partition]) -> Result<BTreeMap<Partition, Offset>, SourceError>;

    /// The first and the next offset of each partition that the broker holds now. The next one is what a
    /// `read_committed` reader can reach: the last stable offset, below which no transaction is open.
    async fn watermarks(
        &mut self,
        partitions: &[Partition],
    ) -> Result<BTreeMap<Partition, (Offset, Offset)>, SourceError>;

    /// Starts reading these partitions at these offsets; one that is read already is moved there.
    async fn assign(&mut self, starts: &BTreeMap<Partition, Offset>) -> Result<(), SourceError>;

    /// Stops reading these partitions; nothing of them is returned afterwards.
    async fn unassign(&mut self, partitions: &[Partition]) -> Result<(), SourceError>;

    /// The next messages of any assigned partition; waits until there are some, or a position moved. Each partition's
    /// end is reported once when it is reached, by a `Fetched` with `at_end`, even if it holds no message.
    ///
    /// After an error the other partitions go on, and calling again is always right: `Unreachable`, `Denied` and
    /// `TopicMissing` are worked on meanwhile. Only a partition whose offset was out of range stays stopped until it is
    /// assigned again.
    async fn next(&mut self) -> Result<Fetched, SourceError>;

    /// Notes committed offsets in the Kafka group, for lag tools only; failures are for the log, not for the job.
    async fn note_group_offsets(&mut self, offsets: &BTreeMap<Partition, Offset>) -> Result<(), SourceError>;
}

/// What can go wrong in a source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A topic of the manifest does not exist (yet).
    #[error("topic '{topic}' does not exist on {brokers}; create it, or correct source '{source_name}'")]
    TopicMissing {
        /// The source's name.
        source_name: String,
        /// The topic.
        topic: String,
        /// The bootstrap servers.
        brokers: String,
    },
    /// The brokers cannot be reached; worth trying again.
    #[error("kafka at {brokers} cannot be reached: {reason}; trying again, check bootstrapServers and the brokers")]
    Unreachable {
        /// The bootstrap servers.
        brokers: String,
        /// librdkafka's words.
        reason: String,
    },
    /// The brokers refuse us: wrong password, no right on a topic.
    #[error("kafka at {brokers} denies access: {reason}")]
    Denied {
        /// The bootstrap servers.
        brokers: String,
        /// librdkafka's words.
        reason: String,
    },
    /// The offset asked for is not there any more (or not yet).
    #[error(
        "offset {wanted} of {partition} is out of range: the broker holds {low} to {high}; correct the starting offset, \
         or set failOnDataLoss: false on the source to go on from offset {low}"
    )]
    OffsetOutOfRange {
        /// Where.
        partition: Partition,
        /// The offset asked for.
        wanted: i64,
        /// The first offset there is.
        low: i64,
        /// The next offset to be written.
        high: i64,
    },
    /// A setting that librdkafka refuses.
    #[error("source '{source_name}': kafka property '{property}' is refused: {reason}")]
    Property {
        /// The source's name.
        source_name: String,
        /// The property.
        property: String,
        /// librdkafka's words.
        reason: String,
    },
    /// Something else in the manifest, or a secret it names, that cannot be used.
    #[error("source '{source_name}': {reason}")]
    Settings {
        /// The source's name.
        source_name: String,
        /// What is wrong and how to mend it.
        reason: String,
    },
    /// Anything else.
    #[error("source '{source_name}': {reason}")]
    Other {
        /// The source's name.
        source_name: String,
        /// What happened.
        reason: String,
    },
}
