//! Secrets: small files that Kubernetes mounts and that a laptop keeps in a folder.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use millrace_crds::SecretRef;

/// A secret larger than this is refused: Kubernetes allows no more either.
const MAX_BYTES: u64 = 1024 * 1024;

/// Where secrets are read from: the secret `name` with key `key` is the file `<dir>/<name>/<key>`.
///
/// Values are read when they are asked for and never kept, so that a rotated secret is seen by the next client that is
/// made with it.
#[derive(Debug, Clone)]
pub struct Secrets {
    dir: PathBuf,
}

impl Secrets {
    /// Secrets in this folder; it need not exist as long as none is asked for.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The secret's text without the one line break that editors and `echo` leave at the end.
    ///
    /// Fails when the file is not there, cannot be read, is empty, is larger than 1 MiB or is not UTF-8; the error names
    /// the Secret, the file and what to do, never the value.
    pub fn text(&self, secret: &SecretRef) -> Result<String, SecretError> {
        let path = secret.file(&self.dir);
        let text = read(&path).map_err(|source| SecretError::of(secret, &path, source))?;
        let end = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line)).len();
        if text[..end].trim().is_empty() {
            return Err(SecretError::Empty { name: secret.name.clone(), key: secret.key.clone(), path });
        }
        Ok(text[..end].to_owned())
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = fs::File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)? as u64;
    if read > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(text)
}

/// Why a secret could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is no such file.
    #[error(
        "secret '{name}' has no key '{key}': {} does not exist; create it, or pass --secrets-dir \
         (in a cluster: a Secret '{name}' with the key '{key}' in the job's namespace)",
        .path.display()
    )]
    Missing {
        /// The Secret's name.
        name: String,
        /// The key in it.
        key: String,
        /// The file it was looked for in.
        path: PathBuf,
    },
    /// The file holds nothing.
    #[error("secret '{name}' has an empty key '{key}': write the value into {}", .path.display())]
    Empty {
        /// The Secret's name.
        name: String,
        /// The key in it.
        key: String,
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("key '{key}' of secret '{name}' cannot be read from {}: {source}", .path.display())]
    Unreadable {
        /// The Secret's name.
        name: String,
        /// The key in it.
        key: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl SecretError {
    fn of(secret: &SecretRef, path: &Path, source: io::Error) -> Self {
        let (name, key, path) = (secret.name.clone(), secret.key.clone(), path.to_owned());
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing { name, key, path },
            _ => Self::Unreadable { name, key, path, source },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn secret(key: &str) -> SecretRef {
        SecretRef { name: "user".into(), key: key.into() }
    }

    fn folder_with(key: &str, value: &[u8]) -> (tempfile::TempDir, Secrets) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("user")).unwrap();
        fs::write(dir.path().join("user").join(key), value).unwrap();
        let secrets = Secrets::new(dir.path());
        (dir, secrets)
    }

    #[test]
    fn a_secret_is_read_without_its_last_line_break_only() {
        for (written, read) in
            [("pa ss\n", "pa ss"), ("pa ss\r\n", "pa ss"), ("pa ss", "pa ss"), ("a\nb\n\n", "a\nb\n"), (" x ", " x ")]
        {
            let (_dir, secrets) = folder_with("password", written.as_bytes());
            assert_eq!(secrets.text(&secret("password")).unwrap(), read);
        }
    }

    #[test]
    fn a_missing_secret_is_named_with_its_file() {
        let (dir, secrets) = folder_with("password", b"x");
        let message = secrets.text(&secret("other")).unwrap_err().to_string();
        assert!(message.contains("secret 'user' has no key 'other'"), "{message}");
        assert!(message.contains(&dir.path().join("user/other").display().to_string()), "{message}");
    }

    #[test]
    fn empty_and_unreadable_secrets_are_refused_without_showing_the_value() {
        let (_dir, secrets) = folder_with("password", b"\n");
        assert!(matches!(secrets.text(&secret("password")), Err(SecretError::Empty { .. })));
        let (_dir, secrets) = folder_with("password", b"secret\xff");
        let error = secrets.text(&secret("password")).unwrap_err();
        assert!(matches!(error, SecretError::Unreadable { .. }));
        assert!(!error.to_string().contains("secret\u{fffd}"));
        let (_dir, secrets) = folder_with("password", &vec![b'x'; 1024 * 1024 + 1]);
        assert!(matches!(secrets.text(&secret("password")), Err(SecretError::Unreadable { .. })));
    }
}
