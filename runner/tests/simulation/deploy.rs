//! What is deployed: the division that is wanted, the revision, the home, and the pods' numbers.

use std::collections::BTreeMap;

use millrace::control::Control;
use millrace_crds::contract::RunnerSettings;
use millrace_joblog::{Generation, Parallelism, Revision};
use tokio::time::Instant;

use crate::runner::{Place, Process};
use crate::world::World;

pub struct Deployed {
    pub wanted: Control,
    /// What was wanted before: some processes start with what they were told then.
    pub before: Control,
    pub place: Place,
    /// What runners are told beside the term.
    pub settings: RunnerSettings,
    /// The highest pod number given to each ordinal.
    pub pods: BTreeMap<u32, u64>,
    revisions: u32,
}

impl Deployed {
    pub fn new(in_cluster: bool, parallelism: u32) -> Self {
        let wanted = Control { generation: in_cluster.then_some(Generation(1)), revision: revision(1), parallelism };
        let place = Place { name: 1, uid: 1 };
        let settings = RunnerSettings::default();
        Self { before: wanted.clone(), wanted, place, settings, pods: BTreeMap::new(), revisions: 1 }
    }

    /// Whether a process is one of those that are wanted now.
    pub fn is_current(&self, process: &Process) -> bool {
        process.seat.place == self.place && process.seat.revision == self.wanted.revision
    }

    fn change(&mut self, change: impl FnOnce(&mut Control)) {
        self.before = self.wanted.clone();
        change(&mut self.wanted);
        if let Some(generation) = &mut self.wanted.generation {
            generation.0 += 1;
        }
    }

    /// The job goes on elsewhere, where terms and pods are counted anew.
    fn move_to(&mut self, place: Place) {
        self.place = place;
        self.pods.clear();
        self.wanted.generation = self.wanted.generation.map(|_| Generation(1));
        self.before = self.wanted.clone();
    }
}

impl World {
    /// Another number of runners.
    pub fn rescale(&mut self) {
        let parallelism = self.chance.between(1, 4) as u32;
        self.deployed.change(|wanted| wanted.parallelism = parallelism);
        self.tell_most();
        if self.may_arm && self.chance.one_in(3) {
            self.arm(Some(millrace::failpoint::Failpoint::Released), 1);
        }
        // A supervisor ends those that have no place any more, sooner or later.
        for index in 0..self.processes.len() {
            if self.processes[index].seat.ordinal >= self.deployed.wanted.parallelism && self.chance.one_in(2) {
                self.stop(index);
            }
        }
    }

    /// Another revision, with another number of runners at times. Those of the old one are replaced by and by.
    pub fn roll_out(&mut self) {
        self.deployed.revisions += 1;
        let next = revision(self.deployed.revisions);
        let parallelism = self.chance.one_in(2).then(|| self.chance.between(1, 4) as u32);
        self.deployed.change(|wanted| {
            wanted.revision = next;
            wanted.parallelism = parallelism.unwrap_or(wanted.parallelism);
        });
        self.setting.watch.count("revisions rolled out");
        self.tell_most();
    }

    /// The StreamingJob is deleted and created again: its name is the same, its uid another.
    pub fn recreate_job(&mut self) {
        if self.setting.in_cluster {
            let Place { name, uid } = self.deployed.place;
            self.move_home(Place { name, uid: uid + 1 });
        }
    }

    /// Another home takes the job over.
    pub fn take_over(&mut self) {
        let Place { name, uid } = self.deployed.place;
        self.move_home(Place { name: name + 1, uid: uid + 1 });
    }

    fn move_home(&mut self, place: Place) {
        self.deployed.move_to(place);
        for index in (0..self.processes.len()).rev() {
            // One that has not come so far would take the job back from the home after its own: its user sees to it.
            let home = self.processes[index].seat.place.home(self.setting.in_cluster);
            let late = self.setting.watch.seen().fold.home().is_none_or(|log| log.home != home);
            if late || self.chance.one_in(3) {
                let process = self.processes.remove(index);
                self.kill(process);
            } else if self.chance.one_in(2) {
                self.stop(index);
            }
        }
    }

    /// Tells most processes what is wanted now; the others hear of it late.
    fn tell_most(&mut self) {
        for index in 0..self.processes.len() {
            if !self.chance.one_in(4) {
                self.tell(index);
            }
        }
    }

    /// Asks the runners for a savepoint; some hear of it only when they start again.
    pub fn ask_for_savepoint(&mut self, name: String) {
        self.setting.watch.count("savepoints asked for");
        self.deployed.settings.savepoint = Some(name);
        for process in &self.processes {
            if process.seat.place == self.deployed.place && !self.chance.one_in(4) {
                process.settings.send_replace(self.deployed.settings.clone());
            }
        }
    }

    /// Tells a process what is wanted, if it is of the home where that is wanted.
    pub fn tell(&mut self, index: usize) {
        let process = &self.processes[index];
        if process.seat.place == self.deployed.place {
            process.control.send_if_modified(|control| {
                let changed = *control != self.deployed.wanted;
                *control = self.deployed.wanted.clone();
                changed
            });
        }
    }

    /// Whoever is of an older revision or home is told to stop, sooner or later.
    pub fn replace_outdated(&mut self) {
        for index in 0..self.processes.len() {
            let process = &self.processes[index];
            let outdated = !self.deployed.is_current(process) && process.stopped_at.is_none();
            if outdated && !process.gate.is_paused() && (self.healed || self.chance.one_in(4)) {
                self.stop(index);
            }
        }
    }

    /// Outside a cluster terms have no order of their own: a process that was started for the division before may be the last
    /// one to ask for it. Whoever sees that starts a runner again.
    pub fn put_division_right(&mut self) {
        let term = self.setting.watch.seen().fold.term().map(|term| term.parallelism);
        if self.setting.in_cluster || term == Parallelism::new(self.deployed.wanted.parallelism) {
            return;
        }
        if let Some(index) = self.processes.iter().position(|process| process.seat.ordinal == 0) {
            self.setting.watch.count("divisions put right by hand");
            self.stop(index);
        }
    }

    pub fn stop(&mut self, index: usize) {
        let process = &mut self.processes[index];
        process.stopped_at.get_or_insert(Instant::now());
        process.stop.send_replace(true);
    }
}

fn revision(number: u32) -> Revision {
    Revision(format!("r{number}"))
}
