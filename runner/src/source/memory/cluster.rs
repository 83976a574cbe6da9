//! The cluster: topics, partitions and their records, changed by tests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::batch::Header;
use crate::ids::{Offset, Partition};

/// One message to be appended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Milliseconds since 1970; a log's timestamps need not rise.
    pub timestamp: Option<i64>,
    /// The key, or null.
    pub key: Option<Vec<u8>>,
    /// The value, or null.
    pub value: Option<Vec<u8>>,
    /// The headers.
    pub headers: Vec<Header>,
}

impl Record {
    /// A record with a value and nothing else.
    pub fn value(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }
}

/// A call of a source that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// `discover`
    Discover,
    /// `start_offsets`, `end_offsets` and `watermarks`
    Offsets,
    /// `assign` and `unassign`
    Assign,
    /// `next`
    Next,
    /// `note_group_offsets`
    NoteGroupOffsets,
}

/// How it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The brokers cannot be reached.
    Unreachable,
    /// The brokers refuse us.
    Denied,
}

/// A cluster in memory. Clones are the same cluster.
#[derive(Clone)]
pub struct MemoryKafka {
    cluster: Arc<Mutex<Cluster>>,
    /// Wakes waiting readers after a change, in the order in which they began to wait. (A watch channel wakes them in a
    /// random order, and a run would not be repeatable.)
    changed: Arc<Notify>,
}

/// What the cluster holds now.
#[derive(Default)]
pub(super) struct Cluster {
    pub(super) topics: BTreeMap<String, Topic>,
    pub(super) down: bool,
    topics_created: u64,
    faults: BTreeMap<Call, VecDeque<Fault>>,
    group_offsets: BTreeMap<Partition, Offset>,
}

impl Cluster {
    pub(super) fn log(&self, partition: &Partition) -> Option<&Log> {
        let number = usize::try_from(partition.partition).ok()?;
        self.topics.get(&partition.topic)?.partitions.get(number)
    }
}

pub(super) struct Topic {
    pub(super) id: String,
    pub(super) partitions: Vec<Log>,
}

/// One partition.
#[derive(Default)]
pub(super) struct Log {
    /// The first offset that is held.
    pub(super) low: i64,
    /// The next offset to be written.
    pub(super) end: i64,
    /// The first offset of the open transaction.
    open_from: Option<i64>,
    pub(super) records: BTreeMap<i64, Arc<Record>>,
}

impl Log {
    /// The last stable offset: where a `read_committed` reader's view ends.
    pub(super) fn stable_end(&self) -> i64 {
        self.open_from.unwrap_or(self.end)
    }
}

impl Default for MemoryKafka {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryKafka {
    /// A cluster without topics.
    pub fn new() -> Self {
        Self { cluster: Arc::default(), changed: Arc::default() }
    }

    /// Creates a topic with a new id. One of that name that exists is deleted first, with its messages.
    pub fn create_topic(&self, topic: &str, partitions: usize) {
        self.change(|cluster| {
            cluster.topics_created += 1;
            let id = format!("topic-{}", cluster.topics_created);
            let partitions = (0..partitions).map(|_| Log::default()).collect();
            cluster.topics.insert(topic.to_owned(), Topic { id, partitions });
        });
    }

    /// Deletes a topic; nothing if there is none.
    pub fn delete_topic(&self, topic: &str) {
        self.change(|cluster| cluster.topics.remove(topic));
    }

    /// Adds empty partitions until the topic has `total`.
    pub fn grow_topic(&self, topic: &str, total: usize) {
        self.change(|cluster| {
            if let Some(topic) = cluster.topics.get_mut(topic) {
                let missing = total.saturating_sub(topic.partitions.len());
                topic.partitions.extend((0..missing).map(|_| Log::default()));
            }
        });
    }

    /// Appends a record; `None` if there is no such partition.
    pub fn append(&self, topic: &str, partition: i32, record: Record) -> Option<Offset> {
        self.on_log(topic, partition, |log| {
            let offset = log.end;
            log.records.insert(offset, Arc::new(record));
            log.end += 1;
            Offset(offset)
        })
    }

    /// Leaves a gap of `count` offsets at the end, as transaction markers and aborted transactions do.
    pub fn append_gap(&self, topic: &str, partition: i32, count: u32) -> Option<Offset> {
        self.on_log(topic, partition, |log| {
            log.end += i64::from(count);
            Offset(log.end)
        })
    }

    /// Opens a transaction: what is appended from now on stays unseen until [`Self::close_transaction`].
    pub fn open_transaction(&self, topic: &str, partition: i32) {
        self.on_log(topic, partition, |log| {
            log.open_from.get_or_insert(log.end);
        });
    }

    /// Closes the open transaction with a marker; aborted, its records are never seen.
    pub fn close_transaction(&self, topic: &str, partition: i32, commit: bool) {
        self.on_log(topic, partition, |log| {
            let Some(from) = log.open_from.take() else { return };
            if !commit {
                log.records.split_off(&from);
            }
            log.end += 1;
        });
    }

    /// Removes one record and leaves its offset unused, as compaction does.
    pub fn compact(&self, topic: &str, partition: i32, offset: Offset) {
        self.on_log(topic, partition, |log| log.records.remove(&offset.0));
    }

    /// Removes everything below an offset, as retention does.
    pub fn expire(&self, topic: &str, partition: i32, below: Offset) {
        self.on_log(topic, partition, |log| {
            log.low = log.low.max(below.0.min(log.end));
            log.records = log.records.split_off(&log.low);
        });
    }

    /// Makes the next `times` calls of this kind fail, after those already asked for.
    pub fn fail(&self, call: Call, fault: Fault, times: usize) {
        self.change(|cluster| cluster.faults.entry(call).or_default().extend(std::iter::repeat_n(fault, times)));
    }

    /// Takes all brokers away or brings them back. While they are away `next` waits, as librdkafka does, and all else
    /// fails.
    pub fn set_down(&self, down: bool) {
        self.change(|cluster| cluster.down = down);
    }

    /// The offsets noted in the group.
    pub fn group_offsets(&self) -> BTreeMap<Partition, Offset> {
        self.lock().group_offsets.clone()
    }

    fn on_log<T>(&self, topic: &str, partition: i32, act: impl FnOnce(&mut Log) -> T) -> Option<T> {
        self.change(|cluster| {
            let partition = usize::try_from(partition).ok()?;
            cluster.topics.get_mut(topic)?.partitions.get_mut(partition).map(act)
        })
    }

    fn change<T>(&self, act: impl FnOnce(&mut Cluster) -> T) -> T {
        let result = act(&mut self.lock());
        self.changed.notify_waiters();
        result
    }

    /// Completes at the first change after this call, awaited or not.
    pub(super) fn change_after_now(&self) -> impl Future<Output = ()> + Send + 'static {
        Arc::clone(&self.changed).notified_owned()
    }

    /// The failure asked for next, if any.
    pub(super) fn take_fault(&self, call: Call) -> Option<Fault> {
        self.lock().faults.get_mut(&call)?.pop_front()
    }

    pub(super) fn note(&self, offsets: &BTreeMap<Partition, Offset>) {
        let noted = offsets.iter().map(|(partition, offset)| (partition.clone(), *offset));
        self.lock().group_offsets.extend(noted);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
