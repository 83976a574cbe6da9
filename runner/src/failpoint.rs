//! Named places at which a process can be made to die, so that a test can kill it in every interesting moment.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

/// Every seam between two steps of the runner that can lose or double something if it is sewn wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failpoint {
    /// The log is open, nothing was claimed yet.
    Opened,
    /// A claim is in the log, no partition is assigned yet.
    Claimed,
    /// A batch was read and decoded, nothing of it is written.
    Read,
    /// A batch went into the open files.
    Written,
    /// The epoch is closed, its files are not finished.
    Closing,
    /// Every file of the epoch is staged, nothing is decided.
    Staged,
    /// The record is in the log, nothing is published.
    Decided,
    /// One file of several is published.
    Publishing,
    /// Everything is published, nothing is noted.
    Published,
    /// The notes are in the log, the staged objects are still there.
    Noted,
    /// The ends of a bounded read are planned, nothing is read.
    Planned,
    /// Everything of a bounded read is published, completion is not in the log.
    Completing,
    /// Tasks were released to their new owner, which has not claimed them.
    Released,
    /// A snapshot is written, nothing is truncated.
    Snapshotted,
}

impl Failpoint {
    /// All of them, in the order in which a run meets them.
    pub const ALL: [Failpoint; 14] = [
        Failpoint::Opened,
        Failpoint::Claimed,
        Failpoint::Planned,
        Failpoint::Read,
        Failpoint::Written,
        Failpoint::Closing,
        Failpoint::Staged,
        Failpoint::Decided,
        Failpoint::Publishing,
        Failpoint::Published,
        Failpoint::Noted,
        Failpoint::Released,
        Failpoint::Snapshotted,
        Failpoint::Completing,
    ];

    /// The name by which `MILLRACE_FAILPOINT` arms it.
    pub fn name(self) -> &'static str {
        match self {
            Failpoint::Opened => "opened",
            Failpoint::Claimed => "claimed",
            Failpoint::Read => "read",
            Failpoint::Written => "written",
            Failpoint::Closing => "closing",
            Failpoint::Staged => "staged",
            Failpoint::Decided => "decided",
            Failpoint::Publishing => "publishing",
            Failpoint::Published => "published",
            Failpoint::Noted => "noted",
            Failpoint::Planned => "planned",
            Failpoint::Completing => "completing",
            Failpoint::Released => "released",
            Failpoint::Snapshotted => "snapshotted",
        }
    }
}

/// What happens when a failpoint is reached. Production does nothing; a test dies; the simulation never returns.
#[async_trait]
pub trait Failpoints: Send + Sync {
    /// Called at the seam.
    async fn reach(&self, point: Failpoint);
}

/// No failpoint is armed.
#[derive(Debug, Default)]
pub struct Disarmed;

#[async_trait]
impl Failpoints for Disarmed {
    async fn reach(&self, _point: Failpoint) {}
}

/// Aborts the process the n-th time one point is reached: no destructor runs, as with `kill -9`.
#[derive(Debug)]
pub struct AbortAt {
    point: Failpoint,
    remaining: AtomicU64,
}

impl AbortAt {
    /// Reads `<name>` or `<name>:<n>` (n ≥ 1), the form of the environment variable `MILLRACE_FAILPOINT`.
    ///
    /// # Errors
    /// A sentence that says which names there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, count) = text.split_once(':').unwrap_or((text, "1"));
        let point = Failpoint::ALL.into_iter().find(|point| point.name() == name).ok_or_else(|| {
            let names: Vec<_> = Failpoint::ALL.iter().map(|point| point.name()).collect();
            format!("there is no failpoint '{name}'; there are: {}", names.join(", "))
        })?;
        let count = count.parse::<u64>().ok().filter(|count| *count > 0);
        let count = count.ok_or_else(|| format!("'{text}': the count after ':' must be a number from 1"))?;
        Ok(Self { point, remaining: AtomicU64::new(count) })
    }
}

#[async_trait]
impl Failpoints for AbortAt {
    async fn reach(&self, point: Failpoint) {
        if point == self.point && self.remaining.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_failpoint_is_armed_by_name_and_count() {
        let armed = AbortAt::parse("decided:3").unwrap();
        assert_eq!(armed.point, Failpoint::Decided);
        assert_eq!(armed.remaining.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn an_unknown_failpoint_names_the_known_ones() {
        let error = AbortAt::parse("decideed").unwrap_err();
        assert!(error.contains("decided") && error.contains("'decideed'"), "{error}");
        assert!(AbortAt::parse("decided:0").is_err());
    }
}
