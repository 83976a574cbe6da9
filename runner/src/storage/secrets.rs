//! Access keys and certificates from mounted secrets, read again so that a rotated key is picked up while running.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use millrace_crds::{S3Credentials, SecretRef};
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tokio::time::Instant;

use super::{FaultKind, StoreFault};

/// How long keys that were read are used before the files are looked at again.
const KEEP: Duration = Duration::from_secs(5);

/// What the two keys are called in secrets that people already have, beside the names the manifest gives.
const ACCESS_KEY_NAMES: [&str; 6] =
    ["accessKey", "accessKeyId", "AWS_ACCESS_KEY_ID", "aws_access_key_id", "access-key", "rootUser"];
const SECRET_KEY_NAMES: [&str; 6] =
    ["secretKey", "secretAccessKey", "AWS_SECRET_ACCESS_KEY", "aws_secret_access_key", "secret-key", "rootPassword"];

/// Access keys that live in files.
pub(super) struct SecretCredentials {
    keys: S3Credentials,
    secrets_dir: Option<PathBuf>,
    last: Mutex<Option<(Instant, Arc<AwsCredential>)>>,
}

impl fmt::Debug for SecretCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretCredentials").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl SecretCredentials {
    pub(super) fn new(keys: S3Credentials, secrets_dir: Option<PathBuf>) -> Self {
        Self { keys, secrets_dir, last: Mutex::new(None) }
    }

    /// Reads the keys from their files now.
    pub(super) fn read(&self) -> Result<Arc<AwsCredential>, StoreFault> {
        let dir = self.secrets_dir.as_deref();
        let key_id = read_text(dir, &self.keys.access_key_id, &ACCESS_KEY_NAMES)?;
        let secret_key = read_text(dir, &self.keys.secret_access_key, &SECRET_KEY_NAMES)?;
        let token = match &self.keys.session_token {
            Some(token) => Some(read_text(dir, token, &[])?),
            None => None,
        };
        Ok(Arc::new(AwsCredential { key_id, secret_key, token }))
    }
}

#[async_trait]
impl CredentialProvider for SecretCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((read_at, keys)) = last.as_ref()
            && now.duration_since(*read_at) < KEEP
        {
            return Ok(Arc::clone(keys));
        }
        let keys =
            self.read().map_err(|fault| object_store::Error::Generic { store: "secrets", source: Box::new(fault) })?;
        *last = Some((now, Arc::clone(&keys)));
        Ok(keys)
    }
}

/// The bytes of one key of a secret.
pub(super) fn read_secret(secrets_dir: Option<&Path>, secret: &SecretRef) -> Result<Vec<u8>, StoreFault> {
    let Some(dir) = secrets_dir else {
        return Err(StoreFault {
            kind: FaultKind::Misconfigured,
            message: format!(
                "the manifest names the secret '{}', but no folder of secrets is given: \
                 put the value into <folder>/{}/{} and pass --secrets-dir <folder>",
                secret.name, secret.name, secret.key
            ),
        });
    };
    let file = secret.file(dir);
    std::fs::read(&file).map_err(|error| StoreFault {
        kind: FaultKind::Misconfigured,
        message: format!(
            "the secret '{}' has no readable key '{}' ({}: {error})",
            secret.name,
            secret.key,
            file.display()
        ),
    })
}

/// The fault of a certificate authority that is not one.
pub(super) fn not_a_certificate(secret: &SecretRef, why: &dyn fmt::Display) -> StoreFault {
    StoreFault {
        kind: FaultKind::Misconfigured,
        message: format!(
            "key '{}' of secret '{}' must hold certificates in PEM form (storage.s3.caSecret): {why}",
            secret.key, secret.name
        ),
    }
}

/// The text under the manifest's key, or under the first of the usual `names` that is there.
fn read_text(dir: Option<&Path>, secret: &SecretRef, names: &[&str]) -> Result<String, StoreFault> {
    let named = read_secret(dir, secret);
    let bytes = match named {
        Ok(bytes) => bytes,
        Err(fault) => names
            .iter()
            .map(|key| SecretRef { name: secret.name.clone(), key: (*key).to_owned() })
            .find_map(|other| read_secret(dir, &other).ok())
            .ok_or(fault)?,
    };
    let text = String::from_utf8(bytes).map_err(|_| StoreFault {
        kind: FaultKind::Misconfigured,
        message: format!("key '{}' of secret '{}' is not text", secret.key, secret.name),
    })?;
    Ok(text.trim().to_owned())
}
