//! The world of one seed: what it is made of, and its life from the first process through chaos and healing to rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millrace::output::dead_letter_output;
use millrace::sink::memory::{MemoryTables, NoFaults, SeededFaults};
use millrace::source::memory::MemoryKafka;
use millrace_joblog::store::{Faults, FaultyStore, MemoryStore};
use millrace_joblog::{Limits, OutputName, Revision};
use tokio::time::{Instant, sleep};

use crate::actions::{self, Action, Theme};
use crate::chance::Chance;
use crate::check;
use crate::deploy::Deployed;
use crate::person::{Command, Wish};
use crate::producer::Producer;
use crate::runner::{Place, Process, SOURCE, Seat, Setting};
use crate::watch::{TrueStore, Watch};

/// A process that did not hear of the last division hears of it so long after everything else is well.
const TOLD_WITHIN: Duration = Duration::from_secs(40);
/// How long everything may take to be published once nothing fails any more.
const HEALED_WITHIN: Duration = Duration::from_secs(420);

/// What one seed came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub violations: Vec<String>,
    pub counts: BTreeMap<String, u64>,
    pub digest: u64,
    pub virtual_ms: u64,
}

/// Everything of one seed. What happens to it is in `actions.rs`, `processes.rs`, `deploy.rs` and `person.rs`.
pub struct World {
    pub setting: Setting,
    pub chance: Chance,
    pub producer: Producer,
    pub processes: Vec<Process>,
    pub commands: Vec<Command>,
    pub deployed: Deployed,
    /// The revision of each pod that there was.
    pub pod_revisions: BTreeMap<(Place, u32, u64), Revision>,
    /// Clients of dead runners and commands: their delayed writes may still arrive.
    pub ghosts: Vec<Arc<FaultyStore>>,
    /// Pods that were superseded, and how often they were started again since.
    pub superseded: Vec<(Seat, u32)>,
    /// Ordinals whose bounded read is complete.
    pub done: BTreeSet<u32>,
    pub starts: u64,
    /// Of 1,000 requests to the job log's store so many go wrong.
    pub per_mille: u64,
    /// Nothing fails any more.
    pub healed: bool,
    /// The last start that may meet faults.
    pub faulty_starts: u64,
    /// Nobody is started any more.
    pub ending: bool,
    /// Processes may be made to die at failpoints.
    pub may_arm: bool,
    /// A command that failed or died, to be run again.
    pub unfinished: Option<Wish>,
    /// Savepoints made so far.
    pub savepoints: u64,
    /// What can happen in this seed.
    actions: Vec<Action>,
    /// Since when, until every process was told what is wanted.
    healed_at: Option<Instant>,
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
        let outputs: Vec<String> = (0..chance.between(1, 2)).map(|n| format!("out{n}")).collect();
        let dead_letters = chance.one_in(3);
        let letters = dead_letters.then(|| dead_letter_output(SOURCE));
        let watch = Watch::new(limits, outputs.iter().cloned().chain(letters).map(OutputName).collect(), loud);
        let setting = Setting {
            kafka,
            tables: MemoryTables::new(SeededFaults::new(chance.draw(), sink_faults, sink_faults)),
            store: Arc::new(TrueStore { objects: MemoryStore::new(), watch: Arc::clone(&watch) }),
            limits,
            topics,
            outputs,
            dead_letters,
            fail_on_data_loss: !lossy,
            interval: Duration::from_millis(chance.between(300, 2_000)),
            max_records: chance.one_in(2).then(|| chance.between(3, 12)),
            batch: chance.between(1, 5) as usize,
            file_rows: [usize::MAX, 2, 3][chance.between(0, 2) as usize],
            bounded,
            in_cluster,
            latency_ms: chance.between(1, 60),
            began: Instant::now(),
            watch,
        };
        let deployed = Deployed::new(in_cluster, chance.between(1, 3) as u32);
        let actions = actions::drawn(&mut chance, Theme { bounded, lossy });
        let mut world = Self {
            setting,
            chance,
            producer,
            processes: Vec::new(),
            commands: Vec::new(),
            deployed,
            pod_revisions: BTreeMap::new(),
            ghosts: Vec::new(),
            superseded: Vec::new(),
            done: BTreeSet::new(),
            starts: 0,
            per_mille,
            healed: false,
            faulty_starts: u64::MAX,
            ending: false,
            may_arm: actions.contains(&Action::Arm),
            unfinished: None,
            savepoints: 0,
            actions,
            healed_at: None,
        };
        let first = world.chance.between(5, 30);
        world.produce(first);
        world
    }

    async fn chaos(&mut self) {
        for ordinal in 0..self.deployed.wanted.parallelism {
            self.start(ordinal, false);
        }
        for _ in 0..self.chance.between(10, 60) {
            let pause = self.chance.between(20, 900);
            sleep(Duration::from_millis(pause)).await;
            self.reap().await;
            self.reap_commands().await;
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
        self.faulty_starts = self.starts;
        self.healed_at = Some(Instant::now());
        self.setting.tables.set_plan(NoFaults);
        self.setting.kafka.set_down(false);
        self.producer.close_transactions(&mut self.chance);
        for ghost in std::mem::take(&mut self.ghosts) {
            ghost.set_faults(Faults::script([]));
            ghost.deliver_delayed().await;
        }
        for process in &mut self.processes {
            process.store.set_faults(Faults::script([]));
            process.gate.heal();
            process.gate.resume();
            process.failpoints.arm(None);
            // Whatever held it up is over: its time to stop begins now.
            process.stopped_at = process.stopped_at.map(|_| Instant::now());
        }
        for command in &self.commands {
            command.store.set_faults(Faults::script([]));
            command.gate.heal();
            command.gate.resume();
        }
        for index in 0..self.processes.len() {
            if self.chance.one_in(2) {
                self.tell(index);
            }
        }
    }

    /// Whether every runner of a bounded job has ended by itself.
    pub fn all_completed(&self) -> bool {
        self.processes.is_empty() && (0..self.deployed.wanted.parallelism).all(|ordinal| self.done.contains(&ordinal))
    }

    /// A step of the healed world.
    pub async fn rest(&mut self, how_long: Duration) {
        sleep(how_long).await;
        if self.healed_at.is_some_and(|at| at.elapsed() > TOLD_WITHIN) {
            self.healed_at = None;
            for index in 0..self.processes.len() {
                self.tell(index);
            }
            self.put_division_right();
        }
        self.reap().await;
        self.reap_commands().await;
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

    pub fn produce(&mut self, count: u64) {
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
