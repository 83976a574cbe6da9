//! Whose problem it is that a runner ended or does not run, and how long to wait before it is tried again.

use std::time::Duration;

use millrace_crds::Restart;
use millrace_crds::contract::{ExitCode, FailureClass};

use crate::facts::{End, Over, PodFacts, Said};

/// How often a runner is started again after a mistake of its user's, who may mend a topic, a right or a secret meanwhile.
const USER_RETRY: Duration = Duration::from_secs(45);
/// How often after trouble with Kafka or the store; runners wait inside, so that this is rare.
const EXTERNAL_RETRY: Duration = Duration::from_secs(5);
/// How long an image may take to arrive before that is a problem, and before a new pod is tried.
const IMAGE_DEADLINE: Duration = Duration::from_secs(60);

/// A failure of a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whose problem it is.
    pub class: FailureClass,
    /// One word, in CamelCase.
    pub reason: String,
    /// What happened and what to do.
    pub message: String,
}

impl Failure {
    fn new(class: FailureClass, reason: &str, message: impl Into<String>) -> Self {
        Self { class, reason: reason.to_owned(), message: message.into() }
    }
}

/// Why a process ended, unless it did what it should: completed, or stopped because its pod was asked to go.
pub fn of_end(end: &End, deleting: bool) -> Option<Failure> {
    let said = end.message.as_ref();
    if said.is_some_and(|message| message.completed) {
        return None;
    }
    let message = said.map(|message| message.message.clone()).unwrap_or_default();
    let exit = ExitCode::from_code(end.exit_code);
    if exit == Some(ExitCode::Stopped) && deleting {
        return None;
    }
    if end.reason == "OOMKilled" {
        let message = "the runner was killed because it needed more memory than its limit; raise \
                       spec.runner.resources.limits.memory, or lower trigger.maxBytes";
        return Some(Failure::new(FailureClass::Infrastructure, "OOMKilled", message));
    }
    if let Some((class, said)) = said.and_then(|said| Some((said.class?, said))) {
        return Some(Failure::new(class, &said.reason, message));
    }
    Some(match exit {
        Some(ExitCode::Completed) => Failure::new(
            FailureClass::Internal,
            "NoTerminationMessage",
            "the runner exited with 0 and did not say that the job is complete",
        ),
        Some(ExitCode::Stopped) => {
            Failure::new(FailureClass::Infrastructure, "Stopped", "the runner was stopped, but not by the operator")
        }
        Some(ExitCode::Failed(class)) => Failure::new(class, "Failed", format!("exit code {}", end.exit_code)),
        None if end.exit_code == 137 => {
            Failure::new(FailureClass::Infrastructure, "Killed", "the runner was killed by signal 9")
        }
        None if end.reason == "ContainerStatusUnknown" => {
            Failure::new(FailureClass::Infrastructure, "Unknown", "the kubelet does not know how the runner ended")
        }
        None if end.exit_code == 128 || end.reason == "StartError" => {
            Failure::new(FailureClass::Placement, "StartError", "the container could not be started")
        }
        None => Failure::new(
            FailureClass::Internal,
            "Crashed",
            format!("the runner ended with exit code {} ({})", end.exit_code, end.reason),
        ),
    })
}

/// Why a pod as a whole is over, if that is a failure.
pub fn of_pod(pod: &PodFacts) -> Option<Failure> {
    if let Some(end) = &pod.last_end
        && let Some(failure) = of_end(end, pod.deleting)
        && !matches!(pod.over, Some(Over::Failed(ref said)) if !said.reason.is_empty())
    {
        return Some(failure);
    }
    match &pod.over {
        Some(Over::Failed(said)) => {
            let reason = if said.reason.is_empty() { "PodFailed" } else { said.reason.as_str() };
            Some(Failure::new(FailureClass::Infrastructure, reason, said.message.clone()))
        }
        _ => None,
    }
}

/// Why a pod's runner does not run although nothing of it has failed: no node, no image, no container. `age` is the pod's.
pub fn of_placement(pod: &PodFacts, age: Duration) -> Option<Failure> {
    if let Some((said, _)) = &pod.unscheduled {
        return Some(Failure::new(FailureClass::Placement, &said.reason, said.message.clone()));
    }
    let said = pod.waiting.as_ref()?;
    let is_problem = match said.reason.as_str() {
        "ErrImagePull" | "ImagePullBackOff" => age >= IMAGE_DEADLINE / 3,
        "InvalidImageName" | "ErrImageNeverPull" | "ImageInspectError" | "RegistryUnavailable" => true,
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "PreCreateHookError" => true,
        _ => false,
    };
    is_problem.then(|| Failure::new(FailureClass::Placement, &said.reason, said.message.clone()))
}

/// Whether a pod that waits for its image has waited so long that another one may fare better: the kubelet asks a pod's
/// image less and less often.
pub fn is_image_overdue(said: &Said, age: Duration) -> bool {
    let waits = matches!(said.reason.as_str(), "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull");
    waits && age >= IMAGE_DEADLINE
}

/// How long to wait before a runner is started again after its `retries`-th failure in a row. `chance`, in 0 to 1, spreads
/// runners that failed together.
pub fn pause(class: FailureClass, retries: u32, policy: &Restart, chance: f64) -> Duration {
    let doubled = || {
        let exponent = retries.saturating_sub(1).min(30);
        policy.initial_backoff.saturating_mul(1 << exponent).min(policy.max_backoff)
    };
    let pause = match class {
        FailureClass::User => return USER_RETRY,
        FailureClass::External | FailureClass::Placement => return EXTERNAL_RETRY,
        FailureClass::Infrastructure if retries <= 1 => return Duration::ZERO,
        FailureClass::Infrastructure | FailureClass::Data | FailureClass::Internal => doubled(),
    };
    pause.mul_f64(0.75 + 0.25 * chance.clamp(0.0, 1.0))
}

/// Whether failures of a class count against `restart.maxRetries`: those that waiting does not mend.
pub fn counts(class: FailureClass) -> bool {
    !matches!(class, FailureClass::External | FailureClass::Placement | FailureClass::User)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::Timestamp;
    use millrace_crds::contract::TerminationMessage;

    use super::*;

    fn end(exit_code: i32, reason: &str, message: Option<TerminationMessage>) -> End {
        End { exit_code, reason: reason.to_owned(), finished: Timestamp::UNIX_EPOCH, message }
    }

    fn class(exit_code: i32, reason: &str) -> (FailureClass, String) {
        let failure = of_end(&end(exit_code, reason, None), false).unwrap();
        (failure.class, failure.reason)
    }

    #[test]
    fn the_class_is_what_the_runner_said_or_else_what_its_exit_code_says() {
        let said = TerminationMessage {
            class: Some(FailureClass::User),
            reason: "TopicMissing".into(),
            ..TerminationMessage::default()
        };
        let failure = of_end(&end(64, "Error", Some(said)), false).unwrap();
        assert_eq!((failure.class, failure.reason.as_str()), (FailureClass::User, "TopicMissing"));
        assert_eq!(class(65, "Error").0, FailureClass::Data);
        assert_eq!(class(137, "OOMKilled"), (FailureClass::Infrastructure, "OOMKilled".to_owned()));
        assert_eq!(class(137, "Error"), (FailureClass::Infrastructure, "Killed".to_owned()));
        assert_eq!(class(101, "Error"), (FailureClass::Internal, "Crashed".to_owned()));
        assert_eq!(class(0, "Completed"), (FailureClass::Internal, "NoTerminationMessage".to_owned()));
    }

    #[test]
    fn what_was_asked_for_is_no_failure() {
        let done = TerminationMessage { completed: true, ..TerminationMessage::default() };
        assert_eq!(of_end(&end(0, "Completed", Some(done)), false), None);
        assert_eq!(of_end(&end(143, "Error", None), true), None);
        assert!(of_end(&end(143, "Error", None), false).is_some());
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_the_first_loss_of_a_node_costs_none() {
        let policy = Restart {
            max_retries: None,
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(300),
        };
        let pause = |class, retries| pause(class, retries, &policy, 1.0).as_secs();
        assert_eq!([1, 2, 3, 9, 10, 99].map(|n| pause(FailureClass::Internal, n)), [1, 2, 4, 256, 300, 300]);
        assert_eq!([1, 2, 3].map(|n| pause(FailureClass::Infrastructure, n)), [0, 2, 4]);
        assert_eq!(pause(FailureClass::User, 7), 45);
        assert_eq!(pause(FailureClass::External, 7), 5);
    }
}
