//! Single offsets moved by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use millrace_joblog::decide::{EditDecision, Policy, edit};
use millrace_joblog::log::Compose;

use super::hold::hold_lost;
use super::rewind::no_consent;
use super::{Reply, Session};
use crate::failure::Failure;
use crate::ids::{Offset, OutputName, Partition, Seq};

/// An edit that a user wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    /// Where partitions go on.
    pub offsets: BTreeMap<Partition, Offset>,
    /// What becomes of the rows that each output has already, if some are read again.
    pub policies: BTreeMap<OutputName, Policy>,
    /// The outputs whose rows may be there twice afterwards: the user typed their names.
    pub duplicates: BTreeSet<OutputName>,
}

/// What an edit does to one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shifted {
    /// The partition.
    pub partition: Partition,
    /// Where it stands.
    pub from: Offset,
    /// Where it will stand.
    pub to: Offset,
}

impl Session {
    /// What the edit would do to the log as it is now; partitions that stand there already are left out.
    ///
    /// # Errors
    /// A partition that the log does not know; an offset below 0.
    pub async fn preview_edit(&mut self, wanted: &Edit) -> Result<Vec<Shifted>, Failure> {
        self.own()?;
        self.catch_up().await?;
        self.shifts(wanted)
    }

    /// Checks that every output that gets rows again has a policy that can be followed.
    ///
    /// # Errors
    /// One has none; it is `retract`; it is `duplicate` without consent; an output is unknown.
    pub fn check_policies(&self, wanted: &Edit, shifted: &[Shifted]) -> Result<(), Failure> {
        let outputs = self.fold().outputs();
        let mut named = wanted.policies.keys().chain(&wanted.duplicates);
        if let Some(unknown) = named.find(|output| !outputs.contains_key(*output)) {
            let known: Vec<&str> = outputs.keys().map(OutputName::as_str).collect();
            return Err(Failure::user(format!("the job has no output '{unknown}'; it has {}", known.join(", "))));
        }
        if shifted.iter().all(|shift| shift.to > shift.from) {
            return Ok(());
        }
        let mut missing = BTreeSet::new();
        for output in outputs.keys() {
            match wanted.policies.get(output) {
                None => {
                    missing.insert(output.clone());
                }
                Some(Policy::Retract) => return Err(not_retractable(output)),
                Some(Policy::NewPath) => self.check_new_path(output)?,
                Some(Policy::Duplicate) if wanted.duplicates.contains(output) => {}
                Some(Policy::Duplicate) => return Err(no_consent(output)),
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(no_policy(&missing)) }
    }

    fn shifts(&self, wanted: &Edit) -> Result<Vec<Shifted>, Failure> {
        let mut shifted = Vec::new();
        for (partition, to) in &wanted.offsets {
            if to.0 < 0 {
                return Err(Failure::user(format!("{partition}={to}: an offset is 0 or higher")));
            }
            let Some(state) = self.fold().partition(partition) else { return Err(self.unknown(partition)) };
            if state.offset != *to {
                shifted.push(Shifted { partition: partition.clone(), from: state.offset, to: *to });
            }
        }
        Ok(shifted)
    }

    /// Moves the offsets: holds the log, publishes what is decided, and edits. `None` if every partition stands there.
    ///
    /// # Errors
    /// As [`Session::preview_edit`] and [`Session::check_policies`]; the store's.
    pub async fn edit(&mut self, wanted: &Edit, reason: &str) -> Result<Option<Seq>, Failure> {
        self.while_held(reason, async |session| {
            session.finish_retractions().await?;
            session.drain().await?;
            let shifted = session.shifts(wanted)?;
            session.check_policies(wanted, &shifted)?;
            let reply = session
                .append(|view| match edit(view, &wanted.offsets, &wanted.policies) {
                    EditDecision::Propose(proposal) => Compose::Propose(proposal),
                    other => Compose::Decline(other),
                })
                .await?;
            match reply {
                Reply::Won(seq) => Ok(Some(seq)),
                Reply::Declined(EditDecision::Nothing | EditDecision::Propose(_)) => Ok(None),
                Reply::Declined(EditDecision::Unknown { partitions }) => {
                    Err(partitions.first().map_or_else(hold_lost, |partition| session.unknown(partition)))
                }
                Reply::Declined(EditDecision::PolicyMissing { outputs }) => Err(no_policy(&outputs)),
                Reply::Declined(EditDecision::NotRetractable { outputs }) => {
                    Err(outputs.first().map_or_else(hold_lost, not_retractable))
                }
                Reply::Declined(EditDecision::NotHeld) => Err(hold_lost()),
                Reply::Declined(EditDecision::Drain { notes }) => {
                    Err(Failure::internal(format!("{} records are still not published", notes.len())))
                }
            }
        })
        .await
    }

    fn unknown(&self, partition: &Partition) -> Failure {
        let known: Vec<String> = self.fold().partitions().keys().map(Partition::to_string).collect();
        Failure::user(format!(
            "the job log does not know partition {partition}; it has {}. One that was never read starts where the \
             source's startingOffsets says",
            known.join(", ")
        ))
    }
}

impl fmt::Display for Shifted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, from, to } = self;
        let distance = from.0.abs_diff(to.0);
        let consequence = if to > from {
            "are skipped: their rows get into no table"
        } else {
            "are read again: their rows will be there twice"
        };
        write!(f, "{partition}  {from} → {to}  {distance} offset(s) {consequence}")
    }
}

fn no_policy(outputs: &BTreeSet<OutputName>) -> Failure {
    let outputs: Vec<&str> = outputs.iter().map(OutputName::as_str).collect();
    Failure::user(format!(
        "rows are read again that may be there already, in {}. Say what becomes of them, with --output NAME=newPath (the \
         output goes on under another path, already in the manifest) or NAME=duplicate; to take them back, use \
         `millrace log rewind`",
        outputs.join(", ")
    ))
}

fn not_retractable(output: &OutputName) -> Failure {
    Failure::user(format!(
        "--output {output}=retract: an edit cannot take rows back, because files hold rows of several partitions; use \
         `millrace log rewind`, or newPath, or duplicate"
    ))
}

/// Reads `SOURCE/TOPIC/PARTITION=OFFSET`.
///
/// # Errors
/// What was expected.
pub fn parse(text: &str) -> Result<(Partition, Offset), String> {
    let expected = || format!("'{text}' is not SOURCE/TOPIC/PARTITION=OFFSET, such as orders/commandes-json/0=1500");
    let (partition, offset) = text.rsplit_once('=').ok_or_else(expected)?;
    let partition = partition.parse().map_err(|_| expected())?;
    let offset = offset.parse().map_err(|_| expected())?;
    Ok((partition, Offset(offset)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_read_and_anything_else_is_explained() {
        let (partition, offset) = parse("orders/commandes-json/3=1500").unwrap();
        assert_eq!((partition, offset), (Partition::new("orders", "commandes-json", 3), Offset(1500)));
        for text in ["orders/t/0", "orders/t=5", "t/0=5", "orders/t/0=x", ""] {
            assert!(parse(text).unwrap_err().contains("SOURCE/TOPIC/PARTITION=OFFSET"), "{text}");
        }
    }

    #[test]
    fn an_edit_says_what_is_skipped_and_what_is_read_again() {
        let shifted = |from, to| {
            Shifted { partition: Partition::new("o", "t", 0), from: Offset(from), to: Offset(to) }.to_string()
        };
        assert_eq!(shifted(5, 8), "o/t/0  5 → 8  3 offset(s) are skipped: their rows get into no table");
        assert_eq!(shifted(8, 5), "o/t/0  8 → 5  3 offset(s) are read again: their rows will be there twice");
    }
}
