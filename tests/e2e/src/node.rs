//! The nodes of a kind cluster, which are Docker containers: processes killed on them, and nodes cut off.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::FutureExt;
use k8s_openapi::api::core::v1 as core;
use kube::api::{Api, ListParams};

use crate::Result;
use crate::cluster::Cluster;
use crate::command;
use crate::pods::RunnerPod;
use crate::within::within;

/// Exhausts the memory of the control group, of version 2 or 1, of the process `$pid`.
const EXHAUST: &str = r#"
set -e
two=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$pid/cgroup)
one=/sys/fs/cgroup/memory$(sed -n 's/^[0-9]*:memory://p' /proc/$pid/cgroup)
if [ -e $two/memory.max ]; then group=$two used=memory.current limit=memory.max
else group=$one used=memory.usage_in_bytes limit=memory.limit_in_bytes; fi
echo 1000 >/proc/$pid/oom_score_adj
echo $(($(cat $group/$used) + 32000000)) >$group/$limit
# A line without an end, all of which tail keeps.
sh -c "echo \$\$ >$group/cgroup.procs; exec tail /dev/zero" & hog=$!
tries=0
while [ -e /proc/$pid ] && [ $tries -lt 100 ]; do tries=$((tries + 1)); sleep 0.1; done
kill -9 $hog 2>/dev/null || true
[ $tries -lt 100 ]
"#;

/// How long Kubernetes may take to notice that a node is gone (50 s by default) or back.
pub const NOTICED: Duration = Duration::from_secs(150);

/// A node of a kind cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node(String);

impl Node {
    /// The node that a pod is on.
    ///
    /// # Errors
    ///
    /// When it has not been placed.
    pub fn of(pod: &RunnerPod) -> Result<Node> {
        Ok(Node(pod.node()?.to_owned()))
    }

    /// The first node of the control plane.
    ///
    /// # Errors
    ///
    /// When the cluster shows none.
    pub async fn control_plane(cluster: &Cluster) -> Result<Node> {
        let nodes: Api<core::Node> = Api::all(cluster.client.clone());
        let list = ListParams::default().labels("node-role.kubernetes.io/control-plane");
        let node = nodes.list(&list).await?.items.into_iter().next();
        node.and_then(|node| node.metadata.name).map(Node).context("the cluster shows no node of a control plane")
    }

    /// Its name, which is its container's too.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Runs a program on it.
    ///
    /// # Errors
    ///
    /// When the node is no container of this machine's Docker, or the program fails.
    pub async fn run(&self, program: &[&str]) -> Result<String> {
        let mut arguments = vec!["exec", self.name()];
        arguments.extend(program);
        command::run(command::USUAL, "docker", &arguments).await
    }

    /// `kill -9` of a container's processes.
    ///
    /// # Errors
    ///
    /// When it has none.
    pub async fn kill(&self, container: &str) -> Result<()> {
        let killed = self.run(&["sh", "-c", &format!("kill -9 $({})", processes(container))]).await;
        killed.map(drop).with_context(|| format!("killing container {container} on {}", self.name()))
    }

    /// Has the kernel end a container's process because its memory is used up: something else in its control group uses it
    /// up, and the process is made the first to go. A container started anew has the limit of its pod again.
    ///
    /// # Errors
    ///
    /// When the kernel does not, or control groups are not where they are expected.
    pub async fn exhaust_memory(&self, container: &str) -> Result<()> {
        let done = self.run(&["sh", "-c", &format!("pid=$({} | head -n 1)\n{EXHAUST}", processes(container))]).await;
        done.map(drop).with_context(|| format!("exhausting the memory of container {container} on {}", self.name()))
    }

    /// Runs `body` while nothing from this node reaches an API server; everything else goes on. The node makes zombies.
    ///
    /// # Errors
    ///
    /// When `body` fails, or the node cannot be cut off or mended.
    pub async fn cut_from_api_server<T>(&self, body: impl Future<Output = Result<T>>) -> Result<T> {
        self.filter("-I").await?;
        always(body, self.filter("-D")).await
    }

    /// Runs `body` while the whole node stands still.
    ///
    /// # Errors
    ///
    /// When `body` fails, or Docker does.
    pub async fn paused<T>(&self, body: impl Future<Output = Result<T>>) -> Result<T> {
        command::run(command::USUAL, "docker", &["pause", self.name()]).await?;
        let unpause = async {
            command::run(command::USUAL, "docker", &["unpause", self.name()]).await?;
            Ok(())
        };
        always(body, unpause).await
    }

    /// Waits until the cluster takes the node for ready, or not.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn becomes_ready(&self, cluster: &Cluster, ready: bool) -> Result<()> {
        let nodes: Api<core::Node> = Api::all(cluster.client.clone());
        within(NOTICED, &format!("{} is ready: {ready}", self.name()), async || {
            let conditions = nodes.get(self.name()).await?.status.and_then(|status| status.conditions);
            let found = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
            let status = found.map(|condition| condition.status).unwrap_or_default();
            ensure!((status == "True") == ready, "Ready is {status}");
            Ok(())
        })
        .await
    }

    /// The kubelet reaches the API server over both.
    async fn filter(&self, how: &str) -> Result<()> {
        for tables in ["iptables", "ip6tables"] {
            self.run(&[tables, how, "OUTPUT", "-p", "tcp", "--dport", "6443", "-j", "DROP"]).await?;
        }
        Ok(())
    }
}

/// A shell command that lists a container's processes. Their control group is named after it, under every container
/// runtime; the image has no shell that could be asked.
fn processes(container: &str) -> String {
    format!("grep -ls {container} /proc/[0-9]*/cgroup | cut -d/ -f3")
}

/// Runs `body`, and then `mend` whatever became of it: what a test breaks it mends, or every later test fails too.
///
/// # Errors
///
/// That of `body`, else that of `mend`.
pub async fn always<T>(body: impl Future<Output = Result<T>>, mend: impl Future<Output = Result<()>>) -> Result<T> {
    let outcome = AssertUnwindSafe(body).catch_unwind().await;
    let mended = mend.await;
    let value = outcome.unwrap_or_else(|panic| resume_unwind(panic))?;
    mended?;
    Ok(value)
}
