//! A real MinIO: one process, one disk.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::signer::Signer;
use tempfile::TempDir;

use super::process::{Process, Signal, log_to, tail};
use super::{Once, free_port, installed, once, scratch, unique};
use crate::{Result, block_on, http, wait};

/// How long the server may take until it answers.
const START: Duration = Duration::from_secs(60);

/// The access key id of the only user.
pub const ACCESS_KEY: &str = "millrace";
/// That user's secret.
pub const SECRET_KEY: &str = "grist-and-flour";
/// The region that requests are signed for; MinIO takes any.
pub const REGION: &str = "us-east-1";

/// A running MinIO. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct Minio {
    process: Option<Process>,
    directory: TempDir,
    address: SocketAddr,
}

impl Minio {
    /// The one server that the tests of a process share; the first call starts it. Use buckets of your own
    /// ([`Minio::unique_bucket`]), and [`Minio::start`] for a server that is to be stopped.
    ///
    /// # Errors
    ///
    /// As for [`Minio::start`].
    pub fn shared() -> Result<&'static Minio> {
        static SHARED: Once<Minio> = Once::new();
        once(&SHARED, Minio::start)
    }

    /// Starts a server and waits until it answers: about 1 second, 120 MB of memory.
    ///
    /// # Errors
    ///
    /// When it cannot be installed or does not come up; the error shows the end of its log.
    pub fn start() -> Result<Minio> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut minio = Minio { process: None, directory: scratch("minio")?, address };
        minio.start_again()?;
        Ok(minio)
    }

    /// Starts the server after [`Minio::kill`], on the same data and port.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn start_again(&mut self) -> Result<()> {
        let mut command = Command::new(installed("MINIO")?);
        command
            .args(["server", "--quiet", "--address", &self.address.to_string()])
            .arg(self.directory.path().join("data"));
        command.env("MINIO_ROOT_USER", ACCESS_KEY).env("MINIO_ROOT_PASSWORD", SECRET_KEY);
        command.env("MINIO_PROMETHEUS_AUTH_TYPE", "public").env("MINIO_BROWSER", "off").env("MINIO_UPDATE", "off");
        log_to(&mut command, &self.log())?;
        self.process = Some(Process::start("MinIO", &mut command)?);
        self.wait_until_ready()
            .with_context(|| format!("MinIO did not start; the end of its log:\n{}", tail(&self.log())))
    }

    /// `kill -9`.
    ///
    /// # Errors
    ///
    /// When the operating system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process()?.kill()
    }

    /// Freezes the server: connections stay open and nothing answers.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn pause(&mut self) -> Result<()> {
        self.process()?.signal(Signal::Stop)
    }

    /// Lets it go on.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn resume(&mut self) -> Result<()> {
        self.process()?.signal(Signal::Continue)
    }

    /// Its URL: `http://127.0.0.1:…`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The `AWS_…` variables with which a runner on a laptop finds and enters it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ENDPOINT", self.endpoint()),
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
        ]
    }

    /// A client of one bucket, for looking at what is there.
    ///
    /// # Errors
    ///
    /// When the bucket's name is malformed.
    pub fn store(&self, bucket: &str) -> Result<AmazonS3> {
        let builder = AmazonS3Builder::new().with_endpoint(self.endpoint()).with_allow_http(true).with_region(REGION);
        let builder = builder.with_access_key_id(ACCESS_KEY).with_secret_access_key(SECRET_KEY);
        Ok(builder.with_bucket_name(bucket).build()?)
    }

    /// Creates a bucket.
    ///
    /// # Errors
    ///
    /// When it exists or its name is not allowed.
    pub fn create_bucket(&self, bucket: &str) -> Result<()> {
        // object_store cannot create buckets, but it can sign the request that does.
        let put = "PUT".parse()?;
        let signed = block_on(self.store(bucket)?.signed_url(put, &Path::default(), Duration::from_secs(60)))??;
        let query = signed.query().unwrap_or_default();
        let response = http::request("PUT", self.address, &format!("{}?{query}", signed.path()))?;
        if response.status != 200 {
            bail!("MinIO did not create bucket {bucket}: {} {}", response.status, response.body);
        }
        Ok(())
    }

    /// Creates a bucket whose name starts with `prefix` and is used by no other test.
    ///
    /// # Errors
    ///
    /// When the name is not allowed.
    pub fn unique_bucket(&self, prefix: &str) -> Result<String> {
        let bucket = unique(prefix);
        self.create_bucket(&bucket)?;
        Ok(bucket)
    }

    /// The keys of the bucket's objects under `prefix`, in order.
    ///
    /// # Errors
    ///
    /// When the bucket does not exist or the server does not answer.
    pub fn keys(&self, bucket: &str, prefix: &str) -> Result<Vec<String>> {
        let store = self.store(bucket)?;
        let listing = store.list(Some(&Path::from(prefix))).map_ok(|object| object.location.to_string());
        let mut keys: Vec<String> = block_on(listing.try_collect())??;
        keys.sort();
        Ok(keys)
    }

    /// How many requests of each kind the bucket has seen since the server started, by the API's names (`PutObject`,
    /// `GetObject`, `HeadObject`, `CopyObject`, `ListObjectsV2` …), refused ones included. Exact and up to date.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub fn requests(&self, bucket: &str) -> Result<BTreeMap<String, u64>> {
        let response = http::request("GET", self.address, &format!("/minio/metrics/v3/bucket/api/{bucket}"))?;
        if response.status != 200 {
            bail!("MinIO gave no metrics: {} {}", response.status, response.body);
        }
        let mut counts = BTreeMap::new();
        for line in response.body.lines().filter(|line| line.starts_with("minio_bucket_api_total{")) {
            let name = line.split_once("name=\"").and_then(|(_, rest)| rest.split_once('"')).map(|(name, _)| name);
            let count = line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok());
            let (Some(name), Some(count)) = (name, count) else { bail!("a metric that cannot be read: {line}") };
            *counts.entry(name.to_owned()).or_default() += count as u64;
        }
        Ok(counts)
    }

    fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("MinIO was not started")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("minio.log")
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let address = self.address;
        let process = self.process()?;
        wait::until("MinIO to answer", START, || {
            if let Some(status) = process.try_wait()? {
                bail!("MinIO ended by itself: {status}");
            }
            let health = http::request("GET", address, "/minio/health/cluster");
            Ok(health.ok().filter(|response| response.status == 200).map(|_| ()))
        })
    }
}
