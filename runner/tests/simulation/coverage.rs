//! What has to have happened for a run of many seeds to mean anything.

use std::collections::BTreeMap;

use millrace::failpoint::Failpoint;

/// So many seeds reach everything.
pub const SEEDS: u64 = 2_000;

/// Beside the failpoints: what the world did to the runners, and what they did about it.
const EVENTS: [&str; 37] = [
    "a deleted slot created again",
    "commands refused: held by another",
    "commands refused: the records are deleted",
    "commands refused: what the tables held was taken back",
    "commands run again",
    "commands that died",
    "commands that died before they had deleted what they took back",
    "commands that died holding the log",
    "commands that gave up",
    "commands that succeeded",
    "completed",
    "creates refused",
    "data losses recorded",
    "edits",
    "holds",
    "holds released",
    "homes created anew",
    "lost replies recognised",
    "outputs rewound with duplicate",
    "outputs rewound with retract",
    "processes of an old home refused",
    "releases",
    "retractions finished by a command",
    "retractions finished by a runner",
    "revisions rolled out",
    "rewinds",
    "rewinds of a bounded read",
    "savepoints made by a runner",
    "savepoints made or deleted",
    "seals met",
    "slots deleted",
    "stopped",
    "superseded",
    "superseded pods started again",
    "superseded zombies",
    "take-overs",
    "truncations",
];

/// What never happened. Every failpoint has to be reached, and somebody has to die there.
pub fn gaps(counts: &BTreeMap<String, u64>) -> Vec<String> {
    let points = Failpoint::ALL.into_iter().flat_map(|point| {
        let name = point.name();
        [format!("reached {name}"), format!("died at {name}")]
    });
    let wanted = points.chain(EVENTS.into_iter().map(str::to_owned));
    let mut gaps: Vec<String> =
        wanted.filter(|what| !counts.contains_key(what)).map(|what| format!("never: {what}")).collect();
    // A failpoint that is not among all of them would be armed by nobody.
    let reached = counts.keys().filter_map(|what| what.strip_prefix("reached "));
    let known = |name: &&str| Failpoint::ALL.iter().any(|point| point.name() == *name);
    gaps.extend(reached.filter(|name| !known(name)).map(|name| format!("not in Failpoint::ALL: {name}")));
    gaps
}
