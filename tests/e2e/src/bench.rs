//! What a test does to the servers from outside the cluster, by a Python process (`python/bench.py`) with Kafka's own client and boto3.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::Result;
use crate::cluster::{ACCESS_KEY, Cluster, PASSWORD, checkout, python};

/// Deleting a full bucket takes longest.
const PATIENCE: Duration = Duration::from_secs(120);

/// The process, ended when this is dropped.
pub struct Bench {
    talk: Mutex<Talk>,
}

struct Talk {
    _child: Child,
    requests: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Bench {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// When Python is not there.
    pub async fn start(cluster: &Cluster) -> Result<Bench> {
        let mut child = script("bench.py").await?.spawn().context("starting bench.py")?;
        let mut requests = child.stdin.take().context("bench.py has no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("bench.py has no standard output")?).lines();
        let s3 = json!({"endpoint": cluster.minio, "access_key": ACCESS_KEY, "secret_key": PASSWORD});
        requests.write_all(format!("{}\n", json!({"kafka": cluster.kafka, "s3": s3})).as_bytes()).await?;
        Ok(Bench { talk: Mutex::new(Talk { _child: child, requests, answers }) })
    }

    /// Creates a topic.
    ///
    /// # Errors
    ///
    /// When Kafka refuses or is away; likewise below, with MinIO for buckets.
    pub async fn create_topic(&self, topic: &str, partitions: u32) -> Result<()> {
        self.ask(json!({"do": "create_topic", "topic": topic, "partitions": partitions})).await.map(drop)
    }

    /// Deletes a topic.
    ///
    /// # Errors
    ///
    /// As above.
    pub async fn delete_topic(&self, topic: &str) -> Result<()> {
        self.ask(json!({"do": "delete_topic", "topic": topic})).await.map(drop)
    }

    /// The next offset of each partition of a topic.
    ///
    /// # Errors
    ///
    /// As above.
    pub async fn ends(&self, topic: &str) -> Result<Vec<i64>> {
        Ok(serde_json::from_value(self.ask(json!({"do": "ends", "topic": topic})).await?)?)
    }

    /// Creates a bucket.
    ///
    /// # Errors
    ///
    /// As above.
    pub async fn create_bucket(&self, bucket: &str) -> Result<()> {
        self.ask(json!({"do": "create_bucket", "bucket": bucket})).await.map(drop)
    }

    /// Deletes a bucket with all that is in it.
    ///
    /// # Errors
    ///
    /// As above.
    pub async fn delete_bucket(&self, bucket: &str) -> Result<()> {
        self.ask(json!({"do": "delete_bucket", "bucket": bucket})).await.map(drop)
    }

    /// The keys below a prefix.
    ///
    /// # Errors
    ///
    /// As above.
    pub async fn keys(&self, bucket: &str, prefix: &str) -> Result<Vec<String>> {
        Ok(serde_json::from_value(self.ask(json!({"do": "keys", "bucket": bucket, "prefix": prefix})).await?)?)
    }

    /// The slots of a job log behind the key `after`, each with `key`, `stored` (milliseconds) and `entries`.
    ///
    /// # Errors
    ///
    /// As above.
    pub async fn slots(&self, bucket: &str, prefix: &str, after: &str) -> Result<Vec<Value>> {
        let asked = json!({"do": "slots", "bucket": bucket, "prefix": prefix, "after": after});
        Ok(serde_json::from_value(self.ask(asked).await?)?)
    }

    async fn ask(&self, request: Value) -> Result<Value> {
        let mut talk = self.talk.lock().await;
        talk.requests.write_all(format!("{request}\n").as_bytes()).await.context("bench.py is gone")?;
        let line =
            timeout(PATIENCE, talk.answers.next_line()).await.with_context(|| format!("no answer to {request}"))?;
        let mut answer: Value = serde_json::from_str(&line?.context("bench.py ended")?)?;
        if let Some(error) = answer["error"].as_str() {
            bail!("{error}");
        }
        Ok(answer["ok"].take())
    }
}

/// A script of `python/`, talked to by standard input and output.
///
/// # Errors
///
/// When Python is not there.
pub async fn script(name: &str) -> Result<Command> {
    let mut command = Command::new(python().await?);
    command.arg(checkout().join("tests/e2e/python").join(name)).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    Ok(command)
}
