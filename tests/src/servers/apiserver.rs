//! A real Kubernetes API server with its etcd, and nothing else: it judges and keeps objects, but nothing acts on them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use tempfile::TempDir;

use super::process::{Process, Signal, log_to, tail};
use super::{Once, checkout, free_port, installed, installed_apiserver, once, scratch, unique};
use crate::Result;
use crate::http::Response;
use crate::wait;

/// How long both together may take until they answer.
const START: Duration = Duration::from_secs(90);
const TOKEN: &str = "grist-and-flour";

/// A running API server. Dropping it ends it and etcd, and removes their data.
#[derive(Debug)]
pub struct ApiServer {
    server: Process,
    _etcd: Process,
    directory: TempDir,
    port: u16,
}

impl ApiServer {
    /// The one API server that the tests of a process share; the first call starts it.
    ///
    /// # Errors
    ///
    /// As for [`ApiServer::start`].
    pub fn shared() -> Result<&'static ApiServer> {
        static SHARED: Once<ApiServer> = Once::new();
        once(&SHARED, ApiServer::start)
    }

    /// Starts etcd and an API server and waits until it is ready: about 5 seconds, 350 MB of memory.
    ///
    /// # Errors
    ///
    /// When they cannot be installed or do not come up; the error shows the end of their log.
    pub fn start() -> Result<ApiServer> {
        let directory = scratch("apiserver")?;
        let log = directory.path().join("log");
        let (client, peer, port) = (free_port()?, free_port()?, free_port()?);
        let etcd = start_etcd(directory.path(), &log, client, peer)?;
        let server = start_server(directory.path(), &log, client, port)?;
        let mut started = ApiServer { server, _etcd: etcd, directory, port };
        started
            .wait_until_ready()
            .with_context(|| format!("kube-apiserver did not start; the end of its log:\n{}", tail(&log)))?;
        Ok(started)
    }

    /// Sends a request as an administrator. The body is YAML or JSON; an empty one is none. For a server-side apply send
    /// PATCH with `?fieldManager=…`.
    ///
    /// # Errors
    ///
    /// When the server does not answer; what it refuses is an answer (a status code of 400 or more).
    pub fn request(&self, method: &str, path: &str, body: &str) -> Result<Response> {
        let mut command = Command::new(installed("PYTHON")?);
        command.arg(checkout().join("tests/servers/https.py"));
        command.args([method, &format!("https://127.0.0.1:{}{path}", self.port), TOKEN]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("the client has no standard input")?.write_all(body.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("{method} {path}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let answer = String::from_utf8(output.stdout)?;
        let (status, body) = answer.split_once('\n').context("the client printed no status")?;
        Ok(Response { status: status.parse()?, body: body.to_owned() })
    }

    /// Writes a kubeconfig for whoever has `token`, or else for an administrator, and returns where it is. It goes with the
    /// server.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn kubeconfig(&self, token: Option<&str>) -> Result<PathBuf> {
        let server = format!("https://127.0.0.1:{}", self.port);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tests",
            "contexts": [{ "name": "tests", "context": { "cluster": "tests", "user": "tests" } }],
            "clusters": [{ "name": "tests", "cluster": { "server": server, "insecure-skip-tls-verify": true } }],
            "users": [{ "name": "tests", "user": { "token": token.unwrap_or(TOKEN) } }],
        });
        let path = self.directory.path().join(unique("kubeconfig"));
        std::fs::write(&path, config.to_string()).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Freezes the API server, or lets it go on: it takes connections and does not answer.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.server.signal(signal)
    }

    /// The end of the log of both processes, for an error message.
    pub fn log_tail(&self) -> String {
        tail(&self.directory.path().join("log"))
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        wait::until("kube-apiserver to be ready", START, || {
            if let Some(status) = self.server.try_wait()? {
                bail!("kube-apiserver ended by itself: {status}");
            }
            Ok(self.request("GET", "/readyz", "").ok().filter(|response| response.status == 200).map(|_| ()))
        })
    }
}

fn start_etcd(directory: &Path, log: &Path, client: u16, peer: u16) -> Result<Process> {
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let mut etcd = Command::new(installed_apiserver("ETCD")?);
    etcd.arg("--data-dir").arg(directory.join("etcd")).args(["--unsafe-no-fsync", "--log-level", "error"]);
    etcd.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    etcd.args(["--initial-cluster", &format!("default={peer}")]);
    log_to(&mut etcd, log)?;
    Process::start("etcd", &mut etcd)
}

fn start_server(directory: &Path, log: &Path, etcd: u16, port: u16) -> Result<Process> {
    let tokens = directory.join("tokens.csv");
    std::fs::write(&tokens, format!("{TOKEN},admin,admin,system:masters\n"))?;
    let key = service_account_key(directory)?;
    let mut server = Command::new(installed_apiserver("KUBE_APISERVER")?);
    server.arg(format!("--etcd-servers=http://127.0.0.1:{etcd}"));
    server.arg(format!("--secure-port={port}")).arg("--bind-address=127.0.0.1");
    // Certificates of its own making go here; nobody checks them.
    server.arg("--cert-dir").arg(directory.join("certificates"));
    server.arg("--token-auth-file").arg(tokens);
    server.arg("--service-account-key-file").arg(&key).arg("--service-account-signing-key-file").arg(&key);
    server.args(["--service-account-issuer=https://localhost", "--service-cluster-ip-range=10.0.0.0/24"]);
    // No controller makes the service accounts that this plugin waits for.
    server.args(["--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount"]);
    log_to(&mut server, log)?;
    Process::start("kube-apiserver", &mut server)
}

fn service_account_key(directory: &Path) -> Result<PathBuf> {
    let key = directory.join("service-account.key");
    let mut openssl = Command::new("openssl");
    openssl.args(["genpkey", "-algorithm", "RSA", "-out"]).arg(&key);
    let output = openssl.output().context("running openssl")?;
    if !output.status.success() {
        bail!("openssl made no key: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(key)
}
