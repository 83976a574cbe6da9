//! The books kept beside the log: what the true records say, worked out without a fold, so that the model does not judge
//! the fold by itself.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::Rule;
use crate::ids::{Attempt, Generation, Incarnation, Offset, Ordinal, OutputName, Partition, Rank, Revision, Seq};
use crate::record::{Body, Claim, Commit, Edit, Entry, Intents, Note, Publishing, Slot};
use crate::task::Task;

/// What the records of the true log add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Ledger {
    uids: Vec<String>,
    /// The slot of the last `Init` or `Adopt`.
    home: Option<Seq>,
    term: Option<(Generation, Revision)>,
    holders: BTreeMap<Ordinal, Holder>,
    /// Who lost which ordinal to somebody else.
    lost: BTreeSet<(Ordinal, Incarnation)>,
    owners: BTreeMap<Task, Incarnation>,
    positions: BTreeMap<Partition, Offset>,
    consumed: BTreeSet<(Partition, i64)>,
    /// Decided and not noted.
    open: BTreeMap<Note, Open>,
    decided: BTreeSet<Note>,
    held: Option<Incarnation>,
    ends: Option<BTreeMap<Partition, Offset>>,
    /// True once the bounded read is complete.
    complete: bool,
    savepoints: BTreeSet<String>,
    attempts: BTreeSet<(Incarnation, Attempt)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Holder {
    incarnation: Incarnation,
    rank: Rank,
    revision: Revision,
}

/// What one record has yet to publish to one output.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Open {
    pub by: Incarnation,
    pub intents: Intents,
}

impl Ledger {
    /// Enters the next record of the true log. Says which rule it breaks.
    pub fn enter(&mut self, seq: Seq, slot: &Slot) -> Result<(), Rule> {
        let first = &slot.entries[0].writer;
        require(self.attempts.insert((first.incarnation, first.attempt)), Rule::AttemptOnce)?;
        slot.entries.iter().try_for_each(|entry| self.entry(seq, entry))
    }

    /// True if something decided and not noted needs the staged object.
    pub fn needs(&self, name: &str) -> bool {
        self.open.values().any(|open| open.intents.staged().any(|staged| staged == name))
    }

    /// What is decided and not noted.
    pub fn open(&self) -> &BTreeMap<Note, Open> {
        &self.open
    }

    /// True if the record was decided with something for that output.
    pub fn is_decided(&self, note: &Note) -> bool {
        self.decided.contains(note)
    }

    /// Every record with something for that output, in order.
    pub fn decided_for<'a>(&'a self, output: &'a OutputName) -> impl Iterator<Item = Seq> + 'a {
        self.decided.iter().filter(move |note| note.output == *output).map(|note| note.seq)
    }

    fn entry(&mut self, seq: Seq, entry: &Entry) -> Result<(), Rule> {
        let who = entry.writer.incarnation;
        match &entry.body {
            Body::Init(init) => self.move_in(seq, init.home.kubernetes_uid.clone()),
            Body::Adopt(adopt) => self.move_in(seq, adopt.home.kubernetes_uid.clone()),
            Body::Term(term) => {
                let higher = self.term.as_ref().is_none_or(|(generation, _)| term.generation > *generation);
                self.term = Some((term.generation, term.revision.clone()));
                require(higher, Rule::CurrentOwner)
            }
            Body::Claim(claim) => self.claim(entry, claim),
            Body::Commit(commit) => self.commit(seq, entry, commit),
            Body::Published(published) => self.note(who, &published.notes),
            Body::Plan(plan) => {
                let first = self.ends.replace(plan.ends.clone()).is_none();
                require(first, Rule::BoundedRead)
            }
            Body::Complete(_) => {
                let ends = self.ends.take().ok_or(Rule::BoundedRead)?;
                self.complete = true;
                let reached = ends.iter().all(|(partition, end)| self.positions.get(partition) >= Some(end));
                require(reached && self.open.is_empty(), Rule::BoundedRead)
            }
            Body::Hold(_) => {
                self.held = Some(who);
                self.owners.clear();
                Ok(())
            }
            Body::Release(_) => require(self.held.take() == Some(who), Rule::HeldLogRests),
            Body::Edit(edit) => self.edit(who, edit),
            Body::Savepoint(savepoint) => require(self.savepoints.insert(savepoint.name.clone()), Rule::Sound),
            Body::Truncate(_) => require(self.owners.get(&Task::Collector) == Some(&who), Rule::CurrentOwner),
            Body::Rewind(_) | Body::Retracted(_) | Body::SkipPublish(_) => Err(Rule::Sound), // nobody here writes these
        }
    }

    fn move_in(&mut self, seq: Seq, uid: Option<String>) -> Result<(), Rule> {
        let uid = uid.unwrap_or_default();
        let new = !self.uids.contains(&uid);
        self.uids.push(uid);
        self.home = Some(seq);
        self.term = None;
        self.holders.clear();
        self.owners.clear();
        require(new, Rule::HomesStayReplaced)
    }

    fn claim(&mut self, entry: &Entry, claim: &Claim) -> Result<(), Rule> {
        let incarnation = entry.writer.incarnation;
        require(self.held.is_none(), Rule::HeldLogRests)?;
        require(self.term == entry.generation.map(|g| (g, claim.revision.clone())), Rule::CurrentOwner)?;
        let before = self.holders.get(&claim.ordinal);
        let high = before.is_none_or(|before| claim.rank >= before.rank) && Some(claim.rank.home) == self.home;
        let back = self.lost.contains(&(claim.ordinal, incarnation));
        require(high && !back, Rule::SupersededForGood)?;
        if let Some(before) = before.filter(|before| before.incarnation != incarnation) {
            self.lost.insert((claim.ordinal, before.incarnation));
        }
        let holder = Holder { incarnation, rank: claim.rank, revision: claim.revision.clone() };
        self.holders.insert(claim.ordinal, holder);
        self.owners.extend(claim.tasks.iter().map(|task| (task.clone(), incarnation)));
        for (partition, first) in &claim.first {
            require(self.positions.insert(partition.clone(), first.start).is_none(), Rule::Chain)?;
        }
        Ok(())
    }

    fn commit(&mut self, seq: Seq, entry: &Entry, commit: &Commit) -> Result<(), Rule> {
        let writer = &entry.writer;
        require(self.held.is_none(), Rule::HeldLogRests)?;
        let holder = writer.ordinal.and_then(|ordinal| self.holders.get(&ordinal));
        let holder = holder.filter(|holder| holder.incarnation == writer.incarnation).ok_or(Rule::CurrentOwner)?;
        require(self.term == entry.generation.map(|g| (g, holder.revision.clone())), Rule::CurrentOwner)?;
        self.note(writer.incarnation, &commit.published)?;
        for (partition, range) in &commit.ranges {
            let owner = self.owners.get(&Task::Partition(partition.clone()));
            require(owner == Some(&writer.incarnation), Rule::CurrentOwner)?;
            require(self.positions.get(partition) == Some(&range.from), Rule::Chain)?;
            let end = self.ends.as_ref().and_then(|ends| ends.get(partition));
            require(!self.complete && end.is_none_or(|end| range.to <= *end), Rule::BoundedRead)?;
            for offset in range.from.0..range.to.0 {
                require(self.consumed.insert((partition.clone(), offset)), Rule::Chain)?;
            }
            self.positions.insert(partition.clone(), range.to);
        }
        for (output, intents) in &commit.intents {
            let note = Note { seq, output: output.clone() };
            self.decided.insert(note.clone());
            self.open.insert(note, Open { by: writer.incarnation, intents: intents.clone() });
        }
        for task in &commit.released {
            require(self.owners.remove(task) == Some(writer.incarnation), Rule::CurrentOwner)?;
        }
        Ok(())
    }

    fn note(&mut self, who: Incarnation, notes: &[Note]) -> Result<(), Rule> {
        for note in notes {
            let open = self.open.get(note).ok_or(Rule::NotedByItsPublisher)?;
            let ordered = open.intents.publishing() == Publishing::Ordered;
            let publisher = self.owners.get(&Task::Publisher(note.output.clone())) == Some(&who);
            let decider = !ordered && open.by == who && self.holders.values().any(|holder| holder.incarnation == who);
            require(publisher || decider || self.held == Some(who), Rule::NotedByItsPublisher)?;
            let before = |other: &&Note| other.output == note.output && other.seq < note.seq;
            require(!ordered || !self.open.keys().any(|other| before(&other)), Rule::NotedInOrder)?;
            self.open.remove(note);
        }
        Ok(())
    }

    fn edit(&mut self, who: Incarnation, edit: &Edit) -> Result<(), Rule> {
        require(self.held == Some(who) && self.open.is_empty(), Rule::HeldLogRests)?;
        for (partition, shift) in &edit.offsets {
            require(self.positions.insert(partition.clone(), shift.to) == Some(shift.from), Rule::Chain)?;
        }
        Ok(())
    }
}

fn require(holds: bool, rule: Rule) -> Result<(), Rule> {
    if holds { Ok(()) } else { Err(rule) }
}
