//! The termination message: why the process ended, for the kubelet, which hands it to the operator.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use millrace_crds::contract::{ExitCode, FailureClass, TerminationMessage};

use crate::failure::Failure;
use crate::ids::Incarnation;
use crate::pipeline::Ended;
use crate::telemetry::logging;

/// The file of the termination message, and what goes into it whatever happens.
#[derive(Debug)]
pub(super) struct Termination {
    path: PathBuf,
    incarnation: Incarnation,
    /// Unknown until the manifest is read.
    revision: OnceLock<String>,
}

impl Termination {
    pub(super) fn new(path: PathBuf, incarnation: Incarnation) -> Self {
        Self { path, incarnation, revision: OnceLock::new() }
    }

    /// The revision that the process runs.
    pub(super) fn runs(&self, revision: &str) {
        self.revision.get_or_init(|| revision.to_owned());
    }

    /// Says how the run ended.
    pub(super) fn ended(&self, outcome: &Result<Ended, Failure>) {
        let (completed, class, reason, message) = match outcome {
            Ok(Ended::Completed) => (true, None, "Completed", "everything was read, committed and published"),
            Ok(Ended::Stopped | Ended::StartDue) => {
                (false, None, "Stopped", "stopped by a signal; what was read is committed")
            }
            Ok(Ended::Superseded(by)) => (false, None, "Superseded", by.as_str()),
            Err(failure) => (false, Some(failure.class), failure.reason, failure.message.as_str()),
        };
        self.write(completed, class, reason, message);
    }

    /// Ends the process with the message that it panicked, should any thread do so, after what a panic prints anyway: the
    /// kubelet would keep nothing but the exit code.
    pub(super) fn catch_panics(self: &Arc<Self>) {
        let (this, usual) = (Arc::clone(self), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            usual(panic);
            this.write(false, Some(FailureClass::Internal), "Panic", &format!("a bug, please report it: {panic}"));
            std::process::exit(i32::from(ExitCode::Failed(FailureClass::Internal).code()));
        }));
    }

    fn write(&self, completed: bool, class: Option<FailureClass>, reason: &str, message: &str) {
        let message = TerminationMessage {
            completed,
            class,
            reason: reason.to_owned(),
            message: message.to_owned(),
            incarnation: self.incarnation.to_string(),
            revision: self.revision.get().cloned().unwrap_or_default(),
            log: logging::tail(),
        };
        if let Err(error) = std::fs::write(&self.path, message.to_json()) {
            tracing::warn!(path = %self.path.display(), %error, "cannot write the termination message");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::env::Env;

    /// Where the process that is to panic writes its message.
    const FILE: &str = "MILLRACE_TEST_PANIC_FILE";

    fn read(path: &Path) -> TerminationMessage {
        TerminationMessage::from_json(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn the_message_says_who_ended_and_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("message");
        let incarnation = Incarnation(Env::system().uuid());
        let termination = Termination::new(path.clone(), incarnation);
        termination.ended(&Err(Failure::user("no such manifest")));
        assert_eq!((read(&path).class, read(&path).revision.as_str()), (Some(FailureClass::User), ""));
        termination.runs("aa4da38374ac7b24");
        termination.ended(&Ok(Ended::Completed));
        let message = read(&path);
        assert!(message.completed);
        assert_eq!((message.class, message.revision.as_str()), (None, "aa4da38374ac7b24"));
        assert_eq!(message.incarnation, incarnation.to_string());
    }

    #[test]
    fn a_panic_in_any_thread_ends_the_process_with_its_message() {
        if let Some(path) = std::env::var_os(FILE) {
            Arc::new(Termination::new(path.into(), Incarnation(Env::system().uuid()))).catch_panics();
            let _ = std::thread::spawn(|| panic!("the wheel is stuck")).join();
            unreachable!("the hook ended the process");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("message");
        let name = "cli::termination::tests::a_panic_in_any_thread_ends_the_process_with_its_message";
        let mut again = Command::new(std::env::current_exe().unwrap());
        let output = again.args(["--exact", name, "--nocapture"]).env(FILE, &path).output().unwrap();
        assert_eq!(output.status.code(), Some(70), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("the wheel is stuck"), "{output:?}");
        let message = read(&path);
        assert_eq!((message.class, message.reason.as_str()), (Some(FailureClass::Internal), "Panic"));
        assert!(message.message.contains("the wheel is stuck"), "{}", message.message);
    }
}
