//! `millrace log show`: where the job stands, or one record whole.

use clap::Args;
use serde::Serialize;

use super::JobArgs;
use crate::cli::print;
use crate::failure::Failure;
use crate::ids::Seq;
use crate::logtool::summary::Summary;

/// Arguments of `millrace log show`.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The record to show, always as JSON; without it, where the job stands.
    seq: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: ShowArgs) -> Result<(), Failure> {
    let mut session = args.job.open().await?;
    let Some(seq) = args.seq.map(Seq) else {
        let summary = Summary::of(session.fold(), &session.location)
            .ok_or_else(|| Failure::internal("an empty log was opened as one with records"))?;
        print(&if args.json { pretty(&summary)? } else { summary.to_string() });
        return Ok(());
    };
    let (earliest, next) = (session.earliest(), session.fold().next());
    if seq < earliest || seq >= next {
        return Err(Failure::user(format!(
            "there is no record {seq}: the log keeps {earliest} up to and without {next}"
        )));
    }
    let records = session.records(seq, seq.next()).await?;
    for (_, record) in records {
        print(&pretty(&record)?);
    }
    Ok(())
}

fn pretty(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::internal(format!("cannot write as JSON: {error}")))?;
    Ok(text + "\n")
}
