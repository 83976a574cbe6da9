//! From what the user wrote to what is to run: the only place that looks into a spec. Pure.

use jiff::Timestamp;
use millrace_crds::contract::{API_VERSION, KIND};
use millrace_crds::{Job, Location, SpecError};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::build::{Overlay, OverlayError};
use crate::facts::{JobFacts, JobObject};

/// A job whose spec is right, as far as that can be told from here.
#[derive(Debug, Clone)]
pub struct Validated {
    /// The job.
    pub job: Job,
    /// Hash of what the user wrote: without the policies, with the restart nonce.
    pub hash: String,
    /// The manifest that its runners read: the spec without the policies.
    pub manifest: Value,
    /// What is merged over the pods.
    pub overlay: Overlay,
}

/// Why a spec is refused. Several at once.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// Fields that are wrong, each with its path and the fix.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Spec(Vec<SpecError>),
    /// The pod template does not fit.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// Without a volume of the user's a disk goes with its pod.
    #[error(
        "spec.checkpoint.location: a path on disk is lost with the pod; write a location in an object store, such as \
         s3://bucket/folder, or mount a volume there by spec.runner.podTemplate"
    )]
    LocalCheckpoint,
}

/// Validates what the user wrote.
///
/// # Errors
/// Everything that is wrong with it.
pub fn validate(object: &JobObject, facts: &JobFacts) -> Result<Validated, Invalid> {
    let metadata = json!({ "name": facts.name, "namespace": facts.namespace, "uid": facts.uid });
    let whole = json!({ "apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": object.spec });
    let job = Job::from_value(&whole).map_err(Invalid::Spec)?;
    if matches!(job.checkpoint, Location::Local(_)) && job.runner.pod_template.is_none() {
        return Err(Invalid::LocalCheckpoint);
    }
    let overlay = Overlay::parse(job.runner.pod_template.as_ref())?;
    let hash = match &facts.restart_nonce {
        None => job.revision.clone(),
        Some(nonce) => digest(&format!("{}\n{nonce}", job.revision)),
    };
    let mut manifest = whole;
    if let Some(spec) = manifest["spec"].as_object_mut() {
        spec.retain(|field, _| !Job::is_policy(field));
    }
    Ok(Validated { job, hash, manifest, overlay })
}

/// Sixteen hexadecimal digits.
fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// An instant as it is written in a status.
pub fn rfc3339(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
