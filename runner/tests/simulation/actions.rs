//! What can happen to the world of a seed, and what it then does.

use millrace::failpoint::Failpoint;
use millrace::source::memory::{Call, Fault};
use millrace_joblog::store::Faults;

use crate::chance::Chance;
use crate::producer::{Fate, Produced};
use crate::world::World;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    // Records and brokers.
    Produce,
    Brokers,
    KafkaFault,
    Grow,
    Transaction,
    Gap,
    /// A topic loses its oldest records.
    Expire,
    /// A topic is deleted and created again.
    Recreate,
    // Processes.
    Crash,
    /// A process will die at a failpoint.
    Arm,
    Pause,
    Resume,
    Stop,
    /// A second process for an ordinal that has one.
    Double,
    /// A pod that was superseded is started again.
    Return,
    // What is deployed.
    Rescale,
    RollOut,
    RecreateJob,
    TakeOver,
    // The store.
    Outage,
    /// A write that was delayed arrives.
    Deliver,
    /// A person moves the job by hand.
    Command,
}

/// What a seed is about, beside what each of them may be about.
#[derive(Debug, Clone, Copy)]
pub struct Theme {
    pub bounded: bool,
    pub lossy: bool,
}

/// What can happen in a seed: a part of all there is, so that the seeds differ.
pub fn drawn(chance: &mut Chance, theme: Theme) -> Vec<Action> {
    let mut actions = vec![Action::Produce; if theme.bounded { 1 } else { 6 }];
    let some = [
        Action::Crash,
        Action::Arm,
        Action::Arm,
        Action::Pause,
        Action::Resume,
        Action::Rescale,
        Action::Stop,
        Action::Double,
        Action::Return,
        Action::Brokers,
        Action::KafkaFault,
        Action::Grow,
        Action::Transaction,
        Action::Gap,
        Action::Outage,
        Action::Deliver,
    ];
    actions.extend(some.into_iter().filter(|_| !chance.one_in(3)));
    let rare = [Action::RollOut, Action::RecreateJob, Action::TakeOver];
    actions.extend(rare.into_iter().filter(|_| chance.one_in(4)));
    if theme.lossy {
        actions.extend([Action::Expire, Action::Recreate].into_iter().filter(|_| chance.one_in(2)));
    }
    // After a topic was created again its offsets mean other records, and going back to them means nothing.
    if !actions.contains(&Action::Recreate) && chance.one_in(3) {
        actions.extend([Action::Command; 4]);
    }
    actions
}

impl World {
    /// Some process that is awake.
    fn any(&mut self) -> Option<usize> {
        let awake: Vec<usize> =
            self.processes.iter().enumerate().filter(|(_, p)| !p.gate.is_paused()).map(|(index, _)| index).collect();
        self.chance.pick(&awake).copied()
    }

    /// Some process will die the n-th time that it reaches the failpoint.
    pub fn arm(&mut self, point: Option<Failpoint>, times: u32) {
        if let (Some(index), Some(point)) = (self.any(), point) {
            self.processes[index].failpoints.arm(Some((point, times)));
        }
    }

    pub async fn act(&mut self, action: Action) {
        self.setting.watch.event(&format!("{action:?}"));
        match action {
            Action::Produce => {
                let count = self.chance.between(1, 12);
                self.produce(count);
            }
            Action::Crash => {
                if let Some(index) = self.any() {
                    let process = self.processes.remove(index);
                    self.kill(process);
                }
            }
            Action::Arm => {
                let point = self.chance.pick(&Failpoint::ALL).copied();
                let times = self.chance.between(1, 3) as u32;
                self.arm(point, times);
            }
            Action::Pause => {
                if self.chance.one_in(2)
                    && let Some(command) = self.commands.last()
                {
                    command.gate.pause();
                } else if let Some(index) = self.any() {
                    self.processes[index].gate.pause();
                    self.processes[index].slept = true;
                    let ordinal = self.processes[index].seat.ordinal;
                    if ordinal < self.deployed.wanted.parallelism && self.chance.one_in(2) {
                        self.start(ordinal, false);
                    }
                }
            }
            Action::Resume => {
                self.commands.iter().for_each(|command| command.gate.resume());
                let paused: Vec<usize> =
                    (0..self.processes.len()).filter(|i| self.processes[*i].gate.is_paused()).collect();
                if let Some(index) = self.chance.pick(&paused) {
                    self.processes[*index].gate.resume();
                }
            }
            Action::Rescale => self.rescale(),
            Action::RollOut => self.roll_out(),
            Action::RecreateJob => self.recreate_job(),
            Action::TakeOver => self.take_over(),
            Action::Command => self.command(),
            Action::Stop => {
                if let Some(index) = self.any() {
                    self.stop(index);
                }
            }
            Action::Double => {
                if self.processes.len() < 8 {
                    let ordinal = self.chance.between(0, u64::from(self.deployed.wanted.parallelism) - 1) as u32;
                    let container = self.chance.one_in(2) && self.deployed.pods.contains_key(&ordinal);
                    if !self.done.contains(&ordinal) {
                        self.start(ordinal, container);
                    }
                }
            }
            Action::Return => {
                let back: Vec<usize> = (0..self.superseded.len()).filter(|i| self.superseded[*i].1 < 5).collect();
                if let Some(index) = self.chance.pick(&back).copied() {
                    self.superseded[index].1 += 1;
                    let seat = self.superseded[index].0.clone();
                    self.setting.watch.count("superseded pods started again");
                    self.start_as(seat);
                }
            }
            Action::Brokers => {
                let down = self.chance.one_in(2);
                self.setting.kafka.set_down(down);
            }
            Action::KafkaFault => {
                let call = [Call::Discover, Call::Offsets, Call::Next][self.chance.between(0, 2) as usize];
                let times = self.chance.between(1, 3) as usize;
                self.setting.kafka.fail(call, Fault::Unreachable, times);
            }
            Action::Grow => {
                if let Some((topic, _)) = self.producer.any(&mut self.chance)
                    && self.producer.partitions[&topic] < 6
                {
                    self.producer.grow(&topic);
                    self.produce(4);
                }
            }
            Action::Transaction => {
                if self.chance.one_in(2) {
                    self.producer.close_transactions(&mut self.chance);
                } else if let Some((topic, partition)) = self.producer.any(&mut self.chance) {
                    self.producer.open_transaction(&topic, partition);
                    for _ in 0..self.chance.between(0, 5) {
                        self.producer.append(&topic, partition, false);
                    }
                }
            }
            Action::Gap => {
                if let Some((topic, partition)) = self.producer.any(&mut self.chance) {
                    self.setting.kafka.append_gap(&topic, partition, 2);
                }
            }
            Action::Expire => {
                if let Some((topic, partition)) = self.producer.any(&mut self.chance) {
                    let of = |p: &&Produced| p.topic == topic && p.partition == partition && p.fate == Fate::Once;
                    let last = self.producer.all.values().filter(of).map(|p| p.offset).max().unwrap_or(0);
                    let below = self.chance.between(0, last as u64) as i64;
                    self.producer.expire(&topic, partition, below);
                }
            }
            Action::Recreate => {
                if self.chance.one_in(4)
                    && let Some((topic, _)) = self.producer.any(&mut self.chance)
                {
                    let partitions = self.producer.partitions[&topic] as u64;
                    self.producer.create(&topic, partitions);
                    let count = self.chance.between(0, 20);
                    self.produce(count);
                }
            }
            Action::Outage => {
                let out = self.chance.one_in(3);
                if let Some(index) = self.any() {
                    let per_mille = if out { 1000 } else { self.per_mille };
                    let faults = Faults::seeded(self.chance.draw(), per_mille);
                    self.processes[index].store.set_faults(faults);
                }
            }
            Action::Deliver => {
                if let Some(ghost) = self.chance.pick(&self.ghosts).cloned() {
                    ghost.deliver_delayed().await;
                }
            }
        }
    }
}
