#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

//! Jobs moved by hand, on a local disk: real files, a real log, and a runner whose every step a test decides.

mod destroying;
mod lake;
mod skipping;
mod starting;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millrace_crds::Location;
use millrace_joblog::decide::{self, Permission, Policy, Start};
use millrace_joblog::history::Past;
use millrace_joblog::log::Compose;
use millrace_joblog::record::{Home, RewindTarget};
use millrace_joblog::store::{Fault, Faults, FaultyStore};
use millrace_joblog::{JobLog, Limits};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use self::lake::*;
use super::edit::Edit;
use super::rewind::{Target as Point, Wanted};
use super::{Session, describe, summary::Summary};
use crate::assemble::open_checkpoint;
use crate::commit::{Committer, Identity, Verdict};
use crate::control::Control;
use crate::env::{Env, LogClock};
use crate::failure::Failure;
use crate::ids::{Incarnation, JobUid, Offset, Ordinal, OutputName, Partition, Revision, Seq};
use crate::output::{OutputSlot, Target};
use crate::progress::ProgressHub;
use crate::sink::Sink;
use crate::source::Discovered;
use crate::storage::Stores;

fn back_to(target: Point, policy: Policy) -> Wanted {
    Wanted { target, policies: [(output(), policy)].into(), duplicates: BTreeSet::new(), start: None }
}

fn numbers(to: i64) -> Vec<i64> {
    (0..to).collect()
}

fn says(outcome: Result<impl std::fmt::Debug, Failure>, words: &[&str]) {
    let message = outcome.unwrap_err().message;
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
}

#[tokio::test]
async fn a_rewind_publishes_what_is_decided_deletes_what_came_after_and_the_runner_goes_on_exactly_once() {
    let lake = Lake::new();
    let mut runner = lake.runner().await;
    let kept = runner.commit(10).await;
    runner.commit(5).await;
    let (_, late) = runner.decide(3).await.unwrap();
    assert_eq!(lake.rows(), numbers(15), "three are decided and not published");

    let rewound = lake.command().await.rewind(&back_to(Point::Record(kept), Policy::Retract), "test").await.unwrap();
    assert_eq!((rewound.deleted, lake.rows()), (2, numbers(10)));
    // The runner, which was about to publish, finds nothing to publish: it cannot bring the rows back.
    assert_eq!(runner.sink.publish(&late[0]).await.unwrap(), crate::sink::Published::Missing);
    assert!(runner.decide(1).await.is_none(), "it owns nothing until it claims again");
    runner.catch_up().await;
    assert!(runner.begin(&lake).await);
    runner.commit(8).await;
    assert_eq!(lake.rows(), numbers(18));
    let session = lake.command().await;
    assert!(session.fold().held().is_none() && session.fold().retractions().is_empty());
}

#[tokio::test]
async fn a_file_that_is_gone_or_rewritten_stops_a_rewind_before_anything_is_changed() {
    let lake = Lake::new();
    let mut runner = lake.runner().await;
    let start = runner.commit(10).await;
    runner.commit(5).await;
    let next = lake.command().await.fold().next();
    let file = files(&lake.path("numbers")).into_iter().find(|file| rows_in_file(file) == 5).unwrap();
    std::fs::write(&file, b"compacted").unwrap();
    let wanted = back_to(Point::Record(start), Policy::Retract);
    says(lake.command().await.preview(&wanted).await, &["numbers_out", "rewritten", "newPath"]);
    assert_eq!(lake.command().await.fold().next(), next);
    std::fs::remove_file(&file).unwrap();
    says(lake.command().await.rewind(&wanted, "test").await, &["is gone"]);
    assert!(lake.command().await.fold().held().is_none());
    assert_eq!(lake.command().await.fold().partition(&partition()).unwrap().offset, Offset(15));
}

fn rows_in_file(file: &Path) -> i64 {
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file).unwrap()).unwrap();
    reader.metadata().file_metadata().num_rows()
}

#[tokio::test]
async fn a_rewind_needs_to_know_what_becomes_of_each_output() {
    let lake = Lake::new();
    let mut runner = lake.runner().await;
    let start = runner.commit(10).await;
    runner.commit(5).await;
    let mut command = lake.command().await;
    let next = command.fold().next();
    let none =
        Wanted { target: Point::Record(start), policies: BTreeMap::new(), duplicates: BTreeSet::new(), start: None };
    says(command.preview(&none).await, &["'numbers_out' 1 file(s)", "retract", "newPath", "duplicate"]);
    let duplicate = back_to(Point::Record(start), Policy::Duplicate);
    says(command.preview(&duplicate).await, &["--yes-duplicate numbers_out"]);
    says(command.preview(&back_to(Point::Record(start), Policy::NewPath)).await, &["still has the old path"]);
    let mut unknown = duplicate.clone();
    unknown.policies.insert("numbers".into(), Policy::Retract);
    says(command.preview(&unknown).await, &["no output 'numbers'", "numbers_out"]);
    says(command.preview(&back_to(Point::Record(Seq(99)), Policy::Retract)).await, &["no record 99"]);
    says(command.preview(&back_to(Point::Savepoint("x".into()), Policy::Retract)).await, &["no savepoint", "x"]);
    assert_eq!(command.fold().next(), next, "nothing was written");

    let consented = Wanted { duplicates: [output()].into(), ..duplicate };
    command.rewind(&consented, "test").await.unwrap();
    runner.catch_up().await;
    assert!(runner.begin(&lake).await);
    runner.commit(5).await;
    assert_eq!(lake.rows().len(), 20, "five are there twice, as consented");
}

#[tokio::test]
async fn a_rewind_with_a_new_path_leaves_the_old_table_and_its_old_runner_behind() {
    let lake = Lake::new();
    let mut runner = lake.runner().await;
    let start = runner.log.fold().next().previous().unwrap();
    runner.commit(10).await;
    let moved = lake.job_of(&MANIFEST.replace("LAKE/numbers", "LAKE/again"));
    let mut command = Session::open(moved.clone(), Path::new("secrets"), Env::system()).await.unwrap();
    command.rewind(&back_to(Point::Record(start), Policy::NewPath), "test").await.unwrap();
    runner.catch_up().await;
    assert!(!runner.begin(&lake).await, "the old path is refused");

    let mut second = Runner::of(&moved, Limits::STANDARD).await;
    second.revision = "r2";
    assert_eq!(second.url, lake.path("again").display().to_string());
    assert!(second.begin(&lake).await);
    second.commit(12).await;
    assert_eq!(rows_in(&lake.path("again")), numbers(12));
    assert_eq!(lake.rows(), numbers(10), "the old table keeps what it has");

    // Also when what came since is taken back.
    let rewound = command.rewind(&back_to(Point::Record(start), Policy::Retract), "test").await.unwrap();
    assert_eq!((rewound.deleted, rows_in(&lake.path("again"))), (1, Vec::new()));
    assert_eq!(lake.rows(), numbers(10));
}

#[tokio::test]
async fn a_command_that_died_is_named_released_and_finished_by_the_next() {
    let lake = Lake::new();
    let mut runner = lake.runner().await;
    let start = runner.commit(10).await;
    runner.commit(5).await;
    let mut died = lake.command().await;
    died.hold("rewind by ann").await.unwrap();
    let wanted = back_to(Point::Record(start), Policy::Retract);
    says(lake.command().await.rewind(&wanted, "test").await, &["held by", "rewind by ann", "log release"]);
    let mut freeing = lake.command().await;
    says(freeing.release(false).await, &["rewind by ann"]);
    assert_eq!(freeing.release(true).await.unwrap().unwrap().reason, "rewind by ann");
    assert_eq!(freeing.release(true).await.unwrap(), None);
    // The dead one wakes up: it holds nothing any more, and changes nothing.
    assert!(died.release(false).await.unwrap().is_none());

    // Another dies right after it decided: the files are still there.
    decide_and_die(&lake, start).await;
    assert_eq!(lake.rows(), numbers(15));
    let again = lake.command().await.rewind(&wanted, "test").await.unwrap();
    assert_eq!((again.deleted, lake.rows()), (1, numbers(10)));
    assert!(lake.command().await.fold().retractions().is_empty());
}

/// A command that decides to rewind to `start` with `retract`, and dies before it deletes a file.
async fn decide_and_die(lake: &Lake, start: Seq) {
    let mut died = lake.command().await;
    died.hold("test").await.unwrap();
    let next = died.fold().next();
    let records = died.records(start.next(), next).await.unwrap();
    let target = RewindTarget::Seq(start);
    let past = Past::read(died.fold(), &target, &records).unwrap();
    let request = decide::RewindRequest { target, past, policies: [(output(), Policy::Retract)].into(), start: None };
    let decided = died
        .append(|view| match decide::rewind(view, &request) {
            decide::RewindDecision::Propose(proposal) => Compose::Propose(proposal),
            other => Compose::Decline(other),
        })
        .await;
    assert!(matches!(decided.unwrap(), super::Reply::Won(_)));
}

#[tokio::test]
async fn a_file_rewritten_after_the_rewind_was_decided_is_moved_away_and_the_next_try_goes_through() {
    let lake = Lake::new();
    let mut runner = lake.runner().await;
    let start = runner.commit(10).await;
    runner.commit(5).await;
    decide_and_die(&lake, start).await;
    let file = files(&lake.path("numbers")).into_iter().find(|file| rows_in_file(file) == 5).unwrap();
    std::fs::write(&file, b"compacted").unwrap();
    let wanted = back_to(Point::Record(start), Policy::Retract);
    says(lake.command().await.rewind(&wanted, "test").await, &["rewrote", "another name"]);
    std::fs::rename(&file, lake.path("numbers/mine")).unwrap();
    lake.command().await.rewind(&wanted, "test").await.unwrap();
    assert_eq!(lake.rows(), numbers(10));
    assert!(lake.command().await.fold().retractions().is_empty());
}

#[tokio::test]
async fn a_record_that_an_earlier_call_left_in_flight_is_not_taken_for_this_ones() {
    let lake = Lake::new();
    lake.runner().await;
    let job = lake.job();
    let stores = Arc::new(Stores::new(job.storage.clone(), None));
    let inner = open_checkpoint(&stores, &job.checkpoint).unwrap().store;
    let store = Arc::new(FaultyStore::new(inner, Faults::script([])));
    let (env, incarnation) = (Env::system(), Incarnation(Env::system().uuid()));
    let limits = Limits { max_tries: 1, ..Limits::STANDARD };
    let log = JobLog::open(store.clone(), Arc::new(LogClock(env.clone())), incarnation, limits).await.unwrap();
    let location = lake.path("checkpoint").display().to_string();
    let mut session = Session::on((job, location), (log, incarnation), stores, env);

    store.set_faults(Faults::script([Fault::LostReply]));
    let held = session.log.append(|view| match decide::hold(view, "test", false) {
        decide::HoldDecision::Propose(proposal) => Compose::Propose(proposal),
        other => Compose::Decline(other),
    });
    held.await.unwrap_err();
    store.set_faults(Faults::script([Fault::NotSent]));
    session.release(false).await.unwrap();
    assert!(lake.command().await.fold().held().is_none(), "the hold that arrived is released");
}

#[tokio::test]
async fn a_command_whose_work_let_the_log_go_does_not_mind_who_holds_it_next() {
    let lake = Lake::new();
    lake.runner().await;
    let (mut first, mut second) = (lake.command().await, lake.command().await);
    let outcome: Result<(), Failure> = first
        .while_held("first", async |session| {
            session.release(false).await?;
            second.hold("second").await?;
            Err(Failure::user("the files are away"))
        })
        .await;
    assert_eq!(outcome.unwrap_err().message, "the files are away");
    assert_eq!(lake.command().await.fold().held().unwrap().reason, "second");
}

#[tokio::test]
async fn a_runner_finishes_the_rewind_of_a_command_that_died() {
    let lake = Lake::new();
    let mut first = lake.runner().await;
    let start = first.commit(10).await;
    first.commit(5).await;
    decide_and_die(&lake, start).await;

    let Runner { log, sink, url, incarnation, .. } = Runner::open(&lake).await;
    let identity = Identity {
        incarnation,
        ordinal: Ordinal(0),
        pod: None,
        revision: Revision("r1".to_owned()),
        start: Start {
            home: Home { place: "here:job.yaml".to_owned(), kubernetes_uid: None },
            location: lake.path("checkpoint").display().to_string(),
            fresh_job: JobUid(uuid::Uuid::new_v4()),
            permission: Permission::None,
        },
        outputs: [(output(), url.clone())].into(),
        accept_moved_outputs: false,
        begins: None,
    };
    let schema = Arc::new(arrow::datatypes::Schema::empty());
    let target = Target::Files { sink: Arc::new(sink), url };
    let outputs = Arc::new(vec![OutputSlot { name: output().to_string(), schema, target }]);
    let hub = Arc::new(ProgressHub::new("numbers", "r1", 0, &incarnation.to_string(), Duration::from_secs(60)));
    let mut committer = Committer::new(Env::system(), hub, log, identity, outputs);
    let wanted = Control { generation: None, revision: Revision("r1".to_owned()), parallelism: 1 };
    let discovered = [Discovered { partition: partition(), topic_id: None }];
    assert_eq!(committer.claim(&discovered, BTreeMap::new(), &wanted).await.unwrap(), Verdict::Fine);
    assert_eq!(committer.tick().await.unwrap(), Verdict::Fine);
    assert_eq!(lake.rows(), numbers(10));
    assert!(lake.command().await.fold().retractions().is_empty());
}

#[tokio::test]
async fn a_time_stands_for_the_last_record_written_until_then() {
    let lake = Lake::new();
    let mut runner = lake.runner().await;
    let start = runner.commit(10).await;
    let mut command = lake.command().await;
    let at = command.records(start, start.next()).await.unwrap()[0].1.entries[0].at;
    while millrace_joblog::Clock::now(&LogClock(Env::system())).0 <= at.0 + 5 {
        tokio::task::yield_now().await;
    }
    let after = millrace_joblog::Clock::now(&LogClock(Env::system()));
    while millrace_joblog::Clock::now(&LogClock(Env::system())) <= after {
        tokio::task::yield_now().await;
    }
    runner.commit(5).await;
    let effect = command.preview(&back_to(Point::Time(after), Policy::Retract)).await.unwrap();
    assert_eq!(effect.moves, [(partition(), (Offset(15), Offset(10)))].into());
    let long_ago = millrace_joblog::Millis(0);
    says(command.preview(&back_to(Point::Time(long_ago), Policy::Retract)).await, &["no record as old as 1970"]);
}

#[tokio::test]
async fn edited_offsets_are_where_the_runner_goes_on() {
    let lake = Lake::new();
    let mut runner = lake.runner().await;
    runner.commit(10).await;
    runner.decide(2).await.unwrap();
    let mut command = lake.command().await;
    let shift = |partition, offset| Edit { offsets: BTreeMap::from([(partition, Offset(offset))]), ..Edit::default() };
    let to = |offset| shift(partition(), offset);
    let stranger = shift(Partition::new("numbers", "numbers", 7), 3);
    says(command.preview_edit(&stranger).await, &["numbers/numbers/7", "numbers/numbers/0"]);
    says(command.preview_edit(&to(-1)).await, &["0 or higher"]);
    assert_eq!(command.preview_edit(&to(12)).await.unwrap(), []);
    assert_eq!(command.preview_edit(&to(20)).await.unwrap().len(), 1);
    assert!(command.edit(&to(20), "test").await.unwrap().is_some());
    assert_eq!(command.edit(&to(20), "test").await.unwrap(), None);
    assert!(command.fold().held().is_none());
    runner.catch_up().await;
    assert!(runner.begin(&lake).await);
    runner.commit(1).await;
    let expected: Vec<i64> = (0..12).chain([20]).collect();
    assert_eq!(lake.rows(), expected);

    // Back: what is read again is there already.
    let output = OutputName::from("numbers_out");
    let with = |policy| Edit { policies: BTreeMap::from([(output.clone(), policy)]), ..to(20) };
    says(command.edit(&to(20), "test").await, &["numbers_out", "NAME=newPath"]);
    says(command.edit(&with(Policy::Retract), "test").await, &["log rewind"]);
    says(command.edit(&with(Policy::NewPath), "test").await, &["old path"]);
    says(command.edit(&with(Policy::Duplicate), "test").await, &["--yes-duplicate numbers_out"]);
    let consent = Edit { duplicates: BTreeSet::from([output.clone()]), ..with(Policy::Duplicate) };
    assert!(command.edit(&consent, "test").await.unwrap().is_some());
    runner.catch_up().await;
    assert!(runner.begin(&lake).await);
    runner.commit(1).await;
    let expected: Vec<i64> = (0..12).chain([20, 20]).collect();
    assert_eq!(lake.rows(), expected);
}

#[tokio::test]
async fn a_copied_checkpoint_can_be_looked_at_and_not_changed() {
    let lake = Lake::new();
    lake.runner().await.commit(10).await;
    std::fs::rename(lake.path("checkpoint"), lake.path("elsewhere")).unwrap();
    let mut job = lake.job();
    job.checkpoint = Location::Local(lake.path("elsewhere"));
    let mut copy = Session::open(job, Path::new("secrets"), Env::system()).await.unwrap();
    assert!(Summary::of(copy.fold(), &copy.location).is_some());
    says(copy.preview(&back_to(Point::Record(Seq(0)), Policy::Retract)).await, &["is a copy of", "--take-over"]);
    says(copy.destroy(false, "test").await, &["is a copy of"]);
    says(copy.own(), &["is a copy of"]);
    let edit = Edit { offsets: [(partition(), Offset(20))].into(), ..Edit::default() };
    says(copy.preview_edit(&edit).await, &["is a copy of"]);
    says(copy.edit(&edit, "test").await, &["is a copy of"]);
    says(copy.rewind(&back_to(Point::Record(Seq(0)), Policy::Retract), "test").await, &["is a copy of"]);
    let export = lake.path("export");
    says(copy.skip_publish(&output(), Seq(1), &export, false, "test").await, &["is a copy of"]);
    assert!(!export.exists() && copy.fold().held().is_none());
}

#[tokio::test]
async fn a_look_at_the_log_tells_where_the_job_stands_and_how_it_came_there() {
    let lake = Lake::new();
    let mut runner = lake.runner().await;
    runner.commit(10).await;
    let (pending, _) = runner.decide(3).await.unwrap();
    let mut command = lake.command().await;
    let lines: Vec<String> = {
        let next = command.fold().next();
        let records = command.records(Seq(0), next).await.unwrap();
        records.iter().map(|(seq, slot)| describe::line(*seq, slot)).collect()
    };
    assert_eq!(lines.len(), 4);
    for (line, words) in lines.iter().zip(["init+term+claim", "[0,10)", "published numbers_out of 1", "[10,13)"]) {
        assert!(line.contains(words), "{line}");
    }
    let summary = Summary::of(command.fold(), &command.location).unwrap();
    assert_eq!(summary.outputs[&output()].pending, [pending]);
    let text = summary.to_string();
    for words in ["here:job.yaml", "numbers/numbers/0  next 13", "numbers_out  13 rows", "read        13 rows, 0 bad"] {
        assert!(text.contains(words), "{text}");
    }
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!(json["partitions"]["numbers/numbers/0"]["offset"], 13);
}
