//! The checked-in resource definition in a real API server: it takes what `millrace validate` takes, from the same file,
//! and refuses what a rule in it forbids.

use std::time::Duration;

use millrace_tests::http::Response;
use millrace_tests::runner::Launch;
use millrace_tests::servers::apiserver::ApiServer;
use millrace_tests::servers::checkout;
use millrace_tests::{Result, wait};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
const JOBS: &str = "/apis/millrace.dev/v1alpha1/namespaces/default/streamingjobs";
/// What `kubectl apply --server-side` adds to the address, with unknown fields refused as `kubectl` has them refused.
const APPLY: &str = "?fieldManager=kubectl&fieldValidation=Strict";

/// The API server with the definition installed and served.
fn server() -> &'static ApiServer {
    let server = ApiServer::shared().unwrap();
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = std::fs::read_to_string(checkout().join("crds/streamingjobs.yaml")).unwrap();
    let path = format!("{definitions}/streamingjobs.millrace.dev");
    let applied = server.request("PATCH", &format!("{path}{APPLY}&force=true"), &definition).unwrap();
    assert!(applied.status < 300, "{} {}", applied.status, applied.body);
    wait::until("the definition to be served", SOON, || {
        let found: Value = serde_json::from_str(&server.request("GET", &path, "")?.body)?;
        for condition in found["status"]["conditions"].as_array().into_iter().flatten() {
            let of = |kind: &str, status: &str| condition["type"] == kind && condition["status"] == status;
            assert!(!of("NonStructuralSchema", "True") && !of("NamesAccepted", "False"), "{condition}");
        }
        Ok((server.request("GET", JOBS, "")?.status == 200).then_some(()))
    })
    .unwrap();
    server
}

fn apply(server: &ApiServer, name: &str, manifest: &str) -> Response {
    server.request("PATCH", &format!("{JOBS}/{name}{APPLY}"), manifest).unwrap()
}

/// The words in which the server refuses a manifest, or none if it takes it.
fn objection(server: &ApiServer, name: &str, manifest: &str) -> Option<String> {
    let answer = server.request("PATCH", &format!("{JOBS}/{name}{APPLY}&dryRun=All"), manifest).unwrap();
    (answer.status >= 400).then(|| {
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        body["message"].as_str().map_or_else(|| answer.body.clone(), ToOwned::to_owned)
    })
}

/// The name in a manifest's metadata.
fn name(manifest: &str) -> &str {
    let line = manifest.lines().find(|line| line.trim_start().starts_with("name:")).unwrap();
    line.trim_start().trim_start_matches("name:").trim()
}

const GOOD: &str = "apiVersion: millrace.dev/v1alpha1
kind: StreamingJob
metadata:
  name: good
spec:
  sources:
    - name: orders
      kafka: {bootstrapServers: kafka:9092, topics: [orders]}
      format: {json: {schema: 'id BIGINT'}}
  outputs:
    - {name: all, sql: SELECT id FROM orders, parquet: {path: s3://lake/orders}}
  checkpoint: {location: s3://lake/checkpoints/orders}
";

#[test]
fn the_api_server_and_the_command_line_take_the_same_files() -> Result<()> {
    let server = server();
    let mut seen = 0;
    for entry in std::fs::read_dir(checkout().join("examples"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let manifest = std::fs::read_to_string(&path)?;
        let answer = apply(server, name(&manifest), &manifest);
        assert_eq!(answer.status, 201, "{}: {}", path.display(), answer.body);
        let kept: Value = serde_json::from_str(&answer.body)?;
        assert_eq!(kept["spec"]["parallelism"], 1, "the one default");
        let (status, printed) = Launch::command("validate")?.arg(&path).finish(SOON)?;
        assert!(status.success(), "{}: {printed}", path.display());
        seen += 1;
    }
    assert!(seen >= 6, "{seen} examples");
    let scaled = server.request("GET", &format!("{JOBS}/{}/scale", "orders-to-lake"), "")?;
    assert_eq!(scaled.status, 200, "{}", scaled.body);
    Ok(())
}

#[test]
fn what_a_rule_forbids_is_refused_in_its_words_by_both() {
    let server = server();
    assert_eq!(objection(server, "good", GOOD), None);
    let long = "a".repeat(64);
    let kafka = "topics: [orders]}";
    let both = |field: &str| format!("topics: [orders], {field}}}");
    let cases: Vec<(&str, String, &str)> = vec![
        ("name: good", "name: has.dots".to_owned(), "no dots"),
        ("name: good", format!("name: {long}"), "at most"),
        (kafka, "topicPattern: a, topics: [orders]}".to_owned(), "exactly one of topics, topicPattern"),
        ("topics: [orders]", "failOnDataLoss: true".to_owned(), "exactly one of topics, topicPattern"),
        (
            kafka,
            both("startingOffsets: latest, startingTimestamp: '2026-01-31T00:00:00Z'"),
            "at most one of startingOffsets",
        ),
        (
            kafka,
            both("startingOffsetsByPartition: [{topic: orders, partition: 0, offset: -3}]"),
            "greater than or equal to -2",
        ),
        (
            kafka,
            both("endingOffsetsByPartition: [{topic: orders, partition: 0, offset: -1}]"),
            "greater than or equal to 0",
        ),
        (kafka, both("authentication: {type: plain, username: me}"), "need username and passwordSecret"),
        (kafka, both("authentication: {type: tls, username: me}"), "tls needs certificateAndKey"),
        (kafka, both("topcis: [orders]"), "topcis: field not declared"),
        ("{json: {schema: 'id BIGINT'}}", "{json: {schema: a INT}, text: {}}".to_owned(), "exactly one of json, text"),
        ("{json: {schema: 'id BIGINT'}}", "{}".to_owned(), "exactly one of json, text, binary"),
        ("{schema: 'id BIGINT'}", "{}".to_owned(), "exactly one of schema, fields"),
        ("parquet: {path", "console: {}, parquet: {path".to_owned(), "exactly one of parquet, console"),
        ("'id BIGINT'}}", "'id BIGINT'}}\n      onError: {action: deadLetter}".to_owned(), "deadLetter goes with"),
        ("  checkpoint:", "  views: [{name: orders, sql: SELECT 1}]\n  checkpoint:".to_owned(), "the same name"),
        (
            "  checkpoint:",
            "  trigger: {interval: 1s, availableNow: {}}\n  checkpoint:".to_owned(),
            "at most one of interval",
        ),
        ("  checkpoint:", "  parallelism: 1001\n  checkpoint:".to_owned(), "less than or equal to 1000"),
        ("  checkpoint:", "  checkpiont: {}\n  checkpoint:".to_owned(), "checkpiont: field not declared"),
    ];
    for (from, to, words) in cases {
        assert!(GOOD.contains(from), "{from}");
        let bad = GOOD.replacen(from, &to, 1);
        let refused = objection(server, name(&bad), &bad).unwrap_or_else(|| panic!("the server takes\n{bad}"));
        assert!(refused.contains(words), "{to}: expected {words:?} in\n{refused}");
        let (status, printed) = Launch::command("validate").unwrap().manifest(&bad).unwrap().finish(SOON).unwrap();
        assert_eq!(status.code(), Some(64), "{to}: {printed}");
    }
}

#[test]
fn the_checkpoint_of_a_job_cannot_be_changed_and_the_rest_can() {
    let server = server();
    let job = GOOD.replace("name: good", "name: immutable");
    assert_eq!(apply(server, "immutable", &job).status, 201);
    let moved = job.replace("checkpoints/orders", "checkpoints/elsewhere");
    let refused = apply(server, "immutable", &moved);
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(refused.body.contains("checkpoint.location cannot be changed"), "{}", refused.body);
    let changed = job.replace("SELECT id FROM orders", "SELECT id + 1 AS id FROM orders");
    assert_eq!(apply(server, "immutable", &changed).status, 200);
}
