//! The cluster under test and the servers in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, Patch, PatchParams};
use kube::core::Request;
use kube::{Client, Config, Resource};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{Result, command};

/// Namespace of Kafka and MinIO, from `cluster/servers.yaml`.
pub const SERVERS: &str = "servers";
/// Namespace that the chart is installed in.
pub const SYSTEM: &str = "millrace-system";
/// Who the tests are towards server-side apply.
pub const MANAGER: &str = "millrace-e2e";
/// `bootstrapServers` from inside the cluster.
pub const KAFKA: &str = "kafka.servers:9092";
/// The same with SASL mechanism SCRAM-SHA-512.
pub const KAFKA_SCRAM: &str = "kafka.servers:9096";
/// MinIO's URL from inside the cluster.
pub const MINIO: &str = "http://minio.servers:9000";
/// The only user of Kafka's SCRAM listener.
pub const KAFKA_USER: &str = "miller";
/// Access key id of MinIO's only user.
pub const ACCESS_KEY: &str = "millrace";
/// The password of both users.
pub const PASSWORD: &str = "grist-and-flour";

const KAFKA_NODE_PORT: u16 = 30092;
const MINIO_NODE_PORT: u16 = 30900;

/// The cluster of `KUBECONFIG`.
#[derive(Clone)]
pub struct Cluster {
    /// A client with the rights of the kubeconfig's user.
    pub client: Client,
    /// Kafka's `host:port` from here.
    pub kafka: String,
    /// MinIO's URL from here.
    pub minio: String,
}

impl Cluster {
    /// Connects and finds the servers.
    ///
    /// # Errors
    ///
    /// When `KUBECONFIG` is not set, or what `cluster/install` installs is not there.
    pub async fn connect() -> Result<Cluster> {
        if std::env::var_os("KUBECONFIG").is_none() {
            bail!(
                "KUBECONFIG is not set: run `make e2e`, which makes a cluster, or `make e2e-current` on one of yours"
            );
        }
        let mut config = Config::infer().await.context("reading KUBECONFIG")?;
        // A test that takes the API server away asks again; it must not wait for an answer for minutes.
        config.connect_timeout = Some(Duration::from_secs(5));
        config.read_timeout = Some(Duration::from_secs(15));
        let client = Client::try_from(config)?;
        let kafka = node_of(&client, "kafka-0").await?;
        let minio = node_of(&client, "minio-0").await?;
        Ok(Cluster {
            client,
            kafka: format!("{kafka}:{KAFKA_NODE_PORT}"),
            minio: format!("http://{minio}:{MINIO_NODE_PORT}"),
        })
    }

    /// Creates or changes an object of a namespace, or of the cluster where there is none, by server-side apply.
    ///
    /// # Errors
    ///
    /// When the API server refuses.
    pub async fn apply<K>(&self, namespace: Option<&str>, object: &Value) -> Result<()>
    where
        K: Resource<DynamicType = ()>,
    {
        let (kind, url) = (K::kind(&()), K::url_path(&(), namespace));
        let name = object["metadata"]["name"].as_str().context("the object has no name")?;
        let params = PatchParams::apply(MANAGER).force();
        let request = Request::new(url).patch(name, &params, &Patch::Apply(object))?;
        self.client.request::<Value>(request).await.with_context(|| format!("applying {kind} {name}"))?;
        Ok(())
    }

    /// Creates or changes a Secret.
    ///
    /// # Errors
    ///
    /// When the API server refuses.
    pub async fn secret(&self, namespace: &str, name: &str, data: &Value) -> Result<()> {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
        self.apply::<Secret>(Some(namespace), &secret).await
    }
}

async fn node_of(client: &Client, server: &str) -> Result<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SERVERS);
    let pod =
        pods.get(server).await.with_context(|| format!("{server} is not there: run tests/e2e/cluster/install"))?;
    pod.status.and_then(|status| status.host_ip).with_context(|| format!("{server} runs on no node"))
}

/// The checkout's root directory.
pub fn checkout() -> PathBuf {
    // cargo sets the variable for the tests it runs; the compiled-in path could be another clone's.
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let package = PathBuf::from(package);
    package.ancestors().nth(2).map(Path::to_path_buf).unwrap_or(package)
}

/// The Python with Kafka's client, boto3 and DuckDB that `tests/servers/setup` installs.
///
/// # Errors
///
/// When the script fails.
pub async fn python() -> Result<&'static Path> {
    static PYTHON: OnceCell<PathBuf> = OnceCell::const_new();
    let installed = PYTHON.get_or_try_init(async || {
        let setup = checkout().join("tests/servers/setup");
        let lines = command::run(Duration::from_secs(600), &setup.display().to_string(), &[]).await?;
        let path = lines.lines().find_map(|line| line.strip_prefix("PYTHON="));
        path.map(PathBuf::from).context("tests/servers/setup did not say where PYTHON is")
    });
    Ok(installed.await?)
}
