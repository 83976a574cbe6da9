//! Every safeguard taken away, and the rule that breaks. And every debt of the log's callers left unpaid.

use super::rules::Rule;
use super::setup::{Careless, Setup};
use super::{MOST_STEPS, explore, setups};
use crate::safeguard::Safeguard;

/// The mutant breaks the rule, by a way that breaks no other rule before.
fn breaks(mutant: &str, setup: Setup, rule: Rule) {
    let setup = Setup { sought: Some(rule), ..setup };
    let found = explore(&setup, mutant, MOST_STEPS);
    let (broken, _) = found.broken.unwrap_or_else(|| panic!("{mutant} is not missed by {} states", found.states));
    assert_eq!(broken, rule.says(), "{mutant}");
}

macro_rules! mutants {
    ($($test:ident: $safeguard:ident, $setup:ident, $rule:ident;)*) => {
        $(#[test]
        fn $test() {
            let setup = Setup { removed: Some(Safeguard::$safeguard), ..setups::$setup() };
            breaks(concat!("without ", stringify!($safeguard)), setup, Rule::$rule);
        })*
    };
}

mutants! {
    without_identical_resend_a_given_up_record_is_decided: IdenticalResend, takeover, GivenUpIsGone;
    without_recognising_its_own_a_record_is_given_up_and_decided: RecogniseOwn, takeover, GivenUpIsGone;
    without_the_seal_check_a_void_win_is_believed: SealCheck, collection, BelievedIsTrue;
    without_the_seal_check_litter_passes_for_the_log: SealCheck, old_collector, CheckedIsTrue;
    without_the_lowest_segment_the_log_is_damaged: LowestSegment, litter, Sound;
    without_checking_before_crossing_the_log_is_damaged: CheckBeforeCrossing, litter, Sound;
    without_checking_when_beaten_a_given_up_record_is_decided: CheckWhenBeaten, overwritten, GivenUpIsGone;
    without_looking_for_what_is_needed_it_is_deleted: NeededIsDecided, collection, LiveIsKept;
    without_sealing_before_deleting_a_believed_slot_changes: SealBeforeDelete, collection, SlotsNeverChange;
    without_checked_snapshots_one_holds_litter: SnapshotCheckedOnly, old_collector, SnapshotsAreTrue;
    without_the_offset_chain_offsets_are_lost_or_doubled: OffsetChain, rescale, Chain;
    without_ownership_another_advances_a_task: Ownership, rescale, CurrentOwner;
    without_the_current_term_an_old_revision_writes: CurrentTerm, revisions, CurrentOwner;
    without_the_order_of_ranks_an_ordinal_is_stolen_back: RankOrder, takeover, SupersededForGood;
    without_one_rank_processes_outside_a_cluster_take_turns: OneRank, nomads, SupersededForGood;
    without_no_return_equal_ranks_take_turns: NoReturn, equals, SupersededForGood;
    without_refusing_replaced_homes_one_returns: UidReturn, homes, HomesStayReplaced;
    without_live_staged_names_a_commit_lacks_its_file: LiveStagedNames, paused, LiveIsKept;
    without_publish_order_notes_leave_gaps: PublishOrder, ordered, NotedInOrder;
    without_publishers_only_others_note: PublisherOnly, shared, NotedByItsPublisher;
    without_the_hold_a_held_log_is_written: Hold, paused, HeldLogRests;
    without_draining_first_an_edit_overtakes_publishing: DrainFirst, edited, HeldLogRests;
    without_planning_once_a_read_has_two_ends: PlanOnce, bounded, BoundedRead;
    without_keeping_within_the_plan_a_read_goes_beyond_its_ends: WithinPlan, bounded, BoundedRead;
    without_completing_at_the_ends_a_read_stops_short: CompleteAtEnds, bounded, BoundedRead;
}

macro_rules! careless_callers {
    ($($test:ident: $fault:ident, $setup:ident, $rule:ident;)*) => {
        $(#[test]
        fn $test() {
            let setup = Setup { careless: Some(Careless::$fault), ..setups::$setup() };
            breaks(concat!("a caller that ", stringify!($fault)), setup, Rule::$rule);
        })*
    };
}

careless_callers! {
    a_caller_that_deletes_what_is_in_flight_loses_rows: DropsInFlight, takeover, LiveIsKept;
    a_caller_that_deletes_what_is_void_loses_rows: DropsVoid, collection, LiveIsKept;
    a_caller_that_notes_before_it_publishes_loses_rows: NotesUnpublished, publishing, NotedIsPublished;
    a_caller_that_publishes_what_it_did_not_check_publishes_litter: PublishesUnchecked, old_publisher, PublishedIsDecided;
}
