//! A lake in a folder of its own, and a runner whose every step a test decides.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use millrace_crds::Job;
use millrace_joblog::decide::{
    self, Begin, ClaimRequest, CommitDecision, NoteDecision, Permission, Start, WantedTerm, candidates,
};
use millrace_joblog::log::Compose;
use millrace_joblog::record::{Commit, Counters, FirstClaim, Home, Intents, Note, ParquetFile, Range};
use millrace_joblog::{Appended, CaughtUp, JobLog, Limits, Parallelism};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

use crate::assemble::open_checkpoint;
use crate::env::{Env, LogClock};
use crate::ids::{Incarnation, JobUid, Offset, Ordinal, OutputName, Partition, Revision, Seq};
use crate::logtool::Session;
use crate::sink::parquet::ParquetSink;
use crate::sink::{EpochName, Sink, StagedFile};
use crate::storage::Stores;

pub const MANIFEST: &str = "
apiVersion: millrace.dev/v1alpha1
kind: StreamingJob
metadata: {name: numbers}
spec:
  sources:
    - name: numbers
      kafka: {bootstrapServers: 'localhost:9092', topics: [numbers]}
      format: {json: {schema: n BIGINT}}
  outputs:
    - {name: numbers_out, sql: SELECT n FROM numbers, parquet: {path: LAKE/numbers}}
  checkpoint: {location: LAKE/checkpoint}
";

/// A lake in a folder of its own.
pub struct Lake(pub TempDir);

/// A runner's hand on the log.
pub struct Runner {
    pub log: JobLog,
    pub sink: ParquetSink,
    pub url: String,
    pub incarnation: Incarnation,
    pub epochs: u64,
    pub revision: &'static str,
}

pub fn output() -> OutputName {
    "numbers_out".into()
}

pub fn partition() -> Partition {
    Partition::new("numbers", "numbers", 0)
}

impl Lake {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(below)
    }

    pub fn job(&self) -> Job {
        self.job_of(MANIFEST)
    }

    pub fn job_of(&self, manifest: &str) -> Job {
        let text = manifest.replace("LAKE", &self.0.path().display().to_string());
        millrace_crds::manifest::parse(&text, "job.yaml").unwrap().job
    }

    pub async fn command(&self) -> Session {
        Session::open(self.job(), Path::new("secrets"), Env::system()).await.unwrap()
    }

    pub async fn runner(&self) -> Runner {
        let mut runner = Runner::open(self).await;
        runner.begin(self).await;
        runner
    }

    /// The numbers in the table, in order.
    pub fn rows(&self) -> Vec<i64> {
        rows_in(&self.path("numbers"))
    }
}

pub fn rows_in(folder: &Path) -> Vec<i64> {
    let mut rows = Vec::new();
    for file in files(folder).iter().filter(|file| file.to_string_lossy().ends_with(".parquet")) {
        let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file).unwrap()).unwrap();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            let column = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().clone();
            rows.extend(column.values().iter().copied());
        }
    }
    rows.sort_unstable();
    rows
}

/// Every file below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

impl Runner {
    pub async fn open(lake: &Lake) -> Runner {
        Self::of(&lake.job(), Limits::STANDARD).await
    }

    pub async fn of(job: &Job, limits: Limits) -> Runner {
        let env = Env::system();
        let stores = Stores::new(job.storage.clone(), None);
        let store = open_checkpoint(&stores, &job.checkpoint).unwrap().store;
        let incarnation = Incarnation(env.uuid());
        let log = JobLog::open(store, Arc::new(LogClock(env)), incarnation, limits).await.unwrap();
        let millrace_crds::Sink::Parquet(settings) = job.outputs[0].sink.clone() else { panic!("a Parquet output") };
        let at = stores.data_store(&settings.path).unwrap();
        let url = at.shown.clone();
        Runner { log, sink: ParquetSink::new("numbers_out", settings, at), url, incarnation, epochs: 0, revision: "r1" }
    }

    pub async fn begin(&mut self, lake: &Lake) -> bool {
        let start = Start {
            home: Home { place: "here:job.yaml".to_owned(), kubernetes_uid: None },
            location: lake.path("checkpoint").display().to_string(),
            fresh_job: JobUid(uuid::Uuid::new_v4()),
            permission: Permission::None,
        };
        let outputs: BTreeMap<OutputName, String> = [(output(), self.url.clone())].into();
        let revision = Revision(self.revision.to_owned());
        let parallelism = Parallelism::ONE;
        let wanted = WantedTerm {
            generation: None,
            revision: revision.clone(),
            parallelism,
            outputs: outputs.clone(),
            accept_moved_outputs: false,
        };
        let first = [(partition(), FirstClaim { start: Offset(0), topic_id: None })].into();
        let tasks = candidates(self.log.fold(), [partition()], outputs.keys());
        let request = ClaimRequest { ordinal: Ordinal(0), pod: None, revision, tasks, first, grace_over: false };
        let appended = self.log.append(|view| match decide::begin(view, &start, &wanted, &request) {
            Begin::Propose { proposal, .. } => Compose::Propose(proposal),
            other => Compose::Decline(other),
        });
        matches!(appended.await.unwrap(), Appended::Won(_))
    }

    /// Reads so many numbers on, and decides them, unpublished.
    pub async fn decide(&mut self, count: i64) -> Option<(Seq, Vec<StagedFile>)> {
        self.decide_files(&[count]).await
    }

    /// Likewise, with a file for each count.
    pub async fn decide_files(&mut self, counts: &[i64]) -> Option<(Seq, Vec<StagedFile>)> {
        let from = self.log.fold().partition(&partition()).unwrap().offset.0;
        let (mut staged, mut count) = (Vec::new(), 0);
        for rows in counts {
            staged.extend(self.stage(from + count, *rows).await);
            count += rows;
        }
        let files = staged.iter().map(|file| ParquetFile {
            staged: format!("{}/{}", self.url, file.staged),
            target: format!("{}/{}", self.url, file.target),
            bytes: file.bytes,
            rows: file.rows,
            etag: file.etag.clone(),
        });
        let commit = Commit {
            ranges: [(partition(), Range::new(from, from + count))].into(),
            intents: [(output(), Intents::Parquet { files: files.collect() })].into(),
            counters: Counters { rows_in: count as u64, rows_bad: 0, rows_out: [(output(), count as u64)].into() },
            ..Commit::default()
        };
        let revision = Revision(self.revision.to_owned());
        let appended = self.log.append(|view| match decide::commit(view, &revision, &commit) {
            CommitDecision::Propose(proposal) => Compose::Propose(proposal),
            other => Compose::Decline(other),
        });
        match appended.await.unwrap() {
            Appended::Won(won) => Some((won.seq(), staged)),
            _ => None,
        }
    }

    async fn stage(&mut self, from: i64, count: i64) -> Vec<StagedFile> {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + count));
        let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
        let name = EpochName {
            job_uid: self.log.fold().home().unwrap().job.to_string(),
            claim_seq: self.log.fold().live_claim(self.incarnation).unwrap_or(Seq(0)).0,
            incarnation: self.incarnation.0.simple().to_string(),
            epoch: self.epochs,
        };
        self.epochs += 1;
        let mut writer = self.sink.open(&batch.schema(), name);
        writer.write(batch).await.unwrap();
        writer.finish().await.unwrap()
    }

    /// Reads so many numbers on, decides, publishes and notes them.
    pub async fn commit(&mut self, count: i64) -> Seq {
        let (seq, staged) = self.decide(count).await.unwrap();
        for file in &staged {
            self.sink.publish(file).await.unwrap();
        }
        let notes = [Note { seq, output: output() }];
        let noted = self.log.append(|view| match decide::note(view, &notes) {
            NoteDecision::Propose(proposal) => Compose::Propose(proposal),
            other => Compose::Decline(other),
        });
        assert!(matches!(noted.await.unwrap(), Appended::Won(_)));
        for file in &staged {
            self.sink.discard(&file.staged).await.unwrap();
        }
        seq
    }

    pub async fn catch_up(&mut self) {
        assert!(matches!(self.log.catch_up().await.unwrap(), CaughtUp::Tail { .. }));
    }
}
