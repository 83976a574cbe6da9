//! Files as the job log names them, by whole URLs, and the sinks that know what to do with them.
//!
//! A command goes by what the log says, not by the manifest: an output that was moved or removed since is found too.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use millrace_crds::{Compression, Location, ParquetSink as Settings};
use millrace_joblog::record::PublishedFile;

use crate::commit::placed::{Placed, retract};
use crate::failure::Failure;
use crate::ids::OutputName;
use crate::sink::parquet::ParquetSink;
use crate::sink::{Published, Sink};
use crate::storage::{StoreAt, Stores};

/// Files looked at or deleted at once.
const AT_ONCE: usize = 16;

/// Opens the sinks of the folders that a log names.
pub trait Sinks: Send + Sync {
    /// The sink of a folder of `output`.
    ///
    /// # Errors
    /// The folder is no location, or its store cannot be set up.
    fn open(&self, output: &OutputName, folder: &str) -> Result<Arc<dyn Sink>, Failure>;
}

impl Sinks for Stores {
    fn open(&self, output: &OutputName, folder: &str) -> Result<Arc<dyn Sink>, Failure> {
        let (location, at) = store(self, output, folder)?;
        Ok(Arc::new(ParquetSink::new(output.as_str(), settings(location), at)))
    }
}

/// The store of a folder of `output`.
///
/// # Errors
/// As [`Sinks::open`].
pub fn folder_store(stores: &Stores, output: &OutputName, folder: &str) -> Result<StoreAt, Failure> {
    store(stores, output, folder).map(|(_, at)| at)
}

fn store(stores: &Stores, output: &OutputName, folder: &str) -> Result<(Location, StoreAt), Failure> {
    let wrong = |why: &dyn std::fmt::Display| Failure::user(format!("output '{output}' at {folder}: {why}"));
    let location: Location = folder.parse().map_err(|error| wrong(&error))?;
    let at = stores.data_store(&location).map_err(|fault| wrong(&fault))?;
    Ok((location, at))
}

/// The sinks of the folders that a log names.
pub struct Folders<'a> {
    sinks: &'a dyn Sinks,
    opened: BTreeMap<String, Arc<dyn Sink>>,
}

impl<'a> Folders<'a> {
    /// None yet; each is opened when it is first needed.
    pub fn new(sinks: &'a dyn Sinks) -> Self {
        Self { sinks, opened: BTreeMap::new() }
    }

    /// The sink of `folder`.
    ///
    /// # Errors
    /// As [`Sinks::open`].
    pub fn sink(&mut self, output: &OutputName, folder: &str) -> Result<Arc<dyn Sink>, Failure> {
        if let Some(sink) = self.opened.get(folder) {
            return Ok(Arc::clone(sink));
        }
        let sink = self.sinks.open(output, folder)?;
        self.opened.insert(folder.to_owned(), Arc::clone(&sink));
        Ok(sink)
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
            let sink = self.sink(output, &placed.folder)?;
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
            let sink = self.sink(output, &placed.folder)?;
            deletions.push(async move {
                let changed = retract(&*sink, &placed.file).await?;
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
