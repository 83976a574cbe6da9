//! May this home work on this log?

use crate::decide::{Proposal, View};
use crate::ids::JobUid;
use crate::record::{Adopt, AdoptReason, Body, Home, Init};

/// Who wants to start.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Start {
    /// The home of this process.
    pub home: Home,
    /// The checkpoint location as its user wrote it.
    pub location: String,
    /// A fresh random uid, used only if the log is new or forked.
    pub fresh_job: JobUid,
    /// What the user allowed.
    pub permission: Permission,
}

/// What a user allowed for a log that belongs to another home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Permission {
    /// Nothing.
    #[default]
    None,
    /// To take the job over: the other home is refused from then on.
    TakeOver,
    /// To go on as a new job, with a uid and output paths of its own.
    Fork,
}

/// Whether a home may work on the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StartDecision {
    /// It is this home's log.
    Ready,
    /// It is once this is written.
    Propose(Proposal),
    /// It is not.
    Refused(StartRefusal),
}

/// Why a home may not work on the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StartRefusal {
    /// The StreamingJob of this process was deleted and replaced.
    #[error(
        "StreamingJob {place} with uid {uid} was replaced by another of that name; this process belongs to the old one"
    )]
    Replaced {
        /// The place.
        place: String,
        /// The uid that was replaced.
        uid: String,
    },
    /// Another home owns the log.
    #[error(
        "checkpoint {location} belongs to {theirs}, not to {ours}: use a location of its own, or allow this job to take it over or fork it"
    )]
    OtherHome {
        /// The checkpoint.
        location: String,
        /// This process's place.
        ours: String,
        /// The log's place.
        theirs: String,
    },
    /// The log was written for another location.
    #[error(
        "checkpoint {ours} is a copy of {theirs}: two jobs would write under one identity; allow this one to take over or to fork"
    )]
    OtherLocation {
        /// This process's location.
        ours: String,
        /// The location in the log.
        theirs: String,
    },
    /// A fork would leave decided rows unpublished.
    #[error(
        "{count} decided records of {theirs} are not published yet: let that job finish publishing before it is forked in place"
    )]
    Unpublished {
        /// The log's place.
        theirs: String,
        /// How many records.
        count: usize,
    },
}

/// Decides whether this home may work on the log: a new log is begun, a recreated StreamingJob adopts its own.
pub fn start(view: &View<'_>, start: &Start) -> StartDecision {
    let Some(current) = view.fold.home() else {
        let init = Init {
            job: start.fresh_job,
            home: start.home.clone(),
            location: start.location.clone(),
            segment_slots: view.segment_slots,
        };
        return StartDecision::Propose(view.propose_as(None, None, vec![Body::Init(init)]));
    };
    let theirs = current.home.place.clone();
    if let Some(uid) = view.fold.returning(&start.home) {
        return StartDecision::Refused(StartRefusal::Replaced { place: start.home.place.clone(), uid });
    }
    let same_home = current.home == start.home;
    let same_location = current.location == start.location;
    if same_home && same_location {
        return StartDecision::Ready;
    }
    let recreated = current.home.place == start.home.place
        && current.home.kubernetes_uid.is_some()
        && start.home.kubernetes_uid.is_some()
        && !same_home;
    let (job, reason) = match start.permission {
        Permission::Fork if same_location && !view.fold.pending().is_empty() => {
            let count = view.fold.pending().len();
            return StartDecision::Refused(StartRefusal::Unpublished { theirs, count });
        }
        Permission::Fork => (start.fresh_job, AdoptReason::Forked),
        _ if recreated && same_location => (current.job, AdoptReason::Recreated),
        Permission::TakeOver => (current.job, AdoptReason::TakenOver),
        Permission::None if same_home || recreated => {
            let refusal =
                StartRefusal::OtherLocation { ours: start.location.clone(), theirs: current.location.clone() };
            return StartDecision::Refused(refusal);
        }
        Permission::None => {
            let location = start.location.clone();
            let ours = start.home.place.clone();
            return StartDecision::Refused(StartRefusal::OtherHome { location, ours, theirs });
        }
    };
    let adopt = Adopt { job, home: start.home.clone(), location: start.location.clone(), reason };
    StartDecision::Propose(view.propose_as(None, view.generation(), vec![Body::Adopt(adopt)]))
}
