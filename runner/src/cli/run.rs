//! `millrace run`: the pod's entrypoint, and the developer's.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode as ProcessExit;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use millrace_crds::Job;
use millrace_crds::contract::{ExitCode, FailureClass, Phase, RunnerSettings};
use millrace_joblog::decide::WantedStart;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::assemble::{Seating, Told, assemble};
use crate::cli::termination::Termination;
use crate::cli::{live, manifest};
use crate::control::{self, Control};
use crate::env::{Backoff, Env};
use crate::failpoint::AbortAt;
use crate::failure::Failure;
use crate::ids::{Incarnation, Revision};
use crate::logtool::start_from;
use crate::pipeline::Ended;
use crate::progress::ProgressHub;
use crate::telemetry::{http, logging};

/// Arguments of `millrace run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The StreamingJob's file, YAML or JSON; `-` is standard input.
    pub manifest: PathBuf,
    /// Folder of the secrets: the key K of the Secret N is the file `<dir>/N/K`.
    #[arg(long, env = "MILLRACE_SECRETS_DIR", default_value = "secrets")]
    pub secrets_dir: PathBuf,
    /// Which of several runners of the job this is, from 0.
    #[arg(long, env = "MILLRACE_ORDINAL", default_value_t = 0)]
    pub ordinal: u32,
    /// How many runners share the work; default: the manifest's.
    #[arg(long)]
    pub parallelism: Option<u32>,
    /// File with the wanted term as JSON ({"generation","revision","parallelism"}); followed while running. A runner whose
    /// revision is another than the term's is checked like any other and waits for its own.
    #[arg(long, env = "MILLRACE_TERM_FILE")]
    pub term_file: Option<PathBuf>,
    /// File with what may change while running as JSON ({"logLevel","progressDeadlineSeconds","savepoint"}, each optional);
    /// followed like the term. A savepoint that the job does not have is made.
    #[arg(long, env = "MILLRACE_SETTINGS_FILE")]
    pub settings_file: Option<PathBuf>,
    /// The pod's number, which is this process's rank; given by the operator. A process that has one sleeps when it is
    /// superseded, instead of exiting.
    #[arg(long, env = "MILLRACE_POD_NUMBER")]
    pub pod_number: Option<u64>,
    /// The revision this process runs; default: the hash of the manifest. Given by the operator.
    #[arg(long, env = "MILLRACE_REVISION")]
    pub revision: Option<String>,
    /// Where the job runs, as cluster/namespace/name; default: this host and the manifest's path.
    #[arg(long, env = "MILLRACE_HOME")]
    pub home: Option<String>,
    /// Take over a checkpoint that another home owns; that one is refused from then on.
    #[arg(long, conflicts_with = "fork")]
    pub take_over: bool,
    /// Go on from another home's checkpoint as a new job, with output paths of its own.
    #[arg(long)]
    pub fork: bool,
    /// Let outputs write to another path than before; what they wrote so far stays where it is.
    #[arg(long)]
    pub accept_moved_outputs: bool,
    /// Address of /metrics, /status, /startz, /livez and /readyz; port 0 picks a free one.
    #[arg(long, env = "MILLRACE_HTTP", default_value = "127.0.0.1:0")]
    pub http: SocketAddr,
    /// Do not listen on any address.
    #[arg(long)]
    pub no_http: bool,
    /// Where the termination message is written as JSON, with the last lines of the log; also after a panic, which then exits
    /// with 70.
    #[arg(long, env = "MILLRACE_TERMINATION_FILE")]
    pub termination_file: Option<PathBuf>,
    /// How long the last epoch may take to commit after SIGTERM.
    #[arg(long, default_value = "25s", value_parser = humantime::parse_duration)]
    pub grace: Duration,
}

/// Runs the job and says how it ended.
///
/// # Errors
/// What failed, with its class.
pub fn main(args: RunArgs) -> Result<ProcessExit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::internal(format!("cannot start the runtime: {error}")))?;
    let env = Env::system();
    let incarnation = Incarnation(env.uuid());
    let termination = args.termination_file.clone().map(|path| Arc::new(Termination::new(path, incarnation)));
    if let Some(termination) = &termination {
        termination.catch_panics();
    }
    let outcome = runtime.block_on(run(args, env, incarnation, termination.as_deref()));
    // Threads of librdkafka may be inside a blocking call; nothing they could still do matters.
    runtime.shutdown_timeout(Duration::from_secs(2));
    if let Some(termination) = &termination {
        termination.ended(&outcome);
    }
    match outcome {
        Ok(Ended::Completed) => Ok(ExitCode::Completed.into()),
        Ok(Ended::Stopped) => Ok(ExitCode::Stopped.into()),
        // Only in a cluster, after SIGTERM; and the latter never.
        Ok(Ended::Superseded(_) | Ended::StartDue) => Ok(ExitCode::Stopped.into()),
        Err(failure) => Err(failure),
    }
}

async fn run(
    args: RunArgs,
    mut env: Env,
    incarnation: Incarnation,
    termination: Option<&Termination>,
) -> Result<Ended, Failure> {
    let job = manifest::read(&args.manifest)?;
    let revision = args.revision.clone().unwrap_or_else(|| job.revision.clone());
    if let Some(termination) = termination {
        termination.runs(&revision);
    }
    if let Ok(armed) = std::env::var("MILLRACE_FAILPOINT") {
        env.failpoints = Arc::new(AbortAt::parse(&armed).map_err(Failure::user)?);
    }
    let parallelism = args.parallelism.unwrap_or(job.parallelism);
    // With a term file the operator decides that, also for a manifest that was rendered while the job was suspended.
    if args.term_file.is_none() && (job.suspend || parallelism == 0) {
        return Err(Failure::user("the job is suspended (spec.suspend, or parallelism 0): nothing to run"));
    }
    let wanted = match &args.term_file {
        Some(path) => control::read_term(path)
            .await
            .map_err(|problem| Failure::user(format!("--term-file {}: {problem}", path.display())))?,
        None => Control { generation: None, revision: Revision(revision.clone()), parallelism },
    };
    if args.term_file.is_none() && args.ordinal >= parallelism {
        return Err(Failure::user(format!(
            "--ordinal {} has no place among {parallelism} runners; they count from 0",
            args.ordinal
        )));
    }
    let stop = stop_signal()?;
    let (sender, fixed) = watch::channel(wanted.clone());
    let control = match &args.term_file {
        Some(path) => control::follow_term(path.clone(), wanted.clone()),
        None => fixed,
    };
    let settings = match &args.settings_file {
        Some(path) => control::follow_settings(path.clone()),
        None => watch::channel(RunnerSettings::default()).1,
    };
    let seating = Seating {
        ordinal: args.ordinal,
        pod: args.pod_number,
        revision: args.revision.clone(),
        home: args.home.clone().unwrap_or_else(|| manifest::home(&args.manifest)),
        take_over: args.take_over,
        fork: args.fork,
        accept_moved_outputs: args.accept_moved_outputs,
        secrets_dir: args.secrets_dir.clone(),
    };
    let in_cluster = args.pod_number.is_some();
    let hub = Arc::new(ProgressHub::new(
        job.name.as_str(),
        &revision,
        args.ordinal,
        &incarnation.to_string(),
        job.progress_deadline,
    ));
    if !args.no_http {
        let address = http::serve(args.http, Arc::clone(&hub))
            .await
            .map_err(|error| Failure::user(format!("cannot listen on --http {}: {error}", args.http)))?;
        tracing::info!(%address, "serving /metrics, /status, /startz, /livez, /readyz");
    }
    tokio::spawn(apply(settings.clone(), Arc::clone(&hub)));
    let view = live::show(Arc::clone(&hub));
    let running = async {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
        loop {
            hub.turned();
            let mut stopped = stop.clone();
            let (hub, told) =
                (Arc::clone(&hub), Told { control: control.clone(), settings: settings.clone(), stop: stop.clone() });
            let ended = async {
                check_start(&job, &seating, &told.control, &env).await?;
                let pipeline = assemble(&job, env.clone(), Arc::clone(&hub), incarnation, &seating, told).await?;
                // A pipeline waits by itself for what is away.
                Ok(pipeline.run().await)
            };
            let ended = match ended.await {
                Ok(Ok(Ended::StartDue)) => {
                    hub.turned();
                    go_back(&job, &seating, &control, &env).await
                }
                Ok(ended) => return ended,
                Err(failure) => Err(failure),
            };
            match ended {
                Ok(()) => {}
                Err(_) if *stopped.borrow() => return Ok(Ended::Stopped),
                Err(failure) if failure.is_external() => {
                    hub.degraded(&failure, env.clock.now_millis());
                    tokio::select! {
                        () = tokio::time::sleep(backoff.next(&env)) => {}
                        Ok(_) = stopped.wait_for(|stop| *stop) => return Ok(Ended::Stopped),
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
    };
    let ended = tokio::select! {
        ended = running => ended,
        () = grace_over(stop.clone(), args.grace) => {
            tracing::warn!(grace = ?args.grace, "the last epoch did not commit in time; it will be read again");
            Ok(Ended::Stopped)
        }
    };
    drop(sender);
    view.finish();
    match ended {
        Ok(Ended::Superseded(by)) if in_cluster => {
            // Exiting would only make the kubelet start this container again.
            tracing::warn!("{by}; sleeping until SIGTERM");
            hub.phase(Phase::Superseded);
            sleep_until_stopped(stop, &hub).await;
            Ok(Ended::Superseded(by))
        }
        Ok(Ended::Superseded(by)) => Err(Failure::new(FailureClass::User, "Superseded", by)),
        other => other,
    }
}

/// Checks the savepoint that the job's spec begins at, if the job has still to go there.
async fn check_start(
    job: &Job,
    seating: &Seating,
    control: &watch::Receiver<Control>,
    env: &Env,
) -> Result<(), Failure> {
    match start(job, seating, control) {
        Some(start) => start_from::check(job, start, &seating.secrets_dir, env.clone()).await,
        None => Ok(()),
    }
}

/// Brings the job back to it.
async fn go_back(job: &Job, seating: &Seating, control: &watch::Receiver<Control>, env: &Env) -> Result<(), Failure> {
    match start(job, seating, control) {
        Some(start) => start_from::carry_out(job, start, &seating.secrets_dir, env.clone()).await,
        None => Ok(()),
    }
}

/// The start that the job's spec asks for, as far as this runner was told.
fn start(job: &Job, seating: &Seating, control: &watch::Receiver<Control>) -> Option<WantedStart> {
    let revision = seating.revision(job);
    let wanted = control.borrow();
    let generation = wanted.generation.filter(|_| wanted.revision == revision);
    start_from::wanted_start(job, &revision, generation)
}

/// Applies the settings that are not the pipeline's, as they change.
async fn apply(mut settings: watch::Receiver<RunnerSettings>, hub: Arc<ProgressHub>) {
    let mut level = None;
    loop {
        let wanted = settings.borrow_and_update().clone();
        let deadline = wanted.progress_deadline_seconds.filter(|seconds| *seconds > 0);
        hub.set_deadline(deadline.map(Duration::from_secs));
        if wanted.log_level != level {
            level = wanted.log_level;
            match logging::set_level(level.as_deref()) {
                Ok(()) => tracing::info!(level, "changed the log level"),
                Err(problem) => tracing::warn!(problem, level, "cannot read the log level; it stays as it is"),
            }
        }
        if settings.changed().await.is_err() {
            return;
        }
    }
}

/// Becomes true at SIGTERM or SIGINT.
fn stop_signal() -> Result<watch::Receiver<bool>, Failure> {
    let (sender, receiver) = watch::channel(false);
    let listen = |kind| signal(kind).map_err(|error| Failure::internal(format!("cannot listen for signals: {error}")));
    let (mut term, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => tracing::info!("SIGTERM: committing the open epoch"),
            _ = interrupt.recv() => tracing::info!("interrupted: committing the open epoch"),
        }
        let _ = sender.send(true);
        // The channel stays open: a closed one would look like a second signal.
        std::future::pending::<()>().await;
    });
    Ok(receiver)
}

async fn grace_over(mut stop: watch::Receiver<bool>, grace: Duration) {
    let _ = stop.wait_for(|stop| *stop).await;
    tokio::time::sleep(grace).await;
}

async fn sleep_until_stopped(mut stop: watch::Receiver<bool>, hub: &ProgressHub) {
    loop {
        hub.turned();
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(Duration::from_secs(10)) => {}
        }
    }
}
