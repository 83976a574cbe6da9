//! Child processes that never outlive the test process, however it ends.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};

use super::{Once, once};
use crate::{Result, wait};

/// A running child process. Dropping it kills it; if the test process dies first, the watchdog does.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
}

/// What can be sent to a process short of killing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: please end.
    Terminate,
    /// SIGSTOP: freeze where you are.
    Stop,
    /// SIGCONT: go on.
    Continue,
}

impl Process {
    /// Starts `command`; `name` is how errors call it.
    ///
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Result<Process> {
        let child = command.stdin(Stdio::null()).spawn().with_context(|| format!("starting {name}"))?;
        let process = Process { name: name.to_owned(), child, ended: None };
        tell_watchdog(&format!("started {}", process.pid()))?;
        Ok(process)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, if the process has ended.
    ///
    /// # Errors
    ///
    /// When the operating system cannot tell.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
            if self.ended.is_some() {
                tell_watchdog(&format!("ended {}", self.pid()))?;
            }
        }
        Ok(self.ended)
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    ///
    /// When it still runs after `bound`.
    pub fn wait(&mut self, bound: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait::until(&what, bound, || self.try_wait())
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// When the process has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.try_wait()? {
            bail!("{} has ended ({status}), so it cannot be sent {signal:?}", self.name);
        }
        let option = match signal {
            Signal::Terminate => "-TERM",
            Signal::Stop => "-STOP",
            Signal::Continue => "-CONT",
        };
        // The shell's own kill: the standard library has none, and a separate program may not be installed.
        let script = format!("kill {option} {}", self.pid());
        let sent = Command::new("sh").args(["-c", &script]).status()?;
        if !sent.success() {
            bail!("sending {signal:?} to {} failed", self.name);
        }
        Ok(())
    }

    /// `kill -9`, and waits until it is gone. Also for a process that has ended or is stopped.
    ///
    /// # Errors
    ///
    /// When the operating system refuses.
    pub fn kill(&mut self) -> Result<()> {
        if self.try_wait()?.is_none() {
            self.child.kill()?;
            self.ended = Some(self.child.wait()?);
            tell_watchdog(&format!("ended {}", self.pid()))?;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A failure here leaves the process to the watchdog.
        let _ = self.kill();
    }
}

/// Lets `command` append what it prints to the file `log`.
///
/// # Errors
///
/// When the file cannot be opened.
pub fn log_to(command: &mut Command, log: &Path) -> Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(log)?;
    command.stdout(file.try_clone()?).stderr(file);
    Ok(())
}

/// The last few kilobytes of a log, to be shown in an error.
pub fn tail(log: &Path) -> String {
    const SHOWN: u64 = 4_000;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(SHOWN)))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        Ok(end)
    };
    match read() {
        Ok(end) => String::from_utf8_lossy(&end).into_owned(),
        Err(error) => format!("(its log cannot be read: {error})"),
    }
}

/// Has a directory removed once this process is gone, whatever ends it.
///
/// # Errors
///
/// When the watchdog is not running.
pub fn remove_when_this_process_ends(directory: &Path) -> Result<()> {
    tell_watchdog(&format!("remove {}", directory.display()))
}

/// The watchdog is a shell that reads from a pipe what to kill and what to remove. Only this process holds the other end
/// of the pipe, so the pipe ends when this process does, even by `kill -9`; then the watchdog does its work.
const WATCHDOG_SCRIPT: &str = r#"
trap '' INT TERM HUP
pids=' '
while read -r what value; do
  case $what in
    started) pids="$pids$value " ;;
    ended) pids="${pids%% "$value" *} ${pids#* "$value" }" ;;
    remove) directory=$value ;;
  esac
done
for pid in $pids; do kill -9 "$pid"; done
[ -z "$directory" ] || rm -rf "$directory" || { sleep 1; rm -rf "$directory"; }
"#;

fn tell_watchdog(line: &str) -> Result<()> {
    static WATCHDOG: Once<Mutex<Child>> = Once::new();
    let mut watchdog =
        once(&WATCHDOG, || start_watchdog().map(Mutex::new))?.lock().unwrap_or_else(PoisonError::into_inner);
    let pipe = watchdog.stdin.as_mut().context("the watchdog has no standard input")?;
    writeln!(pipe, "{line}").context("the watchdog is gone")
}

fn start_watchdog() -> Result<Child> {
    let mut command = Command::new("sh");
    command
        .args(["-c", WATCHDOG_SCRIPT])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().context("starting the watchdog")
}
