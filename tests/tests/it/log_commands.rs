//! S22: a job stopped, replayed, moved and ended by hand, on real servers. Whatever is done, DuckDB finds each message once.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use millrace_tests::duckdb::{Oracle, Tally};
use millrace_tests::messages::{Kind, Messages};
use millrace_tests::produce::{Codec, produce};
use millrace_tests::runner::{Launch, Runner};
use millrace_tests::servers::kafka::Kafka;
use millrace_tests::servers::minio::Minio;
use millrace_tests::servers::scratch;
use millrace_tests::wait;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 3;

/// A job from a topic of its own into a bucket of its own.
struct World {
    kafka: &'static Kafka,
    minio: &'static Minio,
    topic: String,
    bucket: String,
    manifest: String,
}

impl World {
    fn new(name: &str) -> World {
        let (kafka, minio) = (Kafka::shared().unwrap(), Minio::shared().unwrap());
        let topic = kafka.unique_topic(name, PARTITIONS).unwrap();
        let bucket = minio.unique_bucket(name).unwrap();
        let servers = kafka.bootstrap();
        let manifest = format!(
            "
apiVersion: millrace.dev/v1alpha1
kind: StreamingJob
metadata: {{name: replayed}}
spec:
  sources:
    - name: orders
      kafka: {{bootstrapServers: '{servers}', topics: [{topic}], startingOffsets: earliest}}
      format: {{json: {{schema: 'order_id STRING, customer_id STRING, amount DOUBLE'}}}}
  outputs:
    - name: commandes
      sql: SELECT order_id, amount, _partition AS part, _offset AS off FROM orders
      parquet: {{path: s3://{bucket}/commandes}}
    - name: customers
      sql: SELECT customer_id, _partition AS part, _offset AS off FROM orders
      parquet: {{path: s3://{bucket}/customers}}
  trigger: {{interval: 300ms}}
  checkpoint: {{location: s3://{bucket}/checkpoint}}
"
        );
        World { kafka, minio, topic, bucket, manifest }
    }

    fn produce(&self, from: u64, to: u64) {
        produce(self.kafka, &self.topic, &Messages::new(Kind::FlatOrders, PARTITIONS), from..to, Codec::Lz4).unwrap();
    }

    fn launch(&self) -> Launch {
        Launch::run(&self.manifest).unwrap().storage(self.minio).arg("--home").arg("test/s22/replayed")
    }

    /// Runs `millrace log <command> <manifest> <arguments>` to its end.
    fn log(&self, command: &str, arguments: &[&str]) -> (ExitStatus, String) {
        let launch = Launch::command("log").unwrap().arg(command).manifest(&self.manifest).unwrap().storage(self.minio);
        arguments.iter().fold(launch, |launch, argument| launch.arg(argument)).finish(SOON).unwrap()
    }

    /// The same, of a command that succeeds.
    fn done(&self, command: &str, arguments: &[&str]) -> String {
        let (status, printed) = self.log(command, arguments);
        assert!(status.success(), "log {command} {arguments:?} ended with {status}:\n{printed}");
        printed
    }

    /// The same, of a command that is refused because of what the user asked for.
    fn refused(&self, command: &str, arguments: &[&str]) -> String {
        let (status, printed) = self.log(command, arguments);
        assert_eq!(status.code(), Some(64), "log {command} {arguments:?}:\n{printed}");
        printed
    }

    fn show(&self) -> Value {
        serde_json::from_str(&self.done("show", &["--json"])).unwrap()
    }

    /// Waits until so many messages are decided, and everything decided is published and noted.
    fn settled(&self, messages: u64) -> Value {
        let what = format!("{messages} messages decided and published");
        wait::until(&what, SOON, || {
            let (status, printed) = self.log("show", &["--json"]);
            // The log of a job that has just been started may not be there yet.
            let Ok(summary) = serde_json::from_str::<Value>(&printed) else { return Ok(None) };
            let published = summary["outputs"]
                .as_object()
                .unwrap()
                .values()
                .all(|output| output["pending"] == Value::Array(vec![]));
            Ok((status.success() && published && read(&summary) == messages).then_some(summary))
        })
        .unwrap()
    }

    fn tally(&self, table: &str) -> Tally {
        let oracle = Oracle::new().unwrap().topic("messages", self.kafka, &self.topic);
        let oracle = oracle.bucket("written", self.minio, &self.bucket, table);
        oracle.lost_and_doubled("messages", "written", "part", "off").unwrap()
    }

    /// Both tables have every message once, but for `lost`.
    fn exact_but(&self, lost: u64) {
        for table in ["commandes", "customers"] {
            let tally = self.tally(table);
            assert_eq!((tally.lost, tally.doubled, tally.invented), (lost, 0, 0), "{table}: {tally:?}");
        }
    }
}

fn read(summary: &Value) -> u64 {
    summary["partitions"].as_object().unwrap().values().map(|partition| partition["offset"].as_u64().unwrap()).sum()
}

fn stop(mut runner: Runner) {
    runner.terminate().unwrap();
    assert_eq!(runner.wait_for_exit(SOON).unwrap().code(), Some(143));
}

const RETRACT: [&str; 4] = ["--output", "commandes=retract", "--output", "customers=retract"];

#[test]
fn a_replay_into_the_same_tables_loses_and_doubles_nothing_stopped_and_running() {
    let world = World::new("replay");
    assert!(world.refused("show", &[]).contains("no job log at"));
    world.produce(0, 3_000);
    let runner = world.launch().start().unwrap();
    world.settled(3_000);
    assert!(world.done("savepoint", &["before-fix"]).contains("savepoint before-fix is record"));
    assert!(world.refused("savepoint", &["before-fix"]).contains("exists already"));
    world.produce(3_000, 6_000);
    let held_then = world.settled(6_000)["next"].as_u64().unwrap() - 1;
    world.exact_but(0);
    stop(runner);

    let asked = world.refused("rewind", &["--to-savepoint", "before-fix"]);
    assert!(asked.contains("'commandes'") && asked.contains("'customers'"), "{asked}");
    let back = [&["--to-savepoint", "before-fix"][..], &RETRACT].concat();
    let previewed = world.done("rewind", &[&back[..], &["--dry-run"]].concat());
    assert!(previewed.contains("→"), "{previewed}");
    assert_eq!(read(&world.show()), 6_000, "a dry run changes nothing");
    world.done("rewind", &back);
    assert_eq!(read(&world.show()), 3_000);
    world.exact_but(3_000);

    let mut runner = world.launch().start().unwrap();
    world.settled(6_000);
    world.exact_but(0);
    let taken_back = world.refused("rewind", &[&["--to", &held_then.to_string()][..], &RETRACT].concat());
    assert!(taken_back.contains("took back rows"), "{taken_back}");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for step in 0..10 {
                world.produce(6_000 + step * 300, 6_300 + step * 300);
            }
        });
        world.done("rewind", &back);
        let to = (world.show()["next"].as_u64().unwrap() - 1).to_string();
        let (_, printed) = world.log("rewind", &[&["--to", &to][..], &RETRACT].concat());
        assert!(printed.contains("rewound by record"), "{printed}");
    });
    let summary = world.settled(9_000);
    world.exact_but(0);
    assert!(runner.try_wait().unwrap().is_none(), "the runner went on by itself");
    assert!(summary["savepoints"]["before-fix"].is_u64(), "{summary}");
    assert!(summary["held"].is_null());

    let listed = world.done("ls", &["--from", "0"]);
    for kind in ["init+term+claim", "savepoint", "hold", "rewind+release", "retracted", "commit"] {
        assert!(listed.contains(kind), "no {kind} in\n{listed}");
    }
    assert_eq!(world.done("ls", &["--last", "2", "--json"]).lines().count(), 2);
    let record: Value = serde_json::from_str(&world.done("show", &["0"])).unwrap();
    assert!(record["entries"][0]["body"]["init"].is_object());
    world.done("savepoint", &["before-fix", "--delete"]);
    stop(runner);
    world.exact_but(0);
}

#[test]
fn a_spec_that_begins_at_a_savepoint_goes_back_to_it_once() {
    let mut world = World::new("started");
    world.produce(0, 2_000);
    let runner = world.launch().start().unwrap();
    world.settled(2_000);
    world.done("savepoint", &["before-fix"]);
    world.produce(2_000, 4_000);
    world.settled(4_000);

    let before = world.manifest.clone();
    world.manifest =
        format!("{before}  startFrom: {{savepoint: before-fix}}\n").replace("amount,", "amount + 1 AS amount,");
    let (status, printed) = world.launch().finish(SOON).unwrap();
    assert_eq!(status.code(), Some(64), "{printed}");
    assert!(printed.contains("spec.startFrom") && printed.contains("'commandes'"), "{printed}");
    world.exact_but(0);

    let outputs = "outputs: [{name: commandes, policy: retract}, {name: customers, policy: retract}]";
    world.manifest = world.manifest.replace("before-fix}", &format!("before-fix, {outputs}}}"));
    let fixed = world.launch().start().unwrap();
    wait::until("the rewind", SOON, || {
        Ok(world.log("ls", &["--from", "0"]).1.contains("rewind+release").then_some(()))
    })
    .unwrap();
    world.settled(4_000);
    world.exact_but(0);
    drop(runner);
    world.produce(4_000, 5_000);
    world.settled(5_000);
    stop(fixed);
    let again = world.launch().start().unwrap();
    world.produce(5_000, 5_500);
    world.settled(5_500);
    stop(again);
    world.exact_but(0);
    let listed = world.done("ls", &["--from", "0"]);
    assert_eq!(listed.matches("rewind+release").count(), 1, "{listed}");
}

#[test]
fn edited_offsets_are_skipped_and_a_destroyed_job_leaves_its_tables_only() {
    let world = World::new("edited");
    world.produce(0, 900);
    let runner = world.launch().start().unwrap();
    let summary = world.settled(900);
    stop(runner);
    let partition = format!("orders/{}/0", world.topic);
    let stands = summary["partitions"][&partition]["offset"].as_u64().unwrap();
    world.produce(900, 1_800);
    let edit = format!("{partition}={}", stands + 50);
    assert!(world.refused("edit-offsets", &[&edit]).contains("50 offset(s) are skipped"));
    assert!(world.refused("edit-offsets", &["orders/nowhere/0=1", "--yes"]).contains(&partition));
    assert_eq!(read(&world.show()), 900);
    world.done("edit-offsets", &[&edit, "--yes"]);
    let runner = world.launch().start().unwrap();
    world.settled(1_800);
    world.exact_but(50);
    stop(runner);

    assert!(world.refused("destroy", &[]).contains("--yes replayed"));
    assert!(world.refused("destroy", &["--yes", "another"]).contains("--yes replayed"));
    world.done("destroy", &["--yes", "replayed"]);
    let keys = world.minio.keys(&world.bucket, "").unwrap();
    assert!(keys.iter().all(|key| key.ends_with(".parquet")), "{keys:#?}");
    world.exact_but(50);
    assert!(world.refused("ls", &[]).contains("no job log at"));
}

#[test]
fn a_record_that_was_decided_and_given_up_is_exported_and_in_no_table() {
    let world = World::new("skipped");
    world.produce(0, 600);
    let mut runner = world.launch().env("MILLRACE_FAILPOINT", "decided").start().unwrap();
    assert_ne!(runner.wait_for_exit(SOON).unwrap().code(), Some(0));
    let summary = world.show();
    let pending = summary["outputs"]["commandes"]["pending"][0].as_u64().unwrap().to_string();
    let directory = scratch("export").unwrap();
    let export = directory.path().join("rows");
    let skipped = world.done("skip-publish", &["commandes", &pending, "--export", export.to_str().unwrap()]);
    assert!(skipped.contains("will not be published"), "{skipped}");

    let runner = world.launch().start().unwrap();
    world.settled(600);
    stop(runner);
    let written = world.minio.keys(&world.bucket, "commandes").unwrap();
    let table = written.iter().filter(|key| key.ends_with(".parquet")).count();
    assert_eq!(export_and_table(&world, &export, table > 0), (600, 600));
    let customers = world.tally("customers");
    assert!(customers.is_exact(), "{customers:?}");
}

/// Rows, and different messages among them, in the export and the table together.
fn export_and_table(world: &World, export: &Path, table: bool) -> (u64, u64) {
    let mut oracle = Oracle::new().unwrap().path("exported", export);
    let mut rows = "SELECT part, off FROM exported".to_owned();
    if table {
        oracle = oracle.bucket("written", world.minio, &world.bucket, "commandes");
        rows += " UNION ALL SELECT part, off FROM written";
    }
    let answer = oracle.rows(&format!("SELECT count(*) AS n, count(DISTINCT (part, off)) AS m FROM ({rows})")).unwrap();
    (answer[0]["n"].as_u64().unwrap(), answer[0]["m"].as_u64().unwrap())
}
