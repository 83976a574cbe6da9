//! Where a job stands, as its log says: for people, and as JSON for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use millrace_joblog::Fold;
use millrace_joblog::record::Counters;
use serde::Serialize;

use super::describe::short;
use crate::ids::{Incarnation, JobUid, Offset, Ordinal, OutputName, Partition, Seq, Task};

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The checkpoint location.
    pub location: String,
    /// The slot that the next record goes to.
    pub next: Seq,
    /// Records below may be deleted: no rewind reaches them, except by a savepoint.
    pub truncated_below: Seq,
    /// The job's identity towards its sinks.
    pub job: JobUid,
    /// Where it runs, and since which record.
    pub home: (String, Seq),
    /// Generation, revision and number of runners; `None` before the first claim.
    pub term: Option<TermSummary>,
    /// The command that stopped all work.
    pub held: Option<HoldSummary>,
    /// The bounded read under way or done.
    pub bounded: Option<BoundedSummary>,
    /// What all epochs counted together.
    pub totals: Counters,
    /// The partitions.
    pub partitions: BTreeMap<Partition, PartitionSummary>,
    /// The outputs.
    pub outputs: BTreeMap<OutputName, OutputSummary>,
    /// The savepoints' records by name.
    pub savepoints: BTreeMap<String, Seq>,
    /// Who collects dead records and files.
    pub collector: Option<OwnerSummary>,
}

/// The division of the work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TermSummary {
    /// Its number.
    pub generation: u64,
    /// The spec that runs.
    pub revision: String,
    /// How many runners share the work.
    pub parallelism: String,
    /// The slot of its record.
    pub since: Seq,
}

/// A hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HoldSummary {
    /// The command's process.
    pub by: Incarnation,
    /// Who and why.
    pub reason: String,
    /// The slot of its record.
    pub since: Seq,
}

/// A bounded read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BoundedSummary {
    /// The slot of its plan.
    pub planned: Seq,
    /// The slot that says that it is done.
    pub complete: Option<Seq>,
}

/// Who owns a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerSummary {
    /// The process.
    pub incarnation: Incarnation,
    /// Its place in the division of the work.
    pub ordinal: Ordinal,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionSummary {
    /// The next offset to read.
    pub offset: Offset,
    /// Where reading began.
    pub start: Offset,
    /// Where the bounded read ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Offset>,
    /// Who reads it.
    pub owner: Option<OwnerSummary>,
}

/// An output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputSummary {
    /// Where it goes; `None` for one that only the totals still know, or that is a console.
    pub path: Option<String>,
    /// Rows decided in all.
    pub rows: u64,
    /// Records that are decided and not noted as published.
    pub pending: Vec<Seq>,
    /// Rewinds whose files are not deleted yet.
    pub retracting: Vec<Seq>,
}

impl Summary {
    /// Reads it from the fold of a log that is not empty; `None` for an empty one.
    pub fn of(fold: &Fold, location: &str) -> Option<Self> {
        let home = fold.home()?;
        let owner = |task: &Task| {
            fold.owners().get(task).map(|owner| OwnerSummary { incarnation: owner.incarnation, ordinal: owner.ordinal })
        };
        let ends = fold.plan().map(|plan| &plan.ends);
        let partitions = fold.partitions().iter().map(|(partition, state)| {
            let summary = PartitionSummary {
                offset: state.offset,
                start: state.start,
                end: ends.and_then(|ends| ends.get(partition)).copied(),
                owner: owner(&Task::Partition(partition.clone())),
            };
            (partition.clone(), summary)
        });
        let names: BTreeSet<&OutputName> = fold.outputs().keys().chain(fold.totals().rows_out.keys()).collect();
        let left = fold.outputs_with_work();
        let outputs = names.into_iter().chain(&left).map(|output| {
            let retracting = fold.retractions().iter().filter(|(_, outputs)| outputs.contains_key(output));
            let summary = OutputSummary {
                path: fold.outputs().get(output).cloned(),
                rows: fold.totals().rows_out.get(output).copied().unwrap_or(0),
                pending: fold.pending_for(output).map(|(seq, _)| seq).collect(),
                retracting: retracting.map(|(seq, _)| *seq).collect(),
            };
            (output.clone(), summary)
        });
        Some(Self {
            location: location.to_owned(),
            next: fold.next(),
            truncated_below: fold.truncated_below(),
            job: home.job,
            home: (home.home.place.clone(), home.since),
            term: fold.term().map(|term| TermSummary {
                generation: term.generation.0,
                revision: term.revision.to_string(),
                parallelism: term.parallelism.to_string(),
                since: term.since,
            }),
            held: fold.held().map(|hold| HoldSummary {
                by: hold.incarnation,
                reason: hold.reason.clone(),
                since: hold.since,
            }),
            bounded: fold.plan().map(|plan| BoundedSummary { planned: plan.seq, complete: plan.complete }),
            totals: fold.totals().clone(),
            partitions: partitions.collect(),
            outputs: outputs.collect(),
            savepoints: fold.savepoints().iter().map(|(name, savepoint)| (name.clone(), savepoint.seq)).collect(),
            collector: owner(&Task::Collector),
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.next.previous().unwrap_or(Seq::ZERO);
        writeln!(f, "job log     {}", self.location)?;
        writeln!(f, "records     {} to {last}; truncated below {}", self.truncated_below, self.truncated_below)?;
        writeln!(f, "job         {}", self.job)?;
        writeln!(f, "home        {} (since record {})", self.home.0, self.home.1)?;
        match &self.term {
            Some(term) => writeln!(
                f,
                "term        generation {}, revision {}, {} runner(s) (since record {})",
                term.generation, term.revision, term.parallelism, term.since
            )?,
            None => writeln!(f, "term        none")?,
        }
        if let Some(held) = &self.held {
            writeln!(f, "held        by {} since record {}: {}", short(held.by), held.since, held.reason)?;
            writeln!(f, "            nothing is read or committed until it is released")?;
        }
        if let Some(bounded) = &self.bounded {
            match bounded.complete {
                Some(seq) => writeln!(f, "bounded     complete (record {seq})")?,
                None => writeln!(f, "bounded     under way (planned in record {})", bounded.planned)?,
            }
        }
        writeln!(f, "read        {} rows, {} bad", self.totals.rows_in, self.totals.rows_bad)?;
        writeln!(f, "collector   {}", owner_text(self.collector.as_ref()))?;
        writeln!(f, "partitions  {}", self.partitions.len())?;
        for (partition, state) in &self.partitions {
            let mut line = format!("  {partition}  next {} (began at {})", state.offset, state.start);
            if let Some(end) = state.end {
                write!(line, ", ends at {end}")?;
            }
            writeln!(f, "{line}, {}", owner_text(state.owner.as_ref()))?;
        }
        writeln!(f, "outputs     {}", self.outputs.len())?;
        for (output, state) in &self.outputs {
            let mut line = format!("  {output}  {} rows", state.rows);
            if let Some(path) = &state.path {
                write!(line, ", {path}")?;
            }
            if !state.pending.is_empty() {
                write!(line, ", to be published or noted: {}", seqs(&state.pending))?;
            }
            if !state.retracting.is_empty() {
                write!(line, ", files to be deleted for rewind {}", seqs(&state.retracting))?;
            }
            writeln!(f, "{line}")?;
        }
        writeln!(f, "savepoints  {}", self.savepoints.len())?;
        for (name, seq) in &self.savepoints {
            writeln!(f, "  {name}  record {seq}")?;
        }
        Ok(())
    }
}

fn owner_text(owner: Option<&OwnerSummary>) -> String {
    match owner {
        Some(owner) => format!("owned by {} as {}", short(owner.incarnation), owner.ordinal),
        None => "owned by nobody".to_owned(),
    }
}

fn seqs(seqs: &[Seq]) -> String {
    seqs.iter().map(Seq::to_string).collect::<Vec<_>>().join(", ")
}
