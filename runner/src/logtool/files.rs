//! Files as the job log names them, by whole URLs, and the sinks that know what to do with them.
//!
//! A command goes by what the log says, not by the manifest: an output that was moved or removed since is found too.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use millrace_crds::{Compression, Location, ParquetSink as Settings};
use millrace_joblog::record::PublishedFile;

use crate::commit::placed::{Placed, retract};
use crate::failure::Failure;
use crate::ids::OutputName;
use crate::sink::Published;
use crate::sink::parquet::ParquetSink;
use crate::storage::{StoreAt, Stores};

/// Files looked at or deleted at once.
const AT_ONCE: usize = 16;

/// The sinks of the folders that a log names.
pub struct Folders<'a> {
    stores: &'a Stores,
    sinks: BTreeMap<String, (ParquetSink, StoreAt)>,
}

impl<'a> Folders<'a> {
    /// None yet; each is opened when it is first needed.
    pub fn new(stores: &'a Stores) -> Self {
        Self { stores, sinks: BTreeMap::new() }
    }

    /// The sink of `folder`.
    ///
    /// # Errors
    /// The folder is no location, or its store cannot be set up.
    pub fn sink(&mut self, output: &OutputName, folder: &str) -> Result<&ParquetSink, Failure> {
        self.open(output, folder).map(|(sink, _)| sink)
    }

    /// The store of `folder`.
    ///
    /// # Errors
    /// As [`Folders::sink`].
    pub fn store(&mut self, output: &OutputName, folder: &str) -> Result<&StoreAt, Failure> {
        self.open(output, folder).map(|(_, at)| at)
    }

    fn open(&mut self, output: &OutputName, folder: &str) -> Result<&(ParquetSink, StoreAt), Failure> {
        if !self.sinks.contains_key(folder) {
            let wrong = |why: &dyn std::fmt::Display| Failure::user(format!("output '{output}' at {folder}: {why}"));
            let location: Location = folder.parse().map_err(|error| wrong(&error))?;
            let at = self.stores.data_store(&location).map_err(|fault| wrong(&fault))?;
            let sink = ParquetSink::new(output.as_str(), settings(location), at.clone());
            self.sinks.insert(folder.to_owned(), (sink, at));
        }
        self.sinks.get(folder).ok_or_else(|| Failure::internal("a folder was opened and is not there"))
    }

    /// The files of an output that cannot be retracted, each with the reason: it is gone, or was rewritten.
    ///
    /// # Errors
    /// The store's.
    pub async fn unretractable(
        &mut self,
        output: &OutputName,
        files: &[PublishedFile],
    ) -> Result<Vec<String>, Failure> {
        let mut checks = Vec::new();
        for file in files {
            let placed = Placed::published(file)?;
            let sink = self.sink(output, &placed.folder)?.clone();
            checks.push(async move {
                let found = sink.inspect(&placed.file).await.map_err(Failure::from)?;
                Ok::<_, Failure>((placed, found))
            });
        }
        let found: Vec<(Placed, Published)> = stream::iter(checks).buffered(AT_ONCE).try_collect().await?;
        let faults = found.into_iter().filter_map(|(placed, found)| {
            let target = format!("{}/{}", placed.folder, placed.file.target);
            match found {
                Published::Done => None,
                Published::Missing => Some(format!("{target} is gone")),
                Published::Changed => Some(format!("{target} was rewritten by somebody else")),
            }
        });
        Ok(faults.collect())
    }

    /// Deletes published files, each after its staged object. One that is gone by now is fine. Returns those that were
    /// rewritten since they were checked, which are left.
    ///
    /// # Errors
    /// The store's.
    pub async fn retract(&mut self, output: &OutputName, files: &[PublishedFile]) -> Result<Vec<String>, Failure> {
        let mut deletions = Vec::new();
        for file in files {
            let placed = Placed::published(file)?;
            let sink = self.sink(output, &placed.folder)?.clone();
            deletions.push(async move {
                let changed = retract(&sink, &placed.file).await?;
                Ok::<_, Failure>(changed.then(|| format!("{}/{}", placed.folder, placed.file.target)))
            });
        }
        let changed: Vec<Option<String>> = stream::iter(deletions).buffered(AT_ONCE).try_collect().await?;
        Ok(changed.into_iter().flatten().collect())
    }
}

/// What a sink needs to know of files that it will not write.
fn settings(path: Location) -> Settings {
    Settings {
        path,
        partition_by: Vec::new(),
        compression: Compression::Zstd,
        max_file_bytes: 1,
        max_file_age: None,
        max_open_files: 1,
    }
}
