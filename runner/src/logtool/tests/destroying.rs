//! Jobs that end.

use millrace_joblog::log::Maintained;

use super::super::destroy::{DESTRUCTION, STEPS, Step, delete, delete_step, is_destruction, keys};
use super::*;

/// Small enough that a few records are sealed.
const SMALL: Limits = Limits { segment_slots: 4, snapshot_every: 4, keep_segments: 0, ..Limits::STANDARD };

#[tokio::test]
async fn a_destroyed_job_leaves_its_tables_and_nothing_else() {
    let lake = Lake::new();
    let mut runner = lake.runner().await;
    runner.commit(10).await;
    runner.decide(3).await.unwrap();
    std::fs::write(lake.path("checkpoint/log/00000000000000000099.json.bak"), b"litter").unwrap();
    let destroyed = lake.command().await.destroy(false, "test").await.unwrap();
    assert_eq!((destroyed.published, destroyed.left.len()), (1, 0), "{destroyed:?}");
    assert_eq!(lake.rows(), numbers(13));
    assert!(!lake.path("checkpoint").exists() && !lake.path("numbers/_millrace").exists());
    let nothing = Session::open(lake.job(), Path::new("secrets"), Env::system()).await;
    says(nothing.map(drop), &["no job log at"]);
    assert!(!lake.path("checkpoint").exists(), "looking creates nothing");
}

#[tokio::test]
async fn a_destruction_that_died_half_way_is_finished_and_what_is_not_ours_stays() {
    let lake = Lake::new();
    lake.runner().await.commit(10).await;
    std::fs::remove_file(lake.path("checkpoint/log/00000000000000000000.json")).unwrap();
    std::fs::write(lake.path("checkpoint/notes.txt"), b"mine").unwrap();
    let mut half = Session::open_any(lake.job(), Path::new("secrets"), Env::system()).await.unwrap();
    let destroyed = half.destroy(false, "test").await.unwrap();
    assert_eq!(destroyed.left, ["notes.txt"]);
    assert_eq!(files(&lake.path("checkpoint")), [lake.path("checkpoint/notes.txt")]);
}

async fn small_command(lake: &Lake) -> Session {
    let (job, env) = (lake.job(), Env::system());
    let stores = Arc::new(Stores::new(job.storage.clone(), None));
    let store = open_checkpoint(&stores, &job.checkpoint).unwrap().store;
    let incarnation = Incarnation(env.uuid());
    let log = JobLog::open(store, Arc::new(LogClock(env.clone())), incarnation, SMALL).await.unwrap();
    Session::on((job, lake.path("checkpoint").display().to_string()), (log, incarnation), stores, env)
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let copied = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(copied.parent().unwrap()).unwrap();
        std::fs::copy(&file, copied).unwrap();
    }
}

#[tokio::test]
async fn a_destruction_can_be_run_again_wherever_it_died_also_on_a_log_with_seals() {
    let lake = Lake::new();
    let mut runner = Runner::of(&lake.job(), SMALL).await;
    assert!(runner.begin(&lake).await);
    for _ in 0..8 {
        runner.commit(1).await;
        assert!(matches!(runner.log.maintain().await.unwrap(), Maintained::Done { .. }));
    }
    let (checkpoint, saved) = (lake.path("checkpoint"), lake.path("saved"));
    runner.commit(1).await;
    let there = ["sealed", "snapshots", "log"].map(|below| files(&checkpoint.join(below)).len());
    assert!(there.iter().all(|objects| *objects > 1), "{there:?}");
    assert!(!lake.path("checkpoint/log/00000000000000000000.json").exists());
    copy(&checkpoint, &saved);

    for done in 0..=STEPS.len() {
        let _ = std::fs::remove_dir_all(&checkpoint);
        copy(&saved, &checkpoint);
        let mut died = small_command(&lake).await;
        died.hold_over(&format!("{DESTRUCTION}test"), is_destruction).await.unwrap();
        let at = died.stores.data_store(&died.job.checkpoint).unwrap();
        for step in &STEPS[..done] {
            delete_step(&at, *step).await.unwrap();
        }
        // The next step was half done.
        let half = match STEPS.get(done) {
            Some(Step::Folder(folder)) => keys(&at, folder).await.unwrap().into_iter().step_by(2).collect(),
            Some(Step::OldestFirst(folder)) => keys(&at, folder).await.unwrap().into_iter().take(1).collect(),
            Some(Step::FirstSlot) | None => Vec::new(),
        };
        delete(&at, half).await.unwrap();
        let destroyed = small_command(&lake).await.destroy(false, "again").await;
        assert_eq!(destroyed.unwrap().left, Vec::<String>::new(), "after {done} steps");
        assert!(!checkpoint.exists(), "after {done} steps");
    }
    assert_eq!(lake.rows(), numbers(9));
}

#[tokio::test]
async fn a_destruction_that_died_is_taken_over_and_nothing_else_is_done_meanwhile() {
    let lake = Lake::new();
    let mut runner = lake.runner().await;
    let start = runner.commit(10).await;
    let (_, staged) = runner.decide(3).await.unwrap();
    runner.sink.discard(&staged[0].staged).await.unwrap();
    // One that has deleted nothing yet lets the job go on.
    says(lake.command().await.destroy(false, "ann").await, &["lost", "--abandon-unpublished"]);
    assert!(lake.command().await.fold().held().is_none());

    let mut died = lake.command().await;
    died.hold_over(&format!("{DESTRUCTION}ann"), is_destruction).await.unwrap();
    let wanted = back_to(Point::Record(start), Policy::Retract);
    says(lake.command().await.rewind(&wanted, "test").await, &["held by", "being destroyed: ann"]);
    says(lake.command().await.destroy(false, "bob").await, &["--abandon-unpublished", "stays held", "log destroy"]);
    assert_eq!(lake.command().await.fold().held().unwrap().reason, format!("{DESTRUCTION}bob"));
    lake.command().await.destroy(true, "bob").await.unwrap();
    assert!(!lake.path("checkpoint").exists());

    // What is no destruction is not taken over.
    let lake = Lake::new();
    lake.runner().await;
    lake.command().await.hold("rewind by ann").await.unwrap();
    says(lake.command().await.destroy(false, "bob").await, &["held by", "rewind by ann"]);
}

#[tokio::test]
async fn an_object_that_somebody_else_deleted_does_not_keep_the_others() {
    let lake = Lake::new();
    lake.runner().await.commit(10).await;
    let command = lake.command().await;
    let at = command.stores.data_store(&command.job.checkpoint).unwrap();
    let log = keys(&at, "log").await.unwrap();
    std::fs::remove_file(lake.path("checkpoint/log/00000000000000000000.json")).unwrap();
    assert_eq!(delete(&at, log.clone()).await.unwrap(), log.len() - 1);
    assert_eq!(files(&lake.path("checkpoint/log")), Vec::<std::path::PathBuf>::new());
}
