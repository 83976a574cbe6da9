//! The job log of such a job, as its objects say.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde_json::{Value, json};

use crate::Result;

/// A job's log as its objects say: the entries of every slot, for counting.
#[derive(Debug, Default)]
pub struct Log {
    slots: BTreeMap<String, Vec<Value>>,
}

impl Log {
    pub(super) fn add(&mut self, key: &str, read: impl FnOnce() -> Result<Vec<u8>>) -> Result<()> {
        if !key.ends_with(".json") || self.slots.contains_key(key) {
            return Ok(());
        }
        let slot: Value = serde_json::from_slice(&read()?).with_context(|| format!("slot {key}"))?;
        let entries = slot["entries"].as_array().cloned().with_context(|| format!("slot {key} has no entries"))?;
        self.slots.insert(key.to_owned(), entries);
        Ok(())
    }

    /// How many slots it has.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// How many entries there are of a kind, by the name of the format: `claim`, `commit`, `term` …
    pub fn count(&self, kind: &str) -> usize {
        self.entries(kind).count()
    }

    /// The bodies of the entries of a kind, in order.
    pub fn entries<'l>(&'l self, kind: &'l str) -> impl Iterator<Item = &'l Value> {
        self.slots.values().flatten().filter_map(move |entry| entry["body"].get(kind))
    }

    /// The incarnations that wrote entries of a kind, in order.
    pub fn writers<'l>(&'l self, kind: &'l str) -> impl Iterator<Item = &'l str> {
        let of_kind = self.slots.values().flatten().filter(move |entry| entry["body"].get(kind).is_some());
        of_kind.filter_map(|entry| entry["writer"]["incarnation"].as_str())
    }

    /// Whose the last commit of each partition is.
    pub fn last_committers(&self) -> BTreeMap<&str, &str> {
        let mut last = BTreeMap::new();
        for entry in self.slots.values().flatten() {
            let ranges = entry["body"]["commit"]["ranges"].as_object().into_iter().flatten();
            for (partition, writer) in
                ranges.filter_map(|(name, _)| Some((name, entry["writer"]["incarnation"].as_str()?)))
            {
                last.insert(partition.as_str(), writer);
            }
        }
        last
    }

    /// How many decided outputs of records are not noted as published.
    pub fn unpublished(&self) -> usize {
        let mut pending = BTreeSet::new();
        for (key, entries) in &self.slots {
            let name = key.rsplit('/').next().and_then(|name| name.strip_suffix(".json"));
            let seq = name.and_then(|name| name.parse::<u64>().ok()).unwrap_or_default();
            for body in entries.iter().map(|entry| &entry["body"]) {
                let notes = [&body["commit"]["published"], &body["published"]["notes"]];
                for note in notes.into_iter().filter_map(Value::as_array).flatten() {
                    pending.remove(&(note["seq"].as_u64().unwrap_or_default(), note["output"].to_string()));
                }
                let outputs = body["commit"]["intents"].as_object().into_iter().flatten();
                pending.extend(outputs.map(|(output, _)| (seq, json!(output).to_string())));
            }
        }
        pending.len()
    }

    /// Up to which offset each partition is committed.
    pub fn committed(&self, partitions: i32) -> Vec<i64> {
        let mut committed = vec![0; usize::try_from(partitions).unwrap_or(0)];
        for commit in self.entries("commit") {
            for (partition, range) in commit["ranges"].as_object().into_iter().flatten() {
                let number = partition.rsplit('/').next().and_then(|number| number.parse::<usize>().ok());
                let place = number.and_then(|number| committed.get_mut(number));
                if let (Some(place), Some(to)) = (place, range["to"].as_i64()) {
                    *place = to.max(*place);
                }
            }
        }
        committed
    }
}
