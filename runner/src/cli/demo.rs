//! `millrace demo`: the whole thing in under a minute, with nothing installed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use crate::cli::{print, say};
use crate::demo::kafka::{DemoKafka, MAX_ORDERS, PARTITIONS, TOPIC, produce};
use crate::demo::orders::Totals;
use crate::demo::proof;
use crate::failure::Failure;

const JOB: &str = include_str!("../demo/job.yaml");

/// How long the orders take to arrive.
const PRODUCING: Duration = Duration::from_secs(12);
/// How long the demo waits for a condition before it says that it failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the tables are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Arguments of `millrace demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Kill the runner (SIGKILL) in the middle, twice, and start another: nothing is lost, nothing doubled.
    #[arg(long)]
    pub kill: bool,
    /// How many orders are produced.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=MAX_ORDERS))]
    pub orders: u64,
    /// Where the tables go; default: a new folder in the system's temporary one. It is kept.
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

/// Runs the demo.
///
/// # Errors
/// What went wrong in a sentence; the folder is kept to look at.
pub fn main(args: DemoArgs) -> Result<ExitCode, Failure> {
    let lake = lake(args.dir)?;
    let kafka =
        DemoKafka::start().map_err(|error| Failure::internal(format!("cannot start the mock kafka: {error}")))?;
    let manifest = lake.join("demo.yaml");
    let servers = kafka.bootstrap_servers();
    let job = JOB.replace("__KAFKA__", &servers).replace("__LAKE__", &lake.display().to_string());
    std::fs::write(&manifest, job).map_err(|error| Failure::internal(format!("{}: {error}", manifest.display())))?;
    say(&format!("kafka    a mock broker in this process, topic {TOPIC} with {PARTITIONS} partitions"));
    say(&format!("orders   {}, in about {} s", args.orders, PRODUCING.as_secs()));
    say(&format!("job      millrace run {}", manifest.display()));

    let count = args.orders;
    let producer = thread::spawn(move || produce(&servers, count, PRODUCING));
    let commandes = lake.join("commandes");
    let mut runner = Runner::start(&manifest)?;
    if args.kill {
        for share in [3, 2] {
            wait_for_rows(&commandes, count / share, &mut runner)?;
            runner.kill()?;
            let rows = rows(&commandes)?;
            say(&format!("killed   runner {} with SIGKILL at {rows} orders; starting another", runner.pid()));
            runner = Runner::start(&manifest)?;
        }
    }
    producer
        .join()
        .map_err(|_| Failure::internal("the producer of the demo panicked".to_owned()))?
        .map_err(|error| Failure::internal(format!("cannot produce the orders: {error}")))?;
    wait_for_rows(&commandes, count, &mut runner)?;
    runner.stop()?;
    prove(&lake, count)
}

/// The folder of the demo, new or given.
fn lake(dir: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let made = |dir: &Path| {
        std::fs::create_dir_all(dir)?;
        let empty = std::fs::read_dir(dir)?.next().is_none();
        dir.canonicalize().map(|dir| (dir, empty))
    };
    let dir = dir.unwrap_or_else(|| std::env::temp_dir().join(format!("millrace-demo-{}", std::process::id())));
    match made(&dir) {
        Ok((dir, true)) => Ok(dir),
        Ok((dir, false)) => Err(Failure::user(format!("{} is not empty; name a new folder with --dir", dir.display()))),
        Err(error) => Err(Failure::user(format!("cannot use the folder {}: {error}", dir.display()))),
    }
}

/// The runner of the demo: this very program, running `millrace run`.
struct Runner(Child);

impl Runner {
    fn start(manifest: &Path) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::internal(error.to_string()))?;
        Command::new(program)
            .args(["run", "--no-http"])
            .arg(manifest)
            .stdin(Stdio::null())
            .spawn()
            .map(Self)
            .map_err(|error| Failure::internal(format!("cannot start the runner: {error}")))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// SIGKILL: the process gets no chance to do anything.
    fn kill(&mut self) -> Result<(), Failure> {
        self.0.kill().and_then(|()| self.0.wait().map(drop)).map_err(|error| Failure::internal(error.to_string()))
    }

    /// SIGTERM: the runner commits what it has read and exits with 143.
    fn stop(&mut self) -> Result<(), Failure> {
        // The standard library can only send SIGKILL; every system that has SIGTERM has this program.
        let sent = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status();
        if !sent.is_ok_and(|status| status.success()) {
            return Err(Failure::internal(format!("cannot send SIGTERM to runner {}", self.pid())));
        }
        let status = self.0.wait().map_err(|error| Failure::internal(error.to_string()))?;
        match status.code() {
            Some(143) => Ok(()),
            _ => Err(Failure::internal(format!("the runner ended with {status} after SIGTERM; 143 was expected"))),
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn rows(table: &Path) -> Result<u64, Failure> {
    proof::count_rows(table).map_err(|error| Failure::internal(format!("cannot read {}: {error}", table.display())))
}

/// Waits until a table holds at least this many rows.
fn wait_for_rows(table: &Path, wanted: u64, runner: &mut Runner) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = rows(table)?;
        if found >= wanted {
            return Ok(());
        }
        if let Ok(Some(status)) = runner.0.try_wait() {
            return Err(Failure::internal(format!("the runner ended by itself with {status}; its words are above")));
        }
        if Instant::now() > deadline {
            return Err(Failure::internal(format!("only {found} of {wanted} rows after {} s", PATIENCE.as_secs())));
        }
        thread::sleep(LOOK);
    }
}

/// Reads the tables back and compares them with what was produced.
fn prove(lake: &Path, count: u64) -> Result<ExitCode, Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().map_err(|error| Failure::internal(error.to_string()))?;
    let found = runtime
        .block_on(proof::query(&lake.join("commandes"), &lake.join("items")))
        .map_err(|error| Failure::internal(format!("cannot query the tables: {error}")))?;
    let produced = Totals::of(count);
    print(&format!("{}\n", found.best));
    if found.totals != produced || found.doubled > 0 {
        return Err(Failure::internal(format!(
            "produced {produced:?}, found {:?} with {} doubled; the tables are in {}",
            found.totals,
            found.doubled,
            lake.display()
        )));
    }
    print(&format!(
        "proved: {} orders and {} items produced, the same found, 0 lost, 0 doubled, revenue {:.2} on both sides\n\
         tables: {}\n",
        produced.orders,
        produced.items,
        produced.revenue,
        lake.display()
    ));
    Ok(ExitCode::SUCCESS)
}
