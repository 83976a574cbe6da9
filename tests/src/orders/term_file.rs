//! The file that tells runners which term is wanted.

use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;

use crate::Result;
use crate::servers::scratch;

/// A file that holds the wanted term of one or several runners, replaced as the kubelet replaces it.
#[derive(Debug)]
pub struct TermFile {
    directory: TempDir,
    revision: String,
}

impl TermFile {
    /// A file for that revision.
    ///
    /// # Errors
    ///
    /// When the temporary directory cannot be written.
    pub fn new(revision: &str, generation: u64, parallelism: u32) -> Result<TermFile> {
        let file = TermFile { directory: scratch("term")?, revision: revision.to_owned() };
        file.set(generation, parallelism)?;
        Ok(file)
    }

    /// Asks for another term.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn set(&self, generation: u64, parallelism: u32) -> Result<()> {
        let request = json!({"generation": generation, "revision": self.revision, "parallelism": parallelism});
        let partial = self.directory.path().join("partial");
        std::fs::write(&partial, request.to_string())?;
        Ok(std::fs::rename(partial, self.path())?)
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("term")
    }
}
