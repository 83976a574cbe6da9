//! `millrace log rewind`: back to an earlier point.

use std::collections::BTreeMap;

use chrono::DateTime;
use clap::{ArgGroup, Args};
use millrace_joblog::decide::Policy;

use super::{JobArgs, reason};
use crate::cli::{print, say};
use crate::failure::Failure;
use crate::ids::{Millis, OutputName, Seq};
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
    /// What becomes of the rows that an output got since: NAME=retract, NAME=newPath or NAME=duplicate.
    #[arg(long = "output", value_name = "NAME=POLICY", value_parser = parse_policy)]
    outputs: Vec<(OutputName, Policy)>,
    /// Consent that this output will have rows twice (for NAME=duplicate).
    #[arg(long, value_name = "NAME")]
    yes_duplicate: Vec<String>,
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
    let mut policies = BTreeMap::new();
    for (output, policy) in args.outputs {
        if policies.insert(output.clone(), policy).is_some_and(|other| other != policy) {
            return Err(Failure::user(format!("--output {output}: two policies for one output")));
        }
    }
    let duplicates = args.yes_duplicate.into_iter().map(OutputName).collect();
    let wanted = Wanted { target, policies, duplicates };
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

fn parse_policy(text: &str) -> Result<(OutputName, Policy), String> {
    let expected = "write NAME=retract, NAME=newPath or NAME=duplicate";
    let (name, policy) = text.rsplit_once('=').ok_or(expected)?;
    let policy = match policy {
        "retract" => Policy::Retract,
        "newPath" => Policy::NewPath,
        "duplicate" => Policy::Duplicate,
        other => return Err(format!("there is no policy '{other}'; {expected}")),
    };
    if name.is_empty() {
        return Err(expected.to_owned());
    }
    Ok((OutputName(name.to_owned()), policy))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn policies_and_times_are_read_and_mistakes_are_explained() {
        assert_eq!(parse_policy("orders.deadLetter=retract").unwrap(), ("orders.deadLetter".into(), Policy::Retract));
        assert!(parse_policy("orders=delete").unwrap_err().contains("retract, NAME=newPath"));
        assert!(parse_policy("orders").is_err() && parse_policy("=retract").is_err());
        assert_eq!(parse_time("2026-01-01T01:00:00+01:00").unwrap(), Millis(1_767_225_600_000));
        assert!(parse_time("2026-01-01 01:00").unwrap_err().contains("2026-01-31T12:00:00Z"));
    }
}
