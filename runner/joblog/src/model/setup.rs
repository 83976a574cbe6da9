//! What a model is made of: which pods, how many epochs and faults, how small the log's limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use uuid::Uuid;

use super::process::{orders, screen};
use super::rules::{Milestone, Rule};
use super::steps::Step;
use crate::decide::{Permission, Start, WantedTerm};
use crate::ids::{Generation, JobUid, OutputName};
use crate::limits::Limits;
use crate::record::Home;
use crate::safeguard::Safeguard;
use crate::task::Parallelism;

/// A model's bounds.
#[derive(Debug, Clone)]
pub struct Setup {
    pub limits: Limits,
    pub pods: Vec<Pod>,
    /// Generation, revision and parallelism of each term that the operator asks for.
    pub terms: Vec<(u64, &'static str, u32)>,
    pub partitions: i32,
    /// Whether epochs write a Parquet file.
    pub files: bool,
    /// Whether epochs write rows for an ordered output.
    pub ordered: bool,
    /// Whether processes publish and note.
    pub publishes: bool,
    /// Whether dead staged objects are collected.
    pub collects: bool,
    /// Whether snapshots are written and slots sealed and deleted.
    pub sweeps: bool,
    /// Whether a listing may miss the newest snapshots.
    pub stale_listings: bool,
    /// Whether the job reads up to fixed ends.
    pub bounded: bool,
    /// Replies that may be lost.
    pub losses: u8,
    /// The log is not followed beyond that many slots.
    pub slots: u64,
    /// How the model begins: steps that are not varied.
    pub prefix: Vec<Step>,
    pub removed: Option<Safeguard>,
    /// The only rule to look for: what breaks another is not followed. For mutants, which break several.
    pub sought: Option<Rule>,
    pub careless: Option<Careless>,
    pub reached: Arc<AtomicU32>,
}

/// A fault in the workflow around the replica, which the model must notice: what the log's callers owe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Careless {
    /// Publishes what was read and not checked.
    PublishesUnchecked,
    /// Deletes what an epoch staged when nobody knows what became of its record.
    DropsInFlight,
    /// Deletes what an epoch staged when its record is void, before the reopened log tells.
    DropsVoid,
    /// Notes what it is to publish without publishing it.
    NotesUnpublished,
}

/// One pod, with the same number in every container that runs in it.
#[derive(Debug, Clone)]
pub struct Pod {
    /// `None` outside a cluster.
    pub number: Option<u64>,
    pub ordinal: u32,
    pub revision: &'static str,
    pub uid: &'static str,
    /// Processes that run in it one after another.
    pub starts: u8,
    pub epochs: u8,
    pub errand: Errand,
    /// The end of every partition as its processes see it.
    pub sees: i64,
}

/// What a process is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// To run the job.
    Run,
    /// To make a savepoint of that name.
    Save(&'static str),
    /// To hold the log and let it go.
    Pause,
    /// To hold the log and move partition 0 to that offset.
    Edit(i64),
    /// The same, taking the hold from a command that seems to have died.
    ForceEdit(i64),
}

impl Setup {
    pub fn new(pods: Vec<Pod>) -> Self {
        let limits =
            Limits { segment_slots: 2, snapshot_every: 2, keep_segments: 0, keep_snapshots: 1, ..Limits::STANDARD };
        Self {
            limits,
            pods,
            terms: vec![(1, "r1", 1)],
            partitions: 1,
            files: false,
            ordered: false,
            publishes: false,
            collects: false,
            sweeps: false,
            stale_listings: false,
            bounded: false,
            losses: 0,
            slots: 8,
            prefix: Vec::new(),
            removed: None,
            sought: None,
            careless: None,
            reached: Arc::default(),
        }
    }

    /// The same with one more slot.
    pub fn longer(self) -> Self {
        Self { slots: self.slots + 1, ..self }
    }

    /// The same with two snapshots kept, so that an old listing shows one that is there.
    pub fn with_old_snapshots(self) -> Self {
        Self { limits: Limits { keep_snapshots: 2, ..self.limits }, ..self }
    }

    /// The same, beginning before anything is sealed.
    pub fn unsealed(self) -> Self {
        let prefix = self.prefix.into_iter().filter(|step| !matches!(step, Step::Sweep { .. })).collect();
        Self { prefix, ..self }
    }

    /// The same with one more lost reply.
    pub fn lossier(self) -> Self {
        Self { losses: self.losses + 1, ..self }
    }

    /// The same with one more slot, one more lost reply, and a first pod that starts once more.
    pub fn deeper(self) -> Self {
        let mut pods = self.pods.clone();
        pods[0].starts += 1;
        Self { pods, ..self.longer().lossier() }
    }

    pub fn outputs(&self) -> BTreeMap<OutputName, String> {
        let files = self.files.then(|| (orders(), "s3://lake/orders".to_owned()));
        let rows = self.ordered.then(|| (screen(), "console:".to_owned()));
        files.into_iter().chain(rows).collect()
    }

    pub fn wanted(&self, term: usize) -> Option<WantedTerm> {
        let (generation, revision, runners) = *self.terms.get(term)?;
        Some(WantedTerm {
            generation: Some(Generation(generation)),
            revision: revision.into(),
            parallelism: Parallelism::new(runners)?,
            outputs: self.outputs(),
            accept_moved_outputs: false,
        })
    }

    /// Remembers that the model came that far. No part of the state: it must not tell states apart.
    pub fn reached(&self, milestone: Milestone) {
        self.reached.fetch_or(1 << milestone as u32, Ordering::Relaxed);
    }

    pub fn has_reached(&self, milestone: Milestone) -> bool {
        self.reached.load(Ordering::Relaxed) & (1 << milestone as u32) != 0
    }
}

impl Pod {
    /// A runner on ordinal 0 that starts once.
    pub fn runner(number: u64, epochs: u8) -> Self {
        Self {
            number: Some(number),
            ordinal: 0,
            revision: "r1",
            uid: "uid-1",
            starts: 1,
            epochs,
            errand: Errand::Run,
            sees: 1,
        }
    }

    /// A command.
    pub fn command(number: u64, errand: Errand) -> Self {
        Self { errand, ..Pod::runner(number, 0) }
    }

    pub fn home(&self) -> Start {
        Start {
            home: Home { place: "cluster/shop/orders".into(), kubernetes_uid: Some(self.uid.into()) },
            location: "s3://lake/_checkpoints/orders".into(),
            fresh_job: JobUid(Uuid::from_u128(1)),
            permission: Permission::None,
        }
    }
}
