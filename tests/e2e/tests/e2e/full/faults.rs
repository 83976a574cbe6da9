//! What a person or a cluster gets wrong: shown with the right condition and words, and gone once it is mended.

use anyhow::ensure;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::ResourceQuota;
use millrace_crds::spec::{CONDITION_DEGRADED, CONDITION_STALLED};
use millrace_e2e::Result;
use millrace_e2e::cluster::{KAFKA_SCRAM, KAFKA_USER, PASSWORD};
use millrace_e2e::command::{kubectl, run};
use millrace_e2e::job::{Job, SOON};
use millrace_e2e::joblog::Moment;
use millrace_e2e::manifest::Manifest;
use millrace_e2e::node::always;
use millrace_e2e::space::{PARTITIONS, TestNamespace};
use millrace_e2e::within::within;
use serde_json::{Value, json};

use crate::support::{figure, s};

const ORDERS: u64 = 500;
/// An image's deadline, and a mounted Secret's way to the pod, are minutes.
const MINUTES: std::time::Duration = s(300);

/// What is to be seen of a fault.
struct Fault {
    name: &'static str,
    condition: &'static str,
    words: &'static [&'static str],
}

impl Fault {
    /// Waits until the job shows it, has it mended, and waits until the job shows it no more and has written every order.
    async fn shown_until_mended(
        &self,
        space: &TestNamespace,
        job: &Job<'_>,
        mend: impl AsyncFnOnce() -> Result<()>,
    ) -> Result<()> {
        let Fault { name, condition, words } = self;
        let began = Moment::now();
        within(MINUTES, &format!("{name} is shown"), async || {
            let found = job.condition(condition, "True").await?;
            let missing = words.iter().find(|word| !found.message.contains(**word));
            ensure!(missing.is_none(), "'{}' is not in: {}", missing.unwrap_or(&""), found.message);
            Ok(())
        })
        .await?;
        figure(&format!("{name}, shown"), Moment::now().since(began), s(30), MINUTES)?;
        mend().await?;
        let mended = Moment::now();
        job.becomes(MINUTES, condition, "False").await?;
        figure(&format!("{name}, cleared once mended"), Moment::now().since(mended), s(60), MINUTES)?;
        space.check_exactly_once(job, ORDERS).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic() -> Result<()> {
    TestNamespace::run("topic", async |space| {
        space.bench.delete_topic(space.topic()).await?;
        let job = space.apply(&Manifest::orders(space)?).await?;
        let fault =
            Fault { name: "missing topic", condition: CONDITION_STALLED, words: &["topic", "kafka.servers:9092"] };
        let mend = async || {
            space.bench.create_topic(space.topic(), PARTITIONS).await?;
            space.produce(ORDERS).await
        };
        fault.shown_until_mended(space, &job, mend).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password() -> Result<()> {
    TestNamespace::run("password", async |space| {
        space.produce(ORDERS).await?;
        let secret =
            async |password| space.cluster.secret(space.name(), "kafka-user", &json!({"password": password})).await;
        secret("wrong").await?;
        let password = json!({"secretName": "kafka-user", "password": "password"});
        let login = json!({"type": "scram-sha-512", "username": KAFKA_USER, "passwordSecret": password});
        let manifest = Manifest::orders(space)?
            .set("/spec/sources/0/kafka/bootstrapServers", KAFKA_SCRAM)?
            .set("/spec/sources/0/kafka/authentication", login)?;
        let job = space.apply(&manifest).await?;
        let fault = Fault { name: "wrong password", condition: CONDITION_STALLED, words: &["kafka.servers:9096"] };
        fault.shown_until_mended(space, &job, async || secret(PASSWORD).await).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret() -> Result<()> {
    TestNamespace::run("secret", async |space| {
        space.produce(ORDERS).await?;
        let manifest = Manifest::orders(space)?.set("/spec/storage/s3/credentialsSecret/name", "later")?;
        let job = space.apply(&manifest).await?;
        let fault = Fault { name: "missing Secret", condition: CONDITION_STALLED, words: &["later"] };
        let keys = json!({"accessKeyId": millrace_e2e::cluster::ACCESS_KEY, "secretAccessKey": PASSWORD});
        fault.shown_until_mended(space, &job, async || space.cluster.secret(space.name(), "later", &keys).await).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket() -> Result<()> {
    TestNamespace::run("bucket", async |space| {
        space.produce(ORDERS).await?;
        space.bench.delete_bucket(space.bucket()).await?;
        let job = space.apply(&Manifest::orders(space)?).await?;
        let fault = Fault { name: "missing bucket", condition: CONDITION_STALLED, words: &["bucket"] };
        fault.shown_until_mended(space, &job, async || space.bench.create_bucket(space.bucket()).await).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image() -> Result<()> {
    let image = json!({"image": "millrace-e2e/no-such-image:1", "imagePullPolicy": "IfNotPresent"});
    let fault = Fault { name: "missing image", condition: CONDITION_DEGRADED, words: &["no-such-image"] };
    mended_by_an_edit("image", &fault, "/spec/runner", image).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_fits_no_node() -> Result<()> {
    let nowhere = json!({"nodeSelector": {"millrace.dev/nowhere": "true"}});
    let fault = Fault { name: "unschedulable", condition: CONDITION_DEGRADED, words: &["node"] };
    mended_by_an_edit("unschedulable", &fault, "/spec/runner", nowhere).await
}

async fn mended_by_an_edit(name: &str, fault: &Fault, pointer: &str, wrong: Value) -> Result<()> {
    TestNamespace::run(name, async |space| {
        space.produce(ORDERS).await?;
        let manifest = Manifest::orders(space)?;
        let job = space.apply(&manifest.clone().set(pointer, wrong)?).await?;
        fault.shown_until_mended(space, &job, async || job.apply(&manifest).await).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exceeded_quota() -> Result<()> {
    TestNamespace::run("quota", async |space| {
        space.produce(ORDERS).await?;
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "no-pods"},
            "spec": {"hard": {"pods": "0"}}});
        space.cluster.apply::<ResourceQuota>(Some(space.name()), &quota).await?;
        let job = space.apply(&Manifest::orders(space)?).await?;
        let fault =
            Fault { name: "quota exceeded", condition: CONDITION_DEGRADED, words: &["exceeded quota", "no-pods"] };
        let mend = async || kubectl(space.name(), &["delete", "resourcequota", "no-pods"]).await.map(drop);
        fault.shown_until_mended(space, &job, mend).await
    })
    .await
}

/// A policy of the API server refuses pods in the very same way as a webhook, and needs no server.
#[tokio::test(flavor = "multi_thread")]
async fn an_admission_that_denies_pods() -> Result<()> {
    const WORDS: &str = "runners may not run on Fridays";
    TestNamespace::run("denied", async |space| {
        space.produce(ORDERS).await?;
        let name = space.name();
        let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]});
        let metadata = json!({"name": name});
        let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": metadata, "spec": {
                "matchConstraints": {"resourceRules": [rule]},
                "validations": [{"expression": "false", "message": WORDS}]}});
        let only_here = json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
        let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": metadata, "spec": {"policyName": name, "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": only_here}}});
        space.cluster.apply::<ValidatingAdmissionPolicy>(None, &policy).await?;
        space.cluster.apply::<ValidatingAdmissionPolicyBinding>(None, &binding).await?;
        let remove = async || {
            for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
                run(s(30), "kubectl", &["delete", kind, name, "--ignore-not-found"]).await?;
            }
            Ok(())
        };
        let test = async {
            // One that the namespace allows, so that it is the policy which refuses it.
            let own = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
            let container = json!({"name": "probe", "image": "probe", "securityContext": own});
            let safe = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
            let overrides = json!({"spec": {"securityContext": safe, "containers": [container]}}).to_string();
            let overrides = format!("--overrides={overrides}");
            let probe = ["run", "probe", "--image=probe", "--dry-run=server", &overrides];
            within(SOON, "the policy is in force", async || {
                let refused = kubectl(name, &probe).await.err().map(|error| error.to_string()).unwrap_or_default();
                ensure!(refused.contains(WORDS), "{refused}");
                Ok(())
            })
            .await?;
            let job = space.apply(&Manifest::orders(space)?).await?;
            let fault = Fault { name: "admission denied", condition: CONDITION_DEGRADED, words: &[WORDS] };
            fault.shown_until_mended(space, &job, remove).await
        };
        always(test, remove()).await
    })
    .await
}
