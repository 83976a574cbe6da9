//! The traps of the protocol as tests: small worlds of runners on one store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bounded;
mod collection;
mod fencing;
mod format;
mod golden;
mod homes;
mod invariants;
mod management;
mod properties;
mod publishing;
mod requests;
mod terms;
mod unknown_outcome;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use uuid::Uuid;

use crate::decide::{
    Begin, ClaimDecision, ClaimRequest, CommitDecision, Permission, Start, WantedTerm, begin, candidates, claim,
    commit, term,
};
use crate::fold::{Fold, Violation};
use crate::ids::*;
use crate::record::*;
use crate::staged::StagedName;
use crate::store::{Faults, FaultyStore, MemoryStore};
use crate::task::{Parallelism, Task};
use crate::{Appended, CaughtUp, Clock, Compose, JobLog, Limits, LogError, LogStore, Proposal, View, Won};

/// Small enough that a few records cross segments.
pub const SMALL: Limits =
    Limits { segment_slots: 4, snapshot_every: 4, keep_segments: 0, max_tries: 4, max_reopens: 4, ..Limits::STANDARD };

/// A clock that only moves when it is asked.
#[derive(Debug, Default)]
pub struct TestClock(AtomicI64);

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Millis {
        Millis(self.0.fetch_add(1, Ordering::Relaxed))
    }

    async fn pause(&self, _: u32) {
        tokio::task::yield_now().await;
    }
}

/// One runner process.
pub struct Runner {
    pub log: JobLog,
    pub store: Arc<FaultyStore>,
    pub incarnation: Incarnation,
    pub ordinal: Ordinal,
    pub pod: Option<u64>,
    pub revision: Revision,
    pub generation: Option<Generation>,
    pub parallelism: u32,
    pub home: Home,
    pub outputs: BTreeMap<OutputName, String>,
    pub names: u64,
}

pub fn incarnation(number: u128) -> Incarnation {
    Incarnation(Uuid::from_u128(number))
}

pub fn partition(number: i32) -> Partition {
    Partition::new("orders", "commandes", number)
}

pub fn reads(number: i32) -> Task {
    Task::Partition(partition(number))
}

pub fn orders() -> OutputName {
    "orders".into()
}

pub fn screen() -> OutputName {
    "screen".into()
}

pub fn home() -> Home {
    Home { place: "cluster/shop/orders".into(), kubernetes_uid: Some("uid-1".into()) }
}

impl Runner {
    /// A process with its own client of the store, on ordinal 0 of 1.
    pub async fn open(memory: &MemoryStore, number: u128) -> Runner {
        Runner::open_with(memory, number, Faults::script([]), SMALL).await
    }

    pub async fn open_with(memory: &MemoryStore, number: u128, faults: Faults, limits: Limits) -> Runner {
        let store = Arc::new(FaultyStore::new(Arc::new(memory.clone()), Faults::script([])));
        let clock = Arc::new(TestClock::default());
        let log = JobLog::open(store.clone(), clock, incarnation(number), limits).await.unwrap();
        store.set_faults(faults);
        store.forget_requests();
        Runner {
            log,
            store,
            incarnation: incarnation(number),
            ordinal: Ordinal(0),
            pod: Some(number as u64),
            revision: "r1".into(),
            generation: None,
            parallelism: 1,
            home: home(),
            outputs: [(orders(), "s3://lake/orders".into()), (screen(), "console:".into())].into(),
            names: 0,
        }
    }

    pub fn start(&self) -> Start {
        Start {
            home: self.home.clone(),
            location: "s3://lake/_checkpoints/orders".into(),
            fresh_job: JobUid(self.incarnation.0),
            permission: Permission::None,
        }
    }

    pub fn wanted(&self) -> WantedTerm {
        WantedTerm {
            generation: self.generation,
            revision: self.revision.clone(),
            parallelism: Parallelism::new(self.parallelism).unwrap(),
            outputs: self.outputs.clone(),
            accept_moved_outputs: false,
        }
    }

    /// Wants four partitions, all of which start at offset 0.
    pub fn request(&self, fold: &Fold, grace_over: bool) -> ClaimRequest {
        let first = FirstClaim { start: Offset(0), topic_id: Some("topic-1".into()) };
        ClaimRequest {
            ordinal: self.ordinal,
            pod: self.pod,
            revision: self.revision.clone(),
            tasks: candidates(fold, (0..4).map(partition), self.outputs.keys()),
            first: (0..4).map(|number| (partition(number), first.clone())).collect(),
            grace_over,
        }
    }

    /// Starts: home, term and claim in one record.
    pub async fn begin(&mut self) -> Appended<Begin> {
        let decide = self.decider();
        let appended = self.log.append(|view| match decide.decide_begin(view) {
            Begin::Propose { proposal, .. } => Compose::Propose(proposal),
            other => Compose::Decline(other),
        });
        appended.await.unwrap()
    }

    /// Starts and owns what it should.
    pub async fn begun(memory: &MemoryStore, number: u128) -> Runner {
        let mut runner = Runner::open(memory, number).await;
        let Appended::Won(_) = runner.begin().await else { panic!("did not begin") };
        runner
    }

    pub async fn claim(&mut self, grace_over: bool) -> Appended<ClaimDecision> {
        let decide = self.decider();
        let appended = self.log.append(|view| match claim(view, &decide.request(view.fold, grace_over)) {
            ClaimDecision::Propose { proposal, .. } => Compose::Propose(proposal),
            other => Compose::Decline(other),
        });
        appended.await.unwrap()
    }

    /// Writes a term of this runner's revision and parallelism.
    pub async fn new_term(&mut self) -> Appended<crate::decide::TermDecision> {
        let wanted = self.wanted();
        self.append(|view| match term(view, &wanted) {
            crate::decide::TermDecision::Propose(proposal) => Err(proposal),
            other => Ok(other),
        })
        .await
    }

    /// An epoch of `rows` rows of one partition, from where the log stands, with one Parquet file.
    pub fn epoch(&mut self, number: i32, rows: i64) -> Commit {
        let from = self.log.fold().partition(&partition(number)).map_or(0, |state| state.offset.0);
        let mut epoch = Commit::default();
        epoch.ranges.insert(partition(number), Range::new(from, from + rows));
        epoch.intents.insert(orders(), self.file(rows as u64));
        epoch.counters.rows_in = rows as u64;
        epoch
    }

    pub fn staged_name(&mut self) -> StagedName {
        self.names += 1;
        let claim = self.log.fold().live_claim(self.incarnation).unwrap_or(Seq(0));
        StagedName { claim, incarnation: self.incarnation, label: format!("{}", self.names) }
    }

    pub fn file(&mut self, rows: u64) -> Intents {
        let name = self.staged_name();
        let file = ParquetFile {
            staged: format!("s3://lake/orders/_millrace/staged/{name}"),
            target: format!("s3://lake/orders/{name}.parquet"),
            bytes: rows * 10,
            rows,
            etag: None,
        };
        Intents::Parquet { files: vec![file] }
    }

    pub fn rows_to_show(&mut self) -> Intents {
        let name = self.staged_name();
        Intents::Console { blob: Blob { staged: crate::paths::staged(&name.to_string()), bytes: 1, rows: 1 } }
    }

    pub async fn try_commit(&mut self, epoch: &Commit) -> Result<Appended<CommitDecision>, LogError> {
        let revision = self.revision.clone();
        let appended = self.log.append(|view| match commit(view, &revision, epoch) {
            CommitDecision::Propose(proposal) => Compose::Propose(proposal),
            other => Compose::Decline(other),
        });
        appended.await
    }

    pub async fn commit(&mut self, epoch: &Commit) -> Appended<CommitDecision> {
        self.try_commit(epoch).await.unwrap()
    }

    /// Commits one epoch and returns its slot.
    pub async fn committed(&mut self, number: i32, rows: i64) -> Seq {
        let epoch = self.epoch(number, rows);
        match self.commit(&epoch).await {
            Appended::Won(won) => won.seq(),
            other => panic!("did not commit: {other:?}"),
        }
    }

    /// Appends what a decision proposes (`Err`), or returns what else it says (`Ok`).
    pub async fn append<D>(&mut self, mut decide: impl FnMut(&View<'_>) -> Result<D, Proposal>) -> Appended<D> {
        let appended = self.log.append(|view| match decide(view) {
            Err(proposal) => Compose::Propose(proposal),
            Ok(other) => Compose::Decline(other),
        });
        appended.await.unwrap()
    }

    pub async fn note(&mut self, notes: &[Note]) -> Appended<crate::decide::NoteDecision> {
        self.append(|view| match crate::decide::note(view, notes) {
            crate::decide::NoteDecision::Propose(proposal) => Err(proposal),
            other => Ok(other),
        })
        .await
    }

    pub async fn catch_up(&mut self) -> u64 {
        match self.log.catch_up().await.unwrap() {
            CaughtUp::Tail { read } => read,
            other => panic!("no tail: {other:?}"),
        }
    }

    pub fn owned(&self) -> BTreeSet<Task> {
        self.log.fold().owned_by(self.incarnation)
    }

    /// What a closure over `&mut self.log` needs of the rest.
    fn decider(&self) -> Decider {
        Decider {
            start: self.start(),
            wanted: self.wanted(),
            request: self.request(self.log.fold(), false),
            outputs: self.outputs.clone(),
        }
    }
}

struct Decider {
    start: Start,
    wanted: WantedTerm,
    request: ClaimRequest,
    outputs: BTreeMap<OutputName, String>,
}

impl Decider {
    fn decide_begin(&self, view: &View<'_>) -> Begin {
        begin(view, &self.start, &self.wanted, &self.request(view.fold, false))
    }

    fn request(&self, fold: &Fold, grace_over: bool) -> ClaimRequest {
        let tasks = candidates(fold, (0..4).map(partition), self.outputs.keys());
        ClaimRequest { tasks, grace_over, ..self.request.clone() }
    }
}

/// The log in the store, folded from its beginning: what a newcomer would believe.
pub fn fold_all(memory: &MemoryStore) -> Result<Fold, Violation> {
    let mut fold = Fold::empty();
    for (seq, slot) in slots(memory) {
        fold.apply(seq, &slot)?;
    }
    Ok(fold)
}

/// Every slot in the store.
pub fn slots(memory: &MemoryStore) -> Vec<(Seq, Slot)> {
    let objects = memory.objects();
    let slots = objects.iter().filter(|(key, _)| key.starts_with("log/"));
    let decoded = slots.map(|(key, bytes)| {
        let seq = key.trim_start_matches("log/").trim_end_matches(".json").parse().unwrap();
        (Seq(seq), Slot::decode(key, bytes).unwrap())
    });
    decoded.collect()
}

/// Two runners that have divided the work.
pub async fn two_ordinals(memory: &MemoryStore) -> (Runner, Runner) {
    let mut zero = Runner::begun(memory, 1).await;
    zero.parallelism = 2;
    won(zero.new_term().await);
    won(zero.commit(&Commit::default()).await);
    let mut one = Runner::open(memory, 2).await;
    one.ordinal = Ordinal(1);
    one.parallelism = 2;
    won(one.begin().await);
    zero.catch_up().await;
    (zero, one)
}

/// Runs a future on this thread, where [`crate::safeguard::without`] applies.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

pub fn won(appended: Appended<impl std::fmt::Debug>) -> Won {
    match appended {
        Appended::Won(won) => won,
        other => panic!("not won: {other:?}"),
    }
}

pub fn declined<D: std::fmt::Debug>(appended: Appended<D>) -> D {
    match appended {
        Appended::Declined(reason) => reason,
        other => panic!("not declined: {other:?}"),
    }
}

/// The store's interface, for tests that write to it by hand.
pub async fn put(memory: &MemoryStore, key: &str, bytes: impl Into<bytes::Bytes>) {
    memory.put(key, bytes.into()).await.unwrap();
}
