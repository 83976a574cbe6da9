//! The names and numbers of the protocol, one type each, so that none can stand in for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A record's number in the job log: 0, 1, 2 … without gaps.
    Seq(u64)
}

number! {
    /// One start of one runner or command; a fresh random UUID, never reused.
    Incarnation(Uuid)
}

number! {
    /// The job's identity towards its sinks. It outlives the Kubernetes object.
    JobUid(Uuid)
}

number! {
    /// A runner's place in the division of the work: 0 … parallelism − 1.
    Ordinal(u32)
}

number! {
    /// The number of a term; it only grows for one home.
    Generation(u64)
}

number! {
    /// A Kafka offset; a range is half-open, so an offset also names the position before that record.
    Offset(i64)
}

number! {
    /// Counts the slots one incarnation tried to write. No two records of an incarnation share an attempt.
    Attempt(u64)
}

number! {
    /// A time as milliseconds since 1970-01-01 UTC.
    Millis(i64)
}

name! {
    /// The hash of one immutable rendering of a job's spec.
    Revision
}

name! {
    /// The name of a Kafka input.
    SourceName
}

name! {
    /// The name of a query with its sink.
    OutputName
}

name! {
    /// A topic's id as the brokers give it: a topic deleted and created again has another.
    TopicId
}

impl Seq {
    /// The first slot of every log.
    pub const ZERO: Seq = Seq(0);

    /// The slot after this one.
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }

    /// The slot before this one; `None` for the first.
    pub fn previous(self) -> Option<Seq> {
        self.0.checked_sub(1).map(Seq)
    }
}

impl Attempt {
    /// The attempt after this one.
    pub fn next(self) -> Attempt {
        Attempt(self.0 + 1)
    }
}

/// Who goes before whom on one ordinal: first by home, then by pod number. Both only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rank {
    /// The slot of the `Init` or `Adopt` under which the process works.
    pub home: Seq,
    /// The pod's number, given by the operator; outside a cluster the highest so far plus one.
    pub pod: u64,
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.home, self.pod)
    }
}

/// A Kafka topic-partition of one source. As text `source/topic/partition`, so that it can be a key of a JSON map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Partition {
    /// The source that reads it.
    pub source: SourceName,
    /// The Kafka topic. Kafka allows letters, digits, `.`, `_` and `-`: never a slash.
    pub topic: String,
    /// The partition's number in the topic.
    pub partition: i32,
}

impl Partition {
    /// The partition with that number of `topic`, read by `source`.
    pub fn new(source: impl Into<String>, topic: impl Into<String>, partition: i32) -> Self {
        Self { source: SourceName(source.into()), topic: topic.into(), partition }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.source, self.topic, self.partition)
    }
}

impl From<Partition> for String {
    fn from(partition: Partition) -> Self {
        partition.to_string()
    }
}

/// A text that should have named something and does not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{text:?} is not a {what}; expected {form}")]
pub struct ParseError {
    /// The kind of thing expected.
    pub what: &'static str,
    /// The text that was found.
    pub text: String,
    /// What it should have looked like.
    pub form: &'static str,
}

impl FromStr for Partition {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseError { what: "partition", text: text.to_owned(), form: "source/topic/number" };
        // From the right: a source's name may hold a slash, a topic's never does.
        let mut parts = text.rsplitn(3, '/');
        let number = parts.next().and_then(|n| n.parse().ok()).ok_or_else(error)?;
        let topic = parts.next().filter(|t| !t.is_empty()).ok_or_else(error)?;
        let source = parts.next().filter(|s| !s.is_empty()).ok_or_else(error)?;
        Ok(Self::new(source, topic, number))
    }
}

impl TryFrom<String> for Partition {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}
