//! Manifests on the command line.

use std::io::Read;
use std::path::Path;

use millrace_crds::Job;
use millrace_crds::contract::FailureClass;

use crate::failure::Failure;

/// Reads and validates a manifest; `-` is standard input.
///
/// # Errors
/// Everything that is wrong with it, a line each.
pub fn read(path: &Path) -> Result<Job, Failure> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|error| Failure::user(format!("cannot read {}: {error}", path.display())))?;
    parse(&path.display().to_string(), &text)
}

/// Parses and validates a manifest's text; `shown` is its name in messages.
///
/// # Errors
/// Everything that is wrong with it, a line each.
pub fn parse(shown: &str, text: &str) -> Result<Job, Failure> {
    let manifest = millrace_crds::manifest::parse(text, shown)
        .map_err(|errors| Failure::new(FailureClass::User, "InvalidManifest", errors.to_string()))?;
    for note in manifest.notes {
        tracing::info!("{shown}: {note}");
    }
    Ok(manifest.job)
}

/// Where a job runs that no cluster runs: this host and the manifest's path.
pub fn home(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    format!("{}:{}", host(), path.display())
}

/// This machine's name, from where Linux and other systems keep it.
pub fn host() -> String {
    let kept =
        ["/proc/sys/kernel/hostname", "/etc/hostname"].iter().find_map(|path| std::fs::read_to_string(path).ok());
    let name = kept.or_else(|| std::env::var("HOSTNAME").ok()).map(|name| name.trim().to_owned());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}
