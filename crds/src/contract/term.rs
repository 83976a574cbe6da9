//! The term that the operator asks the runners for.

use serde::{Deserialize, Serialize};

/// How the operator wants the work divided: it only prompts a runner to append the `Term` record; the log decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TermRequest {
    /// Grows with every request; the log refuses one that is not above every term before.
    pub generation: u64,
    /// The revision whose runners may write.
    pub revision: String,
    /// How many runners share the tasks.
    pub parallelism: u32,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_is_pinned() {
        let request = TermRequest { generation: 7, revision: "a1b2".into(), parallelism: 2 };
        let text = r#"{"generation":7,"revision":"a1b2","parallelism":2}"#;
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
        assert_eq!(serde_json::from_str::<TermRequest>(text).unwrap(), request);
    }
}
