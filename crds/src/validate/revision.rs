//! The revision: a hash of what the user wrote.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::spec::StreamingJobSpec;

/// Fields that change how much or how patiently the work is done, not what is done.
pub(crate) const POLICIES: [&str; 5] =
    ["parallelism", "suspend", "restart", "progressDeadline", "ttlSecondsAfterFinished"];

/// Hexadecimal digits of a revision: enough to tell the revisions of one job apart, short enough for a label.
const DIGITS: usize = 16;

/// Hash of a spec without its policies. Neither the order of fields nor the spelling of YAML counts; what is not written
/// does not count either, so that a later version's new fields change no revision.
pub(super) fn revision(spec: &StreamingJobSpec) -> String {
    let mut value = serde_json::to_value(spec).unwrap_or(Value::Null);
    if let Value::Object(fields) = &mut value {
        for policy in POLICIES {
            fields.remove(policy);
        }
    }
    let mut canonical = String::new();
    write_sorted(&value, &mut canonical);
    let hash = Sha256::digest(canonical.as_bytes());
    let mut hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(DIGITS);
    hex
}

/// JSON without white space, fields sorted by name.
fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            out.push('{');
            for (index, (name, value)) in fields.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write_sorted(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_sorted(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}
