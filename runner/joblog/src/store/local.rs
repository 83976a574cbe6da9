//! A store in a local directory.
//!
//! An object is written to a file of its own name in `tmp/`, synced, and then linked under its key: `link` fails if the key
//! exists, so the create is exclusive, and nobody ever sees half of an object. The directory is synced before the reply.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::store::{FaultKind, LogStore, PutIfAbsent, StoreError};

/// Unfinished files older than this are of processes that died.
const ABANDONED: Duration = Duration::from_secs(3600);
/// Names tried for an unfinished file before giving up.
const MAX_NAMES: u32 = 1000;

/// A store in a local directory, for one machine's processes.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: PathBuf,
}

impl LocalStore {
    /// Opens the store in that directory, which is created if its parent exists or can be created.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let store = Self { root: root.into() };
        let tmp = store.root.join("tmp");
        fs::create_dir_all(&tmp).map_err(|error| fault("create", &store.root.display().to_string(), error))?;
        store.sweep(&tmp).map_err(|error| fault("list", "tmp", error))?;
        Ok(store)
    }

    /// Deletes what processes that died left unfinished, judged by the file system's own clock.
    fn sweep(&self, tmp: &Path) -> io::Result<()> {
        let (file, path) = self.unfinished()?;
        let now = file.metadata()?.modified()?;
        fs::remove_file(path)?;
        for entry in fs::read_dir(tmp)? {
            let entry = entry?;
            let Ok(metadata) = entry.metadata() else { continue }; // finished in the meantime
            if now.duration_since(metadata.modified()?).is_ok_and(|age| age > ABANDONED) {
                ignore_missing(fs::remove_file(entry.path()))?;
            }
        }
        Ok(())
    }

    /// A new file under `tmp/`, of a name that no other process uses.
    fn unfinished(&self) -> io::Result<(File, PathBuf)> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        for _ in 0..MAX_NAMES {
            let count = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = self.root.join("tmp").join(format!("{}-{count}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((file, path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("too many unfinished files under tmp/"))
    }

    /// Writes the bytes to an unfinished file, durably, and hands it to `finish`, which moves it to its key.
    fn write<T>(&self, key: &str, bytes: &[u8], finish: impl FnOnce(&Path, &Path) -> io::Result<T>) -> io::Result<T> {
        let path = self.root.join(key);
        let folder = path.parent().unwrap_or(&self.root);
        if !folder.exists() {
            // One level only: a root that went away (an unmounted disk) must not come back as an empty log.
            ignore(io::ErrorKind::AlreadyExists, fs::create_dir(folder))?;
            sync_directory(&self.root)?;
        }
        let (mut file, unfinished) = self.unfinished()?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        let finished = written.and_then(|()| finish(&unfinished, &path));
        ignore_missing(fs::remove_file(&unfinished))?;
        let finished = finished?;
        sync_directory(folder)?;
        Ok(finished)
    }

    fn create(&self, key: &str, bytes: &[u8]) -> io::Result<PutIfAbsent> {
        self.write(key, bytes, |from, to| match fs::hard_link(from, to) {
            Ok(()) => Ok(PutIfAbsent::Created),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(PutIfAbsent::Exists),
            Err(error) => Err(error),
        })
    }

    fn replace(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        self.write(key, bytes, |from, to| fs::rename(from, to))
    }

    /// Fails if the directory went away: its objects are not missing, they are out of reach.
    fn present(&self) -> io::Result<()> {
        fs::metadata(self.root.join("tmp")).map(drop)
    }

    fn keys(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.root.join(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.present().map(|()| Vec::new()),
            Err(error) => return Err(error),
        };
        let mut keys = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Some(name) = entry.file_name().to_str()
            {
                keys.push(format!("{folder}/{name}"));
            }
        }
        keys.sort();
        Ok(keys)
    }

    fn remove(&self, keys: &[String]) -> io::Result<()> {
        keys.iter().try_for_each(|key| ignore_missing(fs::remove_file(self.root.join(key))))
    }

    /// Runs file work on a thread where it may block. Once begun it runs to its end, also if the caller goes away.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &str,
        work: impl FnOnce(&LocalStore) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        done.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| fault(operation, key, error))
    }
}

#[async_trait]
impl LogStore for LocalStore {
    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<PutIfAbsent, StoreError> {
        let name = key.to_owned();
        self.blocking("create", key, move |store| store.create(&name, &bytes)).await
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let name = key.to_owned();
        self.blocking("write", key, move |store| store.replace(&name, &bytes)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let name = key.to_owned();
        let read = move |store: &LocalStore| match fs::read(store.root.join(name)) {
            Ok(bytes) => Ok(Some(Bytes::from(bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => store.present().map(|()| None),
            Err(error) => Err(error),
        };
        self.blocking("read", key, read).await
    }

    async fn head(&self, key: &str) -> Result<bool, StoreError> {
        let name = key.to_owned();
        let look = move |store: &LocalStore| {
            store.present()?;
            store.root.join(name).try_exists()
        };
        self.blocking("read", key, look).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let name = folder.to_owned();
        self.blocking("list", folder, move |store| store.keys(&name)).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        let Some(first) = keys.first().cloned() else { return Ok(()) };
        let keys = keys.to_vec();
        self.blocking("delete", &first, move |store| store.remove(&keys)).await
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    ignore(io::ErrorKind::NotFound, result)
}

fn ignore(kind: io::ErrorKind, result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == kind => Ok(()),
        other => other,
    }
}

fn fault(operation: &'static str, key: &str, error: io::Error) -> StoreError {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => FaultKind::Denied,
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FaultKind::MissingBucket,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => FaultKind::Full,
        io::ErrorKind::Unsupported | io::ErrorKind::CrossesDevices => FaultKind::Unsupported,
        _ => FaultKind::Transient,
    };
    StoreError::new(operation, key, kind, error)
}
