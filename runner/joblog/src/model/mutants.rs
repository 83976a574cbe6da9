//! Every safeguard taken away, and the rule that breaks.

use super::rules::Rule;
use super::setup::Setup;
use super::{MOST_STEPS, explore, setups};
use crate::safeguard::Safeguard;

/// Without the safeguard the setup breaks the rule.
fn breaks(removed: Safeguard, setup: Setup, rule: Rule) {
    let setup = Setup { removed: Some(removed), sought: Some(rule), ..setup };
    let found = explore(&setup, &format!("without {removed:?}"), MOST_STEPS);
    let (broken, steps) =
        found.broken.unwrap_or_else(|| panic!("{removed:?} is not missed by {} states", found.states));
    assert_eq!(broken, rule.says(), "{removed:?}: {steps:#?}");
}

macro_rules! mutants {
    ($($test:ident: $safeguard:ident, $setup:ident, $rule:ident;)*) => {
        $(#[test]
        fn $test() {
            breaks(Safeguard::$safeguard, setups::$setup(), Rule::$rule);
        })*
    };
}

mutants! {
    without_identical_resend: IdenticalResend, takeover, GivenUpIsGone;
    without_recognising_its_own: RecogniseOwn, takeover, GivenUpIsGone;
    without_the_seal_check: SealCheck, collection, BelievedIsTrue;
    without_the_lowest_segment: LowestSegment, litter, Sound;
    without_checking_before_crossing: CheckBeforeCrossing, litter, Sound;
    without_looking_for_what_is_needed: NeededIsDecided, collection, LiveIsKept;
    without_sealing_before_deleting: SealBeforeDelete, collection, SlotsNeverChange;
    without_checked_snapshots: SnapshotCheckedOnly, old_collector, SnapshotsAreTrue;
    without_the_offset_chain: OffsetChain, rescale, Chain;
    without_ownership: Ownership, rescale, CurrentOwner;
    without_the_current_term: CurrentTerm, revisions, CurrentOwner;
    without_the_order_of_ranks: RankOrder, takeover, SupersededForGood;
    without_no_return: NoReturn, equals, SupersededForGood;
    without_refusing_replaced_homes: UidReturn, homes, HomesStayReplaced;
    without_live_staged_names: LiveStagedNames, paused, LiveIsKept;
    without_publish_order: PublishOrder, ordered, NotedInOrder;
    without_publishers_only: PublisherOnly, shared, NotedByItsPublisher;
    without_the_hold: Hold, paused, HeldLogRests;
    without_draining_first: DrainFirst, edited, HeldLogRests;
    without_planning_once: PlanOnce, bounded, BoundedRead;
    without_completing_at_the_ends: CompleteAtEnds, bounded, BoundedRead;
}
