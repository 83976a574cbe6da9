//! Records that are given up.

use millrace_joblog::record::Intents;

use super::*;
use crate::sink::Published;

#[tokio::test]
async fn a_skipped_record_is_exported_and_never_published() {
    let lake = Lake::new();
    let mut runner = lake.runner().await;
    let (seq, staged) = runner.decide(4).await.unwrap();
    let mut command = lake.command().await;
    let export = lake.path("export");
    says(command.skip_publish(&output(), Seq(0), &export, false, "test").await, &["record 0", "numbers_out"]);
    let skipped = command.skip_publish(&output(), seq, &export, false, "test").await.unwrap();
    assert_eq!((skipped.files, skipped.rows, rows_in(&export)), (1, 4, numbers(4)));
    assert_eq!(runner.sink.publish(&staged[0]).await.unwrap(), crate::sink::Published::Missing);
    assert!(command.fold().pending().is_empty() && command.fold().held().is_none());

    runner.catch_up().await;
    assert!(runner.begin(&lake).await);
    let (seq, staged) = runner.decide(2).await.unwrap();
    runner.sink.discard(&staged[0].staged).await.unwrap();
    says(command.skip_publish(&output(), seq, &export, false, "test").await, &["not empty"]);
    let other = lake.path("other");
    says(command.skip_publish(&output(), seq, &other, false, "test").await, &["lost", "--give-up-lost"]);
    assert_eq!(command.skip_publish(&output(), seq, &other, true, "test").await.unwrap().lost.len(), 1);
    assert!(lake.command().await.fold().pending().is_empty());
}

#[tokio::test]
async fn what_of_a_skipped_record_was_published_already_is_taken_back() {
    let lake = Lake::new();
    let mut runner = lake.runner().await;
    let start = runner.log.fold().next().previous().unwrap();
    let (seq, staged) = runner.decide_files(&[2, 3]).await.unwrap();
    runner.sink.publish(&staged[0]).await.unwrap();
    runner.sink.discard(&staged[1].staged).await.unwrap();
    let (mut command, export) = (lake.command().await, lake.path("export"));
    says(command.skip_publish(&output(), seq, &export, false, "test").await, &["lost", "--give-up-lost"]);
    assert_eq!(lake.rows(), numbers(2), "nothing is taken back before it is given up");
    let skipped = command.skip_publish(&output(), seq, &export, true, "test").await.unwrap();
    assert_eq!((skipped.files, skipped.rows, skipped.lost.len(), skipped.taken_back), (1, 2, 1, 1));
    assert_eq!((rows_in(&export), lake.rows()), (numbers(2), Vec::new()));

    // All of it can be had again.
    command.rewind(&back_to(Point::Record(start), Policy::Retract), "test").await.unwrap();
    runner.catch_up().await;
    assert!(runner.begin(&lake).await);
    runner.commit(5).await;
    assert_eq!(lake.rows(), numbers(5));
}

#[tokio::test]
async fn a_published_file_whose_staged_object_is_gone_is_exported_from_the_table() {
    let lake = Lake::new();
    let mut runner = lake.runner().await;
    let (seq, staged) = runner.decide(4).await.unwrap();
    runner.sink.publish(&staged[0]).await.unwrap();
    runner.sink.discard(&staged[0].staged).await.unwrap();
    let export = lake.path("export");
    let skipped = lake.command().await.skip_publish(&output(), seq, &export, false, "test").await.unwrap();
    assert_eq!((skipped.files, skipped.lost.len(), skipped.taken_back), (1, 0, 1));
    assert_eq!((rows_in(&export), lake.rows()), (numbers(4), Vec::new()));
}

#[tokio::test]
async fn a_published_file_that_was_rewritten_stops_the_giving_up_before_anything_is_changed() {
    let lake = Lake::new();
    let mut runner = lake.runner().await;
    let (seq, staged) = runner.decide(4).await.unwrap();
    runner.sink.publish(&staged[0]).await.unwrap();
    let file = lake.path("numbers").join(&staged[0].target);
    std::fs::write(&file, b"compacted").unwrap();
    let (mut command, export) = (lake.command().await, lake.path("export"));
    says(command.skip_publish(&output(), seq, &export, true, "test").await, &["rewritten", "another name"]);
    std::fs::rename(&file, lake.path("mine")).unwrap();
    assert_eq!(command.skip_publish(&output(), seq, &export, false, "test").await.unwrap().rows, 4);
}

#[tokio::test]
async fn a_command_that_died_after_it_took_files_back_is_finished_with_the_same_folder() {
    let lake = Lake::new();
    let mut runner = lake.runner().await;
    let (seq, staged) = runner.decide_files(&[2, 3]).await.unwrap();
    runner.sink.publish(&staged[0]).await.unwrap();
    let export = lake.path("export");
    std::fs::create_dir(&export).unwrap();
    let mut died = lake.command().await;
    died.hold("test").await.unwrap();
    let pending = died.fold().pending_for(&output()).next().unwrap().1.intents.clone();
    let Intents::Parquet { files } = pending else { panic!("files") };
    died.export(&output(), &files, &export).await.unwrap();
    assert_eq!(died.take_back(&output(), &files).await.unwrap(), 1);
    assert_eq!(runner.sink.publish(&staged[1]).await.unwrap(), Published::Missing);

    let mut command = lake.command().await;
    command.release(true).await.unwrap();
    says(command.skip_publish(&output(), seq, &lake.path("other"), false, "test").await, &["lost"]);
    let skipped = command.skip_publish(&output(), seq, &export, false, "test").await.unwrap();
    assert_eq!((skipped.files, skipped.rows, skipped.lost.len(), skipped.taken_back), (2, 5, 0, 0));
    assert_eq!((rows_in(&export), lake.rows()), (numbers(5), Vec::new()));
}
