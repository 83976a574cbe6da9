//! Whose job it is, and the terms of its work.

use serde::{Deserialize, Serialize};

use crate::fold::{Breach, Fold};
use crate::ids::{Generation, JobUid, Revision, Seq};
use crate::record::{Adopt, AdoptReason, Entry, Home, Init, Term};
use crate::safeguard::{Safeguard, on};
use crate::task::Parallelism;

/// Whose job it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HomeState {
    /// The identity towards sinks.
    pub job: JobUid,
    /// Where the job runs.
    pub home: Home,
    /// The checkpoint location as its user wrote it.
    pub location: String,
    /// The slot of the `Init` or `Adopt`: the first part of every rank.
    pub since: Seq,
}

/// The division in force.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TermState {
    /// Its number.
    pub generation: Generation,
    /// The spec that runs.
    pub revision: Revision,
    /// How many runners share the work.
    pub parallelism: Parallelism,
    /// The slot of its record.
    pub since: Seq,
}

impl Fold {
    pub(super) fn init(&mut self, init: &Init) -> Result<(), Breach> {
        self.segment_slots = Some(init.segment_slots);
        self.home = Some(HomeState {
            job: init.job,
            home: init.home.clone(),
            location: init.location.clone(),
            since: Seq::ZERO,
        });
        Ok(())
    }

    pub(super) fn adopt(&mut self, seq: Seq, adopt: &Adopt) -> Result<(), Breach> {
        let Some(before) = self.home.take() else { return Err(Breach::InitElsewhere) };
        if let Some(uid) = self.returning(&adopt.home) {
            return Err(Breach::HomeReturned { uid });
        }
        let same_job = adopt.job == before.job;
        let same_place = adopt.home.place == before.home.place;
        let fits = match adopt.reason {
            AdoptReason::Recreated => same_job && same_place && adopt.home != before.home,
            AdoptReason::TakenOver => same_job,
            AdoptReason::Forked => !same_job,
        };
        if !fits {
            return Err(Breach::AdoptReason);
        }
        if let Some(uid) = before.home.kubernetes_uid.filter(|uid| Some(uid) != adopt.home.kubernetes_uid.as_ref()) {
            self.replaced.insert(uid);
        }
        // The runners of the home before stop at this record: nothing of theirs is owned, and their term is over.
        self.term = None;
        self.standings.clear();
        self.owners.clear();
        if adopt.reason == AdoptReason::Forked {
            // What the other job decided and did not publish is that job's to publish.
            self.pending.clear();
            self.retractions.clear();
            self.published.clear();
            self.started_from = None;
            self.foreign_outputs.extend(std::mem::take(&mut self.outputs).into_values());
        }
        self.home =
            Some(HomeState { job: adopt.job, home: adopt.home.clone(), location: adopt.location.clone(), since: seq });
        Ok(())
    }

    /// The uid of a home that was replaced before.
    pub(crate) fn returning(&self, home: &Home) -> Option<String> {
        home.kubernetes_uid.clone().filter(|uid| self.replaced.contains(uid) && on(Safeguard::UidReturn))
    }

    pub(super) fn new_term(&mut self, seq: Seq, entry: &Entry, term: &Term) -> Result<(), Breach> {
        if let Some(current) = &self.term
            && term.generation <= current.generation
        {
            return Err(Breach::TermNotHigher { found: term.generation, current: current.generation });
        }
        if let Some(path) = term.outputs.values().find(|path| self.foreign_outputs.contains(*path)) {
            return Err(Breach::ForeignOutput { path: path.clone() });
        }
        if entry.generation != Some(term.generation) {
            return Err(Breach::StaleTerm { found: entry.generation, current: Some(term.generation) });
        }
        self.term = Some(TermState {
            generation: term.generation,
            revision: term.revision.clone(),
            parallelism: term.parallelism,
            since: seq,
        });
        self.outputs = term.outputs.clone();
        self.end_plan_of_other(&term.revision);
        Ok(())
    }

    /// The term, if the entry was written in it.
    pub(super) fn current_term(&self, entry: &Entry) -> Result<&TermState, Breach> {
        let stale = |current| Breach::StaleTerm { found: entry.generation, current };
        let Some(term) = &self.term else { return Err(stale(None)) };
        if entry.generation != Some(term.generation) && on(Safeguard::CurrentTerm) {
            return Err(stale(Some(term.generation)));
        }
        Ok(term)
    }
}
