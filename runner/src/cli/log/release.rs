//! `millrace log release`: frees a log that a dead command holds.

use clap::Args;

use super::JobArgs;
use crate::cli::print;
use crate::failure::Failure;

/// Arguments of `millrace log release`.
#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {
    #[command(flatten)]
    job: JobArgs,
}

pub(super) async fn run(args: ReleaseArgs) -> Result<(), Failure> {
    let mut session = args.job.open().await?;
    session.own()?;
    match session.release(true).await? {
        Some(hold) => print(&format!(
            "released: {} held the job log since record {} ({}). If that command is alive, it stops by itself; run it again \
             to finish what it began\n",
            hold.incarnation, hold.since, hold.reason
        )),
        None => print("nobody holds the job log\n"),
    }
    Ok(())
}
