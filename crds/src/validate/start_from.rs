//! The savepoint at which a spec begins.

use std::collections::BTreeMap;

use super::{Errors, Path};
use crate::job::{SincePolicy, StartFrom};
use crate::spec::{SincePolicySpec, StartFromSpec};

/// `Some(None)`: there is none.
pub(super) fn start_from(spec: Option<&StartFromSpec>, at: &Path, errors: &mut Errors) -> Option<Option<StartFrom>> {
    let Some(spec) = spec else { return Some(None) };
    let mut outputs = BTreeMap::new();
    let mut twice = false;
    for (at, output) in at.each("outputs", &spec.outputs) {
        let policy = match output.policy {
            SincePolicySpec::Retract => SincePolicy::Retract,
            SincePolicySpec::NewPath => SincePolicy::NewPath,
            SincePolicySpec::Duplicate => SincePolicy::Duplicate,
        };
        if outputs.insert(output.name.to_string(), policy).is_some() {
            errors.add(&at.field("name"), Some(&output.name), "named twice", "remove one of them");
            twice = true;
        }
    }
    let start = StartFrom { savepoint: spec.savepoint.to_string(), nonce: spec.nonce, outputs };
    (!twice).then_some(Some(start))
}
