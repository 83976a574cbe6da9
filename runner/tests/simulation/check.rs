//! What must hold: once while running, and all of it once the world is at rest.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace::output::dead_letter_output;
use millrace::sink::names::StagedName;
use millrace_joblog::staged::is_dead;
use millrace_joblog::{Fold, Offset, Partition};

use crate::producer::{Fate, Produced};
use crate::runner::SOURCE;
use crate::world::World;

/// The tables so far: each value, and how often it is there.
fn published(world: &World, output: &str) -> BTreeMap<String, u64> {
    let mut times = BTreeMap::new();
    for line in world.setting.tables.published(output) {
        *times.entry(value_of(&line)).or_default() += 1;
    }
    times
}

/// The value in a line of the memory sink.
fn value_of(line: &str) -> String {
    let row: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    match (row.get("offset"), row.get("topic"), row.get("partition"), row.get("value")) {
        (Some(offset), Some(topic), Some(partition), _) => {
            format!("{}/{partition}/{offset}", topic.as_str().unwrap_or_default())
        }
        (_, _, _, Some(value)) => value.as_str().unwrap_or_default().to_owned(),
        _ => line.to_owned(),
    }
}

/// What each output has to hold, and how often at least and at most.
fn expected(world: &World) -> BTreeMap<String, BTreeMap<String, (u64, u64)>> {
    let seen = world.setting.watch.seen();
    // A rewind forgets where a bounded read ends: until it is planned anew any record may be there.
    let ends = seen.fold.plan().filter(|_| world.setting.bounded).map(|plan| plan.ends.clone());
    let within = |p: &Produced| {
        ends.as_ref().is_none_or(|ends| {
            let end = ends.iter().find(|(at, _)| at.topic == p.topic && at.partition == p.partition);
            end.is_some_and(|(_, end)| Offset(p.offset) < *end)
        })
    };
    let mut expected: BTreeMap<String, BTreeMap<String, (u64, u64)>> = BTreeMap::new();
    let letters = world.setting.dead_letters.then(|| dead_letter_output(SOURCE));
    for output in world.setting.outputs.iter().cloned().chain(letters.clone()) {
        expected.insert(output, BTreeMap::new());
    }
    for (value, produced) in world.producer.all.iter().filter(|(_, p)| within(p)) {
        if produced.fate == Fate::Never {
            continue;
        }
        // How often its offset is passed over for an output.
        let times = |output: &str| {
            if seen.passes.moves.is_empty() {
                return if produced.fate == Fate::AtMostOnce { (0, 1) } else { (1, 1) };
            }
            let partition = Partition::new(SOURCE, &produced.topic, produced.partition);
            let (least, most) = seen.passes.times(&seen.fold, output, &partition, produced.offset);
            if produced.fate == Fate::AtMostOnce { (0, most) } else { (least, most) }
        };
        if produced.bad {
            // A topic that was created again has the same offsets anew: only the number of letters can be told.
            let Some(output) = &letters else { continue };
            let (times, Some(letters)) = (times(output), expected.get_mut(output)) else { continue };
            let key = format!("{}/{}/{}", produced.topic, produced.partition, produced.offset);
            let bounds = letters.entry(key).or_insert((0, 0));
            *bounds = (bounds.0 + times.0, bounds.1 + times.1);
        } else {
            for output in &world.setting.outputs {
                if let Some(values) = expected.get_mut(output) {
                    values.insert(value.clone(), times(output));
                }
            }
        }
    }
    expected
}

/// No row is there twice, or should not be there, at any time.
pub fn no_doubles(world: &mut World) {
    for (output, expected) in expected(world) {
        for (value, times) in published(world, &output) {
            let most = expected.get(&value).map_or(0, |bounds| bounds.1);
            if times > most {
                world
                    .setting
                    .watch
                    .violation(format!("{value} is in {output} {times} times, at most {most} are right"));
                return;
            }
        }
    }
}

/// The first row that is not there, if any.
fn missing(world: &World) -> Option<String> {
    for (output, expected) in expected(world) {
        let there = published(world, &output);
        let times = |value: &str| there.get(value).copied().unwrap_or(0);
        if let Some((value, (least, _))) = expected.iter().find(|(value, bounds)| times(value) < bounds.0) {
            return Some(format!("{value} is in {output} {} times, at least {least} are right", times(value)));
        }
    }
    None
}

/// Everything that must hold once nothing fails any more.
pub async fn at_rest(world: &mut World) {
    if world.is_broken() {
        return;
    }
    world.wait_until("every command ends", |world| world.nobody_commands()).await;
    if world.setting.bounded {
        world
            .wait_until("every runner completes", |world| {
                world.all_completed()
                    && world.setting.watch.seen().fold.plan().is_some_and(|plan| plan.complete.is_some())
            })
            .await;
        complete(world);
        return;
    }
    world.wait_until("everything is published", |world| missing(world).is_none() && nothing_pending(world)).await;
    if let Some(missing) = missing(world) {
        world.setting.watch.violation(missing);
    }
    collected(world).await;
    idle(world).await;
    world.stop_all();
    world.wait_until("every runner stops", |world| world.processes.is_empty()).await;
    complete(world);
    litter(world);
}

/// Nothing is still to be published, or to be taken back.
fn nothing_pending(world: &World) -> bool {
    let seen = world.setting.watch.seen();
    seen.fold.pending().is_empty() && seen.fold.retractions().is_empty()
}

/// A few more epochs, so that the collector has its turn: after that the log is short.
async fn collected(world: &mut World) {
    let limits = world.setting.limits;
    let count = |world: &World| world.setting.watch.seen().counts.get("snapshots").copied().unwrap_or(0);
    let until = count(world) + 3 + limits.keep_segments * 2 + limits.segment_slots.div_ceil(limits.snapshot_every);
    let mut more = 0;
    world
        .wait_until("snapshots are written", |world| {
            if count(world) < until {
                more += 1;
                world.trickle(more);
                return false;
            }
            missing(world).is_none() && nothing_pending(world)
        })
        .await;
}

/// In a world where nothing happens, nothing is claimed, divided or written.
async fn idle(world: &mut World) {
    if world.is_broken() {
        return;
    }
    // Grace periods and the last looks at the brokers end, and the last process hears of the last division.
    for _ in 0..75 {
        world.rest(Duration::from_secs(1)).await;
    }
    let next = |world: &World| world.setting.watch.seen().fold.next();
    let before = next(world);
    for _ in 0..20 {
        world.rest(Duration::from_secs(1)).await;
    }
    let after = next(world);
    if before != after {
        world.setting.watch.violation(format!("an idle job wrote slots {before} to {after}"));
    }
}

/// Everything is there once, and published.
fn complete(world: &mut World) {
    no_doubles(world);
    if let Some(missing) = missing(world) {
        world.setting.watch.violation(missing);
    }
    if !nothing_pending(world) {
        world.setting.watch.violation("something decided is not noted as published, or as taken back");
    }
}

/// What is left in the store is bounded.
fn litter(world: &mut World) {
    let fold: Fold = world.setting.watch.seen().fold.clone();
    // What is dead since then is for the next snapshot's collector.
    let collected_by = world.setting.watch.seen().snapshot.map_or(0, |seq| seq.0 as usize + 1);
    let then = world.setting.watch.seen().history.get(collected_by).cloned().unwrap_or(fold);
    let objects = world.setting.store.objects.objects();
    let litter = world.setting.watch.seen().litter.clone();
    let limits = world.setting.limits;
    let mut problems = Vec::new();
    let slots = objects.keys().filter(|key| key.starts_with("log/") && !litter.contains(*key)).count() as u64;
    let most = limits.segment_slots * (limits.keep_segments + 2) + limits.snapshot_every;
    if slots > most {
        problems.push(format!("{slots} slots are left, at most {most} are right"));
    }
    let snapshots = objects.keys().filter(|key| key.starts_with("snapshots/")).count();
    if snapshots > limits.keep_snapshots + 1 {
        problems.push(format!("{snapshots} snapshots are left"));
    }
    for (path, _) in world.setting.tables.objects() {
        let Some((_, relative)) = path.split_once('/') else { continue };
        if StagedName::parse(relative).is_some() && is_dead(relative, &then) {
            problems.push(format!("{path} belongs to a dead claim and is still there"));
        }
    }
    for problem in problems {
        world.setting.watch.violation(problem);
    }
}
