//! What must hold in every state, and what must be possible.

use stateright::Property;

use super::setup::Setup;
use super::world::World;

/// What must hold in every state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    Chain,
    CurrentOwner,
    SupersededForGood,
    BelievedIsTrue,
    BelievedOnce,
    GivenUpIsGone,
    LiveIsKept,
    SlotsNeverChange,
    CheckedIsTrue,
    SnapshotsAreTrue,
    PublishedIsDecided,
    NotedIsPublished,
    NotedByItsPublisher,
    NotedInOrder,
    AppliedInOrder,
    HeldLogRests,
    HomesStayReplaced,
    BoundedRead,
    AttemptOnce,
    Sound,
}

/// What must be possible, or the model says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Milestone {
    /// A process finds that another has its place.
    Superseded,
    /// An epoch is dropped because its task is lost, moved, or of an old term.
    EpochDropped,
    /// A process claims again while it holds its ordinal.
    ClaimedMore,
    /// A task is released by its owner to another ordinal.
    HandedOver,
    /// A record that is in flight when the seal is found present.
    VoidWin,
    /// Such a record that is in the reopened log.
    VoidWasReal,
    /// A create of unknown outcome that turns out to have arrived.
    OwnRecognised,
    /// A create that arrives after its reply was given up.
    LateLanded,
    /// A deleted slot that is created again.
    SlotRecreated,
    /// Such a slot that is read.
    LitterRead,
    Sealed,
    Deleted,
    OpenedFromSnapshot,
    /// A dead staged object that is deleted.
    StagedCollected,
    /// A record that is published and noted.
    Noted,
    /// A publisher that publishes what a fenced process decided.
    OrphanPublished,
    /// A runner that may not claim because a command holds the log.
    WaitedForHold,
    /// A command that takes the hold of another.
    HoldTaken,
    /// A command that has to publish before it may edit.
    Drained,
    Edited,
    Adopted,
    HomeRefused,
    /// A runner that sees other ends than those that were fixed.
    PlanKept,
    /// An epoch is dropped because it goes beyond the ends of a bounded read.
    BeyondPlan,
    Completed,
}

macro_rules! rules {
    ($($rule:ident: $says:literal,)*) => {
        /// The rules by the name under which the checker reports them.
        pub fn properties() -> Vec<Property<Setup>> {
            vec![$(Property::always($says, |_, world: &World| world.broken != Some(Rule::$rule))),*]
        }

        impl Rule {
            pub fn says(self) -> &'static str {
                match self { $(Rule::$rule => $says),* }
            }
        }
    };
}

rules! {
    Chain: "every offset is consumed exactly once, in a chain",
    CurrentOwner: "only the latest claimer of a task advances it, in the current term and revision",
    SupersededForGood: "a superseded process never owns again, and ranks never fall",
    BelievedIsTrue: "a record believed won is in the true log",
    BelievedOnce: "no two processes believe a commit of the same offsets",
    GivenUpIsGone: "a record that its author gave up is never in the true log",
    LiveIsKept: "nothing that a live record points to is deleted",
    SlotsNeverChange: "no slot that anybody may believe changes",
    CheckedIsTrue: "what a process has checked is the true log",
    SnapshotsAreTrue: "every snapshot is the true log through its slot",
    PublishedIsDecided: "nothing is published that is not decided",
    NotedIsPublished: "what is noted is published",
    NotedByItsPublisher: "records are noted once, by those who may publish them",
    NotedInOrder: "an ordered output is noted in the order of its records",
    AppliedInOrder: "an ordered sink applies every record, in order",
    HeldLogRests: "a held log is neither claimed nor committed to, and edited only when drained",
    HomesStayReplaced: "a home that was replaced never returns",
    BoundedRead: "a bounded read has one set of ends, and is complete only there and published",
    AttemptOnce: "no attempt is decided twice",
    Sound: "no correct process writes or meets a record that the fold refuses",
}
