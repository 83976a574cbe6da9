//! A command's hand on a job log: like a runner's, but it gives up on a store that stays away.

use std::path::Path;
use std::time::Duration;

use millrace_crds::contract::FailureClass;
use millrace_crds::{Job, Location};
use millrace_joblog::decide::View;
use millrace_joblog::fold::HomeState;
use millrace_joblog::log::Compose;
use millrace_joblog::{Appended, CaughtUp, Fold, JobLog, Limits, LogError};
use std::sync::Arc;
use tokio::time::sleep;

use super::files::Sinks;
use crate::assemble::{Checkpoint, open_checkpoint};
use crate::commit::log_failure;
use crate::env::{Backoff, Env, LogClock};
use crate::failure::Failure;
use crate::ids::{Incarnation, Seq};
use crate::storage::Stores;

/// How often a step is tried when the store fails; each try repeats its requests by itself.
const TRIES: u32 = 4;

/// A job log that a command opened.
pub struct Session {
    /// The manifest's job.
    pub job: Job,
    /// The stores of its locations.
    pub stores: Arc<Stores>,
    /// The checkpoint location as the log calls it: a URL or an absolute path.
    pub location: String,
    /// Opens the sinks of the folders that the log names.
    pub(super) sinks: Arc<dyn Sinks>,
    pub(super) log: JobLog,
    pub(super) env: Env,
    incarnation: Incarnation,
}

/// What came of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<D> {
    /// The record is part of the log, at this slot.
    Won(Seq),
    /// Nothing was written, for this reason.
    Declined(D),
}

impl Session {
    /// Opens the log of a job that has one.
    ///
    /// # Errors
    /// There is none at the manifest's checkpoint location; the store is away, or its credentials are wrong.
    pub async fn open(job: Job, secrets_dir: &Path, env: Env) -> Result<Self, Failure> {
        let session = Self::open_any(job, secrets_dir, env).await?;
        if session.fold().home().is_none() {
            return Err(nothing_at(&session.location));
        }
        Ok(session)
    }

    /// Opens the log of a job, which may be empty.
    ///
    /// # Errors
    /// As [`Session::open`], except that a log without records is none.
    pub async fn open_any(job: Job, secrets_dir: &Path, env: Env) -> Result<Self, Failure> {
        // Opening a local store creates its folder, which a mistyped path must not.
        if let Location::Local(path) = &job.checkpoint
            && !path.is_dir()
        {
            return Err(nothing_at(&path.display().to_string()));
        }
        let stores = Arc::new(Stores::new(job.storage.clone(), Some(secrets_dir.to_owned())));
        let Checkpoint { store, shown } = open_checkpoint(&stores, &job.checkpoint)?;
        let incarnation = Incarnation(env.uuid());
        let log = JobLog::open(store, Arc::new(LogClock(env.clone())), incarnation, Limits::STANDARD)
            .await
            .map_err(|error| log_failure(&error))?;
        let sinks = Arc::clone(&stores) as Arc<dyn Sinks>;
        Ok(Self { job, stores, location: shown, sinks, log, env, incarnation })
    }

    /// A command's hand on a log that was opened elsewhere, as `incarnation`, and that names its folders in a way that
    /// `sinks` understands: for a world that is not made of the manifest's stores.
    pub fn on(
        (job, location): (Job, String),
        (log, incarnation): (JobLog, Incarnation),
        sinks: Arc<dyn Sinks>,
        env: Env,
    ) -> Self {
        let stores = Arc::new(Stores::new(job.storage.clone(), None));
        Self { job, stores, location, sinks, log, env, incarnation }
    }

    /// The log as far as this command knows it.
    pub fn fold(&self) -> &Fold {
        self.log.fold()
    }

    /// This command, as a writer.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Whose log it is, if it is this location's own and not a copy: nobody may change a copy, for what it names (files
    /// to delete, say) belongs to the original.
    ///
    /// # Errors
    /// It is a copy.
    pub fn own(&self) -> Result<&HomeState, Failure> {
        let home = self.fold().home().ok_or_else(|| nothing_at(&self.location))?;
        if home.location == self.location {
            return Ok(home);
        }
        Err(Failure::user(format!(
            "the job log at {} is a copy of the one at {}: change that one, or run the job here once with --take-over \
             (the original stops) or --fork (a new job) before changing this one",
            self.location, home.location
        )))
    }

    /// Appends what `compose` proposes.
    ///
    /// # Errors
    /// The store stays away: whether the record is part of the log is then unknown, and the command may be run again.
    pub async fn append<D>(&mut self, mut compose: impl FnMut(&View<'_>) -> Compose<D>) -> Result<Reply<D>, Failure> {
        let mut patience = Patience::new();
        // Whether this call composed a record. Until then one that is in flight is another's, which its caller gave up on.
        let mut composed = false;
        loop {
            let mut compose = |view: &View<'_>| {
                let composition = compose(view);
                composed |= matches!(composition, Compose::Propose(_));
                composition
            };
            match self.log.append(&mut compose).await {
                Ok(Appended::Won(won)) => return Ok(Reply::Won(won.seq())),
                Ok(Appended::Earlier(won)) if composed => return Ok(Reply::Won(won.seq())),
                Ok(Appended::Earlier(_)) => {}
                Ok(Appended::Declined(reason)) => return Ok(Reply::Declined(reason)),
                Ok(Appended::Void) => match self.log.reopen().await {
                    Ok(Some(won)) if composed => return Ok(Reply::Won(won.seq())),
                    Ok(_) => {}
                    Err(error) => patience.wait(&self.env, error).await?,
                },
                Err(error) => patience.wait(&self.env, error).await?,
            }
        }
    }

    /// Reads what others wrote, and makes sure that there is no more: a command that was paused may see an end where slots
    /// were deleted, and must not act on what is missing from there on.
    ///
    /// # Errors
    /// The store stays away.
    pub async fn catch_up(&mut self) -> Result<(), Failure> {
        let mut patience = Patience::new();
        loop {
            match self.log.catch_up().await {
                Ok(CaughtUp::Earlier(_)) => continue,
                Ok(CaughtUp::Tail { .. }) => match self.log.confirm().await {
                    Ok(true) => return Ok(()),
                    Ok(false) => {}
                    Err(error) => {
                        patience.wait(&self.env, error).await?;
                        continue;
                    }
                },
                Ok(CaughtUp::Void) => {}
                Err(error) => {
                    patience.wait(&self.env, error).await?;
                    continue;
                }
            }
            if let Err(error) = self.log.reopen().await {
                patience.wait(&self.env, error).await?;
            }
        }
    }

    /// The records from `from` up to and without `to`, as far as the log goes.
    ///
    /// # Errors
    /// They are deleted, or the store stays away.
    pub async fn records(&mut self, from: Seq, to: Seq) -> Result<Vec<(Seq, millrace_joblog::record::Slot)>, Failure> {
        self.log.records_between(from, to).await.map_err(|error| log_failure(&error))
    }

    /// The first record that is kept.
    pub fn earliest(&self) -> Seq {
        self.fold().truncated_below()
    }
}

/// How long a command waits for a store.
struct Patience {
    left: u32,
    backoff: Backoff,
}

impl Patience {
    fn new() -> Self {
        Self { left: TRIES, backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(2)) }
    }

    async fn wait(&mut self, env: &Env, error: LogError) -> Result<(), Failure> {
        self.left -= 1;
        if self.left == 0 || !error.is_transient() {
            return Err(log_failure(&error));
        }
        sleep(self.backoff.next(env)).await;
        Ok(())
    }
}

fn nothing_at(location: &str) -> Failure {
    Failure::new(
        FailureClass::User,
        "NoJobLog",
        format!("there is no job log at {location}: the job has not run yet, or checkpoint.location is another"),
    )
}
