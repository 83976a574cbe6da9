//! The validated job: what the runner and the operator work with once a manifest has been parsed.
//!
//! Every default is filled in and every text is parsed into its meaning here; nothing behind this type looks at the raw
//! spec again. Validation is the only way from one to the other.

mod location;
mod name;
mod output;
mod source;
mod storage;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(crate) use location::Overlap;
pub use location::{Location, LocationError};
pub use name::{JobName, MAX_JOB_NAME};
pub use output::{Compression, ConsoleSink, Output, OutputMode, ParquetSink, Sink};
pub use source::{
    Authentication, Ending, EventTime, Format, Kafka, OnError, PartitionOffset, SaslMechanism, Source, Starting, Tls,
    Topics, WatermarkPolicy,
};
pub use storage::{S3, S3Credentials, SecretRef, Storage};
pub use types::{DataType, Field};

use crate::spec::RunnerSpec;

/// A validated job: sources, the queries over them, and how to run them.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The StreamingJob's name.
    pub name: JobName,
    /// The namespace it was written for, if the manifest names one.
    pub namespace: Option<String>,
    /// The Kubernetes uid of the object; absent on a laptop.
    pub uid: Option<String>,
    /// The Kafka inputs; never empty, names unique among sources and views.
    pub sources: Vec<Source>,
    /// Named queries over sources and earlier views, in the order they were written.
    pub views: Vec<View>,
    /// The queries whose results are written; never empty, names unique.
    pub outputs: Vec<Output>,
    /// When an epoch closes.
    pub trigger: Trigger,
    /// Where the job log and the state live.
    pub checkpoint: Location,
    /// How object stores are reached.
    pub storage: Storage,
    /// The savepoint that this spec begins at.
    pub start_from: Option<StartFrom>,
    /// How many runners divide the work; 0 is suspended.
    pub parallelism: u32,
    /// Whether the job is to be stopped, keeping its checkpoint.
    pub suspend: bool,
    /// How a failed runner is started again.
    pub restart: Restart,
    /// How long a runner may go without progress before it no longer counts as ready.
    pub progress_deadline: Duration,
    /// How long the pods of a completed job stay; `None`: for ever.
    pub ttl_after_finished: Option<Duration>,
    /// How the pods look.
    pub runner: RunnerSpec,
    /// Hash of what the user wrote, without parallelism, suspend, restart, progressDeadline and
    /// ttlSecondsAfterFinished: two specs with one
    /// revision run the same work.
    pub revision: String,
}

impl Job {
    /// Whether a field of the spec says how much or how patiently the work is done, and so changes no revision.
    pub fn is_policy(field: &str) -> bool {
        crate::validate::POLICIES.contains(&field)
    }

    /// The names of all secrets that the job reads.
    pub fn secrets(&self) -> BTreeSet<&str> {
        let kafka = self.sources.iter().map(|source| &source.kafka).flat_map(|kafka| {
            let trusted = kafka.tls.iter().flat_map(|tls| &tls.trusted_certificates);
            let own = match &kafka.authentication {
                None => Vec::new(),
                Some(Authentication::Sasl { password, .. }) => vec![password],
                Some(Authentication::Tls { certificate, key }) => vec![certificate, key],
            };
            trusted.chain(own)
        });
        kafka.chain(self.storage.secrets()).map(|secret| secret.name.as_str()).collect()
    }
}

/// A named query that later views and outputs can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// An SQL identifier, unique among sources and views.
    pub name: String,
    /// The query.
    pub sql: String,
}

/// When an epoch closes and commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trigger {
    /// By the clock, or once what is available has been read.
    pub kind: TriggerKind,
    /// Close the epoch early once it holds this many records.
    pub max_records: Option<u64>,
    /// Close the epoch early once it holds this many bytes of messages.
    pub max_bytes: Option<u64>,
}

/// What makes an epoch close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TriggerKind {
    /// Every interval, for ever.
    Interval(Duration),
    /// Read to the end offsets seen at the start, commit, and exit: a bounded job.
    AvailableNow,
}

/// The savepoint at which a spec begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFrom {
    /// Its name.
    pub savepoint: String,
    /// Another number goes there once more.
    pub nonce: Option<i64>,
    /// What becomes of the rows that each output got since.
    pub outputs: BTreeMap<String, SincePolicy>,
}

/// What becomes of rows that will be written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SincePolicy {
    /// Their files are deleted.
    Retract,
    /// They stay, and the output goes on elsewhere.
    NewPath,
    /// They stay, and will be there twice.
    Duplicate,
}

/// How a failed runner is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// Restarts in a row without a healthy commit before the job is given up; unset: unlimited.
    pub max_retries: Option<u32>,
    /// Pause before the first restart.
    pub initial_backoff: Duration,
    /// The pause grows up to this.
    pub max_backoff: Duration,
}
