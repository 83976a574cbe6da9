//! `millrace log skip-publish`: gives up a decided record that cannot be published.

use std::path::PathBuf;

use clap::Args;

use super::{JobArgs, reason};
use crate::cli::{print, say};
use crate::failure::Failure;
use crate::ids::{OutputName, Seq};

/// Arguments of `millrace log skip-publish`.
#[derive(Debug, Args)]
pub(super) struct SkipPublishArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The output.
    output: String,
    /// The record, as `millrace log show` lists it.
    seq: u64,
    /// A new folder on this machine for the Parquet files with the record's rows; after a try that died, the same one.
    #[arg(long, value_name = "DIR")]
    export: PathBuf,
    /// Give the record up although staged files of it are lost and cannot be exported.
    #[arg(long)]
    give_up_lost: bool,
}

pub(super) async fn run(args: SkipPublishArgs) -> Result<(), Failure> {
    let mut session = args.job.open().await?;
    let (output, seq) = (OutputName(args.output), Seq(args.seq));
    let why = reason("skip-publish");
    let skipped = session.skip_publish(&output, seq, &args.export, args.give_up_lost, &why).await?;
    for lost in &skipped.lost {
        say(&format!("lost: {lost}"));
    }
    if skipped.taken_back > 0 {
        say(&format!("{} file(s) of it had been published, and were taken back", skipped.taken_back));
    }
    print(&format!(
        "record {seq} will not be published to '{output}' (record {}); its {} rows are in {} file(s) in {}\n",
        skipped.seq,
        skipped.rows,
        skipped.files,
        skipped.folder.display()
    ));
    Ok(())
}
