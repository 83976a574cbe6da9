//! Keyed state against DataFusion's own aggregation over all rows, and against a model in plain Rust.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod behaviour;
mod blobs;
mod hashes;
mod model;
mod properties;

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use arrow::util::display::array_value_to_string;
use datafusion::datasource::MemTable;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::TaskContext;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::optimizer::Optimizer;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions, collect};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::executor::block_on;

use super::{Aggregation, KeyedState, StateSpec, WindowColumns, first_half};

/// A memory limit that is none.
pub(super) const ROOMY: usize = usize::MAX / 2;

/// A grouping query over a table `t`, as a whole and cut in two.
pub(super) struct Query {
    whole: Arc<dyn ExecutionPlan>,
    first_half: Arc<dyn ExecutionPlan>,
    pub aggregation: Aggregation,
    context: Arc<TaskContext>,
}

impl Query {
    pub(super) fn new(table: &SchemaRef, sql: &str) -> Self {
        let mut config = SessionConfig::new().with_target_partitions(1).with_batch_size(64);
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        let mut rules = Optimizer::new().rules;
        rules.retain(|rule| rule.name() != "single_distinct_aggregation_to_group_by");
        let state = SessionStateBuilder::new().with_config(config).with_default_features().with_optimizer_rules(rules);
        let session = SessionContext::new_with_state(state.build());
        let rows = MemTable::try_new(Arc::clone(table), vec![vec![RecordBatch::new_empty(Arc::clone(table))]]);
        session.register_table("t", Arc::new(rows.unwrap())).unwrap();
        let plan = block_on(async { session.sql(sql).await.unwrap().create_physical_plan().await.unwrap() });
        let whole = aggregate_of(&plan);
        let node = whole.downcast_ref::<AggregateExec>().unwrap();
        let first_half: Arc<dyn ExecutionPlan> = match node.mode() {
            // With grouping sets the plan is in two halves already.
            AggregateMode::Final => aggregate_of(node.input()),
            _ => Arc::new(first_half(node).unwrap()),
        };
        let aggregation = Aggregation::new("output 'test'", first_half.downcast_ref().unwrap()).unwrap();
        Self { whole, first_half, aggregation, context: session.task_ctx() }
    }

    pub(super) fn partial(&self, rows: &RecordBatch) -> Vec<RecordBatch> {
        self.run(&self.first_half, std::slice::from_ref(rows))
    }

    /// What DataFusion makes of all rows at once.
    pub(super) fn whole(&self, rows: &[RecordBatch]) -> Vec<String> {
        texts(&self.run(&self.whole, rows))
    }

    pub(super) fn finish(&self, rows: Vec<RecordBatch>) -> Vec<String> {
        texts(&self.aggregation.finish(rows).unwrap())
    }

    pub(super) fn spec(&self, window: Option<WindowColumns>) -> StateSpec {
        let aggregation = self.aggregation.clone();
        StateSpec { aggregation, stage: "test/0".to_owned(), window, memory_limit: ROOMY }
    }

    pub(super) fn state(&self, window: Option<WindowColumns>) -> KeyedState {
        KeyedState::new(self.spec(window)).unwrap()
    }

    fn run(&self, plan: &Arc<dyn ExecutionPlan>, rows: &[RecordBatch]) -> Vec<RecordBatch> {
        let plan = reset_plan_states(with_rows(plan, rows)).unwrap();
        block_on(collect(plan, Arc::clone(&self.context))).unwrap()
    }
}

/// The topmost aggregation of a plan.
fn aggregate_of(plan: &Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    if plan.downcast_ref::<AggregateExec>().is_some() {
        return Arc::clone(plan);
    }
    aggregate_of(plan.children().first().expect("an aggregation"))
}

/// The plan over these rows instead of its table's.
fn with_rows(plan: &Arc<dyn ExecutionPlan>, rows: &[RecordBatch]) -> Arc<dyn ExecutionPlan> {
    let children = plan.children();
    if children.is_empty() {
        let schema = plan.schema();
        let rows: Vec<_> = rows.iter().map(|batch| project(batch, &schema)).collect();
        return MemorySourceConfig::try_new_exec(&[rows], schema, None).unwrap();
    }
    let children = children.into_iter().map(|child| with_rows(child, rows)).collect();
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    Arc::clone(plan).replace_children(children, options).unwrap()
}

fn project(batch: &RecordBatch, schema: &SchemaRef) -> RecordBatch {
    let columns = schema.fields().iter().map(|field| batch.schema().index_of(field.name()).unwrap());
    batch.project(&columns.collect::<Vec<_>>()).unwrap()
}

/// Rows as sorted texts. Floats to ten digits: what is merged in another order may differ in the last ones.
pub(super) fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| cell(column.as_ref(), row));
            rows.push(cells.collect::<Vec<_>>().join(" | "));
        }
    }
    rows.sort();
    rows
}

fn cell(column: &dyn Array, row: usize) -> String {
    if column.data_type() == &DataType::Float64 && column.is_valid(row) {
        let value = column.as_primitive::<Float64Type>().value(row);
        return if value.abs() < 1e-6 { "0".to_owned() } else { format!("{value:.9e}") };
    }
    if column.is_null(row) { "NULL".to_owned() } else { array_value_to_string(column, row).unwrap() }
}
