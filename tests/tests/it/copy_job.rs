//! The smallest job there is, for tests of what a source reads: it copies topics to a table on disk.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use millrace_tests::duckdb::{Difference, Oracle, Row};
use millrace_tests::runner::{Launch, Runner};
use millrace_tests::servers::kafka::Kafka;
use millrace_tests::servers::scratch;
use millrace_tests::wait;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take that takes a second on an idle machine.
pub const SOON: Duration = Duration::from_secs(60);

/// A job that copies what it reads, with the folder that it, its table, its checkpoint and its secrets lie in.
pub struct CopyJob {
    directory: TempDir,
    kafka: String,
    trigger: &'static str,
}

impl CopyJob {
    /// A job that ends by itself. `kafka` is the inside of the manifest's `kafka: {…}`.
    pub fn bounded(kafka: impl Into<String>) -> CopyJob {
        CopyJob::new(kafka.into(), "availableNow: {}")
    }

    /// A job that looks for something new to commit several times a second.
    pub fn endless(kafka: impl Into<String>) -> CopyJob {
        CopyJob::new(kafka.into(), "interval: 300ms")
    }

    fn new(kafka: String, trigger: &'static str) -> CopyJob {
        CopyJob { directory: scratch("copy").unwrap(), kafka, trigger }
    }

    /// Lets the job run on with another source section and the same checkpoint.
    pub fn kafka(&mut self, kafka: impl Into<String>) {
        self.kafka = kafka.into();
    }

    /// Writes the key `key` of the secret `name` into the job's secrets.
    pub fn secret(&self, name: &str, key: &str, value: &[u8]) {
        let directory = self.secrets().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(key), value).unwrap();
    }

    /// The folder of the copy's Parquet files.
    pub fn table(&self) -> PathBuf {
        self.directory.path().join("table")
    }

    fn secrets(&self) -> PathBuf {
        self.directory.path().join("secrets")
    }

    /// The manifest; its file has another name in each start, so the checkpoint's home is told by flag.
    pub fn manifest(&self) -> String {
        let (directory, trigger, kafka) = (self.directory.path().display(), self.trigger, &self.kafka);
        format!(
            "apiVersion: millrace.dev/v1alpha1
kind: StreamingJob
metadata: {{name: copy}}
spec:
  sources:
    - name: messages
      kafka: {{{kafka}}}
      format: {{binary: {{}}}}
  outputs:
    - name: copy
      sql: SELECT _topic AS topic, _partition AS part, _offset AS off, _timestamp AS time, _key AS key, value FROM messages
      parquet: {{path: '{directory}/table'}}
  trigger: {{{trigger}}}
  checkpoint: {{location: '{directory}/checkpoint'}}
"
        )
    }

    pub fn launch(&self) -> Launch {
        let launch = Launch::run(&self.manifest()).unwrap().arg("--home").arg("test:copy");
        launch.arg("--secrets-dir").arg(self.secrets())
    }

    /// Starts it.
    pub fn start(&self) -> Runner {
        self.launch().start().unwrap()
    }

    /// Starts one of two runners that share the work.
    pub fn start_of_two(&self, ordinal: u32) -> Runner {
        let launch = self.launch().arg("--parallelism").arg("2").arg("--ordinal").arg(ordinal.to_string());
        launch.start().unwrap()
    }

    /// Runs it to its end: exit status and everything printed.
    pub fn finish(&self) -> (ExitStatus, String) {
        self.launch().finish(SOON).unwrap()
    }

    /// Runs it to its end, which must be a good one.
    pub fn complete(&self) {
        let (status, printed) = self.finish();
        assert!(status.success(), "{status}: {printed}");
    }

    /// Whether any row was published.
    pub fn is_empty(&self) -> bool {
        parquet_files(&self.table()).is_empty()
    }

    /// How many rows the job log has decided.
    pub fn rows(&self) -> u64 {
        let entries = self.log_entries();
        entries.iter().filter_map(|entry| entry["body"]["commit"]["counters"]["rowsOut"]["copy"].as_u64()).sum()
    }

    /// Waits until so many rows are decided.
    pub fn wait_for_rows(&self, runner: &mut Runner, rows: u64) {
        let decided = wait::until(&format!("{rows} rows"), SOON, || {
            if let Some(status) = runner.try_wait()? {
                anyhow::bail!("the runner has ended: {status}\n{}", runner.printed());
            }
            Ok((self.rows() >= rows).then_some(()))
        });
        decided.unwrap();
    }

    /// SIGTERM, and the end that belongs to it.
    pub fn stop(&self, mut runner: Runner) {
        runner.terminate().unwrap();
        let status = runner.wait_for_exit(SOON).unwrap();
        assert_eq!(status.code(), Some(143), "{}", runner.printed());
    }

    /// How the copy differs from the topic's messages as a `read_committed` reader gets them; `only` is a condition on the
    /// messages (`_partition`, `_offset`, `_timestamp`, `_key`, `_value`).
    pub fn compare(&self, kafka: &Kafka, topic: &str, only: &str) -> Difference {
        let oracle = Oracle::new().unwrap().topic("sent", kafka, topic).path("copy", &self.table());
        let expected = format!("SELECT _partition, _offset, _timestamp, _key, _value FROM sent WHERE {only}");
        let copied = format!("SELECT part, off, time, key, value FROM copy WHERE topic = '{topic}'");
        oracle.compare(&expected, &copied).unwrap()
    }

    /// Asserts that the copy of that topic holds exactly its messages for which `only` is true.
    pub fn assert_copied(&self, kafka: &Kafka, topic: &str, only: &str, rows: u64) {
        let difference = self.compare(kafka, topic, only);
        assert!(difference.is_none() && difference.expected == rows, "{topic} where {only}: {difference:?}");
    }

    /// The rows of a query over the view `copy`.
    pub fn query(&self, sql: &str) -> Vec<Row> {
        Oracle::new().unwrap().path("copy", &self.table()).rows(sql).unwrap()
    }

    /// Every entry of the job log, oldest first.
    pub fn log_entries(&self) -> Vec<Value> {
        let Ok(slots) = std::fs::read_dir(self.directory.path().join("checkpoint/log")) else { return Vec::new() };
        let mut slots: Vec<PathBuf> = slots.map(|slot| slot.unwrap().path()).collect();
        slots.sort();
        let slots = slots.iter().map(|slot| serde_json::from_slice::<Value>(&std::fs::read(slot).unwrap()).unwrap());
        slots.flat_map(|slot| slot["entries"].as_array().cloned().unwrap_or_default()).collect()
    }

    /// What the job log recorded as lost.
    pub fn losses(&self) -> Vec<Value> {
        let losses = |entry: Value| entry["body"]["commit"]["dataLoss"].as_array().cloned().unwrap_or_default();
        self.log_entries().into_iter().flat_map(losses).collect()
    }
}

fn parquet_files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "parquet")).collect()
}
