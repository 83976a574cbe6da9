//! Properties of librdkafka that a manifest may not set: they would break the protocol, or contradict another field.

use super::{Errors, Path};
use crate::spec::KafkaSpec;

/// Offsets and groups belong to the job log: each of these would let Kafka or the client decide about them.
const PROTOCOL: [(&str, &str); 15] = [
    ("group.id", "the group is named after the job, for lag tools only: offsets live in the job log"),
    ("group.instance.id", "partitions are assigned by the job log, not by a group"),
    ("group.protocol", "partitions are assigned by the job log, not by a group"),
    ("partition.assignment.strategy", "partitions are assigned by the job log, not by a group"),
    ("enable.auto.commit", "offsets live in the job log and are committed with the results"),
    ("auto.commit.enable", "offsets live in the job log and are committed with the results"),
    ("auto.commit.interval.ms", "offsets live in the job log and are committed with the results"),
    ("enable.auto.offset.store", "offsets live in the job log and are committed with the results"),
    ("offset.store.method", "offsets live in the job log and are committed with the results"),
    ("auto.offset.reset", "an offset that is gone must be seen, not skipped: see startingOffsets and failOnDataLoss"),
    ("enable.partition.eof", "the runner uses it to know where a partition ends"),
    ("transactional.id", "it belongs to producers, and a source reads"),
    ("bootstrap.servers", "bootstrapServers says it"),
    ("metadata.broker.list", "bootstrapServers says it"),
    ("allow.auto.create.topics", "a missing topic is reported, never created"),
];

/// Set by the field `tls`.
const TLS: [&str; 13] = [
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl_ca",
    "ssl.ca.certificate.stores",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl_certificate",
    "ssl.key.location",
    "ssl.key.pem",
    "ssl_key",
    "ssl.key.password",
    "ssl.keystore.location",
    "ssl.keystore.password",
];

/// Set by the field `authentication`.
const SASL: [&str; 4] = ["sasl.mechanism", "sasl.mechanisms", "sasl.username", "sasl.password"];

pub(super) fn check(kafka: &KafkaSpec, at: &Path, errors: &mut Errors) {
    for (key, value) in kafka.properties.iter().flatten() {
        if let Some((problem, fix)) = objection(key, value, kafka) {
            errors.add(&at.field(key), Some(value), problem, fix);
        }
    }
}

/// Why a property is refused, and what to do.
fn objection(key: &str, value: &str, kafka: &KafkaSpec) -> Option<(String, String)> {
    let remove = "remove it".to_owned();
    if let Some(plain) = key.strip_prefix("kafka.") {
        return Some(("Spark's prefix, which is not needed here".to_owned(), format!("write `{plain}`")));
    }
    if let Some((_, reason)) = PROTOCOL.iter().find(|(name, _)| *name == key) {
        return Some((format!("not for a manifest to set: {reason}"), remove));
    }
    if key == "isolation.level" && value != "read_committed" {
        return Some((
            "rows of aborted transactions would be read".to_owned(),
            "remove it: read_committed is set".to_owned(),
        ));
    }
    if key == "sasl.password" {
        let fix = "use the field authentication, which reads it from a Secret".to_owned();
        return Some(("a password in the manifest".to_owned(), fix));
    }
    if key == "sasl.jaas.config" || key.starts_with("ssl.truststore.") {
        let fix = "use the fields authentication and tls".to_owned();
        return Some(("a property of the Java client, which librdkafka does not know".to_owned(), fix));
    }
    if key.ends_with(".deserializer") || key == "max.poll.records" {
        return Some(("a property of the Java client, which librdkafka does not know".to_owned(), remove));
    }
    let (has_tls, has_authentication) = (kafka.tls.is_some(), kafka.authentication.is_some());
    if key == "security.protocol" && (has_tls || has_authentication) {
        return Some(("the fields tls and authentication say it".to_owned(), remove));
    }
    if TLS.contains(&key) && has_tls {
        return Some(("the field tls says it".to_owned(), remove));
    }
    if SASL.contains(&key) && has_authentication {
        return Some(("the field authentication says it".to_owned(), remove));
    }
    None
}
