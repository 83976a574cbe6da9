//! A savepoint that the operator asks the runners for: a name for the point that the log is at.

use millrace_joblog::decide::{self, SavepointDecision};
use millrace_joblog::limits::MAX_SAVEPOINTS;
use millrace_joblog::log::Compose;

use super::append::Reply;
use super::{Committer, Verdict};
use crate::failure::Failure;
use crate::ids::Task;

/// The longest name, as long as `startFrom.savepoint` may be.
const MAX_NAME: usize = 63;

/// Whether a text can name a savepoint.
///
/// # Errors
/// It cannot; says what can.
pub fn check_savepoint_name(name: &str) -> Result<(), Failure> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fits) {
        return Err(Failure::user(format!(
            "'{name}' cannot name a savepoint: use 1 to {MAX_NAME} letters, digits, dots, dashes and underscores"
        )));
    }
    Ok(())
}

impl Committer {
    /// Makes the savepoint that is asked for, if this process is the collector and the log has none of that name. A process
    /// sees to each name once: what cannot be made is said and left.
    ///
    /// # Errors
    /// What only the user or a fix can mend.
    pub async fn make_savepoint(&mut self, asked: Option<&str>) -> Result<Verdict, Failure> {
        let Some(name) = asked.filter(|name| self.savepoint_seen_to.as_deref() != Some(name)) else {
            return Ok(Verdict::Fine);
        };
        if !self.mine.contains(&Task::Collector) || self.is_held() {
            return Ok(Verdict::Fine);
        }
        let outcome = match check_savepoint_name(name) {
            Ok(()) => {
                let identity = self.identity.clone();
                let reply = self
                    .append(|view| {
                        let collects = view.fold.owns(&Task::Collector, identity.incarnation)
                            && view.term_of(&identity.revision).is_some()
                            && view.superseded().is_none()
                            && view.fold.held().is_none();
                        match collects.then(|| decide::savepoint(view, name)) {
                            Some(SavepointDecision::Propose(proposal)) => Compose::Propose(proposal),
                            other => Compose::Decline(other),
                        }
                    })
                    .await?;
                match reply {
                    Reply::Won(seq) => {
                        tracing::info!(name, record = %seq, "made the savepoint");
                        Ok(())
                    }
                    Reply::Declined(Some(SavepointDecision::TooMany)) => Err(format!(
                        "the job has {MAX_SAVEPOINTS} savepoints, as many as it may; delete one with `millrace log savepoint \
                         … --delete`"
                    )),
                    // There is one of that name.
                    Reply::Declined(Some(_)) => Ok(()),
                    // Another runner's to make, or a later look's.
                    Reply::Declined(None) => return Ok(Verdict::Fine),
                    Reply::Reopened => return Ok(Verdict::StartOver),
                }
            }
            Err(unusable) => Err(unusable.message),
        };
        if let Err(problem) = outcome {
            tracing::warn!(name, "the savepoint is not made: {problem}");
        }
        self.savepoint_seen_to = Some(name.to_owned());
        Ok(Verdict::Fine)
    }

    /// The savepoints in the log and the records that they name, by name.
    pub fn savepoints(&self) -> impl Iterator<Item = (&str, u64)> {
        self.fold().savepoints().iter().map(|(name, savepoint)| (name.as_str(), savepoint.seq.0))
    }
}
