//! The omniscient observer: it folds every slot at the moment it comes into being, and so knows what is true before any
//! runner does. Whatever breaks an invariant is written down, and fails the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use millrace::sink::memory::MemoryTables;
use millrace_joblog::paths::{self, Segment};
use millrace_joblog::record::{AdoptReason, Body, Entry, Home, Intents, Rewind, RewindPolicy, Slot};
use millrace_joblog::snapshot::Snapshot;
use millrace_joblog::store::{LogStore, MemoryStore, PutIfAbsent};
use millrace_joblog::{Fold, Incarnation, Limits, Ordinal, OutputName, Revision, Seq, StoreError, Task};
use tokio::time::Instant;

use crate::chance::Digest;
use crate::passes::Passes;

/// Requests to the store without virtual time moving on: more is a loop that never waits.
const MAX_REQUESTS_AT_ONCE: u64 = 5_000;

/// What is true, and what was seen of it.
pub struct Watch {
    began: Instant,
    loud: bool,
    seen: Mutex<Seen>,
}

pub struct Seen {
    pub limits: Limits,
    /// The log as it really is.
    pub fold: Fold,
    /// The same, before each slot.
    pub history: Vec<Fold>,
    /// What is wrong.
    pub violations: Vec<String>,
    /// How often interesting things happened.
    pub counts: BTreeMap<String, u64>,
    pub digest: Digest,
    pub claims: u64,
    /// What rewinds and edits make of the tables.
    pub passes: Passes,
    /// What the processes are made of that were started.
    builds: BTreeMap<Incarnation, Build>,
    /// The last slot that a snapshot holds.
    pub snapshot: Option<Seq>,
    /// Who claimed each ordinal, in order.
    holders: BTreeMap<Ordinal, Vec<Incarnation>>,
    /// The first claim of each process.
    claimed: BTreeMap<Incarnation, Seq>,
    /// Slots that were created again after they were deleted.
    pub litter: BTreeSet<String>,
    at_once: (Option<Instant>, u64),
}

impl Watch {
    pub fn new(limits: Limits, outputs: Vec<OutputName>, loud: bool) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            loud,
            seen: Mutex::new(Seen {
                limits,
                fold: Fold::empty(),
                history: Vec::new(),
                violations: Vec::new(),
                counts: BTreeMap::new(),
                digest: Digest::default(),
                claims: 0,
                passes: Passes::new(outputs),
                builds: BTreeMap::new(),
                snapshot: None,
                holders: BTreeMap::new(),
                claimed: BTreeMap::new(),
                litter: BTreeSet::new(),
                at_once: (None, 0),
            }),
        })
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds of virtual time since the world began.
    pub fn millis(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// An event: part of what two runs of a seed must agree on.
    pub fn event(&self, text: &str) {
        let now = self.millis();
        if self.loud {
            eprintln!("{now:>8} {text}");
        }
        let mut seen = self.seen();
        seen.digest.put(&now.to_le_bytes());
        seen.digest.put(text.as_bytes());
    }

    /// A process starts that is of this revision and of this home.
    pub fn started(&self, incarnation: Incarnation, build: Build) {
        self.seen().builds.insert(incarnation, build);
    }

    pub fn count(&self, what: &str) {
        *self.seen().counts.entry(what.to_owned()).or_default() += 1;
    }

    pub fn violation(&self, what: impl Into<String>) {
        let what = what.into();
        self.event(&format!("VIOLATION {what}"));
        self.seen().violations.push(what);
    }

    /// A request of a runner to anything outside of it.
    pub fn request(&self) {
        let now = Instant::now();
        let mut seen = self.seen();
        if seen.at_once.0 != Some(now) {
            seen.at_once = (Some(now), 0);
        }
        seen.at_once.1 += 1;
        let stuck = seen.at_once.1 > MAX_REQUESTS_AT_ONCE;
        drop(seen);
        assert!(!stuck, "{MAX_REQUESTS_AT_ONCE} requests without any time passing: a loop that never waits");
    }

    fn created(&self, key: &str, bytes: &Bytes, objects: &MemoryStore) {
        if let Some(seq) = slot_of(key) {
            self.slot_created(key, seq, bytes, objects);
        } else if let Some(seq) = paths::snapshot_seq(key) {
            let mut seen = self.seen();
            *seen.counts.entry("snapshots".to_owned()).or_default() += 1;
            seen.snapshot = seen.snapshot.max(Some(seq));
            let truth = seen.history.get(seq.0 as usize + 1).unwrap_or(&seen.fold);
            let fits = Snapshot::decode(key, bytes).is_ok_and(|snapshot| snapshot.into_fold() == *truth);
            drop(seen);
            if !fits {
                self.violation(format!("{key} is not the fold of the log through it"));
            }
        } else {
            self.count("seals");
        }
    }

    fn slot_created(&self, key: &str, seq: Seq, bytes: &Bytes, objects: &MemoryStore) {
        let mut problems = Vec::new();
        let mut seen = self.seen();
        let next = seen.fold.next();
        if seq < next {
            *seen.counts.entry("a deleted slot created again".to_owned()).or_default() += 1;
            seen.litter.insert(key.to_owned());
            if !objects.objects().contains_key(&paths::seal(Segment::of(seq, &seen.limits))) {
                problems.push(format!("{key} was created again although its segment is not sealed"));
            }
        } else {
            match Slot::decode(key, bytes) {
                Err(error) => problems.push(format!("{key} cannot be read: {error}")),
                Ok(slot) => match seen.fold.with(seq, &slot) {
                    Err(violation) => problems.push(format!("{key} breaks an invariant: {violation}")),
                    Ok(fold) => {
                        let before = std::mem::replace(&mut seen.fold, fold);
                        seen.history.push(before);
                        problems.extend(seen.note_slot(seq, &slot));
                        problems.extend(seen.check_writers(seq, &slot));
                    }
                },
            }
        }
        drop(seen);
        for problem in problems {
            self.violation(problem);
        }
    }

    fn deleted(&self, keys: &[String], objects: &MemoryStore) {
        let all = objects.objects();
        let newest = all.keys().filter_map(|key| paths::snapshot_seq(key)).max();
        let limits = self.seen().limits;
        for key in keys.iter().filter(|key| all.contains_key(*key)) {
            let Some(seq) = slot_of(key) else { continue };
            if newest.is_none_or(|newest| seq > newest) {
                self.violation(format!("{key} was deleted, and no snapshot holds what it said"));
            }
            if !all.contains_key(&paths::seal(Segment::of(seq, &limits))) {
                self.violation(format!("{key} was deleted before its segment was sealed"));
            }
            self.count("slots deleted");
        }
    }

    /// Whether everything that is decided can be published: each staged object is there, or has been copied.
    pub fn check_staged(&self, tables: &MemoryTables, urls: &BTreeMap<String, String>) {
        let objects: BTreeSet<String> = tables.objects().into_iter().map(|(path, _)| path).collect();
        let mut missing = Vec::new();
        let seen = self.seen();
        for (seq, outputs) in seen.fold.pending() {
            for (output, pending) in outputs {
                let Intents::Parquet { files } = &pending.intents else { continue };
                let Some(url) = urls.get(output.as_str()) else { continue };
                for file in files {
                    let path = |whole: &str| whole.replacen(url.as_str(), output.as_str(), 1);
                    if !objects.contains(&path(&file.staged)) && !objects.contains(&path(&file.target)) {
                        missing.push(format!("{} of record {seq} is decided, and gone", file.staged));
                    }
                }
            }
        }
        drop(seen);
        for missing in missing {
            self.violation(missing);
        }
    }
}

impl Seen {
    /// What the slot says, for the counts and for what no fold checks.
    fn note_slot(&mut self, seq: Seq, slot: &Slot) -> Vec<String> {
        let mut problems = Vec::new();
        for entry in &slot.entries {
            let what = match &entry.body {
                Body::Commit(commit) => {
                    if !commit.released.is_empty() {
                        *self.counts.entry("releases".to_owned()).or_default() += 1;
                    }
                    if !commit.data_loss.is_empty() {
                        *self.counts.entry("data losses recorded".to_owned()).or_default() += 1;
                    }
                    "commits"
                }
                Body::Adopt(adopt) => match adopt.reason {
                    AdoptReason::Recreated => "homes created anew",
                    AdoptReason::TakenOver => "take-overs",
                    AdoptReason::Forked => "forks",
                },
                Body::Hold(_) => "holds",
                Body::Release(_) => "holds released",
                Body::Savepoint(_) => {
                    let by_runner = entry.writer.ordinal.is_some();
                    if by_runner { "savepoints made by a runner" } else { "savepoints made or deleted" }
                }
                Body::Rewind(rewind) => {
                    problems.extend(self.note_rewind(seq, rewind));
                    "rewinds"
                }
                Body::Retracted(_) => {
                    let by_runner = entry.writer.ordinal.is_some();
                    if by_runner { "retractions finished by a runner" } else { "retractions finished by a command" }
                }
                Body::Edit(edit) => {
                    self.passes.edited(seq, edit);
                    "edits"
                }
                Body::Claim(claim) => {
                    self.claims += 1;
                    let holders = self.holders.entry(claim.ordinal).or_default();
                    let incarnation = entry.writer.incarnation;
                    if holders.last() != Some(&incarnation) {
                        // It may never have heard of a first claim whose slot is deleted by now: then it begins anew.
                        let first = self.claimed.get(&incarnation);
                        let unheard = first.is_some_and(|first| *first < self.fold.truncated_below());
                        if holders.contains(&incarnation) && !(unheard && claim.renews.is_none()) {
                            problems.push(format!("superseded incarnation {incarnation} claimed again in slot {seq}"));
                        }
                        holders.push(incarnation);
                        self.claimed.entry(incarnation).or_insert(seq);
                    }
                    "claims"
                }
                Body::Term(_) => "terms",
                Body::Published(_) => "notes of an idle job",
                Body::Plan(_) => "plans",
                Body::Complete(_) => "completions",
                Body::Truncate(_) => "truncations",
                _ => "other records",
            };
            *self.counts.entry(what.to_owned()).or_default() += 1;
        }
        problems
    }

    fn note_rewind(&mut self, seq: Seq, rewind: &Rewind) -> Vec<String> {
        for policy in rewind.outputs.values() {
            let what = match policy {
                RewindPolicy::Retract { .. } => "outputs rewound with retract",
                RewindPolicy::Duplicate => "outputs rewound with duplicate",
                RewindPolicy::NewPath => "outputs rewound with newPath",
            };
            *self.counts.entry(what.to_owned()).or_default() += 1;
        }
        let before = self.history.get(seq.0 as usize).unwrap_or(&self.fold);
        if before.plan().is_some() {
            *self.counts.entry("rewinds of a bounded read".to_owned()).or_default() += 1;
        }
        match millrace_joblog::history::since(before, &rewind.target) {
            Ok(since) => self.passes.rewound(seq, rewind, since, &self.history),
            Err(error) => vec![format!("rewind {seq}: {error}")],
        }
    }

    /// Only runners of the term's revision and of the log's home claim, commit and make savepoints, the collector those.
    fn check_writers(&self, seq: Seq, slot: &Slot) -> Vec<String> {
        let mut problems = Vec::new();
        let by_runner = |entry: &&Entry| match &entry.body {
            Body::Commit(_) | Body::Claim(_) => true,
            Body::Savepoint(_) => entry.writer.ordinal.is_some(),
            _ => false,
        };
        for entry in slot.entries.iter().filter(by_runner) {
            let Some(build) = self.builds.get(&entry.writer.incarnation) else {
                problems.push(format!("slot {seq} is of nobody who was started"));
                continue;
            };
            let revision = self.fold.term().map(|term| &term.revision);
            if revision != Some(&build.revision) {
                problems.push(format!("slot {seq} is of revision {}, in a term of {revision:?}", build.revision.0));
            }
            if self.fold.home().is_none_or(|state| state.home != build.home) {
                problems.push(format!("slot {seq} is of home {:?}, which the log is not of", build.home));
            }
            let collects = self.fold.owns(&Task::Collector, entry.writer.incarnation);
            if matches!(entry.body, Body::Savepoint(_)) && !collects {
                problems.push(format!("slot {seq} is a savepoint of a runner that does not collect"));
            }
        }
        problems
    }
}

/// What a process is made of.
pub struct Build {
    pub revision: Revision,
    pub home: Home,
}

pub fn slot_of(key: &str) -> Option<Seq> {
    key.strip_prefix("log/")?.strip_suffix(".json")?.parse().ok().map(Seq)
}

/// The one store that all runners share: never fails, and tells the observer.
pub struct TrueStore {
    pub objects: MemoryStore,
    pub watch: Arc<Watch>,
}

impl std::fmt::Debug for TrueStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TrueStore")
    }
}

#[async_trait]
impl LogStore for TrueStore {
    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<PutIfAbsent, StoreError> {
        let outcome = self.objects.put_if_absent(key, bytes.clone()).await?;
        if outcome == PutIfAbsent::Created {
            self.watch.event(&format!("created {key} {}", String::from_utf8_lossy(&bytes)));
            self.watch.created(key, &bytes, &self.objects);
        }
        Ok(outcome)
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.objects.put(key, bytes).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.objects.get(key).await
    }

    async fn head(&self, key: &str) -> Result<bool, StoreError> {
        self.objects.head(key).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.objects.list(folder).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        self.watch.event(&format!("deleted {}", keys.join(" ")));
        self.watch.deleted(keys, &self.objects);
        self.objects.delete(keys).await
    }
}
