//! Holds, savepoints, rewinds, edits and truncation.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::fold::{Breach, Fold, PartitionState};
use crate::ids::{Incarnation, OutputName, Partition, Seq};
use crate::limits::MAX_SAVEPOINTS;
use crate::record::{
    Edit, EditPolicy, Entry, Hold, Moved, Note, Position, PublishedFile, Rewind, RewindPolicy, RewindTarget, Savepoint,
    SavepointAction, StartFrom, StateRef, Truncate, Writer,
};
use crate::safeguard::{Safeguard, on};
use crate::task::Task;

/// The command that stopped all work.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HoldState {
    /// The command's process.
    pub incarnation: Incarnation,
    /// Who and why, for a person.
    pub reason: String,
    /// The slot of its record.
    pub since: Seq,
}

/// A savepoint: where everything stood at its own record, so that nothing else of that time need be kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SavepointState {
    /// The slot of its record.
    pub seq: Seq,
    /// Where each partition stood.
    pub partitions: BTreeMap<Partition, PartitionState>,
    /// The state blobs of that point. They are kept while the savepoint is.
    pub state: BTreeMap<Task, Vec<StateRef>>,
}

/// Files that a rewind has yet to delete from one output.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retraction {
    /// The command that decided the rewind.
    pub by: Incarnation,
    /// The files.
    pub files: Vec<PublishedFile>,
}

/// A start from a savepoint that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartedFrom {
    /// Which, and for which revision.
    pub start: StartFrom,
    /// The slot of the rewind.
    pub since: Seq,
}

impl Fold {
    pub(super) fn hold(&mut self, seq: Seq, writer: &Writer, hold: &Hold) -> Result<(), Breach> {
        // Running processes see at their next look that they own nothing, drop their open epochs and wait.
        self.owners.clear();
        self.hold = Some(HoldState { incarnation: writer.incarnation, reason: hold.reason.clone(), since: seq });
        Ok(())
    }

    pub(super) fn release(&mut self) -> Result<(), Breach> {
        self.hold.take().map(drop).ok_or(Breach::NotHeld)
    }

    pub(super) fn check_holder(&self, writer: &Writer) -> Result<(), Breach> {
        let holds = self.hold.as_ref().is_some_and(|hold| hold.incarnation == writer.incarnation);
        if holds { Ok(()) } else { Err(Breach::NotHolder { by: writer.incarnation }) }
    }

    pub(super) fn savepoint(&mut self, seq: Seq, savepoint: &Savepoint) -> Result<(), Breach> {
        let wrong = || Breach::Savepoint { name: savepoint.name.clone() };
        match savepoint.action {
            SavepointAction::Create => {
                let full = self.savepoints.len() >= MAX_SAVEPOINTS;
                if full || self.savepoints.contains_key(&savepoint.name) {
                    return Err(wrong());
                }
                let state = SavepointState { seq, partitions: self.partitions.clone(), state: self.state.clone() };
                self.savepoints.insert(savepoint.name.clone(), state);
            }
            SavepointAction::Delete => {
                self.savepoints.remove(&savepoint.name).ok_or_else(wrong)?;
            }
        }
        Ok(())
    }

    pub(super) fn rewind(&mut self, seq: Seq, writer: &Writer, rewind: &Rewind) -> Result<(), Breach> {
        self.check_holder(writer)?;
        self.check_drained()?;
        self.check_target(&rewind.target, &rewind.positions)?;
        for (partition, moved) in &rewind.positions {
            if let Some(state) = self.partitions.get_mut(partition) {
                state.offset = moved.to.offset;
                state.watermark = moved.to.watermark;
                state.idle = moved.to.idle;
            }
        }
        if let RewindTarget::Savepoint(name) = &rewind.target
            && let Some(savepoint) = self.savepoints.get(name)
        {
            self.state = savepoint.state.clone();
        }
        for (output, policy) in &rewind.outputs {
            if let RewindPolicy::Retract { files } = policy
                && !files.is_empty()
            {
                // What the tables held at a savepoint in between is taken back: nobody may go there again.
                let target = self.target_seq(&rewind.target);
                self.savepoints.retain(|_, savepoint| savepoint.seq <= target);
                let retraction = Retraction { by: writer.incarnation, files: files.clone() };
                self.retractions.entry(seq).or_default().insert(output.clone(), retraction);
            }
            if let RewindPolicy::NewPath = policy {
                self.leave(output);
            }
        }
        if let Some(start) = &rewind.start {
            let asked = RewindTarget::Savepoint(start.point.savepoint.clone());
            if rewind.target != asked {
                return Err(Breach::RewindTarget);
            }
            self.started_from = Some(StartedFrom { start: start.clone(), since: seq });
        }
        // Ends and completion of a bounded read speak of the way that was just undone.
        self.plan = None;
        self.owners.clear();
        Ok(())
    }

    fn check_drained(&self) -> Result<(), Breach> {
        if self.pending.is_empty() || !on(Safeguard::DrainFirst) {
            return Ok(());
        }
        Err(Breach::NotDrained { count: self.pending.len() })
    }

    fn check_target(&self, target: &RewindTarget, positions: &BTreeMap<Partition, Moved>) -> Result<(), Breach> {
        let fits = match target {
            RewindTarget::Seq(seq) => {
                let kept = seq.next() >= self.truncated_below && *seq < self.next;
                kept && self.state.is_empty()
            }
            RewindTarget::Savepoint(name) => {
                let saved = self.savepoint_positions(name);
                let saved = saved.is_some_and(|saved| saved.values().eq(positions.values().map(|moved| &moved.to)));
                saved && (self.recreated_since(target).is_empty() || !on(Safeguard::SameTopic))
            }
        };
        let here = self.partitions.iter().map(|(partition, state)| (partition, state.position()));
        let fits = fits && here.eq(positions.iter().map(|(partition, moved)| (partition, moved.from.clone())));
        if fits { Ok(()) } else { Err(Breach::RewindTarget) }
    }

    fn target_seq(&self, target: &RewindTarget) -> Seq {
        match target {
            RewindTarget::Seq(seq) => *seq,
            RewindTarget::Savepoint(name) => self.savepoints.get(name).map_or(self.next, |savepoint| savepoint.seq),
        }
    }

    /// The partitions whose topic is another than at that savepoint; for a record only the records since tell.
    pub(crate) fn recreated_since(&self, target: &RewindTarget) -> BTreeSet<Partition> {
        let RewindTarget::Savepoint(name) = target else { return BTreeSet::new() };
        let saved = self.savepoints.get(name).into_iter().flat_map(|savepoint| &savepoint.partitions);
        let other = saved.filter(|(partition, saved)| {
            self.partitions.get(*partition).is_some_and(|state| state.topic_id != saved.topic_id)
        });
        other.map(|(partition, _)| partition.clone()).collect()
    }

    /// Where every partition goes in a rewind to that savepoint; one that was not yet read goes back to its start.
    pub fn savepoint_positions(&self, name: &str) -> Option<BTreeMap<Partition, Position>> {
        let savepoint = self.savepoints.get(name)?;
        let position = |(partition, state): (&Partition, &PartitionState)| {
            let start = Position { offset: state.start, watermark: None, idle: false };
            let position = savepoint.partitions.get(partition).map_or(start, PartitionState::position);
            (partition.clone(), position)
        };
        Some(self.partitions.iter().map(position).collect())
    }

    pub(super) fn retracted(&mut self, writer: &Writer, notes: &[Note]) -> Result<(), Breach> {
        for note in notes {
            let nothing = || Breach::NothingPending { seq: note.seq, output: note.output.clone() };
            let outputs = self.retractions.get(&note.seq).ok_or_else(nothing)?;
            let retraction = outputs.get(&note.output).ok_or_else(nothing)?;
            let publisher = self.owns(&Task::Publisher(note.output.clone()), writer.incarnation);
            // While the log is held, the holder has the place of every publisher.
            let publisher = publisher || self.check_holder(writer).is_ok();
            if !publisher && retraction.by != writer.incarnation {
                return Err(Breach::NotPublisher {
                    seq: note.seq,
                    output: note.output.clone(),
                    incarnation: writer.incarnation,
                });
            }
            if let Some(outputs) = self.retractions.get_mut(&note.seq) {
                outputs.remove(&note.output);
            }
            self.retractions.retain(|_, outputs| !outputs.is_empty());
        }
        Ok(())
    }

    pub(super) fn edit(&mut self, writer: &Writer, edit: &Edit) -> Result<(), Breach> {
        self.check_holder(writer)?;
        self.check_drained()?;
        for (partition, shift) in &edit.offsets {
            let unknown = || Breach::UnknownPartition { partition: partition.clone() };
            let state = self.partitions.get_mut(partition).ok_or_else(unknown)?;
            if state.offset != shift.from {
                return Err(Breach::BrokenChain {
                    partition: partition.clone(),
                    found: shift.from,
                    current: state.offset,
                });
            }
            state.offset = shift.to;
        }
        let named = edit.outputs.keys().eq(self.outputs.keys().filter(|_| edit.goes_back()));
        if !named && on(Safeguard::PolicyForRowsReadAgain) {
            return Err(Breach::EditPolicies);
        }
        for (output, policy) in &edit.outputs {
            if *policy == EditPolicy::NewPath {
                self.leave(output);
            }
        }
        Ok(())
    }

    /// The output continues under another path: nobody works until a term has one.
    fn leave(&mut self, output: &OutputName) {
        if let Some(path) = self.outputs.get(output) {
            self.foreign_outputs.insert(path.clone());
        }
    }

    pub(super) fn truncate(&mut self, seq: Seq, entry: &Entry, truncate: &Truncate) -> Result<(), Breach> {
        self.check_standing(&entry.writer)?;
        self.check_owned(&Task::Collector, &entry.writer)?;
        let forward = truncate.below >= self.truncated_below && truncate.below <= seq;
        let collected = truncate.collected >= self.collected_below && truncate.collected <= self.truncated_below;
        if !forward || !collected {
            return Err(Breach::TruncateRange);
        }
        self.truncated_below = truncate.below;
        self.collected_below = truncate.collected;
        Ok(())
    }
}
