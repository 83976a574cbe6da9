//! The user's pod template, merged over the generated one.

use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Map, Value};

/// A pod template of the user's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overlay(Option<PodTemplateSpec>);

/// Why a pod template is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OverlayError {
    /// A value of the wrong type.
    #[error("spec.runner.podTemplate: {0}; compare it with `kubectl explain podtemplate.template`")]
    Shape(String),
    /// Fields that no pod template has.
    #[error("spec.runner.podTemplate: unknown field {}; compare it with `kubectl explain podtemplate.template`", .0.join(", "))]
    Unknown(Vec<String>),
}

impl Overlay {
    /// Reads what the user wrote.
    ///
    /// # Errors
    /// It is no pod template.
    pub fn parse(written: Option<&Map<String, Value>>) -> Result<Self, OverlayError> {
        let Some(written) = written else { return Ok(Self::default()) };
        let value = Value::Object(written.clone());
        let template: PodTemplateSpec =
            serde_json::from_value(value.clone()).map_err(|error| OverlayError::Shape(error.to_string()))?;
        // What the types do not know is gone after a round trip.
        let understood = serde_json::to_value(&template).map_err(|error| OverlayError::Shape(error.to_string()))?;
        let mut unknown = Vec::new();
        lost(&value, &understood, "", &mut unknown);
        if !unknown.is_empty() {
            return Err(OverlayError::Unknown(unknown));
        }
        Ok(Self(Some(template)))
    }

    /// Merges it over a template: maps by key, lists by the key that Kubernetes merges them by (containers by name).
    pub fn apply(&self, template: &mut PodTemplateSpec) {
        if let Some(overlay) = &self.0 {
            template.merge_from(overlay.clone());
        }
    }
}

/// The paths of `written` that are not in `understood`. Null and empty values say nothing and may be left out.
fn lost(written: &Value, understood: &Value, at: &str, unknown: &mut Vec<String>) {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => {
            for (name, value) in written {
                let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                let says_nothing = value.is_null()
                    || value.as_object().is_some_and(Map::is_empty)
                    || value.as_array().is_some_and(Vec::is_empty);
                match understood.get(name) {
                    Some(inner) => lost(value, inner, &at, unknown),
                    None if says_nothing => {}
                    None => unknown.push(at),
                }
            }
        }
        (Value::Array(written), Value::Array(understood)) => {
            for (index, (written, understood)) in written.iter().zip(understood).enumerate() {
                lost(written, understood, &format!("{at}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}
