//! Specs that begin at a savepoint.

use millrace_crds::Job;
use millrace_crds::contract::FailureClass;

use super::*;
use crate::logtool::Reply;
use crate::logtool::start_from::{carry_out, check, wanted_start};

fn job(lake: &Lake, start: &str) -> Job {
    lake.job_of(&format!("{MANIFEST}  startFrom: {start}\n"))
}

fn fixed() -> Revision {
    Revision("fixed".to_owned())
}

async fn checked(job: &Job) -> Result<(), Failure> {
    let start = wanted_start(job, &fixed(), None).unwrap();
    check(job, start, Path::new("secrets"), Env::system()).await
}

async fn carried_out(job: &Job) -> Result<(), Failure> {
    let start = wanted_start(job, &fixed(), None).unwrap();
    carry_out(job, start, Path::new("secrets"), Env::system()).await
}

const RETRACT: &str = "{savepoint: before, outputs: [{name: numbers_out, policy: retract}]}";

/// Ten numbers, a savepoint, and five more.
async fn saved(lake: &Lake) -> Runner {
    let mut runner = lake.runner().await;
    runner.commit(10).await;
    let mut command = lake.command().await;
    let saved = command.append(|view| match decide::savepoint(view, "before") {
        decide::SavepointDecision::Propose(proposal) => Compose::Propose(proposal),
        other => Compose::Decline(other),
    });
    assert!(matches!(saved.await.unwrap(), Reply::Won(_)));
    runner.catch_up().await;
    runner.commit(5).await;
    runner
}

#[tokio::test]
async fn a_spec_takes_the_job_back_once_and_the_revision_before_waits_for_it() {
    let lake = Lake::new();
    let mut runner = saved(&lake).await;
    let job = job(&lake, RETRACT);
    checked(&job).await.unwrap();
    assert_eq!(lake.rows(), numbers(15), "a check changes nothing");
    carried_out(&job).await.unwrap();
    assert_eq!(lake.rows(), numbers(10));
    runner.catch_up().await;
    assert!(!runner.begin(&lake).await, "the rows from there on are the next revision's");

    let mut next = Runner::open(&lake).await;
    next.revision = "fixed";
    assert!(next.begin(&lake).await);
    next.commit(6).await;
    carried_out(&job).await.unwrap();
    let edited = wanted_start(&job, &Revision("edited".to_owned()), None).unwrap();
    carry_out(&job, edited, Path::new("secrets"), Env::system()).await.unwrap();
    assert_eq!(lake.rows(), numbers(16), "a spec that is edited later keeps its startFrom");
}

#[tokio::test]
async fn a_start_that_cannot_be_says_what_is_missing_in_the_spec() {
    let lake = Lake::new();
    let empty = checked(&job(&lake, RETRACT)).await;
    says(empty, &["spec.startFrom", "there is no job log"]);
    saved(&lake).await;
    says(checked(&job(&lake, "{savepoint: other}")).await, &["spec.startFrom", "other"]);
    let silent = carried_out(&job(&lake, "{savepoint: before}")).await;
    says(silent, &["spec.startFrom", "'numbers_out' 1 file(s)", "startFrom.outputs: [{name: NAME, policy: POLICY}]"]);
    let moved = checked(&job(&lake, "{savepoint: before, outputs: [{name: numbers_out, policy: newPath}]}")).await;
    says(moved, &["spec.startFrom", "the manifest still has the old path"]);
    assert!(lake.command().await.fold().held().is_none());
    assert_eq!(lake.rows(), numbers(15));
}

#[tokio::test]
async fn a_start_goes_on_where_a_runner_died_and_waits_for_a_person() {
    let lake = Lake::new();
    saved(&lake).await;
    let job = job(&lake, RETRACT);
    let mut person = lake.command().await;
    person.hold("ann looks at it").await.unwrap();
    let held = carried_out(&job).await.unwrap_err();
    assert_eq!((held.class, held.message.contains("ann looks at it")), (FailureClass::External, true));
    person.release(false).await.unwrap();
    lake.command().await.hold("startFrom before").await.unwrap();
    carried_out(&job).await.unwrap();
    assert_eq!(lake.rows(), numbers(10));
    assert!(lake.command().await.fold().held().is_none());
}
