//! Sources as they are written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    DdlText, DurationText, Empty, LocationText, LongText, ObjectName, SecretKey, ShortText, SqlName, TimestampText,
    TopicName,
};

/// A named Kafka input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceSpec {
    /// The table's name in SQL, unique among sources and views: letters, digits and underscores.
    pub name: SqlName,
    /// What is read and how it is reached.
    pub kafka: KafkaSpec,
    /// How a message's value becomes columns.
    pub format: FormatSpec,
    /// What happens to a message that does not decode. Unset: the job fails and says which message it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnErrorSpec>,
    /// Which column says when something happened, for windows and watermarks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_time: Option<EventTimeSpec>,
}

/// What is read from Kafka and how it is reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.topics) != has(self.topicPattern)",
        "message": "give exactly one of topics, topicPattern",
    },
    {
        "rule": "[has(self.startingOffsets), has(self.startingTimestamp), has(self.startingOffsetsByPartition)]\
                 .filter(x, x).size() <= 1",
        "message": "give at most one of startingOffsets, startingTimestamp, startingOffsetsByPartition",
    },
    {
        "rule": "[has(self.endingOffsets), has(self.endingTimestamp), has(self.endingOffsetsByPartition)]\
                 .filter(x, x).size() <= 1",
        "message": "give at most one of endingOffsets, endingTimestamp, endingOffsetsByPartition",
    },
]))]
pub struct KafkaSpec {
    /// Brokers to begin with: `host:port`, several separated by commas.
    #[schemars(length(min = 1))]
    pub bootstrap_servers: LongText,
    /// The topics to read. Exactly one of `topics` and `topicPattern` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub topics: Option<Vec<TopicName>>,
    /// A regular expression; every topic whose whole name matches is read, also one that appears later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_pattern: Option<LongText>,
    /// Where a new job begins: `earliest` or `latest`. Unset, as in Spark: `latest`, but `earliest` with the trigger
    /// `availableNow`. A job that has committed goes on where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_offsets: Option<StartingOffsetsSpec>,
    /// Where a new job begins: at the first message of this time or later, `2026-01-31T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_timestamp: Option<TimestampText>,
    /// Where a new job begins, by partition: an offset, -2 for the earliest or -1 for the latest, as in Spark. Every
    /// partition that the topics have when the job first starts is listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 10000))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["topic", "partition"]))]
    pub starting_offsets_by_partition: Option<Vec<StartingOffsetSpec>>,
    /// Where a bounded job (`trigger: {availableNow: {}}`) stops: `latest`, the end seen at the start. Unset: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending_offsets: Option<EndingOffsetsSpec>,
    /// Where a bounded job stops: before the first message of this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending_timestamp: Option<TimestampText>,
    /// Where a bounded job stops, by partition: before this offset. Partitions not listed stop at the end seen at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 10000))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["topic", "partition"]))]
    pub ending_offsets_by_partition: Option<Vec<PartitionOffsetSpec>>,
    /// Whether the job stops when Kafka has deleted messages that it has not read (true), or skips and records them
    /// (false). Unset: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_on_data_loss: Option<bool>,
    /// TLS to the brokers: `{}` trusts the system's certificates. Unset: no TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// How the client proves who it is. Unset: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<AuthenticationSpec>,
    /// Any librdkafka property that does not touch offsets, groups or what the fields above say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 64))]
    pub properties: Option<BTreeMap<String, LongText>>,
}

/// Where a new job begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::spec::without_description)]
pub enum StartingOffsetsSpec {
    /// At the oldest message there is.
    Earliest,
    /// At the end.
    Latest,
}

/// Where a bounded job stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::spec::without_description)]
pub enum EndingOffsetsSpec {
    /// At the end seen at the start.
    Latest,
}

/// Where one partition begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartingOffsetSpec {
    /// The topic.
    pub topic: TopicName,
    /// The partition's number, from 0.
    #[schemars(range(min = 0))]
    pub partition: i32,
    /// The offset, from 0; -2 is the earliest there is, -1 the latest.
    #[schemars(range(min = -2))]
    pub offset: i64,
}

/// An offset in one partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartitionOffsetSpec {
    /// The topic.
    pub topic: TopicName,
    /// The partition's number, from 0.
    #[schemars(range(min = 0))]
    pub partition: i32,
    /// The offset, from 0.
    #[schemars(range(min = 0))]
    pub offset: i64,
}

/// TLS to the brokers, in the shape Strimzi uses.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsSpec {
    /// PEM certificates to trust. Unset: the system's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub trusted_certificates: Vec<CertificateSpec>,
}

/// A certificate in a Secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateSpec {
    /// Name of the Secret.
    pub secret_name: ObjectName,
    /// Key of the PEM certificate in it, for example `ca.crt`.
    pub certificate: SecretKey,
}

/// How the client proves who it is, in the shape Strimzi uses: the Secrets of its KafkaUsers fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "self.type == 'tls' || (has(self.username) && has(self.passwordSecret) && !has(self.certificateAndKey))",
        "message": "plain and scram need username and passwordSecret, and no certificateAndKey",
    },
    {
        "rule": "self.type != 'tls' || (has(self.certificateAndKey) && !has(self.username) && !has(self.passwordSecret))",
        "message": "tls needs certificateAndKey, and neither username nor passwordSecret",
    },
]))]
pub struct AuthenticationSpec {
    /// `plain`, `scram-sha-256` or `scram-sha-512` with `username` and `passwordSecret`, or `tls` with `certificateAndKey`.
    #[serde(rename = "type")]
    pub kind: AuthenticationType,
    /// The user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<ShortText>,
    /// Where the password is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<PasswordSecretSpec>,
    /// Where the client's certificate and key are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_and_key: Option<CertificateAndKeySpec>,
}

/// How the client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(transform = crate::spec::without_description)]
pub enum AuthenticationType {
    /// User name and password as they are.
    Plain,
    /// SCRAM with SHA-256.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// SCRAM with SHA-512.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
    /// A client certificate.
    Tls,
}

/// A password in a Secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordSecretSpec {
    /// Name of the Secret.
    pub secret_name: ObjectName,
    /// Key of the password in it.
    pub password: SecretKey,
}

/// A certificate and its key in a Secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateAndKeySpec {
    /// Name of the Secret.
    pub secret_name: ObjectName,
    /// Key of the PEM certificate in it, for example `user.crt`.
    pub certificate: SecretKey,
    /// Key of the PEM private key in it, for example `user.key`.
    pub key: SecretKey,
}

/// How a message's value becomes columns.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "[has(self.json), has(self.text), has(self.binary)].filter(x, x).size() == 1",
    "message": "give exactly one of json, text, binary",
}]))]
pub struct FormatSpec {
    /// JSON objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<JsonSpec>,
    /// UTF-8 text, in one column `value`. Written `text: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Empty>,
    /// Bytes as they are, in one column `value`. Written `binary: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<Empty>,
}

/// JSON objects. Fields that the schema does not name are ignored; fields that are missing are null.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.schema) != has(self.fields)",
    "message": "give exactly one of schema, fields",
}]))]
pub struct JsonSpec {
    /// The columns in Spark's schema language: `id BIGINT, items ARRAY<STRUCT<name: STRING, price: DOUBLE>>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<DdlText>,
    /// The columns one by one, instead of `schema`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub fields: Option<Vec<FieldSpec>>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldSpec {
    /// The column's name: the field's in the JSON object.
    pub name: ShortText,
    /// Its type in Spark's schema language: `BIGINT`, `ARRAY<STRUCT<name: STRING, price: DOUBLE>>`.
    #[serde(rename = "type")]
    pub data_type: DdlText,
    /// Whether the value may be missing. Unset: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nullable: Option<bool>,
}

/// What happens to a message that does not decode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(self.action == 'deadLetter') == has(self.deadLetter)",
    "message": "deadLetter goes with the action deadLetter, and only with it",
}]))]
pub struct OnErrorSpec {
    /// `fail` stops the job, `skip` counts the message and leaves it out, `deadLetter` writes it to another place.
    pub action: OnErrorAction,
    /// Where messages that do not decode are written, with topic, partition, offset and the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetterSpec>,
}

/// What happens to a message that does not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::spec::without_description)]
pub enum OnErrorAction {
    /// The job stops.
    Fail,
    /// The message is counted and left out.
    Skip,
    /// The message is written to another place.
    DeadLetter,
}

/// Where messages that do not decode are written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterSpec {
    /// A folder of Parquet files.
    pub parquet: DeadLetterParquetSpec,
}

/// A folder of Parquet files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterParquetSpec {
    /// A folder that nothing else writes to: `s3://bucket/folder`, or a path on a laptop.
    pub path: LocationText,
}

/// Event time of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventTimeSpec {
    /// The column that says when something happened.
    pub column: ShortText,
    /// How far the watermark stays behind the newest event time of a partition: `10m`.
    pub watermark_delay: DurationText,
    /// A partition that is caught up and has been silent for this long holds no watermark back. Unset: it always does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<DurationText>,
    /// How the partitions' watermarks become the source's: `min`, or `max` as in Spark. Unset: `min`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<WatermarkPolicySpec>,
}

/// How the partitions' watermarks become the source's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::spec::without_description)]
pub enum WatermarkPolicySpec {
    /// The minimum over partitions that are not idle.
    Min,
    /// The maximum.
    Max,
}
