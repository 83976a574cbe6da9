//! `millrace log rewind`: back to an earlier point.

use chrono::DateTime;
use clap::{ArgGroup, Args};

use super::policies::PolicyArgs;
use super::{JobArgs, reason};
use crate::cli::{print, say};
use crate::failure::Failure;
use crate::ids::{Millis, Seq};
use crate::logtool::rewind::{Target, Wanted};

/// Arguments of `millrace log rewind`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("point").required(true).args(["to", "to_savepoint", "to_time"])))]
pub(super) struct RewindArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Go back to where the job stood after this record.
    #[arg(long, value_name = "SEQ")]
    to: Option<u64>,
    /// Go back to this savepoint.
    #[arg(long, value_name = "NAME")]
    to_savepoint: Option<String>,
    /// Go back to the last record written at this time or before (RFC 3339, such as 2026-01-31T12:00:00Z).
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    to_time: Option<Millis>,
    #[command(flatten)]
    outputs: PolicyArgs,
    /// Only say what it would do.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: RewindArgs) -> Result<(), Failure> {
    let target = match (args.to, args.to_savepoint, args.to_time) {
        (Some(seq), ..) => Target::Record(Seq(seq)),
        (_, Some(name), _) => Target::Savepoint(name),
        (.., Some(at)) => Target::Time(at),
        (None, None, None) => return Err(Failure::user("say where to: --to, --to-savepoint or --to-time")),
    };
    let (policies, duplicates) = args.outputs.read()?;
    let wanted = Wanted { target, policies, duplicates, start: None };
    let mut session = args.job.open().await?;
    let preview = session.preview(&wanted).await?;
    if args.dry_run {
        print(&preview.to_string());
        return Ok(());
    }
    say(&format!("{preview}runners that work now stop, and go on from there"));
    let rewound = session.rewind(&wanted, &reason("rewind")).await?;
    print(&format!("rewound by record {}, {} file(s) deleted; {}", rewound.seq, rewound.deleted, rewound.effect));
    Ok(())
}

fn parse_time(text: &str) -> Result<Millis, String> {
    let time = DateTime::parse_from_rfc3339(text)
        .map_err(|error| format!("{error}; write a time with its zone, such as 2026-01-31T12:00:00Z"))?;
    Ok(Millis(time.timestamp_millis()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_mistakes_are_explained() {
        assert_eq!(parse_time("2026-01-01T01:00:00+01:00").unwrap(), Millis(1_767_225_600_000));
        assert!(parse_time("2026-01-01 01:00").unwrap_err().contains("2026-01-31T12:00:00Z"));
    }
}
