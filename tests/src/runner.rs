//! The `millrace` binary as a child process: what a user starts, and what a crash, a freeze or a node's end does to it.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::servers::minio::Minio;
use crate::servers::process::{Process, Signal};
use crate::servers::{checkout, free_port, scratch};
use crate::{Result, http, wait};

/// The flag of `millrace run` that names the address of `/status`, `/metrics`, `/livez` and `/readyz`.
const HTTP_FLAG: &str = "--http";
/// How many lines of output are kept; older ones are dropped.
const MAX_LINES: usize = 50_000;

/// A command line of the `millrace` binary that is about to be started.
#[derive(Debug)]
pub struct Launch {
    command: Command,
    directory: TempDir,
    http: Option<SocketAddr>,
}

/// A running `millrace`. Dropping it kills it; if the test is failing then, it shows what the runner printed last.
#[derive(Debug)]
pub struct Runner {
    process: Process,
    output: Arc<Output>,
    http: Option<SocketAddr>,
    _directory: TempDir,
}

/// Where `millrace` is: `MILLRACE_BIN`, or what `cargo build` left in this checkout's target directory.
///
/// # Errors
///
/// When it has not been built.
pub fn binary() -> Result<PathBuf> {
    let path = match (std::env::var_os("MILLRACE_BIN"), std::env::var_os("CARGO_TARGET_DIR")) {
        (Some(path), _) => PathBuf::from(path),
        (None, Some(target)) => PathBuf::from(target).join("debug/millrace"),
        (None, None) => checkout().join("target/debug/millrace"),
    };
    if !path.is_file() {
        bail!("{} is not there; build it first: cargo build --workspace --all-targets", path.display());
    }
    Ok(path)
}

impl Launch {
    /// `millrace run <manifest>`, with the manifest's text in a file of its own and the HTTP server on a free port.
    ///
    /// # Errors
    ///
    /// When the binary has not been built or the file cannot be written.
    pub fn run(manifest: &str) -> Result<Launch> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut launch = Launch::command("run")?.manifest(manifest)?.arg(HTTP_FLAG).arg(address.to_string());
        launch.http = Some(address);
        Ok(launch)
    }

    /// `millrace <subcommand>`, nothing more yet.
    ///
    /// # Errors
    ///
    /// When the binary has not been built.
    pub fn command(subcommand: &str) -> Result<Launch> {
        Launch::program(Command::new(binary()?)).map(|launch| launch.arg(subcommand))
    }

    /// Another program than `millrace`, for testing the harness.
    ///
    /// # Errors
    ///
    /// When the temporary directory cannot be written.
    pub fn program(command: Command) -> Result<Launch> {
        Ok(Launch { command, directory: scratch("runner")?, http: None })
    }

    /// Appends a file with this text as an argument.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn manifest(mut self, text: &str) -> Result<Launch> {
        let path = self.directory.path().join("job.yaml");
        std::fs::write(&path, text)?;
        self.command.arg(path);
        Ok(self)
    }

    /// Appends an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Launch {
        self.command.arg(argument);
        self
    }

    /// Appends several arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Launch {
        self.command.args(arguments);
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Launch {
        self.command.env(name, value);
        self
    }

    /// Lets the runner find that MinIO and its credentials in the environment.
    pub fn storage(mut self, minio: &Minio) -> Launch {
        self.command.envs(minio.environment());
        self
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn start(mut self) -> Result<Runner> {
        // The command, and with it our copies of the pipe's writing end, goes when this returns: so the reader sees the
        // end of the pipe when the runner ends.
        let (read, write) = std::io::pipe()?;
        self.command.stdout(write.try_clone()?).stderr(write);
        let process = Process::start("millrace", &mut self.command)?;
        let output = Arc::new(Output::default());
        let reader = output.clone();
        std::thread::spawn(move || reader.fill(read));
        Ok(Runner { process, output, http: self.http, _directory: self.directory })
    }

    /// Starts it, waits for its end and gives the exit status and everything it printed.
    ///
    /// # Errors
    ///
    /// When it still runs after `bound`.
    pub fn finish(self, bound: Duration) -> Result<(ExitStatus, String)> {
        let mut runner = self.start()?;
        let status = runner.wait_for_exit(bound)?;
        Ok((status, runner.printed()))
    }
}

impl Runner {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When the operating system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// SIGTERM.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn terminate(&mut self) -> Result<()> {
        self.process.signal(Signal::Terminate)
    }

    /// SIGSTOP: the process freezes, as on an overloaded or paused machine, and becomes a zombie in the job log's sense.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn pause(&mut self) -> Result<()> {
        self.process.signal(Signal::Stop)
    }

    /// SIGCONT.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn resume(&mut self) -> Result<()> {
        self.process.signal(Signal::Continue)
    }

    /// The exit status, if it has ended.
    ///
    /// # Errors
    ///
    /// When the operating system cannot tell.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.process.try_wait()
    }

    /// Waits until it ends by itself and everything it printed has been read.
    ///
    /// # Errors
    ///
    /// When it still runs after `bound`.
    pub fn wait_for_exit(&mut self, bound: Duration) -> Result<ExitStatus> {
        let status = self.process.wait(bound).with_context(|| self.context())?;
        self.output.wait(Duration::from_secs(5), |output| output.ended.then_some(()));
        Ok(status)
    }

    /// Waits for a line of standard output or standard error that contains `text`, and returns it; the first such line
    /// of all that were printed.
    ///
    /// # Errors
    ///
    /// When there is none after `bound`, or the process ends without having printed it.
    pub fn wait_for_line(&self, text: &str, bound: Duration) -> Result<String> {
        let find = |output: &Lines| {
            let found = output.lines.iter().find(|line| line.contains(text)).cloned();
            if found.is_none() && !output.ended { None } else { Some(found) }
        };
        match self.output.wait(bound, find) {
            Some(Some(line)) => Ok(line),
            Some(None) => bail!("millrace ended without a line with {text:?}; {}", self.context()),
            None => bail!("millrace printed no line with {text:?} in {bound:?}; {}", self.context()),
        }
    }

    /// Everything printed so far (the last 50,000 lines), standard output and standard error as they came.
    pub fn printed(&self) -> String {
        let output = self.output.lock();
        output.lines.iter().fold(String::new(), |text, line| text + line + "\n")
    }

    /// The answer to `GET path` of the runner's HTTP server: status code and body.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub fn get(&self, path: &str) -> Result<http::Response> {
        http::request("GET", self.http.context("this command has no HTTP server")?, path)
    }

    /// Waits until `/status` satisfies the condition, and returns it.
    ///
    /// # Errors
    ///
    /// When it never does within `bound`, or the process ends.
    pub fn wait_for_status(&mut self, bound: Duration, condition: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = None;
        let found = wait::until("a status that satisfies the condition", bound, || {
            if let Some(status) = self.try_wait()? {
                bail!("millrace ended: {status}");
            }
            // A server that does not answer yet is what is being waited for.
            let Ok(response) = self.get("/status") else { return Ok(None) };
            last = serde_json::from_str::<Value>(&response.body).ok();
            Ok(last.clone().filter(&condition))
        });
        found.with_context(|| format!("the last status was {last:?}; {}", self.context()))
    }

    /// Waits until `/status` tells of a commit after the one that it tells of now, and returns that record's number.
    ///
    /// # Errors
    ///
    /// As for [`Runner::wait_for_status`].
    pub fn wait_for_commit(&mut self, bound: Duration) -> Result<u64> {
        let seq = |status: &Value| status["lastCommit"]["seq"].as_u64();
        let last = self.get("/status").ok().and_then(|response| seq(&serde_json::from_str(&response.body).ok()?));
        let status = self.wait_for_status(bound, |status| seq(status) > last)?;
        seq(&status).context("a commit without a number")
    }

    fn context(&self) -> String {
        let output = self.output.lock();
        let skipped = output.lines.len().saturating_sub(40);
        let tail: Vec<&str> = output.lines.iter().skip(skipped).map(String::as_str).collect();
        format!("the end of what millrace {} printed:\n{}", self.process.pid(), tail.join("\n"))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[allow(clippy::print_stderr)] // a failing test's output is where people look
            {
                eprintln!("{}", self.context());
            }
        }
    }
}

#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    ended: bool,
}

impl Output {
    fn fill(&self, pipe: impl Read) {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        // An error is the end too: there is nothing more to read.
        while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            let mut output = self.lock();
            if output.lines.len() == MAX_LINES {
                output.lines.pop_front();
            }
            output.lines.push_back(text);
            drop(output);
            self.changed.notify_all();
            line.clear();
        }
        self.lock().ended = true;
        self.changed.notify_all();
    }

    fn wait<T>(&self, bound: Duration, condition: impl Fn(&Lines) -> Option<T>) -> Option<T> {
        let end = Instant::now() + bound;
        let mut output = self.lock();
        loop {
            if let Some(value) = condition(&output) {
                return Some(value);
            }
            let left = end.checked_duration_since(Instant::now())?;
            output = self.changed.wait_timeout(output, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
