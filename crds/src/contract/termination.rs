//! The termination message: why a runner ended, as the kubelet hands it to the operator.

use serde::{Deserialize, Serialize};

use super::FailureClass;
use super::exit::known_class;

/// The kubelet cuts a termination message after this many bytes.
pub const MAX_TERMINATION_BYTES: usize = 4096;

/// Why a runner ended. [`to_json`](Self::to_json) fits into what the kubelet keeps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TerminationMessage {
    /// Whether a bounded job is complete: the one sign of completion that counts.
    pub completed: bool,
    /// Whose problem it is; absent after completion and after SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_class")]
    pub class: Option<FailureClass>,
    /// One word, in CamelCase.
    pub reason: String,
    /// What happened and what to do, for people.
    pub message: String,
    /// The incarnation that ended.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub incarnation: String,
    /// The revision it ran.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// The last lines of its log, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

impl TerminationMessage {
    /// JSON of at most [`MAX_TERMINATION_BYTES`] bytes: the oldest log lines go first, then the end of the message.
    pub fn to_json(&self) -> String {
        let mut cut = self.clone();
        cut.reason = head(&cut.reason, 200);
        cut.incarnation = head(&cut.incarnation, 100);
        cut.revision = head(&cut.revision, 100);
        loop {
            let json = serde_json::to_string(&cut).unwrap_or_default();
            if json.len() <= MAX_TERMINATION_BYTES {
                return json;
            }
            if !cut.log.is_empty() {
                cut.log.remove(0);
                continue;
            }
            // One byte of text is at most six bytes of JSON (an escaped control character), so this ends.
            let excess = json.len() - MAX_TERMINATION_BYTES;
            let keep = cut.message.len().saturating_sub(excess.div_ceil(6) + 4);
            cut.message = head(&cut.message, keep);
        }
    }

    /// Reads what the kubelet kept. `None` if it is no message of ours, for instance the log that the kubelet falls back to.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text.trim()).ok()
    }
}

/// The first `bytes` bytes of a text, ending at a character; marked where something was cut off.
fn head(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let mut end = bytes;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_short_message_is_kept_whole() {
        let message = TerminationMessage {
            class: Some(FailureClass::User),
            reason: "TopicMissing".into(),
            message: "topic `metrics` is not on kafka:9092".into(),
            log: vec!["one".into(), "two".into()],
            ..TerminationMessage::default()
        };
        assert_eq!(TerminationMessage::from_json(&message.to_json()).unwrap(), message);
    }

    #[test]
    fn the_oldest_log_lines_are_given_up_first() {
        let message = TerminationMessage {
            message: "why".into(),
            log: (0..100).map(|n| format!("{n} {}", "x".repeat(100))).collect(),
            ..TerminationMessage::default()
        };
        let kept = TerminationMessage::from_json(&message.to_json()).unwrap();
        assert_eq!(kept.message, "why");
        assert_eq!(kept.log.last(), message.log.last());
        assert!(kept.log.len() > 30, "{} lines", kept.log.len());
    }

    #[test]
    fn what_is_not_ours_is_not_taken_for_a_message() {
        for text in ["", "thread 'main' panicked", "[]", "\"text\"", r#"{"level":"INFO"}"#] {
            assert_eq!(TerminationMessage::from_json(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_it_says_the_kubelet_keeps_all_of_it(
            reason in ".{0,300}", message in "(?s).{0,6000}", log in proptest::collection::vec("(?s).{0,400}", 0..20),
        ) {
            let json = TerminationMessage { reason, message, log, ..TerminationMessage::default() }.to_json();
            prop_assert!(json.len() <= MAX_TERMINATION_BYTES);
            prop_assert!(TerminationMessage::from_json(&json).is_some());
        }
    }
}
