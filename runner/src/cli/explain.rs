//! `millrace validate` and `millrace explain`: what can be said of a job without touching Kafka or the store.

use std::process::ExitCode;

use millrace_crds::Job;

use crate::assemble;
use crate::cli::{ManifestArgs, manifest, print};
use crate::failure::Failure;
use crate::queries::SqlQueries;

/// Says whether a manifest is valid.
///
/// # Errors
/// Everything that is wrong with it.
pub fn validate(args: &ManifestArgs) -> Result<ExitCode, Failure> {
    let (job, _) = planned(args)?;
    print(&format!(
        "{} is valid: {} source(s), {} view(s), {} output(s), revision {}\n",
        job.name,
        job.sources.len(),
        job.views.len(),
        job.outputs.len(),
        job.revision
    ));
    Ok(ExitCode::SUCCESS)
}

/// Prints what a job would do.
///
/// # Errors
/// Everything that is wrong with it.
pub fn explain(args: &ManifestArgs) -> Result<ExitCode, Failure> {
    let (_, queries) = planned(args)?;
    print(&queries.get().explain());
    Ok(ExitCode::SUCCESS)
}

fn planned(args: &ManifestArgs) -> Result<(Job, SqlQueries), Failure> {
    let job = manifest::read(&args.manifest)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| Failure::internal(format!("cannot start the runtime: {error}")))?;
    let queries = runtime.block_on(assemble::plan(&job))?;
    Ok((job, queries))
}
