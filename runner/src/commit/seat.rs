//! A runner's place in the log: its term, its claims, its bounded read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millrace_joblog::decide::{
    self, Begin, ClaimDecision, ClaimRequest, PlanDecision, StartRefusal, Superseded, TermDecision, View, WantedTerm,
    candidates,
};
use millrace_joblog::log::Compose;
use millrace_joblog::{Fold, Parallelism, owner};
use tokio::time::Instant;

use super::append::Reply;
use super::committer::Identity;
use super::{Committer, Verdict, list};
use crate::control::Control;
use crate::failure::Failure;
use crate::ids::{FirstClaim, Offset, OutputName, Partition, Rank, Task};
use crate::source::Discovered;

/// How long an owner of the same revision may take to release what a new term gives to another; for liveness only.
const GRACE: Duration = Duration::from_secs(15);

/// What the log wants of this runner now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Duties {
    /// Whether it owns tasks that the term gives to others.
    pub release: bool,
    /// The tasks that are its own by the term and that it does not hold.
    pub claim: BTreeSet<Task>,
    /// Partitions whose start the log does not know and this claim is to settle, each with whether it appeared later
    /// than the job began to read its source. Who comes first settles every partition there is, also those of others:
    /// a runner that comes later would find another latest offset, or take them for new ones.
    pub unsettled: Vec<(Partition, bool)>,
}

/// What this process owns and the term gives to others. Nothing in a term of another revision: there it may not write.
pub(super) fn to_release<'a>(fold: &'a Fold, identity: &Identity) -> impl Iterator<Item = Task> + use<'a> {
    let term = fold.term().filter(|term| term.revision == identity.revision);
    let (incarnation, ordinal) = (identity.incarnation, identity.ordinal);
    let owned = term.map(|_| fold.owned_by(incarnation)).unwrap_or_default();
    owned.into_iter().filter(move |task| term.is_some_and(|term| owner(task, term.parallelism) != ordinal))
}

impl Committer {
    /// Asks for the wanted term, if it is another than the one asked for last, or if the log has fallen behind it since.
    ///
    /// # Errors
    /// The term does not fit the log: an output moved, two outputs on one path.
    pub async fn ensure_term(&mut self, wanted: &Control) -> Result<Verdict, Failure> {
        if !self.begun || (self.told.as_ref() == Some(wanted) && !self.fell_behind(wanted)) {
            return Ok(Verdict::Fine);
        }
        // A term of another revision is for that revision's runners to ask for.
        if wanted.revision == self.identity.revision {
            let Some(term) = self.wanted_term(wanted)? else { return Ok(Verdict::Fine) };
            let identity = self.identity.clone();
            let reply = self
                .append(|view| {
                    match left_behind(view, &identity)
                        .map_or_else(|| decide::term(view, &term), TermDecision::Superseded)
                    {
                        TermDecision::Propose(proposal) => Compose::Propose(proposal),
                        other => Compose::Decline(other),
                    }
                })
                .await?;
            match reply {
                Reply::Won(seq) => tracing::info!(%seq, parallelism = wanted.parallelism, "a new term"),
                Reply::Declined(declined) => match refuse(declined)? {
                    Verdict::Fine => {}
                    other => return Ok(other),
                },
                Reply::Reopened => return Ok(Verdict::StartOver),
            }
        }
        self.told = Some(wanted.clone());
        Ok(Verdict::Fine)
    }

    /// Whether the log's term is an earlier one than the wanted and divides the work otherwise. When it was asked for they
    /// were alike and nothing was written; a runner that heard late of a term between the two then brought that.
    fn fell_behind(&self, wanted: &Control) -> bool {
        let earlier = |generation| self.fold().term().filter(|term| term.generation < generation);
        let term = wanted.generation.and_then(earlier);
        term.is_some_and(|term| {
            Parallelism::new(wanted.parallelism) != Some(term.parallelism) || term.revision != wanted.revision
        })
    }

    /// What the log wants of this runner, given the partitions there are.
    pub fn duties(&mut self, discovered: &[Discovered], wanted: &Control) -> Duties {
        let ours = self.fold().term().filter(|term| term.revision == self.identity.revision);
        let divisions = match self.fold().term() {
            Some(_) if self.begun && ours.is_none() => return Duties::default(),
            Some(term) if self.begun => vec![term.parallelism],
            // At the first claim either can turn out to be the division: what this process was told may be older than
            // the log's term, and may never be corrected.
            _ => Parallelism::new(wanted.parallelism).into_iter().chain(ours.map(|term| term.parallelism)).collect(),
        };
        let mine = |task: &Task| divisions.iter().any(|division| owner(task, *division) == self.identity.ordinal);
        let held = |task: &Task| self.fold().owns(task, self.identity.incarnation);
        let claim: BTreeSet<Task> =
            self.all_tasks(discovered).into_iter().filter(|task| mine(task) && !held(task)).collect();
        let unknown = discovered.iter().map(|found| &found.partition).filter(|p| self.fold().partition(p).is_none());
        let unsettled = unknown.filter_map(|partition| {
            let later = self.has_begun(partition.source.as_str());
            let settle = !later || claim.contains(&Task::Partition(partition.clone()));
            settle.then(|| (partition.clone(), later))
        });
        let unsettled = unsettled.collect();
        Duties { release: to_release(self.fold(), &self.identity).next().is_some(), unsettled, claim }
    }

    /// Whether the job has begun to read this source: partitions that the log does not know have appeared later, then.
    fn has_begun(&self, source: &str) -> bool {
        self.fold().partitions().keys().any(|partition| partition.source.as_str() == source)
    }

    /// Claims what is this runner's to claim. The first claim of a process settles home and term in the same record.
    ///
    /// # Errors
    /// The checkpoint is another job's; the term does not fit the log.
    pub async fn claim(
        &mut self,
        discovered: &[Discovered],
        first: BTreeMap<Partition, FirstClaim>,
        wanted: &Control,
    ) -> Result<Verdict, Failure> {
        let grace_over = self.grace_is_over();
        let request = self.claim_request(discovered, first, grace_over);
        let Some(term) = self.wanted_term(wanted)? else { return Ok(Verdict::Fine) };
        let (begun, identity) = (self.begun, self.identity.clone());
        let reply = self
            .append(|view| {
                if begun {
                    let behind = left_behind(view, &identity);
                    match behind.map_or_else(|| decide::claim(view, &request), ClaimDecision::Superseded) {
                        ClaimDecision::Propose { proposal, .. } => Compose::Propose(proposal),
                        other => Compose::Decline(Begin::Claim(other)),
                    }
                } else {
                    match decide::begin(view, &identity.start, &term, &request) {
                        Begin::Propose { proposal, .. } => Compose::Propose(proposal),
                        other => Compose::Decline(other),
                    }
                }
            })
            .await?;
        match reply {
            Reply::Won(seq) => {
                if !self.begun {
                    self.told = Some(wanted.clone());
                }
                self.begun = true;
                let now = self.fold().owned_by(self.identity.incarnation);
                let claimed = |task: &&Task| self.fold().owners().get(*task).is_some_and(|owner| owner.claim == seq);
                let lost_meanwhile = self.mine.iter().any(|task| claimed(&task));
                let new: Vec<Task> = now.difference(&self.mine).cloned().collect();
                tracing::info!(%seq, tasks = list(new), "claimed");
                self.mine = now;
                if let Some(term) = self.fold().term() {
                    self.hub.generation(term.generation.0);
                }
                if let Some(home) = self.fold().home() {
                    self.hub.job_uid(home.job.to_string());
                }
                self.collect().await;
                // A command may have held the log, moved what was ours and released it, all between two looks. Claimed again,
                // it is read from where it stands now.
                Ok(if lost_meanwhile { Verdict::StartOver } else { Verdict::Fine })
            }
            Reply::Reopened => Ok(Verdict::StartOver),
            Reply::Declined(Begin::Refused(refusal)) => Err(refused_home(&refusal)),
            Reply::Declined(Begin::Term(declined)) => refuse(declined),
            Reply::Declined(Begin::Claim(ClaimDecision::Superseded(superseded))) => {
                Ok(Verdict::Superseded(superseded.to_string()))
            }
            Reply::Declined(Begin::Claim(ClaimDecision::Held(hold))) => {
                if self.waits_for.replace(hold.since) != Some(hold.since) {
                    tracing::info!(by = %hold.incarnation, reason = hold.reason, "the job log is held; waiting");
                }
                Ok(Verdict::Fine)
            }
            Reply::Declined(Begin::Claim(ClaimDecision::StaleTerm(Some(term)))) => {
                let left = self.fold().left_output().cloned();
                if let Some(output) = left.filter(|_| self.waits_for != Some(term.since)) {
                    self.waits_for = Some(term.since);
                    tracing::warn!(%output, "a rewind gave the output a new path, which this process does not know; waiting \
                         for a runner with the manifest that has it");
                }
                Ok(Verdict::Fine)
            }
            // Nothing to claim now, or no place in the term: wait for one.
            Reply::Declined(_) => Ok(Verdict::Fine),
        }
    }

    /// Where the partitions that this runner holds stand.
    pub fn positions(&self) -> BTreeMap<Partition, Offset> {
        let partitions = self.mine.iter().filter_map(|task| match task {
            Task::Partition(partition) => Some(partition),
            _ => None,
        });
        let stands = partitions.filter_map(|partition| {
            let state = self.fold().partition(partition)?;
            Some((partition.clone(), state.offset))
        });
        stands.collect()
    }

    /// Whether this runner holds any task.
    pub fn owns_anything(&self) -> bool {
        !self.mine.is_empty()
    }

    /// Where the bounded read ends that this runner works on; `None` before it is planned.
    pub fn ends(&self) -> Option<BTreeMap<Partition, Offset>> {
        let plan = self.fold().plan()?;
        (self.planned == Some(plan.seq)).then(|| plan.ends.clone())
    }

    /// Fixes the ends of a bounded read, or joins the one under way. `whole`: some result is over everything read, so
    /// that a finished read cannot be continued.
    ///
    /// # Errors
    /// A finished read cannot be continued.
    pub async fn plan(
        &mut self,
        ends: BTreeMap<Partition, Offset>,
        whole: bool,
        wanted: &Control,
    ) -> Result<Verdict, Failure> {
        // A candidate has still to be told that its revision is to run.
        if self.identity.pod.is_some() && wanted.revision != self.identity.revision {
            return Ok(Verdict::Fine);
        }
        // A read that was done before this process began is over; one that ended since is this process's too. In a cluster
        // it is the StreamingJob that reads once: one that is created again reads what came since.
        let began = if self.identity.pod.is_none() { self.opened_at } else { self.fold().home_since() };
        let complete = self.fold().plan().and_then(|plan| plan.complete);
        let again = complete.is_some_and(|complete| complete < began);
        if whole && again {
            return Err(Failure::user(
                "this job is complete, and its result is over everything that was read: to compute it again, give the \
                 job another checkpoint.location and its outputs other paths",
            ));
        }
        let revision = self.identity.revision.clone();
        let reply = self
            .append(|view| match decide::plan(view, &revision, &ends, again) {
                PlanDecision::Propose(proposal) => Compose::Propose(proposal),
                other => Compose::Decline(other),
            })
            .await?;
        let plan = match reply {
            Reply::Won(seq) => seq,
            Reply::Declined(PlanDecision::UnderWay(plan)) => plan.seq,
            Reply::Declined(PlanDecision::Complete(_)) => return Ok(Verdict::Completed),
            Reply::Declined(PlanDecision::Superseded(superseded)) => {
                return Ok(Verdict::Superseded(superseded.to_string()));
            }
            // Nothing will ever be this process's to do.
            Reply::Declined(_) if self.is_done_without_us(ends.into_keys(), wanted) => return Ok(Verdict::Completed),
            Reply::Declined(_) => return Ok(Verdict::Fine),
            Reply::Reopened => return Ok(Verdict::StartOver),
        };
        // The read that this process worked on may have been completed, and another begun, between two looks: its sources
        // stand still at the ends of the one before.
        let another = self.planned.replace(plan).is_some_and(|before| before != plan);
        Ok(if another { Verdict::StartOver } else { Verdict::Fine })
    }

    /// Whether the read is complete and no division that may count gives this ordinal anything: neither the log's, unless
    /// it is another revision's, nor the wanted one, unless it was asked for and is over.
    fn is_done_without_us(&self, partitions: impl Iterator<Item = Partition>, wanted: &Control) -> bool {
        let Some(term) = self.fold().term().filter(|_| !self.is_held()) else { return false };
        let ours = (term.revision == self.identity.revision).then_some(term.parallelism);
        let asked = self.told.as_ref() == Some(wanted);
        let to_come = wanted.generation.map_or(!asked, |generation| generation > term.generation);
        let to_come = Parallelism::new(wanted.parallelism).filter(|_| to_come);
        let divisions: Vec<Parallelism> = ours.into_iter().chain(to_come).collect();
        let mine = |task: &Task| divisions.iter().any(|division| owner(task, *division) == self.identity.ordinal);
        let placed = self.tasks_of(partitions).iter().any(mine);
        !placed && self.fold().plan().is_some_and(|plan| plan.complete.is_some())
    }

    /// The term to ask for. `None` if that is for others to do and this process has nothing to work in, or if the job goes
    /// back to a savepoint first.
    fn wanted_term(&self, wanted: &Control) -> Result<Option<WantedTerm>, Failure> {
        if wanted.revision != self.identity.revision {
            // Another revision's runners ask for its term; this one works in the log's as long as it may. A term of another
            // home is over once this one adopts the log, and its generation means nothing here: the terms that are wanted
            // of this home may all be lower.
            let ours = self.fold().home().is_some_and(|log| log.home == self.identity.start.home);
            let term = self.fold().term().filter(|_| ours);
            return Ok(term.map(|term| WantedTerm {
                generation: Some(term.generation),
                revision: self.identity.revision.clone(),
                parallelism: term.parallelism,
                outputs: self.identity.outputs.clone(),
                accept_moved_outputs: self.identity.accept_moved_outputs,
            }));
        }
        if self.is_start_due(wanted) {
            return Ok(None);
        }
        let parallelism = Parallelism::new(wanted.parallelism)
            .ok_or_else(|| Failure::user("parallelism 0 has no term: suspend the job instead"))?;
        Ok(Some(WantedTerm {
            generation: wanted.generation,
            revision: wanted.revision.clone(),
            parallelism,
            outputs: self.identity.outputs.clone(),
            accept_moved_outputs: self.identity.accept_moved_outputs,
        }))
    }

    /// What this process would claim.
    pub(super) fn claim_request(
        &self,
        discovered: &[Discovered],
        first: BTreeMap<Partition, FirstClaim>,
        grace_over: bool,
    ) -> ClaimRequest {
        ClaimRequest {
            ordinal: self.identity.ordinal,
            pod: self.identity.pod,
            revision: self.identity.revision.clone(),
            tasks: self.all_tasks(discovered),
            first,
            grace_over,
        }
    }

    /// Every task of the job; of a bounded read under way only the partitions it was planned with.
    pub(super) fn all_tasks(&self, discovered: &[Discovered]) -> BTreeSet<Task> {
        let ends = self.ends();
        let planned = |partition: &Partition| ends.as_ref().is_none_or(|ends| ends.contains_key(partition));
        self.tasks_of(discovered.iter().map(|found| found.partition.clone()).filter(planned))
    }

    /// The job's tasks if those are its partitions.
    fn tasks_of(&self, partitions: impl Iterator<Item = Partition>) -> BTreeSet<Task> {
        let outputs: Vec<OutputName> = self.outputs.iter().map(|output| OutputName(output.name.clone())).collect();
        candidates(self.fold(), partitions, outputs.iter())
    }

    /// Whether the owners of the term before had their time.
    fn grace_is_over(&mut self) -> bool {
        let Some(generation) = self.fold().term().map(|term| term.generation) else { return false };
        match self.term_seen {
            Some((seen, since)) if seen == generation => since.elapsed() >= GRACE,
            _ => {
                self.term_seen = Some((generation, Instant::now()));
                false
            }
        }
    }
}

/// Whether the job got another home since this process began, which it did without a claim: its first one would be of the
/// new home. After a claim the process's rank tells.
fn left_behind(view: &View<'_>, identity: &Identity) -> Option<Superseded> {
    let elsewhere = view.fold.home().is_some_and(|log| log.home != identity.start.home);
    let rank = Rank { home: view.fold.home_since(), pod: identity.pod.unwrap_or(0) };
    let behind = Superseded { ordinal: identity.ordinal, rank, by: None };
    (view.seat.is_none() && elsewhere).then_some(behind)
}

/// Why a home may not work on the log.
pub(super) fn refused_home(refusal: &StartRefusal) -> Failure {
    Failure::user(format!("{refusal} (on the command line: --take-over or --fork)"))
}

/// Why a wanted term is not the log's.
pub(super) fn refuse(declined: TermDecision) -> Result<Verdict, Failure> {
    match declined {
        TermDecision::Superseded(superseded) => Ok(Verdict::Superseded(superseded.to_string())),
        TermDecision::Refused(refusal) => Err(Failure::user(refusal.to_string())),
        TermDecision::Current | TermDecision::Propose(_) | TermDecision::Behind(_) => Ok(Verdict::Fine),
    }
}

#[cfg(test)]
mod tests;
