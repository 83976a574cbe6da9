//! A job's log, as its objects in MinIO say: when which partition was committed by which pod, and what is published.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::Result;

/// One decided epoch that consumed input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The slot.
    pub seq: u64,
    /// When the store got it.
    pub stored: Moment,
    /// The process that wrote it.
    pub incarnation: String,
    /// Its ordinal.
    pub ordinal: u64,
    /// Its pod's number.
    pub pod: u64,
    /// The partitions it advanced, each with its new offset.
    pub to: BTreeMap<u64, i64>,
}

/// A time of the store's clock. On a kind cluster that is this machine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// This machine's time.
    pub fn now() -> Moment {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// How long after `earlier` this is; nothing if it was before.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The part of a log that was read so far.
#[derive(Debug, Default)]
pub struct JobLog {
    last: String,
    commits: Vec<Commit>,
    unpublished: BTreeSet<(u64, String)>,
}

impl JobLog {
    /// The key behind which nothing was read yet.
    pub fn last(&self) -> &str {
        &self.last
    }

    /// The decided epochs with input, in order.
    pub fn commits(&self) -> &[Commit] {
        &self.commits
    }

    /// Adds slots as `bench.py` gives them; those that were read already change nothing.
    ///
    /// # Errors
    ///
    /// When one is not what the format says.
    pub fn add(&mut self, slots: &[Value]) -> Result<()> {
        for slot in slots {
            let key = slot["key"].as_str().context("a slot without a key")?;
            if key <= self.last.as_str() {
                continue;
            }
            self.add_slot(key, slot).with_context(|| format!("slot {key}"))?;
            self.last = key.to_owned();
        }
        Ok(())
    }

    fn add_slot(&mut self, key: &str, slot: &Value) -> Result<()> {
        let name = key.rsplit('/').next().and_then(|name| name.strip_suffix(".json"));
        let seq = name.and_then(|name| name.parse::<u64>().ok()).context("the key is no slot's")?;
        let stored = Moment(slot["stored"].as_u64().context("no time")?);
        for entry in slot["entries"].as_array().context("no entries")? {
            let (writer, body) = (&entry["writer"], &entry["body"]);
            let notes = [&body["commit"]["published"], &body["published"]["notes"]];
            for note in notes.into_iter().filter_map(Value::as_array).flatten() {
                let output = note["output"].as_str().context("a note without an output")?;
                self.unpublished.remove(&(note["seq"].as_u64().context("a note without seq")?, output.to_owned()));
            }
            let intents = body["commit"]["intents"].as_object().into_iter().flatten();
            self.unpublished.extend(intents.map(|(output, _)| (seq, output.clone())));
            let mut to = BTreeMap::new();
            for (partition, range) in body["commit"]["ranges"].as_object().into_iter().flatten() {
                let number = partition.rsplit('/').next().and_then(|number| number.parse().ok());
                let end = range["to"].as_i64().context("a range without an end")?;
                to.insert(number.with_context(|| format!("partition {partition}"))?, end);
            }
            if !to.is_empty() {
                let incarnation = writer["incarnation"].as_str().context("a writer without incarnation")?.to_owned();
                let ordinal = writer["ordinal"].as_u64().context("a commit without ordinal")?;
                let pod = writer["rank"]["pod"].as_u64().context("a commit without rank")?;
                self.commits.push(Commit { seq, stored, incarnation, ordinal, pod, to });
            }
        }
        Ok(())
    }

    /// Whether everything up to these ends is committed, and all that is decided is published.
    ///
    /// # Errors
    ///
    /// When it is not so; it says what is missing.
    pub fn is_settled(&self, ends: &[i64]) -> Result<()> {
        let mut committed = vec![0; ends.len()];
        for (partition, to) in self.commits.iter().flat_map(|commit| &commit.to) {
            if let Some(place) = usize::try_from(*partition).ok().and_then(|partition| committed.get_mut(partition)) {
                *place = *to;
            }
        }
        ensure!(committed == ends, "committed {committed:?} of {ends:?}");
        ensure!(self.unpublished.is_empty(), "{} outputs of records are not published", self.unpublished.len());
        Ok(())
    }

    /// The longest time without a commit of the whole job between two moments, the time before the first and after the last
    /// included.
    pub fn longest_pause(&self, from: Moment, to: Moment) -> Duration {
        longest(self.commits.iter().map(|commit| commit.stored), from, to)
    }

    /// The same for each partition.
    pub fn longest_pause_by_partition(&self, from: Moment, to: Moment) -> BTreeMap<u64, Duration> {
        let partitions: BTreeSet<u64> = self.commits.iter().flat_map(|commit| commit.to.keys().copied()).collect();
        let of = |partition: u64| self.commits.iter().filter(move |commit| commit.to.contains_key(&partition));
        partitions.into_iter().map(|p| (p, longest(of(p).map(|commit| commit.stored), from, to))).collect()
    }
}

fn longest(moments: impl Iterator<Item = Moment>, from: Moment, to: Moment) -> Duration {
    let mut last = from;
    let mut longest = Duration::ZERO;
    for moment in moments.filter(|moment| (from..=to).contains(moment)).chain([to]) {
        longest = longest.max(moment.since(last));
        last = moment;
    }
    longest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slot(seq: u64, stored: u64, partition: u64, to: i64, published: Value) -> Value {
        let writer = json!({"incarnation": "i", "attempt": 1, "ordinal": 0, "rank": {"home": 0, "pod": 7}});
        let range = json!({"from": 0, "to": to});
        let commit = json!({"ranges": {format!("orders/t/{partition}"): range}, "intents": {"commandes": {}}, "published": published});
        json!({"key": format!("c/log/{seq:020}.json"), "stored": stored, "entries": [{"writer": writer, "body": {"commit": commit}}]})
    }

    #[test]
    fn a_log_is_settled_when_all_is_committed_and_published() -> Result<()> {
        let mut log = JobLog::default();
        log.add(&[slot(1, 1_000, 0, 10, json!([])), slot(2, 2_000, 1, 5, json!([{"seq": 1, "output": "commandes"}]))])?;
        let missing = log.is_settled(&[11, 5]).err().map(|error| error.to_string());
        assert_eq!(missing.as_deref(), Some("committed [10, 5] of [11, 5]"));
        assert!(log.is_settled(&[10, 5]).is_err());
        let notes = json!({"notes": [{"seq": 2, "output": "commandes"}]});
        log.add(&[json!({"key": "c/log/00000000000000000003.json", "stored": 3_000, "entries": [{"writer": {}, "body": {"published": notes}}]})])?;
        log.is_settled(&[10, 5])
    }

    #[test]
    fn pauses_are_counted_to_both_ends_and_by_partition() -> Result<()> {
        let mut log = JobLog::default();
        log.add(&[
            slot(1, 1_000, 0, 10, json!([])),
            slot(2, 2_500, 1, 5, json!([])),
            slot(3, 3_000, 0, 12, json!([])),
        ])?;
        assert_eq!(log.longest_pause(Moment(900), Moment(3_100)), Duration::from_millis(1_500));
        assert_eq!(log.longest_pause(Moment(900), Moment(9_000)), Duration::from_millis(6_000));
        let by_partition = log.longest_pause_by_partition(Moment(900), Moment(3_100));
        let expected = BTreeMap::from([(0, Duration::from_millis(2_000)), (1, Duration::from_millis(1_600))]);
        assert_eq!(by_partition, expected);
        Ok(())
    }
}
