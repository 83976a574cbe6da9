//! What there was at an earlier point of the log and since: what a rewind needs to know.

use std::collections::{BTreeMap, BTreeSet};

use crate::fold::Fold;
use crate::ids::{Offset, OutputName, Partition, Seq};
use crate::record::{
    Adopt, AdoptReason, Body, EditPolicy, Intents, Note, Position, PublishedFile, RewindPolicy, RewindTarget, Slot,
};

/// Where everything stood at an earlier point, and what was published since.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Past {
    /// Where every partition that the log knows today stood.
    pub positions: BTreeMap<Partition, Position>,
    /// The files published since, by output, without those that stay for ever; `None` if the records that name them are deleted.
    pub published: Option<BTreeMap<OutputName, BTreeSet<PublishedFile>>>,
    /// Outputs that got rows since in a way that cannot be retracted.
    pub ordered: BTreeSet<OutputName>,
    /// A rewind since that took back files published before: what the tables held at the point cannot be had again.
    pub taken_back_by: Option<Seq>,
    /// Partitions whose topic was deleted and created again since: where they stood means nothing in the new topic.
    pub recreated: BTreeSet<Partition>,
    /// The slot up to which the log was read.
    pub read_through: Seq,
}

/// Why the past could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PastError {
    /// The point does not exist.
    #[error("there is no savepoint {name:?}; the log has {known:?}")]
    NoSavepoint {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The records are deleted, or were not all given.
    #[error("the records after {target} are not all there; the earliest point kept is {earliest}")]
    Incomplete {
        /// The point asked for.
        target: Seq,
        /// The earliest point there is.
        earliest: Seq,
    },
}

impl Past {
    /// Reads the past from `fold` and the records after the target, oldest first. For a savepoint the records may be
    /// missing; then nothing can be retracted.
    pub fn read(fold: &Fold, target: &RewindTarget, records: &[(Seq, Slot)]) -> Result<Past, PastError> {
        let since = since(fold, target)?;
        let complete = covers(fold, since, records);
        let positions = match target {
            RewindTarget::Savepoint(name) => fold.savepoint_positions(name).unwrap_or_default(),
            RewindTarget::Seq(_) if !complete => {
                let earliest = fold.truncated_below().previous().unwrap_or(Seq::ZERO);
                return Err(PastError::Incomplete { target: since, earliest });
            }
            RewindTarget::Seq(_) => positions_before(fold, records, since),
        };
        let mut past = Past {
            positions,
            published: complete.then(BTreeMap::new),
            ordered: BTreeSet::new(),
            taken_back_by: None,
            recreated: fold.recreated_since(target),
            read_through: fold.next(),
        };
        let records = || records.iter().filter(|(seq, _)| *seq > since);
        let skipped: BTreeSet<Note> = records().flat_map(|(_, slot)| skipped(slot)).collect();
        for (seq, slot) in records() {
            past.note(*seq, slot, &skipped);
        }
        Ok(past)
    }

    /// The outputs that got rows since, as far as can be told: all of them if the records are deleted.
    pub fn affected_outputs(&self, fold: &Fold) -> BTreeSet<OutputName> {
        match &self.published {
            None => fold.outputs().keys().chain(&self.ordered).cloned().collect(),
            Some(published) => {
                let files = published.iter().filter(|(_, files)| !files.is_empty());
                files.map(|(output, _)| output).chain(&self.ordered).cloned().collect()
            }
        }
    }

    /// The files to delete to retract an output; `None` if that is impossible.
    pub fn retractable(&self, output: &OutputName) -> Option<Vec<PublishedFile>> {
        let published = self.published.as_ref().filter(|_| !self.ordered.contains(output))?;
        Some(published.get(output).map(|files| files.iter().cloned().collect()).unwrap_or_default())
    }

    fn note(&mut self, seq: Seq, slot: &Slot, skipped: &BTreeSet<Note>) {
        let Some(published) = &mut self.published else { return };
        for entry in &slot.entries {
            match &entry.body {
                Body::Commit(commit) => {
                    let recreated = commit.data_loss.iter().filter(|loss| loss.topic_id.is_some());
                    self.recreated.extend(recreated.map(|loss| loss.partition.clone()));
                    for (output, intents) in &commit.intents {
                        if skipped.contains(&Note { seq, output: output.clone() }) {
                            continue; // decided and never published
                        }
                        let Intents::Parquet { files } = intents else {
                            self.ordered.insert(output.clone());
                            continue;
                        };
                        let files = files.iter().map(|file| PublishedFile {
                            target: file.target.clone(),
                            staged: file.staged.clone(),
                            bytes: file.bytes,
                            etag: file.etag.clone(),
                        });
                        published.entry(output.clone()).or_default().extend(files);
                    }
                }
                // What was published until then is the other job's.
                Body::Adopt(Adopt { reason: AdoptReason::Forked, .. }) => {
                    published.clear();
                    self.ordered.clear();
                    self.taken_back_by = None;
                }
                Body::Rewind(rewind) => {
                    for (output, policy) in &rewind.outputs {
                        match policy {
                            // Deleted by an earlier rewind.
                            RewindPolicy::Retract { files } => {
                                let there = published.entry(output.clone()).or_default();
                                if files.iter().any(|file| !there.contains(file)) {
                                    self.taken_back_by = Some(seq);
                                }
                                there.retain(|file| !files.contains(file));
                            }
                            // What is in the old path was promised to stay.
                            RewindPolicy::NewPath => {
                                published.remove(output);
                                self.ordered.remove(output);
                            }
                            RewindPolicy::Duplicate => {}
                        }
                    }
                }
                Body::Edit(edit) => {
                    for (output, _) in edit.outputs.iter().filter(|(_, policy)| **policy == EditPolicy::NewPath) {
                        published.remove(output);
                        self.ordered.remove(output);
                    }
                }
                _ => {}
            }
        }
    }
}

fn skipped(slot: &Slot) -> impl Iterator<Item = Note> {
    slot.entries.iter().filter_map(|entry| match &entry.body {
        Body::SkipPublish(skip) => Some(Note { seq: skip.seq, output: skip.output.clone() }),
        _ => None,
    })
}

/// The slot that the target stands for.
pub fn since(fold: &Fold, target: &RewindTarget) -> Result<Seq, PastError> {
    match target {
        RewindTarget::Seq(seq) => Ok(*seq),
        RewindTarget::Savepoint(name) => fold.savepoints().get(name).map(|savepoint| savepoint.seq).ok_or_else(|| {
            PastError::NoSavepoint { name: name.clone(), known: fold.savepoints().keys().cloned().collect() }
        }),
    }
}

/// True if the records are exactly those after `since`.
fn covers(fold: &Fold, since: Seq, records: &[(Seq, Slot)]) -> bool {
    let wanted = (since.0 + 1)..fold.next().0;
    let given = records.iter().map(|(seq, _)| seq.0).filter(|seq| *seq > since.0);
    wanted.eq(given)
}

/// Undoes the records from the newest to the oldest. What no record moved stands where it stood.
fn positions_before(fold: &Fold, records: &[(Seq, Slot)], since: Seq) -> BTreeMap<Partition, Position> {
    let mut positions: BTreeMap<_, _> =
        fold.partitions().iter().map(|(p, state)| (p.clone(), state.position())).collect();
    let entries = records.iter().filter(|(seq, _)| *seq > since).rev().flat_map(|(_, slot)| slot.entries.iter().rev());
    for entry in entries {
        let mut stood = |partition: &Partition, offset: Offset| {
            if let Some(position) = positions.get_mut(partition) {
                position.offset = offset;
            }
        };
        match &entry.body {
            Body::Commit(commit) => {
                commit.ranges.iter().for_each(|(partition, range)| stood(partition, range.from));
                commit.data_loss.iter().rev().for_each(|loss| stood(&loss.partition, loss.expected));
                for (partition, moved) in &commit.watermarks {
                    if let Some(position) = positions.get_mut(partition) {
                        position.watermark = moved.before;
                        position.idle = moved.was_idle;
                    }
                }
            }
            Body::Rewind(rewind) => {
                positions
                    .extend(rewind.positions.iter().map(|(partition, moved)| (partition.clone(), moved.from.clone())));
            }
            Body::Edit(edit) => edit.offsets.iter().for_each(|(partition, shift)| stood(partition, shift.from)),
            _ => {}
        }
    }
    positions
}
