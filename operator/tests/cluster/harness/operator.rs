//! The operator as a process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use millrace_tests::servers::process::{Process, Signal, log_to, tail};
use millrace_tests::servers::unique;
use millrace_tests::{http, wait};
use serde_json::Value;

/// How long an operator may take to come up or to end.
const SOON: Duration = Duration::from_secs(60);

/// A running operator. Dropping it kills it.
pub struct Operator {
    process: Process,
    log: PathBuf,
    address: SocketAddr,
}

impl Operator {
    /// Starts an operator. Its log goes to a file in `directory`.
    pub fn start(directory: &Path, kubeconfig: &Path, arguments: &[&str]) -> Self {
        let log = directory.join(unique("operator"));
        let mut command = Command::new(binary());
        command.args(["--http", "127.0.0.1:0"]).args(arguments);
        // What a developer has set must not be what is tested. What an argument says wins over the environment.
        command.env_clear().env("KUBECONFIG", kubeconfig).env("HOME", directory);
        command.env("MILLRACE_RUNNER_IMAGE", "millrace:test");
        log_to(&mut command, &log).unwrap();
        let mut process = Process::start("millrace-operator", &mut command).unwrap();
        let address = wait::until("the operator to listen", SOON, || {
            if let Some(status) = process.try_wait()? {
                anyhow::bail!("the operator ended with {status}: {}", tail(&log));
            }
            Ok(listens_at(&log))
        });
        Self { process, address: address.unwrap(), log }
    }

    /// Waits until its caches are filled, or until it waits for the lead.
    pub fn wait_until_ready(&self) {
        let ready = || Ok(self.get("/readyz").filter(|answer| answer.status == 200).map(|_| ()));
        wait::until("the operator to be ready", SOON, ready).unwrap();
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
    }

    /// Asks it to end and waits until it has.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.signal(Signal::Terminate).unwrap();
        self.process.wait(SOON).unwrap()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().unwrap()
    }

    /// Its answer to GET; `None` if it does not answer.
    pub fn get(&self, path: &str) -> Option<http::Response> {
        http::request("GET", self.address, path).ok()
    }

    /// The sum of a metric's samples whose labels contain all of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.get("/metrics").map(|answer| answer.body).unwrap_or_default();
        samples(&text, name, labels).sum()
    }

    /// Its metrics as text.
    pub fn metrics(&self) -> String {
        self.get("/metrics").map(|answer| answer.body).unwrap_or_default()
    }

    /// Everything it wrote.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

/// The values of a metric's samples whose labels contain all of `labels`.
pub fn samples<'a>(text: &'a str, name: &'a str, labels: &'a [&'a str]) -> impl Iterator<Item = f64> + 'a {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (of, value) = rest.rsplit_once(' ')?;
        let whole = of.is_empty() || of.starts_with('{');
        (whole && labels.iter().all(|label| of.contains(label))).then(|| value.parse().ok())?
    })
}

/// Where the operator is: what cargo built for this test, or `MILLRACE_OPERATOR_BIN`.
fn binary() -> PathBuf {
    match (std::env::var_os("MILLRACE_OPERATOR_BIN"), option_env!("CARGO_BIN_EXE_millrace-operator")) {
        (Some(path), _) => path.into(),
        (None, Some(path)) => path.into(),
        (None, None) => panic!("set MILLRACE_OPERATOR_BIN to the operator's binary"),
    }
}

fn listens_at(log: &Path) -> Option<SocketAddr> {
    let text = std::fs::read_to_string(log).ok()?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|line| line["address"].as_str()?.parse().ok()).next()
}
