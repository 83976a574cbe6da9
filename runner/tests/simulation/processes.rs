//! The supervisor of a world: it starts processes, sees how they end, and replaces those that are gone.

use std::sync::Arc;
use std::time::Duration;

use millrace::failpoint::Failpoint;
use millrace::failure::Failure;
use millrace::pipeline::Ended;
use millrace_crds::contract::FailureClass;
use millrace_joblog::fold::HomeState;

use crate::deploy::Deployed;
use crate::runner::{Outcome, Process, Seat};
use crate::world::World;

/// How long a process that was told to stop may take, as `--grace` has it.
const STOP_GRACE: Duration = Duration::from_secs(25);

impl World {
    /// Ends what ended by itself, and what died at a failpoint.
    pub async fn reap(&mut self) {
        let mut index = 0;
        while index < self.processes.len() {
            let process = &self.processes[index];
            let overdue = process.stopped_at.is_some_and(|at| at.elapsed() > STOP_GRACE);
            if process.task.is_finished() {
                let process = self.processes.remove(index);
                self.ended(process).await;
            } else if process.gate.is_dead() || overdue {
                if overdue && self.healed {
                    self.setting.watch.violation(format!("{} does not stop in a healthy world", process.name()));
                }
                let process = self.processes.remove(index);
                self.kill(process);
            } else {
                index += 1;
            }
        }
    }

    async fn ended(&mut self, process: Process) {
        let (name, seat, slept) = (process.name(), process.seat.clone(), process.slept);
        let watch = Arc::clone(&self.setting.watch);
        let outcome = match process.task.await {
            Ok(outcome) => outcome,
            Err(error) => return watch.violation(format!("{name} panicked: {error}")),
        };
        self.ghosts.push(process.store);
        watch.event(&format!("{name} ended: {outcome:?}"));
        match outcome {
            Outcome::NotOpened(failure) if failure.is_external() && seat.start <= self.faulty_starts => {
                watch.count("log not opened")
            }
            Outcome::Ran(Err(failure)) if seat.place != self.deployed.place && is_refused_home(&failure) => {
                watch.count("processes of an old home refused")
            }
            // A take-over that was on its way for long has just arrived: whoever starts next takes over once more.
            Outcome::Ran(Err(failure)) if !self.setting.in_cluster && is_refused_home(&failure) => {
                watch.count("processes refused after a late take-over")
            }
            Outcome::NotOpened(failure) | Outcome::Ran(Err(failure)) => watch.violation(failed(&name, &failure)),
            Outcome::Ran(Ok(Ended::Completed)) => {
                watch.count("completed");
                self.done.insert(seat.ordinal);
            }
            Outcome::Ran(Ok(Ended::StartDue)) => watch.violation(format!("{name} has no savepoint to begin at")),
            Outcome::Ran(Ok(Ended::Stopped)) => {
                watch.count("stopped");
                if process.stopped_at.is_none() {
                    watch.violation(format!("{name} stopped without being told"));
                }
            }
            Outcome::Ran(Ok(Ended::Superseded(_))) => {
                watch.count("superseded");
                if slept {
                    watch.count("superseded zombies");
                }
                if seat.pod.is_some() {
                    self.superseded.push((seat, 0));
                }
            }
        }
    }

    pub fn kill(&mut self, process: Process) {
        self.setting.watch.event(&format!("{} is killed", process.name()));
        process.gate.kill();
        process.task.abort();
        self.ghosts.push(process.store);
    }

    /// The supervisor: an ordinal without a process that is awake gets one, soon.
    pub fn keep(&mut self) {
        self.replace_outdated();
        // Nothing is complete while a bounded read is under way: a rewind undid the one before, or, outside a cluster, a
        // runner that started after its end began another.
        if self.setting.watch.seen().fold.plan().is_none_or(|plan| plan.complete.is_none()) {
            self.done.clear();
        }
        for ordinal in 0..self.deployed.wanted.parallelism {
            let awake = |process: &Process| {
                process.seat.ordinal == ordinal && !process.gate.is_paused() && self.deployed.is_current(process)
            };
            let wants = !self.ending && !self.processes.iter().any(awake) && !self.done.contains(&ordinal);
            if wants && (self.healed || self.chance.one_in(3)) {
                let container = self.chance.one_in(2) && !self.processes.iter().any(|p| p.seat.ordinal == ordinal);
                let (place, newest) = (self.deployed.place, self.deployed.pods.get(&ordinal).copied());
                let known = self
                    .superseded
                    .iter()
                    .any(|(seat, _)| seat.ordinal == ordinal && seat.place == place && seat.pod == newest);
                self.start(ordinal, container && !known);
            }
        }
    }

    /// Starts a process; in a cluster as a new pod, or as another container of the newest one.
    pub fn start(&mut self, ordinal: u32, container: bool) {
        let Deployed { wanted, place, pods, .. } = &mut self.deployed;
        let pod = self.setting.in_cluster.then(|| {
            let newest = pods.entry(ordinal).or_insert(0);
            // A pod is of one revision for ever.
            let again = container && self.pod_revisions.get(&(*place, ordinal, *newest)) == Some(&wanted.revision);
            *newest += u64::from(!again);
            self.pod_revisions.insert((*place, ordinal, *newest), wanted.revision.clone());
            *newest
        });
        let elsewhere = |log: &HomeState| log.home.place != place.home(self.setting.in_cluster).place;
        let take_over = self.setting.watch.seen().fold.home().is_some_and(elsewhere);
        let (place, revision) = (*place, wanted.revision.clone());
        self.start_as(Seat { ordinal, pod, revision, place, take_over, start: 0, seed: 0, per_mille: 0 });
    }

    /// Starts a process in a seat that there was before, or that is new.
    pub fn start_as(&mut self, seat: Seat) {
        self.starts += 1;
        let per_mille = if self.healed { 0 } else { self.per_mille };
        let seat = Seat { start: self.starts, seed: self.chance.draw(), per_mille, ..seat };
        let stale = self.setting.in_cluster && self.chance.one_in(4) && !self.healed;
        let wanted = if stale { self.deployed.before.clone() } else { self.deployed.wanted.clone() };
        let process = Process::start(&self.setting, seat, wanted, self.deployed.settings.clone());
        self.setting.watch.event(&format!("{} starts", process.name()));
        if self.may_arm && !self.healed && self.chance.one_in(4) {
            // What is reached once in the life of a process, or less, needs more tries.
            let rare: &[Failpoint] = match self.setting.bounded {
                true => &[Failpoint::Planned, Failpoint::Completing],
                false => &[Failpoint::Opened, Failpoint::Claimed],
            };
            let points = if self.chance.one_in(2) { rare } else { &Failpoint::ALL };
            let point = self.chance.pick(points).copied();
            process.failpoints.arm(point.map(|point| (point, 1)));
        }
        self.processes.push(process);
    }

    /// Tells every process to stop.
    pub fn stop_all(&mut self) {
        self.ending = true;
        for index in 0..self.processes.len() {
            self.stop(index);
        }
    }
}

/// Whether a process was turned away because the log is another home's by now.
fn is_refused_home(failure: &Failure) -> bool {
    let words = ["was replaced by another of that name", "belongs to"];
    failure.class == FailureClass::User && words.iter().any(|words| failure.message.contains(words))
}

fn failed(name: &str, failure: &Failure) -> String {
    let class = match failure.class {
        FailureClass::Internal => "internal",
        FailureClass::External => "external",
        FailureClass::Data => "data",
        _ => "user",
    };
    format!("{name} failed ({class}, {}): {}", failure.reason, failure.message)
}
