//! The setups, each explored to its end.

use super::rules::Milestone;
use super::setup::{Errand, Pod, Setup};
use super::steps::{Listing, Reply, Step, Wish};
use super::{MOST_STEPS, MOST_STEPS_DEEP, explore};
use crate::limits::Limits;

/// Two pods on one ordinal, the first restarted in place, with lost replies, late writes and refusals without a reason.
pub fn takeover() -> Setup {
    let pods = vec![Pod { starts: 2, ..Pod::runner(1, 1) }, Pod::runner(2, 1)];
    Setup { losses: 2, files: true, ..Setup::new(pods) }
}

/// Two processes of one rank.
pub fn equals() -> Setup {
    let pods = vec![Pod::runner(1, 1), Pod::runner(1, 2)];
    Setup { losses: 1, ..Setup::new(pods) }
}

/// Files are published by deciders and sweepers, and what was staged is collected.
pub fn publishing() -> Setup {
    let pods = vec![Pod::runner(1, 2), Pod::runner(2, 1)];
    Setup { files: true, publishes: true, collects: true, ..Setup::new(pods) }
}

/// An ordered output under two publishers.
pub fn ordered() -> Setup {
    let pods = vec![Pod::runner(1, 2), Pod::runner(2, 1)];
    Setup { ordered: true, publishes: true, ..Setup::new(pods) }
}

/// One runner, two, and one again.
pub fn rescale() -> Setup {
    let pods = vec![Pod::runner(1, 1), Pod { ordinal: 1, ..Pod::runner(2, 1) }];
    Setup { partitions: 2, terms: vec![(1, "r1", 1), (2, "r1", 2), (3, "r1", 1)], slots: 8, ..Setup::new(pods) }
}

/// A new revision takes over from the old one, which still runs.
pub fn revisions() -> Setup {
    let pods = vec![Pod { starts: 2, ..Pod::runner(1, 2) }, Pod { revision: "r2", ..Pod::runner(2, 1) }];
    Setup { terms: vec![(1, "r1", 1), (2, "r2", 1)], files: true, losses: 1, ..Setup::new(pods) }
}

/// A runner, and a command that holds the log and lets it go.
pub fn paused() -> Setup {
    let pods = vec![Pod::runner(1, 2), Pod::command(9, Errand::Pause)];
    Setup { files: true, publishes: true, collects: true, losses: 1, ..Setup::new(pods) }
}

/// A runner, and a command that moves an offset.
pub fn edited() -> Setup {
    let pods = vec![Pod::runner(1, 2), Pod::command(9, Errand::Edit(5))];
    Setup { files: true, publishes: true, ..Setup::new(pods) }
}

/// A runner, a command that holds the log and sleeps, and one that takes the hold and moves an offset.
pub fn forced() -> Setup {
    let pods = vec![Pod::runner(1, 1), Pod::command(8, Errand::Pause), Pod::command(9, Errand::ForceEdit(5))];
    Setup { files: true, publishes: true, ..Setup::new(pods) }
}

/// A StreamingJob that is deleted and created again while a runner of the deleted one starts again and again.
pub fn homes() -> Setup {
    let pods = vec![Pod { starts: 3, ..Pod::runner(1, 1) }, Pod { uid: "uid-2", ..Pod::runner(1, 1) }];
    Setup { losses: 1, ..Setup::new(pods) }
}

/// A bounded read whose second runner sees later ends.
pub fn bounded() -> Setup {
    let pods = vec![Pod::runner(1, 2), Pod { sees: 2, ..Pod::runner(2, 1) }];
    Setup { bounded: true, files: true, publishes: true, slots: 7, ..Setup::new(pods) }
}

/// Snapshots, seals and deletion under two writers and over three segments.
pub fn collection() -> Setup {
    let pods = vec![Pod::runner(1, 1), Pod::runner(2, 2)];
    let prefix = vec![start(0), go(0), go(0), append(0, Wish::Begin(0))];
    Setup { sweeps: true, stale_listings: true, files: true, slots: 5, prefix, ..Setup::new(pods) }
}

/// Two commands that opened the log when it had one slot, and wake when that segment is about to go: one leaves litter
/// there, the other reads it. A third made a savepoint of the other's name in between.
pub fn litter() -> Setup {
    let pods = vec![
        Pod::runner(1, 1),
        Pod::command(7, Errand::Save("late")),
        Pod::command(8, Errand::Save("same")),
        Pod::command(9, Errand::Save("same")),
    ];
    let mut prefix = vec![start(0), go(0), go(0), append(0, Wish::Begin(0)), go(0)];
    for command in [1, 2, 3] {
        prefix.extend([start(command), go(command), go(command), go(command)]);
    }
    prefix.extend([append(3, Wish::Errand), go(3)]);
    prefix.extend([Step::Read { pod: 0 }, go(0), append(0, Wish::Commit), go(0)]);
    prefix.extend([Step::Snapshot { pod: 0 }, append(0, Wish::Truncate), go(0)]);
    prefix.extend([None, Some(1)].map(|slot| Step::Sweep { pod: 0, slot }));
    Setup { sweeps: true, slots: 5, prefix, ..Setup::new(pods) }
}

/// A collector that was replaced, and a command, both from when the log had one slot: the command leaves litter, by a
/// create that got no reply or by another, and the collector reads it.
pub fn old_collector() -> Setup {
    let pods = vec![Pod::runner(1, 0), Pod::runner(2, 1), Pod::command(9, Errand::Save("late"))];
    let mut prefix = vec![start(0), go(0), go(0), append(0, Wish::Begin(0)), go(0)];
    prefix.extend([start(2), go(2), go(2), go(2)]);
    prefix.push(Step::Append { pod: 2, wish: Wish::Errand, reply: Reply::Lost });
    prefix.extend([start(1), go(1), go(1), go(1), append(1, Wish::Begin(0)), go(1), append(1, Wish::Commit), go(1)]);
    prefix.extend([Step::Snapshot { pod: 1 }, append(1, Wish::Truncate), go(1)]);
    let setup = Setup::new(pods);
    let limits = Limits { segment_slots: 3, ..setup.limits };
    Setup { sweeps: true, slots: 4, losses: 1, limits, prefix, ..setup }
}

/// A commit without a reply was decided, its author replaced and its slot deleted: a command from before leaves litter
/// there, in the author's way.
pub fn overwritten() -> Setup {
    let pods = vec![Pod::runner(1, 1), Pod::runner(2, 0), Pod::command(9, Errand::Save("late"))];
    let mut prefix = vec![start(0), go(0), go(0), append(0, Wish::Begin(0)), go(0)];
    prefix.extend([start(2), go(2), go(2), go(2)]);
    prefix.extend([Step::Append { pod: 0, wish: Wish::Commit, reply: Reply::Lost }, Step::Land { which: 0 }]);
    prefix.extend(replaced_by(1));
    let setup = Setup::new(pods);
    let limits = Limits { segment_slots: 3, ..setup.limits };
    Setup { sweeps: true, files: true, slots: 5, losses: 1, limits, prefix, ..setup }
}

/// Outside a cluster: a first claim without a reply was decided, its author replaced and its slot deleted.
pub fn nomads() -> Setup {
    let pods = [Pod::runner(0, 0), Pod::runner(0, 0), Pod::runner(0, 1)].map(|pod| Pod { number: None, ..pod });
    let mut prefix = vec![start(2), go(2), go(2), append(2, Wish::Begin(0)), go(2)];
    prefix.extend([start(0), go(0), go(0), go(0)]);
    prefix.extend([Step::Append { pod: 0, wish: Wish::Begin(0), reply: Reply::Lost }, Step::Land { which: 0 }]);
    prefix.extend(replaced_by(1));
    let setup = Setup::new(pods.to_vec());
    let limits = Limits { segment_slots: 3, ..setup.limits };
    Setup { sweeps: true, slots: 5, losses: 1, limits, prefix, ..setup }
}

/// When two slots are written: a process of that pod takes over in the third, and deletes the second.
fn replaced_by(pod: usize) -> impl Iterator<Item = Step> {
    let taken_over = [start(pod), go(pod), go(pod), go(pod), go(pod), append(pod, Wish::Begin(0)), go(pod)];
    let truncated = [Step::Snapshot { pod }, append(pod, Wish::Truncate), go(pod)];
    let deleted = [None, Some(1)].map(|slot| Step::Sweep { pod, slot });
    taken_over.into_iter().chain(truncated).chain(deleted)
}

/// Two ordinals, one of which has two pods: what one decides the other may have to publish.
pub fn shared() -> Setup {
    let pods = vec![Pod::runner(1, 1), Pod::runner(2, 0), Pod { ordinal: 1, ..Pod::runner(3, 1) }];
    let prefix = vec![start(0), append(0, Wish::Begin(0)), start(2), append(2, Wish::Begin(0))];
    let terms = vec![(1, "r1", 2)];
    Setup { partitions: 2, terms, files: true, publishes: true, slots: 6, prefix, ..Setup::new(pods) }
}

/// A decider and a publisher on two ordinals, both from when the log had two slots: one leaves litter, the other would
/// publish it.
pub fn old_publisher() -> Setup {
    let pods = vec![Pod::runner(1, 1), Pod { ordinal: 1, ..Pod::runner(2, 0) }, Pod::runner(3, 1)];
    let mut prefix = vec![start(0), go(0), go(0), append(0, Wish::Begin(0)), go(0)];
    prefix.extend([start(1), go(1), go(1), go(1), append(1, Wish::Begin(0)), go(1), Step::Read { pod: 0 }]);
    prefix.extend([start(2), go(2), go(2), go(2), go(2), append(2, Wish::Begin(0)), go(2)]);
    prefix.extend([append(2, Wish::Commit), go(2), Step::Snapshot { pod: 2 }, append(2, Wish::Truncate), go(2)]);
    prefix.extend([None, Some(2)].map(|slot| Step::Sweep { pod: 2, slot }));
    let setup = Setup::new(pods);
    let limits = Limits { segment_slots: 4, ..setup.limits };
    let terms = vec![(1, "r1", 2)];
    Setup { terms, ordered: true, publishes: true, sweeps: true, slots: 5, limits, prefix, ..setup }
}

const HEARD: Reply = Reply::Heard;

fn start(pod: usize) -> Step {
    Step::Start { pod, listing: Listing::Newest }
}

fn go(pod: usize) -> Step {
    Step::Go { pod, reply: HEARD, listing: Listing::Newest }
}

fn append(pod: usize, wish: Wish) -> Step {
    Step::Append { pod, wish, reply: HEARD }
}

/// Explores a setup to its end: no rule is broken, and the model comes as far as it must to mean something. With
/// MILLRACE_MODEL_DEEP in the environment also `deeper`.
fn holds(name: &str, setup: Setup, deeper: impl FnOnce(Setup) -> Setup, milestones: &[Milestone]) {
    let explored = |setup: &Setup, name: &str, most_steps: usize| {
        let found = explore(setup, name, most_steps);
        assert_eq!(found.broken, None, "{name}");
        assert!(found.complete, "{name} is too large");
    };
    explored(&setup, name, MOST_STEPS);
    for milestone in milestones {
        assert!(setup.has_reached(*milestone), "{name} never came to {milestone:?}");
    }
    if std::env::var_os("MILLRACE_MODEL_DEEP").is_some() {
        explored(&deeper(setup), &format!("{name}, deeper"), MOST_STEPS_DEEP);
    }
}

macro_rules! setups {
    ($($test:ident: $setup:ident, $deeper:expr, [$($milestone:ident)*];)*) => {
        $(#[test]
        fn $test() {
            holds(stringify!($setup), $setup(), $deeper, &[$(Milestone::$milestone),*]);
        })*
    };
}

setups! {
    two_pods_of_one_ordinal_with_lost_replies_keep_the_rules:
        takeover, Setup::deeper, [Superseded OwnRecognised LateLanded];
    two_processes_of_one_rank_keep_the_rules: equals, Setup::deeper, [Superseded LateLanded];
    deciders_sweepers_and_the_collector_keep_the_rules:
        publishing, Setup::lossier, [Noted OrphanPublished StagedCollected Superseded];
    publishers_of_an_ordered_output_keep_the_rules: ordered, Setup::lossier, [Noted Superseded];
    runners_that_publish_for_each_other_keep_the_rules: shared, Setup::longer, [Noted OrphanPublished Superseded];
    runners_that_are_rescaled_keep_the_rules: rescale, Setup::longer, [ClaimedMore EpochDropped HandedOver];
    runners_of_two_revisions_keep_the_rules: revisions, Setup::deeper, [Superseded];
    a_runner_and_a_command_that_holds_the_log_keep_the_rules:
        paused, Setup::longer, [WaitedForHold ClaimedMore StagedCollected EpochDropped];
    a_runner_and_a_command_that_edits_keep_the_rules: edited, Setup::deeper, [Noted Drained Edited EpochDropped];
    a_command_that_takes_the_hold_of_another_keeps_the_rules: forced, Setup::longer, [HoldTaken Noted Drained Edited];
    homes_that_replace_each_other_keep_the_rules: homes, Setup::deeper, [Adopted HomeRefused];
    runners_of_a_bounded_read_keep_the_rules: bounded, Setup::longer, [PlanKept BeyondPlan Completed];
    writers_of_a_log_that_is_collected_keep_the_rules:
        collection, Setup::with_old_snapshots, [Sealed Deleted SlotRecreated VoidWin VoidWasReal OpenedFromSnapshot];
    readers_of_litter_keep_the_rules: litter, Setup::unsealed, [SlotRecreated LitterRead VoidWin OpenedFromSnapshot];
    a_replaced_collector_that_reads_litter_keeps_the_rules:
        old_collector, Setup::with_old_snapshots, [SlotRecreated LitterRead VoidWin LateLanded];
    an_author_whose_slot_was_deleted_and_taken_keeps_the_rules:
        overwritten, Setup::with_old_snapshots, [SlotRecreated LitterRead VoidWasReal];
    processes_outside_a_cluster_keep_the_rules: nomads, Setup::unsealed, [SlotRecreated VoidWin Superseded];
    a_replaced_publisher_that_reads_litter_keeps_the_rules:
        old_publisher, Setup::longer, [SlotRecreated LitterRead VoidWin];
}
