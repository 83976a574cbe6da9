//! `millrace log destroy`: the end of a job's checkpoint.

use clap::Args;

use super::{JobArgs, reason};
use crate::cli::{manifest, print, say};
use crate::env::Env;
use crate::failure::Failure;
use crate::logtool::Session;

/// Arguments of `millrace log destroy`.
#[derive(Debug, Args)]
pub(super) struct DestroyArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Type the job's name to consent.
    #[arg(long, value_name = "JOB NAME")]
    yes: Option<String>,
    /// Do not publish what is decided and not published yet: its rows get into no table.
    #[arg(long)]
    abandon_unpublished: bool,
}

pub(super) async fn run(args: DestroyArgs) -> Result<(), Failure> {
    let job = manifest::read(&args.job.manifest)?;
    let (name, location) = (job.name.clone(), job.checkpoint.to_string());
    if args.yes.as_deref() != Some(name.as_str()) {
        return Err(Failure::user(format!(
            "this deletes the job log, state and savepoints at {location}, for ever; the tables stay. A job started there \
             afterwards begins anew, and writes rows that are in the tables already once more. Nobody can tell from here \
             whether runners are alive: stop them first. Consent with --yes {name}"
        )));
    }
    let mut session = Session::open_any(job, &args.job.secrets_dir, Env::system()).await?;
    let destroyed = session.destroy(args.abandon_unpublished, &reason("destroy")).await?;
    for left in &destroyed.left {
        say(&format!("left, because it is not Millrace's: {location}/{left}"));
    }
    print(&format!(
        "destroyed {location}: {} object(s) and {} staged file(s) deleted, {} record(s) published before. A runner that is \
         still there does nothing any more; stop it\n",
        destroyed.checkpoint, destroyed.staged, destroyed.published
    ));
    Ok(())
}
