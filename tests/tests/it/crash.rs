//! A crash at every seam of the runner: the process aborts there, a restart finishes the job, nothing is lost or doubled.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use millrace_tests::duckdb::Oracle;
use millrace_tests::orders::{Job, Log, Place, Stream, TermFile, produce, tallies};
use millrace_tests::runner::Launch;
use millrace_tests::servers::kafka::Kafka;
use millrace_tests::servers::minio::Minio;

const SOON: Duration = Duration::from_secs(60);
const ARMED: &str = "MILLRACE_FAILPOINT";
const SIGABRT: i32 = 6;
/// These are not met by one runner of a short bounded job, and have tests of their own.
const ELSEWHERE: [&str; 2] = ["released", "snapshotted"];

#[test]
fn a_crash_at_each_failpoint_loses_and_doubles_nothing_on_s3() {
    crash_everywhere(|| Place::minio(Minio::shared().unwrap()).unwrap(), "1");
}

#[test]
fn a_crash_at_each_failpoint_loses_and_doubles_nothing_on_disk() {
    crash_everywhere(|| Place::disk().unwrap(), "2");
}

#[test]
fn a_crash_with_tasks_released_and_not_claimed_yet_loses_and_doubles_nothing_on_s3() {
    crash_released(Place::minio(Minio::shared().unwrap()).unwrap());
}

#[test]
fn a_crash_with_tasks_released_and_not_claimed_yet_loses_and_doubles_nothing_on_disk() {
    crash_released(Place::disk().unwrap());
}

#[test]
fn a_crash_between_a_snapshot_and_its_upkeep_loses_and_doubles_nothing_on_s3() {
    crash_snapshotted(Place::minio(Minio::shared().unwrap()).unwrap());
}

#[test]
fn a_crash_between_a_snapshot_and_its_upkeep_loses_and_doubles_nothing_on_disk() {
    crash_snapshotted(Place::disk().unwrap());
}

#[test]
fn what_a_dead_job_decided_is_left_alone_by_another_job_that_writes_to_the_same_tables() {
    let (kafka, minio) = (Kafka::shared().unwrap(), Minio::shared().unwrap());
    let [topic, empty] = ["shared", "shared-empty"].map(|name| kafka.unique_topic(name, 4).unwrap());
    produce(kafka, &topic, 0..3_000).unwrap();
    let tables = minio.unique_bucket("lake").unwrap();
    let job = |topic: &str| {
        let place = Place::Minio { minio, tables: tables.clone(), log: minio.unique_bucket("log").unwrap() };
        Job::new(kafka, topic, place, "availableNow: {}")
    };
    let dying = job(&topic);
    let (status, printed) = dying.launch().unwrap().env(ARMED, "decided").finish(SOON).unwrap();
    assert_aborted(status, "decided", &printed);
    // Its collector runs when it claims, and again at its end.
    let (status, printed) = job(&empty).launch().unwrap().finish(SOON).unwrap();
    assert!(status.success(), "{status}: {printed}");
    let (status, printed) = dying.launch().unwrap().finish(SOON).unwrap();
    assert!(status.success(), "{status}: {printed}");
    assert_eq!(dying.check_exactly_once(kafka).unwrap().messages, 3_000);
}

/// `time`: at which of the times that a failpoint is met the process dies, if it is met so often.
fn crash_everywhere(place: impl Fn() -> Place<'static>, time: &str) {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("crash", 4).unwrap();
    produce(kafka, &topic, 0..3_000).unwrap();
    let mut oracle = Oracle::new().unwrap().topic("messages", kafka, &topic);
    let failpoints = failpoints();
    for name in ELSEWHERE {
        assert!(failpoints.iter().any(|failpoint| failpoint == name), "{name} is tested and not there: {failpoints:?}");
    }
    let here: Vec<&str> = failpoints.iter().map(String::as_str).filter(|name| !ELSEWHERE.contains(name)).collect();
    let mut jobs = Vec::new();
    for name in &here {
        let mut job = Job::new(kafka, &topic, place(), "availableNow: {}, maxRecords: 500");
        // Several files an epoch: a process can die between two of them.
        job.by_status = true;
        let once = ["opened", "claimed", "planned", "noted", "completing"].contains(name);
        let armed = if once { (*name).to_owned() } else { format!("{name}:{time}") };
        let (status, printed) = job.launch().unwrap().env(ARMED, &armed).finish(SOON).unwrap();
        assert_aborted(status, &armed, &printed);
        let (status, printed) = job.launch().unwrap().finish(SOON).unwrap();
        assert_eq!(status.code(), Some(0), "after a crash at {armed}: {printed}");
        oracle = job.views(oracle, &format!("_{name}"));
        jobs.push(job);
    }
    let suffixes: Vec<String> = here.iter().map(|name| format!("_{name}")).collect();
    let suffixes: Vec<&str> = suffixes.iter().map(String::as_str).collect();
    for (name, found) in here.iter().zip(tallies(&oracle, &suffixes).unwrap()) {
        assert!(found.is_exact() && found.messages == 3_000, "after a crash at {name}: {found:?}");
    }
}

fn crash_released(place: Place<'_>) {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("released", 4).unwrap();
    let job = Job::new(kafka, &topic, place, "interval: 100ms");
    let term = TermFile::new(&job.revision().unwrap(), 1, 1).unwrap();
    let stream = Stream::start(kafka, &topic, 1_000).unwrap();
    let launch =
        |ordinal: &str| job.launch().unwrap().arg("--ordinal").arg(ordinal).arg("--term-file").arg(term.path());
    let mut first = launch("0").env(ARMED, "released").start().unwrap();
    let mut second = launch("1").start().unwrap();
    first.wait_for_commit(SOON).unwrap();
    term.set(2, 2).unwrap();
    let status = first.wait_for_exit(SOON).unwrap();
    assert_aborted(status, "released", &first.printed());
    // What was released is claimed although the one that released it is gone.
    second.wait_for_commit(SOON).unwrap();
    let mut first = launch("0").start().unwrap();
    stream.finish().unwrap();
    job.wait_until_all_is_published(kafka, &mut [&mut first, &mut second], SOON).unwrap();
    for runner in [&mut first, &mut second] {
        runner.terminate().unwrap();
        assert_eq!(runner.wait_for_exit(SOON).unwrap().code(), Some(143), "{}", runner.printed());
    }
    job.check_exactly_once(kafka).unwrap();
}

fn crash_snapshotted(place: Place<'_>) {
    let kafka = Kafka::shared().unwrap();
    let topic = kafka.unique_topic("snapshotted", 4).unwrap();
    let job = Job::new(kafka, &topic, place, "interval: 10ms");
    let stream = Stream::start(kafka, &topic, 2_000).unwrap();
    let (status, printed) = job.launch().unwrap().env(ARMED, "snapshotted").finish(SOON * 2).unwrap();
    assert_aborted(status, "snapshotted", &printed);
    let mut runner = job.launch().unwrap().start().unwrap();
    stream.finish().unwrap();
    job.wait_until_all_is_published(kafka, &mut [&mut runner], SOON).unwrap();
    runner.terminate().unwrap();
    assert_eq!(runner.wait_for_exit(SOON).unwrap().code(), Some(143), "{}", runner.printed());
    let mut log = Log::default();
    job.read_log(&mut log).unwrap();
    assert!(log.slots() > 100, "{} slots", log.slots());
    job.check_exactly_once(kafka).unwrap();
}

/// Every failpoint of the runner, as it names them itself: a new one is tested without being listed here.
fn failpoints() -> Vec<String> {
    let kafka = Kafka::shared().unwrap();
    let job = Job::new(kafka, "none", Place::disk().unwrap(), "availableNow: {}");
    let launch = Launch::command("run").unwrap().manifest(&job.manifest()).unwrap();
    let (status, printed) = launch.env(ARMED, "?").finish(SOON).unwrap();
    assert_eq!(status.code(), Some(64), "{printed}");
    let (_, names) = printed.split_once("there are: ").expect(&printed);
    names.lines().next().unwrap().split(", ").map(str::to_owned).collect()
}

fn assert_aborted(status: ExitStatus, armed: &str, printed: &str) {
    assert_eq!(status.signal(), Some(SIGABRT), "{armed} was not reached: {status}: {printed}");
}
