//! Names that operator and runner share: the API group, labels, annotations, ports, files in the pod.

/// The API group.
pub const GROUP: &str = "millrace.dev";
/// The API version.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of a StreamingJob.
pub const API_VERSION: &str = "millrace.dev/v1alpha1";
/// `kind` of a StreamingJob.
pub const KIND: &str = "StreamingJob";

/// Kubernetes' recommended label for the program; its value is [`APP_NAME`].
pub const LABEL_APP_NAME: &str = "app.kubernetes.io/name";
/// Value of [`LABEL_APP_NAME`].
pub const APP_NAME: &str = "millrace";
/// Kubernetes' recommended label for the instance; its value is the job's name.
pub const LABEL_APP_INSTANCE: &str = "app.kubernetes.io/instance";
/// Kubernetes' recommended label for the component; its value is [`COMPONENT_RUNNER`] on runner pods.
pub const LABEL_APP_COMPONENT: &str = "app.kubernetes.io/component";
/// Value of [`LABEL_APP_COMPONENT`] on runner pods.
pub const COMPONENT_RUNNER: &str = "runner";
/// Kubernetes' recommended label for who manages an object; its value is [`MANAGED_BY`].
pub const LABEL_APP_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`LABEL_APP_MANAGED_BY`].
pub const MANAGED_BY: &str = "millrace-operator";

/// Label of everything that belongs to a job: the job's name.
pub const LABEL_JOB: &str = "millrace.dev/job";
/// Label of a runner pod: its ordinal, from 0.
pub const LABEL_ORDINAL: &str = "millrace.dev/ordinal";
/// Label of a runner pod: its pod number, which is its rank in claims.
pub const LABEL_POD_NUMBER: &str = "millrace.dev/pod-number";
/// Label of a revision's objects: the revision's hash.
pub const LABEL_REVISION: &str = "millrace.dev/revision";
/// Label of a revision's objects: the revision's number.
pub const LABEL_REVISION_NUMBER: &str = "millrace.dev/revision-number";

/// Annotation of a runner pod: the term the operator asks for, a [`TermRequest`](super::TermRequest) as JSON. The pod sees
/// it as a file through a downward-API volume.
pub const ANNOTATION_TERM: &str = "millrace.dev/term";
/// Annotation of a StreamingJob: a new value renders a new revision of the same spec and so restarts the runners.
pub const ANNOTATION_RESTART_NONCE: &str = "millrace.dev/restart-nonce";

/// Annotation of a runner pod: what may change while it runs, a [`RunnerSettings`](super::RunnerSettings) as JSON. The pod
/// sees it as a file, as it sees [`ANNOTATION_TERM`].
pub const ANNOTATION_SETTINGS: &str = "millrace.dev/settings";
/// Annotation of a candidate's pod that got the place of a pod of the running revision, because there was no other place.
pub const ANNOTATION_DISPLACES: &str = "millrace.dev/displaces";
/// Annotation of a StreamingJob: the log level of its runners, in force while they run: `debug`, `millrace=trace`.
pub const ANNOTATION_LOG_LEVEL: &str = "millrace.dev/log-level";
/// Annotation of a StreamingJob: the name of a savepoint to make, unless there is one of that name.
pub const ANNOTATION_SAVEPOINT: &str = "millrace.dev/savepoint";

/// Name of the runner's container.
pub const RUNNER_CONTAINER: &str = "runner";
/// Port of `/metrics`, `/status`, `/startz`, `/livez` and `/readyz` on a runner.
pub const RUNNER_HTTP_PORT: u16 = 8080;
/// Folder of the job's manifest in a pod.
pub const POD_CONFIG_DIR: &str = "/etc/millrace/job";
/// File of the job's manifest in [`POD_CONFIG_DIR`].
pub const POD_CONFIG_FILE: &str = "job.yaml";
/// Folder of the secrets in a pod: `<name>/<key>`.
pub const POD_SECRETS_DIR: &str = "/etc/millrace/secrets";
/// Folder of the downward-API volume in a pod.
pub const POD_INFO_DIR: &str = "/etc/millrace/pod";
/// File of [`ANNOTATION_TERM`] in [`POD_INFO_DIR`].
pub const POD_TERM_FILE: &str = "term";
/// File of [`ANNOTATION_SETTINGS`] in [`POD_INFO_DIR`].
pub const POD_SETTINGS_FILE: &str = "settings";
/// Key of a revision's ConfigMap: the pods' template as JSON, as it was rendered when the revision was made.
pub const REVISION_TEMPLATE_KEY: &str = "pod.json";
/// Where the kubelet reads the termination message.
pub const POD_TERMINATION_FILE: &str = "/dev/termination-log";

/// The Kafka group under which a source's offsets are committed after publish, for lag tools only:
/// `millrace.<namespace>.<job>.<source>`; the namespace is `local` where there is none.
pub fn kafka_group(namespace: Option<&str>, job: &str, source: &str) -> String {
    let namespace = namespace.unwrap_or("local");
    format!("millrace.{namespace}.{job}.{source}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kafka_group_names_namespace_job_and_source() {
        assert_eq!(kafka_group(Some("shop"), "orders-to-lake", "orders"), "millrace.shop.orders-to-lake.orders");
        assert_eq!(kafka_group(None, "orders-to-lake", "orders"), "millrace.local.orders-to-lake.orders");
    }

    #[test]
    fn the_api_version_is_group_and_version() {
        assert_eq!(API_VERSION, format!("{GROUP}/{VERSION}"));
    }
}
