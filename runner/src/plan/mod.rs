//! SQL: the manifest's views and queries, planned once and run on every batch.
//!
//! [`Plan::new`] settles everything that can be known before a row arrives, or says everything that is wrong.
//! [`Plan::run`] takes one batch of one source through every query that reads it. An output in `append` or `update`
//! mode sees each micro-batch by itself, and a query for which that would be wrong is refused when it is planned. An
//! output in `complete` mode, of a bounded read, runs once over everything; [`Plan::finish`] gives its result.
//!
//! What differs from Spark's SQL is listed in `docs/sql.md`.

mod check;
mod clock;
mod depth;
mod describe;
mod error;
mod explain;
mod names;
mod per_batch;
mod planner;
mod scan;
mod session;
mod text;
mod whole;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use chrono::{DateTime, Utc};
use datafusion::execution::TaskContext;
use millrace_crds::{Output, OutputMode, View};

pub use self::error::{Place, PlanError, Position, RunError};
pub use self::names::KAFKA_COLUMNS;

use self::clock::BatchClock;
use self::per_batch::PerBatch;
use self::session::JobSession;
use self::whole::Whole;

/// A source as the planner sees it.
#[derive(Debug, Clone)]
pub struct SourceTable {
    /// Its name in the manifest.
    pub name: String,
    /// The columns of its format, then Kafka's ([`KAFKA_COLUMNS`], as many of them as the source offers).
    pub schema: SchemaRef,
}

/// How a plan runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanOptions {
    /// Whether the read ends (`trigger: availableNow`), so that a query over everything has a result.
    pub bounded: bool,
    /// How many bytes all queries of the job may hold together.
    pub memory_limit: usize,
}

impl PlanOptions {
    /// 1 GiB.
    pub const DEFAULT_MEMORY_LIMIT: usize = 1 << 30;

    /// The defaults for a bounded or an endless read.
    pub fn new(bounded: bool) -> Self {
        Self { bounded, memory_limit: Self::DEFAULT_MEMORY_LIMIT }
    }
}

/// The rows that one batch, or the end of a bounded read, gave for one output.
#[derive(Debug)]
pub struct OutputRows {
    /// The output, as a position in the manifest's list.
    pub output: usize,
    /// The rows; no batch is empty.
    pub batches: Vec<RecordBatch>,
}

/// Every query of a job, planned.
pub struct Plan {
    session: JobSession,
    context: Arc<TaskContext>,
    /// The clock of the queries that run once; it stands still from their start.
    whole_clock: BatchClock,
    memory_limit: usize,
    sources: BTreeMap<String, PlannedSource>,
    outputs: Vec<PlannedOutput>,
}

struct PlannedSource {
    schema: SchemaRef,
    /// Positions in `schema`, ascending.
    needed: Vec<usize>,
}

struct PlannedOutput {
    name: String,
    mode: OutputMode,
    schema: SchemaRef,
    /// The optimized logical plan as text, for [`Plan::explain`].
    logical: String,
    query: PlannedQuery,
}

enum PlannedQuery {
    PerBatch(PerBatch),
    Whole(Whole),
}

impl PlannedQuery {
    fn scans(&self) -> &[scan::ScanInput] {
        match self {
            Self::PerBatch(query) => query.scans(),
            Self::Whole(query) => query.scans(),
        }
    }

    fn reads(&self, source: &str) -> bool {
        self.scans().iter().any(|scan| scan.source.as_ref() == source)
    }
}

impl Plan {
    /// Plans `views`, each over the sources and the views before it, and `outputs` over all of them.
    ///
    /// # Errors
    /// Everything that is wrong with any of them, at once.
    pub async fn new(
        sources: Vec<SourceTable>,
        views: &[View],
        outputs: &[Output],
        options: PlanOptions,
    ) -> Result<Self, Vec<PlanError>> {
        planner::plan_apart(sources, views.to_vec(), outputs.to_vec(), options).await
    }

    /// The columns of an output's rows.
    ///
    /// # Panics
    /// If there is no such output.
    pub fn output_schema(&self, output: usize) -> SchemaRef {
        Arc::clone(&self.outputs[output].schema)
    }

    /// The columns of `source` that some query reads, as ascending positions in its schema; empty if no query reads
    /// the source, and otherwise never. Batches given to [`Plan::run`] have exactly these columns.
    pub fn needed_columns(&self, source: &str) -> &[usize] {
        self.sources.get(source).map_or(&[], |source| &source.needed)
    }

    /// The schema of the batches that [`Plan::run`] takes: the needed columns of `source`.
    pub fn needed_schema(&self, source: &str) -> Option<SchemaRef> {
        let source = self.sources.get(source)?;
        source.schema.project(&source.needed).ok().map(Arc::new)
    }

    /// The outputs that read `source`, as positions in the manifest's list.
    pub fn outputs_of(&self, source: &str) -> Vec<usize> {
        let reads = |(index, output): (usize, &PlannedOutput)| output.query.reads(source).then_some(index);
        self.outputs.iter().enumerate().filter_map(reads).collect()
    }

    /// Whether an output gives its rows at [`Plan::finish`] only.
    pub fn is_whole(&self, output: usize) -> bool {
        self.outputs.get(output).is_some_and(|output| matches!(output.query, PlannedQuery::Whole(_)))
    }

    /// Takes one batch of `source` through every output that reads it and returns the rows of those that run per
    /// micro-batch; outputs without rows are left out. `batch_time` is what `now()` gives; all batches of an epoch
    /// are given the same, and a replay the same again. Outputs that run once take `now()` from their first batch.
    ///
    /// Waits while a query that runs once is slower than the rows. After an error the plan is of no further use to
    /// the epoch: plan anew and read again.
    ///
    /// # Errors
    /// The first fault, naming its output.
    pub async fn run(
        &mut self,
        source: &str,
        batch: &RecordBatch,
        batch_time: DateTime<Utc>,
    ) -> Result<Vec<OutputRows>, RunError> {
        let Some(PlannedSource { schema, needed }) = self.sources.get(source) else {
            return Err(RunError::UnknownSource { source_name: source.to_owned() });
        };
        check_batch(source, schema, needed, batch)?;
        self.session.clock.set(batch_time.timestamp_micros());
        let mut results = Vec::new();
        for (index, output) in self.outputs.iter_mut().enumerate() {
            if !output.query.reads(source) {
                continue;
            }
            let name = &output.name;
            let fault = |error| describe::run_error(&error, name, self.memory_limit);
            match &mut output.query {
                PlannedQuery::PerBatch(query) => {
                    let batches = query.run(source, batch, needed, &self.context).await.map_err(fault)?;
                    if !batches.is_empty() {
                        results.push(OutputRows { output: index, batches });
                    }
                }
                PlannedQuery::Whole(query) => {
                    if !query.has_started() {
                        self.whole_clock.start(batch_time.timestamp_micros());
                        query.start(&self.context, &self.session.pool).map_err(fault)?;
                    }
                    query.feed(source, batch, needed).await.map_err(fault)?;
                }
            }
        }
        Ok(results)
    }

    /// Ends the input of the outputs that run once, and returns their results: all rows, also none.
    /// To be called once, after the last batch.
    ///
    /// # Errors
    /// The first fault, naming its output.
    pub async fn finish(&mut self, batch_time: DateTime<Utc>) -> Result<Vec<OutputRows>, RunError> {
        let mut results = Vec::new();
        for (index, output) in self.outputs.iter_mut().enumerate() {
            let PlannedQuery::Whole(query) = &mut output.query else { continue };
            let name = &output.name;
            let fault = |error| describe::run_error(&error, name, self.memory_limit);
            if !query.has_started() {
                self.whole_clock.start(batch_time.timestamp_micros());
                query.start(&self.context, &self.session.pool).map_err(fault)?;
            }
            let batches = query.finish().await.map_err(fault)?;
            results.push(OutputRows { output: index, batches });
        }
        Ok(results)
    }

    /// How each output is computed, for people: what it reads and keeps, the logical and the physical plan.
    pub fn explain(&self) -> String {
        explain::explain(self)
    }
}

/// A batch must have exactly the needed columns, by name and type.
fn check_batch(source: &str, schema: &SchemaRef, needed: &[usize], batch: &RecordBatch) -> Result<(), RunError> {
    let fail = |reason| Err(RunError::Batch { source_name: source.to_owned(), reason });
    if batch.num_columns() != needed.len() {
        return fail(format!("it has {} columns instead of {}", batch.num_columns(), needed.len()));
    }
    for (field, position) in batch.schema_ref().fields().iter().zip(needed) {
        let wanted = schema.field(*position);
        if field.name() != wanted.name() || field.data_type() != wanted.data_type() {
            let (name, data_type) = (field.name(), field.data_type());
            let (wanted, wanted_type) = (wanted.name(), wanted.data_type());
            return fail(format!("it has '{name}' ({data_type}) where '{wanted}' ({wanted_type}) belongs"));
        }
    }
    Ok(())
}
