//! Tasks: the pieces of work that have one owner at a time, and the pure function that divides them.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{Ordinal, OutputName, ParseError, Partition};

/// How many runners divide a job's work; at least one (a job with none is suspended and has no term).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parallelism(pub NonZeroU32);

impl Parallelism {
    /// A job with one runner.
    pub const ONE: Parallelism = Parallelism(NonZeroU32::MIN);

    /// That many runners; `None` for zero.
    pub fn new(runners: u32) -> Option<Self> {
        NonZeroU32::new(runners).map(Self)
    }

    /// True if the division has a place for this ordinal.
    pub fn includes(self, ordinal: Ordinal) -> bool {
        ordinal.0 < self.0.get()
    }
}

impl fmt::Display for Parallelism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A piece of work owned by one incarnation at a time. As text (`partition:…`, `bucket:17`, `publisher:orders`,
/// `collector`), so that it can be a key of a JSON map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Task {
    /// Reading one Kafka partition and deciding its offsets.
    Partition(Partition),
    /// Folding one hash range of keyed state.
    Bucket(u16),
    /// Publishing one output: alone for an ordered one, sweeping up for a commuting one.
    Publisher(OutputName),
    /// Writing snapshots and deleting what is dead.
    Collector,
}

/// The ordinal that a task belongs to while `parallelism` runners divide the work.
///
/// Pure, and the same in every version of Millrace: two versions that disagreed would take tasks from each other.
/// The partitions of one topic go round robin from a start that depends on source and topic, so that many small
/// topics do not all begin on ordinal 0.
pub fn owner(task: &Task, parallelism: Parallelism) -> Ordinal {
    let runners = u64::from(parallelism.0.get());
    let place = match task {
        Task::Partition(p) => {
            let start = fnv1a(&[p.source.as_str().as_bytes(), b"/", p.topic.as_bytes()]);
            let number = u64::from(p.partition.unsigned_abs());
            (start % runners + number % runners) % runners
        }
        Task::Bucket(bucket) => u64::from(*bucket) % runners,
        Task::Publisher(output) => fnv1a(&[output.as_str().as_bytes()]) % runners,
        Task::Collector => 0,
    };
    // Smaller than a u32 by the modulus above.
    Ordinal(place as u32)
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Task::Partition(partition) => write!(f, "partition:{partition}"),
            Task::Bucket(bucket) => write!(f, "bucket:{bucket}"),
            Task::Publisher(output) => write!(f, "publisher:{output}"),
            Task::Collector => f.write_str("collector"),
        }
    }
}

impl From<Task> for String {
    fn from(task: Task) -> Self {
        task.to_string()
    }
}

impl FromStr for Task {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseError {
            what: "task",
            text: text.to_owned(),
            form: "partition:<source/topic/number>, bucket:<number>, publisher:<output> or collector",
        };
        if text == "collector" {
            return Ok(Task::Collector);
        }
        let (kind, name) = text.split_once(':').ok_or_else(error)?;
        match kind {
            "partition" => Ok(Task::Partition(name.parse()?)),
            "bucket" => Ok(Task::Bucket(name.parse().map_err(|_| error())?)),
            "publisher" if !name.is_empty() => Ok(Task::Publisher(name.into())),
            _ => Err(error()),
        }
    }
}

impl TryFrom<String> for Task {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// FNV-1a, 64 bits: small, and fixed for ever by its definition.
fn fnv1a(parts: &[&[u8]]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.iter().flat_map(|part| part.iter()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Pinned: a version that divides differently would make two versions of one job steal from each other.
    #[test]
    fn the_division_of_tasks_never_changes_between_versions() {
        let pinned: BTreeMap<u32, BTreeMap<Task, u32>> =
            serde_json::from_str(include_str!("../fixtures/division.json")).unwrap();
        assert!(pinned.len() >= 3);
        for (runners, tasks) in pinned {
            for (task, ordinal) in tasks {
                let parallelism = Parallelism::new(runners).unwrap();
                assert_eq!(owner(&task, parallelism), Ordinal(ordinal), "{task} among {runners}");
            }
        }
    }

    #[test]
    fn the_partitions_of_a_topic_are_spread_evenly() {
        for runners in 1..=7 {
            let mut load = BTreeMap::new();
            for number in 0..(runners as i32 * 3) {
                let task = Task::Partition(Partition::new("orders", "commandes-json", number));
                *load.entry(owner(&task, Parallelism::new(runners).unwrap())).or_insert(0) += 1;
            }
            assert_eq!(load.len(), runners as usize);
            assert!(load.values().all(|count| *count == 3), "{load:?}");
        }
    }

    #[test]
    fn tasks_are_keys_of_json_maps_and_read_back_the_same() {
        let tasks = [
            Task::Partition(Partition::new("a/b", "t.x-1_", 12)),
            Task::Bucket(255),
            Task::Publisher("totals:x".into()),
            Task::Collector,
        ];
        let map: BTreeMap<Task, u8> = tasks.iter().cloned().map(|task| (task, 1)).collect();
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(serde_json::from_str::<BTreeMap<Task, u8>>(&text).unwrap(), map);
    }

    #[test]
    fn a_text_that_is_no_task_says_what_was_expected() {
        for text in ["", "collectors", "bucket:70000", "partition:orders/x", "publisher:", "partition:a/b/c"] {
            let error = text.parse::<Task>().unwrap_err().to_string();
            assert!(error.contains("expected"), "{error}");
        }
    }
}
