//! How staged and published files are called.
//!
//! A staged name says which claim it was written under, so that the collector needs no clock; it ends in `.staged` and
//! lies in a folder that begins with `_`, so that no reader takes it for data, and that is its job's alone: several jobs may
//! write to one table, and no log can judge another's claims. A published name is unique for ever.

use super::EpochName;

/// The folder, below an output's location, that holds what is not (yet) data.
pub const RESERVED_DIR: &str = "_millrace";

/// The folder, below an output's location, that has a folder of staged objects for each job.
pub const STAGED_DIR: &str = "_millrace/staged";

const STAGED_SUFFIX: &str = ".staged";

/// The folder, below an output's location, that the staged objects of one job are in.
pub fn staged_dir(job_uid: &str) -> String {
    format!("{STAGED_DIR}/{job_uid}")
}

/// The name of one staged object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StagedName {
    /// The uid of the job whose claim it is.
    pub job_uid: String,
    /// The seq of the claim it was written under.
    pub claim_seq: u64,
    /// The incarnation that wrote it.
    pub incarnation: String,
    /// The epoch within the incarnation.
    pub epoch: u64,
    /// The file within the epoch, from 0.
    pub number: u64,
}

impl StagedName {
    /// The name of file `number` of an epoch.
    pub fn new(epoch: &EpochName, number: u64) -> Self {
        Self {
            job_uid: epoch.job_uid.clone(),
            claim_seq: epoch.claim_seq,
            incarnation: epoch.incarnation.clone(),
            epoch: epoch.epoch,
            number,
        }
    }

    /// The staged object's path, relative to the output's location.
    pub fn path(&self) -> String {
        let Self { job_uid, claim_seq, incarnation, epoch, number } = self;
        format!("{}/{claim_seq:020}-{incarnation}-{epoch}-{number}{STAGED_SUFFIX}", staged_dir(job_uid))
    }

    /// Reads a path that [`StagedName::path`] made, or that of the temporary file which a local disk leaves when a
    /// process dies while writing it. `None` for anything else: the collector leaves what it does not know alone.
    pub fn parse(path: &str) -> Option<Self> {
        let (job_uid, file) = path.strip_prefix(STAGED_DIR)?.strip_prefix('/')?.split_once('/')?;
        let file = match file.strip_prefix('.') {
            Some(temporary) => temporary.strip_suffix(".tmp")?.rsplit_once('.')?.0,
            None => file,
        };
        let (claim_seq, rest) = file.strip_suffix(STAGED_SUFFIX)?.split_once('-')?;
        let (rest, number) = rest.rsplit_once('-')?;
        let (incarnation, epoch) = rest.rsplit_once('-')?;
        if job_uid.is_empty() || claim_seq.len() != 20 || incarnation.is_empty() || incarnation.contains('/') {
            return None;
        }
        Some(Self {
            job_uid: job_uid.to_owned(),
            claim_seq: claim_seq.parse().ok()?,
            incarnation: incarnation.to_owned(),
            epoch: epoch.parse().ok()?,
            number: number.parse().ok()?,
        })
    }

    /// The published file's path, relative to the output's location: in the `partition` folder (empty for none), with
    /// `suffix` (`.zstd.parquet`) at its end.
    pub fn target(&self, partition: &str, suffix: &str) -> String {
        let Self { job_uid, incarnation, epoch, number, .. } = self;
        let job: String = job_uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        let slash = if partition.is_empty() { "" } else { "/" };
        format!("{partition}{slash}part-{job}-{incarnation}-{epoch}-{number}{suffix}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::collections::BTreeSet;

    use super::*;

    fn epoch(claim_seq: u64, incarnation: &str, epoch: u64) -> EpochName {
        EpochName { job_uid: "0f5c-ab99-77".to_owned(), claim_seq, incarnation: incarnation.to_owned(), epoch }
    }

    #[test]
    fn a_staged_name_is_read_back_from_its_path() {
        let name = StagedName::new(&epoch(42, "1b2c-33d4-5e", 7), 3);
        assert_eq!(name.path(), "_millrace/staged/0f5c-ab99-77/00000000000000000042-1b2c-33d4-5e-7-3.staged");
        assert_eq!(StagedName::parse(&name.path()), Some(name));
    }

    #[test]
    fn what_a_crashed_local_write_left_is_read_as_the_name_it_was_for() {
        let name = StagedName::new(&epoch(9, "aa-bb", 0), 1);
        let left = "_millrace/staged/0f5c-ab99-77/.00000000000000000009-aa-bb-0-1.staged.0123456789abcdef.tmp";
        assert_eq!(StagedName::parse(left), Some(name));
    }

    #[test]
    fn a_path_of_anyone_else_is_not_a_staged_name() {
        for path in [
            "part-0.parquet",
            "_millrace/staged/notes.txt",
            "_millrace/staged/00000000000000000042-aa-0-1.staged",
            "_millrace/staged//00000000000000000042-aa-0-1.staged",
            "_millrace/staged/j/42-aa-0-1.staged",
            "_millrace/staged/j/00000000000000000042-aa-0.staged",
            "_millrace/staged/j/00000000000000000042-aa-0-x.staged",
            "_millrace/staged/j/00000000000000000042-a/a-0-1.staged",
            "_millrace/staged/j/.00000000000000000042-aa-0-1.staged",
            "_millrace/00000000000000000042-aa-0-1.staged",
        ] {
            assert_eq!(StagedName::parse(path), None, "{path}");
        }
    }

    #[test]
    fn names_of_different_files_never_clash() {
        let mut staged = BTreeSet::new();
        let mut targets = BTreeSet::new();
        let mut count = 0;
        for incarnation in ["a", "a-1", "a-1-1", "1-a"] {
            for number_of_epoch in [0, 1, 11] {
                for number in [0, 1, 11] {
                    let name = StagedName::new(&epoch(1, incarnation, number_of_epoch), number);
                    staged.insert(name.path());
                    targets.insert(name.target("", ".parquet"));
                    count += 1;
                }
            }
        }
        assert_eq!((staged.len(), targets.len()), (count, count));
    }

    #[test]
    fn a_target_lies_in_its_partition_and_ends_as_its_format() {
        let name = StagedName::new(&epoch(1, "inc", 2), 3);
        assert_eq!(name.target("", ".zstd.parquet"), "part-0f5cab99-inc-2-3.zstd.parquet");
        assert_eq!(name.target("status=paid/n=1", ".parquet"), "status=paid/n=1/part-0f5cab99-inc-2-3.parquet");
    }
}
