//! The job that the destructive tests attack: nested orders with a bad message here and there, read once into two tables
//! and a table of dead letters, on disk or in MinIO; its job log; and what became of every message.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::duckdb::{Oracle, Row};
use crate::messages::{Kind, Messages};
use crate::produce::{Codec, Producer};
use crate::runner::{Launch, Runner};
use crate::servers::kafka::{Kafka, Login};
use crate::servers::minio::Minio;
use crate::servers::{scratch, unique};
use crate::{Result, block_on, wait};

/// Partitions of the topic.
pub const PARTITIONS: i32 = 4;
/// What the job writes, unless it has one output only.
const TABLES: [&str; 3] = ["commandes", "items", "bad"];
/// One message in so many does not decode.
const BAD_EVERY: u64 = 97;

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
    bootstrap: String,
    home: String,
}

/// A job's log as its objects say: the entries of every slot, for counting.
#[derive(Debug, Default)]
pub struct Log {
    slots: BTreeMap<String, Vec<Value>>,
}

/// A topic that is being produced to by a thread.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
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
  checkpoint: {{location: '{checkpoint}'}}
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

impl Log {
    fn add(&mut self, key: &str, read: impl FnOnce() -> Result<Vec<u8>>) -> Result<()> {
        if !key.ends_with(".json") || self.slots.contains_key(key) {
            return Ok(());
        }
        let slot: Value = serde_json::from_slice(&read()?).with_context(|| format!("slot {key}"))?;
        let entries = slot["entries"].as_array().cloned().with_context(|| format!("slot {key} has no entries"))?;
        self.slots.insert(key.to_owned(), entries);
        Ok(())
    }

    /// How many slots it has.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// How many entries there are of a kind, by the name of the format: `claim`, `commit`, `term` …
    pub fn count(&self, kind: &str) -> usize {
        self.entries(kind).count()
    }

    /// The bodies of the entries of a kind, in order.
    pub fn entries<'l>(&'l self, kind: &'l str) -> impl Iterator<Item = &'l Value> {
        self.slots.values().flatten().filter_map(move |entry| entry["body"].get(kind))
    }

    /// The incarnations that wrote entries of a kind, in order.
    pub fn writers<'l>(&'l self, kind: &'l str) -> impl Iterator<Item = &'l str> {
        let of_kind = self.slots.values().flatten().filter(move |entry| entry["body"].get(kind).is_some());
        of_kind.filter_map(|entry| entry["writer"]["incarnation"].as_str())
    }

    /// Whose the last commit of each partition is.
    pub fn last_committers(&self) -> BTreeMap<&str, &str> {
        let mut last = BTreeMap::new();
        for entry in self.slots.values().flatten() {
            let ranges = entry["body"]["commit"]["ranges"].as_object().into_iter().flatten();
            for (partition, writer) in
                ranges.filter_map(|(name, _)| Some((name, entry["writer"]["incarnation"].as_str()?)))
            {
                last.insert(partition.as_str(), writer);
            }
        }
        last
    }

    /// How many decided outputs of records are not noted as published.
    pub fn unpublished(&self) -> usize {
        let mut pending = BTreeSet::new();
        for (key, entries) in &self.slots {
            let name = key.rsplit('/').next().and_then(|name| name.strip_suffix(".json"));
            let seq = name.and_then(|name| name.parse::<u64>().ok()).unwrap_or_default();
            for body in entries.iter().map(|entry| &entry["body"]) {
                let notes = [&body["commit"]["published"], &body["published"]["notes"]];
                for note in notes.into_iter().filter_map(Value::as_array).flatten() {
                    pending.remove(&(note["seq"].as_u64().unwrap_or_default(), note["output"].to_string()));
                }
                let outputs = body["commit"]["intents"].as_object().into_iter().flatten();
                pending.extend(outputs.map(|(output, _)| (seq, json!(output).to_string())));
            }
        }
        pending.len()
    }

    /// Up to which offset each partition is committed.
    pub fn committed(&self, partitions: i32) -> Vec<i64> {
        let mut committed = vec![0; usize::try_from(partitions).unwrap_or(0)];
        for commit in self.entries("commit") {
            for (partition, range) in commit["ranges"].as_object().into_iter().flatten() {
                let number = partition.rsplit('/').next().and_then(|number| number.parse::<usize>().ok());
                let place = number.and_then(|number| committed.get_mut(number));
                if let (Some(place), Some(to)) = (place, range["to"].as_i64()) {
                    *place = to.max(*place);
                }
            }
        }
        committed
    }
}

/// What became of the messages in the three tables of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tallies {
    /// Messages in the topic.
    pub messages: u64,
    /// Rows that are missing, by table.
    pub lost: BTreeMap<&'static str, u64>,
    /// Rows that are there too often, or that no message is behind, by table.
    pub extra: BTreeMap<&'static str, u64>,
}

impl Tallies {
    /// Whether every row is there once and nothing else is.
    pub fn is_exact(&self) -> bool {
        self.messages > 0 && self.lost.values().chain(self.extra.values()).all(|count| *count == 0)
    }
}

/// What became of the messages of the view `messages` in the tables of several jobs that read the same topic; each job's
/// views end in one of `suffixes` ([`Job::views`]).
///
/// # Errors
///
/// When the oracle fails.
pub fn tallies(oracle: &Oracle, suffixes: &[&str]) -> Result<Vec<Tallies>> {
    tallies_of(oracle, suffixes, &TABLES)
}

fn tallies_of(oracle: &Oracle, suffixes: &[&str], tables: &[&str]) -> Result<Vec<Tallies>> {
    // A row is its message's place and enough of its contents to tell one row of a message from another.
    let expected = [
        ("commandes", "SELECT _partition AS p, _offset AS o, (_text->>'order_id')::BIGINT AS v FROM messages WHERE _text LIKE '{%'"),
        (
            "items",
            "SELECT p, o, hash((item->>'product_id')::INT, (item->>'quantity')::INT, (item->>'subtotal')::DOUBLE) AS v FROM (
               SELECT _partition AS p, _offset AS o, unnest(from_json(_text->'items', '[\"JSON\"]')) AS item
               FROM messages WHERE _text LIKE '{%')",
        ),
        ("bad", "SELECT _partition AS p, _offset AS o, hash(_value) AS v FROM messages WHERE _text NOT LIKE '{%'"),
    ];
    let expected: Vec<_> = expected.into_iter().filter(|(table, _)| tables.contains(table)).collect();
    let actual = |table: &str, suffix: &str| match table {
        "commandes" => format!("SELECT p, o, order_id::BIGINT AS v FROM commandes{suffix}"),
        "items" => {
            format!("SELECT p, o, hash(product_id::INT, quantity::INT, subtotal::DOUBLE) AS v FROM items{suffix}")
        }
        _ => format!("SELECT partition AS p, \"offset\" AS o, hash(value) AS v FROM bad{suffix}"),
    };
    let mut selects = Vec::new();
    for suffix in suffixes {
        let mut columns = vec!["(SELECT count(*) FROM messages) AS messages".to_owned()];
        for (table, expected) in &expected {
            let actual = actual(table, suffix);
            columns.push(format!("(SELECT count(*) FROM (({expected}) EXCEPT ALL ({actual}))) AS lost_{table}"));
            columns.push(format!("(SELECT count(*) FROM (({actual}) EXCEPT ALL ({expected}))) AS extra_{table}"));
        }
        selects.push(format!("SELECT '{suffix}' AS suffix, {}", columns.join(", ")));
    }
    let rows = oracle.rows(&selects.join(" UNION ALL "))?;
    let of = |suffix: &str| -> Result<Tallies> {
        let row: &Row = rows.iter().find(|row| row["suffix"] == json!(suffix)).context("a job has no tally")?;
        let count = |column: String| row.get(&column).and_then(Value::as_u64).with_context(|| format!("no {column}"));
        let counts = |prefix: &str| -> Result<BTreeMap<&'static str, u64>> {
            expected.iter().map(|(table, _)| Ok((*table, count(format!("{prefix}_{table}"))?))).collect()
        };
        Ok(Tallies { messages: count("messages".to_owned())?, lost: counts("lost")?, extra: counts("extra")? })
    };
    suffixes.iter().map(|suffix| of(suffix)).collect()
}

/// Produces the orders of that range of numbers, one in 97 of which does not decode, and returns once the broker has them.
///
/// # Errors
///
/// When the broker refuses one or does not answer.
pub fn produce(kafka: &Kafka, topic: &str, range: Range<u64>) -> Result<()> {
    let producer = Producer::new(kafka, Login::Plaintext, Codec::Lz4)?;
    send(&producer, topic, range)?;
    producer.flush()
}

fn send(producer: &Producer, topic: &str, range: Range<u64>) -> Result<()> {
    let messages = Messages::new(Kind::NestedOrders, PARTITIONS);
    for index in range {
        let mut message = messages.get(index);
        if index % BAD_EVERY == 50 {
            message.value = Some(format!("order {index}, on paper").into_bytes());
        }
        producer.send(topic, &message)?;
    }
    Ok(())
}

impl Stream {
    /// Produces about `rate` orders a second to the topic, from order 0 on, until it is finished. A broker that is away for
    /// less than a minute only delays it.
    ///
    /// # Errors
    ///
    /// When no producer can be made.
    pub fn start(kafka: &Kafka, topic: &str, rate: u64) -> Result<Stream> {
        const PULSE: Duration = Duration::from_millis(20);
        let producer = Producer::new(kafka, Login::Plaintext, Codec::Lz4)?;
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted, topic) = (stop.clone(), sent.clone(), topic.to_owned());
        let pulse = (rate / 50).max(1);
        let thread = std::thread::spawn(move || {
            let mut next = 0;
            while !stopped.load(Ordering::Relaxed) {
                send(&producer, &topic, next..next + pulse)?;
                next += pulse;
                counted.store(next, Ordering::Relaxed);
                std::thread::sleep(PULSE);
            }
            producer.flush()
        });
        Ok(Stream { stop, sent, thread: Some(thread) })
    }

    /// How many orders were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops producing, and returns once the broker has everything: how many orders there are.
    ///
    /// # Errors
    ///
    /// When the broker did not take them.
    pub fn finish(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the stream was finished before")?;
        thread.join().map_err(|_| anyhow!("the producing thread panicked"))??;
        Ok(self.sent())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A file that holds the wanted term of one or several runners, replaced as the kubelet replaces it.
#[derive(Debug)]
pub struct TermFile {
    directory: TempDir,
    revision: String,
}

impl TermFile {
    /// A file for that revision.
    ///
    /// # Errors
    ///
    /// When the temporary directory cannot be written.
    pub fn new(revision: &str, generation: u64, parallelism: u32) -> Result<TermFile> {
        let file = TermFile { directory: scratch("term")?, revision: revision.to_owned() };
        file.set(generation, parallelism)?;
        Ok(file)
    }

    /// Asks for another term.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn set(&self, generation: u64, parallelism: u32) -> Result<()> {
        let request = json!({"generation": generation, "revision": self.revision, "parallelism": parallelism});
        let partial = self.directory.path().join("partial");
        std::fs::write(&partial, request.to_string())?;
        Ok(std::fs::rename(partial, self.path())?)
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("term")
    }
}
