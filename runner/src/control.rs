//! The term that is wanted of a runner: from its arguments, or from a file that the operator changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_crds::contract::TermRequest;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::ids::{Generation, Revision};

/// How often the file is looked at. The kubelet writes a changed annotation into a downward-API volume within 0.3 s.
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
pub fn follow(path: PathBuf, initial: Control) -> watch::Receiver<Control> {
    let (sender, receiver) = watch::channel(initial);
    tokio::spawn(async move {
        let mut last_problem = None;
        while !sender.is_closed() {
            match read(&path).await {
                Ok(wanted) => {
                    last_problem = None;
                    sender.send_if_modified(|current| {
                        let changed = *current != wanted;
                        *current = wanted;
                        changed
                    });
                }
                Err(problem) if last_problem.as_ref() != Some(&problem) => {
                    tracing::warn!(path = %path.display(), problem, "cannot read the wanted term");
                    last_problem = Some(problem);
                }
                Err(_) => {}
            }
            sleep(LOOK_EVERY).await;
        }
    });
    receiver
}

/// Reads the wanted term once.
///
/// # Errors
/// What is wrong with the file, in a sentence.
pub async fn read(path: &Path) -> Result<Control, String> {
    let text = tokio::fs::read_to_string(path).await.map_err(|error| error.to_string())?;
    let request: TermRequest = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if request.parallelism == 0 {
        return Err("parallelism 0 has no term: suspend the job instead".to_owned());
    }
    Ok(Control {
        generation: Some(Generation(request.generation)),
        revision: Revision(request.revision),
        parallelism: request.parallelism,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_changed_file_changes_the_wanted_term_and_a_broken_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("term");
        std::fs::write(&path, r#"{"generation":1,"revision":"a","parallelism":1}"#).unwrap();
        let first = read(&path).await.unwrap();
        let mut wanted = follow(path.clone(), first);
        std::fs::write(&path, "{").unwrap();
        let replacement = dir.path().join("term.new");
        std::fs::write(&replacement, r#"{"generation":2,"revision":"a","parallelism":4}"#).unwrap();
        std::fs::rename(&replacement, &path).unwrap();
        wanted.changed().await.unwrap();
        assert_eq!(wanted.borrow().parallelism, 4);
        assert_eq!(wanted.borrow().generation, Some(Generation(2)));
    }
}
