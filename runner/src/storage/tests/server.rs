//! A tiny S3 server: enough of the protocol for the client, scripted answers, and a record of every request.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use millrace_crds::{Location, S3, S3Credentials, SecretRef, Storage};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::storage::Stores;

/// A running server; it ends with the runtime of its test.
#[derive(Clone)]
pub(crate) struct Server {
    inner: Arc<Mutex<Inner>>,
    endpoint: String,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Object>,
    uploads: HashMap<String, BTreeMap<usize, Bytes>>,
    requests: Vec<String>,
    script: VecDeque<(u16, String)>,
}

#[derive(Clone, Default)]
struct Object {
    bytes: Bytes,
    metadata: Vec<(String, String)>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { inner: Arc::default(), endpoint };
        let app = axum::Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        server
    }

    /// The next requests get these answers: status and the XML of an error with this code, or an empty body.
    pub(crate) fn script(&self, answers: &[(u16, &str)]) {
        for (status, code) in answers {
            let xml = if code.is_empty() {
                String::new()
            } else {
                format!(
                    "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>The words of {code}.</Message></Error>"
                )
            };
            self.lock().script.push_back((*status, xml));
        }
    }

    /// The next request, a delete, is told that `key` may not be deleted.
    pub(crate) fn refuse_delete(&self, key: &str) {
        let error = format!("<Error><Key>{key}</Key><Code>AccessDenied</Code><Message>no</Message></Error>");
        self.lock().script.push_back((200, format!("<DeleteResult>{error}</DeleteResult>")));
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Every request so far, as `PUT`, `COPY`, `DELETE`, `HEAD`, `GET`, `LIST`, `START`, `PART` or `COMPLETE`.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }

    pub(crate) fn objects(&self) -> Vec<String> {
        self.lock().objects.keys().cloned().collect()
    }

    /// Stores that use the server with keys from a folder of secrets.
    pub(crate) fn stores(&self) -> (TempDir, Stores) {
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("minio")).unwrap();
        std::fs::write(dir.path().join("minio/accessKey"), "user\n").unwrap();
        std::fs::write(dir.path().join("minio/secretKey"), "secret\n").unwrap();
        let stores = Stores::new(storage(&self.endpoint), Some(dir.path().to_owned()));
        (dir, stores)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

pub(crate) fn storage(endpoint: &str) -> Storage {
    let secret = |key: &str| SecretRef { name: "minio".to_owned(), key: key.to_owned() };
    Storage {
        s3: Some(S3 {
            endpoint: Some(endpoint.to_owned()),
            region: None,
            credentials_secret: Some(S3Credentials {
                access_key_id: secret("accessKey"),
                secret_access_key: secret("secretKey"),
                session_token: None,
            }),
            ca_secret: None,
            force_path_style: true,
        }),
    }
}

pub(crate) fn lake(prefix: &str) -> Location {
    Location::S3 { bucket: "lake".to_owned(), prefix: prefix.to_owned() }
}

async fn answer(
    State(server): State<Server>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let query = uri.query().unwrap_or_default().to_owned();
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let path = uri.path().to_owned();
    let mut inner = server.lock();
    let name = match method.as_str() {
        "PUT" if header("x-amz-copy-source").is_some() => "COPY",
        "PUT" if has("partNumber") => "PART",
        "POST" if has("delete") => "DELETE",
        "POST" if has("uploads") => "START",
        "POST" => "COMPLETE",
        "GET" if has("list-type") => "LIST",
        other => other,
    };
    inner.requests.push(name.to_owned());
    if let Some((status, xml)) = inner.script.pop_front() {
        return reply(status, xml);
    }
    match name {
        "PUT" => {
            let metadata = headers.iter().filter(|(name, _)| name.as_str().starts_with("x-amz-meta-"));
            let metadata =
                metadata.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
            inner.objects.insert(path, Object { bytes: body, metadata });
            with_etag("\"put\"")
        }
        "COPY" => {
            let source = format!("/{}", header("x-amz-copy-source").unwrap().trim_start_matches('/'));
            match inner.objects.get(&source).cloned() {
                Some(object) => {
                    inner.objects.insert(path, object);
                    reply(200, "<CopyObjectResult><ETag>\"copy\"</ETag></CopyObjectResult>".to_owned())
                }
                None => reply(404, "<Error><Code>NoSuchKey</Code><Message>none</Message></Error>".to_owned()),
            }
        }
        "START" => {
            inner.uploads.insert(path, BTreeMap::new());
            reply(
                200,
                "<InitiateMultipartUploadResult><UploadId>up</UploadId></InitiateMultipartUploadResult>".to_owned(),
            )
        }
        "PART" => {
            let number = query.split('&').find_map(|pair| pair.strip_prefix("partNumber=")).unwrap().parse().unwrap();
            inner.uploads.get_mut(&path).unwrap().insert(number, body);
            with_etag("\"part\"")
        }
        "COMPLETE" => {
            let parts = inner.uploads.remove(&path).unwrap();
            let bytes = Bytes::from(parts.into_values().flatten().collect::<Vec<u8>>());
            inner.objects.insert(path, Object { bytes, metadata: Vec::new() });
            reply(
                200,
                "<CompleteMultipartUploadResult><ETag>\"whole-2\"</ETag></CompleteMultipartUploadResult>".to_owned(),
            )
        }
        "DELETE" => {
            let text = String::from_utf8(body.to_vec()).unwrap();
            let mut deleted = String::new();
            for key in text.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap()) {
                inner.objects.remove(&format!("/lake/{key}"));
                deleted.push_str(&format!("<Deleted><Key>{key}</Key></Deleted>"));
            }
            reply(200, format!("<DeleteResult>{deleted}</DeleteResult>"))
        }
        "HEAD" | "GET" => match inner.objects.get(&path) {
            Some(object) => {
                let mut response = Response::builder()
                    .header("etag", "\"put\"")
                    .header("last-modified", "Wed, 21 Oct 2015 07:28:00 GMT")
                    .header("content-length", object.bytes.len());
                for (name, value) in &object.metadata {
                    response = response.header(name, value);
                }
                let body = if name == "GET" { Body::from(object.bytes.clone()) } else { Body::empty() };
                response.body(body).unwrap()
            }
            None => reply(404, String::new()),
        },
        _ => reply(400, String::new()),
    }
}

fn reply(status: u16, xml: String) -> Response<Body> {
    let status = StatusCode::from_u16(status).unwrap();
    Response::builder().status(status).header("etag", "\"any\"").body(Body::from(xml)).unwrap()
}

fn with_etag(etag: &str) -> Response<Body> {
    Response::builder().header("etag", etag).body(Body::empty()).unwrap()
}
