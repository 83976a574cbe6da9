//! Where bytes are kept: turns the manifest's locations into object stores, one client per bucket and purpose.

pub mod fault;
pub mod local;
mod secrets;

use std::collections::HashMap;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millrace_crds::{Location, S3, Storage};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};

pub use fault::{FaultKind, StoreFault, classify};
use local::DurableLocal;
use secrets::SecretCredentials;

/// A store and the folder in it that a location names.
#[derive(Debug, Clone)]
pub struct StoreAt {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The location's folder within the store; empty for a local path, whose store is rooted there.
    pub prefix: Path,
    /// The location as the user knows it, for messages: `s3://bucket/folder` or an absolute path.
    pub shown: String,
}

impl StoreAt {
    /// The store's path of `relative`, which is below the location and already escaped (nothing in it is escaped
    /// again). Fails if a segment is empty, `.`, `..` or holds control characters.
    pub fn path(&self, relative: &str) -> Result<Path, StoreFault> {
        let whole = if self.prefix.as_ref().is_empty() {
            relative.to_owned()
        } else {
            format!("{}/{relative}", self.prefix.as_ref())
        };
        Path::parse(&whole).map_err(|error| StoreFault {
            kind: FaultKind::Misconfigured,
            message: format!("'{whole}' cannot be the name of an object: {error}"),
        })
    }

    /// What `path` is called relative to the location; `None` if it is not below it.
    pub fn relative(&self, path: &Path) -> Option<String> {
        let prefix = self.prefix.as_ref();
        if prefix.is_empty() {
            return Some(path.as_ref().to_owned());
        }
        path.as_ref().strip_prefix(prefix)?.strip_prefix('/').map(str::to_owned)
    }
}

/// What a client is for, which decides how it retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Purpose {
    /// Data: immutable, uniquely named objects, so that the library may retry.
    Data,
    /// The job log: the protocol owns every retry.
    Log,
}

/// Makes and keeps the stores of one job: locations in one bucket share one client and its connections.
#[derive(Debug)]
pub struct Stores {
    storage: Storage,
    secrets_dir: Option<PathBuf>,
    buckets: Mutex<HashMap<(Purpose, String), Arc<dyn ObjectStore>>>,
}

impl Stores {
    /// Stores by the manifest's `storage`; secrets are read from `<secrets_dir>/<name>/<key>`.
    pub fn new(storage: Storage, secrets_dir: Option<PathBuf>) -> Self {
        Self { storage, secrets_dir, buckets: Mutex::new(HashMap::new()) }
    }

    /// The store of a data location. Its requests are retried for about 10 seconds and then fail, so that an outage
    /// surfaces as [`FaultKind::Unavailable`]. Creates a local folder when it is missing; sends no request.
    pub fn data_store(&self, location: &Location) -> Result<StoreAt, StoreFault> {
        self.open(location, Purpose::Data)
    }

    /// The store of a job log: like [`Stores::data_store`] but it never retries and gives a request 5 seconds, because
    /// a retried conditional create cannot be told from a lost race.
    pub fn log_store(&self, location: &Location) -> Result<StoreAt, StoreFault> {
        self.open(location, Purpose::Log)
    }

    fn open(&self, location: &Location, purpose: Purpose) -> Result<StoreAt, StoreFault> {
        match location {
            Location::Local(path) => open_local(path),
            Location::S3 { bucket, prefix } => {
                let prefix = Path::parse(prefix).map_err(|error| StoreFault {
                    kind: FaultKind::Misconfigured,
                    message: format!("the location {location} is not valid: {error}"),
                })?;
                let store = self.bucket(bucket, purpose)?;
                Ok(StoreAt { store, prefix, shown: location.to_string() })
            }
        }
    }

    fn bucket(&self, bucket: &str, purpose: Purpose) -> Result<Arc<dyn ObjectStore>, StoreFault> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (purpose, bucket.to_owned());
        if let Some(store) = buckets.get(&key) {
            return Ok(Arc::clone(store));
        }
        let store = self.connect(bucket, purpose)?;
        buckets.insert(key, Arc::clone(&store));
        Ok(store)
    }

    /// A client of `bucket`. What the manifest says goes before the environment.
    fn connect(&self, bucket: &str, purpose: Purpose) -> Result<Arc<dyn ObjectStore>, StoreFault> {
        let mut options = client_options(purpose);
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retries(purpose));
        if let Some(s3) = &self.storage.s3 {
            builder = address(builder, s3, bucket)?;
            if let Some(region) = &s3.region {
                builder = builder.with_region(region);
            }
            if let Some(keys) = &s3.credentials_secret {
                let credentials = SecretCredentials::new(keys.clone(), self.secrets_dir.clone());
                credentials.read()?;
                builder = builder.with_credentials(Arc::new(credentials));
            }
            if let Some(ca) = &s3.ca_secret {
                let pem = secrets::read_secret(self.secrets_dir.as_deref(), ca)?;
                let certificates =
                    Certificate::from_pem_bundle(&pem).map_err(|error| secrets::not_a_certificate(ca, &error))?;
                if certificates.is_empty() {
                    return Err(secrets::not_a_certificate(ca, &"there is none in it"));
                }
                options = certificates.into_iter().fold(options, ClientOptions::with_root_certificate);
            }
        }
        let store = builder.with_client_options(options).build().map_err(|error| StoreFault {
            kind: FaultKind::Misconfigured,
            message: format!("the store of bucket '{bucket}' cannot be set up, see storage.s3: {error}"),
        })?;
        Ok(Arc::new(store))
    }
}

/// Sets the endpoint, with the bucket in the path or in the host name.
fn address(builder: AmazonS3Builder, s3: &S3, bucket: &str) -> Result<AmazonS3Builder, StoreFault> {
    let builder = builder.with_virtual_hosted_style_request(!s3.force_path_style);
    let Some(endpoint) = &s3.endpoint else { return Ok(builder) };
    let wrong = |why: &str| StoreFault {
        kind: FaultKind::Misconfigured,
        message: format!("storage.s3.endpoint '{endpoint}' {why}; write a URL such as http://minio:9000"),
    };
    let mut url = url::Url::parse(endpoint).map_err(|error| wrong(&format!("is not a URL ({error})")))?;
    let host = url.host_str().ok_or_else(|| wrong("names no host"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("is neither http nor https"));
    }
    if !s3.force_path_style {
        let host = format!("{bucket}.{host}");
        url.set_host(Some(&host)).map_err(|error| wrong(&format!("cannot take the bucket's name ({error})")))?;
    }
    let endpoint = url.as_str().trim_end_matches('/');
    // The environment's own variable for S3 would otherwise go before the manifest.
    Ok(builder.with_endpoint(endpoint).with_config(AmazonS3ConfigKey::S3Endpoint, endpoint))
}

/// Connections open in 5 seconds or not at all. A data request may take minutes (a server-side copy of gigabytes), so
/// whoever sends one bounds it by its size.
fn client_options(purpose: Purpose) -> ClientOptions {
    let timeout = match purpose {
        Purpose::Data => Duration::from_secs(300),
        Purpose::Log => Duration::from_secs(5),
    };
    let connect = match purpose {
        Purpose::Data => Duration::from_secs(5),
        Purpose::Log => Duration::from_secs(3),
    };
    ClientOptions::new().with_timeout(timeout).with_connect_timeout(connect).with_allow_http(true)
}

fn retries(purpose: Purpose) -> RetryConfig {
    match purpose {
        Purpose::Data => RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(2),
                // The library draws each pause between the first one and this many times the last.
                base: 3.0,
            },
            // The time decides.
            max_retries: 100,
            retry_timeout: Duration::from_secs(10),
        },
        Purpose::Log => RetryConfig { max_retries: 0, retry_timeout: Duration::from_secs(5), ..RetryConfig::default() },
    }
}

fn open_local(path: &FilePath) -> Result<StoreAt, StoreFault> {
    let store = DurableLocal::open(path).map_err(|error| {
        let fault = fault::classify_io(&error, &path.display().to_string());
        match fault.kind {
            // A folder that cannot be made, in a pseudo file system say, is not a missing object.
            FaultKind::NotFound => StoreFault { kind: FaultKind::Misconfigured, ..fault },
            _ => fault,
        }
    })?;
    let shown = store.root().display().to_string();
    Ok(StoreAt { store: Arc::new(store), prefix: Path::default(), shown })
}

#[cfg(test)]
pub(crate) mod tests;
