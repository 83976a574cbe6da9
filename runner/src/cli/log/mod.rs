//! `millrace log`: what a job did, and names for points of it.

mod destroy;
mod edit_offsets;
mod ls;
mod policies;
mod release;
mod rewind;
mod savepoint;
mod show;
mod skip_publish;

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
    /// Brings the job back to an earlier point, and takes back what its outputs got since.
    Rewind(rewind::RewindArgs),
    /// Moves single offsets: skips messages, or reads some again.
    EditOffsets(edit_offsets::EditOffsetsArgs),
    /// Gives up a decided record that cannot be published, after exporting its rows.
    SkipPublish(skip_publish::SkipPublishArgs),
    /// Frees a job log that a command holds which died.
    Release(release::ReleaseArgs),
    /// Deletes the job log, state and savepoints of a job for ever; the tables stay.
    Destroy(destroy::DestroyArgs),
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
        LogCommand::Rewind(args) => block_on(rewind::run(args)),
        LogCommand::EditOffsets(args) => block_on(edit_offsets::run(args)),
        LogCommand::SkipPublish(args) => block_on(skip_publish::run(args)),
        LogCommand::Release(args) => block_on(release::run(args)),
        LogCommand::Destroy(args) => block_on(destroy::run(args)),
    }
}

/// Who holds a log and why, for the person who finds it held.
fn reason(command: &str) -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "somebody".to_owned());
    format!("millrace log {command} by {user} on {}, process {}", manifest::host(), std::process::id())
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
