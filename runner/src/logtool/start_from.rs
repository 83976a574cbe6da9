//! A spec that begins at a savepoint: the job goes back to it once, before the spec's first term.

use std::path::Path;

use millrace_crds::contract::FailureClass;
use millrace_crds::{Job, SincePolicy, StartFrom as StartFromSpec};
use millrace_joblog::decide::{Policy, WantedStart, is_start_due};
use millrace_joblog::fold::HoldState;
use millrace_joblog::record::{StartFrom, StartPoint};

use super::Session;
use super::hold::HELD;
use super::rewind::{Target, Wanted};
use crate::env::Env;
use crate::failure::Failure;
use crate::ids::{Generation, OutputName, Revision};

/// What the holds of starts begin with. A runner that dies in the middle is followed by another one, which goes on.
const STARTING: &str = "startFrom ";

/// The start that a job's spec asks for, if it does.
pub fn wanted_start(job: &Job, revision: &Revision, generation: Option<Generation>) -> Option<WantedStart> {
    let StartFromSpec { savepoint, nonce, .. } = job.start_from.as_ref()?;
    let point = StartPoint { savepoint: savepoint.clone(), nonce: *nonce };
    Some(WantedStart { start: StartFrom { point, revision: revision.clone() }, generation })
}

/// Checks a start that is due, without changing anything: the savepoint is there, and every output that got rows since has a
/// policy that can be followed.
///
/// # Errors
/// What is wrong with it.
pub async fn check(job: &Job, start: WantedStart, secrets_dir: &Path, env: Env) -> Result<(), Failure> {
    let mut session = Session::open(job.clone(), secrets_dir, env).await.map_err(of_start)?;
    if !is_start_due(session.fold(), &start) {
        return Ok(());
    }
    session.preview(&wanted(job, start)).await.map(drop).map_err(of_start)
}

/// Brings the job back to where its spec says that it begins, if that is still due.
///
/// # Errors
/// As [`check`]; external while a command holds the log, or another runner is at it.
pub async fn carry_out(job: &Job, start: WantedStart, secrets_dir: &Path, env: Env) -> Result<(), Failure> {
    let mut session = Session::open(job.clone(), secrets_dir, env).await.map_err(of_start)?;
    if !is_start_due(session.fold(), &start) {
        return Ok(());
    }
    let reason = format!("{STARTING}{}", start.start.point.savepoint);
    let wanted = wanted(job, start.clone());
    let rewound = session.rewind_over(&wanted, &reason, is_start).await;
    match rewound {
        Ok(rewound) => {
            tracing::info!(seq = %rewound.seq, savepoint = start.start.point.savepoint, "the job begins at the savepoint");
            Ok(())
        }
        Err(failure) => {
            session.catch_up().await?;
            if is_start_due(session.fold(), &start) { Err(of_start(failure)) } else { Ok(()) }
        }
    }
}

fn is_start(hold: &HoldState) -> bool {
    hold.reason.starts_with(STARTING)
}

fn wanted(job: &Job, start: WantedStart) -> Wanted {
    let outputs = job.start_from.iter().flat_map(|start| &start.outputs);
    let policies = outputs.map(|(output, policy)| {
        let policy = match policy {
            SincePolicy::Retract => Policy::Retract,
            SincePolicy::NewPath => Policy::NewPath,
            SincePolicy::Duplicate => Policy::Duplicate,
        };
        (OutputName(output.clone()), policy)
    });
    let policies: std::collections::BTreeMap<_, _> = policies.collect();
    // Who wrote the word into the spec has consented to it.
    let duplicates = policies.iter().filter(|(_, policy)| **policy == Policy::Duplicate);
    let duplicates = duplicates.map(|(output, _)| output.clone()).collect();
    let target = Target::Savepoint(start.start.point.savepoint.clone());
    Wanted { target, policies, duplicates, start: Some(start) }
}

fn of_start(failure: Failure) -> Failure {
    // A person's command, or another runner that is at the same: it ends.
    let class = if failure.reason == HELD { FailureClass::External } else { failure.class };
    Failure { class, message: format!("spec.startFrom: {}", failure.message), ..failure }
}
