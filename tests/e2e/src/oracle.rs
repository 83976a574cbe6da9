//! What became of every order, by DuckDB over the Parquet files in MinIO and the messages in Kafka (`tests/oracle/oracle.py`).

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::Result;
use crate::cluster::{ACCESS_KEY, PASSWORD, checkout, python};
use crate::space::TestNamespace;

const PATIENCE: Duration = Duration::from_secs(300);

/// What became of the orders of a topic in the two tables of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Messages in the topic.
    pub messages: u64,
    /// Different orders in the topic.
    pub orders: u64,
    /// Orders without a row.
    pub lost: u64,
    /// Rows of an order that another row is of already, and rows that no order is behind.
    pub doubled: u64,
    /// The same for the orders' items.
    pub items_lost: u64,
    /// The same for the orders' items.
    pub items_doubled: u64,
}

impl Tally {
    /// Whether each of `produced` orders is there once and nothing else is.
    pub fn is_exact(&self, produced: u64) -> bool {
        let exact =
            Tally { messages: produced, orders: produced, lost: 0, doubled: 0, items_lost: 0, items_doubled: 0 };
        produced > 0 && *self == exact
    }
}

/// Counts what became of the orders of the test's topic in the tables under these two prefixes of its bucket.
///
/// # Errors
///
/// When a table is empty or cannot be read.
pub async fn tally(space: &TestNamespace, [commandes, items]: &[String; 2]) -> Result<Tally> {
    let s3 = |prefix: &str| {
        json!({"endpoint": space.cluster.minio, "access_key": ACCESS_KEY, "secret_key": PASSWORD,
            "bucket": space.bucket(), "prefix": prefix})
    };
    let views = json!([
        {"name": "messages", "topic": {"bootstrap": space.cluster.kafka, "topic": space.topic()}},
        {"name": "commandes", "s3": s3(commandes)},
        {"name": "items", "s3": s3(items)},
    ]);
    let rows = ask(views, TALLY).await?;
    let row = rows.first().context("the oracle gave no row")?;
    let count = |column: &str| row[column].as_u64().with_context(|| format!("no {column} in {row}"));
    Ok(Tally {
        messages: count("messages")?,
        orders: count("orders")?,
        lost: count("lost")?,
        doubled: count("doubled")?,
        items_lost: count("items_lost")?,
        items_doubled: count("items_doubled")?,
    })
}

/// A row is known by its message's place, and by what tells the rows of a message apart.
const TALLY: &str = "
    WITH wanted AS (SELECT _partition AS p, _offset AS o, (_text->>'order_id')::BIGINT AS v FROM messages),
         written AS (SELECT kafka_partition AS p, kafka_offset AS o, order_id::BIGINT AS v FROM commandes),
         wanted_items AS (
             SELECT p, o, (item->>'product_id')::BIGINT AS v, (item->>'subtotal')::DOUBLE AS s
             FROM (SELECT _partition AS p, _offset AS o, unnest(from_json(_text->'items', '[\"JSON\"]')) AS item FROM messages)),
         written_items AS (
             SELECT kafka_partition AS p, kafka_offset AS o, product_id::BIGINT AS v, subtotal::DOUBLE AS s FROM items)
    SELECT (SELECT count(*) FROM wanted) AS messages,
           (SELECT count(DISTINCT v) FROM wanted) AS orders,
           (SELECT count(*) FROM (FROM wanted EXCEPT ALL FROM written)) AS lost,
           (SELECT count(*) FROM (FROM written EXCEPT ALL FROM wanted)) AS doubled,
           (SELECT count(*) FROM (FROM wanted_items EXCEPT ALL FROM written_items)) AS items_lost,
           (SELECT count(*) FROM (FROM written_items EXCEPT ALL FROM wanted_items)) AS items_doubled";

async fn ask(views: Value, sql: &str) -> Result<Vec<Value>> {
    let directory = tempfile::tempdir()?;
    let request = json!({"directory": directory.path(), "views": views, "sql": [sql]}).to_string();
    let mut command = Command::new(python().await?);
    command.arg(checkout().join("tests/oracle/oracle.py")).kill_on_drop(true);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Closing the pipe, by dropping it, is the end of the request.
    child.stdin.take().context("the oracle has no standard input")?.write_all(request.as_bytes()).await?;
    let output = timeout(PATIENCE, child.wait_with_output()).await.context("the oracle does not answer")??;
    if !output.status.success() {
        bail!("the oracle failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let answers: Vec<Vec<Value>> = serde_json::from_slice(&output.stdout)?;
    answers.into_iter().next().context("the oracle gave no answer")
}
