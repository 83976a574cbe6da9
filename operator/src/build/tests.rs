#![allow(clippy::unwrap_used)]

use millrace_crds::spec::RevisionStatus;
use serde_json::{Value, json};

use super::*;
use crate::facts::JobObject;
use crate::validate::{Validated, validate};

fn object(spec: Value) -> (JobObject, JobFacts) {
    let object: JobObject = serde_json::from_value(json!({
        "metadata": { "name": "orders", "namespace": "shop", "uid": "u-1", "resourceVersion": "1" },
        "spec": spec,
    }))
    .unwrap();
    let facts = JobFacts::of(&object).unwrap();
    (object, facts)
}

fn spec() -> Value {
    json!({
        "sources": [{ "name": "orders", "format": { "text": {} }, "kafka": {
            "bootstrapServers": "kafka:9093", "topics": ["orders"],
            "tls": { "trustedCertificates": [{ "secretName": "ca", "certificate": "ca.crt" }] },
            "authentication": { "type": "scram-sha-512", "username": "u",
                                "passwordSecret": { "secretName": "kafka-user", "password": "password" } } } }],
        "outputs": [{ "name": "lake", "sql": "SELECT value FROM orders", "parquet": { "path": "s3://lake/orders" } }],
        "checkpoint": { "location": "s3://lake/_checkpoints/orders" },
        "storage": { "s3": { "endpoint": "http://minio:9000", "credentialsSecret": { "name": "minio" } } },
        "runner": { "env": [{ "name": "MILLRACE_LOG_FORMAT", "value": "text" }] },
    })
}

fn rendered(spec: Value) -> (Validated, k8s_openapi::api::core::v1::PodTemplateSpec) {
    let (object, facts) = object(spec);
    let valid = validate(&object, &facts).unwrap();
    let defaults = Defaults { image: "millrace:1".into(), image_pull_policy: None, cluster: "c-1".into() };
    let revision = RevisionStatus { hash: valid.hash.clone(), number: 3, ..RevisionStatus::default() };
    let template = template(&defaults, &valid, &revision);
    (valid, template)
}

#[test]
fn every_secret_that_a_job_names_is_mounted_where_the_runner_looks_and_may_be_missing() {
    let (_, template) = rendered(spec());
    let pod = template.spec.unwrap();
    let mounted: Vec<String> = pod.containers[0]
        .volume_mounts
        .as_ref()
        .unwrap()
        .iter()
        .filter_map(|mount| mount.mount_path.strip_prefix("/etc/millrace/secrets/").map(str::to_owned))
        .collect();
    assert_eq!(mounted, ["ca", "kafka-user", "minio"]);
    let secrets = pod.volumes.unwrap().into_iter().filter_map(|volume| volume.secret);
    assert!(secrets.map(|secret| secret.optional).all(|optional| optional == Some(true)));
    assert_eq!(pod.automount_service_account_token, Some(false));
}

#[test]
fn what_the_user_sets_wins() {
    let mut spec = spec();
    spec["runner"]["podTemplate"] = json!({
        "metadata": { "annotations": { "team": "shop" } },
        "spec": {
            "priorityClassName": "high",
            "containers": [{ "name": "runner", "resources": { "limits": { "memory": "1Gi" } } },
                           { "name": "sidecar", "image": "sidecar:1" }],
        },
    });
    let (_, template) = rendered(spec);
    let annotations = template.metadata.unwrap().annotations.unwrap();
    assert_eq!(annotations["team"], "shop");
    assert!(annotations.contains_key("cluster-autoscaler.kubernetes.io/safe-to-evict"));
    let pod = template.spec.unwrap();
    assert_eq!(pod.priority_class_name.as_deref(), Some("high"));
    assert_eq!(pod.containers.len(), 2);
    let runner = pod.containers.iter().find(|container| container.name == "runner").unwrap();
    assert_eq!(runner.image.as_deref(), Some("millrace:1"));
    let resources = runner.resources.clone().unwrap();
    assert!(resources.limits.unwrap().contains_key("memory") && resources.requests.unwrap().contains_key("cpu"));
    let formats: Vec<_> =
        runner.env.as_ref().unwrap().iter().filter(|variable| variable.name == "MILLRACE_LOG_FORMAT").collect();
    assert_eq!(formats.len(), 1);
    assert_eq!(formats[0].value.as_deref(), Some("text"));
}

#[test]
fn what_a_job_says_of_its_pods_place_and_rights_reaches_them() {
    let mut spec = spec();
    spec["runner"] = json!({
        "image": "registry.example.com/millrace@sha256:1",
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{ "name": "registry" }],
        "serviceAccountName": "orders",
        "nodeSelector": { "disk": "fast" },
        "tolerations": [{ "key": "dedicated", "operator": "Equal", "value": "streams", "effect": "NoSchedule" }],
        "podTemplate": { "spec": { "priorityClassName": "high" } },
    });
    let (_, template) = rendered(spec);
    let pod = serde_json::to_value(template.spec.unwrap()).unwrap();
    assert_eq!(pod["containers"][0]["image"], "registry.example.com/millrace@sha256:1");
    assert_eq!(pod["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(pod["imagePullSecrets"], json!([{ "name": "registry" }]));
    assert_eq!(pod["serviceAccountName"], "orders");
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["nodeSelector"], json!({ "disk": "fast" }));
    assert_eq!(pod["priorityClassName"], "high");
    let dedicated = json!([{ "key": "dedicated", "operator": "Equal", "value": "streams", "effect": "NoSchedule" }]);
    assert_eq!(pod["tolerations"], dedicated);
}

#[test]
fn a_job_that_says_nothing_tolerates_a_lost_node_for_five_seconds() {
    let (_, template) = rendered(spec());
    let tolerations = template.spec.unwrap().tolerations.unwrap();
    let found =
        tolerations.iter().map(|toleration| (toleration.key.as_deref().unwrap(), toleration.toleration_seconds));
    let lost = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(|key| (key, Some(5)));
    assert_eq!(found.collect::<Vec<_>>(), lost);
}

/// The example in the documentation is one that works.
#[test]
fn a_workload_identity_by_a_projected_token_is_an_overlay() {
    let page = include_str!("../../../docs/kubernetes.md");
    let mut examples = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let example = examples.find(|example| example.contains("serviceAccountToken")).unwrap();
    let example: Value = serde_saphyr::from_str(example).unwrap();
    let mut spec = spec();
    spec["runner"] = example["spec"]["runner"].clone();
    spec.as_object_mut().unwrap().remove("storage");
    let (_, template) = rendered(spec);
    let pod = serde_json::to_value(template.spec.unwrap()).unwrap();
    assert_eq!(pod["serviceAccountName"], "orders-to-lake");
    let containers = pod["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1, "the runner's own container is meant");
    let env = containers[0]["env"].as_array().unwrap();
    let file = env.iter().find(|variable| variable["name"] == "AWS_WEB_IDENTITY_TOKEN_FILE").unwrap();
    assert!(env.iter().any(|variable| variable["name"] == "AWS_ROLE_ARN"));
    let volumes = pod["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["projected"].is_object()).unwrap();
    let token = &volume["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(token["audience"], "sts.amazonaws.com");
    let mounts = containers[0]["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["name"] == volume["name"]).unwrap();
    let path = format!("{}/{}", mount["mountPath"].as_str().unwrap(), token["path"].as_str().unwrap());
    assert_eq!(file["value"], path.as_str());
    assert!(mounts.iter().any(|mount| mount["name"] == "job"), "what the runner needs stays");
}

#[test]
fn a_misspelt_field_of_a_pod_template_is_refused_by_name() {
    let mut spec = spec();
    spec["runner"]["podTemplate"] = json!({ "spec": { "priorityClass": "high", "containers": [] } });
    let (object, facts) = object(spec);
    let refused = validate(&object, &facts).unwrap_err().to_string();
    assert!(refused.contains("unknown field spec.priorityClass"), "{refused}");
}

#[test]
fn the_manifest_of_a_revision_has_no_policies_so_that_it_is_the_same_for_the_same_hash() {
    let mut spec = spec();
    spec["parallelism"] = 3.into();
    spec["suspend"] = true.into();
    spec["progressDeadline"] = "5m".into();
    let (valid, _) = rendered(spec);
    let (same, _) = rendered(self::spec());
    assert_eq!(valid.hash, same.hash);
    assert_eq!(valid.manifest, same.manifest);
}

#[test]
fn a_checkpoint_on_a_pods_own_disk_is_refused() {
    let mut spec = spec();
    spec["checkpoint"]["location"] = "/data/checkpoint".into();
    let (object, facts) = object(spec);
    assert!(validate(&object, &facts).unwrap_err().to_string().contains("s3://bucket/folder"));
}

#[test]
fn a_pod_says_whose_it_is() {
    let (_, facts) = object(spec());
    let (_, template) = rendered(spec());
    let seat = millrace_crds::spec::ReservedPod { ordinal: 1, revision: 3, number: 7 };
    let pod = pod(&facts, &seat, &template, "{}", "{}");
    assert_eq!(pod.metadata.name.as_deref(), Some("orders-1-7"));
    let owner = &pod.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.controller, owner.uid.as_str()), (Some(true), "u-1"));
    let read = crate::facts::PodFacts::of(&k8s_openapi::api::core::v1::Pod {
        metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            uid: Some("p".into()),
            creation_timestamp: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH)),
            ..pod.metadata
        },
        ..pod
    })
    .unwrap();
    assert_eq!((read.ordinal, read.number, read.revision), (1, 7, 3));
}
