//! What a process writes: its epochs, and the records it composes by the real decisions.

use std::collections::BTreeMap;

use super::process::{Life, Turn, Up, orders, partition, screen};
use super::rules::{Milestone, Rule};
use super::setup::{Careless, Errand, Pod, Setup};
use super::steps::{Listing, Reply, Wish};
use crate::decide::{self, *};
use crate::gc;
use crate::ids::*;
use crate::record::*;
use crate::replica::Action;
use crate::staged::StagedName;
use crate::task::Task;

impl Turn<'_> {
    pub fn open_epoch(&mut self) {
        let (setup, pod, process) = (self.setup, self.pod, &mut *self.process);
        let Life::Up(up) = &mut process.life else { return };
        let view = up.replica.view();
        let idle = up.is_ready() && up.epoch.is_none() && process.epochs < pod.epochs;
        if !idle || view.superseded().is_some() {
            return;
        }
        let Some(claim) = view.fold.live_claim(view.incarnation) else { return };
        let reads = (0..setup.partitions)
            .map(partition)
            .filter(|partition| view.fold.owns(&Task::Partition(partition.clone()), view.incarnation));
        let mut epoch = Commit::default();
        for partition in reads {
            let Some(state) = view.fold.partition(&partition) else { continue };
            // Before a plan is known an epoch may read beyond its ends.
            let end = view.fold.plan().and_then(|plan| plan.ends.get(&partition));
            let ended = setup.bounded && end.is_some_and(|end| state.offset >= *end);
            if !ended {
                epoch.ranges.insert(partition, Range::new(state.offset.0, state.offset.0 + 1));
            }
        }
        if epoch.ranges.is_empty() {
            return;
        }
        process.epochs += 1;
        let name = StagedName { claim, incarnation: view.incarnation, label: process.epochs.to_string() };
        if setup.files {
            let file = ParquetFile {
                staged: name.to_string(),
                target: format!("{name}.parquet"),
                bytes: 1,
                rows: 1,
                etag: None,
            };
            self.world.store.staged.insert(file.staged.clone());
            epoch.intents.insert(orders(), Intents::Parquet { files: vec![file] });
        }
        if setup.ordered {
            let blob = Blob { staged: format!("{name}-rows"), bytes: 1, rows: 1 };
            self.world.store.staged.insert(blob.staged.clone());
            epoch.intents.insert(screen(), Intents::Console { blob });
        }
        up.epoch = Some(epoch);
    }

    /// Composes a record and sends it.
    pub fn append(&mut self, wish: Wish, reply: Reply) -> Option<()> {
        let Life::Up(up) = &self.process.life else { return None };
        match self.setup.compose(self.pod, up, wish)? {
            Composed::Propose(proposal) => {
                let losses = self.world.losses;
                let up = self.up()?;
                if up.replica.propose(proposal, Millis(0)).is_err() {
                    // Composed upon what may be litter; of a checked log it is a fault.
                    if up.replica.is_checked() {
                        self.world.require(false, Rule::Sound);
                        return Some(());
                    }
                    if reply != Reply::Heard {
                        return None;
                    }
                    return self.verify();
                }
                if let Action::Put { bytes, .. } = up.replica.action() {
                    up.sent = Slot::decode("slot", &bytes).ok()?.entries[0].writer.attempt;
                }
                if reply == Reply::Lost && losses == 0 {
                    return None;
                }
                self.go(reply, Listing::Newest)
            }
            Composed::Stop if reply == Reply::Heard => {
                self.process.life = Life::Stopped;
                Some(())
            }
            Composed::Drop if reply == Reply::Heard => {
                self.drop_epoch();
                self.settle();
                Some(())
            }
            _ => None,
        }
    }

    /// The open epoch does not count: what it staged is deleted.
    pub fn drop_epoch(&mut self) {
        let epoch = self.up().and_then(|up| up.epoch.take()).unwrap_or_default();
        let staged = epoch.intents.values().flat_map(Intents::staged);
        staged.for_each(|name| self.world.discard(name));
    }
}

impl Setup {
    /// What an idle process makes of a wish, by the real decisions; `None` if nothing now.
    pub fn compose(&self, pod: &Pod, up: &Up, wish: Wish) -> Option<Composed> {
        let view = up.replica.view();
        let mut published: Vec<Note> = up.published.keys().cloned().collect();
        if self.careless == Some(Careless::NotesUnpublished) {
            published.extend(up.to_publish().map(|(note, _)| note));
        }
        let revision: Revision = pod.revision.into();
        let may_stop = up.replica.is_checked();
        let composed = match wish {
            Wish::Begin(term) => match begin(&view, &pod.home(), &self.wanted(term)?, &self.request(pod, &view, false))
            {
                Begin::Propose { proposal, .. } => Composed::Propose(proposal),
                Begin::Refused(_) => {
                    self.reached(Milestone::HomeRefused);
                    Composed::Stop
                }
                Begin::Term(TermDecision::Superseded(_)) | Begin::Claim(ClaimDecision::Superseded(_)) => Composed::Stop,
                _ => return None,
            },
            Wish::Claim { grace_over } => match claim(&view, &self.request(pod, &view, grace_over)) {
                ClaimDecision::Propose { proposal, .. } => Composed::Propose(proposal),
                ClaimDecision::Superseded(_) => Composed::Stop,
                ClaimDecision::Held(_) => {
                    self.reached(Milestone::WaitedForHold);
                    return None;
                }
                _ => return None,
            },
            Wish::Term(number) => match term(&view, &self.wanted(number)?) {
                TermDecision::Propose(proposal) => Composed::Propose(proposal),
                TermDecision::Superseded(_) => Composed::Stop,
                _ => return None,
            },
            Wish::Commit => {
                let epoch = Commit { published, ..up.epoch.clone()? };
                match commit(&view, &revision, &epoch) {
                    CommitDecision::Propose(proposal) => Composed::Propose(proposal),
                    CommitDecision::Superseded(_) => Composed::Stop,
                    CommitDecision::BeyondPlan { .. } => {
                        self.reached(Milestone::BeyondPlan);
                        Composed::Drop
                    }
                    CommitDecision::Lost { .. } | CommitDecision::Moved { .. } | CommitDecision::StaleTerm(_) => {
                        self.reached(Milestone::EpochDropped);
                        Composed::Drop
                    }
                    CommitDecision::Nothing | CommitDecision::Backpressure { .. } => return None,
                }
            }
            // What an owner does that has to give up tasks and has nothing to commit.
            Wish::Give => match commit(&view, &revision, &Commit { published, ..Commit::default() }) {
                CommitDecision::Propose(proposal) => Composed::Propose(proposal),
                _ => return None,
            },
            Wish::Note => match note(&view, &published) {
                NoteDecision::Propose(proposal) => Composed::Propose(proposal),
                NoteDecision::Superseded(_) => Composed::Stop,
                NoteDecision::Nothing => return None,
            },
            Wish::NoteLast => match note(&view, &published[published.len().checked_sub(1)?..]) {
                NoteDecision::Propose(proposal) => Composed::Propose(proposal),
                _ => return None,
            },
            Wish::Truncate => {
                let newest = Seq(up.newest_snapshot?);
                Composed::Propose(gc::truncate(&view, newest, up.collected, &self.limits)?)
            }
            Wish::Plan => {
                let ends = (0..self.partitions).map(|number| (partition(number), Offset(pod.sees))).collect();
                match plan(&view, &revision, &ends, false) {
                    PlanDecision::Propose(proposal) => Composed::Propose(proposal),
                    PlanDecision::UnderWay(plan) => {
                        if plan.ends != ends {
                            self.reached(Milestone::PlanKept);
                        }
                        return None;
                    }
                    _ => return None,
                }
            }
            Wish::Complete => match complete(&view, &revision) {
                CompleteDecision::Propose(proposal) => Composed::Propose(proposal),
                CompleteDecision::Complete(_) => Composed::Stop,
                _ => return None,
            },
            Wish::Hold => match hold(&view, "model", matches!(pod.errand, Errand::ForceEdit(_))) {
                HoldDecision::Propose(proposal) => {
                    if view.fold.held().is_some() {
                        self.reached(Milestone::HoldTaken);
                    }
                    Composed::Propose(proposal)
                }
                _ => return None,
            },
            Wish::Errand => match pod.errand {
                Errand::Run => return None,
                Errand::Save(name) => match savepoint(&view, name) {
                    SavepointDecision::Propose(proposal) => Composed::Propose(proposal),
                    _ => Composed::Stop,
                },
                Errand::Pause => match release(&view, false) {
                    ReleaseDecision::Propose(proposal) => Composed::Propose(proposal),
                    _ => return None,
                },
                Errand::Edit(to) | Errand::ForceEdit(to) => {
                    match decide::edit(&view, &[(partition(0), Offset(to))].into(), &BTreeMap::new()) {
                        EditDecision::Propose(proposal) => Composed::Propose(proposal),
                        EditDecision::Drain { .. } => {
                            self.reached(Milestone::Drained);
                            return None;
                        }
                        _ => return None,
                    }
                }
            },
        };
        // An end for good is only drawn from what is certainly the log.
        if let Composed::Stop | Composed::Drop = composed {
            if !may_stop {
                return None;
            }
            if view.superseded().is_some() {
                self.reached(Milestone::Superseded);
            }
        }
        Some(composed)
    }

    fn request(&self, pod: &Pod, view: &View<'_>, grace_over: bool) -> ClaimRequest {
        let outputs: Vec<OutputName> = self.outputs().into_keys().collect();
        let first = FirstClaim { start: Offset(0), topic_id: None };
        ClaimRequest {
            ordinal: Ordinal(pod.ordinal),
            pod: pod.number,
            revision: pod.revision.into(),
            tasks: candidates(view.fold, (0..self.partitions).map(partition), &outputs),
            first: (0..self.partitions).map(|number| (partition(number), first.clone())).collect(),
            grace_over,
        }
    }
}

/// What came of a wish.
pub enum Composed {
    Propose(Proposal),
    /// Give the epoch up and what it staged.
    Drop,
    /// Do nothing more.
    Stop,
}
