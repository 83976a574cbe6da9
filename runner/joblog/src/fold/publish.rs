//! What is decided and not yet noted as published.

use serde::{Deserialize, Serialize};

use crate::fold::{Breach, Fold};
use crate::ids::{Incarnation, Ordinal, OutputName, Revision, Seq};
use crate::record::{Intents, Note, Publishing, SkipPublish, Writer};
use crate::safeguard::{Safeguard, on};
use crate::task::Task;

/// What one record still has to publish to one output.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pending {
    /// Who decided it.
    pub incarnation: Incarnation,
    /// The decider's ordinal.
    pub ordinal: Option<Ordinal>,
    /// The decider's revision.
    pub revision: Option<Revision>,
    /// What is to be published.
    pub intents: Intents,
}

impl Fold {
    pub(super) fn note_published(&mut self, writer: &Writer, notes: &[Note]) -> Result<(), Breach> {
        for note in notes {
            let pending = self.check_pending(note.seq, &note.output)?;
            if !self.may_publish(&note.output, pending, writer.incarnation) {
                return Err(Breach::NotPublisher {
                    seq: note.seq,
                    output: note.output.clone(),
                    incarnation: writer.incarnation,
                });
            }
            self.settle(note.seq, &note.output)?;
        }
        Ok(())
    }

    pub(super) fn skip_publish(&mut self, writer: &Writer, skip: &SkipPublish) -> Result<(), Breach> {
        self.check_holder(writer)?;
        self.check_pending(skip.seq, &skip.output)?;
        self.settle(skip.seq, &skip.output)
    }

    /// True if that incarnation may publish this record to the output and say so.
    ///
    /// An ordered output is its publisher's alone. A commuting one is published by whoever decided, while it holds its
    /// ordinal, and swept by the publisher. While the log is held, the holder has the place of every publisher.
    pub fn may_publish(&self, output: &OutputName, pending: &Pending, incarnation: Incarnation) -> bool {
        let publisher = self.owns(&Task::Publisher(output.clone()), incarnation);
        let holder = self.hold.as_ref().is_some_and(|hold| hold.incarnation == incarnation);
        let decider = pending.intents.publishing() == Publishing::Commuting
            && pending.incarnation == incarnation
            && pending.ordinal.is_some_and(|ordinal| self.holds(ordinal, incarnation));
        publisher || holder || decider || !on(Safeguard::PublisherOnly)
    }

    fn check_pending(&self, seq: Seq, output: &OutputName) -> Result<&Pending, Breach> {
        let nothing = || Breach::NothingPending { seq, output: output.clone() };
        let pending = self.pending.get(&seq).and_then(|outputs| outputs.get(output)).ok_or_else(nothing)?;
        let first = self.first_pending(output);
        if pending.intents.publishing() == Publishing::Ordered && first != Some(seq) && on(Safeguard::PublishOrder) {
            return Err(Breach::PublishOrder { seq, output: output.clone(), first: first.unwrap_or(seq) });
        }
        Ok(pending)
    }

    /// The record is done with for this output.
    fn settle(&mut self, seq: Seq, output: &OutputName) -> Result<(), Breach> {
        let Some(outputs) = self.pending.get_mut(&seq) else {
            return Err(Breach::NothingPending { seq, output: output.clone() });
        };
        let ordered = outputs.remove(output).is_some_and(|p| p.intents.publishing() == Publishing::Ordered);
        if outputs.is_empty() {
            self.pending.remove(&seq);
        }
        if ordered {
            self.published.insert(output.clone(), seq);
        }
        Ok(())
    }
}
