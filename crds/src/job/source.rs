//! Sources: named Kafka inputs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Field, Location, SecretRef};

/// A named Kafka input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// An SQL identifier, unique among sources and views.
    pub name: String,
    /// What is read.
    pub kafka: Kafka,
    /// How a message's value becomes columns.
    pub format: Format,
    /// What happens to a message that does not decode.
    pub on_error: OnError,
    /// Event time, if the source has it.
    pub event_time: Option<EventTime>,
}

/// What is read from Kafka and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kafka {
    /// `host:port` pairs, separated by commas.
    pub bootstrap_servers: String,
    /// Which topics are read.
    pub topics: Topics,
    /// Where reading begins when the job log knows nothing of a partition yet.
    pub starting: Starting,
    /// Where a bounded job stops; only with the trigger `availableNow`. Unset: the ends seen at the start.
    pub ending: Option<Ending>,
    /// Whether offsets that Kafka no longer has stop the job (true) or are skipped and recorded (false).
    pub fail_on_data_loss: bool,
    /// TLS to the brokers, if any.
    pub tls: Option<Tls>,
    /// How the client proves who it is, if at all.
    pub authentication: Option<Authentication>,
    /// Further librdkafka properties; none that would break the protocol.
    pub properties: BTreeMap<String, String>,
}

/// Which topics a source reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topics {
    /// These, in the order written; never empty, no name twice.
    List(Vec<String>),
    /// Every topic whose whole name matches this regular expression.
    Pattern(String),
}

/// Where reading begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Starting {
    /// The oldest offset there is.
    Earliest,
    /// The end at the first start.
    Latest,
    /// The first message at or after this time, in milliseconds since 1970 (UTC).
    Timestamp(i64),
    /// These offsets; -2 is the earliest, -1 the latest. Every partition there is at the first start must be listed.
    ByPartition(Vec<PartitionOffset>),
}

/// Where a bounded job stops (exclusive).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The end seen at the start.
    Latest,
    /// The first message at or after this time, in milliseconds since 1970 (UTC); the end if there is none.
    Timestamp(i64),
    /// These offsets; partitions not listed stop at the end seen at the start.
    ByPartition(Vec<PartitionOffset>),
}

/// An offset in one partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionOffset {
    /// The topic's name.
    pub topic: String,
    /// The partition's number, from 0.
    pub partition: i32,
    /// The offset, from 0; where a job starts also -2, the earliest, and -1, the latest.
    pub offset: i64,
}

/// TLS to the brokers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// PEM certificates to trust; empty: the system's.
    pub trusted_certificates: Vec<SecretRef>,
}

/// How the client proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// A user name and a password.
    Sasl {
        /// How they are sent.
        mechanism: SaslMechanism,
        /// The user's name.
        username: String,
        /// Where the password is read from.
        password: SecretRef,
    },
    /// A client certificate; the source has [`Tls`] too.
    Tls {
        /// The PEM certificate (chain).
        certificate: SecretRef,
        /// Its PEM private key.
        key: SecretRef,
    },
}

/// SASL mechanisms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SaslMechanism {
    /// The password as it is: use it over TLS only.
    Plain,
    /// SCRAM with SHA-256.
    ScramSha256,
    /// SCRAM with SHA-512.
    ScramSha512,
}

impl SaslMechanism {
    /// The name Kafka and librdkafka know it by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// How a message's value becomes columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// JSON objects with this schema.
    Json {
        /// The columns; never empty, no name twice.
        schema: Vec<Field>,
    },
    /// UTF-8 text in one column `value`.
    Text,
    /// Bytes in one column `value`.
    Binary,
}

/// What happens to a message that does not decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnError {
    /// The job stops and says which message it was.
    Fail,
    /// The message is counted and left out.
    Skip,
    /// The message is written, raw and with the reason, to a Parquet folder in the same commit.
    DeadLetter {
        /// The folder.
        path: Location,
    },
}

/// Event time of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTime {
    /// The column that holds it.
    pub column: String,
    /// How far the watermark stays behind the newest event time of a partition.
    pub watermark_delay: Duration,
    /// A partition that is caught up and silent for this long holds no watermark back; unset: it always does.
    pub idle_timeout: Option<Duration>,
    /// How the partitions' watermarks become the source's.
    pub policy: WatermarkPolicy,
}

/// How the partitions' watermarks become the source's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WatermarkPolicy {
    /// The minimum over partitions that are not idle.
    #[default]
    Min,
    /// The maximum, as in Spark.
    Max,
}
