//! Servers that are away for a while.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;

use crate::Result;
use crate::cluster::{Cluster, SERVERS};
use crate::command::{USUAL, kubectl, run};
use crate::node::{Node, always};
use crate::within::within;

const START: Duration = Duration::from_secs(120);

/// A server that a job needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// Kafka.
    Kafka,
    /// MinIO.
    Minio,
}

impl Server {
    /// Runs `body` while the server is stopped; afterwards it is back, with its data, and ready.
    ///
    /// # Errors
    ///
    /// When `body` fails, or the server does not stop or come back.
    pub async fn stopped<T>(self, cluster: &Cluster, body: impl Future<Output = Result<T>>) -> Result<T> {
        let outage = async {
            self.scale("0").await?;
            let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), SERVERS);
            let pod = format!("{}-0", self.name());
            within(START, &format!("{} is stopped", self.name()), async || {
                ensure!(pods.get_opt(&pod).await?.is_none(), "its pod is there");
                Ok(())
            })
            .await?;
            body.await
        };
        always(outage, self.start()).await
    }

    async fn start(self) -> Result<()> {
        self.scale("1").await?;
        let wait = format!("--timeout={}s", START.as_secs());
        let status = ["--namespace", SERVERS, "rollout", "status", "statefulset", self.name(), wait.as_str()];
        run(START + USUAL, "kubectl", &status).await?;
        Ok(())
    }

    async fn scale(self, replicas: &str) -> Result<()> {
        kubectl(SERVERS, &["scale", "statefulset", self.name(), "--replicas", replicas]).await?;
        Ok(())
    }

    fn name(self) -> &'static str {
        match self {
            Server::Kafka => "kafka",
            Server::Minio => "minio",
        }
    }
}

/// Runs `body` while the cluster has no API server; afterwards it answers again. The kubelets go on, and so does all that
/// runs on the node of the control plane.
///
/// # Errors
///
/// When `body` fails, or the API server does not go or come back.
pub async fn without_api_server<T>(cluster: &Cluster, body: impl Future<Output = Result<T>>) -> Result<T> {
    const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    const ASIDE: &str = "/etc/kubernetes/kube-apiserver.yaml";
    let node = Node::control_plane(cluster).await?;
    // The kubelet runs what lies in its folder of manifests.
    node.run(&["mv", MANIFEST, ASIDE]).await?;
    let outage = async {
        within(START, "the API server is gone", async || {
            ensure!(cluster.client.apiserver_version().await.is_err(), "it answers");
            Ok(())
        })
        .await?;
        body.await
    };
    let start = async {
        node.run(&["mv", ASIDE, MANIFEST]).await?;
        within(START, "the API server is back", async || {
            cluster.client.apiserver_version().await?;
            Ok(())
        })
        .await
    };
    always(outage, start).await
}
