//! A sink in memory, for the deterministic simulation: rows are lines of JSON, and a scripted plan decides what fails.
//!
//! It has no threads and no clock: what happens depends on the calls and the plan alone.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::LineDelimitedWriter;
use async_trait::async_trait;

use super::names::StagedName;
use super::{EpochName, EpochWriter, Published, Sink, SinkError, StagedFile};

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is done, and its answer arrives.
    None,
    /// It is not done, and says so.
    Failed,
    /// It is done, but says that it failed.
    LostReply,
}

/// A request that a plan decides about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Writing a staged object.
    Put,
    /// Copying a staged object to its final name.
    Copy,
    /// Removing an object.
    Delete,
    /// Listing staged objects.
    List,
    /// Looking whether a published object is there.
    Head,
}

/// Decides what happens to each request, in the order in which they are made.
pub trait FaultPlan: Send {
    /// The fate of the next request, which concerns `path`.
    fn next(&mut self, request: Request, path: &str) -> Fault;
}

/// A plan in which nothing fails.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFaults;

impl FaultPlan for NoFaults {
    fn next(&mut self, _: Request, _: &str) -> Fault {
        Fault::None
    }
}

/// A plan drawn from a seed: the same seed and the same requests give the same faults on every machine.
#[derive(Debug, Clone)]
pub struct SeededFaults {
    state: u64,
    failed: u32,
    lost: u32,
}

impl SeededFaults {
    /// Of a thousand requests about `failed` fail and `lost` lose their reply.
    pub fn new(seed: u64, failed: u32, lost: u32) -> Self {
        Self { state: seed, failed, lost }
    }

    /// SplitMix64: small, and the same for ever, which the random crate's generators do not promise.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl FaultPlan for SeededFaults {
    fn next(&mut self, _: Request, _: &str) -> Fault {
        let drawn = (self.draw() % 1000) as u32;
        if drawn < self.failed {
            Fault::Failed
        } else if drawn < self.failed + self.lost {
            Fault::LostReply
        } else {
            Fault::None
        }
    }
}

/// The store behind memory sinks: it outlives the runners of a simulation and is shared by all of them.
#[derive(Clone)]
pub struct MemoryTables {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    /// Objects by full path (`<output>/…`), each a list of lines.
    objects: BTreeMap<String, Vec<String>>,
    plan: Box<dyn FaultPlan>,
}

impl fmt::Debug for MemoryTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTables").field("objects", &self.lock().objects.len()).finish_non_exhaustive()
    }
}

impl MemoryTables {
    /// An empty store whose requests fail by `plan`.
    pub fn new(plan: impl FaultPlan + 'static) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { objects: BTreeMap::new(), plan: Box::new(plan) })) }
    }

    /// Replaces the plan, for example by [`NoFaults`] when a simulation comes to rest.
    pub fn set_plan(&self, plan: impl FaultPlan + 'static) {
        self.lock().plan = Box::new(plan);
    }

    /// The sink of one output.
    pub fn sink(&self, output: impl Into<String>) -> MemorySink {
        MemorySink { output: output.into(), tables: self.clone(), file_rows: usize::MAX }
    }

    /// Every published row of `output`, file by file in the order of their names.
    pub fn published(&self, output: &str) -> Vec<String> {
        let inner = self.lock();
        let prefix = format!("{output}/");
        let files = inner.objects.iter().filter(|(path, _)| is_published(path, &prefix));
        files.flat_map(|(_, lines)| lines.iter().cloned()).collect()
    }

    /// Every object's path and number of rows, staged and published.
    pub fn objects(&self) -> Vec<(String, usize)> {
        self.lock().objects.iter().map(|(path, lines)| (path.clone(), lines.len())).collect()
    }

    /// Does `work` as the plan says; `Err` means that the caller is told that it failed.
    fn request<T>(
        &self,
        request: Request,
        path: &str,
        work: impl FnOnce(&mut BTreeMap<String, Vec<String>>) -> T,
    ) -> Result<T, String> {
        let mut inner = self.lock();
        match inner.plan.next(request, path) {
            Fault::None => Ok(work(&mut inner.objects)),
            Fault::Failed => Err(format!("{request:?} of {path} failed as planned")),
            Fault::LostReply => {
                work(&mut inner.objects);
                Err(format!("the reply to {request:?} of {path} was lost as planned"))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_published(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|relative| !relative.starts_with(super::names::RESERVED_DIR))
}

/// The sink of one output in memory. Each epoch is one object, unless its files are bounded.
#[derive(Debug, Clone)]
pub struct MemorySink {
    output: String,
    tables: MemoryTables,
    file_rows: usize,
}

impl MemorySink {
    /// The same sink with at most so many rows in a file (at least one): an epoch then has several.
    pub fn with_file_rows(self, rows: usize) -> Self {
        Self { file_rows: rows.max(1), ..self }
    }

    fn full(&self, relative: &str) -> String {
        format!("{}/{relative}", self.output)
    }

    fn unavailable(&self, reason: String) -> SinkError {
        SinkError::Unavailable { output: self.output.clone(), reason }
    }
}

#[async_trait]
impl Sink for MemorySink {
    async fn check(&self, _: &SchemaRef) -> Result<(), SinkError> {
        Ok(())
    }

    fn open(&self, _: &SchemaRef, name: EpochName) -> Box<dyn EpochWriter> {
        Box::new(MemoryEpoch { sink: self.clone(), name, lines: Vec::new(), bytes: 0 })
    }

    async fn publish(&self, file: &StagedFile) -> Result<Published, SinkError> {
        tokio::task::yield_now().await;
        let (from, to) = (self.full(&file.staged), self.full(&file.target));
        let copied = self.tables.request(Request::Copy, &to.clone(), |objects| match objects.get(&from).cloned() {
            Some(lines) => {
                objects.insert(to, lines);
                Published::Done
            }
            None => Published::Missing,
        });
        copied.map_err(|reason| self.unavailable(reason))
    }

    async fn discard(&self, staged: &str) -> Result<(), SinkError> {
        tokio::task::yield_now().await;
        let path = self.full(staged);
        let removed = self.tables.request(Request::Delete, &path, |objects| {
            objects.remove(&path);
        });
        removed.map_err(|reason| self.unavailable(reason))
    }

    async fn list_staged(&self, job_uid: &str) -> Result<Vec<String>, SinkError> {
        tokio::task::yield_now().await;
        let prefix = self.full("");
        let listed = self.tables.request(Request::List, &prefix, |objects| {
            let relative = objects.keys().filter_map(|path| path.strip_prefix(&prefix));
            let ours = |path: &str| StagedName::parse(path).is_some_and(|name| name.job_uid == job_uid);
            relative.filter(|path| ours(path)).map(str::to_owned).collect()
        });
        listed.map_err(|reason| self.unavailable(reason))
    }

    async fn inspect(&self, file: &StagedFile) -> Result<Published, SinkError> {
        tokio::task::yield_now().await;
        let path = self.full(&file.target);
        let found = self.tables.request(Request::Head, &path, |objects| match objects.get(&path) {
            None => Published::Missing,
            Some(lines) if size(lines) != file.bytes => Published::Changed,
            Some(_) => Published::Done,
        });
        found.map_err(|reason| self.unavailable(reason))
    }

    async fn retract(&self, file: &StagedFile) -> Result<Published, SinkError> {
        tokio::task::yield_now().await;
        let path = self.full(&file.target);
        let removed = self.tables.request(Request::Delete, &path, |objects| match objects.get(&path) {
            None => Published::Missing,
            Some(lines) if size(lines) != file.bytes => Published::Changed,
            Some(_) => {
                objects.remove(&path);
                Published::Done
            }
        });
        removed.map_err(|reason| self.unavailable(reason))
    }
}

struct MemoryEpoch {
    sink: MemorySink,
    name: EpochName,
    lines: Vec<String>,
    bytes: usize,
}

#[async_trait]
impl EpochWriter for MemoryEpoch {
    async fn write(&mut self, batch: RecordBatch) -> Result<(), SinkError> {
        tokio::task::yield_now().await;
        let lines =
            json_lines(&batch).map_err(|reason| SinkError::Internal { output: self.sink.output.clone(), reason })?;
        self.bytes += lines.iter().map(String::len).sum::<usize>();
        self.lines.extend(lines);
        Ok(())
    }

    fn buffered_bytes(&self) -> usize {
        self.bytes
    }

    async fn finish(self: Box<Self>) -> Result<Vec<StagedFile>, SinkError> {
        tokio::task::yield_now().await;
        let mut files = Vec::new();
        for (number, lines) in (0..).zip(self.lines.chunks(self.sink.file_rows)) {
            let name = StagedName::new(&self.name, number);
            let file = StagedFile {
                staged: name.path(),
                target: name.target("", ".jsonl"),
                bytes: size(lines),
                rows: lines.len() as u64,
                etag: None,
            };
            let path = self.sink.full(&file.staged);
            let put = self.sink.tables.request(Request::Put, &path.clone(), |objects| {
                objects.insert(path, lines.to_vec());
            });
            put.map_err(|reason| self.sink.unavailable(reason))?;
            files.push(file);
        }
        Ok(files)
    }

    async fn abort(self: Box<Self>) {
        // Nothing is in the store before `finish`.
        tokio::task::yield_now().await;
    }
}

fn json_lines(batch: &RecordBatch) -> Result<Vec<String>, String> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(batch).and_then(|()| writer.finish()).map_err(|error| error.to_string())?;
    let text = String::from_utf8(writer.into_inner()).map_err(|error| error.to_string())?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn size(lines: &[String]) -> u64 {
    lines.iter().map(|line| line.len() as u64 + 1).sum()
}

#[cfg(test)]
mod tests;
