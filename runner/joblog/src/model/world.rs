//! The world of the model: a store, the processes that use it, and the true log beside it, which nobody can read.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use super::ledger::Ledger;
use super::process::Process;
use super::rules::Rule;
use crate::fold::Fold;
use crate::ids::{Attempt, Incarnation, Seq};
use crate::limits::Limits;
use crate::paths::Segment;
use crate::record::{Body, Intents, Note, Slot};

/// A shared value that remembers its hash: states share most of what they hold.
#[derive(Debug)]
pub struct Kept<T>(Arc<(u64, T)>);

/// One state of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub store: Store,
    pub processes: Vec<Kept<Process>>,
    pub truth: Kept<Truth>,
    /// Replies that may still be lost.
    pub losses: u8,
    /// The first rule that was broken.
    pub broken: Option<Rule>,
}

/// What is in the store, and on the sinks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Store {
    pub slots: BTreeMap<u64, Kept<Slot>>,
    pub seals: BTreeSet<u64>,
    pub snapshots: BTreeMap<u64, Kept<Fold>>,
    /// Creates without a reply, which may take effect at any time or never.
    pub late: Vec<(u64, Kept<Slot>)>,
    pub staged: BTreeSet<String>,
    /// Files that readers of the tables see.
    pub files: BTreeSet<String>,
    /// Records that the ordered sink applied, in its order.
    pub applied: Vec<u64>,
}

/// The true log: what was first created in each slot. A slot created again after its deletion is litter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Truth {
    pub records: Vec<Kept<Slot>>,
    /// The fold before each record, and after the last.
    pub folds: Vec<Kept<Fold>>,
    pub ledger: Ledger,
    /// Records that their authors believe will never be in the log.
    pub given_up: BTreeSet<(Incarnation, Attempt)>,
    /// Offsets that somebody believes decided.
    pub believed: BTreeSet<(i32, i64)>,
}

impl World {
    pub fn new(processes: Vec<Process>, losses: u8) -> World {
        let truth = Truth {
            records: Vec::new(),
            folds: vec![Kept::new(Fold::empty())],
            ledger: Ledger::default(),
            given_up: BTreeSet::new(),
            believed: BTreeSet::new(),
        };
        let processes = processes.into_iter().map(Kept::new).collect();
        World { store: Store::default(), processes, truth: Kept::new(truth), losses, broken: None }
    }

    pub fn require(&mut self, holds: bool, rule: Rule) {
        if !holds && self.broken.is_none() {
            self.broken = Some(rule);
        }
    }

    pub fn is_sealed(&self, seq: u64, limits: &Limits) -> bool {
        self.store.seals.contains(&Segment::of(Seq(seq), limits).0)
    }

    /// Puts a slot if it is absent. True if it was.
    pub fn create(&mut self, seq: u64, slot: &Kept<Slot>, limits: &Limits) -> bool {
        if self.store.slots.contains_key(&seq) {
            return false;
        }
        self.store.slots.insert(seq, slot.clone());
        let length = self.truth.records.len() as u64;
        self.require(seq <= length, Rule::Sound);
        if seq < length {
            let litter = self.is_sealed(seq, limits);
            self.require(litter, Rule::SlotsNeverChange);
        } else if seq == length {
            self.decide(Seq(seq), slot);
        }
        true
    }

    /// A record becomes part of the true log.
    fn decide(&mut self, seq: Seq, slot: &Kept<Slot>) {
        let mut truth = Truth::clone(&self.truth);
        let mut notes = slot.entries.iter().flat_map(|entry| match &entry.body {
            Body::Commit(commit) => commit.published.as_slice(),
            Body::Published(published) => published.notes.as_slice(),
            _ => &[],
        });
        let done = notes.all(|note| self.is_published(&truth, note));
        self.require(done, Rule::NotedIsPublished);
        let mut staged = slot.commits().flat_map(|(_, commit)| commit.intents.values()).flat_map(Intents::staged);
        let there = staged.all(|name| self.store.staged.contains(name));
        self.require(there, Rule::LiveIsKept);
        let writer = slot.entries[0].writer;
        let wanted = !truth.given_up.contains(&(writer.incarnation, writer.attempt));
        self.require(wanted, Rule::GivenUpIsGone);
        if let Err(rule) = truth.ledger.enter(seq, slot) {
            self.require(false, rule);
        }
        let last = truth.folds.last().map(|fold| Fold::clone(fold)).unwrap_or_default();
        match last.with(seq, slot) {
            Ok(fold) => truth.folds.push(Kept::new(fold)),
            Err(_) => {
                self.require(false, Rule::Sound);
                truth.folds.push(Kept::new(last));
            }
        }
        truth.records.push(slot.clone());
        self.truth = Kept::new(truth);
    }

    fn is_published(&self, truth: &Truth, note: &Note) -> bool {
        match truth.ledger.open().get(note).map(|open| &open.intents) {
            Some(Intents::Parquet { files }) => files.iter().all(|file| self.store.files.contains(&file.target)),
            Some(_) => self.store.applied.contains(&note.seq.0),
            None => true, // another rule's affair
        }
    }

    /// Its author will act as if the record were not in the log.
    pub fn give_up(&mut self, incarnation: Incarnation, attempt: Attempt) {
        let decided = self.truth.records.iter().any(|slot| slot.is_from(incarnation, attempt));
        self.require(!decided, Rule::GivenUpIsGone);
        // Only one that is still on its way can matter later.
        if self.store.late.iter().any(|(_, slot)| slot.is_from(incarnation, attempt)) {
            self.truth = self.truth.with(|truth| truth.given_up.insert((incarnation, attempt)));
        }
    }

    /// Its author will act as if the record were in the log.
    pub fn believe(&mut self, seq: Seq, slot: &Slot) {
        let writer = slot.entries[0].writer;
        let real = self.truth.records.get(seq.0 as usize);
        let real = real.is_some_and(|real| real.is_from(writer.incarnation, writer.attempt) && **real == *slot);
        self.require(real, Rule::BelievedIsTrue);
        let mut news = true;
        let ranges = slot.commits().flat_map(|(_, commit)| commit.ranges.iter());
        let offsets: Vec<_> = ranges
            .flat_map(|(partition, range)| (range.from.0..range.to.0).map(|o| (partition.partition, o)))
            .collect();
        if !offsets.is_empty() {
            self.truth = self.truth.with(|truth| news = offsets.into_iter().all(|o| truth.believed.insert(o)));
        }
        self.require(news, Rule::BelievedOnce);
    }

    pub fn discard(&mut self, name: &str) {
        if self.store.staged.remove(name) {
            let needed = self.truth.ledger.needs(name);
            self.require(!needed, Rule::LiveIsKept);
        }
    }

    pub fn delete_slot(&mut self, seq: u64) {
        if self.store.slots.remove(&seq).is_some() {
            let covered = self.store.snapshots.keys().any(|through| *through >= seq);
            self.require(covered, Rule::LiveIsKept);
        }
    }
}

impl<T: Hash> Kept<T> {
    pub fn new(value: T) -> Self {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self(Arc::new((hasher.finish(), value)))
    }
}

impl<T: Hash + Clone> Kept<T> {
    /// A changed copy.
    pub fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> Self {
        let mut value = T::clone(self);
        change(&mut value);
        Self::new(value)
    }
}

impl<T> Kept<T> {
    pub fn hash_value(&self) -> u64 {
        self.0.0
    }
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.1
    }
}

impl<T> PartialEq for Kept<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.0 == other.0.0
    }
}

impl<T> Eq for Kept<T> {}

impl<T> Hash for Kept<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.0.hash(state);
    }
}
