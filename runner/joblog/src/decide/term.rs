//! Is a new division of the work due?

use std::collections::BTreeMap;

use crate::decide::{Proposal, Superseded, View};
use crate::fold::TermState;
use crate::ids::{Generation, OutputName, Revision};
use crate::record::{Body, Term};
use crate::task::Parallelism;

/// The division that this process was told to work in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WantedTerm {
    /// Its number, given by the operator or the watched file; `None` outside a cluster: the next one.
    ///
    /// Without a number, ask only at start and when what was told changes: the one who asks last prevails.
    pub generation: Option<Generation>,
    /// The spec.
    pub revision: Revision,
    /// How many runners.
    pub parallelism: Parallelism,
    /// Where each output goes: a canonical URL.
    pub outputs: BTreeMap<OutputName, String>,
    /// True if the user consents to outputs going elsewhere than before.
    pub accept_moved_outputs: bool,
}

/// Whether a new division is due.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TermDecision {
    /// The log's division is the one wanted.
    Current,
    /// It is once this is written.
    Propose(Proposal),
    /// The log is further: what this process was told is old. With its own revision it works in the log's term; with
    /// another one it waits to be told, or replaced.
    Behind(TermState),
    /// What is wanted does not fit the log.
    Refused(TermRefusal),
    /// This process has nothing to say any more.
    Superseded(Superseded),
}

/// Why a division does not fit the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TermRefusal {
    /// An output goes elsewhere than the rows before.
    #[error(
        "output {output} wrote to {was} so far and would now write to {now}: rows up to here stay in the old place; consent to that \
         (millrace run --accept-moved-outputs), or give the output a new name or the job a new checkpoint"
    )]
    OutputMoved {
        /// The output.
        output: OutputName,
        /// Where its rows went.
        was: String,
        /// Where they would go.
        now: String,
    },
    /// A fork writes where the job it came from writes, or an output where a rewind left it.
    #[error(
        "output {output} writes to {path}, which belongs to the job that this one was forked from, or was left behind by a \
         rewind with newPath: give it another path"
    )]
    ForeignOutput {
        /// The output.
        output: OutputName,
        /// The path.
        path: String,
    },
    /// Two outputs go to one place.
    #[error("outputs {first} and {second} both write to {path}: give each a path of its own")]
    SharedPath {
        /// One output.
        first: OutputName,
        /// The other.
        second: OutputName,
        /// The path.
        path: String,
    },
}

/// Decides whether the division this process was told is the log's, or becomes it.
pub fn term(view: &View<'_>, wanted: &WantedTerm) -> TermDecision {
    if let Some(superseded) = view.superseded() {
        return TermDecision::Superseded(superseded);
    }
    if let Err(refusal) = check_outputs(view, wanted) {
        return TermDecision::Refused(refusal);
    }
    let generation = match view.fold.term() {
        None => wanted.generation.unwrap_or(Generation(1)),
        Some(term) => {
            let same_work = term.revision == wanted.revision && term.parallelism == wanted.parallelism;
            if same_work && *view.fold.outputs() == wanted.outputs {
                return TermDecision::Current;
            }
            match wanted.generation {
                Some(generation) if generation <= term.generation => return TermDecision::Behind(term.clone()),
                Some(generation) => generation,
                None => Generation(term.generation.0 + 1),
            }
        }
    };
    let term = Term {
        generation,
        revision: wanted.revision.clone(),
        parallelism: wanted.parallelism,
        outputs: wanted.outputs.clone(),
    };
    TermDecision::Propose(view.propose_as(view.seat, Some(generation), vec![Body::Term(term)]))
}

fn check_outputs(view: &View<'_>, wanted: &WantedTerm) -> Result<(), TermRefusal> {
    let mut places = BTreeMap::new();
    for (output, path) in &wanted.outputs {
        if let Some(first) = places.insert(path, output) {
            return Err(TermRefusal::SharedPath { first: first.clone(), second: output.clone(), path: path.clone() });
        }
        if view.fold.foreign_outputs().contains(path) {
            return Err(TermRefusal::ForeignOutput { output: output.clone(), path: path.clone() });
        }
        // Who rewound with a new path has consented to it.
        let left = |was: &&String| view.fold.foreign_outputs().contains(*was);
        let before = view.fold.outputs().get(output).filter(|was| *was != path && !left(was));
        if let Some(was) = before.filter(|_| !wanted.accept_moved_outputs) {
            return Err(TermRefusal::OutputMoved { output: output.clone(), was: was.clone(), now: path.clone() });
        }
    }
    Ok(())
}
