//! Where each partition stands, and how an epoch moves it.

use serde::{Deserialize, Serialize};

use crate::fold::{Breach, Fold, Pending};
use crate::ids::{Offset, Partition, Seq, TopicId};
use crate::record::{Commit, DataLoss, Entry, EventTime, FirstClaim, PartitionWatermark, Position, Range, Writer};
use crate::safeguard::{Safeguard, on};
use crate::staged::StagedName;
use crate::task::{Task, owner};

/// Where a partition stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PartitionState {
    /// The next offset to read.
    pub offset: Offset,
    /// Where its first claim started; once the topic was created again, where reading of the new one did.
    pub start: Offset,
    /// The topic's id; `None` if the brokers have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<TopicId>,
    /// The event time up to which it is believed complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<EventTime>,
    /// True if it is caught up and silent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
}

impl PartitionState {
    pub(super) fn starting(first: &FirstClaim) -> Self {
        Self { offset: first.start, start: first.start, topic_id: first.topic_id.clone(), watermark: None, idle: false }
    }

    /// What a rewind restores.
    pub fn position(&self) -> Position {
        Position { offset: self.offset, watermark: self.watermark, idle: self.idle }
    }
}

impl Fold {
    pub(super) fn commit(&mut self, seq: Seq, entry: &Entry, commit: &Commit) -> Result<(), Breach> {
        self.check_not_held()?;
        self.current_term(entry)?;
        self.check_standing(&entry.writer)?;
        self.note_published(&entry.writer, &commit.published)?;
        self.keep_to_plan(commit)?;
        for task in commit.advances() {
            self.check_owned(&task, &entry.writer)?;
            self.check_assigned_or_released(entry, commit, &task)?;
        }
        for loss in &commit.data_loss {
            self.pass_over(loss)?;
        }
        for (partition, range) in &commit.ranges {
            self.advance(partition, range)?;
        }
        for (partition, watermark) in &commit.watermarks {
            self.raise_watermark(partition, watermark)?;
        }
        for state in &commit.state {
            self.check_staged_name(&state.key, &entry.writer)?;
            let blobs = self.state.entry(state.task.clone()).or_default();
            if state.base {
                blobs.clear();
            }
            blobs.push(state.clone());
        }
        self.intend(seq, entry, commit)?;
        for task in &commit.released {
            self.check_owned(task, &entry.writer)?;
            self.owners.remove(task);
        }
        self.plan_hash = commit.plan_hash.clone().or(self.plan_hash.take());
        self.totals.add(&commit.counters);
        Ok(())
    }

    /// A recorded gap: the only way past offsets that nobody read, apart from an edit.
    fn pass_over(&mut self, loss: &DataLoss) -> Result<(), Breach> {
        let Some(state) = self.partitions.get_mut(&loss.partition) else {
            return Err(Breach::UnknownPartition { partition: loss.partition.clone() });
        };
        check_chain(&loss.partition, loss.expected, state.offset)?;
        state.offset = loss.resumed;
        if loss.topic_id.is_some() {
            state.topic_id = loss.topic_id.clone();
            // The offsets before are another topic's.
            state.start = loss.resumed;
        }
        Ok(())
    }

    fn advance(&mut self, partition: &Partition, range: &Range) -> Result<(), Breach> {
        if range.from >= range.to {
            return Err(Breach::EmptyRange { partition: partition.clone() });
        }
        let Some(state) = self.partitions.get_mut(partition) else {
            return Err(Breach::UnknownPartition { partition: partition.clone() });
        };
        check_chain(partition, range.from, state.offset)?;
        state.offset = range.to;
        Ok(())
    }

    /// An owner that a new term passed over commits its open epoch once more, and gives the task up with it.
    fn check_assigned_or_released(&self, entry: &Entry, commit: &Commit, task: &Task) -> Result<(), Breach> {
        let Some(term) = &self.term else { return Ok(()) };
        let revision = self.owners.get(task).map(|owner| &owner.revision);
        if let Some(found) = revision.filter(|revision| **revision != term.revision && on(Safeguard::CurrentTerm)) {
            return Err(Breach::StaleRevision { found: found.clone(), current: term.revision.clone() });
        }
        let assigned = Some(owner(task, term.parallelism)) == entry.writer.ordinal;
        if assigned || commit.released.contains(task) || !on(Safeguard::ReleasedWithIt) {
            return Ok(());
        }
        Err(Breach::NotReleased { task: task.clone() })
    }

    fn raise_watermark(&mut self, partition: &Partition, moved: &PartitionWatermark) -> Result<(), Breach> {
        let broken = || Breach::WatermarkBroken { partition: partition.clone() };
        let state = self.partitions.get_mut(partition).ok_or_else(broken)?;
        if state.watermark != moved.before || state.idle != moved.was_idle || moved.after < moved.before {
            return Err(broken());
        }
        state.watermark = moved.after;
        state.idle = moved.idle;
        Ok(())
    }

    fn intend(&mut self, seq: Seq, entry: &Entry, commit: &Commit) -> Result<(), Breach> {
        for (output, intents) in &commit.intents {
            for name in intents.staged() {
                self.check_staged_name(name, &entry.writer)?;
            }
            let revision = self.term.as_ref().map(|term| term.revision.clone());
            let pending = Pending {
                incarnation: entry.writer.incarnation,
                ordinal: entry.writer.ordinal,
                revision,
                intents: intents.clone(),
            };
            let slot = self.pending.entry(seq).or_default();
            if slot.insert(output.clone(), pending).is_some() {
                return Err(Breach::SharedOutput { output: output.clone() });
            }
        }
        Ok(())
    }

    /// The collector deletes names of dead claims, so a commit may only bring names of live ones.
    fn check_staged_name(&self, name: &str, writer: &Writer) -> Result<(), Breach> {
        if self.is_live_name(name, writer.incarnation) {
            return Ok(());
        }
        Err(Breach::DeadStagedName { name: name.to_owned() })
    }

    /// True if the staged name belongs to a claim of that incarnation which still holds a task.
    pub(crate) fn is_live_name(&self, name: &str, incarnation: crate::ids::Incarnation) -> bool {
        let live = |name: StagedName| name.incarnation == incarnation && self.is_live_claim(name.claim, incarnation);
        StagedName::of(name).is_ok_and(live) || !on(Safeguard::LiveStagedNames)
    }
}

fn check_chain(partition: &Partition, found: Offset, current: Offset) -> Result<(), Breach> {
    if found == current || !on(Safeguard::OffsetChain) {
        return Ok(());
    }
    Err(Breach::BrokenChain { partition: partition.clone(), found, current })
}
