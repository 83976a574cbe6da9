//! A query over everything a bounded read gives, run as one streaming execution: rows go in while they arrive, so
//! that memory grows with the groups and not with the rows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::per_batch::fit;
use super::scan::{Load, ScanInput, scans_of};

/// Batches that wait before the only scan of a query: one being read, one ready.
const WAITING_BATCHES: usize = 2;

/// A query that runs once, and how far it is.
pub(super) struct Whole {
    plan: Arc<dyn ExecutionPlan>,
    scans: Vec<ScanInput>,
    state: State,
}

enum State {
    /// No row has arrived.
    Planned,
    /// Rows are going in.
    Running { feeds: Vec<Feed>, result: Execution },
    /// It had all the rows it wants (LIMIT) before the input ended.
    Satisfied(Vec<RecordBatch>),
    /// It failed, or its result was taken.
    Ended,
}

impl Whole {
    pub(super) fn new(plan: Arc<dyn ExecutionPlan>) -> Self {
        let scans = scans_of(&plan);
        Self { plan, scans, state: State::Planned }
    }

    pub(super) fn plan(&self) -> &Arc<dyn ExecutionPlan> {
        &self.plan
    }

    pub(super) fn scans(&self) -> &[ScanInput] {
        &self.scans
    }

    pub(super) fn schema(&self) -> SchemaRef {
        self.plan.schema()
    }

    pub(super) fn has_started(&self) -> bool {
        !matches!(self.state, State::Planned)
    }

    /// Lets the execution begin to wait for rows. Must be called within a tokio runtime.
    pub(super) fn start(&mut self, context: &Arc<TaskContext>, pool: &Arc<dyn MemoryPool>) -> Result<()> {
        if self.has_started() {
            return Ok(());
        }
        self.state = State::Ended;
        let mut feeds = Vec::with_capacity(self.scans.len());
        // With several scans, an operator may read one to its end before it looks at the other (a join builds one
        // side first), so none of them may hold up the rows of the others: their queues are bounded by memory.
        let only_one = self.scans.len() == 1;
        for scan in &self.scans {
            let feed = if only_one { Feed::waiting(scan) } else { Feed::queueing(scan, pool) };
            feeds.push(feed);
        }
        let stream = execute_stream(Arc::clone(&self.plan), Arc::clone(context))?;
        let held = MemoryConsumer::new("result").register(pool);
        let result = Execution(tokio::spawn(collect(stream, held)));
        self.state = State::Running { feeds, result };
        Ok(())
    }

    /// Hands `batch` of `source` to every scan of it; waits while the query is slower than the rows.
    ///
    /// # Errors
    /// The query's own failure, as soon as it is known; it takes no more rows then.
    pub(super) async fn feed(&mut self, source: &str, batch: &RecordBatch, positions: &[usize]) -> Result<()> {
        let (feeds, result) = match &mut self.state {
            State::Running { feeds, result } => (feeds, result),
            State::Satisfied(_) => return Ok(()),
            State::Planned | State::Ended => return Err(ended()),
        };
        for (scan, feed) in self.scans.iter().zip(feeds) {
            if scan.source.as_ref() != source {
                continue;
            }
            let batch =
                scan.project(batch, positions).map_err(|error| DataFusionError::ArrowError(Box::new(error), None))?;
            let sent = feed.send(batch).await;
            if sent.is_err() {
                self.state = State::Ended;
                return sent;
            }
        }
        if result.0.is_finished()
            && let State::Running { result, .. } = std::mem::replace(&mut self.state, State::Ended)
        {
            self.state = State::Satisfied(result.join().await?);
        }
        Ok(())
    }

    /// Ends the input and waits for the result.
    pub(super) async fn finish(&mut self) -> Result<Vec<RecordBatch>> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Running { feeds, result } => {
                drop(feeds);
                result.join().await
            }
            State::Satisfied(batches) => Ok(batches),
            State::Planned | State::Ended => Err(ended()),
        }
    }
}

fn ended() -> DataFusionError {
    DataFusionError::Internal("the query has ended already".to_owned())
}

/// The task that runs the query; it does not outlive its owner.
struct Execution(JoinHandle<Result<Vec<RecordBatch>>>);

impl Execution {
    async fn join(mut self) -> Result<Vec<RecordBatch>> {
        (&mut self.0).await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn collect(
    mut stream: datafusion::execution::SendableRecordBatchStream,
    held: MemoryReservation,
) -> Result<Vec<RecordBatch>> {
    let schema = stream.schema();
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        if batch.num_rows() > 0 {
            held.try_grow(batch.get_array_memory_size())?;
            batches.push(fit(batch, &schema)?);
        }
    }
    Ok(batches)
}

/// The way of rows into one scan.
enum Feed {
    /// The sender waits for the query.
    Waiting(mpsc::Sender<RecordBatch>),
    /// The rows queue, as long as there is memory.
    Queueing { sender: mpsc::UnboundedSender<Queued>, held: MemoryReservation },
}

struct Queued {
    batch: RecordBatch,
    _held: MemoryReservation,
}

impl Feed {
    fn waiting(scan: &ScanInput) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_BATCHES);
        let rows = stream::unfold(receiver, |mut receiver: mpsc::Receiver<RecordBatch>| async {
            receiver.recv().await.map(|batch| (Ok(batch), receiver))
        });
        scan.load(Load::Stream(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&scan.schema), rows))));
        Self::Waiting(sender)
    }

    fn queueing(scan: &ScanInput, pool: &Arc<dyn MemoryPool>) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let rows = stream::unfold(receiver, |mut receiver: mpsc::UnboundedReceiver<Queued>| async {
            receiver.recv().await.map(|queued| (Ok(queued.batch), receiver))
        });
        scan.load(Load::Stream(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&scan.schema), rows))));
        let held = MemoryConsumer::new(format!("rows of {} that wait for the other side of a join", scan.source));
        Self::Queueing { sender, held: held.register(pool) }
    }

    /// A scan that is no longer read wants no more rows: that is no fault.
    async fn send(&self, batch: RecordBatch) -> Result<()> {
        match self {
            Self::Waiting(sender) => {
                sender.send(batch).await.ok();
            }
            Self::Queueing { sender, held } => {
                if sender.is_closed() {
                    return Ok(());
                }
                let held = held.new_empty();
                held.try_grow(batch.get_array_memory_size())?;
                sender.send(Queued { batch, _held: held }).ok();
            }
        }
        Ok(())
    }
}
