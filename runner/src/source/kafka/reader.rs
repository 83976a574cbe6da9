//! The thread that reads: it alone starts and stops partitions and takes messages out of librdkafka.
//!
//! Because one thread does both, every batch is unambiguously before or after a change of what is assigned. Each
//! assignment of a partition has an epoch, and batches carry it; whoever receives them drops those of an older epoch.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use futures::future::{Either, select};
use rdkafka::consumer::Consumer;
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::{mpsc, oneshot};
use tracing::Dispatch;

use super::super::SourceError;
use super::consume::{FetchQueue, Fetcher, Part, PartError, Topic};
use super::handle::Handle;
use super::lookup::Place;
use crate::batch::{Fetched, Messages};
use crate::ids::{Offset, Partition};

/// Which assignment of a partition something belongs to; every assignment has a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Epoch(pub u64);

/// Messages taken at a time, at most.
const MAX_BATCH: usize = 10_000;
/// Messages taken the first time, when their size is not known yet.
const FIRST_BATCH: usize = 256;
/// Bytes of keys and values that a batch aims at: large messages come in smaller batches.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How long an idle reader sleeps between looks at librdkafka's events. Messages and commands wake it at once.
const IDLE: Duration = Duration::from_millis(250);
/// How long a batch waits to become fuller; what it adds to the latency of a lone message.
const LINGER: Duration = Duration::from_millis(20);
/// How often log lines and errors are served while messages flow.
const SERVE_EVERY: Duration = Duration::from_millis(100);
/// How long the brokers may be away before it is reported, and how often it is reported again.
const LASTING: Duration = Duration::from_secs(5);
/// How long a probe waits for a sign of life.
const PROBE: Duration = Duration::from_secs(1);
/// Batches that are ready for the receiver; with the one in the reader's hands they are all that is taken ahead.
const BATCHES_AHEAD: usize = 1;

/// What the reader reports, a batch at a time.
pub(super) enum Event {
    /// Messages, or a position that moved.
    Fetched { epoch: Epoch, fetched: Fetched },
    /// The broker does not hold the offset that was to be read next. The partition stays stopped until it is assigned
    /// again.
    OutOfRange { epoch: Epoch, partition: Partition, wanted: i64 },
    /// Reading a partition does not work for now; librdkafka goes on trying.
    Failed { epoch: Epoch, partition: Partition, error: SourceError },
    /// Reading works nowhere for now; librdkafka goes on trying.
    Trouble(SourceError),
}

/// Where to read a partition from.
pub(super) struct Start {
    pub partition: Partition,
    pub offset: Offset,
    pub epoch: Epoch,
}

enum Action {
    Assign(Vec<Start>),
    Unassign(Vec<Partition>),
}

struct Command {
    action: Action,
    done: oneshot::Sender<Result<(), SourceError>>,
}

/// The receiving end of the reader. Dropping it ends the thread.
pub(super) struct Reader {
    place: Place,
    queue: Arc<FetchQueue>,
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<Vec<Event>>,
}

impl Reader {
    /// Starts the thread; it reads nothing until something is assigned.
    pub(super) fn start(
        handle: Arc<Handle>,
        committer: Arc<OnceLock<Arc<Handle>>>,
        place: Place,
    ) -> Result<Self, SourceError> {
        let queue = FetchQueue::new(handle).ok_or_else(|| place.other("librdkafka has no memory for a queue"))?;
        let queue = Arc::new(queue);
        let (commands, incoming) = mpsc::channel(1);
        let (outgoing, events) = mpsc::channel(BATCHES_AHEAD);
        let (thread_place, thread_queue) = (place.clone(), Arc::clone(&queue));
        let dispatch = tracing::dispatcher::get_default(Dispatch::clone);
        thread::Builder::new()
            .name(format!("kafka-{}", place.source))
            .spawn(move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    Work::new(thread_queue, committer, thread_place, incoming, outgoing).run();
                });
            })
            .map_err(|error| place.other(format!("no thread to read on: {error}")))?;
        Ok(Self { place, queue, commands, events })
    }

    /// Starts reading partitions; one that is read already is moved.
    pub(super) async fn assign(&self, starts: Vec<Start>) -> Result<(), SourceError> {
        self.ask(Action::Assign(starts)).await
    }

    /// Stops reading partitions.
    pub(super) async fn unassign(&self, partitions: Vec<Partition>) -> Result<(), SourceError> {
        self.ask(Action::Unassign(partitions)).await
    }

    /// The next batch of events; `None` when the thread is gone. Cancellation-safe.
    pub(super) async fn next(&mut self) -> Option<Vec<Event>> {
        self.events.recv().await
    }

    /// How many messages there are between the brokers and the receiver's `MessageSet`s, those included.
    pub(super) fn buffered(&self) -> usize {
        self.queue.len() + self.queue.handle().messages_out()
    }

    async fn ask(&self, action: Action) -> Result<(), SourceError> {
        let (done, answer) = oneshot::channel();
        let ended = || self.place.other("the reading thread has ended");
        self.commands.send(Command { action, done }).await.map_err(|_| ended())?;
        self.queue.wake();
        answer.await.map_err(|_| ended())?
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // The thread sees at its next look that nobody can send commands any more.
        let (nobody, _) = mpsc::channel(1);
        self.commands = nobody;
        self.queue.wake();
    }
}

/// The thread's own state.
struct Work {
    fetcher: Fetcher,
    queue: Arc<FetchQueue>,
    committer: Arc<OnceLock<Arc<Handle>>>,
    place: Place,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Vec<Event>>,
    topics: HashMap<String, Assigned>,
    batch: usize,
    served: Instant,
    reported: Option<Instant>,
}

/// A topic of which partitions are, or were, assigned.
struct Assigned {
    topic: Topic,
    partitions: HashMap<i32, Epoch>,
}

/// Nobody listens any more.
struct Abandoned;

impl Work {
    fn new(
        queue: Arc<FetchQueue>,
        committer: Arc<OnceLock<Arc<Handle>>>,
        place: Place,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<Vec<Event>>,
    ) -> Self {
        Self {
            fetcher: Fetcher::new(Arc::clone(&queue)),
            queue,
            committer,
            place,
            commands,
            events,
            topics: HashMap::new(),
            batch: FIRST_BATCH,
            served: Instant::now(),
            reported: None,
        }
    }

    fn run(mut self) {
        while self.turn().is_ok() {}
        self.stop_all();
    }

    fn turn(&mut self) -> Result<(), Abandoned> {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.obey(command),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => return Err(Abandoned),
            }
        }
        self.serve_events();
        let parts = self.fetcher.fetch(self.batch, IDLE, LINGER);
        self.learn_batch_size(&parts);
        let mut events = Vec::with_capacity(parts.len());
        for part in parts {
            self.report(part, &mut events);
        }
        if self.queue.handle().context().take_suspicion() {
            self.check_topics(&mut events);
        }
        if events.is_empty() {
            events.extend(self.lasting_trouble().map(Event::Trouble));
        } else {
            self.reported = None;
        }
        if events.is_empty() { Ok(()) } else { self.deliver(events) }
    }

    /// Waits for room, obeying commands meanwhile: a receiver that pauses reading can still change what is read.
    fn deliver(&mut self, events: Vec<Event>) -> Result<(), Abandoned> {
        loop {
            let command = {
                let room = std::pin::pin!(self.events.reserve());
                let command = std::pin::pin!(self.commands.recv());
                match futures::executor::block_on(select(room, command)) {
                    Either::Left((Ok(room), _)) => {
                        room.send(events);
                        return Ok(());
                    }
                    Either::Left((Err(_), _)) | Either::Right((None, _)) => return Err(Abandoned),
                    Either::Right((Some(command), _)) => command,
                }
            };
            self.obey(command);
        }
    }

    fn obey(&mut self, command: Command) {
        let result = match command.action {
            Action::Assign(starts) => starts.into_iter().try_for_each(|start| self.assign(&start)),
            Action::Unassign(partitions) => partitions.iter().try_for_each(|partition| self.unassign(partition)),
        };
        // Whoever asked may have stopped waiting; what is assigned is then told by the epochs.
        let _ = command.done.send(result);
    }

    fn assign(&mut self, start: &Start) -> Result<(), SourceError> {
        self.unassign(&start.partition)?;
        let (name, number) = (&start.partition.topic, start.partition.partition);
        if !self.topics.contains_key(name) {
            let topic = Topic::new(self.queue.handle(), name).map_err(|code| self.place.topic_error(name, code))?;
            self.topics.insert(name.clone(), Assigned { topic, partitions: HashMap::new() });
        }
        if let Some(assigned) = self.topics.get_mut(name) {
            self.queue
                .start(&assigned.topic, number, start.offset)
                .map_err(|code| self.place.topic_error(name, code))?;
            assigned.partitions.insert(number, start.epoch);
        }
        Ok(())
    }

    fn unassign(&mut self, partition: &Partition) -> Result<(), SourceError> {
        let Some(assigned) = self.topics.get_mut(&partition.topic) else { return Ok(()) };
        if assigned.partitions.remove(&partition.partition).is_none() {
            return Ok(());
        }
        match self.queue.stop(&assigned.topic, partition.partition) {
            // librdkafka forgets partitions that the brokers no longer have.
            Ok(()) | Err(RDKafkaErrorCode::UnknownPartition) => Ok(()),
            Err(code) => Err(self.place.topic_error(&partition.topic, code)),
        }
    }

    fn stop_all(&mut self) {
        for assigned in self.topics.values() {
            for partition in assigned.partitions.keys() {
                let _ = self.queue.stop(&assigned.topic, *partition);
            }
        }
    }

    fn serve_events(&mut self) {
        if self.served.elapsed() < SERVE_EVERY {
            return;
        }
        self.queue.handle().serve_events();
        if let Some(committer) = self.committer.get() {
            committer.serve_events();
        }
        self.served = Instant::now();
    }

    /// Keeps batches at about [`BATCH_BYTES`], by the size of the messages seen last.
    fn learn_batch_size(&mut self, parts: &[Part]) {
        let (count, bytes) =
            parts.iter().fold((0, 0), |(count, bytes), part| (count + part.messages.len(), bytes + part.bytes));
        if let Some(average) = bytes.checked_div(count) {
            self.batch = (BATCH_BYTES / average.max(1)).clamp(1, MAX_BATCH);
        }
    }

    /// Says what a part means; nothing if it is of a partition that is no longer assigned. Messages come before the
    /// error that ended them.
    fn report(&self, part: Part, events: &mut Vec<Event>) {
        if part.topic.is_empty() {
            if let Some(PartError { code, reason, .. }) = part.error {
                tracing::warn!(source = self.place.source, "librdkafka: {code}: {reason}");
            }
            return;
        }
        let assigned = self.topics.get(&part.topic).and_then(|topic| topic.partitions.get(&part.partition));
        let Some(&epoch) = assigned else { return };
        let partition = Partition::new(self.place.source.clone(), part.topic, part.partition);
        if let Some(position) = part.position {
            let fetched = Fetched {
                partition: partition.clone(),
                messages: Box::new(part.messages),
                position,
                at_end: part.at_end,
                bytes: part.bytes,
            };
            events.push(Event::Fetched { epoch, fetched });
        }
        if let Some(error) = part.error {
            events.push(self.failure(epoch, partition, error));
        }
    }

    fn failure(&self, epoch: Epoch, partition: Partition, error: PartError) -> Event {
        use RDKafkaErrorCode as Code;
        match error.code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => {
                Event::OutOfRange { epoch, partition, wanted: error.offset }
            }
            Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
            | Code::TopicAuthorizationFailed => {
                let error = self.place.topic_error(&partition.topic, error.code);
                Event::Failed { epoch, partition, error }
            }
            code => {
                let error = self
                    .place
                    .other(format!("reading {partition} failed at {}: {code}: {}", error.offset, error.reason));
                Event::Failed { epoch, partition, error }
            }
        }
    }

    /// Asks the brokers about every topic that is read, and reports what is wrong with it: once for one of its partitions.
    fn check_topics(&self, events: &mut Vec<Event>) {
        for (name, assigned) in &self.topics {
            let Some((&number, &epoch)) = assigned.partitions.iter().next() else { continue };
            let Ok(metadata) = self.queue.handle().fetch_metadata(Some(name), PROBE) else { continue };
            let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else { continue };
            let known = |number: &i32| topic.partitions().iter().any(|partition| partition.id() == *number);
            let (number, epoch, code) = match topic.error() {
                Some(error) => (number, epoch, RDKafkaErrorCode::from(error)),
                None => match assigned.partitions.iter().find(|(number, _)| !known(number)) {
                    Some((&gone, &epoch)) => (gone, epoch, RDKafkaErrorCode::UnknownPartition),
                    None => continue,
                },
            };
            let partition = Partition::new(self.place.source.clone(), name.clone(), number);
            events.push(Event::Failed { epoch, partition, error: self.place.topic_error(name, code) });
        }
    }

    /// What has kept the brokers away for a while, if they really are: after silence they are asked for a sign of life.
    fn lasting_trouble(&mut self) -> Option<SourceError> {
        let context = self.queue.handle().context();
        context.trouble(LASTING)?;
        if self.reported.is_some_and(|reported| reported.elapsed() < LASTING) {
            return None;
        }
        let topic = self.topics.keys().next().map(String::as_str);
        if self.queue.handle().fetch_metadata(topic, PROBE).is_ok() {
            context.recovered();
            return None;
        }
        self.reported = Some(Instant::now());
        context.trouble(LASTING).map(|trouble| self.place.in_trouble(trouble))
    }
}
