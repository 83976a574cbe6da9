//! The reference of every field, generated from the schema so that it cannot say anything else.

use serde_json::Value;

/// The reference page, the way it is checked in.
pub fn reference_markdown() -> String {
    let schema = crate::crd::schema();
    let mut page = String::from(
        "# StreamingJob, field by field\n\n\
         Generated from `crds/src/spec`; regenerate with `cargo run -p millrace-crds --example crd -- --write`.\n\n\
         `kubectl explain streamingjob.spec` shows the same. Fields in bold are required.\n",
    );
    for (title, part) in [("What is written: `spec`", "spec"), ("What is reported: `status`", "status")] {
        page.push_str(&format!("\n## {title}\n\n| field | type | meaning |\n|---|---|---|\n"));
        rows(&schema["properties"][part], "", &mut page);
    }
    page
}

/// A row for every field of an object, then for what is in it. What is Kubernetes' own is not repeated here.
fn rows(object: &Value, at: &str, page: &mut String) {
    for (name, field) in object["properties"].as_object().into_iter().flatten() {
        let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        let required = object["required"].as_array().is_some_and(|names| names.contains(&Value::from(name.as_str())));
        let shown = if required { format!("**`{path}`**") } else { format!("`{path}`") };
        let description = field["description"].as_str().unwrap_or_default().replace('|', "\\|");
        page.push_str(&format!("| {shown} | {} | {description} |\n", type_of(field)));
        let kubernetes_own =
            ["runner.env", "runner.resources", "runner.tolerations", "runner.imagePullSecrets", "conditions"];
        if kubernetes_own.contains(&path.as_str()) {
            continue;
        }
        match field["type"].as_str() {
            Some("array") => rows(&field["items"], &format!("{path}[]"), page),
            _ => rows(field, &path, page),
        }
    }
}

fn type_of(field: &Value) -> String {
    if field["x-kubernetes-int-or-string"] == true {
        return "quantity".to_owned();
    }
    if let Some(values) = field["enum"].as_array() {
        return values
            .iter()
            .filter_map(Value::as_str)
            .map(|value| format!("`{value}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    match field["type"].as_str() {
        Some("array") => format!("list of {}", type_of(&field["items"])),
        Some("object") if field["additionalProperties"].is_object() => "map of text".to_owned(),
        Some("string") if field["pattern"] == crate::spec::DURATION_PATTERN => "duration".to_owned(),
        Some("string") if field["format"] == "date-time" => "RFC 3339 instant".to_owned(),
        Some("string") => "text".to_owned(),
        Some(other) => other.to_owned(),
        None => "any".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checked_in_reference_is_the_generated_one() {
        let checked_in = include_str!("../../docs/reference/streamingjob.md");
        let fix = "regenerate it with: cargo run -p millrace-crds --example crd -- --write";
        assert_eq!(checked_in, reference_markdown(), "docs/reference/streamingjob.md is out of date; {fix}");
    }
}
