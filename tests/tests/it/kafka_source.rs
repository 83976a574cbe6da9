//! What a runner reads from a real broker, by every way in, in every shape of topic.

use millrace_tests::messages::{FIRST_TIMESTAMP, Kind, Messages};
use millrace_tests::produce::{Codec, Ending, Producer, produce};
use millrace_tests::servers::kafka::{Kafka, Login, PASSWORD, USER};

use crate::copy_job::{CopyJob, SOON};

/// Where messages of one topic on the plain listener are.
fn at(kafka: &Kafka, topic: &str) -> String {
    format!("bootstrapServers: '{}', topics: [{topic}]", kafka.bootstrap())
}

#[test]
fn a_job_comes_in_by_every_login_with_secrets_in_strimzis_shape() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("logins", 2).unwrap();
    produce(kafka, &topic, &Messages::new(Kind::FlatOrders, 2), 0..300, Codec::None).unwrap();
    let tls = "tls: {trustedCertificates: [{secretName: my-cluster-cluster-ca-cert, certificate: ca.crt}]}";
    let user = |kind: &str| {
        let secret = format!("passwordSecret: {{secretName: {USER}, password: password}}");
        format!("authentication: {{type: {kind}, username: {USER}, {secret}}}")
    };
    let logins = [
        (Login::Tls, tls.to_owned()),
        (Login::Plain, user("plain")),
        (Login::Scram256, user("scram-sha-256")),
        (Login::Scram512, user("scram-sha-512")),
        (Login::Scram512Tls, format!("{tls}, {}", user("scram-sha-512"))),
    ];
    let jobs = logins.map(|(login, section)| {
        let bootstrap = kafka.bootstrap_for(login);
        let job = CopyJob::bounded(format!("bootstrapServers: '{bootstrap}', topics: [{topic}], {section}"));
        let certificate = std::fs::read(kafka.ca_certificate()).unwrap();
        job.secret("my-cluster-cluster-ca-cert", "ca.crt", &certificate);
        job.secret(USER, "password", PASSWORD.as_bytes());
        let runner = job.start();
        (login, job, runner)
    });
    for (login, job, mut runner) in jobs {
        let status = runner.wait_for_exit(SOON).unwrap();
        assert!(status.success(), "{login:?}: {status}: {}", runner.printed());
        job.assert_copied(kafka, &topic, "true", 300);
    }
}

#[test]
fn a_client_certificate_is_shown_if_the_broker_trusts_who_signed_it() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("mutual", 1).unwrap();
    produce(kafka, &topic, &Messages::new(Kind::FlatOrders, 1), 0..50, Codec::None).unwrap();
    let section = format!(
        "bootstrapServers: '{}', topics: [{topic}], \
         tls: {{trustedCertificates: [{{secretName: ca, certificate: ca.crt}}]}}, \
         authentication: {{type: tls, certificateAndKey: {{secretName: {USER}, certificate: user.crt, key: user.key}}}}",
        kafka.bootstrap_for(Login::Tls)
    );
    let job = CopyJob::bounded(section);
    job.secret("ca", "ca.crt", &std::fs::read(kafka.ca_certificate()).unwrap());
    let show = |(certificate, key): (Vec<u8>, Vec<u8>)| {
        job.secret(USER, "user.crt", &certificate);
        job.secret(USER, "user.key", &key);
    };
    // The broker asks for a certificate that its authority signed, and takes clients without one too: what tells is
    // whether librdkafka finds one to show.
    show(Kafka::untrusted_certificate().unwrap());
    let (_, printed) = job.finish();
    assert!(printed.contains("not sending any client certificates"), "{printed}");
    produce(kafka, &topic, &Messages::new(Kind::FlatOrders, 1), 50..100, Codec::None).unwrap();
    show(kafka.client_certificate().unwrap());
    let (status, printed) = job.finish();
    assert!(status.success() && !printed.contains("client certificates"), "{status}: {printed}");
    job.assert_copied(kafka, &topic, "true", 100);
}

#[test]
fn a_wrong_or_missing_secret_is_told_by_its_name_and_ends_the_job() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("locked", 1).unwrap();
    let section = format!(
        "bootstrapServers: '{}', topics: [{topic}], authentication: {{type: scram-sha-512, username: {USER}, \
         passwordSecret: {{secretName: {USER}, password: password}}}}",
        kafka.bootstrap_for(Login::Scram512)
    );
    let job = CopyJob::bounded(&section);
    let (status, printed) = job.finish();
    assert_eq!(status.code(), Some(64), "{printed}");
    assert!(printed.contains(&format!("secret '{USER}' has no key 'password'")), "{printed}");

    job.secret(USER, "password", b"not the password");
    let (status, printed) = job.finish();
    assert_eq!(status.code(), Some(64), "{printed}");
    assert!(printed.contains("denies access") && !printed.contains("not the password"), "{printed}");
}

#[test]
fn batches_of_every_codec_are_read() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("codecs", 2).unwrap();
    for (number, codec) in (0u64..).zip(Codec::ALL) {
        let range = number * 2_000..(number + 1) * 2_000;
        produce(kafka, &topic, &Messages::new(Kind::NestedOrders, 2), range, codec).unwrap();
    }
    let job = CopyJob::bounded(at(kafka, &topic));
    job.complete();
    job.assert_copied(kafka, &topic, "true", 10_000);
}

#[test]
fn rows_of_aborted_and_open_transactions_never_appear_and_a_bounded_read_ends_behind_a_marker() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("transactions", 2).unwrap();
    let messages = Messages::new(Kind::Logs, 2);
    let producer = Producer::transactional(kafka, Codec::Lz4, &topic).unwrap();
    for (number, ending) in (0u64..).zip([Ending::Abort, Ending::Commit, Ending::Commit, Ending::Abort]) {
        let range = number * 100..number * 100 + 100;
        producer.transaction(ending, |open| open.send_range(&topic, &messages, range)).unwrap();
    }
    let job = CopyJob::bounded(at(kafka, &topic));
    job.complete();
    job.assert_copied(kafka, &topic, "true", 200);

    // A transaction that stays open: the read ends before it.
    let left_open = producer.transaction(Ending::Commit, |open| {
        open.send_range(&topic, &messages, 400..500)?;
        open.flush()?;
        anyhow::bail!("left open")
    });
    assert!(left_open.unwrap_err().to_string().contains("left open"));
    job.complete();
    assert_eq!(job.rows(), 200);

    // A producer of the same id aborts it. What is committed then is behind it.
    drop(producer);
    let producer = Producer::transactional(kafka, Codec::None, &topic).unwrap();
    producer.transaction(Ending::Commit, |open| open.send_range(&topic, &messages, 500..600)).unwrap();
    job.complete();
    job.assert_copied(kafka, &topic, "true", 300);
}

#[test]
fn a_bounded_job_starts_and_ends_where_it_is_told() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("bounds", 2).unwrap();
    // Message i is of the time FIRST_TIMESTAMP + i and lies in partition i % 2 at offset i / 2.
    produce(kafka, &topic, &Messages::new(Kind::Events, 2), 0..1_000, Codec::Zstd).unwrap();
    assert_eq!(FIRST_TIMESTAMP, 1_735_689_600_000);
    let list = |field: &str, offsets: [i64; 2]| {
        format!(
            "{field}: [{{topic: {topic}, partition: 0, offset: {}}}, {{topic: {topic}, partition: 1, offset: {}}}]",
            offsets[0], offsets[1]
        )
    };
    let cases = [
        ("".to_owned(), "true", 1_000),
        ("startingOffsets: earliest, endingOffsets: latest".to_owned(), "true", 1_000),
        ("startingTimestamp: '2025-01-01T00:00:00.600Z'".to_owned(), "epoch_ms(_timestamp) % 1000 >= 600", 400),
        ("endingTimestamp: '2025-01-01T01:00:00.100+01:00'".to_owned(), "epoch_ms(_timestamp) % 1000 < 100", 100),
        (list("startingOffsetsByPartition", [100, 450]), "_offset >= 100 + 350 * _partition", 450),
        (list("startingOffsetsByPartition", [-2, -1]), "_partition = 0", 500),
        (list("endingOffsetsByPartition", [7, 0]), "_partition = 0 AND _offset < 7", 7),
        (
            format!("endingOffsetsByPartition: [{{topic: {topic}, partition: 1, offset: 1}}]"),
            "_partition = 0 OR _offset = 0",
            501,
        ),
    ];
    let running = cases.map(|(section, only, rows)| {
        let job = CopyJob::bounded(format!("{}, {section}", at(kafka, &topic)));
        let runner = job.start();
        (section, job, runner, only, rows)
    });
    for (section, job, mut runner, only, rows) in running {
        let status = runner.wait_for_exit(SOON).unwrap();
        assert!(status.success(), "{section}: {status}: {}", runner.printed());
        job.assert_copied(kafka, &topic, only, rows);
    }

    let job = CopyJob::bounded(format!("{}, startingOffsets: latest", at(kafka, &topic)));
    job.complete();
    assert!(job.is_empty(), "nothing lies behind the end");
}

#[test]
fn starting_offsets_that_cannot_be_used_are_refused_with_what_is_there() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("unlisted", 2).unwrap();
    let from =
        |offset: i64| format!("startingOffsetsByPartition: [{{topic: {topic}, partition: 0, offset: {offset}}}]");
    let (status, printed) = CopyJob::bounded(format!("{}, {}", at(kafka, &topic), from(-2))).finish();
    assert_eq!(status.code(), Some(64), "{printed}");
    assert!(printed.contains(&format!("startingOffsetsByPartition has no offset for messages/{topic}/1")), "{printed}");

    let topic = kafka.unique_topic("short", 1).unwrap();
    let section =
        format!("{}, startingOffsetsByPartition: [{{topic: {topic}, partition: 0, offset: 5}}]", at(kafka, &topic));
    let (status, printed) = CopyJob::bounded(section).finish();
    assert_eq!(status.code(), Some(65), "{printed}");
    assert!(printed.contains("out of range: the broker holds 0 to 0"), "{printed}");
}

#[test]
fn a_job_from_latest_gets_what_comes_after_its_start_and_goes_on_where_it_was() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("latest", 2).unwrap();
    let messages = Messages::new(Kind::Events, 2);
    produce(kafka, &topic, &messages, 0..100, Codec::None).unwrap();
    let job = CopyJob::endless(at(kafka, &topic));
    let mut runner = job.start();
    runner.wait_for_status(SOON, |status| status["phase"] == "running").unwrap();
    produce(kafka, &topic, &messages, 100..200, Codec::None).unwrap();
    job.wait_for_rows(&mut runner, 100);
    job.stop(runner);

    // Starting again, a job is not new: it misses nothing of what came while it was away.
    produce(kafka, &topic, &messages, 200..300, Codec::None).unwrap();
    let mut runner = job.start();
    job.wait_for_rows(&mut runner, 200);
    job.stop(runner);
    job.assert_copied(kafka, &topic, "_offset >= 50", 200);
}

#[test]
fn the_second_of_two_runners_begins_where_the_first_began_however_late_it_comes() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("together", 6).unwrap();
    let messages = Messages::new(Kind::Events, 6);
    produce(kafka, &topic, &messages, 0..300, Codec::None).unwrap();
    let job = CopyJob::endless(at(kafka, &topic));
    let mut first = job.start_of_two(0);
    first.wait_for_status(SOON, |status| status["phase"] == "running").unwrap();
    produce(kafka, &topic, &messages, 300..450, Codec::None).unwrap();
    job.wait_for_rows(&mut first, 75);
    let second = job.start_of_two(1);
    produce(kafka, &topic, &messages, 450..600, Codec::None).unwrap();
    job.wait_for_rows(&mut first, 300);
    [first, second].into_iter().for_each(|runner| job.stop(runner));
    job.assert_copied(kafka, &topic, "_offset >= 50", 300);
}

#[test]
fn librdkafkas_properties_pass_through_and_wrong_ones_are_refused_by_name() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("properties", 1).unwrap();
    produce(kafka, &topic, &Messages::new(Kind::Logs, 1), 0..50, Codec::Gzip).unwrap();
    // The listener speaks TLS only: without these properties nothing would be read.
    let job = CopyJob::bounded(format!(
        "bootstrapServers: '{}', topics: [{topic}], properties: {{security.protocol: ssl, ssl.ca.location: '{}'}}",
        kafka.bootstrap_for(Login::Tls),
        kafka.ca_certificate().display()
    ));
    job.complete();
    job.assert_copied(kafka, &topic, "true", 50);

    for (property, value) in [("fetch.wait.max.milliseconds", "5"), ("fetch.wait.max.ms", "soon")] {
        let job = CopyJob::bounded(format!("{}, properties: {{{property}: '{value}'}}", at(kafka, &topic)));
        let (status, printed) = job.finish();
        assert_eq!(status.code(), Some(64), "{printed}");
        assert!(printed.contains(&format!("'{property}'")), "{printed}");
    }
}

#[test]
fn a_topic_that_does_not_exist_is_named_and_a_bounded_job_ends() {
    let kafka = Kafka::shared().unwrap();
    let (status, printed) = CopyJob::bounded(at(kafka, "no-such-topic")).finish();
    assert_eq!(status.code(), Some(64), "{printed}");
    assert!(printed.contains("topic 'no-such-topic' does not exist"), "{printed}");
}
