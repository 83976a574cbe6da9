//! The queries of a job as the pipeline holds them.

use arrow::array::RecordBatch;
use async_trait::async_trait;
use chrono::DateTime;
use millrace_crds::contract::FailureClass;
use millrace_crds::{Output, OutputMode, View};

use crate::failure::Failure;
use crate::plan::{OutputRows, Plan, PlanOptions, RunError, SourceTable};

/// What turns the rows of sources into the rows of outputs.
#[async_trait]
pub trait Queries: Send {
    /// Takes one batch of a source through every query that reads it. `batch_time` is the epoch's, in milliseconds.
    async fn run(&mut self, source: &str, batch: &RecordBatch, batch_time: i64) -> Result<Vec<OutputRows>, Failure>;

    /// The results that only the end of a bounded read gives.
    async fn finish(&mut self, batch_time: i64) -> Result<Vec<OutputRows>, Failure>;

    /// Forgets every row: what was read since the last commit will be read again.
    async fn restart(&mut self) -> Result<(), Failure>;

    /// Whether some result is over everything read, so that the epoch stays open until everything is read.
    fn holds_epoch(&self) -> bool;
}

/// The manifest's SQL.
pub struct SqlQueries {
    plan: Plan,
    sources: Vec<SourceTable>,
    views: Vec<View>,
    outputs: Vec<Output>,
    options: PlanOptions,
    /// Whether rows went into the plan since it was made.
    touched: bool,
}

impl SqlQueries {
    /// Plans every view and output.
    ///
    /// # Errors
    /// Everything that is wrong with any of them, a line each.
    pub async fn plan(
        sources: Vec<SourceTable>,
        views: Vec<View>,
        outputs: Vec<Output>,
        options: PlanOptions,
    ) -> Result<Self, Failure> {
        let plan = plan(&sources, &views, &outputs, options).await?;
        Ok(Self { plan, sources, views, outputs, options, touched: false })
    }

    /// The plan.
    pub fn get(&self) -> &Plan {
        &self.plan
    }
}

async fn plan(
    sources: &[SourceTable],
    views: &[View],
    outputs: &[Output],
    options: PlanOptions,
) -> Result<Plan, Failure> {
    Plan::new(sources.to_vec(), views, outputs, options).await.map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Failure::new(FailureClass::User, "Query", lines.join("\n"))
    })
}

#[async_trait]
impl Queries for SqlQueries {
    async fn run(&mut self, source: &str, batch: &RecordBatch, batch_time: i64) -> Result<Vec<OutputRows>, Failure> {
        self.touched = true;
        let time = DateTime::from_timestamp_millis(batch_time).unwrap_or_default();
        self.plan.run(source, batch, time).await.map_err(failure)
    }

    async fn finish(&mut self, batch_time: i64) -> Result<Vec<OutputRows>, Failure> {
        self.touched = true;
        let time = DateTime::from_timestamp_millis(batch_time).unwrap_or_default();
        self.plan.finish(time).await.map_err(failure)
    }

    async fn restart(&mut self) -> Result<(), Failure> {
        // A query that runs per batch keeps no rows.
        if self.touched && self.holds_epoch() {
            self.plan = plan(&self.sources, &self.views, &self.outputs, self.options).await?;
            self.touched = false;
        }
        Ok(())
    }

    fn holds_epoch(&self) -> bool {
        self.options.bounded && self.outputs.iter().any(|output| output.mode == OutputMode::Complete)
    }
}

/// A query that fails on a row is the data's problem; one that needs more memory than there is, the user's.
fn failure(error: RunError) -> Failure {
    let (class, reason) = match &error {
        RunError::Row { .. } => (FailureClass::Data, "QueryFailed"),
        RunError::Memory { .. } => (FailureClass::User, "QueryMemory"),
        RunError::UnknownSource { .. } | RunError::Batch { .. } | RunError::Internal { .. } => {
            (FailureClass::Internal, "Query")
        }
    };
    Failure::new(class, reason, error.to_string())
}
