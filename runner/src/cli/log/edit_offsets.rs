//! `millrace log edit-offsets`: single offsets moved by hand.

use std::collections::BTreeMap;

use clap::Args;

use super::policies::PolicyArgs;
use super::{JobArgs, reason};
use crate::cli::print;
use crate::failure::Failure;
use crate::ids::{Offset, Partition};
use crate::logtool::edit::{self, Edit};

/// Arguments of `millrace log edit-offsets`.
#[derive(Debug, Args)]
pub(super) struct EditOffsetsArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Where partitions go on: SOURCE/TOPIC/PARTITION=OFFSET.
    #[arg(required = true, value_parser = edit::parse)]
    offsets: Vec<(Partition, Offset)>,
    #[command(flatten)]
    outputs: PolicyArgs,
    /// Do it; without it the command only says what would happen.
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(args: EditOffsetsArgs) -> Result<(), Failure> {
    let mut offsets = BTreeMap::new();
    for (partition, offset) in args.offsets {
        if offsets.insert(partition.clone(), offset).is_some_and(|other| other != offset) {
            return Err(Failure::user(format!("{partition}: two offsets for one partition")));
        }
    }
    let (policies, duplicates) = args.outputs.read()?;
    let wanted = Edit { offsets, policies, duplicates };
    let mut session = args.job.open().await?;
    let shifted = session.preview_edit(&wanted).await?;
    if shifted.is_empty() {
        print("every partition stands there already\n");
        return Ok(());
    }
    let mut effect = String::new();
    for shift in &shifted {
        effect = effect + &shift.to_string() + "\n";
    }
    print(&effect);
    session.check_policies(&wanted, &shifted)?;
    if !args.yes {
        return Err(Failure::user(
            "nothing was changed: run it again with --yes to do this (to take rows out of the tables again, use \
             `millrace log rewind`)",
        ));
    }
    match session.edit(&wanted, &reason("edit-offsets")).await? {
        Some(seq) => print(&format!("edited by record {seq}\n")),
        None => print("every partition stands there already\n"),
    }
    Ok(())
}
