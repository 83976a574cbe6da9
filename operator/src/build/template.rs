//! How the pods of a revision look.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, DownwardAPIVolumeFile,
    DownwardAPIVolumeSource, EnvVar, EnvVarSource, HTTPGetAction, KeyToPath, LocalObjectReference, ObjectFieldSelector,
    PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
    SeccompProfile, SecretVolumeSource, SecurityContext, Toleration, Volume, VolumeMount, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use millrace_crds::contract::{
    ANNOTATION_SETTINGS, ANNOTATION_TERM, LABEL_JOB, LABEL_ORDINAL, LABEL_POD_NUMBER, POD_CONFIG_DIR, POD_CONFIG_FILE,
    POD_INFO_DIR, POD_SECRETS_DIR, POD_SETTINGS_FILE, POD_TERM_FILE, POD_TERMINATION_FILE, RUNNER_CONTAINER,
    RUNNER_HTTP_PORT,
};
use millrace_crds::spec::{ImagePullPolicySpec, RevisionStatus};
use millrace_crds::{Job, TriggerKind};

use super::{revision_id, revision_labels, revision_name};
use crate::validate::Validated;

/// Where the runner is in its image.
const PROGRAM: &str = "/usr/local/bin/millrace";
/// The user of the image.
const USER: i64 = 65532;
/// Longer than the runner takes to commit after SIGTERM.
const GRACE_SECONDS: i64 = 30;
/// How long a pod may stay on a node that is not heard of: its replacement starts then. Kubernetes' own default is 300.
const LOST_NODE_SECONDS: i64 = 5;

/// What the operator was told about pods of jobs that do not say otherwise.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// Image of the runner.
    pub image: String,
    /// When it is pulled.
    pub image_pull_policy: Option<String>,
    /// Which cluster this is, so that a job of the same name in another one is another job.
    pub cluster: String,
}

/// Renders the pods of a revision: all that they have in common.
pub fn template(defaults: &Defaults, valid: &Validated, revision: &RevisionStatus) -> PodTemplateSpec {
    let job = &valid.job;
    let name = job.name.as_str();
    let metadata = ObjectMeta {
        labels: Some(revision_labels(name, &revision.hash, revision.number)),
        annotations: Some(BTreeMap::from([
            // A runner keeps nothing on its node.
            ("cluster-autoscaler.kubernetes.io/safe-to-evict".to_owned(), "true".to_owned()),
            ("kubectl.kubernetes.io/default-container".to_owned(), RUNNER_CONTAINER.to_owned()),
        ])),
        ..ObjectMeta::default()
    };
    let spec = &job.runner;
    let pod = PodSpec {
        affinity: Some(spread(name)),
        automount_service_account_token: Some(false),
        containers: vec![container(defaults, job, revision)],
        enable_service_links: Some(false),
        image_pull_secrets: Some(spec.image_pull_secrets.clone())
            .filter(|secrets: &Vec<LocalObjectReference>| !secrets.is_empty()),
        node_selector: spec
            .node_selector
            .as_ref()
            .map(|labels| labels.iter().map(|(name, value)| (name.clone(), value.to_string())).collect()),
        // Completion is said by exit 0, and nothing else ends a bounded job for good.
        restart_policy: Some(if is_bounded(job) { "OnFailure" } else { "Always" }.to_owned()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }),
            ..PodSecurityContext::default()
        }),
        service_account_name: spec.service_account_name.as_ref().map(ToString::to_string),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        tolerations: Some(if spec.tolerations.is_empty() { tolerations() } else { spec.tolerations.clone() }),
        volumes: Some(volumes(job, revision)),
        ..PodSpec::default()
    };
    let mut template = PodTemplateSpec { metadata: Some(metadata), spec: Some(pod) };
    valid.overlay.apply(&mut template);
    template
}

fn is_bounded(job: &Job) -> bool {
    job.trigger.kind == TriggerKind::AvailableNow
}

/// Runners of one job rather on different nodes: one that is lost takes one of them.
fn spread(job: &str) -> Affinity {
    let of_job = [(LABEL_JOB.to_owned(), job.to_owned())].into();
    let term = PodAffinityTerm {
        label_selector: Some(LabelSelector { match_labels: Some(of_job), ..LabelSelector::default() }),
        topology_key: "kubernetes.io/hostname".to_owned(),
        ..PodAffinityTerm::default()
    };
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                pod_affinity_term: term,
                weight: 100,
            }]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

fn tolerations() -> Vec<Toleration> {
    let kinds = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
    let tolerate = |key: &str| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(LOST_NODE_SECONDS),
        ..Toleration::default()
    };
    kinds.map(tolerate).into()
}

fn container(defaults: &Defaults, job: &Job, revision: &RevisionStatus) -> Container {
    let spec = &job.runner;
    let policy = spec.image_pull_policy.map(|policy| match policy {
        ImagePullPolicySpec::Always => "Always".to_owned(),
        ImagePullPolicySpec::IfNotPresent => "IfNotPresent".to_owned(),
        ImagePullPolicySpec::Never => "Never".to_owned(),
    });
    let own_image = spec.image.is_some();
    let mut mounts = vec![mount("job", POD_CONFIG_DIR), mount("pod", POD_INFO_DIR)];
    mounts.extend(
        job.secrets()
            .iter()
            .enumerate()
            .map(|(index, name)| mount(&format!("secret-{index}"), &format!("{POD_SECRETS_DIR}/{name}"))),
    );
    Container {
        name: RUNNER_CONTAINER.to_owned(),
        image: Some(spec.image.as_ref().map_or_else(|| defaults.image.clone(), ToString::to_string)),
        image_pull_policy: policy.or_else(|| defaults.image_pull_policy.clone().filter(|_| !own_image)),
        command: Some(vec![PROGRAM.to_owned()]),
        args: Some(vec!["run".to_owned(), format!("{POD_CONFIG_DIR}/{POD_CONFIG_FILE}")]),
        env: Some(environment(defaults, job, revision)),
        ports: Some(vec![ContainerPort {
            name: Some("http".to_owned()),
            container_port: i32::from(RUNNER_HTTP_PORT),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: Some(spec.resources.clone().unwrap_or_else(modest)),
        // Validating waits for Kafka and the store as long as they are away; a runner that turns its loop is not killed.
        startup_probe: Some(probe("/startz", 1, 3600)),
        liveness_probe: Some(probe("/livez", 10, 6)),
        readiness_probe: Some(probe("/readyz", 1, 2)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        termination_message_path: Some(POD_TERMINATION_FILE.to_owned()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn modest() -> ResourceRequirements {
    let requests = [("cpu", "250m"), ("memory", "256Mi")];
    ResourceRequirements {
        requests: Some(requests.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))).into()),
        ..ResourceRequirements::default()
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), read_only: Some(true), ..VolumeMount::default() }
}

/// What the runner is told by its environment; the user's variables come last and so win.
fn environment(defaults: &Defaults, job: &Job, revision: &RevisionStatus) -> Vec<EnvVar> {
    let namespace = job.namespace.as_deref().unwrap_or_default();
    let is = |name: &str, value: String| EnvVar { name: name.to_owned(), value: Some(value), ..EnvVar::default() };
    let label = |name: &str, label: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: format!("metadata.labels['{label}']"),
                ..Default::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let mut all = vec![
        label("MILLRACE_ORDINAL", LABEL_ORDINAL),
        label("MILLRACE_POD_NUMBER", LABEL_POD_NUMBER),
        is("MILLRACE_REVISION", revision_id(revision.number, &revision.hash)),
        is("MILLRACE_HOME", format!("{}/{namespace}/{}", defaults.cluster, job.name)),
        is("MILLRACE_TERM_FILE", format!("{POD_INFO_DIR}/{POD_TERM_FILE}")),
        is("MILLRACE_SETTINGS_FILE", format!("{POD_INFO_DIR}/{POD_SETTINGS_FILE}")),
        is("MILLRACE_SECRETS_DIR", POD_SECRETS_DIR.to_owned()),
        is("MILLRACE_TERMINATION_FILE", POD_TERMINATION_FILE.to_owned()),
        is("MILLRACE_HTTP", format!("0.0.0.0:{RUNNER_HTTP_PORT}")),
        is("MILLRACE_LOG_FORMAT", "json".to_owned()),
    ];
    all.retain(|own| !job.runner.env.iter().any(|users| users.name == own.name));
    all.extend(job.runner.env.iter().cloned());
    all
}

fn volumes(job: &Job, revision: &RevisionStatus) -> Vec<Volume> {
    let item = |path: &str, annotation: &str| DownwardAPIVolumeFile {
        path: path.to_owned(),
        field_ref: Some(ObjectFieldSelector {
            field_path: format!("metadata.annotations['{annotation}']"),
            ..ObjectFieldSelector::default()
        }),
        ..DownwardAPIVolumeFile::default()
    };
    let mut volumes = vec![
        Volume {
            name: "job".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: revision_name(job.name.as_str(), revision.number),
                items: Some(vec![KeyToPath {
                    key: POD_CONFIG_FILE.to_owned(),
                    path: POD_CONFIG_FILE.to_owned(),
                    ..KeyToPath::default()
                }]),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: "pod".to_owned(),
            downward_api: Some(DownwardAPIVolumeSource {
                items: Some(vec![item(POD_TERM_FILE, ANNOTATION_TERM), item(POD_SETTINGS_FILE, ANNOTATION_SETTINGS)]),
                ..DownwardAPIVolumeSource::default()
            }),
            ..Volume::default()
        },
    ];
    // Optional: that a secret is missing is the runner's to say, with the place and the fix.
    volumes.extend(job.secrets().iter().enumerate().map(|(index, name)| Volume {
        name: format!("secret-{index}"),
        secret: Some(SecretVolumeSource {
            secret_name: Some((*name).to_owned()),
            optional: Some(true),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }));
    volumes
}
