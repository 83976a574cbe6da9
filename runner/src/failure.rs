//! Failures by class: whose problem it is decides what happens next.

use std::process;

use millrace_crds::contract::{ExitCode, FailureClass};

use crate::sink::SinkError;
use crate::source::SourceError;

/// Why something failed, for the user and for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Whose problem it is.
    pub class: FailureClass,
    /// One word in CamelCase, for conditions and metrics.
    pub reason: &'static str,
    /// What is wrong, where, and what to do.
    pub message: String,
}

impl Failure {
    /// A failure of this class.
    pub fn new(class: FailureClass, reason: &'static str, message: impl Into<String>) -> Self {
        Self { class, reason, message: message.into() }
    }

    /// Only the user can mend it.
    pub fn user(message: impl Into<String>) -> Self {
        Self::new(FailureClass::User, "Invalid", message)
    }

    /// A bug, or a fault of the machine.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Internal, "Internal", message)
    }

    /// Something outside is away; trying again is right.
    pub fn external(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(FailureClass::External, reason, message)
    }

    /// Whether the same step may succeed later without anybody changing the job.
    pub fn is_external(&self) -> bool {
        self.class == FailureClass::External
    }

    /// The exit code of its class.
    pub fn exit_code(&self) -> process::ExitCode {
        ExitCode::from(self.class).into()
    }
}

/// The exit code for a command line that cannot be understood.
pub fn usage_exit_code() -> process::ExitCode {
    ExitCode::from(FailureClass::User).into()
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let (class, reason) = match &error {
            SourceError::TopicMissing { .. } => (FailureClass::User, "TopicMissing"),
            SourceError::Unreachable { .. } => (FailureClass::External, "KafkaUnreachable"),
            SourceError::Denied { .. } => (FailureClass::User, "KafkaDenied"),
            SourceError::OffsetOutOfRange { .. } => (FailureClass::Data, "OffsetOutOfRange"),
            SourceError::Property { .. } => (FailureClass::User, "KafkaProperty"),
            SourceError::Settings { .. } => (FailureClass::User, "KafkaSettings"),
            SourceError::Other { .. } => (FailureClass::Internal, "Kafka"),
        };
        Self::new(class, reason, error.to_string())
    }
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        let (class, reason) = match &error {
            SinkError::Unavailable { .. } => (FailureClass::External, "StoreUnavailable"),
            SinkError::User { .. } => (FailureClass::User, "Sink"),
            SinkError::Full { .. } => (FailureClass::External, "DiskFull"),
            SinkError::Internal { .. } => (FailureClass::Internal, "Sink"),
        };
        Self::new(class, reason, error.to_string())
    }
}
