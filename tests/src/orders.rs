//! The job that the destructive tests attack: nested orders with a bad message here and there, read once into two tables
//! and a table of dead letters, on disk or in MinIO; its job log; and what became of every message.

mod log;
mod stream;
mod tally;
mod term_file;

use std::time::Duration;

use anyhow::{Context, bail};
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use tempfile::TempDir;

pub use self::log::Log;
pub use self::stream::{Stream, produce};
use self::tally::tallies_of;
pub use self::tally::{Tallies, tallies};
pub use self::term_file::TermFile;
use crate::duckdb::Oracle;
use crate::runner::{Launch, Runner};
use crate::servers::kafka::Kafka;
use crate::servers::minio::Minio;
use crate::servers::{scratch, unique};
use crate::{Result, block_on, wait};

/// Partitions of the topic.
pub const PARTITIONS: i32 = 4;
/// What the job writes, unless it has one output only.
const TABLES: [&str; 3] = ["commandes", "items", "bad"];
/// Where a job keeps its tables and its log.
#[derive(Debug)]
pub enum Place<'a> {
    /// A directory of this machine.
    Disk(TempDir),
    /// Two buckets, so that requests for tables and for the log can be told apart.
    Minio {
        /// The server.
        minio: &'a Minio,
        /// The tables' bucket.
        tables: String,
        /// The job log's bucket.
        log: String,
    },
}

/// One job: a topic, a place, a name.
#[derive(Debug)]
pub struct Job<'a> {
    /// Where its tables and its log are.
    pub place: Place<'a>,
    /// What it reads.
    pub topic: String,
    /// Goes between `trigger: {` and `}`.
    pub trigger: String,
    /// Whether the orders' files are split by status, so that an epoch has several of them.
    pub by_status: bool,
    /// Whether the orders are the only table: no items, and what does not decode is skipped.
    pub one_output: bool,
    /// Its progressDeadline, if it says one.
    pub deadline: Option<&'static str>,
    bootstrap: String,
    home: String,
}

impl<'a> Place<'a> {
    /// A new directory.
    ///
    /// # Errors
    ///
    /// When the temporary directory cannot be written.
    pub fn disk() -> Result<Place<'static>> {
        Ok(Place::Disk(scratch("lake")?))
    }

    /// Two new buckets.
    ///
    /// # Errors
    ///
    /// When MinIO does not answer.
    pub fn minio(minio: &'a Minio) -> Result<Place<'a>> {
        Ok(Place::Minio { minio, tables: minio.unique_bucket("lake")?, log: minio.unique_bucket("log")? })
    }

    fn table(&self, table: &str) -> String {
        match self {
            Place::Disk(directory) => directory.path().join(table).display().to_string(),
            Place::Minio { tables, .. } => format!("s3://{tables}/{table}"),
        }
    }

    fn checkpoint(&self) -> String {
        match self {
            Place::Disk(directory) => directory.path().join("checkpoint").display().to_string(),
            Place::Minio { log, .. } => format!("s3://{log}/checkpoint"),
        }
    }
}

impl<'a> Job<'a> {
    /// A job that reads `topic` of `kafka`; `trigger` is the manifest's, for example `interval: 100ms`.
    pub fn new(kafka: &Kafka, topic: &str, place: Place<'a>, trigger: &str) -> Job<'a> {
        Job {
            place,
            topic: topic.to_owned(),
            trigger: trigger.to_owned(),
            by_status: false,
            one_output: false,
            deadline: None,
            bootstrap: kafka.bootstrap(),
            home: unique("tests/chaos/orders"),
        }
    }

    /// Its manifest.
    pub fn manifest(&self) -> String {
        let partition_by = if self.by_status { ", partitionBy: [status]" } else { "" };
        let (commandes, items) = (self.place.table("commandes"), self.place.table("items"));
        let (bad, checkpoint) = (self.place.table("bad"), self.place.checkpoint());
        let (bootstrap, topic, trigger) = (&self.bootstrap, &self.topic, &self.trigger);
        let deadline = self.deadline.map(|deadline| format!("  progressDeadline: {deadline}\n")).unwrap_or_default();
        let dead_letters = format!("{{action: deadLetter, deadLetter: {{parquet: {{path: '{bad}'}}}}}}");
        let items = format!(
            "    - name: items
      sql: >
        SELECT order_id, item['product_id'] AS product_id, item['product_name'] AS product_name,
               item['quantity'] AS quantity, item['subtotal'] AS subtotal, _partition AS p, _offset AS o
        FROM (SELECT order_id, _partition, _offset, unnest(items) AS item FROM orders)
      parquet: {{path: '{items}'}}
"
        );
        let (on_error, items) = if self.one_output { ("{action: skip}", "") } else { (&*dead_letters, &*items) };
        format!(
            "apiVersion: millrace.dev/v1alpha1
kind: StreamingJob
metadata: {{name: orders}}
spec:
  sources:
    - name: orders
      kafka: {{bootstrapServers: '{bootstrap}', topics: [{topic}], startingOffsets: earliest}}
      format:
        json:
          schema: >
            order_id INT, customer_id STRING, timestamp STRING,
            items ARRAY<STRUCT<product_id INT, product_name STRING, quantity INT, unit_price DOUBLE, subtotal DOUBLE>>,
            total DOUBLE, status STRING
      onError: {on_error}
  outputs:
    - name: commandes
      sql: SELECT order_id, customer_id, timestamp, total, status, _partition AS p, _offset AS o FROM orders
      parquet: {{path: '{commandes}'{partition_by}}}
{items}  trigger: {{{trigger}}}
{deadline}  checkpoint: {{location: '{checkpoint}'}}
"
        )
    }

    /// `millrace run` of it, always at the same home.
    ///
    /// # Errors
    ///
    /// When the binary has not been built.
    pub fn launch(&self) -> Result<Launch> {
        let launch = Launch::run(&self.manifest())?.arg("--home").arg(&self.home);
        Ok(match self.place {
            Place::Disk(_) => launch,
            Place::Minio { minio, .. } => launch.storage(minio),
        })
    }

    /// Its revision, as `millrace validate` says it.
    ///
    /// # Errors
    ///
    /// When it says none.
    pub fn revision(&self) -> Result<String> {
        let (status, printed) =
            Launch::command("validate")?.manifest(&self.manifest())?.finish(Duration::from_secs(20))?;
        let revision = printed.split_once("revision ").and_then(|(_, rest)| rest.split_whitespace().next());
        revision.map(str::to_owned).with_context(|| format!("millrace validate: {status}: {printed}"))
    }

    /// Adds views on its three tables to an oracle: `commandes`, `items` and `bad`, each followed by `suffix`.
    pub fn views(&self, oracle: Oracle, suffix: &str) -> Oracle {
        self.tables().iter().fold(oracle, |oracle, table| {
            let view = format!("{table}{suffix}");
            match &self.place {
                Place::Disk(directory) => oracle.path(&view, &directory.path().join(table)),
                Place::Minio { minio, tables, .. } => oracle.bucket(&view, minio, tables, table),
            }
        })
    }

    fn tables(&self) -> &'static [&'static str] {
        if self.one_output { &TABLES[..1] } else { &TABLES }
    }

    /// Fails unless every message of the topic is in the tables once and nothing else is.
    ///
    /// # Errors
    ///
    /// When it is not so; the error says how many rows of which table are missing and extra.
    pub fn check_exactly_once(&self, kafka: &Kafka) -> Result<Tallies> {
        let oracle = self.views(Oracle::new()?.topic("messages", kafka, &self.topic), "");
        let found = tallies_of(&oracle, &[""], self.tables())?;
        let found = found.into_iter().next().context("the oracle gave no tally")?;
        if !found.is_exact() {
            bail!("not every message is there once: {found:?}");
        }
        Ok(found)
    }

    /// Reads the slots of the job log that `known` does not hold yet.
    ///
    /// # Errors
    ///
    /// When the store does not answer.
    pub fn read_log(&self, known: &mut Log) -> Result<()> {
        match &self.place {
            Place::Disk(directory) => {
                let Ok(listing) = std::fs::read_dir(directory.path().join("checkpoint/log")) else { return Ok(()) };
                for entry in listing {
                    let entry = entry?;
                    known.add(&entry.file_name().to_string_lossy(), || Ok(std::fs::read(entry.path())?))?;
                }
            }
            Place::Minio { minio, log, .. } => {
                let store = minio.store(log)?;
                for key in minio.keys(log, "checkpoint/log")? {
                    known.add(&key, || {
                        block_on(async { Ok(store.get(&Key::from(key.as_str())).await?.bytes().await?.to_vec()) })?
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Waits until the log says that everything in the topic is committed and published.
    ///
    /// # Errors
    ///
    /// When it is not so after `bound`, or one of the runners has ended.
    pub fn wait_until_all_is_published(
        &self,
        kafka: &Kafka,
        runners: &mut [&mut Runner],
        bound: Duration,
    ) -> Result<()> {
        let ends: Vec<i64> = kafka.offsets(&self.topic)?.into_iter().map(|(_, end)| end).collect();
        let mut log = Log::default();
        let all = wait::until("everything to be committed and published", bound, || {
            for runner in runners.iter_mut() {
                if let Some(status) = runner.try_wait()? {
                    bail!("a runner ended: {status}\n{}", runner.printed());
                }
            }
            self.read_log(&mut log)?;
            Ok((log.committed(PARTITIONS) == ends && log.unpublished() == 0).then_some(()))
        });
        all.with_context(|| {
            let printed: Vec<String> = runners.iter().map(|runner| runner.printed()).collect();
            let (committed, unpublished) = (log.committed(PARTITIONS), log.unpublished());
            let printed = printed.join("\n---\n");
            format!("committed {committed:?} of {ends:?}, {unpublished} unpublished; the runners printed\n{printed}")
        })
    }
}
