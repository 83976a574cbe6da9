//! Upkeep: snapshots and the job log's dead slots, and staged objects that nobody will ever refer to.

use millrace_joblog::log::Maintained;
use millrace_joblog::staged::is_dead;

use super::Committer;
use crate::failpoint::Failpoint;
use crate::failure::Failure;
use crate::ids::Task;

impl Committer {
    /// Does the upkeep that is due, if this process is the collector. A store that fails makes it wait for the next
    /// time.
    ///
    /// # Errors
    /// The log is damaged.
    pub(super) async fn maintain(&mut self) -> Result<(), Failure> {
        match self.log.maintain().await {
            Ok(Maintained::Done { snapshot: Some(seq), .. }) => {
                tracing::debug!(%seq, "wrote a snapshot of the job log");
                self.env.failpoints.reach(Failpoint::Snapshotted).await;
                self.collect().await;
                Ok(())
            }
            // A void log is noticed and opened anew at the next look.
            Ok(_) => Ok(()),
            Err(error) if error.is_transient() => {
                tracing::debug!(%error, "upkeep of the job log waits");
                Ok(())
            }
            Err(error) => Err(super::append::log_failure(&error)),
        }
    }

    /// Removes dead staged objects of every output. To be called when the log is known to be real: after a claim, a
    /// commit or a snapshot.
    pub(super) async fn collect(&mut self) {
        if !self.fold().owns(&Task::Collector, self.identity.incarnation) {
            return;
        }
        let Some(job) = self.fold().home().map(|home| home.job.to_string()) else { return };
        for (index, output) in self.outputs.iter().enumerate() {
            let Some((sink, _)) = output.files() else { continue };
            match sink.list_staged(&job).await {
                Ok(staged) => {
                    let dead: Vec<String> = staged.into_iter().filter(|path| is_dead(path, self.fold())).collect();
                    if !dead.is_empty() {
                        tracing::info!(
                            output = output.name,
                            objects = dead.len(),
                            "removing staged objects of dead claims"
                        );
                        self.discard(index, &dead).await;
                    }
                }
                Err(error) => tracing::debug!(%error, "staged objects are not collected this time"),
            }
        }
    }
}
