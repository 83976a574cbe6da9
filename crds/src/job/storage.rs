//! How object stores are reached, and where secrets are read from.

use std::path::{Path, PathBuf};

/// How object stores are reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Storage {
    /// Settings for `s3://` locations; absent: workload identity, or the `AWS_*` variables on a laptop.
    pub s3: Option<S3>,
}

/// Settings for `s3://` locations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct S3 {
    /// URL of the service, for MinIO and the like; absent: AWS.
    pub endpoint: Option<String>,
    /// Region to sign for; absent: the environment's, else `us-east-1`.
    pub region: Option<String>,
    /// Access keys; absent: workload identity, or the `AWS_*` variables.
    pub credentials_secret: Option<S3Credentials>,
    /// PEM certificate authority to trust in addition to the system's.
    pub ca_secret: Option<SecretRef>,
    /// Whether the bucket goes into the path (`true` by default with an endpoint) or into the host name.
    pub force_path_style: bool,
}

impl Storage {
    /// The secrets that it reads.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &SecretRef> {
        let keys = self.s3.iter().flat_map(|s3| &s3.credentials_secret);
        let keys =
            keys.flat_map(|keys| [&keys.access_key_id, &keys.secret_access_key].into_iter().chain(&keys.session_token));
        keys.chain(self.s3.iter().flat_map(|s3| &s3.ca_secret))
    }
}

/// Where the access keys of an S3 user are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Credentials {
    /// The access key id.
    pub access_key_id: SecretRef,
    /// The secret access key.
    pub secret_access_key: SecretRef,
    /// The session token of temporary credentials.
    pub session_token: Option<SecretRef>,
}

/// One key of one secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretRef {
    /// The secret's name.
    pub name: String,
    /// The key in it.
    pub key: String,
}

impl SecretRef {
    /// The file the value is read from: `<secrets-dir>/<name>/<key>`, in a pod and on a laptop alike.
    pub fn file(&self, secrets_dir: &Path) -> PathBuf {
        secrets_dir.join(&self.name).join(&self.key)
    }
}
