//! A StreamingJob as the API server has it: metadata, and a spec that may be anything.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use millrace_crds::contract::{ANNOTATION_LOG_LEVEL, ANNOTATION_RESTART_NONCE, ANNOTATION_SAVEPOINT};
use millrace_crds::spec::{StreamingJob, StreamingJobStatus};
use serde::Deserialize;
use serde_json::Value;

/// A StreamingJob whose spec is not looked at yet, so that one malformed object stops no other and can still be suspended.
#[derive(Resource, Debug, Clone, Deserialize)]
#[resource(inherit = StreamingJob)]
pub struct JobObject {
    /// Name, namespace, uid, annotations.
    pub metadata: ObjectMeta,
    /// What the user wrote.
    #[serde(default)]
    pub spec: Value,
    /// What an operator, perhaps of another version, wrote.
    #[serde(default)]
    pub status: Option<Value>,
}

/// What is known of a job before its spec is validated.
#[derive(Debug, Clone, PartialEq)]
pub struct JobFacts {
    /// The job's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid: a job of the same name that is created again is another one.
    pub uid: String,
    /// The version that was read: a write that builds on an older one is refused.
    pub resource_version: String,
    /// Generation of the spec.
    pub generation: i64,
    /// How many runners are wanted.
    pub parallelism: u32,
    /// Whether the user wants it stopped.
    pub suspend: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// A new value asks for a new revision of the same spec.
    pub restart_nonce: Option<String>,
    /// The savepoint that there is to be.
    pub savepoint: Option<String>,
    /// The log level of the runners.
    pub log_level: Option<String>,
    /// What was reported last.
    pub status: StreamingJobStatus,
}

/// Why a job cannot be worked on at all.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The object lacks what every object from an API server has.
    #[error("the StreamingJob has no {0}: it did not come from an API server")]
    NoMetadata(&'static str),
    /// The numbers in it must not be lost, so that nothing is done.
    #[error("the status cannot be read ({0}), and the numbers in it must not be given twice; mend or remove the field")]
    Status(serde_json::Error),
}

impl JobFacts {
    /// Reads an object.
    ///
    /// # Errors
    /// It cannot be worked on.
    pub fn of(object: &JobObject) -> Result<Self, JobError> {
        let metadata = &object.metadata;
        let text = |value: &Option<String>, what| value.clone().ok_or(JobError::NoMetadata(what));
        let status = match &object.status {
            None | Some(Value::Null) => StreamingJobStatus::default(),
            Some(status) => serde_json::from_value(status.clone()).map_err(JobError::Status)?,
        };
        let annotation = |name| metadata.annotations.as_ref().and_then(|all| all.get(name)).cloned();
        Ok(Self {
            name: text(&metadata.name, "name")?,
            namespace: text(&metadata.namespace, "namespace")?,
            uid: text(&metadata.uid, "uid")?,
            resource_version: text(&metadata.resource_version, "resourceVersion")?,
            generation: metadata.generation.unwrap_or_default(),
            parallelism: object.spec["parallelism"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
            suspend: object.spec["suspend"].as_bool().unwrap_or(false),
            deleting: metadata.deletion_timestamp.is_some(),
            restart_nonce: annotation(ANNOTATION_RESTART_NONCE),
            savepoint: annotation(ANNOTATION_SAVEPOINT),
            log_level: annotation(ANNOTATION_LOG_LEVEL),
            status,
        })
    }

    /// Whether it is to have no pods for as long as its user says so.
    pub fn is_suspended(&self) -> bool {
        self.suspend || self.parallelism == 0
    }
}
