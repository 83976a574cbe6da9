//! The figures that a release is accepted by, measured on a real Kafka and MinIO: `figures <row> [<size>]`.
//!
//! Each figure is one line with its target beside it; a missed target fails the command. `MILLRACE_BIN` names the binary
//! that is measured.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fmt::Display;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use millrace_tests::orders::{Job, Log, Place, Stream, produce};
use millrace_tests::runner::Runner;
use millrace_tests::servers::kafka::Kafka;
use millrace_tests::servers::minio::Minio;
use millrace_tests::{Result, wait};
use rand::RngExt;

const SOON: Duration = Duration::from_secs(120);
const LONG: Duration = Duration::from_secs(1_800);
/// The kernel's unit of processor time in /proc: 100 a second on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let row = arguments.next().unwrap_or_default();
    let size = arguments.next().map(|size| size.parse::<u64>()).transpose().context("the size is not a number")?;
    let mut figures = Figures::default();
    match row.as_str() {
        "throughput" => throughput(&mut figures, size.unwrap_or(4_000_000))?,
        "kills" => kills(&mut figures, size.unwrap_or(4_000_000))?,
        "latency" => latency(&mut figures, size.unwrap_or(10))?,
        "requests" => requests(&mut figures, size.unwrap_or(20))?,
        "idle" => idle(&mut figures, size.unwrap_or(60))?,
        other => bail!("no row '{other}'; there are: throughput, kills, latency, requests, idle"),
    }
    Ok(if figures.missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints figures and remembers whether one was missed.
#[derive(Default)]
struct Figures {
    missed: u32,
}

impl Figures {
    fn tell(&mut self, what: &str, value: impl Display, target: &str, met: bool) {
        let verdict = if met { "ok" } else { "MISSED" };
        println!("{what:<58} {value:>14}   target {target:<12} {verdict}");
        self.missed += u32::from(!met);
    }

    fn at_most(&mut self, what: &str, value: f64, target: f64) {
        self.tell(what, format!("{value:.2}"), &format!("<= {target}"), value <= target);
    }

    /// A figure that is reported and has no bound.
    fn report(&mut self, what: &str, value: impl Display, beside: &str) {
        println!("{what:<58} {value:>14}   ({beside})");
    }
}

/// So many nested orders, read once into two tables and dead letters.
fn throughput(figures: &mut Figures, messages: u64) -> Result<()> {
    let (kafka, minio) = (Kafka::shared()?, Minio::shared()?);
    let topic = kafka.unique_topic("throughput", 4)?;
    produce(kafka, &topic, 0..messages)?;
    for one_output in [true, false] {
        let mut job = Job::new(kafka, &topic, Place::minio(minio)?, "availableNow: {}, maxRecords: 1000000");
        job.one_output = one_output;
        let outputs = if one_output { "one table" } else { "two tables and dead letters" };
        let begun = Instant::now();
        let mut runner = job.launch()?.start()?;
        let mut last = Usage::default();
        let status = wait::until("the job to be complete", LONG, || {
            // After the end there is nothing to read any more: the last sample is at most 20 ms old.
            if let Ok(now) = Usage::of(runner.pid()) {
                last = now;
            }
            runner.try_wait()
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        if status.code() != Some(0) {
            bail!("the job ended with {status}: {}", runner.printed());
        }
        let millions = messages as f64 / 1e6;
        println!("{messages} messages into {outputs}, {seconds:.1} s from start to exit:");
        figures.report("  rows a second", format!("{:.0}", messages as f64 / seconds), "Spark 4.0: 113000");
        figures.at_most("  processor seconds a million rows (Spark 4.0: 15.3)", last.cpu_seconds / millions, 5.0);
        figures.at_most("  peak resident memory, MB", last.peak_mb, 300.0);
        exactly_once(figures, &job, kafka);
    }
    Ok(())
}

/// The same while two runners are killed 30 times at random moments, and one is frozen until it was replaced.
fn kills(figures: &mut Figures, messages: u64) -> Result<()> {
    let (kafka, minio) = (Kafka::shared()?, Minio::shared()?);
    let topic = kafka.unique_topic("kills", 4)?;
    let job = Job::new(kafka, &topic, Place::minio(minio)?, "interval: 500ms, maxRecords: 100000");
    let stream = Stream::start(kafka, &topic, (messages / 60).max(1_000))?;
    let launch = |ordinal: usize| -> Result<Runner> {
        job.launch()?.args(["--ordinal", &ordinal.to_string(), "--parallelism", "2"]).start()
    };
    let mut runners = [launch(0)?, launch(1)?];
    let mut random = rand::rng();
    for _ in 0..30 {
        std::thread::sleep(Duration::from_millis(random.random_range(0..2_000)));
        let victim = random.random_range(0..2);
        runners[victim].kill()?;
        runners[victim] = launch(victim)?;
    }
    runners[0].wait_for_commit(SOON)?;
    runners[0].pause()?;
    let mut replacement = launch(0)?;
    replacement.wait_for_commit(SOON)?;
    runners[0].resume()?;
    let status = runners[0].wait_for_exit(SOON)?;
    let said = runners[0].printed().contains("superseded");
    figures.tell(
        "a frozen runner says that it was superseded, and ends",
        status,
        "exit 64",
        said && status.code() == Some(64),
    );
    runners[0] = replacement;
    wait::until("the messages to be sent", LONG, || Ok((stream.sent() >= messages).then_some(())))?;
    let sent = stream.finish()?;
    let [first, second] = &mut runners;
    job.wait_until_all_is_published(kafka, &mut [&mut *first, &mut *second], LONG)?;
    figures.tell("messages under 30 kills and a freeze", sent, &format!(">= {messages}"), sent >= messages);
    for runner in [first, second] {
        runner.terminate()?;
        runner.wait_for_exit(SOON)?;
    }
    exactly_once(figures, &job, kafka);
    Ok(())
}

/// From the start of a process to its first commit: of a new job, and of one whose process was killed.
fn latency(figures: &mut Figures, times: u64) -> Result<()> {
    let (kafka, minio) = (Kafka::shared()?, Minio::shared()?);
    let topic = kafka.unique_topic("latency", 4)?;
    let stream = Stream::start(kafka, &topic, 1_000)?;
    let (mut first, mut again) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let job = Job::new(kafka, &topic, Place::minio(minio)?, "interval: 1s");
        let begun = Instant::now();
        let mut runner = job.launch()?.start()?;
        runner.wait_for_commit(SOON)?;
        first.push(begun.elapsed().as_secs_f64());
        // At a random moment of its epoch.
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(0..1_000)));
        let killed = Instant::now();
        runner.kill()?;
        let mut runner = job.launch()?.start()?;
        runner.wait_for_commit(SOON)?;
        again.push(killed.elapsed().as_secs_f64());
    }
    stream.finish()?;
    figures.at_most("start to first commit, s, median, trigger 1 s", median(&mut first), 2.0);
    figures.at_most("kill -9 to next commit of a restarted process, s, median", median(&mut again), 3.0);
    Ok(())
}

/// What one output costs at the store: per epoch, and per trigger while nothing arrives.
fn requests(figures: &mut Figures, epochs: u64) -> Result<()> {
    let (kafka, minio) = (Kafka::shared()?, Minio::shared()?);
    let topic = kafka.unique_topic("requests", 4)?;
    let mut job = Job::new(kafka, &topic, Place::minio(minio)?, "interval: 1s");
    job.one_output = true;
    let Place::Minio { tables, log, .. } = &job.place else { bail!("not in MinIO") };
    let count = || -> Result<BTreeMap<String, u64>> {
        let mut all = BTreeMap::new();
        for (place, bucket) in [("table", tables), ("log", log)] {
            all.extend(minio.requests(bucket)?.into_iter().map(|(name, count)| (format!("{place} {name}"), count)));
        }
        Ok(all)
    };
    let stream = Stream::start(kafka, &topic, 2_000)?;
    let mut runner = job.launch()?.start()?;
    runner.wait_for_commit(SOON)?;
    let first = runner.wait_for_commit(SOON)?;
    let before = count()?;
    let mut last = first;
    while last < first + epochs {
        last = runner.wait_for_commit(SOON)?;
    }
    let spent = grown(&before, &count()?);
    let epochs = (last - first) as f64;
    for (name, count) in &spent {
        figures.report(&format!("  {name}, per epoch"), format!("{:.2}", *count as f64 / epochs), "part of the sum");
    }
    // The staged file itself is the data; all else is what exactly-once costs.
    let data = ["table PutObject", "table PutObjectPart"];
    let beside: u64 = spent.iter().filter(|(name, _)| !data.contains(&name.as_str())).map(|(_, count)| count).sum();
    figures.at_most("requests per epoch of one Parquet output, beside data", beside as f64 / epochs, 6.0);

    stream.finish()?;
    job.wait_until_all_is_published(kafka, &mut [&mut runner], SOON)?;
    let slots = slots(&job)?;
    std::thread::sleep(Duration::from_secs(5));
    let before = count()?;
    let triggers = 20;
    std::thread::sleep(Duration::from_secs(triggers));
    let spent = grown(&before, &count()?);
    let total: u64 = spent.values().sum();
    figures.at_most("requests of an idle job per trigger", total as f64 / triggers as f64, 1.0);
    let reads = |name: &str| ["Get", "Head", "List"].iter().any(|verb| name.contains(verb));
    let writes: u64 = spent.iter().filter(|(name, _)| !reads(name)).map(|(_, count)| count).sum();
    figures.at_most("writes of an idle job", writes as f64, 0.0);
    let grown = self::slots(&job)? - slots;
    figures.at_most("records of an idle job", grown as f64, 0.0);
    Ok(())
}

/// Nothing arrives for so many minutes: nothing may grow.
fn idle(figures: &mut Figures, minutes: u64) -> Result<()> {
    let (kafka, minio) = (Kafka::shared()?, Minio::shared()?);
    let topic = kafka.unique_topic("idle", 4)?;
    produce(kafka, &topic, 0..10_000)?;
    let job = Job::new(kafka, &topic, Place::minio(minio)?, "interval: 1s");
    let mut runner = job.launch()?.start()?;
    job.wait_until_all_is_published(kafka, &mut [&mut runner], SOON)?;
    let Place::Minio { tables, log, .. } = &job.place else { bail!("not in MinIO") };
    let look = |runner: &Runner| -> Result<(f64, usize, usize)> {
        Ok((Usage::of(runner.pid())?.resident_mb, minio.keys(tables, "")?.len(), minio.keys(log, "")?.len()))
    };
    // The first minute is for what is made once.
    std::thread::sleep(Duration::from_secs(60));
    let (memory, files, objects) = look(&runner)?;
    let mut greatest = memory;
    for minute in 0..minutes {
        std::thread::sleep(Duration::from_secs(60));
        let now = look(&runner)?;
        greatest = now.0.max(greatest);
        if minute % 10 == 9 {
            println!("  after {} min: {:.1} MB, {} files, {} objects of the log", minute + 1, now.0, now.1, now.2);
        }
        if let Some(status) = runner.try_wait()? {
            bail!("the idle runner ended: {status}: {}", runner.printed());
        }
    }
    let (_, files_now, objects_now) = look(&runner)?;
    println!("{minutes} minutes with nothing arriving, trigger 1 s, {memory:.1} MB after the first:");
    figures.at_most("  growth of resident memory, MB", greatest - memory, 5.0);
    figures.at_most("  new objects beside tables", files_now as f64 - files as f64, 0.0);
    figures.at_most("  new objects of the job log", objects_now as f64 - objects as f64, 0.0);
    exactly_once(figures, &job, kafka);
    Ok(())
}

fn exactly_once(figures: &mut Figures, job: &Job<'_>, kafka: &Kafka) {
    match job.check_exactly_once(kafka) {
        Ok(found) => {
            figures.tell("  messages, of which lost and doubled by DuckDB: 0", found.messages, "0 and 0", true)
        }
        Err(error) => figures.tell("  lost or doubled by DuckDB", format!("{error:#}"), "0 and 0", false),
    }
}

fn grown(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let grown = after.iter().map(|(name, count)| (name.clone(), count - before.get(name).unwrap_or(&0)));
    grown.filter(|(_, count)| *count > 0).collect()
}

fn slots(job: &Job<'_>) -> Result<usize> {
    let mut log = Log::default();
    job.read_log(&mut log)?;
    Ok(log.slots())
}

fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    cpu_seconds: f64,
    resident_mb: f64,
    peak_mb: f64,
}

impl Usage {
    fn of(pid: u32) -> Result<Usage> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let megabytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).map(|kib| kib / 1024.0)
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in parentheses, may hold spaces: count from behind it.
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
        let (user, system) = ticks(11).zip(ticks(12)).context("/proc has another form than expected")?;
        Ok(Usage {
            cpu_seconds: (user + system) / TICKS_PER_SECOND,
            resident_mb: megabytes("VmRSS").context("the process has ended")?,
            peak_mb: megabytes("VmHWM").context("the process has ended")?,
        })
    }
}
