#![allow(clippy::unwrap_used)]

use super::*;

/// A job with nothing that could be left out.
const SMALL: &str = "\
apiVersion: millrace.dev/v1alpha1
kind: StreamingJob
metadata: {name: small}
spec:
  sources:
    - name: orders
      kafka: {bootstrapServers: \"kafka:9092\", topics: [orders]}
      format: {json: {schema: \"id BIGINT, at TIMESTAMP\"}}
  outputs:
    - name: copy
      sql: SELECT id FROM orders
      parquet: {path: s3://lake/orders}
  checkpoint: {location: s3://lake/_checkpoints/orders}
";

/// A job with everything that can be said.
const EVERYTHING: &str = include_str!("../../fixtures/orders.yaml");

/// The errors of the small job with one part of its text replaced.
fn errors_with(from: &str, to: &str) -> String {
    assert!(SMALL.contains(from), "{from}");
    match parse(&SMALL.replacen(from, to, 1), "job.yaml") {
        Ok(_) => "none".to_owned(),
        Err(errors) => errors.to_string(),
    }
}

fn errors(text: &str) -> String {
    parse(text, "job.yaml").unwrap_err().to_string()
}

#[test]
fn a_small_and_a_full_manifest_are_read() {
    let small = parse(SMALL, "small.yaml").unwrap();
    assert_eq!((small.job.name.as_str(), small.notes.len()), ("small", 0));
    let everything = parse(EVERYTHING, "orders.yaml").unwrap();
    assert_eq!(everything.job.sources.len(), 3);
    assert_eq!(everything.job.namespace.as_deref(), Some("shop"));
}

#[test]
fn json_is_read_too_tabs_included() {
    let value: Value = serde_json::to_value(serde_saphyr::from_str::<Value>(EVERYTHING).unwrap()).unwrap();
    let json = serde_json::to_string_pretty(&value).unwrap().replace("  ", "\t");
    assert_eq!(parse(&json, "orders.json").unwrap().job, parse(EVERYTHING, "orders.yaml").unwrap().job);
}

#[test]
fn anchors_and_merge_keys_are_understood() {
    let text = EVERYTHING
        .replace("tls: {trustedCertificates:", "tls: &tls {trustedCertificates:")
        .replace("tls: {}", "tls: *tls");
    let job = parse(&text, "orders.yaml").unwrap().job;
    assert_eq!(job.sources[0].kafka.tls, job.sources[1].kafka.tls);
}

#[test]
fn every_mistake_of_a_bad_manifest_is_reported_at_once_with_its_place() {
    let found = parse(include_str!("../../fixtures/bad.yaml"), "bad.yaml").unwrap_err().to_string();
    assert_eq!(found, include_str!("../../fixtures/bad.txt").trim_end());
}

#[test]
fn each_mistake_has_its_message() {
    let at_kafka = "topics: [orders]}";
    let cases = [
        // Fields.
        (
            "kind: StreamingJob",
            "kind: StreamingJob\nspce: 1",
            "job.yaml:3:1: spce: unknown field; known here are apiVersion, kind, metadata, spec, status",
        ),
        (
            "metadata: {name: small}",
            "metadata: {}",
            "job.yaml:3:1: metadata.name: is missing; add `name`: the job's name",
        ),
        (
            "name: small",
            "name: \"\"",
            "job.yaml:3:12: metadata.name: the job has no name; use lower-case letters, digits and dashes, such as `orders-to-lake`",
        ),
        (
            "name: small",
            "name: 5",
            "job.yaml:3:18: metadata.name: a number where a text belongs (it says `5`); put it between quotes: `\"5\"`",
        ),
        (
            at_kafka,
            "topics: [2024]}",
            "job.yaml:7:56: spec.sources[0].kafka.topics[0]: a number where a text belongs (it says `2024`); put it between quotes: `\"2024\"`",
        ),
        (
            at_kafka,
            "topics: [orders], topicPattern: a}",
            "job.yaml:7:7: spec.sources[0].kafka: both topics and topicPattern; keep one of them",
        ),
        (
            ", topics: [orders]",
            "",
            "job.yaml:7:7: spec.sources[0].kafka: no topic; add `topics: [name]` or `topicPattern: regex`",
        ),
        (
            at_kafka,
            "topics: []}",
            "job.yaml:7:47: spec.sources[0].kafka.topics: an empty list; write at least one item",
        ),
        (
            at_kafka,
            "topics: [orders, orders]}",
            "job.yaml:7:64: spec.sources[0].kafka.topics[1]: a topic that is there twice (it says `orders`); remove one",
        ),
        (
            at_kafka,
            "topics: [orders-*]}",
            "job.yaml:7:56: spec.sources[0].kafka.topics[0]: not the name of a topic (it says `orders-*`); use letters, digits, dots, dashes, underscores; for several topics by a pattern use topicPattern",
        ),
        (
            "topics: [orders]",
            "topicPattern: \"a(\"",
            "job.yaml:7:61: spec.sources[0].kafka.topicPattern: not a regular expression: unclosed group (it says `a(`); write one such as `orders-.*`",
        ),
        (
            at_kafka,
            "topics: [orders], group.id: x}",
            "job.yaml:7:65: spec.sources[0].kafka[\"group.id\"]: unknown field; known here are authentication, bootstrapServers, endingOffsets, endingOffsetsByPartition, endingTimestamp, failOnDataLoss, properties, startingOffsets, startingOffsetsByPartition, startingTimestamp, tls, topicPattern, topics",
        ),
        (
            "    - name: orders\n",
            "    - name: orders\n      topics: [a]\n",
            "job.yaml:7:7: spec.sources[0].topics: unknown field; it belongs under `kafka`",
        ),
        // Offsets.
        (
            at_kafka,
            "topics: [orders], startingOffsets: latest, startingTimestamp: 2026-01-01T00:00:00Z}",
            "job.yaml:7:7: spec.sources[0].kafka: several places to start; keep one of startingOffsets, startingTimestamp, startingOffsetsByPartition",
        ),
        (
            at_kafka,
            "topics: [orders], startingTimestamp: yesterday}",
            "job.yaml:7:84: spec.sources[0].kafka.startingTimestamp: not an instant, or one before 1970 (it says `yesterday`); write it as `2026-01-31T00:00:00Z` or `2026-01-31T02:00:00+02:00`",
        ),
        (
            at_kafka,
            "topics: [orders], endingOffsets: latest}",
            "job.yaml:7:65: spec.sources[0].kafka.endingOffsets: a job that runs for ever has no end; add `trigger: {availableNow: {}}`, or remove it",
        ),
        (
            at_kafka,
            "topics: [orders], startingOffsetsByPartition: [{topic: order, partition: 0, offset: 1}]}",
            "job.yaml:7:102: spec.sources[0].kafka.startingOffsetsByPartition[0].topic: a topic that the source does not read (it says `order`); did you mean `orders`?",
        ),
        (
            at_kafka,
            "topics: [orders], startingOffsetsByPartition: [{topic: orders, partition: 0, offset: -3}]}",
            "job.yaml:7:132: spec.sources[0].kafka.startingOffsetsByPartition[0].offset: too small (it says `-3`); write -2 or more",
        ),
        // Security.
        (
            at_kafka,
            "topics: [orders], authentication: {type: scram-sha-512}}",
            "job.yaml:7:65: spec.sources[0].kafka.authentication.username: is missing; add the user's name\njob.yaml:7:65: spec.sources[0].kafka.authentication.passwordSecret: is missing; add `passwordSecret: {secretName: …, password: …}`, where password is the key in the Secret",
        ),
        (
            at_kafka,
            "topics: [orders], authentication: {type: tls, certificateAndKey: {secretName: u, certificate: c, key: k}}}",
            "job.yaml:7:88: spec.sources[0].kafka.authentication.type: a client certificate is shown over TLS only (it says `tls`); add `tls: {}`, or `tls: {trustedCertificates: […]}`",
        ),
        (
            at_kafka,
            "topics: [orders], tls: {trustedCertificates: [{secretName: ca, certificate: ../x}]}}",
            "job.yaml:7:123: spec.sources[0].kafka.tls.trustedCertificates[0].certificate: not a key of a Secret (it says `../x`); use letters, digits, dashes, dots, underscores",
        ),
        (
            at_kafka,
            "topics: [orders], properties: {sasl.password: x}}",
            "job.yaml:7:78: spec.sources[0].kafka.properties[\"sasl.password\"]: a password in the manifest; use the field authentication, which reads it from a Secret",
        ),
        (
            at_kafka,
            "topics: [orders], properties: {isolation.level: read_uncommitted}}",
            "job.yaml:7:95: spec.sources[0].kafka.properties[\"isolation.level\"]: rows of aborted transactions would be read (it says `read_uncommitted`); remove it: read_committed is set",
        ),
        // Format.
        (
            "id BIGINT",
            "_offset BIGINT",
            "job.yaml:8:31: spec.sources[0].format.json.schema: a column that Millrace adds itself (it says `_offset`); leave it out; the message's field of this name cannot be read",
        ),
        (
            "id BIGINT",
            "id MAP<INT, INT>",
            "job.yaml:8:23: spec.sources[0].format.json.schema: the column `id` has a map with keys of type INT; names in JSON are text: write MAP<STRING, …>",
        ),
        (
            "id BIGINT, at TIMESTAMP",
            "id BIGNT",
            "job.yaml:8:23: spec.sources[0].format.json.schema: unknown type `BIGNT` at character 4; did you mean BIGINT?\n  id BIGNT\n     ^^^^^",
        ),
        (
            "{schema: \"id BIGINT, at TIMESTAMP\"}",
            "{fields: [{name: id, type: BIGINT}, {name: ID, type: TEXT}]}",
            "job.yaml:8:65: spec.sources[0].format.json.fields[1].name: a column that is there twice (it says `ID`); remove or rename one (case does not count)\njob.yaml:8:69: spec.sources[0].format.json.fields[1].type: unknown type `TEXT` at character 1; write STRING\n  TEXT\n  ^^^^",
        ),
        (
            "format: {json:",
            "format: {text: {}, json:",
            "job.yaml:8:7: spec.sources[0].format: several formats; keep one of json, text, binary",
        ),
        (
            "      format:",
            "      eventTime: {column: att, watermarkDelay: 10m}\n      format:",
            "job.yaml:8:27: spec.sources[0].eventTime.column: not a column of the source (it says `att`); did you mean `at`?",
        ),
        (
            "      format:",
            "      onError: {action: skip, deadLetter: {parquet: {path: a}}}\n      format:",
            "job.yaml:8:31: spec.sources[0].onError.deadLetter: a place for dead letters, but the action is another; write `action: deadLetter`, or remove it",
        ),
        // Outputs.
        (
            "parquet: {path: s3://lake/orders}",
            "outputMode: append",
            "job.yaml:10:7: spec.outputs[0]: nowhere to write; add `parquet: {path: …}` or `console: {}`",
        ),
        (
            "parquet: {path: s3://lake/orders}",
            "parquet: {path: s3://lake/orders}\n      console: {}",
            "job.yaml:10:7: spec.outputs[0]: two places to write; make two outputs, one with parquet and one with console",
        ),
        (
            "parquet: {path: s3://lake/orders}",
            "kafka: {topic: x}",
            "job.yaml:12:7: spec.outputs[0].kafka: not supported yet; topics cannot be written by this version; write `parquet` or `console`",
        ),
        (
            "parquet:",
            "outputMode: complete\n      parquet:",
            "job.yaml:12:19: spec.outputs[0].outputMode: the whole result is known only where everything has been read (it says `complete`); add `trigger: {availableNow: {}}`, or write `append`",
        ),
        (
            "parquet: {",
            "parquet: {partitionBy: [a, A], maxFileBytes: 1, ",
            "job.yaml:12:34: spec.outputs[0].parquet.partitionBy[1]: a column that is there twice (it says `A`); remove one\njob.yaml:12:52: spec.outputs[0].parquet.maxFileBytes: too small (it says `1`); write 1024 bytes or more",
        ),
        (
            "s3://lake/orders",
            "s3://lake/_checkpoints/orders/out",
            "job.yaml:12:23: spec.outputs[0].parquet.path: inside the folder of spec.checkpoint.location, `s3://lake/_checkpoints/orders` (it says `s3://lake/_checkpoints/orders/out`); give it a folder of its own",
        ),
        (
            "s3://lake/orders}",
            "s3://lake/orders}\n    - {name: Copy, sql: SELECT 1, console: {}}",
            "job.yaml:13:14: spec.outputs[1].name: the name of spec.outputs[0] too, and outputs need names of their own (it says `Copy`); rename one of them",
        ),
        // The rest.
        (
            "  checkpoint:",
            "  trigger: {interval: 1s, once: {}}\n  checkpoint:",
            "job.yaml:13:3: spec.trigger: several triggers; give one of interval, availableNow, once",
        ),
        (
            "  checkpoint:",
            "  trigger: {interval: 0s}\n  checkpoint:",
            "job.yaml:13:23: spec.trigger.interval: every commit asks the object store, this often it could not answer (it says `0s`); write 10ms or more",
        ),
        (
            "  checkpoint:",
            "  trigger: {maxRecords: 0}\n  checkpoint:",
            "job.yaml:13:25: spec.trigger.maxRecords: too small (it says `0`); write 1 or more",
        ),
        (
            "  checkpoint:",
            "  trigger: {interval: 10m}\n  progressDeadline: 5m\n  checkpoint:",
            "job.yaml:14:21: spec.progressDeadline: no runner could keep to it (it says `5m`); write more than the trigger's interval, 10m",
        ),
        (
            "  checkpoint:",
            "  parallelism: two\n  checkpoint:",
            "job.yaml:13:16: spec.parallelism: a text where a whole number belongs (it says `two`); write a whole number",
        ),
        (
            "  checkpoint:",
            "  parallelism: 2000\n  checkpoint:",
            "job.yaml:13:16: spec.parallelism: too large (it says `2000`); write 1000 or less",
        ),
        (
            "  checkpoint:",
            "  storage: {s3: {endpoint: \"minio:9000\"}}\n  checkpoint:",
            "job.yaml:13:28: spec.storage.s3.endpoint: no URL (it says `minio:9000`); write it as `http://minio:9000` or `https://s3.example.com`",
        ),
        (
            "s3://lake/_checkpoints/orders",
            "s3://lake",
            "job.yaml:13:26: spec.checkpoint.location: a whole bucket (it says `s3://lake`); name a folder in the bucket, such as `s3://lake/folder`",
        ),
        (
            "kafka:9092",
            "http://kafka",
            "job.yaml:7:33: spec.sources[0].kafka.bootstrapServers: a URL; Kafka's addresses have no scheme (it says `http://kafka`); write `host:port`, several separated by commas",
        ),
    ];
    let mut differing = Vec::new();
    for (from, to, error) in cases {
        let found = errors_with(from, to);
        if found != error {
            differing.push(format!("{to}\n  expected {error}\n  found    {found}"));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn what_is_no_yaml_is_refused_with_line_and_column() {
    let hint = "check indentation, quotes and brackets there (tabs do not indent YAML)";
    let cases = [
        ("a: b: c", format!("job.yaml:1:5: not YAML: mapping values are not allowed in this context; {hint}")),
        ("a:\n\t- b", format!("job.yaml:2:2: not YAML: tabs disallowed within this context (block indentation); {hint}")),
        ("a: [1, 2", format!("job.yaml:1:4: not YAML: unclosed bracket '['; {hint}")),
        ("a: 1\na: 2", "job.yaml:2:1: the field `a` is there twice; remove one".to_owned()),
        ("- 1", "job.yaml:1:1: manifest: a list where an object belongs (it says `[1]`); write fields in it: apiVersion, kind, metadata, spec, status".to_owned()),
    ];
    for (text, error) in cases {
        assert_eq!(errors(text), error, "{text}");
    }
    let deep = format!("a: {}", "[".repeat(100_000));
    assert!(errors(&deep).starts_with("job.yaml:1:"), "{}", errors(&deep));
}

#[test]
fn other_kinds_in_the_file_are_ignored_and_said_so() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: minio}\nstringData: {a: b}\n";
    let map = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n---\n";
    let manifest = parse(&format!("{secret}---\n{SMALL}{map}"), "job.yaml").unwrap();
    assert_eq!(manifest.job, parse(SMALL, "job.yaml").unwrap().job);
    let notes = [
        "Secret `minio` is ignored: secrets are read from files <secrets-dir>/minio/<key>",
        "ConfigMap `other` is ignored",
    ];
    assert_eq!(manifest.notes, notes);
}

#[test]
fn a_mistake_behind_another_document_is_found_in_its_own_line() {
    let text = format!("kind: Secret\n---\n{}", SMALL.replace("name: small", "name: Small"));
    assert!(errors(&text).starts_with("job.yaml:5:18: metadata.name: `S` is not allowed"), "{}", errors(&text));
}

#[test]
fn a_file_has_exactly_one_job() {
    let begin = "begin with `apiVersion: millrace.dev/v1alpha1` and `kind: StreamingJob`";
    let cases = [
        (String::new(), format!("job.yaml:1:1: an empty file; {begin}")),
        ("# nothing\n---\n".to_owned(), format!("job.yaml:1:1: an empty file; {begin}")),
        (
            format!("{SMALL}---\n{SMALL}"),
            "job.yaml:15:1: a second StreamingJob, after the one in line 1; put each job into a file of its own".to_owned(),
        ),
        (
            "kind: Deployment\n".to_owned(),
            "job.yaml:1:1: no StreamingJob in the file, only Deployment; give the file with `kind: StreamingJob`".to_owned(),
        ),
        (
            format!("{SMALL}---\nspec: {{}}\n"),
            "job.yaml:15:1: a document without a kind; every document begins with `apiVersion` and `kind`; a job's are \
             millrace.dev/v1alpha1 and StreamingJob"
                .to_owned(),
        ),
    ];
    for (text, error) in cases {
        assert_eq!(errors(&text), error, "{text}");
    }
    assert!(
        errors("kind: StreamingJobs\n")
            .contains("kind: not a known value (it says `StreamingJobs`); did you mean `StreamingJob`?")
    );
}
