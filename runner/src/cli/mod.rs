//! The command line: what the pod's entrypoint and the developer type.

pub mod demo;
pub mod explain;
pub mod live;
pub mod log;
pub mod manifest;
pub mod run;
mod termination;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::failure::Failure;
use crate::telemetry::logging;

/// Kafka to SQL to tables, exactly once.
#[derive(Debug, Parser)]
#[command(name = "millrace", version, about, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How log lines are written to standard error; text for people (the default), or json.
    #[arg(long, global = true, value_enum, env = "MILLRACE_LOG_FORMAT", default_value = "text")]
    pub log_format: logging::Format,
    /// Which log lines are written, as `level` or `target=level,…`.
    #[arg(long, global = true, env = "MILLRACE_LOG", default_value = "warn,millrace=info")]
    pub log_level: String,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a job: the very manifest that `kubectl apply` takes.
    Run(run::RunArgs),
    /// Shows it all in under a minute, with a Kafka and a lake of its own.
    Demo(demo::DemoArgs),
    /// Checks a manifest and its SQL without touching Kafka or the store.
    Validate(ManifestArgs),
    /// Prints what a job would do: stages, columns read, plans.
    Explain(ManifestArgs),
    /// Looks into a job's log, and moves a job by hand: back to an earlier point, past offsets, away.
    Log(log::LogArgs),
}

/// A manifest on the command line.
#[derive(Debug, Clone, Args)]
pub struct ManifestArgs {
    /// The StreamingJob's file, YAML or JSON; `-` is standard input.
    pub manifest: PathBuf,
}

/// Parses the arguments, runs the command and says how it ended.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { crate::failure::usage_exit_code() } else { ExitCode::SUCCESS };
        }
    };
    logging::init(cli.log_format, &cli.log_level);
    let outcome = match cli.command {
        Command::Run(args) => run::main(args),
        Command::Demo(args) => demo::main(args),
        Command::Validate(args) => explain::validate(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Log(args) => log::main(args),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => report(&failure),
    }
}

/// Says what failed in one line (or one line an error, if there are several) and gives the exit code of its class.
fn report(failure: &Failure) -> ExitCode {
    crate::cli::say(&format!("error: {}", failure.message));
    failure.exit_code()
}

/// Writes a line for the user to standard error, beside the log.
pub fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes a result to standard output; a closed pipe is not an error.
pub fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
