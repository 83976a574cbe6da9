//! `millrace log`: what a job did, and names for points of it.

mod ls;
mod savepoint;
mod show;

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::manifest;
use crate::env::Env;
use crate::failure::Failure;
use crate::logtool::Session;

/// Arguments of `millrace log`.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// What to do.
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Lists records, one line each.
    Ls(ls::LsArgs),
    /// Shows where the job stands, or one record whole.
    Show(show::ShowArgs),
    /// Names this point of the log; works beside a running job.
    Savepoint(savepoint::SavepointArgs),
}

/// Which job's log.
#[derive(Debug, Clone, Args)]
struct JobArgs {
    /// The StreamingJob's file, YAML or JSON, which names checkpoint, storage and outputs; `-` is standard input.
    manifest: PathBuf,
    /// Folder of the secrets: the key K of the Secret N is the file `<dir>/N/K`.
    #[arg(long, env = "MILLRACE_SECRETS_DIR", default_value = "secrets")]
    secrets_dir: PathBuf,
}

impl JobArgs {
    /// Opens the job's log.
    async fn open(&self) -> Result<Session, Failure> {
        Session::open(manifest::read(&self.manifest)?, &self.secrets_dir, Env::system()).await
    }
}

/// Runs one of the commands.
///
/// # Errors
/// What failed, with its class.
pub fn main(args: LogArgs) -> Result<ExitCode, Failure> {
    match args.command {
        LogCommand::Ls(args) => block_on(ls::run(args)),
        LogCommand::Show(args) => block_on(show::run(args)),
        LogCommand::Savepoint(args) => block_on(savepoint::run(args)),
    }
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::internal(format!("cannot start the runtime: {error}")))?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome.map(|()| ExitCode::SUCCESS)
}
