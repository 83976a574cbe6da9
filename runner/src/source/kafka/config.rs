//! From the manifest's Kafka section to librdkafka's properties.

use std::collections::BTreeMap;

use millrace_crds::{Authentication, Kafka};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use super::super::SourceError;
use crate::secrets::Secrets;

/// What every source starts from; the manifest's `properties` come on top.
///
/// The queue of fetched messages is kept small: 8 MiB or 20,000 messages, over-shot by one fetch (at most 1 MiB of
/// compressed data a partition), and is asked again for room after 10 ms instead of librdkafka's second. With four
/// partitions this stays well below 100 MB and still feeds a core at full speed.
const DEFAULTS: &[(&str, &str)] = &[
    ("queued.max.messages.kbytes", "8192"),
    ("queued.min.messages", "20000"),
    ("fetch.queue.backoff.ms", "10"),
    ("reconnect.backoff.max.ms", "2000"),
    ("socket.keepalive.enable", "true"),
    ("enable.metrics.push", "false"),
];

/// What exactly-once reading rests on; a manifest cannot say otherwise.
const FIXED: &[(&str, &str)] = &[
    ("allow.auto.create.topics", "false"),
    ("auto.offset.reset", "error"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("isolation.level", "read_committed"),
];

/// Properties that the manifest sets by a field of its own.
const ELSEWHERE: &[(&str, &str)] =
    &[("bootstrap.servers", "bootstrapServers"), ("metadata.broker.list", "bootstrapServers")];

/// Aliases of fixed properties: librdkafka takes either name, so both are fixed.
const ALIASES: &[(&str, &str)] = &[("auto.commit.enable", "enable.auto.commit")];

/// The properties of one source's two clients.
pub(super) struct Config {
    /// For the client that reads; it is in no group.
    pub reader: ClientConfig,
    /// For the client that notes offsets in the group.
    pub committer: ClientConfig,
}

/// Makes the properties of a source; reads the secrets it names. `group` is the group unless the manifest's properties
/// name another.
pub(super) fn config(source: &str, kafka: &Kafka, group: &str, secrets: &Secrets) -> Result<Config, SourceError> {
    let refused = |property: &str, reason: String| SourceError::Property {
        source_name: source.to_owned(),
        property: property.to_owned(),
        reason,
    };
    for (property, value) in &kafka.properties {
        let name = ALIASES.iter().find(|(alias, _)| alias == property).map_or(property.as_str(), |(_, name)| name);
        if let Some((_, fixed)) = FIXED.iter().find(|(fixed, _)| *fixed == name)
            && value != fixed
        {
            return Err(refused(
                property,
                format!("it is always '{fixed}': exactly-once reading rests on it; remove it"),
            ));
        }
        if let Some((_, field)) = ELSEWHERE.iter().find(|(set, _)| *set == name) {
            return Err(refused(property, format!("set it by the field {field}")));
        }
    }

    let mut properties: BTreeMap<String, String> = BTreeMap::new();
    let mut put = |key: &str, value: &str| {
        properties.insert(key.to_owned(), value.to_owned());
    };
    DEFAULTS.iter().for_each(|(key, value)| put(key, value));
    put("client.id", group);
    put("group.id", group);
    for (key, value) in security(source, kafka, secrets)? {
        put(key, &value);
    }
    kafka.properties.iter().for_each(|(key, value)| put(key, value));
    FIXED.iter().for_each(|(key, value)| put(key, value));
    put("bootstrap.servers", &kafka.bootstrap_servers);

    let mut committer: ClientConfig = properties.into_iter().collect();
    // Every handle serves its events rarely or late; what librdkafka would queue in the meantime is kept to the point.
    committer.set_log_level(RDKafkaLogLevel::Critical);
    let mut reader = committer.clone();
    let wants_details = kafka.properties.contains_key("debug");
    reader.remove("group.id").set_log_level(if wants_details { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });

    // librdkafka checks names and values one by one here; what depends on several is checked when the client is made.
    committer.create_native_config().map_err(|error| match error {
        KafkaError::ClientConfig(_, reason, property, _) => refused(&property, reason),
        other => SourceError::Other { source_name: source.to_owned(), reason: other.to_string() },
    })?;
    Ok(Config { reader, committer })
}

fn security(source: &str, kafka: &Kafka, secrets: &Secrets) -> Result<Vec<(&'static str, String)>, SourceError> {
    let text = |secret| {
        secrets
            .text(secret)
            .map_err(|error| SourceError::Settings { source_name: source.to_owned(), reason: error.to_string() })
    };
    let sasl = matches!(kafka.authentication, Some(Authentication::Sasl { .. }));
    let tls = kafka.tls.is_some() || matches!(kafka.authentication, Some(Authentication::Tls { .. }));
    let mut properties = Vec::new();
    match (tls, sasl) {
        (false, false) => {}
        (true, false) => properties.push(("security.protocol", "ssl".to_owned())),
        (false, true) => properties.push(("security.protocol", "sasl_plaintext".to_owned())),
        (true, true) => properties.push(("security.protocol", "sasl_ssl".to_owned())),
    }
    if let Some(tls) = kafka.tls.as_ref().filter(|tls| !tls.trusted_certificates.is_empty()) {
        let certificates = tls.trusted_certificates.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        properties.push(("ssl.ca.pem", certificates.join("\n") + "\n"));
    }
    match &kafka.authentication {
        None => {}
        Some(Authentication::Sasl { mechanism, username, password }) => {
            properties.push(("sasl.mechanism", mechanism.as_str().to_owned()));
            properties.push(("sasl.username", username.clone()));
            properties.push(("sasl.password", text(password)?));
        }
        Some(Authentication::Tls { certificate, key }) => {
            properties.push(("ssl.certificate.pem", text(certificate)? + "\n"));
            properties.push(("ssl.key.pem", text(key)? + "\n"));
        }
    }
    Ok(properties)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use millrace_crds::{SaslMechanism, SecretRef, Starting, Tls, Topics};

    use super::*;

    fn kafka(properties: &[(&str, &str)]) -> Kafka {
        Kafka {
            bootstrap_servers: "kafka:9092".into(),
            topics: Topics::List(vec!["t".into()]),
            starting: Starting::Earliest,
            ending: None,
            fail_on_data_loss: true,
            tls: None,
            authentication: None,
            properties: properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        }
    }

    fn made(kafka: &Kafka) -> Result<Config, SourceError> {
        config("orders", kafka, "millrace.local.j.orders", &Secrets::new("/nowhere"))
    }

    #[test]
    fn the_manifests_properties_win_over_the_defaults() {
        let config = made(&kafka(&[("fetch.queue.backoff.ms", "77"), ("fetch.max.bytes", "52428800")])).unwrap();
        assert_eq!(config.reader.get("fetch.queue.backoff.ms"), Some("77"));
        assert_eq!(config.reader.get("fetch.max.bytes"), Some("52428800"));
        assert_eq!(config.reader.get("queued.max.messages.kbytes"), Some("8192"));
        assert_eq!(config.reader.get("isolation.level"), Some("read_committed"));
    }

    #[test]
    fn what_exactly_once_rests_on_cannot_be_changed() {
        for (property, value) in [
            ("isolation.level", "read_uncommitted"),
            ("enable.auto.commit", "true"),
            ("auto.commit.enable", "true"),
            ("auto.offset.reset", "earliest"),
            ("bootstrap.servers", "other:9092"),
        ] {
            let error = made(&kafka(&[(property, value)])).err().unwrap();
            assert!(matches!(&error, SourceError::Property { property: named, .. } if named == property), "{error}");
        }
        assert!(made(&kafka(&[("isolation.level", "read_committed")])).is_ok());
    }

    #[test]
    fn a_property_librdkafka_does_not_know_is_named() {
        let error = made(&kafka(&[("fetch.max.bites", "1")])).err().unwrap().to_string();
        assert!(error.contains("source 'orders': kafka property 'fetch.max.bites' is refused"), "{error}");
        let error = made(&kafka(&[("fetch.min.bytes", "many")])).err().unwrap().to_string();
        assert!(error.contains("'fetch.min.bytes' is refused"), "{error}");
    }

    #[test]
    fn only_the_committer_is_in_the_group_and_the_manifest_may_name_it() {
        let config = made(&kafka(&[])).unwrap();
        assert_eq!(
            (config.reader.get("group.id"), config.committer.get("group.id")),
            (None, Some("millrace.local.j.orders"))
        );
        let config = made(&kafka(&[("group.id", "allowed-prefix.orders")])).unwrap();
        assert_eq!(
            (config.reader.get("group.id"), config.committer.get("group.id")),
            (None, Some("allowed-prefix.orders"))
        );
    }

    #[test]
    fn sasl_over_tls_takes_its_secrets_from_files() {
        let dir = tempfile::tempdir().unwrap();
        for (secret, key, value) in
            [("ca", "ca.crt", "CA ONE\n"), ("ca2", "ca.crt", "CA TWO"), ("u", "password", "pw\n")]
        {
            fs::create_dir_all(dir.path().join(secret)).unwrap();
            fs::write(dir.path().join(secret).join(key), value).unwrap();
        }
        let secret = |name: &str, key: &str| SecretRef { name: name.into(), key: key.into() };
        let mut kafka = kafka(&[]);
        kafka.tls = Some(Tls { trusted_certificates: vec![secret("ca", "ca.crt"), secret("ca2", "ca.crt")] });
        kafka.authentication = Some(Authentication::Sasl {
            mechanism: SaslMechanism::ScramSha512,
            username: "u".into(),
            password: secret("u", "password"),
        });
        let config = config("orders", &kafka, "g", &Secrets::new(dir.path())).unwrap().reader;
        for (property, value) in [
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "u"),
            ("sasl.password", "pw"),
            ("ssl.ca.pem", "CA ONE\nCA TWO\n"),
        ] {
            assert_eq!(config.get(property), Some(value), "{property}");
        }
        let error = made(&kafka).err().unwrap().to_string();
        assert!(error.contains("secret 'ca' has no key 'ca.crt': /nowhere/ca/ca.crt does not exist"), "{error}");
    }

    #[test]
    fn a_client_certificate_means_tls() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("me")).unwrap();
        fs::write(dir.path().join("me/user.crt"), "CERT").unwrap();
        fs::write(dir.path().join("me/user.key"), "KEY").unwrap();
        let secret = |key: &str| SecretRef { name: "me".into(), key: key.into() };
        let mut kafka = kafka(&[]);
        kafka.tls = Some(Tls::default());
        kafka.authentication = Some(Authentication::Tls { certificate: secret("user.crt"), key: secret("user.key") });
        let properties = security("orders", &kafka, &Secrets::new(dir.path())).unwrap();
        assert_eq!(
            properties,
            vec![
                ("security.protocol", "ssl".to_owned()),
                ("ssl.certificate.pem", "CERT\n".to_owned()),
                ("ssl.key.pem", "KEY\n".to_owned())
            ]
        );
    }
}
