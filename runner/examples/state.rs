//! What keyed state costs: epochs of 10,000 rows upon 1,000,000 live groups, and restoring those from bytes.
//!
//! ```text
//! cargo run --release -p millrace --example state -- [groups] [rows per epoch] [epochs]
//! ```
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use arrow::array::{Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::MemTable;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions, collect};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::executor::block_on;
use millrace::state::{Aggregation, BucketSet, KeyedState, StateSpec, first_half};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const AGGREGATES: &str = "count(*), sum(amount), avg(amount), min(amount), max(amount)";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let groups = arguments.next().transpose()?.unwrap_or(1_000_000);
    let rows = arguments.next().transpose()?.unwrap_or(10_000);
    let epochs = arguments.next().transpose()?.unwrap_or(300);
    for key in ["id", "name", "id, name"] {
        measure(key, groups, rows, epochs)?;
    }
    Ok(())
}

fn measure(key: &str, groups: usize, rows: usize, epochs: usize) -> Result<()> {
    let query = Query::new(&format!("SELECT {key}, {AGGREGATES} FROM t GROUP BY {key}"))?;
    let mut state = KeyedState::new(query.spec())?;
    let mut random = StdRng::seed_from_u64(1);
    let mut filling = Times::default();
    for from in (0..groups).step_by(rows) {
        let partial = query.partial(&batch((from..groups.min(from + rows)).map(|id| id as i64))?)?;
        filling.time(|| state.merge(partial))?;
        state.checkpoint()?;
    }
    let [mut aggregate, mut merge, mut checkpoint, mut encode, mut all] = <[Times; 5]>::default();
    let mut bytes = Vec::new();
    for _ in 0..epochs {
        let input = batch((0..rows).map(|_| random.random_range(0..groups) as i64))?;
        let partial = aggregate.time(|| query.partial(&input))?;
        let start = Instant::now();
        merge.time(|| state.merge(partial))?;
        let delta = checkpoint.time(|| state.checkpoint())?;
        bytes.push(encode.time(|| delta.encode())?.len());
        all.0.push(start.elapsed());
    }
    bytes.sort_unstable();
    let size = state.size();
    println!("grouped by {key}: {groups} groups, epochs of {rows} rows");
    println!("  first half (is there without state too)  {}", aggregate.text());
    println!("  merge into the state, growing            {}", filling.text());
    println!("  merge into the state                     {}", merge.text());
    println!("  take the delta                           {}", checkpoint.text());
    println!("  encode the delta                         {}", encode.text());
    println!("  added to an epoch                        {}", all.text());
    println!("  delta, median                            {} bytes", bytes[bytes.len() / 2]);
    println!("  state                                    {size:?}");

    let start = Instant::now();
    let base = state.base(&BucketSet::ALL)?;
    let taken = start.elapsed();
    let blob = base.encode()?;
    println!("  base of everything                       {taken:?} to take, {:?} with encoding", start.elapsed());
    let start = Instant::now();
    let restored = KeyedState::restore(query.spec(), [&blob[..]], &BucketSet::ALL, None)?;
    println!("  restore from {} bytes              {:?}", blob.len(), start.elapsed());
    anyhow::ensure!(restored.size().groups == size.groups, "{:?}", restored.size());
    Ok(())
}

/// How long something took, each time.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.0.push(start.elapsed());
        result
    }

    fn text(&self) -> String {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |share: usize| sorted.get((sorted.len() * share / 100).min(sorted.len() - 1)).copied();
        let text = |time: Option<Duration>| format!("{:.2} ms", time.unwrap_or_default().as_secs_f64() * 1e3);
        format!("median {}, 99% {}, worst {}", text(at(50)), text(at(99)), text(at(100)))
    }
}

fn table() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("amount", DataType::Float64, true),
    ]))
}

fn batch(ids: impl Iterator<Item = i64>) -> Result<RecordBatch> {
    let ids: Int64Array = ids.map(Some).collect();
    let names: StringArray = ids.values().iter().map(|id| Some(format!("customer-{id:08}"))).collect();
    let amounts: Float64Array = ids.values().iter().map(|id| Some((id % 1_000) as f64 / 7.0)).collect();
    let columns: Vec<Arc<dyn Array>> = vec![Arc::new(ids), Arc::new(names), Arc::new(amounts)];
    Ok(RecordBatch::try_new(table(), columns)?)
}

/// The grouping query's first half, run on one batch at a time.
struct Query {
    session: SessionContext,
    first_half: Arc<dyn ExecutionPlan>,
    aggregation: Aggregation,
}

impl Query {
    fn new(sql: &str) -> Result<Self> {
        let mut config = SessionConfig::new().with_target_partitions(1).with_batch_size(32 * 1024);
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        let session = SessionContext::new_with_config(config);
        let rows = vec![vec![RecordBatch::new_empty(table())]];
        session.register_table("t", Arc::new(MemTable::try_new(table(), rows)?))?;
        let plan = block_on(async { session.sql(sql).await?.create_physical_plan().await })?;
        let mut node = plan;
        while node.downcast_ref::<AggregateExec>().is_none() {
            node = Arc::clone(node.children().first().context("the query has no aggregation")?);
        }
        let whole = node.downcast_ref::<AggregateExec>().context("the query has no aggregation")?;
        let first_half = Arc::new(first_half(whole)?);
        let aggregation = Aggregation::new("the example", &first_half)?;
        Ok(Self { session, first_half, aggregation })
    }

    fn spec(&self) -> StateSpec {
        let (aggregation, stage) = (self.aggregation.clone(), "example".to_owned());
        StateSpec { aggregation, stage, window: None, memory_limit: 4 << 30 }
    }

    fn partial(&self, rows: &RecordBatch) -> Result<Vec<RecordBatch>> {
        let leaf = self.first_half.children()[0].schema();
        let columns = leaf.fields().iter().map(|field| rows.schema().index_of(field.name()));
        let rows = rows.project(&columns.collect::<Result<Vec<_>, _>>()?)?;
        let input = MemorySourceConfig::try_new_exec(&[vec![rows]], leaf, None)?;
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        let plan = Arc::clone(&self.first_half).replace_children(vec![input], options)?;
        Ok(block_on(collect(plan, self.session.task_ctx()))?)
    }
}
