//! What `millrace explain` prints of the queries.

use std::fmt::Write;

use datafusion::physical_plan::displayable;
use millrace_crds::OutputMode;

use super::{Plan, PlannedOutput, PlannedQuery, PlannedSource};

pub(super) fn explain(plan: &Plan) -> String {
    let mut text = String::new();
    for (name, source) in &plan.sources {
        // Writing to a string cannot fail.
        writeln!(text, "source {name}: decodes {}", needed(source)).ok();
    }
    for output in &plan.outputs {
        explain_output(output, &mut text);
    }
    text
}

fn needed(source: &PlannedSource) -> String {
    let all = source.schema.fields().len();
    if source.needed.is_empty() {
        return format!("nothing: no query reads it ({all} columns)");
    }
    let names: Vec<&str> = source.needed.iter().map(|at| source.schema.field(*at).name().as_str()).collect();
    format!("{} of {all} columns: {}", names.len(), names.join(", "))
}

fn explain_output(output: &PlannedOutput, text: &mut String) {
    let mode = match output.mode {
        OutputMode::Append => "append",
        OutputMode::Update => "update",
        OutputMode::Complete => "complete",
    };
    let mut sources: Vec<&str> = output.query.scans().iter().map(|scan| scan.source.as_ref()).collect();
    sources.sort_unstable();
    sources.dedup();
    let sources = sources.join(", ");
    let (stages, state, physical) = match &output.query {
        PlannedQuery::PerBatch(query) => (
            format!("{sources} → decode → query, on each micro-batch → sink"),
            "none",
            displayable(query.plan().as_ref()).indent(false).to_string(),
        ),
        PlannedQuery::Whole(query) => (
            format!("{sources} → decode → query, once over the whole read → sink at its end"),
            "in memory while it runs, none between runs",
            displayable(query.plan().as_ref()).indent(false).to_string(),
        ),
    };
    let columns: Vec<String> =
        output.schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    writeln!(text, "\noutput {} ({mode})", output.name).ok();
    writeln!(text, "  stages: {stages}").ok();
    writeln!(text, "  state: {state}").ok();
    writeln!(text, "  columns: {}", columns.join(", ")).ok();
    writeln!(text, "  logical plan:\n{}", indent(&output.logical)).ok();
    writeln!(text, "  physical plan:\n{}", indent(&physical)).ok();
}

fn indent(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
