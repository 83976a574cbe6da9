//! The safeguards of the protocol by name, so that a test can take one away and show that it is needed.
//!
//! In every build but this crate's own tests each safeguard holds, by a constant.

/// One safeguard. Removing any of them must make the model or a test fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(dead_code)] // each is named where it is checked; outside tests `on` ignores which one is asked about
pub(crate) enum Safeguard {
    /// After a PUT of unknown outcome only the same bytes go to that slot until a GET shows it occupied.
    IdenticalResend,
    /// A slot that holds our incarnation and attempt is our own win.
    RecogniseOwn,
    /// A win counts only once the seal of a segment was found absent.
    SealCheck,
    /// That segment is the lowest one read from since the last passed check, not the one written to.
    LowestSegment,
    /// Nothing is read or written beyond a segment before that segment's reads were checked.
    CheckBeforeCrossing,
    /// After an unknown outcome, another's record in the slot counts only once a seal was found absent: ours may have been
    /// there, decided, before the slot was deleted.
    CheckWhenBeaten,
    /// What was read is handed out only once a seal was found absent since.
    CheckBeforeActing,
    /// A record that turns out void was decided if the reopened log still needs what it staged.
    NeededIsDecided,
    /// A segment's slots are deleted only after its seal was acknowledged.
    SealBeforeDelete,
    /// Snapshots hold checked slots only.
    SnapshotCheckedOnly,
    /// A commit continues exactly where the partition stands.
    OffsetChain,
    /// Only the owner of a task advances it.
    Ownership,
    /// What the term gave to others is committed once more at most, released with that commit.
    ReleasedWithIt,
    /// Claims and commits carry the current term, and their writer's revision is the term's.
    CurrentTerm,
    /// A claim of lower rank is refused.
    RankOrder,
    /// A process outside a cluster takes a rank once, even if it does not know what became of its claim.
    OneRank,
    /// An incarnation that lost its ordinal never claims again.
    NoReturn,
    /// A home that was replaced never returns.
    UidReturn,
    /// No attempt of an incarnation is decided twice.
    OneAttemptOneSlot,
    /// A commit's staged names belong to a claim that is still live.
    LiveStagedNames,
    /// An ordered output is published in the order of its records.
    PublishOrder,
    /// Only the decider, the publisher or the holder notes a record as published.
    PublisherOnly,
    /// While the log is held, nobody claims or commits.
    Hold,
    /// A rewind waits until everything decided is published.
    DrainFirst,
    /// No rewind goes back to before a topic was created again.
    SameTopic,
    /// An edit that has rows read again says for every output what becomes of those that are there.
    PolicyForRowsReadAgain,
    /// The ends of a bounded read are fixed once.
    PlanOnce,
    /// While a bounded read is under way no commit goes beyond its ends, and after it none moves anything on.
    WithinPlan,
    /// A bounded read is complete only at its ends and with everything published.
    CompleteAtEnds,
}

/// True if the safeguard is in force: always, outside this crate's tests.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn on(_: Safeguard) -> bool {
    true
}

#[cfg(test)]
pub(crate) use switched::on;
#[cfg(test)]
#[allow(unused_imports)]
pub(crate) use switched::without;

#[cfg(test)]
mod switched {
    use std::cell::Cell;

    use super::Safeguard;

    thread_local! {
        static REMOVED: Cell<Option<Safeguard>> = const { Cell::new(None) };
    }

    /// True unless this thread runs inside [`without`] of that safeguard.
    pub(crate) fn on(safeguard: Safeguard) -> bool {
        REMOVED.with(|removed| removed.get() != Some(safeguard))
    }

    /// Runs `body` on this thread with one safeguard taken away (or none).
    #[allow(dead_code)]
    pub(crate) fn without<T>(safeguard: Option<Safeguard>, body: impl FnOnce() -> T) -> T {
        struct Restore(Option<Safeguard>);
        impl Drop for Restore {
            fn drop(&mut self) {
                REMOVED.with(|removed| removed.set(self.0));
            }
        }
        let _restore = Restore(REMOVED.with(|removed| removed.replace(safeguard)));
        body()
    }
}
