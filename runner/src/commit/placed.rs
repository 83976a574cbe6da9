//! Files as the job log names them, by whole URLs: in which output's folder, and what they are called there.

use millrace_joblog::record::{ParquetFile, PublishedFile};

use crate::failure::Failure;
use crate::ids::{OutputName, Seq};
use crate::sink::names::STAGED_DIR;
use crate::sink::{Published, Sink, StagedFile};

/// A file of the log: the folder of its output, and its paths in there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The output's folder, a URL or an absolute path.
    pub folder: String,
    /// The file, relative to it.
    pub file: StagedFile,
}

impl Placed {
    /// Where a decided file lies.
    ///
    /// # Errors
    /// The log names it in a way that no version of this program does.
    pub fn decided(file: &ParquetFile) -> Result<Self, Failure> {
        Self::split(&file.staged, &file.target, file.bytes, file.rows, file.etag.clone())
    }

    /// Where a published file lies.
    ///
    /// # Errors
    /// As [`Placed::decided`].
    pub fn published(file: &PublishedFile) -> Result<Self, Failure> {
        Self::split(&file.staged, &file.target, file.bytes, 0, file.etag.clone())
    }

    fn split(staged: &str, target: &str, bytes: u64, rows: u64, etag: Option<String>) -> Result<Self, Failure> {
        let unknown =
            || Failure::internal(format!("the job log names a file in an unknown way: {staged} for {target}"));
        let at = staged.rfind(&format!("/{STAGED_DIR}/")).ok_or_else(unknown)?;
        let (folder, staged) = (&staged[..at], &staged[at + 1..]);
        let target = target.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')).ok_or_else(unknown)?;
        let file = StagedFile { staged: staged.to_owned(), target: target.to_owned(), bytes, rows, etag };
        Ok(Self { folder: folder.to_owned(), file })
    }
}

/// Deletes one published file, after its staged object: whoever is late to publish it then finds nothing to publish.
/// True if it was rewritten by somebody else, and is left.
///
/// # Errors
/// The store's.
pub async fn retract(sink: &dyn Sink, file: &StagedFile) -> Result<bool, Failure> {
    sink.discard(&file.staged).await?;
    Ok(sink.retract(file).await? == Published::Changed)
}

/// A file that a rewind has to delete and that somebody rewrote after the rewind was decided.
pub fn rewritten(rewind: Seq, output: &OutputName, files: &[String]) -> Failure {
    Failure::user(format!(
        "rewind {rewind} of output '{output}' has files to delete that somebody rewrote since: {}; their rows are read \
         again, so take the rows of the rewind out of them by hand, move what remains to another name (a file that is gone is \
         fine), and run it again",
        files.join(", ")
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn file(staged: &str, target: &str) -> ParquetFile {
        ParquetFile { staged: staged.to_owned(), target: target.to_owned(), bytes: 7, rows: 2, etag: None }
    }

    #[test]
    fn a_file_of_the_log_is_split_into_the_folder_of_its_output_and_the_rest() {
        for folder in ["s3://lake/kafka/commandes", "/tmp/lake/_millrace/staged/odd"] {
            let (staged, target) = ("_millrace/staged/0-a-0-0.staged", "status=paid/part-1.parquet");
            let placed = Placed::decided(&file(&format!("{folder}/{staged}"), &format!("{folder}/{target}"))).unwrap();
            assert_eq!(placed.folder, folder);
            assert_eq!((placed.file.staged.as_str(), placed.file.target.as_str()), (staged, target));
        }
    }

    #[test]
    fn a_file_that_lies_beside_its_output_is_not_touched() {
        for (staged, target) in [
            ("s3://lake/a/staged/x", "s3://lake/a/part"),
            ("s3://lake/a/_millrace/staged/x", "s3://lake/ab/part"),
            ("s3://lake/a/_millrace/staged/x", "s3://pond/a/part"),
        ] {
            let failure = Placed::decided(&file(staged, target)).unwrap_err();
            assert!(failure.message.contains(staged), "{failure}");
        }
    }
}
