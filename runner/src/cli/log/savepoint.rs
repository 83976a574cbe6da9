//! `millrace log savepoint`: a name for this point of the log.

use clap::Args;
use millrace_joblog::decide::{SavepointDecision, delete_savepoint, savepoint};
use millrace_joblog::limits::MAX_SAVEPOINTS;
use millrace_joblog::log::Compose;

use super::JobArgs;
use crate::cli::print;
use crate::commit::check_savepoint_name;
use crate::failure::Failure;
use crate::logtool::{Reply, Session};

/// Arguments of `millrace log savepoint`.
#[derive(Debug, Args)]
pub(super) struct SavepointArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The savepoint's name: letters, digits, dots, dashes and underscores.
    name: String,
    /// Delete it instead: its state may then be collected.
    #[arg(long)]
    delete: bool,
}

pub(super) async fn run(args: SavepointArgs) -> Result<(), Failure> {
    check_savepoint_name(&args.name)?;
    let mut session = args.job.open().await?;
    session.own()?;
    let (name, delete) = (args.name.as_str(), args.delete);
    let reply = session
        .append(|view| match if delete { delete_savepoint(view, name) } else { savepoint(view, name) } {
            SavepointDecision::Propose(proposal) => Compose::Propose(proposal),
            other => Compose::Decline(other),
        })
        .await?;
    match reply {
        Reply::Won(_) if delete => print(&format!("savepoint {name} is deleted\n")),
        Reply::Won(seq) => print(&format!("savepoint {name} is record {seq}\n")),
        Reply::Declined(declined) => return Err(refused(&session, name, declined)),
    }
    Ok(())
}

fn refused(session: &Session, name: &str, declined: SavepointDecision) -> Failure {
    let savepoints = session.fold().savepoints();
    Failure::user(match declined {
        SavepointDecision::Exists => {
            let at = savepoints.get(name).map(|savepoint| savepoint.seq.to_string()).unwrap_or_default();
            format!("savepoint {name} exists already (record {at}): choose another name, or --delete it first")
        }
        SavepointDecision::Missing => {
            let known: Vec<&str> = savepoints.keys().map(String::as_str).collect();
            match known.as_slice() {
                [] => format!("there is no savepoint {name}; the job has none"),
                known => format!("there is no savepoint {name}; the job has {}", known.join(", ")),
            }
        }
        SavepointDecision::TooMany => {
            format!("the job has {MAX_SAVEPOINTS} savepoints, as many as it may: --delete one of them")
        }
        SavepointDecision::EmptyLog | SavepointDecision::Propose(_) => "the job log is empty".to_owned(),
    })
}
