//! From a validated job to a pipeline that is ready to run: every component is made here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millrace_crds::contract::{FailureClass, RunnerSettings, kafka_group};
use millrace_crds::{
    Compression, Job, Location, OnError, ParquetSink as ParquetSettings, SincePolicy, Sink as SinkSpec, TriggerKind,
};
use millrace_joblog::decide::{Permission, Start};
use millrace_joblog::record::Home;
use millrace_joblog::store::{FaultKind as LogFault, LocalStore, LogStore, ObjectLogStore, ProbeError, probe};
use millrace_joblog::{JobLog, Limits};
use tokio::sync::watch;

use crate::commit::{Beginning, Committer, Committing, Identity, log_failure};
use crate::control::Control;
use crate::decode::{self, Needed, dead_letter};
use crate::env::{Env, LogClock};
use crate::failure::Failure;
use crate::ids::{Incarnation, JobUid, Ordinal, OutputName, Revision};
use crate::intake::{Intake, Intakes};
use crate::logtool::start_from::wanted_start;
use crate::output::{OutputSlot, Target, dead_letter_output};
use crate::pipeline::{Closing, Pipeline};
use crate::plan::{PlanOptions, SourceTable};
use crate::progress::ProgressHub;
use crate::queries::SqlQueries;
use crate::secrets::Secrets;
use crate::sink::parquet::ParquetSink;
use crate::source::Source;
use crate::source::kafka::KafkaSource;
use crate::storage::{FaultKind, StoreFault, Stores};

/// How often a bounded job commits what it has read so far.
const BOUNDED_INTERVAL: Duration = Duration::from_secs(60);
/// How often a runner looks at the log while it waits for others.
const POLL: Duration = Duration::from_millis(500);

/// Which runner of the job this process is, and what its user allows.
#[derive(Debug, Clone)]
pub struct Seating {
    /// From 0.
    pub ordinal: u32,
    /// The pod's number; `None` outside a cluster.
    pub pod: Option<u64>,
    /// The revision it runs; default: the manifest's.
    pub revision: Option<String>,
    /// Where the job runs.
    pub home: String,
    /// Take over another home's checkpoint.
    pub take_over: bool,
    /// Fork another home's checkpoint.
    pub fork: bool,
    /// Let outputs move.
    pub accept_moved_outputs: bool,
    /// Folder of the secrets.
    pub secrets_dir: PathBuf,
}

impl Seating {
    /// The revision that the runner runs.
    pub fn revision(&self, job: &Job) -> Revision {
        Revision(self.revision.clone().unwrap_or_else(|| job.revision.clone()))
    }
}

/// What a runner is told while it runs.
pub struct Told {
    /// The term that is wanted.
    pub control: watch::Receiver<Control>,
    /// What else may change.
    pub settings: watch::Receiver<RunnerSettings>,
    /// Becomes true when the process is to stop.
    pub stop: watch::Receiver<bool>,
}

/// Plans the job's queries without touching anything outside.
///
/// # Errors
/// Everything that is wrong with the SQL.
pub async fn plan(job: &Job) -> Result<SqlQueries, Failure> {
    let sources = job
        .sources
        .iter()
        .map(|source| SourceTable { name: source.name.clone(), schema: decode::full_schema(&source.format) })
        .collect();
    let options = PlanOptions::new(job.trigger.kind == TriggerKind::AvailableNow);
    SqlQueries::plan(sources, job.views.clone(), job.outputs.clone(), options).await
}

/// Makes every component of a job. What can be checked without reading a row is checked: the SQL, the sinks, whether
/// the store keeps its promises, whose checkpoint it is.
///
/// # Errors
/// What only the user can mend, or a store that is away: the caller may try again.
pub async fn assemble(
    job: &Job,
    env: Env,
    hub: Arc<ProgressHub>,
    incarnation: Incarnation,
    seating: &Seating,
    told: Told,
) -> Result<Pipeline, Failure> {
    let queries = plan(job).await?;
    let secrets = Secrets::new(&seating.secrets_dir);
    let stores = Stores::new(job.storage.clone(), Some(seating.secrets_dir.clone()));
    let mut outputs = Vec::new();
    for (index, output) in job.outputs.iter().enumerate() {
        let schema = queries.get().output_schema(index);
        let target = match &output.sink {
            SinkSpec::Parquet(settings) => files(&stores, &output.name, settings.clone())?,
            SinkSpec::Console(settings) => Target::Console(*settings),
        };
        outputs.push(OutputSlot { name: output.name.clone(), schema, target });
    }
    let mut intakes = Vec::new();
    for source in &job.sources {
        let dead_letters = match &source.on_error {
            OnError::DeadLetter { path } => {
                let name = dead_letter_output(&source.name);
                let target = files(&stores, &name, dead_letter_settings(path.clone()))?;
                outputs.push(OutputSlot { name, schema: dead_letter::schema(), target });
                Some(outputs.len() - 1)
            }
            OnError::Fail | OnError::Skip => None,
        };
        let needed: BTreeSet<String> = queries
            .get()
            .needed_schema(&source.name)
            .map(|schema| schema.fields().iter().map(|field| field.name().clone()).collect())
            .unwrap_or_default();
        let group = kafka_group(job.namespace.as_deref(), job.name.as_str(), &source.name);
        let kafka: Box<dyn Source> = Box::new(KafkaSource::open(&source.name, &source.kafka, &group, &secrets)?);
        intakes.push(Intake {
            name: source.name.clone(),
            source: kafka,
            decoder: decode::decoder(&source.name, &source.format, &Needed::Only(needed)),
            on_error: source.on_error.clone(),
            fail_on_data_loss: source.kafka.fail_on_data_loss,
            dead_letters,
        });
    }
    for output in &outputs {
        if let Some((sink, _)) = output.files() {
            sink.check(&output.schema).await?;
        }
    }

    let checkpoint = open_checkpoint(&stores, &job.checkpoint)?;
    let store = checkpoint.store;
    probe(&*store).await.map_err(|error| probe_failure(&job.checkpoint, error))?;
    let clock = Arc::new(LogClock(env.clone()));
    let log = JobLog::open(store, clock, incarnation, Limits::STANDARD).await.map_err(|error| log_failure(&error))?;

    let outputs = Arc::new(outputs);
    let moved: BTreeMap<OutputName, String> = outputs
        .iter()
        .filter_map(|output| output.files().map(|(_, url)| (OutputName(output.name.clone()), url.to_owned())))
        .collect();
    let permission = match (seating.take_over, seating.fork) {
        (true, _) => Permission::TakeOver,
        (false, true) => Permission::Fork,
        (false, false) => Permission::None,
    };
    let revision = seating.revision(job);
    let identity = Identity {
        incarnation,
        ordinal: Ordinal(seating.ordinal),
        pod: seating.pod,
        revision: revision.clone(),
        start: Start {
            home: Home { place: seating.home.clone(), kubernetes_uid: job.uid.clone() },
            location: checkpoint.shown,
            fresh_job: JobUid(env.uuid()),
            permission,
        },
        outputs: moved,
        accept_moved_outputs: seating.accept_moved_outputs,
        begins: beginning(job, &revision),
    };
    let bounded = job.trigger.kind == TriggerKind::AvailableNow;
    let closing = Closing {
        interval: match job.trigger.kind {
            TriggerKind::Interval(interval) => interval,
            TriggerKind::AvailableNow => BOUNDED_INTERVAL,
        },
        poll: POLL,
        max_records: job.trigger.max_records,
        max_bytes: job.trigger.max_bytes,
        bounded,
    };
    let committer = Committer::new(env.clone(), Arc::clone(&hub), log, identity, Arc::clone(&outputs));
    let Told { control, settings, stop } = told;
    Ok(Pipeline {
        env,
        hub,
        closing,
        intakes: Intakes::new(intakes),
        queries: Box::new(queries),
        outputs,
        committing: Committing::new(committer),
        control,
        settings,
        stop,
    })
}

/// The savepoint that the job's spec begins at, if it names one.
fn beginning(job: &Job, revision: &Revision) -> Option<Beginning> {
    let start = wanted_start(job, revision, None)?.start;
    let outputs = job.start_from.iter().flat_map(|start| &start.outputs);
    let moved = outputs.filter(|(_, policy)| **policy == SincePolicy::NewPath);
    Some(Beginning { start, new_paths: moved.map(|(output, _)| OutputName(output.clone())).collect() })
}

fn files(stores: &Stores, name: &str, settings: ParquetSettings) -> Result<Target, Failure> {
    let at = stores.data_store(&settings.path).map_err(|fault| store_failure(&settings.path, &fault))?;
    let url = at.shown.trim_end_matches('/').to_owned();
    Ok(Target::Files { sink: Arc::new(ParquetSink::new(name, settings, at)), url })
}

/// Dead letters are few and are kept as they came.
fn dead_letter_settings(path: Location) -> ParquetSettings {
    ParquetSettings {
        path,
        partition_by: Vec::new(),
        compression: Compression::Zstd,
        max_file_bytes: 128 << 20,
        max_file_age: None,
        max_open_files: 1,
    }
}

/// The store of a checkpoint, and its location as the user knows it.
pub struct Checkpoint {
    /// The job log's store.
    pub store: Arc<dyn LogStore>,
    /// An absolute path or a URL.
    pub shown: String,
}

/// Opens the store of a checkpoint location. A local one creates its files exclusively and durably itself.
///
/// # Errors
/// What the user can mend: credentials, a path that cannot be created.
pub fn open_checkpoint(stores: &Stores, location: &Location) -> Result<Checkpoint, Failure> {
    let at = stores.log_store(location).map_err(|fault| store_failure(location, &fault))?;
    let store: Arc<dyn LogStore> = match location {
        Location::Local(_) => Arc::new(LocalStore::open(&at.shown).map_err(|error| match error.kind {
            LogFault::Full => log_failure(&error.into()),
            _ => Failure::user(format!("checkpoint {location}: {error}")),
        })?),
        Location::S3 { .. } => Arc::new(ObjectLogStore::new(at.store, at.prefix)),
    };
    Ok(Checkpoint { store, shown: at.shown })
}

/// A store's fault at a location, by class.
fn store_failure(location: &Location, fault: &StoreFault) -> Failure {
    let message = format!("{location}: {fault}");
    match fault.kind {
        FaultKind::Unavailable => Failure::external("StoreUnavailable", message),
        FaultKind::NoSpace => Failure::external("DiskFull", message),
        FaultKind::Denied => Failure::new(FailureClass::User, "StoreDenied", message),
        FaultKind::BucketMissing => Failure::new(FailureClass::User, "StoreBucketMissing", message),
        FaultKind::NotFound | FaultKind::Misconfigured => Failure::new(FailureClass::User, "Store", message),
        FaultKind::Other => Failure::internal(message),
    }
}

fn probe_failure(location: &Location, error: ProbeError) -> Failure {
    match error {
        ProbeError::Store(error) => {
            let failure = log_failure(&error.into());
            Failure { message: format!("checkpoint {location}: {}", failure.message), ..failure }
        }
        other => Failure::new(FailureClass::User, "StoreUnfit", format!("checkpoint {location}: {other}")),
    }
}
