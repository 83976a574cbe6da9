//! DataFusion set up as the planner of a job: one partition, nothing spilled, nothing read but the job's sources.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};

use super::clock::BatchClock;

/// Rows that filters and aggregates put into one batch: large, since every batch costs each column once more.
const BATCH_ROWS: usize = 32 * 1024;

/// The SQL session of one job.
pub(super) struct JobSession {
    pub ctx: SessionContext,
    pub pool: Arc<dyn MemoryPool>,
    /// What `now()` reads.
    pub clock: BatchClock,
}

impl JobSession {
    /// A session whose queries may hold `memory_limit` bytes together.
    pub(super) fn new(memory_limit: usize) -> Result<Self> {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(memory_limit));
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::clone(&pool))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build_arc()?;
        let mut state = SessionStateBuilder::new()
            .with_config(config())
            .with_runtime_env(runtime)
            .with_default_features()
            .with_table_function_list(vec![])
            .build();
        let clock = BatchClock::default();
        register_clock(&mut state, &clock)?;
        Ok(Self { ctx: SessionContext::new_with_state(state), pool, clock })
    }
}

fn config() -> SessionConfig {
    let mut config = SessionConfig::new().with_target_partitions(1).with_batch_size(BATCH_ROWS);
    let options = config.options_mut();
    options.execution.collect_statistics = false;
    // No session time zone: with one, to_timestamp over a column of texts gives another type than it promises.
    options.execution.time_zone = None;
    options.execution.enable_recursive_ctes = false;
    // Names were resolved before planning, exactly as they are declared.
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.collect_spans = true;
    // ORDER BY in a view is refused where it cannot be kept, not dropped.
    options.sql_parser.enable_subquery_sort_elimination = false;
    // Sinks see one string type and one binary type.
    options.sql_parser.map_string_types_to_utf8view = false;
    options.optimizer.expand_views_at_output = true;
    // A plan that runs again and again must not keep a filter it learned from an earlier batch.
    options.optimizer.enable_dynamic_filter_pushdown = false;
    options.optimizer.enable_topk_dynamic_filter_pushdown = false;
    options.optimizer.enable_join_dynamic_filter_pushdown = false;
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    config
}

fn register_clock(state: &mut SessionState, clock: &BatchClock) -> Result<()> {
    use datafusion::execution::FunctionRegistry;
    for function in clock.functions() {
        state.register_udf(function)?;
    }
    // It would be folded when the job starts, and a time of day without its date is of no use to a stream.
    state.deregister_udf("current_time")?;
    Ok(())
}
