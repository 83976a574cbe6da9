//! What changes under a job that reads: topics and partitions that come, go and come again, messages that expire, and a
//! sink that does not keep up.

use std::time::Duration;

use millrace_tests::duckdb::Oracle;
use millrace_tests::messages::{FIRST_TIMESTAMP, Kind, Message, Messages};
use millrace_tests::produce::{Codec, Producer, produce};
use millrace_tests::runner::Launch;
use millrace_tests::servers::kafka::{Kafka, Login};
use millrace_tests::servers::minio::Minio;
use millrace_tests::servers::{scratch, unique};
use millrace_tests::wait;

use crate::copy_job::{CopyJob, SOON};

/// What a topic is filled with; a topic that is created again gets other messages.
fn messages(seed: u64, partitions: i32) -> Messages {
    Messages { kind: Kind::Events, seed, partitions }
}

#[test]
fn topics_of_a_pattern_and_new_partitions_are_picked_up_from_their_first_message() {
    let kafka = Kafka::shared().unwrap();
    let prefix = unique("many");
    let (first, second, other) = (format!("{prefix}-a"), format!("{prefix}-b"), format!("not-{prefix}-a"));
    for topic in [&first, &other] {
        kafka.create_topic(topic, 1, &[]).unwrap();
        produce(kafka, topic, &messages(1, 1), 0..100, Codec::None).unwrap();
    }
    let section = format!("bootstrapServers: '{}', topicPattern: '{prefix}-.*'", kafka.bootstrap());
    let job = CopyJob::endless(section);
    let mut runner = job.start();
    runner.wait_for_status(SOON, |status| status["phase"] == "running").unwrap();
    produce(kafka, &first, &messages(1, 1), 100..150, Codec::None).unwrap();
    job.wait_for_rows(&mut runner, 50);

    // Both are full before the job can know of them.
    kafka.grow_topic(&first, 3).unwrap();
    produce(kafka, &first, &messages(2, 3), 0..300, Codec::None).unwrap();
    kafka.create_topic(&second, 2, &[]).unwrap();
    produce(kafka, &second, &messages(3, 2), 0..200, Codec::Lz4).unwrap();
    job.wait_for_rows(&mut runner, 50 + 300 + 200);
    job.stop(runner);
    // The job began at the latest offset, but what appeared later began while it ran.
    job.assert_copied(kafka, &first, "_partition > 0 OR _offset >= 100", 350);
    job.assert_copied(kafka, &second, "true", 200);
    assert_eq!(job.compare(kafka, &other, "false").extra, 0, "the pattern is for whole names");
}

/// Creates the topic again with `count` other messages.
fn recreate(kafka: &Kafka, topic: &str, count: u64) {
    kafka.delete_topic(topic).unwrap();
    kafka.create_topic(topic, 1, &[]).unwrap();
    produce(kafka, topic, &messages(2, 1), 0..count, Codec::None).unwrap();
}

/// The copy holds the 100 messages of the first topic and the `count` of the second, each once.
fn assert_both(job: &CopyJob, kafka: &Kafka, topic: &str, count: u64) {
    let difference = job.compare(kafka, topic, "true");
    assert_eq!((difference.expected, difference.missing, difference.extra), (count, 0, 100), "{difference:?}");
    let losses = job.losses();
    assert_eq!(losses.len(), 1, "{losses:?}");
    assert!(losses[0]["reason"].as_str().unwrap().contains("deleted and created again"), "{losses:?}");
    assert_eq!((losses[0]["expected"].as_i64(), losses[0]["resumed"].as_i64()), (Some(100), Some(0)), "{losses:?}");
}

#[test]
fn a_topic_created_again_while_the_job_is_stopped_is_seen_whatever_its_length() {
    let kafka = Kafka::shared().unwrap();
    // Fewer messages than were read of the old topic: the offset is out of range. As many: it is not, and nothing is
    // behind it. More: it lies among messages that are not what they seem.
    let jobs = [60, 100, 170].map(|count| {
        let topic = kafka.unique_topic("again", 1).unwrap();
        produce(kafka, &topic, &messages(1, 1), 0..100, Codec::None).unwrap();
        let strict = format!("bootstrapServers: '{}', topics: [{topic}]", kafka.bootstrap());
        let mut job = CopyJob::bounded(&strict);
        job.complete();
        recreate(kafka, &topic, count);

        let (status, printed) = job.finish();
        assert_eq!(status.code(), Some(65), "{count}: {printed}");
        assert!(printed.contains(&format!("topic '{topic}' was deleted and created again")), "{printed}");
        assert!(printed.contains("failOnDataLoss: false"), "{printed}");
        assert_eq!(job.rows(), 100);
        job.kafka(format!("{strict}, failOnDataLoss: false"));
        let runner = job.start();
        (count, topic, job, runner)
    });
    for (count, topic, job, mut runner) in jobs {
        let status = runner.wait_for_exit(SOON).unwrap();
        assert!(status.success(), "{count}: {status}: {}", runner.printed());
        assert_both(&job, kafka, &topic, count);
    }
}

#[test]
fn a_topic_created_again_while_the_job_runs_ends_it_or_is_read_from_its_start() {
    let kafka = Kafka::shared().unwrap();
    let jobs = [(true, 60), (false, 60), (false, 170)].map(|(fail, count)| {
        let topic = kafka.unique_topic("again", 1).unwrap();
        produce(kafka, &topic, &messages(1, 1), 0..100, Codec::None).unwrap();
        let section = format!(
            "bootstrapServers: '{}', topics: [{topic}], startingOffsets: earliest, failOnDataLoss: {fail}",
            kafka.bootstrap()
        );
        let job = CopyJob::endless(section);
        let runner = job.start();
        (fail, count, topic, job, runner)
    });
    let jobs = jobs.map(|(fail, count, topic, job, mut runner)| {
        job.wait_for_rows(&mut runner, 100);
        recreate(kafka, &topic, count);
        (fail, count, topic, job, runner)
    });
    for (fail, count, topic, job, mut runner) in jobs {
        if fail {
            let status = runner.wait_for_exit(SOON).unwrap();
            let printed = runner.printed();
            assert_eq!(status.code(), Some(65), "{printed}");
            assert!(printed.contains(&format!("topic '{topic}' was deleted and created again")), "{printed}");
            assert_eq!((job.rows(), job.losses().len()), (100, 0));
        } else {
            job.wait_for_rows(&mut runner, 100 + count);
            job.stop(runner);
            assert_both(&job, kafka, &topic, count);
        }
    }
}

#[test]
fn a_topic_created_again_in_the_middle_of_a_bounded_read_is_left_to_the_next_one() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("again", 1).unwrap();
    produce(kafka, &topic, &messages(1, 1), 0..100, Codec::None).unwrap();
    let section = format!("bootstrapServers: '{}', topics: [{topic}], failOnDataLoss: false", kafka.bootstrap());
    let job = CopyJob::bounded(section);
    let (status, printed) = job.launch().env("MILLRACE_FAILPOINT", "planned").finish(SOON).unwrap();
    assert!(!status.success(), "{printed}");
    recreate(kafka, &topic, 60);

    // The ends were the old topic's: of this read nothing is left.
    job.complete();
    assert_eq!((job.rows(), job.losses().len()), (0, 1));
    job.complete();
    job.assert_copied(kafka, &topic, "true", 60);
}

#[test]
fn messages_that_expired_unread_end_the_job_or_are_recorded_as_lost() {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("expired", 2).unwrap();
    produce(kafka, &topic, &messages(1, 2), 0..400, Codec::None).unwrap();
    let strict = format!("bootstrapServers: '{}', topics: [{topic}]", kafka.bootstrap());
    let mut job = CopyJob::bounded(&strict);
    job.complete();
    job.assert_copied(kafka, &topic, "true", 400);
    produce(kafka, &topic, &messages(1, 2), 400..1_000, Codec::None).unwrap();
    kafka.delete_records(&topic, 1, 350).unwrap();

    let (status, printed) = job.finish();
    assert_eq!(status.code(), Some(65), "{printed}");
    assert!(printed.contains(&format!("offset 200 of messages/{topic}/1 is out of range")), "{printed}");
    assert!(printed.contains("350 to 500"), "{printed}");

    job.kafka(format!("{strict}, failOnDataLoss: false"));
    job.complete();
    let losses = job.losses();
    assert_eq!(losses.len(), 1, "{losses:?}");
    assert_eq!((losses[0]["expected"].as_i64(), losses[0]["resumed"].as_i64()), (Some(200), Some(350)), "{losses:?}");
    // What Kafka still holds, and what was read before it went: everything else, once.
    let difference = job.compare(kafka, &topic, "true");
    assert_eq!((difference.missing, difference.extra), (0, 200), "{difference:?}");
    let doubled = job.query("SELECT part, off FROM copy GROUP BY ALL HAVING count(*) > 1");
    assert!(doubled.is_empty(), "{doubled:?}");
    assert_eq!(job.query("FROM copy").len(), 850);
}

#[test]
fn a_sink_that_does_not_keep_up_pauses_the_source_and_memory_stays_bounded() {
    /// What the runner may take at its peak; 240 MB wait for it, not compressed.
    const MOST_MEGABYTES: u64 = 300;
    const COUNT: u64 = 24_000;
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("waiting", 4).unwrap();
    let producer = Producer::new(kafka, Login::Plaintext, Codec::None).unwrap();
    for index in 0..COUNT {
        let value = Some(format!("{index} {}", "x".repeat(10_000)).into_bytes());
        let partition = (index % 4) as i32;
        producer.send(&topic, &Message { partition, value, timestamp: FIRST_TIMESTAMP, key: None }).unwrap();
    }
    producer.flush().unwrap();
    let mut minio = Minio::start().unwrap();
    let bucket = minio.unique_bucket("slow").unwrap();
    let manifest = format!(
        "apiVersion: millrace.dev/v1alpha1
kind: StreamingJob
metadata: {{name: slow}}
spec:
  sources:
    - name: messages
      kafka: {{bootstrapServers: '{}', topics: [{topic}]}}
      format: {{binary: {{}}}}
  outputs:
    - name: copy
      sql: SELECT _partition AS part, _offset AS off, value FROM messages
      parquet: {{path: 's3://{bucket}/table', compression: none, maxFileBytes: 8Mi}}
  trigger: {{availableNow: {{}}}}
  checkpoint: {{location: '{}/checkpoint'}}
",
        kafka.bootstrap(),
        scratch("slow").unwrap().keep().display()
    );
    let mut runner = Launch::run(&manifest).unwrap().storage(&minio).start().unwrap();
    runner.wait_for_status(SOON, |status| status["phase"] == "running").unwrap();
    minio.pause().unwrap();
    let read = |runner: &millrace_tests::runner::Runner| -> millrace_tests::Result<u64> {
        let metrics = runner.get("/metrics")?.body;
        let line = metrics.lines().find(|line| line.starts_with("millrace_source_rows_total"));
        Ok(line.and_then(|line| line.rsplit(' ').next()).and_then(|count| count.parse().ok()).unwrap_or_default())
    };
    // Reading comes to rest by itself, long before the end.
    let (mut last, mut unchanged) = (0, 0);
    let stuck = wait::until("reading to pause", SOON, || {
        let now = read(&runner)?;
        unchanged = if now == last { unchanged + 1 } else { 0 };
        last = now;
        assert!(resident_megabytes(runner.pid(), "VmHWM")? < MOST_MEGABYTES);
        Ok((now > 0 && unchanged == 100).then_some(now))
    })
    .unwrap();
    assert!(stuck < COUNT * 2 / 3, "{stuck} of {COUNT} messages were read with nowhere to go");

    minio.resume().unwrap();
    let status = runner.wait_for_exit(Duration::from_secs(120)).unwrap();
    assert!(status.success(), "{status}: {}", runner.printed());
    let oracle = Oracle::new().unwrap().topic("sent", kafka, &topic).bucket("copy", &minio, &bucket, "table");
    let tally = oracle.lost_and_doubled("sent", "copy", "part", "off").unwrap();
    assert!(tally.is_exact() && tally.produced == COUNT, "{tally:?}");
}

/// A line of the process's memory account, in megabytes.
fn resident_megabytes(pid: u32, line: &str) -> millrace_tests::Result<u64> {
    let account = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let found = account.lines().find(|found| found.starts_with(line)).unwrap_or_default();
    Ok(found.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or_default() / 1024)
}
