//! The oracle: another engine's answer about the messages that were produced and the tables that were written.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::Result;
use crate::servers::kafka::Kafka;
use crate::servers::minio::{ACCESS_KEY, Minio, SECRET_KEY};
use crate::servers::{checkout, installed, scratch};

/// One row of an answer, by column name. Numbers, strings and lists are JSON's; a timestamp is a string.
pub type Row = Map<String, Value>;

/// DuckDB with a view on each thing to be compared. What a view shows is fetched by the first query and then stays as it
/// was, so make a new oracle to look again.
#[derive(Debug)]
pub struct Oracle {
    directory: TempDir,
    views: Vec<Value>,
}

/// What two queries do not agree on. Rows count as often as they occur.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// How many rows were expected.
    pub expected: u64,
    /// How many expected rows are not there.
    pub missing: u64,
    /// How many rows are there that were not expected, or more often than expected.
    pub extra: u64,
    /// A few of the missing rows.
    pub missing_rows: Vec<Row>,
    /// A few of the extra rows.
    pub extra_rows: Vec<Row>,
}

/// What became of the messages of a topic in a table with one row a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Messages that a `read_committed` reader gets.
    pub produced: u64,
    /// Messages that no row is of.
    pub lost: u64,
    /// Rows of a message that another row is of already.
    pub doubled: u64,
    /// Rows that no message is behind.
    pub invented: u64,
}

impl Oracle {
    /// An oracle without views.
    ///
    /// # Errors
    ///
    /// When the temporary directory cannot be written.
    pub fn new() -> Result<Oracle> {
        Ok(Oracle { directory: scratch("oracle")?, views: Vec::new() })
    }

    /// Adds a view on the messages of a topic that a `read_committed` reader gets, read by Confluent's client. Columns:
    /// `_partition`, `_offset`, `_timestamp`, the bytes `_key` and `_value`, and both as text (null if they are not
    /// UTF-8): `_key_text` and `_text`.
    pub fn topic(mut self, view: &str, kafka: &Kafka, topic: &str) -> Oracle {
        let from = json!({"bootstrap": kafka.bootstrap(), "topic": topic});
        self.views.push(json!({"name": view, "topic": from}));
        self
    }

    /// Adds a view on a Parquet table in MinIO: all objects below `prefix` whose name ends in `.parquet`, with the hive
    /// partition columns of their paths as strings.
    pub fn bucket(mut self, view: &str, minio: &Minio, bucket: &str, prefix: &str) -> Oracle {
        let endpoint = minio.endpoint();
        let from = json!({"endpoint": endpoint, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY,
            "bucket": bucket, "prefix": prefix});
        self.views.push(json!({"name": view, "s3": from}));
        self
    }

    /// Adds a view on a Parquet table on disk; otherwise as [`Oracle::bucket`].
    pub fn path(mut self, view: &str, path: &Path) -> Oracle {
        self.views.push(json!({"name": view, "path": path}));
        self
    }

    /// The rows of a `SELECT` in DuckDB's dialect over the views.
    ///
    /// # Errors
    ///
    /// When a view is empty or cannot be fetched, or DuckDB refuses the query.
    pub fn rows(&self, sql: &str) -> Result<Vec<Row>> {
        let mut answers = self.ask(&[sql])?;
        answers.pop().context("the oracle gave no answer")
    }

    /// The one value of a `SELECT` with one row and one column.
    ///
    /// # Errors
    ///
    /// As for [`Oracle::rows`], and when the answer is of another shape.
    pub fn value(&self, sql: &str) -> Result<Value> {
        let rows = self.rows(sql)?;
        match rows.as_slice() {
            [row] if row.len() == 1 => row.values().next().cloned().context("no column"),
            _ => bail!("{sql} gave {} rows instead of one value", rows.len()),
        }
    }

    /// Compares the rows of two queries, which must have the same columns. Order does not matter, repetition does.
    ///
    /// # Errors
    ///
    /// As for [`Oracle::rows`].
    pub fn compare(&self, expected: &str, actual: &str) -> Result<Difference> {
        let missing = format!("(FROM ({expected}) EXCEPT ALL FROM ({actual}))");
        let extra = format!("(FROM ({actual}) EXCEPT ALL FROM ({expected}))");
        let answers = self.ask(&[
            &format!("SELECT (SELECT count(*) FROM ({expected})) AS expected, (SELECT count(*) FROM {missing}) AS missing, (SELECT count(*) FROM {extra}) AS extra"),
            &format!("SELECT * FROM {missing} LIMIT 5"),
            &format!("SELECT * FROM {extra} LIMIT 5"),
        ])?;
        let [counts, missing_rows, extra_rows] =
            <[Vec<Row>; 3]>::try_from(answers).ok().context("the oracle gave too few answers")?;
        let counts = counts.first().context("the oracle gave no counts")?;
        Ok(Difference {
            expected: count(counts, "expected")?,
            missing: count(counts, "missing")?,
            extra: count(counts, "extra")?,
            missing_rows,
            extra_rows,
        })
    }

    /// Compares the messages of the view `messages` (of [`Oracle::topic`]) with the rows of the view `table` by where they
    /// come from; `partition` and `offset` are the table's columns that say so.
    ///
    /// # Errors
    ///
    /// As for [`Oracle::rows`].
    pub fn lost_and_doubled(&self, messages: &str, table: &str, partition: &str, offset: &str) -> Result<Tally> {
        let rows = self.rows(&format!(
            "WITH produced AS (SELECT _partition AS p, _offset AS o FROM {messages}),
                  written AS (SELECT {partition} AS p, {offset} AS o, count(*) AS n FROM {table} GROUP BY ALL)
             SELECT (SELECT count(*) FROM produced) AS produced,
                    (SELECT count(*) FROM produced ANTI JOIN written USING (p, o)) AS lost,
                    (SELECT coalesce(sum(n - 1), 0)::BIGINT FROM written) AS doubled,
                    (SELECT coalesce(sum(n), 0)::BIGINT FROM written ANTI JOIN produced USING (p, o)) AS invented"
        ))?;
        let row = rows.first().context("the oracle gave no tally")?;
        Ok(Tally {
            produced: count(row, "produced")?,
            lost: count(row, "lost")?,
            doubled: count(row, "doubled")?,
            invented: count(row, "invented")?,
        })
    }

    fn ask(&self, sql: &[&str]) -> Result<Vec<Vec<Row>>> {
        let request = json!({"directory": self.directory.path(), "views": self.views, "sql": sql});
        let mut command = Command::new(installed("PYTHON")?);
        command.arg(checkout().join("tests/oracle/oracle.py"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        // Closing the pipe, by dropping it, is the end of the request.
        child.stdin.take().context("the oracle has no standard input")?.write_all(request.to_string().as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("the oracle failed: {}\nit was asked: {sql:#?}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

impl Difference {
    /// Whether both queries gave the same rows.
    pub fn is_none(&self) -> bool {
        self.missing == 0 && self.extra == 0
    }
}

impl Tally {
    /// Whether every message is there once and nothing else is.
    pub fn is_exact(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.invented == 0
    }
}

fn count(row: &Row, column: &str) -> Result<u64> {
    row.get(column).and_then(Value::as_u64).with_context(|| format!("no count in column {column} of {row:?}"))
}
