//! The leaf of every plan: where the rows of a source enter DataFusion.
//!
//! A plan is made once and run for months, so its leaves hold no rows. Each has a [`Feed`], which is loaded before a
//! run: with one batch (a micro-batch), with a stream (a bounded read), or with nothing (the run is another
//! source's).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, EmptyRecordBatchStream, ExecutionPlan, Partitioning, PlanProperties,
};

/// A source as a table of the SQL session.
#[derive(Debug)]
pub(super) struct StreamTable {
    source: Arc<str>,
    schema: SchemaRef,
}

impl StreamTable {
    pub(super) fn new(source: &str, schema: SchemaRef) -> Self {
        Self { source: source.into(), schema }
    }
}

#[async_trait]
impl TableProvider for StreamTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.schema.fields().len()).collect(),
        };
        let schema = Arc::new(self.schema.project(&columns)?);
        Ok(Arc::new(StreamScan::new(Arc::clone(&self.source), columns, schema)))
    }
}

/// One scan of a source by one query; it reads whatever its feed was loaded with.
#[derive(Debug)]
pub(super) struct StreamScan {
    source: Arc<str>,
    columns: Vec<usize>,
    feed: Arc<Feed>,
    properties: Arc<PlanProperties>,
}

impl StreamScan {
    fn new(source: Arc<str>, columns: Vec<usize>, schema: SchemaRef) -> Self {
        // One batch or a channel of tokio's, which yields by itself: no wrapper is needed for cooperation.
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Self { source, columns, feed: Arc::default(), properties: Arc::new(properties) }
    }
}

impl DisplayAs for StreamScan {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "StreamScan: source={}, columns=[{}]", self.source, names.join(", "))
    }
}

impl ExecutionPlan for StreamScan {
    fn name(&self) -> &'static str {
        "StreamScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        Ok(match self.feed.take() {
            Load::Nothing => Box::pin(EmptyRecordBatchStream::new(self.schema())),
            Load::Batch(batch) => Box::pin(MemoryStream::try_new(vec![batch], self.schema(), None)?),
            Load::Stream(stream) => stream,
        })
    }
}

/// A scan within a physical plan, from the side that feeds it.
#[derive(Debug, Clone)]
pub(super) struct ScanInput {
    /// The source it reads.
    pub source: Arc<str>,
    /// The columns it reads, as positions in the source's full schema.
    pub columns: Vec<usize>,
    /// The schema of what it must be fed.
    pub schema: SchemaRef,
    feed: Arc<Feed>,
}

impl ScanInput {
    /// Loads the scan for its next run.
    pub(super) fn load(&self, load: Load) {
        self.feed.put(load);
    }

    /// The scan's columns of `batch`, whose own columns are at `positions` of the source's full schema. No data is
    /// copied; types are checked.
    pub(super) fn project(&self, batch: &RecordBatch, positions: &[usize]) -> Result<RecordBatch, ArrowError> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for (index, wanted) in self.columns.iter().enumerate() {
            let at = positions.binary_search(wanted).map_err(|_| {
                ArrowError::SchemaError(format!(
                    "column '{}' is not among those needed",
                    self.schema.field(index).name()
                ))
            })?;
            columns.push(Arc::clone(batch.column(at)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
    }
}

/// Every scan of `plan`, in the order of a walk from the root.
pub(super) fn scans_of(plan: &Arc<dyn ExecutionPlan>) -> Vec<ScanInput> {
    let mut found = Vec::new();
    collect_scans(plan, &mut found);
    found
}

fn collect_scans(plan: &Arc<dyn ExecutionPlan>, found: &mut Vec<ScanInput>) {
    if let Some(scan) = plan.downcast_ref::<StreamScan>() {
        found.push(ScanInput {
            source: Arc::clone(&scan.source),
            columns: scan.columns.clone(),
            schema: scan.schema(),
            feed: Arc::clone(&scan.feed),
        });
    }
    for child in plan.children() {
        collect_scans(child, found);
    }
}

/// What a scan reads in its next run.
#[derive(Default)]
pub(super) enum Load {
    /// No rows.
    #[default]
    Nothing,
    /// The rows of one micro-batch.
    Batch(RecordBatch),
    /// The rows of a bounded read, as they arrive.
    Stream(SendableRecordBatchStream),
}

/// The hand-over from whoever has the rows to the scan: loaded before a run, taken once by it.
#[derive(Default)]
struct Feed(Mutex<Load>);

impl Feed {
    fn put(&self, load: Load) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = load;
    }

    fn take(&self) -> Load {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Feed")
    }
}
