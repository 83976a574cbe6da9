//! The world of one seed: topics that grow, a store that fails, and runners that die, sleep, are doubled and divided anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millrace::control::Control;
use millrace::failpoint::Failpoint;
use millrace::failure::Failure;
use millrace::pipeline::Ended;
use millrace::sink::memory::{MemoryTables, NoFaults, SeededFaults};
use millrace::source::memory::{Call, Fault, MemoryKafka};
use millrace_crds::contract::FailureClass;
use millrace_joblog::store::{Faults, FaultyStore, MemoryStore};
use millrace_joblog::{Generation, Limits, Revision};
use tokio::time::{Instant, sleep};

use crate::chance::Chance;
use crate::check;
use crate::producer::{Fate, Producer};
use crate::runner::{Outcome, Process, Seat, Setting};
use crate::watch::{TrueStore, Watch};

/// How long a process that was told to stop may take, as `--grace` has it.
const STOP_GRACE: Duration = Duration::from_secs(25);
/// How long everything may take to be published once nothing fails any more.
const HEALED_WITHIN: Duration = Duration::from_secs(180);

/// What one seed came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub violations: Vec<String>,
    pub counts: BTreeMap<String, u64>,
    pub digest: u64,
    pub virtual_ms: u64,
}

pub struct World {
    pub setting: Setting,
    pub chance: Chance,
    pub producer: Producer,
    pub processes: Vec<Process>,
    pub wanted: Control,
    /// What was wanted before: some processes start with what they were told then.
    before: Control,
    /// Clients of dead runners: their delayed writes may still arrive.
    ghosts: Vec<Arc<FaultyStore>>,
    /// The highest pod number given to each ordinal.
    pods: BTreeMap<u32, u64>,
    /// Pods that were superseded, and how often they were started again since.
    superseded: Vec<(Seat, u32)>,
    /// Ordinals whose bounded read is complete.
    done: BTreeSet<u32>,
    starts: u64,
    per_mille: u64,
    /// What can happen in this seed.
    actions: Vec<Action>,
    healed: bool,
    /// Nobody is started any more.
    ending: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Produce,
    Crash,
    Arm,
    Pause,
    Resume,
    Rescale,
    Stop,
    Double,
    Return,
    Brokers,
    KafkaFault,
    Grow,
    Transaction,
    Gap,
    Expire,
    Recreate,
    Outage,
    Deliver,
}

/// Runs one seed to its end.
pub async fn run(seed: u64, loud: bool) -> Report {
    let mut world = World::new(seed, loud);
    world.chaos().await;
    world.heal().await;
    check::at_rest(&mut world).await;
    world.report()
}

impl World {
    fn new(seed: u64, loud: bool) -> Self {
        let mut chance = Chance::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let limits = Limits {
            segment_slots: chance.between(3, 8),
            snapshot_every: chance.between(2, 6),
            keep_segments: chance.between(0, 1),
            keep_snapshots: chance.between(1, 2) as usize,
            max_tries: chance.between(1, 4) as u32,
            read_ahead: chance.between(1, 8),
            ..Limits::STANDARD
        };
        let watch = Watch::new(limits, loud);
        let bounded = chance.one_in(5);
        let in_cluster = chance.one_in(2);
        let lossy = !bounded && chance.one_in(4);
        let kafka = MemoryKafka::new();
        let mut producer = Producer::new(kafka.clone());
        let topics: Vec<String> = (0..chance.between(1, 2)).map(|n| format!("t{n}")).collect();
        for topic in &topics {
            producer.create(topic, chance.between(1, 3));
        }
        let per_mille = [0, 20, 60, 150][chance.between(0, 3) as usize];
        let sink_faults = [0, 20, 60][chance.between(0, 2) as usize];
        let setting = Setting {
            kafka,
            tables: MemoryTables::new(SeededFaults::new(chance.draw(), sink_faults, sink_faults)),
            store: Arc::new(TrueStore { objects: MemoryStore::new(), watch: Arc::clone(&watch) }),
            limits,
            topics,
            outputs: (0..chance.between(1, 2)).map(|n| format!("out{n}")).collect(),
            dead_letters: chance.one_in(3),
            fail_on_data_loss: !lossy,
            interval: Duration::from_millis(chance.between(300, 2_000)),
            max_records: chance.one_in(2).then(|| chance.between(3, 12)),
            batch: chance.between(1, 5) as usize,
            bounded,
            in_cluster,
            latency_ms: chance.between(1, 60),
            began: Instant::now(),
            watch,
        };
        let wanted = Control {
            generation: in_cluster.then_some(Generation(1)),
            revision: Revision("r1".to_owned()),
            parallelism: chance.between(1, 3) as u32,
        };
        let mut actions = vec![Action::Produce; if bounded { 1 } else { 6 }];
        let some = [
            Action::Crash,
            Action::Arm,
            Action::Arm,
            Action::Pause,
            Action::Resume,
            Action::Rescale,
            Action::Stop,
            Action::Double,
            Action::Return,
            Action::Brokers,
            Action::KafkaFault,
            Action::Grow,
            Action::Transaction,
            Action::Gap,
            Action::Outage,
            Action::Deliver,
        ];
        actions.extend(some.into_iter().filter(|_| !chance.one_in(3)));
        if lossy {
            actions.extend([Action::Expire, Action::Recreate].into_iter().filter(|_| chance.one_in(2)));
        }
        let mut world = Self {
            setting,
            chance,
            producer,
            processes: Vec::new(),
            before: wanted.clone(),
            wanted,
            ghosts: Vec::new(),
            pods: BTreeMap::new(),
            superseded: Vec::new(),
            done: BTreeSet::new(),
            starts: 0,
            per_mille,
            actions,
            healed: false,
            ending: false,
        };
        let first = world.chance.between(5, 30);
        world.produce(first);
        world
    }

    async fn chaos(&mut self) {
        for ordinal in 0..self.wanted.parallelism {
            self.start(ordinal, false);
        }
        for _ in 0..self.chance.between(10, 60) {
            let pause = self.chance.between(20, 900);
            sleep(Duration::from_millis(pause)).await;
            self.reap().await;
            self.keep();
            if let Some(action) = self.chance.pick(&self.actions).copied() {
                self.act(action).await;
            }
            self.look();
            if self.is_broken() {
                return;
            }
        }
    }

    /// Nothing fails from here on.
    async fn heal(&mut self) {
        self.setting.watch.event("healed");
        self.healed = true;
        self.setting.tables.set_plan(NoFaults);
        self.setting.kafka.set_down(false);
        self.producer.close_transactions(&mut self.chance);
        for ghost in std::mem::take(&mut self.ghosts) {
            ghost.set_faults(Faults::script([]));
            ghost.deliver_delayed().await;
        }
        let mut told = false;
        for process in &mut self.processes {
            process.store.set_faults(Faults::script([]));
            process.gate.heal();
            process.gate.resume();
            process.failpoints.arm(None);
            if process.seat.ordinal < self.wanted.parallelism && (!told || self.chance.one_in(2)) {
                told = true;
                process.control.send_if_modified(|control| set(control, &self.wanted));
            }
        }
    }

    /// Whether every runner of a bounded job has ended by itself.
    pub fn all_completed(&self) -> bool {
        self.processes.is_empty() && (0..self.wanted.parallelism).all(|ordinal| self.done.contains(&ordinal))
    }

    /// A step of the healed world.
    pub async fn rest(&mut self, how_long: Duration) {
        sleep(how_long).await;
        self.reap().await;
        self.keep();
        self.look();
    }

    /// Waits until the condition holds; says so if it never does.
    pub async fn wait_until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) -> bool {
        let since = Instant::now();
        while !holds(self) {
            if self.is_broken() {
                return false;
            }
            if since.elapsed() > HEALED_WITHIN {
                self.setting.watch.violation(format!("not within {HEALED_WITHIN:?} of a healthy world: {what}"));
                return false;
            }
            self.rest(Duration::from_millis(500)).await;
        }
        true
    }

    pub fn is_broken(&self) -> bool {
        !self.setting.watch.seen().violations.is_empty()
    }

    /// Ends what ended by itself, and what died at a failpoint.
    async fn reap(&mut self) {
        let mut index = 0;
        while index < self.processes.len() {
            let process = &self.processes[index];
            let overdue = process.stopped_at.is_some_and(|at| at.elapsed() > STOP_GRACE);
            if process.task.is_finished() {
                let process = self.processes.remove(index);
                self.ended(process).await;
            } else if process.gate.is_dead() || overdue {
                if overdue && self.healed {
                    self.setting.watch.violation(format!("{} does not stop in a healthy world", process.name()));
                }
                let process = self.processes.remove(index);
                self.kill(process);
            } else {
                index += 1;
            }
        }
    }

    async fn ended(&mut self, process: Process) {
        let (name, seat, slept) = (process.name(), process.seat.clone(), process.slept);
        let watch = Arc::clone(&self.setting.watch);
        let outcome = match process.task.await {
            Ok(outcome) => outcome,
            Err(error) => return watch.violation(format!("{name} panicked: {error}")),
        };
        self.ghosts.push(process.store);
        watch.event(&format!("{name} ended: {outcome:?}"));
        match outcome {
            Outcome::NotOpened(failure) if failure.is_external() && !self.healed => watch.count("log not opened"),
            Outcome::NotOpened(failure) | Outcome::Ran(Err(failure)) => watch.violation(failed(&name, &failure)),
            Outcome::Ran(Ok(Ended::Completed)) => {
                watch.count("completed");
                self.done.insert(seat.ordinal);
            }
            Outcome::Ran(Ok(Ended::Stopped)) => {
                watch.count("stopped");
                if process.stopped_at.is_none() {
                    watch.violation(format!("{name} stopped without being told"));
                }
            }
            Outcome::Ran(Ok(Ended::Superseded(_))) => {
                watch.count("superseded");
                if slept {
                    watch.count("superseded zombies");
                }
                if seat.pod.is_some() {
                    self.superseded.push((seat, 0));
                }
            }
        }
    }

    fn kill(&mut self, process: Process) {
        self.setting.watch.event(&format!("{} is killed", process.name()));
        process.gate.kill();
        process.task.abort();
        self.ghosts.push(process.store);
    }

    /// The supervisor: an ordinal without a process that is awake gets one, soon.
    fn keep(&mut self) {
        for ordinal in 0..self.wanted.parallelism {
            let awake = |process: &Process| process.seat.ordinal == ordinal && !process.gate.is_paused();
            let wants = !self.ending && !self.processes.iter().any(awake) && !self.done.contains(&ordinal);
            if wants && (self.healed || self.chance.one_in(3)) {
                let container = self.chance.one_in(2) && !self.processes.iter().any(|p| p.seat.ordinal == ordinal);
                let known = self.superseded.iter().any(|(seat, _)| seat.ordinal == ordinal && seat.pod == self.pods.get(&ordinal).copied());
                self.start(ordinal, container && !known);
            }
        }
    }

    /// Starts a process; in a cluster as a new pod, or as another container of the newest one.
    fn start(&mut self, ordinal: u32, container: bool) {
        let pod = self.setting.in_cluster.then(|| {
            let newest = self.pods.entry(ordinal).or_insert(0);
            if !container {
                *newest += 1;
            }
            *newest
        });
        self.start_as(ordinal, pod);
    }

    fn start_as(&mut self, ordinal: u32, pod: Option<u64>) {
        self.starts += 1;
        let per_mille = if self.healed { 0 } else { self.per_mille };
        let seat = Seat { ordinal, pod, start: self.starts, seed: self.chance.draw(), per_mille };
        let stale = self.setting.in_cluster && self.chance.one_in(4) && !self.healed;
        let wanted = if stale { self.before.clone() } else { self.wanted.clone() };
        let process = Process::start(&self.setting, seat, wanted);
        self.setting.watch.event(&format!("{} starts", process.name()));
        self.processes.push(process);
    }

    fn produce(&mut self, count: u64) {
        for _ in 0..count {
            let Some((topic, partition)) = self.producer.any(&mut self.chance) else { return };
            let bad = self.setting.dead_letters && self.chance.one_in(8);
            self.producer.append(&topic, partition, bad);
        }
    }

    /// One record, somewhere: another in each partition with time.
    pub fn trickle(&mut self, number: u64) {
        let all: Vec<(String, i32)> =
            self.producer.partitions.iter().flat_map(|(t, n)| (0..*n).map(|p| (t.clone(), p))).collect();
        let (topic, partition) = &all[(number % all.len() as u64) as usize];
        self.producer.append(topic, *partition, false);
    }

    /// Some process that is awake.
    fn any(&mut self) -> Option<usize> {
        let awake: Vec<usize> =
            self.processes.iter().enumerate().filter(|(_, p)| !p.gate.is_paused()).map(|(index, _)| index).collect();
        self.chance.pick(&awake).copied()
    }

    async fn act(&mut self, action: Action) {
        self.setting.watch.event(&format!("{action:?}"));
        match action {
            Action::Produce => {
                let count = self.chance.between(1, 12);
                self.produce(count);
            }
            Action::Crash => {
                if let Some(index) = self.any() {
                    let process = self.processes.remove(index);
                    self.kill(process);
                }
            }
            Action::Arm => {
                let point = self.chance.pick(&Failpoint::ALL).copied();
                let times = self.chance.between(1, 3) as u32;
                if let (Some(index), Some(point)) = (self.any(), point) {
                    self.processes[index].failpoints.arm(Some((point, times)));
                }
            }
            Action::Pause => {
                if let Some(index) = self.any() {
                    self.processes[index].gate.pause();
                    self.processes[index].slept = true;
                    let ordinal = self.processes[index].seat.ordinal;
                    if ordinal < self.wanted.parallelism && self.chance.one_in(2) {
                        self.start(ordinal, false);
                    }
                }
            }
            Action::Resume => {
                let paused: Vec<usize> = (0..self.processes.len()).filter(|i| self.processes[*i].gate.is_paused()).collect();
                if let Some(index) = self.chance.pick(&paused) {
                    self.processes[*index].gate.resume();
                }
            }
            Action::Rescale => self.rescale(),
            Action::Stop => {
                if let Some(index) = self.any() {
                    self.stop(index);
                }
            }
            Action::Double => {
                if self.processes.len() < 8 {
                    let ordinal = self.chance.between(0, u64::from(self.wanted.parallelism) - 1) as u32;
                    let container = self.chance.one_in(2) && self.pods.contains_key(&ordinal);
                    if !self.done.contains(&ordinal) {
                        self.start(ordinal, container);
                    }
                }
            }
            Action::Return => {
                let back: Vec<usize> = (0..self.superseded.len()).filter(|i| self.superseded[*i].1 < 5).collect();
                if let Some(index) = self.chance.pick(&back).copied() {
                    self.superseded[index].1 += 1;
                    let seat = self.superseded[index].0.clone();
                    self.setting.watch.count("superseded pods started again");
                    self.start_as(seat.ordinal, seat.pod);
                }
            }
            Action::Brokers => {
                let down = self.chance.one_in(2);
                self.setting.kafka.set_down(down);
            }
            Action::KafkaFault => {
                let call = [Call::Discover, Call::Offsets, Call::Next][self.chance.between(0, 2) as usize];
                let times = self.chance.between(1, 3) as usize;
                self.setting.kafka.fail(call, Fault::Unreachable, times);
            }
            Action::Grow => {
                if let Some((topic, _)) = self.producer.any(&mut self.chance)
                    && self.producer.partitions[&topic] < 6
                {
                    self.producer.grow(&topic);
                    self.produce(4);
                }
            }
            Action::Transaction => {
                if self.chance.one_in(2) {
                    self.producer.close_transactions(&mut self.chance);
                } else if let Some((topic, partition)) = self.producer.any(&mut self.chance) {
                    self.producer.open_transaction(&topic, partition);
                    for _ in 0..self.chance.between(0, 5) {
                        self.producer.append(&topic, partition, false);
                    }
                }
            }
            Action::Gap => {
                if let Some((topic, partition)) = self.producer.any(&mut self.chance) {
                    self.setting.kafka.append_gap(&topic, partition, 2);
                }
            }
            Action::Expire => {
                if let Some((topic, partition)) = self.producer.any(&mut self.chance) {
                    let of = |p: &&crate::producer::Produced| p.topic == topic && p.partition == partition && p.fate == Fate::Once;
                    let last = self.producer.all.values().filter(of).map(|p| p.offset).max().unwrap_or(0);
                    let below = self.chance.between(0, last as u64) as i64;
                    self.producer.expire(&topic, partition, below);
                }
            }
            Action::Recreate => {
                if self.chance.one_in(4)
                    && let Some((topic, _)) = self.producer.any(&mut self.chance)
                {
                    let partitions = self.producer.partitions[&topic] as u64;
                    self.producer.create(&topic, partitions);
                    let count = self.chance.between(0, 20);
                    self.produce(count);
                }
            }
            Action::Outage => {
                let out = self.chance.one_in(3);
                if let Some(index) = self.any() {
                    let per_mille = if out { 1000 } else { self.per_mille };
                    let faults = Faults::seeded(self.chance.draw(), per_mille);
                    self.processes[index].store.set_faults(faults);
                }
            }
            Action::Deliver => {
                if let Some(ghost) = self.chance.pick(&self.ghosts).cloned() {
                    ghost.deliver_delayed().await;
                }
            }
        }
    }

    fn stop(&mut self, index: usize) {
        let process = &mut self.processes[index];
        process.stopped_at.get_or_insert(Instant::now());
        process.stop.send_replace(true);
    }

    /// Tells every process to stop.
    pub fn stop_all(&mut self) {
        self.ending = true;
        for index in 0..self.processes.len() {
            self.stop(index);
        }
    }

    fn rescale(&mut self) {
        self.before = self.wanted.clone();
        self.wanted.parallelism = self.chance.between(1, 4) as u32;
        if let Some(generation) = &mut self.wanted.generation {
            generation.0 += 1;
        }
        for process in &mut self.processes {
            if !self.chance.one_in(4) {
                process.control.send_if_modified(|control| set(control, &self.wanted));
            }
        }
        // A supervisor ends those that have no place any more, sooner or later.
        for index in 0..self.processes.len() {
            if self.processes[index].seat.ordinal >= self.wanted.parallelism && self.chance.one_in(2) {
                self.stop(index);
            }
        }
    }

    /// The invariants that no single event shows.
    fn look(&mut self) {
        self.setting.watch.check_staged(&self.setting.tables, &self.setting.urls());
        check::no_doubles(self);
    }

    fn report(&self) -> Report {
        let seen = self.setting.watch.seen();
        let mut digest = seen.digest;
        for (key, bytes) in self.setting.store.objects.objects() {
            digest.put(key.as_bytes());
            digest.put(&bytes);
        }
        for (path, rows) in self.setting.tables.objects() {
            digest.put(path.as_bytes());
            digest.put(&rows.to_le_bytes());
        }
        Report {
            violations: seen.violations.clone(),
            counts: seen.counts.clone(),
            digest: digest.0,
            virtual_ms: self.setting.began.elapsed().as_millis() as u64,
        }
    }
}

fn set(control: &mut Control, wanted: &Control) -> bool {
    let changed = control != wanted;
    *control = wanted.clone();
    changed
}

fn failed(name: &str, failure: &Failure) -> String {
    let class = match failure.class {
        FailureClass::Internal => "internal",
        FailureClass::External => "external",
        FailureClass::Data => "data",
        _ => "user",
    };
    format!("{name} failed ({class}, {}): {}", failure.reason, failure.message)
}
