#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{GetOptions, ObjectStoreExt};
use tempfile::TempDir;

use super::*;
use crate::storage::{FaultKind, classify};

fn store() -> (TempDir, DurableLocal) {
    let dir = TempDir::new().unwrap();
    let store = DurableLocal::open(&dir.path().join("made/when missing")).unwrap();
    (dir, store)
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

async fn read(store: &DurableLocal, name: &str) -> Bytes {
    store.get(&path(name)).await.unwrap().bytes().await.unwrap()
}

async fn names(store: &DurableLocal) -> Vec<String> {
    let mut names: Vec<String> =
        store.list(None).map_ok(|meta| meta.location.to_string()).try_collect::<Vec<_>>().await.unwrap();
    names.sort();
    names
}

#[tokio::test]
async fn a_put_leaves_one_object_and_nothing_else() {
    let (_dir, store) = store();
    store.put(&path("a/b=%20x/c.parquet"), "one".into()).await.unwrap();
    store.put(&path("a/b=%20x/c.parquet"), "two".into()).await.unwrap();
    assert_eq!(names(&store).await, ["a/b=%20x/c.parquet"]);
    assert_eq!(read(&store, "a/b=%20x/c.parquet").await, "two");
}

#[tokio::test]
async fn exactly_one_of_many_creates_wins() {
    let (_dir, store) = store();
    let puts = (0..16).map(|writer| {
        let store = store.clone();
        async move {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            store.put_opts(&path("log/0"), format!("{writer}").into(), options).await
        }
    });
    let results: Vec<_> = futures::stream::iter(puts).buffer_unordered(16).collect().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let lost = results.iter().filter(|result| matches!(result, Err(Error::AlreadyExists { .. }))).count();
    assert_eq!(lost, 15);
    assert_eq!(names(&store).await, ["log/0"]);
}

#[tokio::test]
async fn copying_twice_leaves_no_stray_beside_the_target() {
    let (_dir, store) = store();
    store.put(&path("staged/x"), "rows".into()).await.unwrap();
    for _ in 0..3 {
        store.copy(&path("staged/x"), &path("deep/new/folder/y")).await.unwrap();
    }
    assert_eq!(names(&store).await, ["deep/new/folder/y", "staged/x"]);
    store.delete(&path("staged/x")).await.unwrap();
    assert_eq!(read(&store, "deep/new/folder/y").await, "rows");
}

#[tokio::test]
async fn a_copy_replaces_another_file_and_keeps_the_etag_of_its_source() {
    let (_dir, store) = store();
    store.put(&path("y"), "other".into()).await.unwrap();
    let etag = store.put(&path("x"), "rows".into()).await.unwrap().e_tag;
    store.copy(&path("x"), &path("y")).await.unwrap();
    assert_eq!(read(&store, "y").await, "rows");
    assert!(etag.is_some());
    assert_eq!(store.head(&path("y")).await.unwrap().e_tag, etag);
    let head = GetOptions { head: true, ..GetOptions::default() };
    assert_eq!(store.get_opts(&path("x"), head).await.unwrap().meta.e_tag, etag);
}

#[tokio::test]
async fn copying_a_missing_object_says_that_it_is_missing() {
    let (_dir, store) = store();
    let error = store.copy(&path("nowhere/x"), &path("also/nowhere/y")).await.unwrap_err();
    assert_eq!(classify(&error).kind, FaultKind::NotFound);
    assert_eq!(names(&store).await, Vec::<String>::new());
}

#[tokio::test]
async fn parts_that_finish_in_any_order_make_the_whole() {
    let (_dir, store) = store();
    let mut upload = store.put_multipart(&path("big")).await.unwrap();
    let parts: Vec<_> = ["one ", "two ", "three"].map(|text| upload.put_part(text.into())).into();
    for part in parts.into_iter().rev() {
        part.await.unwrap();
    }
    assert_eq!(store.head(&path("big")).await.map_err(|error| classify(&error).kind), Err(FaultKind::NotFound));
    let etag = upload.complete().await.unwrap().e_tag;
    assert_eq!(read(&store, "big").await, "one two three");
    assert_eq!(store.head(&path("big")).await.unwrap().e_tag, etag);
    assert_eq!(names(&store).await, ["big"]);
}

#[tokio::test]
async fn an_upload_that_misses_a_part_does_not_appear() {
    let (_dir, store) = store();
    let mut upload = store.put_multipart(&path("big")).await.unwrap();
    drop(upload.put_part("never written".into()));
    assert!(upload.complete().await.is_err());
    drop(upload);
    assert_eq!(names(&store).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_upload_given_up_leaves_nothing() {
    let (_dir, store) = store();
    let mut upload = store.put_multipart(&path("big")).await.unwrap();
    upload.put_part("something".into()).await.unwrap();
    upload.abort().await.unwrap();
    assert_eq!(names(&store).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_file_where_a_folder_should_be_is_the_users_to_mend() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    let error = DurableLocal::open(&dir.path().join("file/table")).unwrap_err();
    let fault = crate::storage::fault::classify_io(&error, "file/table");
    assert_eq!(fault.kind, FaultKind::Misconfigured, "{fault}");
    assert!(fault.message.contains("file/table"), "{fault}");
}
