//! A job goes back to an earlier point: what that would do, and doing it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use millrace_crds::{OnError, Sink as SinkSpec};
use millrace_joblog::decide::{Policy, RewindDecision, RewindRequest, WantedStart, rewind};
use millrace_joblog::fold::HoldState;
use millrace_joblog::history::{Past, since};
use millrace_joblog::limits::MAX_SLOT_BYTES;
use millrace_joblog::log::Compose;
use millrace_joblog::record::{Position, PublishedFile, RewindTarget};

use super::describe::time;
use super::files::Folders;
use super::hold::hold_lost;
use super::{Reply, Session};
use crate::failure::Failure;
use crate::ids::{Millis, Offset, OutputName, Partition, Seq};
use crate::output::dead_letter_output;

/// How often the past is read again because somebody wrote to the log meanwhile.
const LOOKS: u32 = 10;
/// Records read at once when one is searched by its time.
const WINDOW: u64 = 256;
/// How many files a message names.
const NAMED: usize = 5;
/// Bytes of a rewind's record that are left to the rest, when files fill it.
const REST: usize = 1024;

/// A point of the log as a user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// After that record.
    Record(Seq),
    /// The savepoint of that name.
    Savepoint(String),
    /// After the last record written at that time or before.
    Time(Millis),
}

/// A rewind that a user wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The point.
    pub target: Target,
    /// What becomes of the rows that each output got since.
    pub policies: BTreeMap<OutputName, Policy>,
    /// The outputs whose rows may be there twice afterwards: the user typed their names.
    pub duplicates: BTreeSet<OutputName>,
    /// The start that a spec asks for; `None` for a command.
    pub start: Option<WantedStart>,
}

/// What a rewind does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The record that the job goes back to.
    pub since: Seq,
    /// The record after the last one that is undone.
    pub next: Seq,
    /// How each partition moves.
    pub moves: BTreeMap<Partition, (Offset, Offset)>,
    /// Savepoints that are deleted, because what the tables held there is taken back.
    pub savepoints: Vec<String>,
    /// What becomes of each output that got rows since; with the files that are deleted.
    pub outputs: BTreeMap<OutputName, (Policy, Vec<PublishedFile>)>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewound {
    /// The slot of the rewind.
    pub seq: Seq,
    /// What it did.
    pub effect: Effect,
    /// Files deleted, also of earlier rewinds that were not finished.
    pub deleted: usize,
}

impl Session {
    /// What the rewind would do to the log as it is now. Checks all that can be checked before the job is stopped.
    ///
    /// # Errors
    /// There is no such point; an output got rows since and has no policy, or one that cannot be followed.
    pub async fn preview(&mut self, wanted: &Wanted) -> Result<Effect, Failure> {
        self.own()?;
        self.catch_up().await?;
        let request = self.request(wanted).await?;
        self.effect(wanted, &request).await
    }

    /// Rewinds the job: holds the log, publishes what is decided, checks the files to delete, decides (which lets the log
    /// go), and deletes them. Runners may run: they stop in between, and go on from the earlier point.
    ///
    /// # Errors
    /// As [`Session::preview`]; the store's. Whatever was done, running it again finishes it.
    pub async fn rewind(&mut self, wanted: &Wanted, reason: &str) -> Result<Rewound, Failure> {
        self.rewind_over(wanted, reason, |_| false).await
    }

    /// As [`Session::rewind`], also if another command holds the log whose hold is `over`.
    ///
    /// # Errors
    /// As [`Session::rewind`].
    pub(super) async fn rewind_over(
        &mut self,
        wanted: &Wanted,
        reason: &str,
        over: impl Fn(&HoldState) -> bool,
    ) -> Result<Rewound, Failure> {
        let target = self.resolve(&wanted.target).await?;
        // A time stands for one record, whatever is written while the log is being held.
        let wanted = &Wanted { target: fixed(&target), ..wanted.clone() };
        self.while_held_over(reason, over, async |session| session.rewind_held(wanted).await).await
    }

    async fn rewind_held(&mut self, wanted: &Wanted) -> Result<Rewound, Failure> {
        let mut deleted = self.finish_retractions().await?;
        self.drain().await?;
        for _ in 0..LOOKS {
            self.catch_up().await?;
            let request = self.request(wanted).await?;
            let effect = self.effect(wanted, &request).await?;
            let reply = self
                .append(|view| match rewind(view, &request) {
                    RewindDecision::Propose(proposal) => Compose::Propose(proposal),
                    other => Compose::Decline(other),
                })
                .await?;
            match reply {
                Reply::Won(seq) => {
                    deleted += self.finish_retractions().await?;
                    return Ok(Rewound { seq, effect, deleted });
                }
                // The second: somebody deleted it since it was looked up. The next look says so.
                Reply::Declined(RewindDecision::Moved | RewindDecision::NoSavepoint) => {}
                Reply::Declined(declined) => return Err(self.refused(declined)),
            }
        }
        Err(Failure::external("StoreContended", "others keep writing to the job log; run the command again"))
    }

    /// The target in the log's words.
    async fn resolve(&mut self, target: &Target) -> Result<RewindTarget, Failure> {
        match target {
            Target::Record(seq) if *seq >= self.fold().next() => Err(Failure::user(format!(
                "there is no record {seq} yet: the last one is {}",
                self.fold().next().previous().unwrap_or(Seq::ZERO)
            ))),
            Target::Record(seq) => Ok(RewindTarget::Seq(*seq)),
            Target::Savepoint(name) => Ok(RewindTarget::Savepoint(name.clone())),
            Target::Time(at) => self.record_at(*at).await.map(RewindTarget::Seq),
        }
    }

    /// The last record written at that time or before, by its writer's clock.
    async fn record_at(&mut self, at: Millis) -> Result<Seq, Failure> {
        let earliest = self.earliest();
        let mut end = self.fold().next();
        let mut oldest = None;
        while end > earliest {
            let from = Seq(end.0.saturating_sub(WINDOW).max(earliest.0));
            for (seq, slot) in self.records(from, end).await?.into_iter().rev() {
                let Some(entry) = slot.entries.first() else { continue };
                if entry.at <= at {
                    return Ok(seq);
                }
                oldest = Some(entry.at);
            }
            end = from;
        }
        let oldest =
            oldest.map(|oldest| format!("; the oldest record kept is of {}", time(oldest))).unwrap_or_default();
        Err(Failure::user(format!("the job log keeps no record as old as {}{oldest}", time(at))))
    }

    async fn request(&mut self, wanted: &Wanted) -> Result<RewindRequest, Failure> {
        let target = self.resolve(&wanted.target).await?;
        let after = since(self.fold(), &target).map_err(|error| Failure::user(error.to_string()))?.next();
        let next = self.fold().next();
        // Below what is kept only a savepoint reaches; then nothing says which files came since.
        let records = if after < self.earliest() { Vec::new() } else { self.records(after, next).await? };
        let past = Past::read(self.fold(), &target, &records).map_err(|error| Failure::user(error.to_string()))?;
        Ok(RewindRequest { target, past, policies: wanted.policies.clone(), start: wanted.start.clone() })
    }

    /// What the request does, if every output has a policy that can be followed.
    async fn effect(&mut self, wanted: &Wanted, request: &RewindRequest) -> Result<Effect, Failure> {
        let known: BTreeSet<&OutputName> =
            self.fold().outputs().keys().chain(self.fold().totals().rows_out.keys()).collect();
        if let Some(unknown) = wanted.policies.keys().chain(&wanted.duplicates).find(|output| !known.contains(output)) {
            let known: Vec<&str> = known.iter().map(|output| output.as_str()).collect();
            return Err(Failure::user(format!("the job has no output '{unknown}'; it has {}", known.join(", "))));
        }
        if let Some(by) = request.past.taken_back_by {
            return Err(taken_back(by));
        }
        if !request.past.recreated.is_empty() {
            return Err(recreated(&request.past.recreated));
        }
        let mut outputs = BTreeMap::new();
        let mut without = Vec::new();
        for output in request.past.affected_outputs(self.fold()) {
            let files = request.past.retractable(&output);
            match wanted.policies.get(&output) {
                None => without.push(describe_output(&output, files.as_deref())),
                Some(Policy::Retract) => {
                    let files = files.ok_or_else(|| not_retractable(&output))?;
                    outputs.insert(output, (Policy::Retract, files));
                }
                Some(Policy::NewPath) => {
                    self.check_new_path(&output)?;
                    outputs.insert(output, (Policy::NewPath, Vec::new()));
                }
                Some(Policy::Duplicate) if wanted.duplicates.contains(&output) => {
                    outputs.insert(output, (Policy::Duplicate, Vec::new()));
                }
                Some(Policy::Duplicate) => return Err(no_consent(&output)),
            }
        }
        if !without.is_empty() {
            let how = match wanted.start {
                None => "--output NAME=POLICY",
                Some(_) => "startFrom.outputs: [{name: NAME, policy: POLICY}]",
            };
            return Err(Failure::user(format!(
                "outputs got rows since that point: {}. Say what becomes of them, with {how}, where the policy is retract \
                 (delete exactly those files), newPath (the output goes on under another path, already in the manifest) or \
                 duplicate",
                without.join("; ")
            )));
        }
        check_size(&outputs, &request.past.positions)?;
        self.check_files(&outputs).await?;
        let moves = request.past.positions.iter().filter_map(|(partition, to)| {
            let from = self.fold().partition(partition)?.offset;
            Some((partition.clone(), (from, to.offset)))
        });
        let moves = moves.filter(|(_, (from, to))| from != to).collect();
        let since = since(self.fold(), &request.target).map_err(|error| Failure::user(error.to_string()))?;
        let takes_back = outputs.values().any(|(_, files)| !files.is_empty());
        let between = self.fold().savepoints().iter().filter(|(_, savepoint)| takes_back && savepoint.seq > since);
        let savepoints = between.map(|(name, _)| name.clone()).collect();
        Ok(Effect { since, next: self.fold().next(), moves, savepoints, outputs })
    }

    /// Every file that is to be deleted must be there, as it was published: else somebody compacted or deleted, and nobody
    /// can say where its rows are now.
    async fn check_files(&self, outputs: &BTreeMap<OutputName, (Policy, Vec<PublishedFile>)>) -> Result<(), Failure> {
        // What is decided and not published is checked once it is, while the log is held.
        let pending = self.fold().pending().values().flat_map(|outputs| outputs.values());
        let pending: BTreeSet<String> =
            pending.flat_map(|pending| pending.intents.staged().map(str::to_owned).collect::<Vec<_>>()).collect();
        let mut folders = Folders::new(&*self.sinks);
        for (output, (_, files)) in outputs {
            let files: Vec<PublishedFile> =
                files.iter().filter(|file| !pending.contains(&file.staged)).cloned().collect();
            let faults = folders.unretractable(output, &files).await?;
            if !faults.is_empty() {
                let more = faults.len().saturating_sub(NAMED);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let named: Vec<String> = faults.into_iter().take(NAMED).collect();
                return Err(Failure::user(format!(
                    "'{output}' cannot be retracted, because files are not as the job published them: {}{more}. Restore \
                     them, or use newPath, or duplicate and clean up by hand",
                    named.join("; ")
                )));
            }
        }
        Ok(())
    }

    /// `newPath` means that the manifest already has it: a runner with the old one would write the rows there once more.
    pub(super) fn check_new_path(&self, output: &OutputName) -> Result<(), Failure> {
        let Some(was) = self.fold().outputs().get(output) else { return Ok(()) };
        let declared = self.job.outputs.iter().find(|declared| declared.name == output.as_str());
        let path = match declared.map(|declared| &declared.sink) {
            Some(SinkSpec::Parquet(settings)) => Some(&settings.path),
            Some(SinkSpec::Console(_)) => None,
            None => self.job.sources.iter().find_map(|source| match &source.on_error {
                OnError::DeadLetter { path } if dead_letter_output(&source.name) == output.as_str() => Some(path),
                _ => None,
            }),
        };
        let Some(path) = path else { return Ok(()) };
        let now = self.stores.data_store(path).map_err(|fault| Failure::user(format!("{path}: {fault}")))?.shown;
        if now.trim_end_matches('/') != was {
            return Ok(());
        }
        Err(Failure::user(format!(
            "output {output}, newPath: the manifest still has the old path {was}; write the new one into it first, and \
             replace the runners with it afterwards (those with the old one wait)"
        )))
    }

    fn refused(&self, declined: RewindDecision) -> Failure {
        match declined {
            RewindDecision::NotHeld => hold_lost(),
            RewindDecision::NotDue => Failure::user("the log has a later revision, or went there already"),
            RewindDecision::Gone { earliest } => Failure::user(format!(
                "the records from there on are deleted: the earliest point kept is {earliest}, or a savepoint"
            )),
            RewindDecision::TakenBack { by } => taken_back(by),
            RewindDecision::TopicRecreated { partitions } => recreated(&partitions),
            RewindDecision::NeedsSavepoint => {
                Failure::user("the job has state, which only a savepoint can bring back: use --to-savepoint")
            }
            other => Failure::internal(format!("the rewind was refused after it had been checked: {other:?}")),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let undone = self.next.0.saturating_sub(self.since.0 + 1);
        writeln!(f, "back to record {}, before {undone} record(s)", self.since)?;
        for (partition, (from, to)) in &self.moves {
            writeln!(f, "  {partition}  {from} → {to}")?;
        }
        if self.moves.is_empty() {
            writeln!(f, "  every partition stands there already")?;
        }
        for savepoint in &self.savepoints {
            writeln!(f, "  savepoint {savepoint} is deleted: what the tables held there is taken back")?;
        }
        for (output, (policy, files)) in &self.outputs {
            match policy {
                Policy::Retract => writeln!(f, "  {output}  {} file(s) are deleted", files.len())?,
                Policy::NewPath => writeln!(f, "  {output}  keeps its rows and goes on under the manifest's new path")?,
                Policy::Duplicate => writeln!(f, "  {output}  keeps its rows and gets them once more")?,
            }
        }
        Ok(())
    }
}

/// All files that are deleted are named in one record, which has a limit.
fn check_size(
    outputs: &BTreeMap<OutputName, (Policy, Vec<PublishedFile>)>,
    positions: &BTreeMap<Partition, Position>,
) -> Result<(), Failure> {
    let internal = |error: serde_json::Error| Failure::internal(error.to_string());
    // A move names the partition once and two positions.
    let mut bytes = REST + 3 * serde_json::to_vec(positions).map_err(internal)?.len();
    for (_, files) in outputs.values() {
        bytes += serde_json::to_vec(files).map_err(internal)?.len();
    }
    let files: usize = outputs.values().map(|(_, files)| files.len()).sum();
    if bytes <= MAX_SLOT_BYTES || files == 0 {
        return Ok(());
    }
    Err(Failure::user(format!(
        "{files} files are more than one rewind can retract: go back in two steps, to a nearer point first, or use newPath"
    )))
}

fn fixed(target: &RewindTarget) -> Target {
    match target {
        RewindTarget::Seq(seq) => Target::Record(*seq),
        RewindTarget::Savepoint(name) => Target::Savepoint(name.clone()),
    }
}

pub(super) fn no_consent(output: &OutputName) -> Failure {
    Failure::user(format!("'{output}' would have rows twice afterwards: consent with --yes-duplicate {output}"))
}

fn describe_output(output: &OutputName, files: Option<&[PublishedFile]>) -> String {
    match files {
        Some(files) => format!("'{output}' {} file(s)", files.len()),
        None => format!("'{output}', whose files the log does not name any more or cannot name"),
    }
}

fn taken_back(by: Seq) -> Failure {
    Failure::user(format!(
        "rewind {by} took back rows that the tables held at that point, so they would be missing: go to the point that it \
         went to, to one before, or to one after record {by}"
    ))
}

fn recreated(partitions: &BTreeSet<Partition>) -> Failure {
    let partitions: Vec<String> = partitions.iter().map(Partition::to_string).collect();
    Failure::user(format!(
        "the topic was deleted and created again since that point, so the offsets of that time are other messages now: {}. Go \
         to a point after that, or move single offsets with `millrace log edit-offsets`",
        partitions.join(", ")
    ))
}

fn not_retractable(output: &OutputName) -> Failure {
    Failure::user(format!(
        "'{output}' cannot be retracted: the records that name its files are deleted, or it is no Parquet output; use \
         newPath, or duplicate"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn files_that_fill_more_than_a_record_are_retracted_in_two_steps() {
        let file = |number: usize| PublishedFile {
            target: format!("s3://lake/numbers/part-{number:0>200}.zstd.parquet"),
            staged: format!("s3://lake/numbers/_millrace/staged/{number:0>200}.staged"),
            bytes: 1,
            etag: None,
        };
        let outputs = |count| [("numbers".into(), (Policy::Retract, (0..count).map(file).collect()))].into();
        check_size(&outputs(1000), &BTreeMap::new()).unwrap();
        let refused = check_size(&outputs(40_000), &BTreeMap::new()).unwrap_err();
        assert_eq!(refused.class, millrace_crds::contract::FailureClass::User);
        assert!(refused.message.contains("40000 files") && refused.message.contains("two steps"), "{refused}");
    }
}
