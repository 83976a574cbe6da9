#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod server;

use object_store::{ObjectStoreExt, PutMode, PutOptions};
use tempfile::TempDir;

use super::*;
use server::{Server, lake, storage};

/// What a write is told when the server answers it so.
async fn fault_of(status: u16, code: &str) -> StoreFault {
    let server = Server::start().await;
    let (_dir, stores) = server.stores();
    let at = stores.log_store(&lake("t")).unwrap();
    server.script(&[(status, code)]);
    classify(&at.store.put(&at.path("x").unwrap(), "x".into()).await.unwrap_err())
}

#[tokio::test]
async fn the_answers_of_s3_are_told_apart_and_say_what_to_do() {
    for (status, code, kind, advice) in [
        (404, "NoSuchBucket", FaultKind::BucketMissing, "create the bucket"),
        (403, "AccessDenied", FaultKind::Denied, "grant the credentials"),
        (403, "InvalidAccessKeyId", FaultKind::Denied, "the access key is not known"),
        (403, "SignatureDoesNotMatch", FaultKind::Denied, "the secret key does not fit"),
        (400, "ExpiredToken", FaultKind::Denied, "renew the credentials"),
        (403, "RequestTimeTooSkewed", FaultKind::Denied, "clock"),
        (403, "", FaultKind::Denied, "answered 403"),
        (503, "SlowDown", FaultKind::Unavailable, "SlowDown"),
        (503, "XMinioServerNotInitialized", FaultKind::Unavailable, "XMinioServerNotInitialized"),
        (502, "", FaultKind::Unavailable, "answered 502"),
        (507, "XMinioStorageFull", FaultKind::NoSpace, "free some space"),
        (400, "AuthorizationHeaderMalformed", FaultKind::Misconfigured, "storage.s3.region"),
        (301, "PermanentRedirect", FaultKind::Misconfigured, "storage.s3.region"),
        (404, "NoSuchKey", FaultKind::NotFound, "NoSuchKey"),
        (400, "EntityTooLarge", FaultKind::Other, "EntityTooLarge: The words of EntityTooLarge"),
    ] {
        let fault = fault_of(status, code).await;
        assert_eq!(fault.kind, kind, "{status} {code}: {fault}");
        assert!(fault.message.contains(advice), "{status} {code}: {fault}");
        assert!(!fault.message.contains('\n') && !fault.message.contains('<'), "{fault}");
    }
}

#[tokio::test]
async fn a_message_names_the_request_but_no_secret() {
    let fault = fault_of(403, "AccessDenied").await;
    assert!(fault.message.contains("PUT http://127.0.0.1:"), "{fault}");
    assert!(fault.message.contains("/lake/t/x"), "{fault}");
    assert!(!fault.message.contains("secret"), "{fault}");
}

#[tokio::test]
async fn one_key_that_may_not_be_deleted_is_denied() {
    let server = Server::start().await;
    let (_dir, stores) = server.stores();
    let at = stores.log_store(&lake("t")).unwrap();
    server.refuse_delete("t/x");
    let fault = classify(&at.store.delete(&at.path("x").unwrap()).await.unwrap_err());
    assert_eq!(fault.kind, FaultKind::Denied, "{fault}");
}

#[tokio::test]
async fn a_store_that_is_away_is_unavailable() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Server::start().await;
    let (dir, _) = server.stores();
    let stores = Stores::new(storage(&format!("http://127.0.0.1:{port}")), Some(dir.path().to_owned()));
    let at = stores.log_store(&lake("t")).unwrap();
    let fault = classify(&at.store.put(&at.path("x").unwrap(), "x".into()).await.unwrap_err());
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    assert!(fault.message.contains("is the store running"), "{fault}");
}

#[tokio::test]
async fn an_endpoint_without_tls_is_told_from_one_that_is_away() {
    let server = Server::start().await;
    let (dir, _) = server.stores();
    let stores = Stores::new(storage(&server.endpoint().replace("http:", "https:")), Some(dir.path().to_owned()));
    let at = stores.log_store(&lake("t")).unwrap();
    let fault = classify(&at.store.put(&at.path("x").unwrap(), "x".into()).await.unwrap_err());
    assert_eq!(fault.kind, FaultKind::Misconfigured, "{fault}");
    assert!(fault.message.contains("http:// instead of https://"), "{fault}");
}

#[tokio::test]
async fn data_is_retried_and_the_log_is_not() {
    let server = Server::start().await;
    let (_dir, stores) = server.stores();
    let data = stores.data_store(&lake("t")).unwrap();
    server.script(&[(503, "SlowDown"), (503, "")]);
    data.store.put(&data.path("x").unwrap(), "x".into()).await.unwrap();
    assert_eq!(server.requests(), ["PUT", "PUT", "PUT"]);

    let log = stores.log_store(&lake("t")).unwrap();
    for answer in [(503, "SlowDown"), (409, "ConditionalRequestConflict"), (412, "PreconditionFailed")] {
        server.script(&[answer]);
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        log.store.put_opts(&log.path("0").unwrap(), "x".into(), create).await.unwrap_err();
    }
    assert_eq!(server.requests().len(), 6);
}

#[tokio::test]
async fn locations_in_one_bucket_share_a_client() {
    let server = Server::start().await;
    let (_dir, stores) = server.stores();
    let one = stores.data_store(&lake("a")).unwrap();
    let other = stores.data_store(&lake("b/c")).unwrap();
    let log = stores.log_store(&lake("a")).unwrap();
    assert!(Arc::ptr_eq(&one.store, &other.store));
    assert!(!Arc::ptr_eq(&one.store, &log.store));
    assert_eq!(other.path("x=%20/y").unwrap().as_ref(), "b/c/x=%20/y");
    assert_eq!(other.relative(&Path::from("b/c/x")).unwrap(), "x");
    assert_eq!(other.relative(&Path::from("b/cc/x")), None);
}

#[tokio::test]
async fn a_missing_secret_is_named_with_its_file() {
    let dir = TempDir::new().unwrap();
    let stores = Stores::new(storage("http://minio:9000"), Some(dir.path().to_owned()));
    let fault = stores.data_store(&lake("t")).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Misconfigured);
    assert!(fault.message.contains("secret 'minio' has no readable key 'accessKey'"), "{fault}");
    assert!(fault.message.contains("minio/accessKey"), "{fault}");

    let nowhere = Stores::new(storage("http://minio:9000"), None);
    assert!(nowhere.data_store(&lake("t")).unwrap_err().message.contains("--secrets-dir"));
}

#[tokio::test]
async fn keys_are_found_under_their_usual_names() {
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("minio")).unwrap();
    std::fs::write(dir.path().join("minio/AWS_ACCESS_KEY_ID"), "user").unwrap();
    std::fs::write(dir.path().join("minio/rootPassword"), "secret").unwrap();
    let stores = Stores::new(storage("http://minio:9000"), Some(dir.path().to_owned()));
    stores.data_store(&lake("t")).unwrap();
}

#[tokio::test]
async fn an_endpoint_that_is_no_url_is_refused_with_an_example() {
    let server = Server::start().await;
    let (dir, _) = server.stores();
    for endpoint in ["minio:9000", "minio", "ftp://minio:9000", "http://"] {
        let stores = Stores::new(storage(endpoint), Some(dir.path().to_owned()));
        let fault = stores.data_store(&lake("t")).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Misconfigured);
        assert!(fault.message.contains("http://minio:9000"), "{fault}");
    }
}

#[tokio::test]
async fn a_local_location_is_made_when_it_is_missing() {
    let dir = TempDir::new().unwrap();
    let stores = Stores::new(Storage { s3: None }, None);
    let at = stores.data_store(&Location::Local(dir.path().join("a/b"))).unwrap();
    assert!(dir.path().join("a/b").is_dir());
    assert!(at.shown.ends_with("/a/b"));
    at.store.put(&at.path("k=v/x").unwrap(), "x".into()).await.unwrap();
    assert_eq!(std::fs::read(dir.path().join("a/b/k=v/x")).unwrap(), b"x");
}

#[test]
fn an_error_of_the_disk_says_where_and_what_to_do() {
    use std::io::{Error, ErrorKind};
    for (kind, wanted, advice) in [
        (ErrorKind::StorageFull, FaultKind::NoSpace, "free some space"),
        (ErrorKind::QuotaExceeded, FaultKind::NoSpace, "free some space"),
        (ErrorKind::PermissionDenied, FaultKind::Denied, "right to write"),
        (ErrorKind::ReadOnlyFilesystem, FaultKind::Denied, "another path"),
        (ErrorKind::InvalidFilename, FaultKind::Misconfigured, "choose a path"),
    ] {
        let wrapped = object_store::Error::Generic {
            store: "local disk",
            source: Box::new(Error::new(kind, format!("cannot write /lake/x: {kind}"))),
        };
        for fault in [classify(&wrapped), fault::classify_io(&Error::from(kind), "/lake/x")] {
            assert_eq!(fault.kind, wanted, "{fault}");
            assert!(fault.message.contains(advice) && fault.message.contains("/lake/x"), "{fault}");
        }
    }
}
