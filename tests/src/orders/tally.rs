//! What became of every message, by DuckDB.

use std::collections::BTreeMap;

use anyhow::Context;
use serde_json::{Value, json};

use super::TABLES;
use crate::Result;
use crate::duckdb::{Oracle, Row};

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
/// views end in one of `suffixes` ([`super::Job::views`]).
///
/// # Errors
///
/// When the oracle fails.
pub fn tallies(oracle: &Oracle, suffixes: &[&str]) -> Result<Vec<Tallies>> {
    tallies_of(oracle, suffixes, &TABLES)
}

pub(super) fn tallies_of(oracle: &Oracle, suffixes: &[&str], tables: &[&str]) -> Result<Vec<Tallies>> {
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
