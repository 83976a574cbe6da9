//! Exit codes by failure class.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// Whose problem a failure is, and with it what the operator does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(transform = crate::spec::without_description)]
pub enum FailureClass {
    /// The manifest, the query, a missing topic, bucket or secret, or denied rights: only a person can mend it.
    User,
    /// The data: a row that fails under `onError: fail`, or offsets that Kafka no longer has.
    Data,
    /// Kafka or the object store is unreachable; runners retry inside, so that an exit is rare.
    External,
    /// The pod could not be created or placed.
    Placement,
    /// Out of memory, eviction, node loss.
    Infrastructure,
    /// A panic or a broken invariant: a bug.
    Internal,
}

impl FailureClass {
    /// Every class, in the order of the documentation.
    pub const ALL: [Self; 6] =
        [Self::User, Self::Data, Self::External, Self::Placement, Self::Infrastructure, Self::Internal];

    /// The class as it is written in JSON, labels and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Data => "data",
            Self::External => "external",
            Self::Placement => "placement",
            Self::Infrastructure => "infrastructure",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reads a class that may be one of a newer version: then it is none.
pub(super) fn known_class<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<FailureClass>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    Ok(name.and_then(|name| FailureClass::ALL.into_iter().find(|class| class.as_str() == name)))
}

/// How a runner process ended.
///
/// The numbers follow `sysexits.h` where it has one. They keep clear of 1 and 2 (shells and argument parsers), of 101
/// (a Rust panic), and of 126 and above (shells and signals), except that 143 is what a process stopped by SIGTERM
/// is expected to return. Kubernetes shows them; completion is never read from 0 alone but from the termination message.
///
/// | code | meaning |
/// |---|---|
/// | 0 | a bounded job is complete |
/// | 64 | user |
/// | 65 | data |
/// | 69 | external |
/// | 70 | internal |
/// | 71 | infrastructure |
/// | 73 | placement |
/// | 143 | stopped by SIGTERM, after its last commit |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitCode {
    /// A bounded job is complete.
    Completed,
    /// Stopped by SIGTERM.
    Stopped,
    /// Failed.
    Failed(FailureClass),
}

impl ExitCode {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Completed => 0,
            Self::Stopped => 143,
            Self::Failed(FailureClass::User) => 64,
            Self::Failed(FailureClass::Data) => 65,
            Self::Failed(FailureClass::External) => 69,
            Self::Failed(FailureClass::Internal) => 70,
            Self::Failed(FailureClass::Infrastructure) => 71,
            Self::Failed(FailureClass::Placement) => 73,
        }
    }

    /// What an exit code says; `None` for one that no runner returns on purpose (a panic, a signal, out of memory).
    pub fn from_code(code: i32) -> Option<Self> {
        let all = FailureClass::ALL.map(Self::Failed);
        [Self::Completed, Self::Stopped].into_iter().chain(all).find(|exit| i32::from(exit.code()) == code)
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(exit: ExitCode) -> Self {
        Self::from(exit.code())
    }
}

impl From<FailureClass> for ExitCode {
    fn from(class: FailureClass) -> Self {
        Self::Failed(class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_code_of_its_own_that_nothing_else_uses() {
        let mut seen = vec![0, 143];
        for class in FailureClass::ALL {
            let code = ExitCode::from(class).code();
            assert!(!seen.contains(&code), "{class} shares {code}");
            assert!(code > 2 && code != 101 && code < 126, "{class} has {code}");
            seen.push(code);
        }
    }

    #[test]
    fn codes_read_back_as_what_they_were() {
        for exit in [ExitCode::Completed, ExitCode::Stopped].into_iter().chain(FailureClass::ALL.map(ExitCode::Failed))
        {
            assert_eq!(ExitCode::from_code(i32::from(exit.code())), Some(exit));
        }
        for code in [1, 2, 101, 137, 139, -1] {
            assert_eq!(ExitCode::from_code(code), None);
        }
    }

    #[test]
    fn codes_are_pinned() {
        let codes = FailureClass::ALL.map(|class| (class.as_str(), ExitCode::from(class).code()));
        let pinned =
            [("user", 64), ("data", 65), ("external", 69), ("placement", 73), ("infrastructure", 71), ("internal", 70)];
        assert_eq!(codes, pinned);
    }
}
