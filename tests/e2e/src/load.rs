//! Orders arriving at a steady rate while something else happens.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::process::Child;
use tokio::time::timeout;

use crate::Result;
use crate::bench::script;
use crate::cluster::Cluster;

/// Kafka may be away for a while when the last orders are sent.
const PATIENCE: Duration = Duration::from_secs(320);
/// No load runs longer than this, whatever becomes of its test.
const LONGEST: u64 = 3_600;

/// A process that produces (`python/load.py`); killed when this is dropped.
pub struct Load {
    child: Child,
}

impl Load {
    /// Starts to produce `rate` orders a second, spread over the topic's partitions in turn.
    ///
    /// # Errors
    ///
    /// When Python is not there.
    pub async fn start(cluster: &Cluster, topic: &str, partitions: u32, rate: u32) -> Result<Load> {
        Load::launch(cluster, topic, partitions, rate, u64::from(rate) * LONGEST).await
    }

    /// Stops it. Returns how many orders it produced: those with the ids from 0 on.
    ///
    /// # Errors
    ///
    /// When Kafka has not acknowledged all of them after five minutes.
    pub async fn finish(mut self) -> Result<u64> {
        drop(self.child.stdin.take());
        let mut printed = String::new();
        let mut out = self.child.stdout.take().context("load.py has no standard output")?;
        timeout(PATIENCE, out.read_to_string(&mut printed)).await.context("load.py does not end")??;
        let status = self.child.wait().await?;
        if !status.success() {
            bail!("load.py failed: {status}; it has said why on standard error");
        }
        let said: Value = serde_json::from_str(&printed)?;
        said["produced"].as_u64().context("load.py did not say how many orders it produced")
    }

    async fn launch(cluster: &Cluster, topic: &str, partitions: u32, rate: u32, count: u64) -> Result<Load> {
        let kafka = &cluster.kafka;
        let want = json!({"kafka": kafka, "topic": topic, "partitions": partitions, "rate": rate, "count": count});
        let child = script("load.py").await?.arg(want.to_string()).spawn().context("starting load.py")?;
        Ok(Load { child })
    }
}

/// Produces so many orders at once.
///
/// # Errors
///
/// When Kafka does not acknowledge all of them.
pub async fn produce(cluster: &Cluster, topic: &str, partitions: u32, count: u64) -> Result<()> {
    let mut load = Load::launch(cluster, topic, partitions, 0, count).await?;
    // Standard input stays open until it has ended by itself: closing it would end it early.
    let input = load.child.stdin.take();
    let produced = load.finish().await?;
    drop(input);
    if produced != count {
        bail!("{produced} of {count} orders were produced");
    }
    Ok(())
}
