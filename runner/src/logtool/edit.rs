//! Single offsets moved by hand.

use std::collections::BTreeMap;
use std::fmt;

use millrace_joblog::decide::{EditDecision, edit};
use millrace_joblog::log::Compose;

use super::hold::hold_lost;
use super::{Reply, Session};
use crate::failure::Failure;
use crate::ids::{Offset, Partition, Seq};

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
    pub async fn preview_edit(&mut self, offsets: &BTreeMap<Partition, Offset>) -> Result<Vec<Shifted>, Failure> {
        self.own()?;
        self.catch_up().await?;
        let mut shifted = Vec::new();
        for (partition, to) in offsets {
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
    /// As [`Session::preview_edit`]; the store's.
    pub async fn edit(&mut self, offsets: &BTreeMap<Partition, Offset>, reason: &str) -> Result<Option<Seq>, Failure> {
        self.while_held(reason, async |session| {
            session.finish_retractions().await?;
            session.drain().await?;
            let reply = session
                .append(|view| match edit(view, offsets) {
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
