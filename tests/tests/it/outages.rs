//! Servers that go away and come back, and a process that is asked to end.

use std::time::Duration;

use millrace_tests::orders::{Job, Place, Stream, produce};
use millrace_tests::runner::Runner;
use millrace_tests::servers::kafka::Kafka;
use millrace_tests::servers::minio::Minio;
use millrace_tests::servers::scratch;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(90);
const RATE: u64 = 500;

#[test]
fn a_killed_broker_degrades_the_job_until_it_is_back() {
    let mut kafka = Kafka::start().unwrap();
    let topic = kafka.unique_topic("outage", 4).unwrap();
    let job = Job::new(&kafka, &topic, Place::minio(Minio::shared().unwrap()).unwrap(), "interval: 500ms");
    let stream = Stream::start(&kafka, &topic, RATE).unwrap();
    let mut runner = job.launch().unwrap().start().unwrap();
    runner.wait_for_commit(SOON).unwrap();
    kafka.kill().unwrap();
    degrades(&mut runner, "KafkaUnreachable");
    kafka.start_again().unwrap();
    recovers(&mut runner);
    runner.wait_for_commit(SOON).unwrap();
    stream.finish().unwrap();
    finish(&job, &kafka, &mut runner);
}

#[test]
fn a_store_that_is_away_degrades_the_job_until_it_is_back() {
    let kafka = Kafka::shared().unwrap();
    let mut minio = Minio::start().unwrap();
    let (tables, log) = (minio.unique_bucket("lake").unwrap(), minio.unique_bucket("log").unwrap());
    let topic = kafka.unique_topic("outage", 4).unwrap();
    let stream = Stream::start(kafka, &topic, RATE).unwrap();
    let place = Buckets { tables, log };
    let mut runner = place.job(kafka, &topic, &minio).launch().unwrap().start().unwrap();
    for killed in [true, false] {
        runner.wait_for_commit(SOON).unwrap();
        answers(&runner, "/readyz", 200);
        if killed {
            minio.kill().unwrap()
        } else {
            minio.pause().unwrap()
        }
        degrades(&mut runner, "StoreUnavailable");
        // Not ready once the deadline is over, but alive: another process would find the same store.
        answers(&runner, "/readyz", 503);
        answers(&runner, "/livez", 200);
        if killed {
            minio.start_again().unwrap()
        } else {
            minio.resume().unwrap()
        }
        recovers(&mut runner);
    }
    runner.wait_for_commit(SOON).unwrap();
    stream.finish().unwrap();
    finish(&place.job(kafka, &topic, &minio), kafka, &mut runner);
}

#[test]
fn sigterm_commits_what_was_read_and_a_finished_bounded_job_goes_on_when_it_is_run_again() {
    let kafka = Kafka::shared().unwrap();
    let directory = scratch("termination").unwrap();
    let file = directory.path().join("message");
    let said = || serde_json::from_slice::<Value>(&std::fs::read(&file).unwrap()).unwrap();
    let topic = kafka.unique_topic("sigterm", 4).unwrap();
    produce(kafka, &topic, 0..1_000).unwrap();

    // An hour's interval: but for the first epoch, after a second, nothing is committed unless the signal does it.
    let mut job = Job::new(kafka, &topic, Place::minio(Minio::shared().unwrap()).unwrap(), "interval: 1h");
    let mut runner = job.launch().unwrap().arg("--termination-file").arg(&file).start().unwrap();
    wait_for_rows(&runner, 1_000);
    runner.terminate().unwrap();
    assert_eq!(runner.wait_for_exit(SOON).unwrap().code(), Some(143), "{}", runner.printed());
    assert_eq!((said()["completed"].clone(), said()["reason"].clone()), (false.into(), "Stopped".into()));
    assert_eq!(job.check_exactly_once(kafka).unwrap().messages, 1_000);

    job.trigger = "availableNow: {}".to_owned();
    for messages in [2_000, 3_000, 3_000] {
        let have = kafka.offsets(&topic).unwrap().iter().map(|(_, end)| end).sum::<i64>() as u64;
        produce(kafka, &topic, have..messages).unwrap();
        let launch = job.launch().unwrap().arg("--termination-file").arg(&file);
        let (status, printed) = launch.finish(SOON).unwrap();
        assert_eq!(status.code(), Some(0), "{printed}");
        assert_eq!((said()["completed"].clone(), said()["reason"].clone()), (true.into(), "Completed".into()));
        assert_eq!(job.check_exactly_once(kafka).unwrap().messages, messages);
    }

    job.trigger = "interval: 1s, every: 2s".to_owned();
    let (status, printed) = job.launch().unwrap().arg("--termination-file").arg(&file).finish(SOON).unwrap();
    assert_eq!((status.code(), said()["class"].clone()), (Some(64), "user".into()), "{printed}");
}

/// The job's buckets in a server that is stopped in between, and so cannot be borrowed all the time.
struct Buckets {
    tables: String,
    log: String,
}

impl Buckets {
    fn job<'a>(&self, kafka: &Kafka, topic: &str, minio: &'a Minio) -> Job<'a> {
        let place = Place::Minio { minio, tables: self.tables.clone(), log: self.log.clone() };
        let mut job = Job::new(kafka, topic, place, "interval: 500ms");
        job.deadline = Some("3s");
        job
    }
}

/// Waits until the runner has read so many messages, by its metrics.
fn wait_for_rows(runner: &Runner, rows: u64) {
    millrace_tests::wait::until("the messages to be read", SOON, || {
        let Ok(metrics) = runner.get("/metrics") else { return Ok(None) };
        let line = metrics.body.lines().find(|line| line.starts_with("millrace_source_rows_total{"));
        let read = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok((read == Some(rows as f64)).then_some(()))
    })
    .unwrap();
}

/// Waits until a probe answers so.
fn answers(runner: &Runner, probe: &str, code: u16) {
    millrace_tests::wait::until(&format!("{probe} to answer {code}"), SOON, || {
        Ok(runner.get(probe).is_ok_and(|answer| answer.status == code).then_some(()))
    })
    .unwrap();
}

fn degrades(runner: &mut Runner, reason: &str) {
    runner.wait_for_status(SOON, |status| status["degraded"]["reason"] == reason).unwrap();
}

fn recovers(runner: &mut Runner) {
    runner.wait_for_status(SOON, |status| status["degraded"].is_null()).unwrap();
}

fn finish(job: &Job<'_>, kafka: &Kafka, runner: &mut Runner) {
    job.wait_until_all_is_published(kafka, &mut [runner], SOON).unwrap();
    runner.terminate().unwrap();
    assert_eq!(runner.wait_for_exit(SOON).unwrap().code(), Some(143), "{}", runner.printed());
    job.check_exactly_once(kafka).unwrap();
}
