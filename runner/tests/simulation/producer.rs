//! What goes into Kafka, remembered: what has to come out, once, and what must not.

use std::collections::BTreeMap;

use millrace::source::memory::{MemoryKafka, Record};

use crate::chance::Chance;

/// What may become of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is in the tables exactly once.
    Once,
    /// Its transaction is open or was aborted: it never appears.
    Never,
    /// Its topic lost it: at most once.
    AtMostOnce,
}

#[derive(Debug, Clone)]
pub struct Produced {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub fate: Fate,
    /// Not UTF-8: a dead letter.
    pub bad: bool,
}

/// Everything ever produced, by value.
pub struct Producer {
    pub kafka: MemoryKafka,
    pub all: BTreeMap<String, Produced>,
    /// Partitions of each topic.
    pub partitions: BTreeMap<String, i32>,
    open: BTreeMap<(String, i32), Vec<String>>,
    made: u64,
}

impl Producer {
    pub fn new(kafka: MemoryKafka) -> Self {
        Self { kafka, all: BTreeMap::new(), partitions: BTreeMap::new(), open: BTreeMap::new(), made: 0 }
    }

    pub fn create(&mut self, topic: &str, partitions: u64) {
        self.kafka.create_topic(topic, partitions as usize);
        self.partitions.insert(topic.to_owned(), partitions as i32);
        self.open.retain(|(of, _), _| of != topic);
        for produced in self.all.values_mut().filter(|produced| produced.topic == topic) {
            if produced.fate == Fate::Once {
                produced.fate = Fate::AtMostOnce;
            }
        }
    }

    pub fn grow(&mut self, topic: &str) {
        if let Some(count) = self.partitions.get_mut(topic) {
            *count += 1;
            self.kafka.grow_topic(topic, *count as usize);
        }
    }

    /// Behind the last record ever appended to a partition.
    pub fn end(&self, topic: &str, partition: i32) -> i64 {
        let of = self.all.values().filter(|p| p.topic == topic && p.partition == partition);
        of.map(|p| p.offset + 1).max().unwrap_or(0)
    }

    /// Some partition of some topic.
    pub fn any(&self, chance: &mut Chance) -> Option<(String, i32)> {
        let all: Vec<_> = self.partitions.iter().flat_map(|(t, n)| (0..*n).map(|p| (t.clone(), p))).collect();
        chance.pick(&all).cloned()
    }

    pub fn append(&mut self, topic: &str, partition: i32, bad: bool) {
        self.made += 1;
        let value = format!("{topic}-{partition}-{}", self.made);
        let mut bytes = value.clone().into_bytes();
        if bad {
            bytes.push(0xff);
        }
        let Some(offset) = self.kafka.append(topic, partition, Record::value(bytes)) else { return };
        let key = (topic.to_owned(), partition);
        let open = self.open.get_mut(&key);
        let fate = if open.is_some() { Fate::Never } else { Fate::Once };
        if let Some(open) = open {
            open.push(value.clone());
        }
        self.all.insert(value, Produced { topic: topic.to_owned(), partition, offset: offset.0, fate, bad });
    }

    pub fn open_transaction(&mut self, topic: &str, partition: i32) {
        self.kafka.open_transaction(topic, partition);
        self.open.entry((topic.to_owned(), partition)).or_default();
    }

    pub fn close_transactions(&mut self, chance: &mut Chance) {
        for ((topic, partition), values) in std::mem::take(&mut self.open) {
            let commit = chance.one_in(2);
            self.kafka.close_transaction(&topic, partition, commit);
            for value in values.iter().filter(|_| commit) {
                if let Some(produced) = self.all.get_mut(value) {
                    produced.fate = Fate::Once;
                }
            }
        }
    }

    /// Loses some of the oldest records of a partition.
    pub fn expire(&mut self, topic: &str, partition: i32, below: i64) {
        self.kafka.expire(topic, partition, millrace::ids::Offset(below));
        let lost = |p: &&mut Produced| p.topic == topic && p.partition == partition && p.offset < below;
        for produced in self.all.values_mut().filter(lost) {
            if produced.fate == Fate::Once {
                produced.fate = Fate::AtMostOnce;
            }
        }
    }
}
