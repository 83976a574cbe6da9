#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

//! Whole runners over Kafka, tables and a store in memory, in virtual time: how soon they act, what they wait for, and
//! what they say of it meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use millrace_crds::{Format, Starting, Topics};
use millrace_joblog::decide::{Permission, Start};
use millrace_joblog::record::Home;
use millrace_joblog::store::{Faults, FaultyStore, MemoryStore};
use millrace_joblog::{JobLog, Limits};
use tokio::task::JoinHandle;

use super::*;
use crate::commit::{Committer, Identity};
use crate::decode::{self, Needed};
use crate::env::LogClock;
use crate::ids::{Generation, Incarnation, JobUid, Ordinal, OutputName, Revision};
use crate::intake::Intake;
use crate::output::Target;
use crate::plan::OutputRows;
use crate::sink::memory::{MemoryTables, NoFaults};
use crate::source::memory::{MemoryKafka, Record};

const INTERVAL: Duration = Duration::from_secs(10);
const TOPIC: &str = "t";
const OUTPUT: &str = "out";

/// What several runners share.
struct World {
    kafka: MemoryKafka,
    tables: MemoryTables,
    store: MemoryStore,
    produced: u64,
}

/// A start of a runner.
struct Runner {
    hub: Arc<ProgressHub>,
    control: watch::Sender<Control>,
    settings: watch::Sender<RunnerSettings>,
    store: Arc<FaultyStore>,
    task: JoinHandle<Result<Ended, Failure>>,
    _stop: watch::Sender<bool>,
}

/// Which runner it is.
struct Seat {
    ordinal: u32,
    pod: u64,
    revision: &'static str,
    url: &'static str,
    place: &'static str,
}

fn seat(ordinal: u32, pod: u64, revision: &'static str) -> Seat {
    Seat { ordinal, pod, revision, url: "mem://lake/out", place: "cluster/default/job" }
}

fn told(generation: u64, revision: &str, parallelism: u32) -> Control {
    Control { generation: Some(Generation(generation)), revision: Revision(revision.to_owned()), parallelism }
}

impl World {
    fn new(partitions: usize) -> Self {
        let kafka = MemoryKafka::new();
        kafka.create_topic(TOPIC, partitions);
        Self { kafka, tables: MemoryTables::new(NoFaults), store: MemoryStore::new(), produced: 0 }
    }

    /// Appends a message to every partition.
    fn produce(&mut self, partitions: i32) {
        for partition in 0..partitions {
            self.kafka.append(TOPIC, partition, Record::value(format!("{}", self.produced)));
            self.produced += 1;
        }
    }

    fn published(&self) -> usize {
        self.tables.published(OUTPUT).len()
    }

    /// Records in the job log.
    fn records(&self) -> usize {
        self.store.objects().keys().filter(|key| key.starts_with("log/")).count()
    }

    async fn start(&self, seat: Seat, wanted: Control) -> Runner {
        let env = Env::system();
        let incarnation = Incarnation(env.uuid());
        let store = Arc::new(FaultyStore::new(Arc::new(self.store.clone()), Faults::script([])));
        let clock = Arc::new(LogClock(env.clone()));
        let log = JobLog::open(Arc::clone(&store) as _, clock, incarnation, Limits::STANDARD).await.unwrap();
        let minute = Duration::from_secs(60);
        let hub = Arc::new(ProgressHub::new("job", seat.revision, seat.ordinal, &incarnation.to_string(), minute));
        let columns = BTreeSet::from(["value".to_owned()]);
        let decoder = decode::decoder("in", &Format::Text, &Needed::Only(columns));
        let topics = Topics::List(vec![TOPIC.to_owned()]);
        let target = Target::Files { sink: Arc::new(self.tables.sink(OUTPUT)), url: seat.url.to_owned() };
        let outputs = Arc::new(vec![OutputSlot { name: OUTPUT.to_owned(), schema: decoder.schema(), target }]);
        let intake = Intake {
            name: "in".to_owned(),
            source: Box::new(self.kafka.source("in", &topics, Starting::Earliest, None, 100)),
            decoder,
            on_error: OnError::Skip,
            fail_on_data_loss: true,
            dead_letters: None,
        };
        let home = Home { place: seat.place.to_owned(), kubernetes_uid: Some("uid".to_owned()) };
        let identity = Identity {
            incarnation,
            ordinal: Ordinal(seat.ordinal),
            pod: Some(seat.pod),
            revision: Revision(seat.revision.to_owned()),
            start: Start {
                home,
                location: "mem://log".to_owned(),
                fresh_job: JobUid(env.uuid()),
                permission: Permission::None,
            },
            outputs: BTreeMap::from([(OutputName(OUTPUT.to_owned()), seat.url.to_owned())]),
            accept_moved_outputs: false,
            begins: None,
        };
        let committer = Committer::new(env.clone(), Arc::clone(&hub), log, identity, Arc::clone(&outputs));
        let (control, followed) = watch::channel(wanted);
        let (settings, changing) = watch::channel(RunnerSettings::default());
        let (stop, stopping) = watch::channel(false);
        let poll = Duration::from_millis(500);
        let pipeline = Pipeline {
            env,
            hub: Arc::clone(&hub),
            closing: Closing { interval: INTERVAL, poll, max_records: None, max_bytes: None, bounded: false },
            intakes: Intakes::new(vec![intake]),
            queries: Box::new(Through),
            outputs,
            committing: Committing::new(committer),
            control: followed,
            settings: changing,
            stop: stopping,
        };
        Runner { hub, control, settings, store, task: tokio::spawn(pipeline.run()), _stop: stop }
    }
}

impl Runner {
    fn partitions(&self) -> i64 {
        self.hub.metrics().partitions.get()
    }

    fn is_ready(&self) -> bool {
        self.hub.ready().is_ok()
    }

    fn why_not_ready(&self) -> String {
        self.hub.ready().unwrap_err()
    }

    async fn refused(self) -> Failure {
        self.task.await.unwrap().unwrap_err()
    }
}

/// Every row goes to the one output.
struct Through;

#[async_trait]
impl Queries for Through {
    async fn run(&mut self, _: &str, batch: &RecordBatch, _: i64) -> Result<Vec<OutputRows>, Failure> {
        Ok(vec![OutputRows { output: 0, batches: vec![batch.clone()] }])
    }

    async fn finish(&mut self, _: i64) -> Result<Vec<OutputRows>, Failure> {
        Ok(Vec::new())
    }

    async fn restart(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn holds_epoch(&self) -> bool {
        false
    }
}

async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

/// Waits until it holds, which must be within so many milliseconds.
async fn within(millis: u64, what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() <= Duration::from_millis(millis), "not within {millis} ms: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_messages_are_committed_within_a_second_and_later_ones_at_the_trigger() {
    let mut world = World::new(2);
    let runner = world.start(seat(0, 1, "r1"), told(1, "r1", 1)).await;
    pass(25).await;
    assert!(runner.is_ready(), "{}", runner.why_not_ready());
    world.produce(2);
    within(1_100, "the first commit", || world.published() == 2).await;
    world.produce(2);
    pass(5).await;
    assert_eq!(world.published(), 2);
    within(5_100, "the second commit", || world.published() == 4).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_runner_reads_at_most_one_object_a_trigger() {
    let mut world = World::new(2);
    let runner = world.start(seat(0, 1, "r1"), told(1, "r1", 1)).await;
    world.produce(2);
    pass(60).await;
    assert_eq!(world.published(), 2);
    runner.store.forget_requests();
    pass(600).await;
    let requests = runner.store.requests();
    // Once a minute it makes sure that what looks like the log's end is its end.
    assert!(requests.len() <= 60 + 10, "{} requests in 60 triggers", requests.len());
}

#[tokio::test(start_paused = true)]
async fn a_candidate_is_found_valid_and_waits_without_writing_until_its_term_comes() {
    let mut world = World::new(2);
    let old = world.start(seat(0, 1, "r1"), told(1, "r1", 1)).await;
    world.produce(2);
    // Until the old one has noted what it published.
    pass(60).await;
    let (records, reason) = (world.records(), "no place in the term");
    let candidate = world.start(seat(0, 2, "r2"), told(1, "r1", 1)).await;
    // Told of the same term, but with no task in it.
    let second = world.start(seat(1, 3, "r2"), told(1, "r1", 1)).await;
    assert!(candidate.hub.started().is_err());
    within(1_000, "both are found valid", || candidate.hub.started().is_ok() && second.hub.started().is_ok()).await;
    pass(60).await;
    assert_eq!(world.records(), records);
    assert_eq!((candidate.why_not_ready().as_str(), second.why_not_ready().as_str()), (reason, reason));
    assert_eq!(candidate.hub.status().phase, Phase::Waiting);
    assert!(old.is_ready(), "{}", old.why_not_ready());

    // The old revision is not stopped by it, and the new one goes on where it stands.
    world.produce(2);
    within(11_000, "the old revision commits", || world.published() == 4).await;
    candidate.control.send_replace(told(2, "r2", 2));
    second.control.send_replace(told(2, "r2", 2));
    within(3_000, "the new revision holds its tasks", || candidate.is_ready() && second.is_ready()).await;
    world.produce(2);
    within(1_100, "the new revision commits", || world.published() == 6).await;
    within(11_000, "the old one stops all work", || old.task.is_finished()).await;
    assert!(matches!(old.task.await.unwrap(), Ok(Ended::Superseded(_))));
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_could_not_go_on_from_the_log_is_refused_while_it_waits() {
    let world = World::new(1);
    let old = world.start(seat(0, 1, "r1"), told(1, "r1", 1)).await;
    within(1_000, "the job begins", || old.is_ready()).await;
    let records = world.records();
    for ordinal in [0, 5] {
        let moved = Seat { url: "mem://lake/elsewhere", ..seat(ordinal, 2, "r2") };
        let failure = world.start(moved, told(1, "r1", 1)).await.refused().await;
        assert_eq!(failure.class, FailureClass::User);
        assert!(failure.message.contains("mem://lake/elsewhere"), "{failure}");
        let other = Seat { place: "cluster/default/other", ..seat(ordinal, 2, "r2") };
        let failure = world.start(other, told(1, "r1", 1)).await.refused().await;
        assert!(failure.message.contains("belongs to cluster/default/job"), "{failure}");
    }
    assert_eq!(world.records(), records);
}

#[tokio::test(start_paused = true)]
async fn a_runner_is_not_started_while_the_brokers_are_away() {
    let world = World::new(1);
    world.kafka.set_down(true);
    let runner = world.start(seat(0, 1, "r1"), told(1, "r1", 1)).await;
    pass(30).await;
    assert!(runner.hub.started().unwrap_err().contains("brokers are down"), "{:?}", runner.hub.started());
    assert!(!runner.is_ready());
    world.kafka.set_down(false);
    within(3_000, "started and ready", || runner.hub.started().is_ok() && runner.is_ready()).await;
    // Once started, always started.
    world.kafka.set_down(true);
    pass(120).await;
    assert_eq!(runner.hub.started(), Ok(()));
    assert!(!runner.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_partition_pauses_shortly_when_the_work_is_divided_anew_however_long_the_trigger() {
    let mut world = World::new(4);
    let first = world.start(seat(0, 1, "r1"), told(1, "r1", 1)).await;
    for _ in 0..60 {
        world.produce(4);
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(first.partitions(), 4);
    // A new pod may be told before the old one is.
    let second = world.start(seat(1, 2, "r1"), told(2, "r1", 2)).await;
    pass(1).await;
    assert_eq!(second.why_not_ready().split(' ').next(), Some("waiting"), "{}", second.why_not_ready());
    world.produce(4);
    first.control.send_replace(told(2, "r1", 2));
    within(1_000, "each reads its half", || first.partitions() == 2 && second.partitions() == 2).await;
    assert!(first.is_ready() && second.is_ready(), "{:?} {:?}", first.hub.ready(), second.hub.ready());
    world.produce(4);
    pass(3).await;
    world.produce(4);
    for runner in [&second, &first] {
        runner.control.send_replace(told(3, "r1", 1));
    }
    within(1_000, "the first reads all again", || first.partitions() == 4).await;
    assert!(first.is_ready(), "{}", first.why_not_ready());
    assert_eq!(second.why_not_ready(), "no place in the term");
    within(11_000, "everything is there", || world.published() as u64 >= world.produced).await;
    let rows: BTreeSet<String> = world.tables.published(OUTPUT).into_iter().collect();
    assert_eq!((rows.len() as u64, world.published() as u64), (world.produced, world.produced));
}

#[tokio::test(start_paused = true)]
async fn a_savepoint_that_is_asked_for_is_made_once_by_the_collector() {
    let world = World::new(2);
    let runners =
        [world.start(seat(0, 1, "r1"), told(1, "r1", 2)).await, world.start(seat(1, 1, "r1"), told(1, "r1", 2)).await];
    within(3_000, "both hold their tasks", || runners.iter().all(Runner::is_ready)).await;
    pass(20).await;
    let records = world.records();
    let ask = |name: &str, level: &str| {
        for runner in &runners {
            let settings = RunnerSettings {
                savepoint: Some(name.to_owned()),
                log_level: Some(level.to_owned()),
                ..RunnerSettings::default()
            };
            runner.settings.send_replace(settings);
        }
    };
    let names = |runner: &Runner| -> Vec<String> {
        runner.hub.status().savepoints.into_iter().map(|savepoint| savepoint.name).collect()
    };
    ask("before-fix", "info");
    within(1_000, "the collector has made it", || names(&runners[0]) == ["before-fix"]).await;
    assert_eq!(runners[0].hub.status().savepoints[0].seq, records as u64);
    within(11_000, "the other one knows of it", || names(&runners[1]) == ["before-fix"]).await;
    ask("before-fix", "debug");
    ask("not a name", "debug");
    pass(20).await;
    assert_eq!(world.records(), records + 1);
    ask("after-fix", "debug");
    within(1_000, "another one", || names(&runners[0]) == ["after-fix", "before-fix"]).await;
    assert_eq!(world.records(), records + 2);
}
