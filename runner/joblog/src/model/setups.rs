//! The setups, each explored to its end.

use super::rules::Milestone;
use super::setup::{Errand, Pod, Setup};
use super::steps::{Listing, Reply, Step, Wish};
use super::{MOST_STEPS, explore};
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

/// A StreamingJob that is deleted and created again while a runner of the deleted one starts again and again.
pub fn homes() -> Setup {
    let pods = vec![Pod { starts: 3, ..Pod::runner(1, 1) }, Pod { uid: "uid-2", ..Pod::runner(1, 1) }];
    Setup { losses: 1, ..Setup::new(pods) }
}

/// A bounded read whose second runner sees later ends.
pub fn bounded() -> Setup {
    let pods = vec![Pod::runner(1, 2), Pod { sees: 2, ..Pod::runner(2, 2) }];
    Setup { bounded: true, files: true, publishes: true, ..Setup::new(pods) }
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
    Setup { sweeps: true, slots: 5, prefix, ..Setup::new(pods) }
}

/// A collector that was replaced, and a command, both from when the log had one slot: the command leaves litter, the
/// collector reads it.
pub fn old_collector() -> Setup {
    let pods = vec![Pod::runner(1, 0), Pod::runner(2, 1), Pod::command(9, Errand::Save("late"))];
    let mut prefix = vec![start(0), go(0), go(0), append(0, Wish::Begin(0)), go(0)];
    prefix.extend([start(2), go(2), go(2), go(2)]);
    prefix.extend([start(1), go(1), go(1), go(1), append(1, Wish::Begin(0)), go(1), append(1, Wish::Commit), go(1)]);
    prefix.extend([Step::Snapshot { pod: 1 }, append(1, Wish::Truncate), go(1)]);
    let setup = Setup::new(pods);
    let limits = Limits { segment_slots: 3, ..setup.limits };
    Setup { sweeps: true, slots: 4, limits, prefix, ..setup }
}

/// Two ordinals, one of which has two pods: what one decides the other may have to publish.
pub fn shared() -> Setup {
    let pods = vec![Pod::runner(1, 1), Pod::runner(2, 0), Pod { ordinal: 1, ..Pod::runner(3, 1) }];
    let prefix = vec![start(0), append(0, Wish::Begin(0)), start(2), append(2, Wish::Begin(0))];
    let terms = vec![(1, "r1", 2)];
    Setup { partitions: 2, terms, files: true, publishes: true, slots: 6, prefix, ..Setup::new(pods) }
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

/// Explores a setup to its end: no rule is broken, and the model comes as far as it must to mean something.
fn holds(name: &str, setup: &Setup, milestones: &[Milestone]) {
    let found = explore(setup, name, MOST_STEPS);
    assert_eq!(found.broken, None, "{name}");
    assert!(found.complete, "{name} is too large");
    for milestone in milestones {
        assert!(setup.has_reached(*milestone), "{name} never came to {milestone:?}");
    }
}

#[test]
fn two_pods_of_one_ordinal_with_lost_replies_keep_the_rules() {
    use Milestone::*;
    holds("takeover", &takeover(), &[Stopped, OwnRecognised, LateLanded]);
}

#[test]
fn two_processes_of_one_rank_keep_the_rules() {
    holds("equals", &equals(), &[Milestone::Stopped, Milestone::LateLanded]);
}

#[test]
fn deciders_sweepers_and_the_collector_keep_the_rules() {
    use Milestone::*;
    holds("publishing", &publishing(), &[Swept, StagedCollected, Stopped]);
}

#[test]
fn publishers_of_an_ordered_output_keep_the_rules() {
    holds("ordered", &ordered(), &[Milestone::Swept]);
}

#[test]
fn runners_that_are_rescaled_keep_the_rules() {
    use Milestone::*;
    holds("rescale", &rescale(), &[ClaimedMore, EpochDropped, Rescaled]);
}

#[test]
fn runners_of_two_revisions_keep_the_rules() {
    use Milestone::*;
    holds("revisions", &revisions(), &[Stopped]);
}

#[test]
fn a_runner_and_a_command_that_holds_the_log_keep_the_rules() {
    use Milestone::*;
    holds("paused", &paused(), &[WaitedForHold, ClaimedMore, StagedCollected, EpochDropped]);
}

#[test]
fn a_runner_and_a_command_that_edits_keep_the_rules() {
    use Milestone::*;
    holds("edited", &edited(), &[Drained, Edited, EpochDropped]);
}

#[test]
fn homes_that_replace_each_other_keep_the_rules() {
    holds("homes", &homes(), &[Milestone::Adopted, Milestone::HomeRefused]);
}

#[test]
fn runners_of_a_bounded_read_keep_the_rules() {
    holds("bounded", &bounded(), &[Milestone::PlanKept, Milestone::Completed]);
}

#[test]
fn writers_of_a_log_that_is_collected_keep_the_rules() {
    use Milestone::*;
    holds("collection", &collection(), &[Sealed, Deleted, LitterWritten, Void, VoidWasReal, OpenedFromSnapshot]);
}

#[test]
fn readers_of_litter_keep_the_rules() {
    use Milestone::*;
    holds("litter", &litter(), &[LitterWritten, LitterRead, Void, OpenedFromSnapshot]);
}

#[test]
fn runners_that_publish_for_each_other_keep_the_rules() {
    holds("shared", &shared(), &[Milestone::Swept, Milestone::Stopped]);
}

#[test]
fn a_replaced_collector_that_reads_litter_keeps_the_rules() {
    use Milestone::*;
    holds("old collector", &old_collector(), &[LitterWritten, LitterRead, Void]);
}
