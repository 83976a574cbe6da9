//! Programs that a person would use too: docker, kubectl, helm.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::Command;
use tokio::time::timeout;

use crate::Result;

/// How long a program may take, unless a test says otherwise.
pub const USUAL: Duration = Duration::from_secs(60);

/// Runs a program and returns what it printed, without the last line's end.
///
/// # Errors
///
/// When it cannot be started, fails, or takes longer than `bound` (it is killed then).
pub async fn run(bound: Duration, program: &str, arguments: &[&str]) -> Result<String> {
    let said = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).kill_on_drop(true).output();
    let output = timeout(bound, output).await.with_context(|| format!("{} took longer than {bound:?}", said()))?;
    let output = output.with_context(|| format!("starting {}", said()))?;
    let printed = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}\n{printed}", said(), output.status, errors.trim_end());
    }
    Ok(printed)
}

/// `kubectl` in a namespace.
///
/// # Errors
///
/// As for [`run`].
pub async fn kubectl(namespace: &str, arguments: &[&str]) -> Result<String> {
    let mut all = vec!["--namespace", namespace];
    all.extend(arguments);
    run(USUAL, "kubectl", &all).await
}
