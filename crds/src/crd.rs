//! The custom resource definition, as it is checked in and installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_core::CustomResourceExt;
use serde_json::{Value, json};

use crate::job::MAX_JOB_NAME;
use crate::spec::StreamingJob;

/// The one default in a spec's schema: the scale subresource and disruption budgets read `spec.parallelism` before anyone else.
const PARALLELISM: &str = "parallelism";

/// The definition of StreamingJob that is installed in a cluster.
pub fn crd() -> CustomResourceDefinition {
    let mut crd = StreamingJob::crd();
    for version in &mut crd.spec.versions {
        let Some(validation) = &mut version.schema else { continue };
        let Some(schema) = &mut validation.open_api_v3_schema else { continue };
        let Ok(mut value) = serde_json::to_value(&*schema) else { continue };
        tidy(&mut value, "");
        name_rules(&mut value);
        nothing_observed(&mut value);
        if let Ok(tidied) = serde_json::from_value(value) {
            *schema = tidied;
        }
    }
    crd
}

/// The definition as YAML, the way it is checked in.
pub fn crd_yaml() -> Result<String, serde_saphyr::ser_error::Error> {
    let header =
        "# Generated from crds/src/spec; regenerate with: cargo run -p millrace-crds --example crd -- --write\n";
    let mut value = serde_json::to_value(crd()).unwrap_or(Value::Null);
    whole_numbers(&mut value);
    let body = serde_saphyr::to_string(&value)?;
    Ok(format!("{header}{body}"))
}

/// The schema of a whole StreamingJob, by which manifests are checked on the command line.
pub(crate) fn schema() -> Value {
    crd()
        .spec
        .versions
        .into_iter()
        .find_map(|version| version.schema?.open_api_v3_schema)
        .and_then(|schema| serde_json::to_value(schema).ok())
        .unwrap_or(Value::Null)
}

/// Takes out of a schema what the derive adds and an API server or a reader is better without: `nullable` (an empty field
/// is a mistake here, and would count as given in the rules), defaults, machine formats, and long quoted descriptions.
fn tidy(schema: &mut Value, name: &str) {
    let Value::Object(object) = schema else { return };
    object.remove("nullable");
    if name != PARALLELISM {
        object.remove("default");
    }
    let format = object.get("format").and_then(Value::as_str);
    if format.is_some_and(|format| format.starts_with("uint")) {
        object.remove("format");
    }
    if let Some(Value::String(description)) = object.get_mut("description") {
        let first = description.split("\n\n").next().unwrap_or_default();
        *description = first.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        for (name, property) in properties {
            tidy(property, name);
        }
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(inner) {
            tidy(inner, "");
        }
    }
}

/// Bounds are floating point in the schema's type; written as whole numbers they are as a person would write them.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(float) = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0) {
                *value = Value::from(float as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(object) => object.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

/// Adds the rules on the object's name, which the derive has no place for.
fn name_rules(schema: &mut Value) {
    let rules = json!([
        {
            "rule": format!("self.metadata.name.size() <= {MAX_JOB_NAME}"),
            "message": format!("a job's name has at most {MAX_JOB_NAME} characters, so that its pods can carry it"),
        },
        { "rule": "!self.metadata.name.contains('.')", "message": "a job's name has no dots" },
    ]);
    if let Value::Object(root) = schema {
        root.insert("x-kubernetes-validations".to_owned(), rules);
    }
}

/// A status that nobody has written yet: tools that wait for a job take one without any for done.
fn nothing_observed(schema: &mut Value) {
    if let Some(Value::Object(status)) = schema.pointer_mut("/properties/status") {
        status.insert("default".to_owned(), json!({ "observedGeneration": -1 }));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Calls `visit` with every schema below this one and its path.
    fn walk(schema: &Value, at: &str, visit: &mut impl FnMut(&str, &Value)) {
        visit(at, schema);
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(property, &format!("{at}.{name}"), visit);
        }
        for inner in ["items", "additionalProperties"] {
            if schema[inner].is_object() {
                walk(&schema[inner], &format!("{at}[]"), visit);
            }
        }
    }

    /// Parts whose schema is Kubernetes' own.
    fn is_kubernetes_own(at: &str) -> bool {
        let own =
            [".spec.runner.env[]", ".spec.runner.resources", ".spec.runner.tolerations[]", ".status.conditions[]"];
        own.iter().any(|part| at.starts_with(part)) || at.starts_with(".spec.runner.imagePullSecrets[]")
    }

    #[test]
    fn the_checked_in_definition_is_the_generated_one() {
        let checked_in = include_str!("../streamingjobs.yaml");
        let fix = "regenerate it with: cargo run -p millrace-crds --example crd -- --write";
        assert_eq!(checked_in, crd_yaml().unwrap(), "crds/streamingjobs.yaml is out of date; {fix}");
    }

    #[test]
    fn the_checked_in_definition_reads_back() {
        let crd: CustomResourceDefinition = serde_saphyr::from_str(include_str!("../streamingjobs.yaml")).unwrap();
        assert_eq!(crd, super::crd());
    }

    #[test]
    fn the_schema_is_one_an_api_server_takes() {
        walk(&schema(), "", &mut |at, schema| {
            let schema = schema.as_object().unwrap();
            for keyword in ["anyOf", "oneOf", "allOf", "not", "$ref", "nullable", "uniqueItems", "patternProperties"] {
                assert!(!schema.contains_key(keyword), "{at} has {keyword}");
            }
            assert_ne!(schema.get("additionalProperties"), Some(&Value::Bool(false)), "{at}");
            assert!(
                schema.contains_key("type") || schema.contains_key("x-kubernetes-int-or-string"),
                "{at} has no type"
            );
            assert_eq!(schema.contains_key("default"), [".spec.parallelism", ".status"].contains(&at), "{at}");
        });
    }

    #[test]
    fn every_list_map_and_text_has_a_maximum() {
        walk(&schema(), "", &mut |at, schema| {
            if is_kubernetes_own(at) {
                return;
            }
            match schema["type"].as_str() {
                Some("array") => assert!(schema["maxItems"].is_u64(), "{at} has no maxItems"),
                Some("object") if schema["additionalProperties"].is_object() => {
                    assert!(schema["maxProperties"].is_u64(), "{at} has no maxProperties");
                }
                Some("string") if schema["enum"].is_null() => {
                    assert!(schema["maxLength"].is_u64(), "{at} has no maxLength");
                }
                _ => {}
            }
        });
    }

    #[test]
    fn every_field_is_described() {
        walk(&schema(), "", &mut |at, schema| {
            let described = schema["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(described || at.ends_with("[]") || is_kubernetes_own(at), "{at} has no description");
        });
    }

    #[test]
    fn lists_with_names_are_merged_by_name() {
        let schema = schema();
        for list in ["sources", "views", "outputs"] {
            let list = &schema["properties"]["spec"]["properties"][list];
            assert_eq!(list["x-kubernetes-list-type"], "map");
            assert_eq!(list["x-kubernetes-list-map-keys"], json!(["name"]));
        }
        let conditions = &schema["properties"]["status"]["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
    }
}
