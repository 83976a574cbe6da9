//! One start of one runner: the real pipeline, put together over a world of memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use millrace::commit::{Committer, Committing, Identity, log_failure};
use millrace::control::Control;
use millrace::decode::{self, Needed, dead_letter};
use millrace::env::{Clock, Env, LogClock};
use millrace::failure::Failure;
use millrace::intake::{Intake, Intakes};
use millrace::output::{OutputSlot, Target, dead_letter_output};
use millrace::pipeline::{Closing, Ended, Pipeline};
use millrace::plan::OutputRows;
use millrace::progress::ProgressHub;
use millrace::queries::Queries;
use millrace::sink::Sink;
use millrace::sink::memory::MemoryTables;
use millrace::source::memory::MemoryKafka;
use millrace_crds::contract::RunnerSettings;
use millrace_crds::{Format, Location, OnError, Starting, Topics};
use millrace_joblog::decide::{Permission, Start};
use millrace_joblog::record::Home;
use millrace_joblog::store::{Faults, FaultyStore};
use millrace_joblog::{Incarnation, JobLog, JobUid, Limits, Ordinal, OutputName, Revision};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::chance::Chance;
use crate::faults::{GatedSink, GatedSource, GatedStore};
use crate::gate::{Deadly, Gate};
use crate::watch::{Build, TrueStore, Watch};

pub const SOURCE: &str = "in";
/// The checkpoint location as the log calls it.
pub const CHECKPOINT: &str = "mem://checkpoint";
/// Before the name of an output in its URL.
pub const LAKE: &str = "mem://lake/";

/// What every runner of a world shares.
#[derive(Clone)]
pub struct Setting {
    pub watch: Arc<Watch>,
    pub kafka: MemoryKafka,
    pub tables: MemoryTables,
    pub store: Arc<TrueStore>,
    pub limits: Limits,
    pub topics: Vec<String>,
    pub outputs: Vec<String>,
    pub dead_letters: bool,
    pub fail_on_data_loss: bool,
    pub interval: Duration,
    pub max_records: Option<u64>,
    pub batch: usize,
    /// Rows in a file of the tables.
    pub file_rows: usize,
    pub bounded: bool,
    pub in_cluster: bool,
    pub latency_ms: u64,
    pub began: Instant,
}

impl Setting {
    /// The outputs, that of the dead letters included, and where the job log thinks they are.
    pub fn urls(&self) -> BTreeMap<String, String> {
        let letters = self.dead_letters.then(|| dead_letter_output(SOURCE));
        self.outputs.iter().cloned().chain(letters).map(|name| (name.clone(), format!("{LAKE}{name}"))).collect()
    }

    /// The sink of an output as somebody sees it who stands behind that gate.
    pub fn sink(&self, gate: &Arc<Gate>, output: &str) -> GatedSink {
        let sink = self.tables.sink(output).with_file_rows(self.file_rows);
        GatedSink { gate: Arc::clone(gate), sink: Arc::new(sink) as Arc<dyn Sink>, output: output.to_owned() }
    }

    /// Virtual time as a wall clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(Virtual(self.began))
    }
}

/// Where a job lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Another place is another home, which has to take the job over.
    pub name: u32,
    /// Another uid at the same place is a StreamingJob that was created again.
    pub uid: u32,
}

impl Place {
    pub fn home(self, in_cluster: bool) -> Home {
        let Self { name, uid } = self;
        match in_cluster {
            true => Home { place: format!("cluster/default/sim{name}"), kubernetes_uid: Some(format!("uid-{uid}")) },
            false => Home { place: format!("host{name}:/sim"), kubernetes_uid: None },
        }
    }
}

/// Which runner this is.
#[derive(Debug, Clone)]
pub struct Seat {
    pub ordinal: u32,
    pub pod: Option<u64>,
    pub revision: Revision,
    pub place: Place,
    /// Its user allows it to take the job over.
    pub take_over: bool,
    /// Counts the starts of a world.
    pub start: u64,
    pub seed: u64,
    /// Of 1,000 requests to the job log's store so many go wrong.
    pub per_mille: u64,
}

/// How a start ended.
#[derive(Debug)]
pub enum Outcome {
    /// The log could not be opened; a supervisor tries again.
    NotOpened(Failure),
    /// The pipeline's own end.
    Ran(Result<Ended, Failure>),
}

/// A start of a runner that is under way.
pub struct Process {
    pub seat: Seat,
    pub gate: Arc<Gate>,
    pub store: Arc<FaultyStore>,
    pub failpoints: Arc<Deadly>,
    pub control: watch::Sender<Control>,
    pub settings: watch::Sender<RunnerSettings>,
    pub stop: watch::Sender<bool>,
    pub stopped_at: Option<Instant>,
    /// It was paused at some time.
    pub slept: bool,
    pub task: JoinHandle<Outcome>,
}

impl Process {
    pub fn start(setting: &Setting, seat: Seat, wanted: Control, settings: RunnerSettings) -> Self {
        let mut chance = Chance::new(seat.seed);
        let gate = Gate::new(Arc::clone(&setting.watch), chance.fork(), setting.latency_ms, seat.per_mille > 0);
        let faults = Faults::seeded(chance.draw(), seat.per_mille);
        let store = Arc::new(FaultyStore::new(Arc::clone(&setting.store) as _, faults));
        let failpoints = Arc::new(Deadly { gate: Arc::clone(&gate), armed: Mutex::new(None) });
        let (control, wanted_term) = watch::channel(wanted);
        let (settings, followed) = watch::channel(settings);
        let (stop, stopping) = watch::channel(false);
        let env = Env::seeded(chance.draw(), setting.clock(), Arc::clone(&failpoints) as _);
        let incarnation = Incarnation(env.uuid());
        let build = Build { revision: seat.revision.clone(), home: seat.place.home(setting.in_cluster) };
        setting.watch.started(incarnation, build);
        let parts = Parts {
            setting: setting.clone(),
            incarnation,
            seat: seat.clone(),
            gate: Arc::clone(&gate),
            store: Arc::new(GatedStore { gate: Arc::clone(&gate), store: Arc::clone(&store) }),
            env,
            control: wanted_term,
            settings: followed,
            stop: stopping,
        };
        let task = tokio::spawn(parts.live());
        Self { seat, gate, store, failpoints, control, settings, stop, stopped_at: None, slept: false, task }
    }

    pub fn name(&self) -> String {
        let Seat { ordinal, revision, start, .. } = &self.seat;
        match self.seat.pod {
            Some(pod) => format!("runner {}.{pod} of {} (start {})", ordinal, revision.0, start),
            None => format!("runner {} of {} (start {})", ordinal, revision.0, start),
        }
    }
}

/// Virtual time as a wall clock.
struct Virtual(Instant);

impl Clock for Virtual {
    fn now_millis(&self) -> i64 {
        1_767_225_600_000 + self.0.elapsed().as_millis() as i64
    }
}

struct Parts {
    setting: Setting,
    incarnation: Incarnation,
    seat: Seat,
    gate: Arc<Gate>,
    store: Arc<GatedStore>,
    env: Env,
    control: watch::Receiver<Control>,
    settings: watch::Receiver<RunnerSettings>,
    stop: watch::Receiver<bool>,
}

impl Parts {
    async fn live(self) -> Outcome {
        let incarnation = self.incarnation;
        let clock = Arc::new(LogClock(self.env.clone()));
        match JobLog::open(Arc::clone(&self.store) as _, clock, incarnation, self.setting.limits).await {
            Err(error) => Outcome::NotOpened(log_failure(&error)),
            Ok(log) => Outcome::Ran(self.pipeline(log).run().await),
        }
    }

    fn pipeline(self, log: JobLog) -> Pipeline {
        let (setting, seat, incarnation) = (&self.setting, &self.seat, self.incarnation);
        let hour = Duration::from_secs(3600);
        let hub = ProgressHub::new("sim", &seat.revision.0, seat.ordinal, &incarnation.to_string(), hour);
        let hub = Arc::new(hub);
        let columns = ["value".to_owned()];
        let decoder = decode::decoder(SOURCE, &Format::Text, &Needed::Only(BTreeSet::from(columns)));
        let urls = setting.urls();
        let slot = |name: &String, schema| OutputSlot {
            name: name.clone(),
            schema,
            target: Target::Files { sink: Arc::new(setting.sink(&self.gate, name)), url: urls[name].clone() },
        };
        let mut outputs: Vec<OutputSlot> = setting.outputs.iter().map(|name| slot(name, decoder.schema())).collect();
        let mut dead_letters = None;
        if setting.dead_letters {
            dead_letters = Some(outputs.len());
            outputs.push(slot(&dead_letter_output(SOURCE), dead_letter::schema()));
        }
        let on_error = match dead_letters {
            Some(_) => OnError::DeadLetter { path: Location::Local("/dead".into()) },
            None => OnError::Skip,
        };
        let source = GatedSource {
            gate: Arc::clone(&self.gate),
            source: setting.kafka.source(
                SOURCE,
                &Topics::List(setting.topics.clone()),
                Starting::Earliest,
                None,
                setting.batch,
            ),
        };
        let intake = Intake {
            name: SOURCE.to_owned(),
            source: Box::new(source),
            decoder,
            on_error,
            fail_on_data_loss: setting.fail_on_data_loss,
            dead_letters,
        };
        let identity = Identity {
            incarnation,
            ordinal: Ordinal(seat.ordinal),
            pod: seat.pod,
            revision: seat.revision.clone(),
            start: Start {
                home: seat.place.home(setting.in_cluster),
                location: CHECKPOINT.to_owned(),
                fresh_job: JobUid(self.env.uuid()),
                permission: if seat.take_over { Permission::TakeOver } else { Permission::None },
            },
            outputs: urls.iter().map(|(name, url)| (OutputName(name.clone()), url.clone())).collect(),
            accept_moved_outputs: false,
            begins: None,
        };
        let outputs = Arc::new(outputs);
        let committer = Committer::new(self.env.clone(), Arc::clone(&hub), log, identity, Arc::clone(&outputs));
        Pipeline {
            env: self.env,
            hub,
            closing: Closing {
                interval: setting.interval,
                poll: Duration::from_millis(500),
                max_records: setting.max_records,
                max_bytes: None,
                bounded: setting.bounded,
            },
            intakes: Intakes::new(vec![intake]),
            queries: Box::new(Through { outputs: setting.outputs.len() }),
            outputs,
            committing: Committing::new(committer),
            control: self.control,
            settings: self.settings,
            stop: self.stop,
        }
    }
}

/// Queries that pass every row to every output.
struct Through {
    outputs: usize,
}

#[async_trait]
impl Queries for Through {
    async fn run(&mut self, _: &str, batch: &RecordBatch, _: i64) -> Result<Vec<OutputRows>, Failure> {
        Ok((0..self.outputs).map(|output| OutputRows { output, batches: vec![batch.clone()] }).collect())
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
