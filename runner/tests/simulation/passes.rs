//! How often each offset goes into each output, as rewinds and edits have it: a partition is passed over once, from its
//! start on, and every move by hand ends one pass and begins another.

use std::collections::BTreeMap;

use millrace_joblog::record::{Edit, Rewind, RewindPolicy};
use millrace_joblog::{Fold, OutputName, Partition, Seq};

/// A stretch of offsets that is read from one end to the other.
#[derive(Debug, Clone)]
struct Pass {
    /// The slot of the move that began it.
    begun: Seq,
    from: i64,
    to: i64,
    /// The rewind that takes its rows back.
    taken_back: Option<Seq>,
}

/// Every pass over every partition, for each output: the policies of a rewind differ.
#[derive(Debug, Default)]
pub struct Passes {
    outputs: Vec<OutputName>,
    of: BTreeMap<(OutputName, Partition), Vec<Pass>>,
    /// The slots of rewinds and edits.
    pub moves: Vec<Seq>,
}

impl Passes {
    pub fn new(outputs: Vec<OutputName>) -> Self {
        Self { outputs, ..Self::default() }
    }

    /// How often an offset is in an output once all is at rest, and how often it may be there until then: the files that
    /// a rewind takes back are there until they are deleted.
    pub fn times(&self, fold: &Fold, output: &str, partition: &Partition, offset: i64) -> (u64, u64) {
        let output = OutputName(output.to_owned());
        let Some(passes) = self.of.get(&(output.clone(), partition.clone())) else { return (1, 1) };
        let there = || passes.iter().filter(|pass| pass.from <= offset && offset < pass.to);
        let leaving = |seq: Seq| fold.retractions().get(&seq).is_some_and(|outputs| outputs.contains_key(&output));
        let kept = there().filter(|pass| pass.taken_back.is_none()).count() as u64;
        let leaving = there().filter(|pass| pass.taken_back.is_some_and(leaving)).count() as u64;
        (kept, kept + leaving)
    }

    pub fn edited(&mut self, seq: Seq, edit: &Edit) {
        self.moves.push(seq);
        for (partition, shift) in &edit.offsets {
            for output in self.outputs.clone() {
                self.turn(seq, output, partition, (shift.from.0, shift.to.0), None);
            }
        }
    }

    /// `history[n]` is the log before slot n. Returns what is wrong with where the rewind goes to.
    pub fn rewound(&mut self, seq: Seq, rewind: &Rewind, since: Seq, history: &[Fold]) -> Vec<String> {
        self.moves.push(seq);
        let mut problems = Vec::new();
        let then = history.get(since.0 as usize + 1);
        for (partition, moved) in &rewind.positions {
            let stood = then.and_then(|fold| fold.partition(partition)).map(|state| state.offset);
            if stood.is_some_and(|stood| stood != moved.to.offset) {
                let to = moved.to.offset;
                problems.push(format!("rewind {seq} puts {partition} at {to}, which stood at {stood:?} after {since}"));
            }
            for output in self.outputs.clone() {
                let keeps =
                    matches!(rewind.outputs.get(&output), Some(RewindPolicy::Duplicate | RewindPolicy::NewPath));
                let way = (moved.from.offset.0, moved.to.offset.0);
                self.turn(seq, output, partition, way, (!keeps).then_some(since));
            }
        }
        problems
    }

    /// The pass under way ends at `from`, and one begins at `to`. `undo`: what was passed after that slot is taken back.
    fn turn(&mut self, seq: Seq, output: OutputName, partition: &Partition, (from, to): (i64, i64), undo: Option<Seq>) {
        let first = || vec![Pass { begun: Seq::ZERO, from: i64::MIN, to: i64::MAX, taken_back: None }];
        let passes = self.of.entry((output, partition.clone())).or_insert_with(first);
        if let Some(under_way) = passes.last_mut() {
            under_way.to = from;
        }
        if let Some(since) = undo {
            // What was under way then; if it is taken back already, the tables held nothing of it.
            let then = passes.iter().map(|pass| pass.begun).filter(|begun| *begun <= since).max();
            let mut taken = Vec::new();
            for pass in passes.iter_mut().filter(|pass| pass.taken_back.is_none()) {
                if pass.begun > since {
                    pass.taken_back = Some(seq);
                } else if Some(pass.begun) == then && to < pass.to {
                    taken.push(Pass { begun: pass.begun, from: to.max(pass.from), to: pass.to, taken_back: Some(seq) });
                    pass.to = to;
                }
            }
            // Behind those that are kept: the last one is always the pass under way.
            passes.extend(taken);
        }
        passes.push(Pass { begun: seq, from: to, to: i64::MAX, taken_back: None });
    }
}
