//! A job as the tests run it: a manifest, most often one of `examples/`, in which only addresses, topics and paths are
//! replaced by those of the servers at hand.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_crds::contract::{ExitCode, FailureClass};
use millrace_tests::duckdb::{Oracle, Row};
use millrace_tests::runner::{Launch, Runner};
use millrace_tests::servers::kafka::Kafka;
use millrace_tests::servers::minio::{ACCESS_KEY, Minio, SECRET_KEY};
use millrace_tests::servers::{checkout, scratch};
use millrace_tests::wait;
use tempfile::TempDir;

/// How long one step of a job may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(40);
/// How a job ends that did everything.
pub const COMPLETED: Option<ExitCode> = Some(ExitCode::Completed);
/// How a job ends at data that its manifest does not allow for.
pub const DATA: Option<ExitCode> = Some(ExitCode::Failed(FailureClass::Data));
/// How a job ends after an error that only its user can mend.
pub const USER: Option<ExitCode> = Some(ExitCode::Failed(FailureClass::User));

/// A manifest with what belongs to it on a laptop: a folder for local paths and one with the secrets.
pub struct Job {
    pub manifest: String,
    /// By which a checkpoint knows its job.
    pub home: String,
    directory: TempDir,
}

/// The folder of the manifests that users start from.
pub fn examples() -> PathBuf {
    checkout().join("examples")
}

impl Job {
    /// A job of this text. Each job has a home of its own; [`Job::edited`] keeps it.
    pub fn new(manifest: &str) -> Job {
        let directory = scratch("job").unwrap();
        let home = directory.path().file_name().unwrap().to_string_lossy().into_owned();
        let job = Job { manifest: manifest.to_owned(), home, directory };
        job.set_secret("minio", "accessKey", ACCESS_KEY);
        job.set_secret("minio", "secretKey", SECRET_KEY);
        job
    }

    /// The example of that name, as it is in the checkout.
    pub fn example(file: &str) -> Job {
        Job::new(&std::fs::read_to_string(examples().join(file)).unwrap())
    }

    /// This text with another in its place, everywhere; it must occur.
    pub fn with(mut self, text: &str, other: &str) -> Job {
        assert!(self.manifest.contains(text), "the manifest has no {text:?}:\n{}", self.manifest);
        self.manifest = self.manifest.replace(text, other);
        self
    }

    /// That broker and that topic in place of the example's own.
    pub fn reading(self, kafka: &Kafka, example_topic: &str, topic: &str) -> Job {
        self.with("kafka:9092", &kafka.bootstrap()).with(&format!("[{example_topic}]"), &format!("[{topic}]"))
    }

    /// That store and bucket in place of the example's own.
    pub fn writing(self, minio: &Minio, bucket: &str) -> Job {
        self.with("http://minio:9000", &minio.endpoint()).with("s3://lake/", &format!("s3://{bucket}/"))
    }

    /// Relative paths of the example below the job's own folder.
    pub fn on_disk(self, folder: &str) -> Job {
        let path = self.directory.path().join(folder);
        self.with(&format!("location: {folder}/"), &format!("location: {}/", path.display()))
    }

    /// The same job, as its user has edited it: with another text, and the same home.
    pub fn edited(&self, edit: impl FnOnce(Job) -> Job) -> Job {
        Job { home: self.home.clone(), ..edit(Job::new(&self.manifest)) }
    }

    /// The job's folder.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a key of a secret.
    pub fn set_secret(&self, name: &str, key: &str, value: &str) {
        let secret = self.directory.path().join("secrets").join(name);
        std::fs::create_dir_all(&secret).unwrap();
        std::fs::write(secret.join(key), value).unwrap();
    }

    /// `millrace run`, not started yet.
    pub fn launch(&self) -> Launch {
        let secrets = self.directory.path().join("secrets");
        let launch = Launch::run(&self.manifest).unwrap().arg("--home").arg(&self.home);
        launch.arg("--secrets-dir").arg(secrets)
    }

    /// Starts it.
    pub fn start(&self) -> Runner {
        self.launch().start().unwrap()
    }

    /// Runs it to its end: the exit code and what it printed.
    pub fn finish(&self) -> (Option<ExitCode>, String) {
        let (status, printed) = self.launch().finish(SOON).unwrap();
        (status.code().and_then(ExitCode::from_code), printed)
    }

    /// Runs a job that must complete.
    pub fn complete(&self) {
        let (code, printed) = self.finish();
        assert_eq!(code, COMPLETED, "{printed}");
    }

    /// Runs an unbounded job until it has read that many messages since its start, then stops it in order.
    pub fn run_until_read(&self, messages: u64) {
        let mut runner = self.start();
        wait_until_read(&mut runner, messages);
        stop(runner);
    }
}

/// Waits until the runner has read that many messages, committed or not.
pub fn wait_until_read(runner: &mut Runner, messages: u64) {
    let what = format!("{messages} messages to be read");
    let read = || {
        if let Some(status) = runner.try_wait()? {
            anyhow::bail!("millrace ended: {status}\n{}", runner.printed());
        }
        Ok((metric(runner, "millrace_source_rows_total") >= messages).then_some(()))
    };
    wait::until(&what, SOON, read).unwrap();
}

/// The sum of a metric over its labels; 0 while the server does not answer.
pub fn metric(runner: &Runner, name: &str) -> u64 {
    let Ok(response) = runner.get("/metrics") else { return 0 };
    let lines = response
        .body
        .lines()
        .filter(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// SIGTERM, and its exit code: what was read is committed.
pub fn stop(mut runner: Runner) -> String {
    runner.terminate().unwrap();
    let status = runner.wait_for_exit(SOON).unwrap();
    let printed = runner.printed();
    assert_eq!(status.code().and_then(ExitCode::from_code), Some(ExitCode::Stopped), "{printed}");
    printed
}

/// Fails unless both queries give the same rows, and any.
pub fn assert_same(oracle: &Oracle, expected: &str, actual: &str) {
    let difference = oracle.compare(expected, actual).unwrap();
    assert!(difference.is_none() && difference.expected > 0, "{difference:#?}");
}

/// The rows of a query, each as the texts of its columns in order.
pub fn texts(oracle: &Oracle, sql: &str) -> Vec<Vec<String>> {
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    oracle.rows(sql).unwrap().iter().map(|row: &Row| row.values().map(text).collect()).collect()
}

/// The rows of the tables on the console, without their headers: a cell is the text between two bars.
pub fn console(printed: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut rules = 0;
    for line in printed.lines() {
        if line.starts_with("Batch: ") {
            rules = 0;
        } else if line.starts_with("+-") {
            rules += 1;
        } else if let Some(cells) = line.strip_prefix('|').and_then(|rest| rest.strip_suffix('|'))
            && rules == 2
        {
            rows.push(cells.split('|').map(|cell| cell.trim().to_owned()).collect());
        }
    }
    rows
}

/// Waits until the console shows so many rows in all, and gives them.
pub fn wait_for_rows(runner: &Runner, count: usize) -> Vec<Vec<String>> {
    let shown = || Ok(Some(console(&runner.printed())).filter(|rows| rows.len() >= count));
    wait::until(&format!("{count} rows on the console"), SOON, shown).unwrap()
}

/// These rows in order.
pub fn sorted(mut rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    rows.sort();
    rows
}
