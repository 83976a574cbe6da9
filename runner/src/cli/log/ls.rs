//! `millrace log ls`: records, one line each.

use clap::Args;

use super::JobArgs;
use crate::cli::print;
use crate::failure::Failure;
use crate::ids::Seq;
use crate::logtool::describe;

/// How many records are listed when nothing is said about it.
const LAST: u64 = 20;

/// Arguments of `millrace log ls`.
#[derive(Debug, Args)]
pub(super) struct LsArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The first record to list; default: so that the last ones are.
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    /// How many records: the last ones, or from --from on. Default: 20, or all from --from on.
    #[arg(long, value_name = "N")]
    last: Option<u64>,
    /// Print each record as one line of JSON: {"seq", "record"}.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: LsArgs) -> Result<(), Failure> {
    let mut session = args.job.open().await?;
    let (earliest, next) = (session.earliest().0, session.fold().next().0);
    let (from, to) = match (args.from, args.last) {
        (Some(from), None) => (from, next),
        (Some(from), Some(count)) => (from, from.saturating_add(count)),
        (None, count) => (next.saturating_sub(count.unwrap_or(LAST)).max(earliest), next),
    };
    if from < earliest {
        return Err(Failure::user(format!("records before {earliest} are deleted; list from {earliest} on")));
    }
    for (seq, record) in session.records(Seq(from), Seq(to)).await? {
        let line = if args.json {
            serde_json::json!({"seq": seq, "record": record}).to_string()
        } else {
            describe::line(seq, &record)
        };
        print(&format!("{line}\n"));
    }
    Ok(())
}
