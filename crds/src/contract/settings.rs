//! What the operator may change of a runner while it runs.

use serde::{Deserialize, Serialize};

/// Settings that need no restart. What is absent is as it was when the runner began.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunnerSettings {
    /// Which log lines are written, as `level` or `target=level,…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<String>,
    /// How long the runner may go without progress before it no longer counts as ready, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_deadline_seconds: Option<u64>,
    /// The name of a savepoint that there is to be: made if there is none of that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<String>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_is_pinned_and_grows_by_fields_that_are_ignored() {
        let settings = RunnerSettings {
            log_level: Some("debug".into()),
            progress_deadline_seconds: Some(120),
            savepoint: Some("before-fix".into()),
        };
        let text = r#"{"logLevel":"debug","progressDeadlineSeconds":120,"savepoint":"before-fix"}"#;
        assert_eq!(serde_json::to_string(&settings).unwrap(), text);
        assert_eq!(serde_json::from_str::<RunnerSettings>(text).unwrap(), settings);
        let newer = r#"{"newer":1}"#;
        assert_eq!(serde_json::from_str::<RunnerSettings>(newer).unwrap(), RunnerSettings::default());
    }
}
