//! What the log's term gives this runner, and whether the log would let it in.

use std::collections::BTreeMap;

use millrace_joblog::decide::{self, Begin, ClaimDecision, WantedStart, WantedTerm};
use millrace_joblog::{Parallelism, owner};

use super::seat::{refuse, refused_home};
use super::{Beginning, Committer, Identity, Verdict};
use crate::control::Control;
use crate::failure::Failure;
use crate::ids::{Ordinal, Task};
use crate::source::Discovered;

/// What the log's term gives a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nothing: there is no term, or it is of another revision, or of another path than an output's here.
    OtherTerm,
    /// Nothing: the term divides the work among fewer runners.
    Surplus,
    /// Tasks, and so many of them are still others'.
    Waiting(usize),
    /// Tasks, and it holds them all.
    Whole,
}

impl Place {
    /// Whether more is about to come: others release tasks, or the runner's revision gets its term.
    pub fn is_awaited(self) -> bool {
        matches!(self, Self::OtherTerm | Self::Waiting(_))
    }
}

impl Committer {
    /// What the log's term gives this runner, given the partitions there are.
    pub fn place(&self, discovered: &[Discovered]) -> Place {
        let Some(term) = self.log.view().term_of(&self.identity.revision) else { return Place::OtherTerm };
        let Identity { ordinal, incarnation, .. } = &self.identity;
        if !term.parallelism.includes(*ordinal) {
            return Place::Surplus;
        }
        let tasks = self.all_tasks(discovered);
        let mine = tasks.iter().filter(|task| owner(task, term.parallelism) == *ordinal);
        match mine.filter(|task: &&Task| !self.fold().owns(task, *incarnation)).count() {
            0 => Place::Whole,
            lacking => Place::Waiting(lacking),
        }
    }

    /// Whether the job has still to go back to the savepoint at which this process's revision begins.
    pub fn is_start_due(&self, wanted: &Control) -> bool {
        let Some(Beginning { start, .. }) = &self.identity.begins else { return false };
        // One that was not told of its term yet is told of a later one than the log's.
        let generation = wanted.generation.filter(|_| wanted.revision == self.identity.revision);
        decide::is_start_due(self.fold(), &WantedStart { start: start.clone(), generation })
    }

    /// Whether that is this process's to see to: its revision is wanted, and it is the first runner.
    pub fn is_start_ours(&self, wanted: &Control) -> bool {
        let first = self.identity.ordinal == Ordinal(0);
        first && wanted.revision == self.identity.revision && self.is_start_due(wanted)
    }

    /// Whether the log would let this process in, as far as it tells before it does: it is the job's home, its outputs go
    /// where they went, nobody has its place for good. So a process that waits for its revision's term, or has no task,
    /// is found valid or not like any other. Writes nothing; to be asked until the process has taken its place.
    ///
    /// # Errors
    /// The checkpoint is another job's; an output moved.
    pub fn check_admission(&self, discovered: &[Discovered], wanted: &Control) -> Result<Verdict, Failure> {
        if self.begun {
            return Ok(Verdict::Fine);
        }
        let mut outputs = self.identity.outputs.clone();
        if self.is_start_due(wanted) {
            // These are left behind by the rewind that is to come.
            outputs.retain(|output, _| !self.identity.begins.iter().any(|begins| begins.new_paths.contains(output)));
        }
        let term = WantedTerm {
            generation: wanted.generation,
            revision: self.identity.revision.clone(),
            parallelism: Parallelism::new(wanted.parallelism).unwrap_or(Parallelism::ONE),
            outputs,
            accept_moved_outputs: self.identity.accept_moved_outputs,
        };
        let request = self.claim_request(discovered, BTreeMap::new(), false);
        match decide::begin(&self.log.view(), &self.identity.start, &term, &request) {
            Begin::Refused(refusal) => Err(refused_home(&refusal)),
            Begin::Term(declined) => refuse(declined),
            Begin::Claim(ClaimDecision::Superseded(superseded)) => Ok(Verdict::Superseded(superseded.to_string())),
            Begin::Claim(_) | Begin::Propose { .. } => Ok(Verdict::Fine),
        }
    }
}
