//! Storage settings and references to secrets.

use super::{Errors, Path};
use crate::job::{S3, S3Credentials, SecretRef, Storage};
use crate::spec::{CredentialsSecretSpec, ObjectName, S3Spec, SecretKey, StorageSpec};

pub(super) fn storage(storage: Option<&StorageSpec>, at: &Path, errors: &mut Errors) -> Option<Storage> {
    let s3 = match storage.and_then(|storage| storage.s3.as_ref()) {
        None => None,
        Some(spec) => Some(s3(spec, &at.field("s3"), errors)?),
    };
    Some(Storage { s3 })
}

fn s3(spec: &S3Spec, at: &Path, errors: &mut Errors) -> Option<S3> {
    let endpoint = match &spec.endpoint {
        None => Some(None),
        Some(text) => endpoint(text, &at.field("endpoint"), errors).map(Some),
    };
    let credentials_secret = match &spec.credentials_secret {
        None => Some(None),
        Some(secret) => credentials(secret, &at.field("credentialsSecret"), errors).map(Some),
    };
    let ca_secret = match &spec.ca_secret {
        None => Some(None),
        Some(secret) => {
            let key = secret.key.clone().unwrap_or_else(|| "ca.crt".into());
            secret_ref(&secret.name, "name", &key, "key", &at.field("caSecret"), errors).map(Some)
        }
    };
    let endpoint = endpoint?;
    Some(S3 {
        region: spec.region.as_ref().map(ToString::to_string),
        credentials_secret: credentials_secret?,
        ca_secret: ca_secret?,
        force_path_style: spec.force_path_style.unwrap_or(endpoint.is_some()),
        endpoint,
    })
}

fn credentials(secret: &CredentialsSecretSpec, at: &Path, errors: &mut Errors) -> Option<S3Credentials> {
    let id = secret.access_key_id_key.clone().unwrap_or_else(|| "AWS_ACCESS_KEY_ID".into());
    let key = secret.secret_access_key_key.clone().unwrap_or_else(|| "AWS_SECRET_ACCESS_KEY".into());
    let access_key_id = secret_ref(&secret.name, "name", &id, "accessKeyIdKey", at, errors)?;
    let secret_access_key = secret_ref(&secret.name, "name", &key, "secretAccessKeyKey", at, errors)?;
    let session_token = match &secret.session_token_key {
        None => None,
        Some(token) => Some(secret_ref(&secret.name, "name", token, "sessionTokenKey", at, errors)?),
    };
    Some(S3Credentials { access_key_id, secret_access_key, session_token })
}

fn endpoint(text: &str, at: &Path, errors: &mut Errors) -> Option<String> {
    let trimmed = text.trim_end_matches('/');
    let host = trimmed.strip_prefix("http://").or_else(|| trimmed.strip_prefix("https://"));
    let problem = match host {
        None => "no URL",
        Some(host) if host.is_empty() || host.contains(char::is_whitespace) => "no host in it",
        Some(host) if host.contains('/') => "a folder in it; buckets and folders belong into the locations",
        Some(host) if host.contains('@') => "credentials in it; they belong into credentialsSecret",
        Some(_) => return Some(trimmed.to_owned()),
    };
    errors.add(at, Some(text), problem, "write it as `http://minio:9000` or `https://s3.example.com`");
    None
}

/// A reference to a key of a secret. Both become parts of a path, so neither may lead anywhere else.
pub(super) fn secret_ref(
    name: &ObjectName,
    name_field: &str,
    key: &SecretKey,
    key_field: &str,
    at: &Path,
    errors: &mut Errors,
) -> Option<SecretRef> {
    let name_fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let key_fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name_good = !name.is_empty() && name.chars().all(name_fits) && !name.starts_with('.');
    let key_good = !key.is_empty() && key.chars().all(key_fits) && !key.starts_with("..") && key.0 != ".";
    if !name_good {
        errors.add(
            &at.field(name_field),
            Some(name),
            "not the name of a Secret",
            "use lower-case letters, digits and dashes",
        );
    }
    if !key_good {
        errors.add(
            &at.field(key_field),
            Some(key),
            "not a key of a Secret",
            "use letters, digits, dashes, dots, underscores",
        );
    }
    (name_good && key_good).then(|| SecretRef { name: name.to_string(), key: key.to_string() })
}
