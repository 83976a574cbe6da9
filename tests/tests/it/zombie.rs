//! Runners that die, freeze, come back and share the work, while messages keep coming.

use std::time::Duration;

use millrace_tests::orders::{Job, Log, Place, Stream, TermFile};
use millrace_tests::runner::{Launch, Runner};
use millrace_tests::servers::kafka::Kafka;
use millrace_tests::servers::minio::Minio;
use millrace_tests::wait;
use rand::RngExt;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
const RATE: u64 = 2_000;

#[test]
fn kill_9_of_either_of_two_runners_at_random_moments_loses_and_doubles_nothing() {
    let kafka = Kafka::shared().unwrap();
    let job = streaming(kafka, Place::minio(Minio::shared().unwrap()).unwrap());
    let stream = Stream::start(kafka, &job.topic, RATE).unwrap();
    let launch = |ordinal: usize| job.launch().unwrap().args(["--ordinal", &ordinal.to_string(), "--parallelism", "2"]);
    let mut runners = [launch(0).start().unwrap(), launch(1).start().unwrap()];
    let mut random = rand::rng();
    for _ in 0..12 {
        std::thread::sleep(Duration::from_millis(random.random_range(0..1_500)));
        let victim = random.random_range(0..2);
        runners[victim].kill().unwrap();
        runners[victim] = launch(victim).start().unwrap();
    }
    stream.finish().unwrap();
    let [first, second] = &mut runners;
    finish(&job, kafka, &mut [first, second]);
}

#[test]
fn a_runner_frozen_for_longer_than_its_replacement_takes_ends_and_says_that_it_was_superseded() {
    let kafka = Kafka::shared().unwrap();
    for place in [Place::minio(Minio::shared().unwrap()).unwrap(), Place::disk().unwrap()] {
        let job = streaming(kafka, place);
        let stream = Stream::start(kafka, &job.topic, RATE).unwrap();
        let mut frozen = job.launch().unwrap().start().unwrap();
        commits(&mut frozen);
        frozen.pause().unwrap();
        let mut replacement = job.launch().unwrap().start().unwrap();
        commits(&mut replacement);
        frozen.resume().unwrap();
        let status = frozen.wait_for_exit(SOON).unwrap();
        assert_eq!(status.code(), Some(64), "{}", frozen.printed());
        frozen.wait_for_line("superseded", SOON).unwrap();
        commits(&mut replacement);
        stream.finish().unwrap();
        finish(&job, kafka, &mut [&mut replacement]);
    }
}

#[test]
fn a_superseded_pod_sleeps_until_sigterm_and_steals_nothing_however_often_it_restarts() {
    let kafka = Kafka::shared().unwrap();
    let job = streaming(kafka, Place::minio(Minio::shared().unwrap()).unwrap());
    let stream = Stream::start(kafka, &job.topic, RATE).unwrap();
    let pod = |number: &str| job.launch().unwrap().args(["--pod-number", number]);
    let mut frozen = pod("1").start().unwrap();
    commits(&mut frozen);
    frozen.pause().unwrap();
    let mut replacement = pod("2").start().unwrap();
    commits(&mut replacement);
    let before = read(&job);

    frozen.resume().unwrap();
    sleeps(&mut frozen);
    frozen.terminate().unwrap();
    assert_eq!(frozen.wait_for_exit(SOON).unwrap().code(), Some(143), "{}", frozen.printed());
    for _ in 0..20 {
        let mut again = pod("1").start().unwrap();
        sleeps(&mut again);
        again.kill().unwrap();
    }

    commits(&mut replacement);
    let after = read(&job);
    assert_eq!(after.count("claim"), before.count("claim"), "a superseded process claimed");
    assert_eq!(after.count("term"), before.count("term"));
    stream.finish().unwrap();
    finish(&job, kafka, &mut [&mut replacement]);
}

#[test]
fn two_runners_share_the_work_when_the_term_file_says_so_and_one_takes_it_back() {
    let kafka = Kafka::shared().unwrap();
    let job = streaming(kafka, Place::minio(Minio::shared().unwrap()).unwrap());
    let term = TermFile::new(&job.revision().unwrap(), 1, 1).unwrap();
    let stream = Stream::start(kafka, &job.topic, RATE).unwrap();
    let mut first = in_term(&job, "0", &term).start().unwrap();
    let mut second = in_term(&job, "1", &term).start().unwrap();
    let (one, other) = (incarnation(&mut first), incarnation(&mut second));
    commits(&mut first);
    assert_eq!(shares(&job, &one), (4, 0), "one runner reads everything");

    term.set(2, 2).unwrap();
    wait::until("two runners to share the work", SOON, || Ok((shares(&job, &one) == (2, 2)).then_some(()))).unwrap();
    assert_eq!(shares(&job, &other), (2, 2));
    term.set(3, 1).unwrap();
    wait::until("one runner to have all again", SOON, || Ok((shares(&job, &one) == (4, 0)).then_some(()))).unwrap();

    stream.finish().unwrap();
    let log = read(&job);
    assert_eq!(log.count("term"), 3);
    let mut writers: Vec<&str> = log.writers("claim").collect();
    writers.sort_unstable();
    writers.dedup();
    assert_eq!(writers.len(), 2, "no runner was restarted");
    finish(&job, kafka, &mut [&mut first, &mut second]);
}

#[test]
fn a_rescale_that_one_runner_never_sees_settles_and_stays() {
    let kafka = Kafka::shared().unwrap();
    let job = streaming(kafka, Place::disk().unwrap());
    let revision = job.revision().unwrap();
    let (seen, stale) = (TermFile::new(&revision, 1, 1).unwrap(), TermFile::new(&revision, 1, 1).unwrap());
    let stream = Stream::start(kafka, &job.topic, RATE).unwrap();
    let mut first = in_term(&job, "0", &stale).start().unwrap();
    let mut second = in_term(&job, "1", &seen).start().unwrap();
    let one = incarnation(&mut first);
    commits(&mut first);
    seen.set(2, 2).unwrap();
    wait::until("two runners to share the work", SOON, || Ok((shares(&job, &one) == (2, 2)).then_some(()))).unwrap();

    let before = read(&job);
    for _ in 0..10 {
        commits(&mut first);
        commits(&mut second);
    }
    // A restart of the runner with the stale file changes nothing either: the log has the newer term.
    first.terminate().unwrap();
    assert_eq!(first.wait_for_exit(SOON).unwrap().code(), Some(143), "{}", first.printed());
    let mut first = in_term(&job, "0", &stale).start().unwrap();
    commits(&mut first);
    let one = incarnation(&mut first);
    let after = read(&job);
    assert_eq!((before.count("term"), after.count("term")), (2, 2), "terms flap");
    assert_eq!(after.count("claim"), before.count("claim") + 1, "claims flap");
    assert_eq!(shares(&job, &one), (2, 2));
    stream.finish().unwrap();
    finish(&job, kafka, &mut [&mut first, &mut second]);
}

fn streaming<'a>(kafka: &Kafka, place: Place<'a>) -> Job<'a> {
    let topic = kafka.unique_topic("zombie", 4).unwrap();
    Job::new(kafka, &topic, place, "interval: 200ms")
}

fn in_term(job: &Job<'_>, ordinal: &str, term: &TermFile) -> Launch {
    job.launch().unwrap().args(["--ordinal", ordinal]).arg("--term-file").arg(term.path())
}

/// Waits for the runner's next commit.
fn commits(runner: &mut Runner) {
    let seq = |status: &Value| status["lastCommit"]["seq"].as_u64();
    let last = runner.get("/status").ok().and_then(|response| seq(&serde_json::from_str(&response.body).ok()?));
    runner.wait_for_status(SOON, |status| seq(status) > last).unwrap();
}

fn sleeps(runner: &mut Runner) {
    let superseded = |status: &Value| status["phase"] == "superseded" && status["superseded"] == true;
    runner.wait_for_status(SOON, superseded).unwrap();
    runner.wait_for_line("superseded", SOON).unwrap();
}

fn incarnation(runner: &mut Runner) -> String {
    let status = runner.wait_for_status(SOON, |status| status["incarnation"].is_string()).unwrap();
    status["incarnation"].as_str().unwrap().to_owned()
}

fn read(job: &Job<'_>) -> Log {
    let mut log = Log::default();
    job.read_log(&mut log).unwrap();
    log
}

/// Of how many partitions the last commit is this incarnation's, and of how many another's.
fn shares(job: &Job<'_>, incarnation: &str) -> (usize, usize) {
    let log = read(job);
    let owners = log.last_committers();
    let own = owners.values().filter(|owner| **owner == incarnation).count();
    (own, owners.len() - own)
}

/// Everything is committed, every runner ends in order, and every message is in the tables once.
fn finish(job: &Job<'_>, kafka: &Kafka, runners: &mut [&mut Runner]) {
    job.wait_until_all_is_published(kafka, runners, SOON).unwrap();
    for runner in runners {
        runner.terminate().unwrap();
        assert_eq!(runner.wait_for_exit(SOON).unwrap().code(), Some(143), "{}", runner.printed());
    }
    job.check_exactly_once(kafka).unwrap();
}
