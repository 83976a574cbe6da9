//! What becomes of the rows that an output has already, as a user says it.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use millrace_joblog::decide::Policy;

use crate::failure::Failure;
use crate::ids::OutputName;

/// Arguments of the commands that have rows read again.
#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    /// What becomes of the rows that an output has already: NAME=retract (by a rewind), NAME=newPath or NAME=duplicate.
    #[arg(long = "output", value_name = "NAME=POLICY", value_parser = parse_policy)]
    outputs: Vec<(OutputName, Policy)>,
    /// Consent that this output will have rows twice (for NAME=duplicate).
    #[arg(long, value_name = "NAME")]
    yes_duplicate: Vec<String>,
}

impl PolicyArgs {
    /// The policy of each output, and the outputs that may have rows twice.
    pub(super) fn read(self) -> Result<(BTreeMap<OutputName, Policy>, BTreeSet<OutputName>), Failure> {
        let mut policies = BTreeMap::new();
        for (output, policy) in self.outputs {
            if policies.insert(output.clone(), policy).is_some_and(|other| other != policy) {
                return Err(Failure::user(format!("--output {output}: two policies for one output")));
            }
        }
        Ok((policies, self.yes_duplicate.into_iter().map(OutputName).collect()))
    }
}

fn parse_policy(text: &str) -> Result<(OutputName, Policy), String> {
    let expected = "write NAME=retract, NAME=newPath or NAME=duplicate";
    let (name, policy) = text.rsplit_once('=').ok_or(expected)?;
    let policy = match policy {
        "retract" => Policy::Retract,
        "newPath" => Policy::NewPath,
        "duplicate" => Policy::Duplicate,
        other => return Err(format!("there is no policy '{other}'; {expected}")),
    };
    if name.is_empty() {
        return Err(expected.to_owned());
    }
    Ok((OutputName(name.to_owned()), policy))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_and_mistakes_are_explained() {
        assert_eq!(parse_policy("orders.deadLetter=retract").unwrap(), ("orders.deadLetter".into(), Policy::Retract));
        assert!(parse_policy("orders=delete").unwrap_err().contains("retract, NAME=newPath"));
        assert!(parse_policy("orders").is_err() && parse_policy("=retract").is_err());
        let args = |policies: [Policy; 2]| PolicyArgs {
            outputs: policies.map(|policy| ("orders".into(), policy)).to_vec(),
            yes_duplicate: vec!["orders".to_owned()],
        };
        let (policies, duplicates) = args([Policy::Duplicate, Policy::Duplicate]).read().unwrap();
        assert_eq!(policies, [("orders".into(), Policy::Duplicate)].into());
        assert_eq!(duplicates, ["orders".into()].into());
        assert!(args([Policy::Duplicate, Policy::NewPath]).read().unwrap_err().message.contains("two policies"));
    }
}
