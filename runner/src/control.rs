//! What the operator tells a running runner, in files that it changes: the wanted term, and settings that need no restart.
//! Outside a cluster both come from the arguments and stay.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_crds::contract::{RunnerSettings, TermRequest};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::ids::{Generation, Revision};

/// How often a file is looked at. The kubelet writes a changed annotation into a downward-API volume within 0.3 s.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The division of the work that is wanted. The job log decides; this only prompts a runner to ask for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// The term's number. `None` outside a cluster: one above the log's, if anything is to change.
    pub generation: Option<Generation>,
    /// The revision that is to run.
    pub revision: Revision,
    /// How many runners are to share the work.
    pub parallelism: u32,
}

/// Follows a file that holds a [`TermRequest`] as JSON: the returned receiver changes whenever it does. A file that is
/// missing, empty or not JSON changes nothing and is reported once.
pub fn follow_term(path: PathBuf, initial: Control) -> watch::Receiver<Control> {
    follow(path, initial, term, "cannot read the wanted term")
}

/// Follows a file that holds [`RunnerSettings`] as JSON, as [`follow_term`] does. An empty file (there is no such
/// annotation) holds none.
pub fn follow_settings(path: PathBuf) -> watch::Receiver<RunnerSettings> {
    follow(path, RunnerSettings::default(), settings, "cannot read the settings")
}

/// Reads the wanted term once.
///
/// # Errors
/// What is wrong with the file, in a sentence.
pub async fn read_term(path: &Path) -> Result<Control, String> {
    read(path, term).await
}

async fn read<T>(path: &Path, parse: fn(&str) -> Result<T, String>) -> Result<T, String> {
    let text = tokio::fs::read_to_string(path).await.map_err(|error| error.to_string())?;
    parse(&text)
}

fn follow<T>(
    path: PathBuf,
    initial: T,
    parse: fn(&str) -> Result<T, String>,
    complaint: &'static str,
) -> watch::Receiver<T>
where
    T: PartialEq + Send + Sync + 'static,
{
    let (sender, receiver) = watch::channel(initial);
    tokio::spawn(async move {
        let mut last_problem = None;
        while !sender.is_closed() {
            match read(&path, parse).await {
                Ok(wanted) => {
                    last_problem = None;
                    sender.send_if_modified(|current| {
                        let changed = *current != wanted;
                        *current = wanted;
                        changed
                    });
                }
                Err(problem) if last_problem.as_ref() != Some(&problem) => {
                    tracing::warn!(path = %path.display(), problem, "{complaint}");
                    last_problem = Some(problem);
                }
                Err(_) => {}
            }
            sleep(LOOK_EVERY).await;
        }
    });
    receiver
}

fn term(text: &str) -> Result<Control, String> {
    let request: TermRequest = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if request.parallelism == 0 {
        return Err("parallelism 0 has no term: suspend the job instead".to_owned());
    }
    Ok(Control {
        generation: Some(Generation(request.generation)),
        revision: Revision(request.revision),
        parallelism: request.parallelism,
    })
}

fn settings(text: &str) -> Result<RunnerSettings, String> {
    if text.trim().is_empty() {
        return Ok(RunnerSettings::default());
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Replaces a file in one step, as the kubelet does.
    fn replace(path: &Path, text: &str) {
        let replacement = path.with_extension("new");
        std::fs::write(&replacement, text).unwrap();
        std::fs::rename(&replacement, path).unwrap();
    }

    #[tokio::test]
    async fn a_changed_file_changes_the_wanted_term_and_a_broken_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("term");
        std::fs::write(&path, r#"{"generation":1,"revision":"a","parallelism":1}"#).unwrap();
        let first = read_term(&path).await.unwrap();
        let mut wanted = follow_term(path.clone(), first);
        std::fs::write(&path, "{").unwrap();
        replace(&path, r#"{"generation":2,"revision":"a","parallelism":4}"#);
        wanted.changed().await.unwrap();
        assert_eq!(wanted.borrow().parallelism, 4);
        assert_eq!(wanted.borrow().generation, Some(Generation(2)));
    }

    #[tokio::test]
    async fn settings_are_followed_and_an_emptied_file_takes_them_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings");
        let mut settings = follow_settings(path.clone());
        // There is no such file yet, which changes nothing.
        replace(&path, r#"{"logLevel":"debug","savepoint":"before-fix","newer":1}"#);
        settings.changed().await.unwrap();
        let read = settings.borrow_and_update().clone();
        assert_eq!((read.log_level.as_deref(), read.savepoint.as_deref()), (Some("debug"), Some("before-fix")));
        replace(&path, "");
        settings.changed().await.unwrap();
        assert_eq!(*settings.borrow(), RunnerSettings::default());
    }
}
