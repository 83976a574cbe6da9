//! People who move the job by hand while it runs, with the code of `millrace log`: they make savepoints, rewind, edit
//! offsets and hold the log; their commands fail and die half way, and are run again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use millrace::env::{Env, LogClock};
use millrace::failpoint::Disarmed;
use millrace::failure::Failure;
use millrace::logtool::edit::Edit;
use millrace::logtool::files::Sinks;
use millrace::logtool::rewind::{Target, Wanted};
use millrace::logtool::{Reply, Session};
use millrace::sink::Sink;
use millrace_crds::Job;
use millrace_crds::contract::FailureClass;
use millrace_joblog::decide::{Policy, SavepointDecision, delete_savepoint, savepoint};
use millrace_joblog::log::Compose;
use millrace_joblog::store::{Faults, FaultyStore};
use millrace_joblog::{Incarnation, JobLog, Millis, Offset, OutputName, Partition, Seq};
use tokio::task::JoinHandle;

use crate::chance::Chance;
use crate::faults::GatedStore;
use crate::gate::Gate;
use crate::runner::{CHECKPOINT, LAKE, Setting};
use crate::world::World;

/// Commands at once.
const MOST: usize = 2;

/// What a person wants of the log.
#[derive(Debug, Clone)]
pub enum Wish {
    Savepoint(String),
    Forget(String),
    Rewind(Wanted),
    Edit(BTreeMap<Partition, Offset>),
    /// Holds the log and dies.
    Hold,
    /// Frees the log from a command that is dead, as far as the person knows.
    Release,
}

/// A command that is under way.
pub struct Command {
    pub gate: Arc<Gate>,
    pub store: Arc<FaultyStore>,
    incarnation: Incarnation,
    wish: Wish,
    /// How many rewinds and edits there were when it began.
    moves: usize,
    /// It began in a world where nothing fails.
    healthy: bool,
    task: JoinHandle<Result<Option<Seq>, Failure>>,
}

impl Command {
    fn start(setting: &Setting, wish: Wish, chance: &mut Chance, per_mille: u64, healthy: bool) -> Self {
        let gate = Gate::new(Arc::clone(&setting.watch), chance.fork(), setting.latency_ms, !healthy);
        let faults = Faults::seeded(chance.draw(), per_mille);
        let store = Arc::new(FaultyStore::new(Arc::clone(&setting.store) as _, faults));
        let env = Env::seeded(chance.draw(), setting.clock(), Arc::new(Disarmed));
        let incarnation = Incarnation(env.uuid());
        setting.watch.event(&format!("command {incarnation} begins: {wish:?}"));
        let moves = setting.watch.seen().passes.moves.len();
        let work =
            Work { setting: setting.clone(), gate: Arc::clone(&gate), store: Arc::clone(&store), env, incarnation };
        let task = tokio::spawn(work.run(wish.clone()));
        Self { gate, store, incarnation, wish, moves, healthy, task }
    }
}

struct Work {
    setting: Setting,
    gate: Arc<Gate>,
    store: Arc<FaultyStore>,
    env: Env,
    incarnation: Incarnation,
}

impl Work {
    /// The slot of what was done, where it has one.
    async fn run(self, wish: Wish) -> Result<Option<Seq>, Failure> {
        let store = Arc::new(GatedStore { gate: Arc::clone(&self.gate), store: self.store });
        let clock = Arc::new(LogClock(self.env.clone()));
        let log = JobLog::open(store, clock, self.incarnation, self.setting.limits).await;
        let log = log.map_err(|error| millrace::commit::log_failure(&error))?;
        let sinks = Arc::new(Tables { setting: self.setting.clone(), gate: Arc::clone(&self.gate) });
        let job = (job(), CHECKPOINT.to_owned());
        let mut session = Session::on(job, (log, self.incarnation), sinks, self.env);
        session.own()?;
        match &wish {
            Wish::Savepoint(name) => named(&mut session, name, false).await,
            Wish::Forget(name) => named(&mut session, name, true).await,
            Wish::Rewind(wanted) => {
                session.preview(wanted).await?;
                Ok(Some(session.rewind(wanted, "simulated").await?.seq))
            }
            Wish::Edit(offsets) => {
                let outputs = session.fold().outputs().keys().cloned();
                let duplicates: BTreeSet<OutputName> = outputs.collect();
                let policies = duplicates.iter().map(|output| (output.clone(), Policy::Duplicate)).collect();
                let wanted = Edit { offsets: offsets.clone(), policies, duplicates };
                session.preview_edit(&wanted).await?;
                session.edit(&wanted, "simulated").await
            }
            Wish::Hold => {
                session.hold("simulated").await?;
                self.gate.kill();
                std::future::pending().await
            }
            Wish::Release => session.release(true).await.map(|_| None),
        }
    }
}

async fn named(session: &mut Session, name: &str, forget: bool) -> Result<Option<Seq>, Failure> {
    let reply = session
        .append(|view| match if forget { delete_savepoint(view, name) } else { savepoint(view, name) } {
            SavepointDecision::Propose(proposal) => Compose::Propose(proposal),
            other => Compose::Decline(other),
        })
        .await?;
    match reply {
        Reply::Won(seq) => Ok(Some(seq)),
        Reply::Declined(declined) => Err(Failure::user(format!("savepoint refused: {declined:?}"))),
    }
}

/// The tables as a command sees them.
struct Tables {
    setting: Setting,
    gate: Arc<Gate>,
}

impl Sinks for Tables {
    fn open(&self, output: &OutputName, folder: &str) -> Result<Arc<dyn Sink>, Failure> {
        match folder.strip_prefix(LAKE) {
            Some(name) if name == output.as_str() => Ok(Arc::new(self.setting.sink(&self.gate, name))),
            _ => Err(Failure::internal(format!("the log has {output} at {folder}"))),
        }
    }
}

/// A manifest, of which the simulated commands use nothing.
fn job() -> Job {
    static JOB: OnceLock<Job> = OnceLock::new();
    const MANIFEST: &str = "
apiVersion: millrace.dev/v1alpha1
kind: StreamingJob
metadata: {name: sim}
spec:
  sources:
    - {name: in, kafka: {bootstrapServers: 'localhost:9092', topics: [t0]}, format: {text: {}}}
  outputs:
    - {name: out0, sql: SELECT value FROM in, parquet: {path: /lake/out0}}
  checkpoint: {location: /lake/checkpoint}
";
    JOB.get_or_init(|| millrace_crds::manifest::parse(MANIFEST, "job.yaml").unwrap().job).clone()
}

impl World {
    /// A person does something.
    pub fn command(&mut self) {
        let held = self.holder();
        if let Some(holder) = held {
            let alive = self.commands.iter().find(|command| command.incarnation == holder);
            // A command that does not move for long is taken for dead at times, though it is not.
            let seems_dead = alive.is_none_or(|command| command.gate.is_paused());
            if seems_dead && self.chance.one_in(2) {
                return self.spawn(Wish::Release);
            }
        }
        if self.commands.len() >= MOST {
            return;
        }
        if let Some(wish) = self.unfinished.take().filter(|_| !self.chance.one_in(3)) {
            self.setting.watch.count("commands run again");
            return self.spawn(wish);
        }
        if let Some(wish) = self.wish() {
            self.spawn(wish);
        }
    }

    /// Who holds the log.
    fn holder(&self) -> Option<Incarnation> {
        self.setting.watch.seen().fold.held().map(|held| held.incarnation)
    }

    /// No command is under way, and none that died holds the log.
    pub fn nobody_commands(&self) -> bool {
        self.commands.is_empty() && self.holder().is_none()
    }

    fn spawn(&mut self, wish: Wish) {
        let per_mille = if self.healed { 0 } else { self.per_mille };
        let command = Command::start(&self.setting, wish, &mut self.chance, per_mille, self.healed);
        if !self.healed && self.chance.one_in(3) {
            command.gate.light(self.chance.between(10, 200) as u32);
        }
        self.commands.push(command);
    }

    fn wish(&mut self) -> Option<Wish> {
        let fold = self.setting.watch.seen().fold.clone();
        let names: Vec<String> = fold.savepoints().keys().cloned().collect();
        let wish = match self.chance.between(0, 9) {
            0 | 1 => {
                self.savepoints += 1;
                let name = format!("s{}", self.savepoints);
                if self.setting.in_cluster && self.chance.one_in(2) {
                    self.ask_for_savepoint(name);
                    return None;
                }
                Wish::Savepoint(name)
            }
            2 => Wish::Forget(self.chance.pick(&names)?.clone()),
            3 => Wish::Hold,
            4 | 5 if !self.setting.bounded => self.edit(&fold.partitions().keys().cloned().collect::<Vec<_>>())?,
            _ => {
                let target = match self.chance.between(0, 2) {
                    0 => Target::Savepoint(self.chance.pick(&names)?.clone()),
                    1 => {
                        let ago = self.chance.between(0, 20_000) as i64;
                        Target::Time(Millis(self.setting.clock().now_millis() - ago))
                    }
                    _ => {
                        let (from, next) = (fold.truncated_below().0, fold.next().0);
                        Target::Record(Seq(next.saturating_sub(1 + self.chance.between(0, 12)).max(from)))
                    }
                };
                self.rewind(target)
            }
        };
        Some(wish)
    }

    fn rewind(&mut self, target: Target) -> Wish {
        let mut wanted = Wanted { target, policies: BTreeMap::new(), duplicates: BTreeSet::new(), start: None };
        for output in self.setting.urls().into_keys().map(OutputName) {
            if self.chance.one_in(3) {
                wanted.duplicates.insert(output.clone());
                wanted.policies.insert(output, Policy::Duplicate);
            } else {
                wanted.policies.insert(output, Policy::Retract);
            }
        }
        Wish::Rewind(wanted)
    }

    /// Mostly forwards: the other way is a rewind that takes nothing back.
    fn edit(&mut self, known: &[Partition]) -> Option<Wish> {
        let mut offsets = BTreeMap::new();
        for _ in 0..self.chance.between(1, 2) {
            let partition = self.chance.pick(known)?.clone();
            let end = self.producer.end(partition.topic.as_str(), partition.partition);
            let stands = self.setting.watch.seen().fold.partition(&partition)?.offset.0;
            let to = match self.chance.one_in(4) {
                true => stands - self.chance.between(0, 5) as i64,
                false => stands + self.chance.between(1, 8) as i64,
            };
            offsets.insert(partition, Offset(to.clamp(0, end)));
        }
        Some(Wish::Edit(offsets))
    }

    /// Commands that ended or died. In a world where nothing fails, the log is freed of those that died.
    pub async fn reap_commands(&mut self) {
        for index in (0..self.commands.len()).rev() {
            if self.commands[index].gate.is_dead() {
                let command = self.commands.remove(index);
                self.bury(command);
            } else if self.commands[index].task.is_finished() {
                let command = self.commands.remove(index);
                self.command_ended(command).await;
            }
        }
        if self.healed && self.commands.is_empty() && self.holder().is_some() {
            self.spawn(Wish::Release);
        }
    }

    /// A command dies: what it left is for others.
    pub fn bury(&mut self, command: Command) {
        let watch = &self.setting.watch;
        watch.event(&format!("command {} dies", command.incarnation));
        command.gate.kill();
        command.task.abort();
        let (holds, retracts) = {
            let seen = watch.seen();
            let holds = seen.fold.held().is_some_and(|held| held.incarnation == command.incarnation);
            let mut open = seen.fold.retractions().values().flat_map(|outputs| outputs.values());
            (holds, open.any(|retraction| retraction.by == command.incarnation))
        };
        watch.count("commands that died");
        if holds {
            watch.count("commands that died holding the log");
        }
        if retracts {
            watch.count("commands that died before they had deleted what they took back");
        }
        self.unfinished = Some(command.wish).filter(|wish| !matches!(wish, Wish::Hold | Wish::Release));
        self.ghosts.push(command.store);
    }

    async fn command_ended(&mut self, command: Command) {
        let watch = Arc::clone(&self.setting.watch);
        let Command { incarnation, wish, moves, healthy, .. } = command;
        self.ghosts.push(command.store);
        let outcome = match command.task.await {
            Ok(outcome) => outcome,
            Err(error) => return watch.violation(format!("command {incarnation} panicked: {error}")),
        };
        watch.event(&format!("command {incarnation} ended: {outcome:?}"));
        match outcome {
            Ok(seq) => {
                watch.count("commands that succeeded");
                let moved = matches!(wish, Wish::Rewind(_) | Wish::Edit(_));
                if let Some(seq) = seq.filter(|seq| moved && !watch.seen().passes.moves.contains(seq)) {
                    watch.violation(format!("{wish:?} says that it is slot {seq}, which it is not"));
                }
            }
            Err(failure) if failure.is_external() && !healthy => {
                watch.count("commands that gave up");
                self.unfinished = Some(wish);
            }
            Err(failure) if failure.class == FailureClass::User => {
                let moved = watch.seen().passes.moves.len() > moves;
                match refusal(&failure.message, moved) {
                    Some(kind) => watch.count(&format!("commands refused: {kind}")),
                    None => watch.violation(format!("{wish:?} was refused: {}", failure.message)),
                }
            }
            Err(failure) => watch.violation(format!("{wish:?} failed ({}): {}", failure.reason, failure.message)),
        }
    }
}

/// What a refusal is about, if it is one that is right to happen. `moved`: another command moved the job meanwhile.
fn refusal(message: &str, moved: bool) -> Option<&'static str> {
    let kinds = [
        ("the job log is held by", "held by another"),
        ("was released by another command", "its hold was released"),
        ("took back rows", "what the tables held was taken back"),
        ("are deleted", "the records are deleted"),
        ("are not all there", "the records are deleted"),
        ("keeps no record as old", "the records are deleted"),
        ("there is no savepoint", "no such savepoint"),
        ("savepoint refused", "no such savepoint, or there is one"),
        ("there is no job log", "the log is empty"),
        ("whose files the log does not name any more", "the records are deleted"),
    ];
    let kind = kinds.iter().find(|(words, _)| message.contains(words)).map(|(_, kind)| *kind);
    kind.or_else(|| (moved && message.contains("files are not as the job published")).then_some("moved meanwhile"))
}
