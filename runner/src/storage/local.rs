//! A local folder as an object store whose acknowledged writes survive a power cut.
//!
//! The library's own local store does not sync, and copying onto an existing hard link of the same file leaves a
//! stray `name#0` beside it (renaming one link of a file over another does nothing), which readers take for data.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use uuid::Uuid;

const STORE: &str = "local disk";

/// An object store rooted at a local folder.
///
/// - A put appears whole or not at all, and both it and its folder entry are synced before it is acknowledged. With
///   [`PutMode::Create`] exactly one of several writers, in any process, succeeds.
/// - A copy is a hard link where the file system has them; its folder is synced.
/// - What a crash leaves is named `.<name>.<uuid>.tmp` beside the target, which lists like any other object.
/// - Attributes are accepted and dropped. ETags are the modification time and size, so that a link, a copy by this
///   store and a restored backup keep them.
#[derive(Debug, Clone)]
pub struct DurableLocal {
    root: PathBuf,
    inner: LocalFileSystem,
}

impl DurableLocal {
    /// Opens `root`, relative to the working directory, creating it when it is missing.
    pub fn open(root: &FilePath) -> io::Result<Self> {
        let absolute = std::path::absolute(root)?;
        create_dirs(&absolute)?;
        let root = fs::canonicalize(&absolute)?;
        let inner = LocalFileSystem::new_with_prefix(&root).map_err(io::Error::other)?;
        Ok(Self { root, inner })
    }

    /// The folder, absolute.
    pub fn root(&self) -> &FilePath {
        &self.root
    }

    fn file(&self, location: &Path) -> PathBuf {
        location.parts().fold(self.root.clone(), |path, part| path.join(part.as_ref()))
    }
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.root.display())
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let target = self.file(location);
        let mode = opts.mode;
        blocking(move || {
            let mut temporary = Temporary::create(&target).map_err(|error| failed("write", &target, error))?;
            payload
                .iter()
                .try_for_each(|chunk| temporary.file.write_all(chunk))
                .and_then(|()| temporary.file.sync_all())
                .map_err(|error| failed("write", &target, error))?;
            let etag = etag_of_file(&temporary.file).map_err(|error| failed("write", &target, error))?;
            match mode {
                PutMode::Overwrite => temporary.rename_to(&target),
                PutMode::Create => fs::hard_link(&temporary.path, &target).and_then(|()| sync_parent(&target)),
                PutMode::Update(_) => return Err(not_supported("a conditional overwrite")),
            }
            .map_err(|error| failed("write", &target, error))?;
            Ok(PutResult { e_tag: Some(etag), version: None })
        })
        .await
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let target = self.file(location);
        blocking(move || {
            let temporary = Temporary::create(&target).map_err(|error| failed("write", &target, error))?;
            let upload = LocalUpload { target, temporary: Some(Arc::new(temporary)), written: 0 };
            Ok(Box::new(upload) as Box<dyn MultipartUpload>)
        })
        .await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut result = self.inner.get_opts(location, options).await?;
        result.meta = with_etag(result.meta);
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix).map(|meta| meta.map(with_etag)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut listed = self.inner.list_with_delimiter(prefix).await?;
        listed.objects = listed.objects.into_iter().map(with_etag).collect();
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (from, to) = (self.file(from), self.file(to));
        blocking(move || copy(&from, &to, options.mode).map_err(|error| failed("copy to", &to, error))).await
    }
}

/// An upload in parts: a temporary file that each part writes its own range of.
#[derive(Debug)]
struct LocalUpload {
    target: PathBuf,
    /// `None` once completed or aborted.
    temporary: Option<Arc<Temporary>>,
    /// Bytes of all parts so far, the offset of the next.
    written: u64,
}

#[async_trait]
impl MultipartUpload for LocalUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (target, temporary) = (self.target.clone(), self.temporary.clone());
        let mut offset = self.written;
        self.written += data.content_length() as u64;
        Box::pin(blocking(move || {
            let temporary = temporary.ok_or_else(|| not_supported("a part of a finished upload"))?;
            for chunk in data.iter() {
                temporary.file.write_all_at(chunk, offset).map_err(|error| failed("write", &target, error))?;
                offset += chunk.len() as u64;
            }
            Ok(())
        }))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let temporary = self.temporary.take().ok_or_else(|| not_supported("completing an upload twice"))?;
        let (target, expected) = (self.target.clone(), self.written);
        blocking(move || {
            let publish = || {
                temporary.file.sync_all()?;
                let length = temporary.file.metadata()?.len();
                if length != expected {
                    return Err(io::Error::other(format!("{length} of {expected} bytes were written")));
                }
                temporary.rename_to(&target)?;
                etag_of_file(&temporary.file)
            };
            let etag = publish().map_err(|error| failed("write", &target, error))?;
            Ok(PutResult { e_tag: Some(etag), version: None })
        })
        .await
    }

    async fn abort(&mut self) -> Result<()> {
        // Dropping the last reference removes the file; a part that still runs holds one.
        self.temporary = None;
        Ok(())
    }
}

/// A file under a temporary name, removed when dropped.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    /// Creates the file in `target`'s folder, and the folder when it is missing.
    fn create(target: &FilePath) -> io::Result<Self> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!(".{name}.{}.tmp", Uuid::new_v4().simple()));
        let create = || OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = match create() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                create_dirs(parent(target)?)?;
                create()?
            }
            other => other?,
        };
        Ok(Self { path, file })
    }

    /// Gives the file its final name, durably.
    fn rename_to(&self, target: &FilePath) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        sync_parent(target)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Already renamed, or left for the collector when even this fails.
        let _ = fs::remove_file(&self.path);
    }
}

fn copy(from: &FilePath, to: &FilePath, mode: CopyMode) -> io::Result<()> {
    let linked = match fs::hard_link(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound && fs::exists(from)? => {
            create_dirs(parent(to)?)?;
            fs::hard_link(from, to)
        }
        other => other,
    };
    match linked {
        Ok(()) => sync_parent(to),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(error),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => match mode {
            CopyMode::Create => Err(error),
            CopyMode::Overwrite if same_file(from, to)? => sync_parent(to),
            CopyMode::Overwrite => copy_bytes(from, to),
        },
        // Some file systems have no hard links, or not that many of one file.
        Err(_) if mode == CopyMode::Overwrite => copy_bytes(from, to),
        Err(error) => Err(error),
    }
}

fn copy_bytes(from: &FilePath, to: &FilePath) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut temporary = Temporary::create(to)?;
    io::copy(&mut source, &mut temporary.file)?;
    temporary.file.set_modified(source.metadata()?.modified()?)?;
    temporary.file.sync_all()?;
    temporary.rename_to(to)
}

fn same_file(one: &FilePath, other: &FilePath) -> io::Result<bool> {
    let (one, other) = (fs::metadata(one)?, fs::metadata(other)?);
    Ok(one.dev() == other.dev() && one.ino() == other.ino())
}

/// Creates `dir` and what is missing above it, each entry synced.
fn create_dirs(dir: &FilePath) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Ok(above) = parent(dir) {
        create_dirs(above)?;
    }
    match fs::create_dir(dir) {
        Ok(()) => sync_parent(dir),
        // Made by another writer meanwhile.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(ErrorKind::NotADirectory.into()),
        Err(error) => Err(error),
    }
}

fn parent(path: &FilePath) -> io::Result<&FilePath> {
    path.parent().ok_or_else(|| io::Error::other("a path without a folder"))
}

fn sync_parent(path: &FilePath) -> io::Result<()> {
    File::open(parent(path)?)?.sync_all()
}

fn with_etag(meta: ObjectMeta) -> ObjectMeta {
    let e_tag = meta.last_modified.timestamp_nanos_opt().map(|nanos| etag(nanos, meta.size));
    ObjectMeta { e_tag, ..meta }
}

fn etag_of_file(file: &File) -> io::Result<String> {
    let metadata = file.metadata()?;
    let nanos = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
    Ok(etag(nanos, metadata.len()))
}

fn etag(modified_nanos: i64, bytes: u64) -> String {
    format!("{modified_nanos:x}-{bytes:x}")
}

/// Wraps an error of the disk, naming the file once.
fn failed(doing: &str, path: &FilePath, error: io::Error) -> Error {
    let shown = path.display().to_string();
    let kind = error.kind();
    let source = Box::new(io::Error::new(kind, format!("cannot {doing} {shown}: {error}")));
    match kind {
        ErrorKind::NotFound => Error::NotFound { path: shown, source },
        ErrorKind::AlreadyExists => Error::AlreadyExists { path: shown, source },
        _ => Error::Generic { store: STORE, source },
    }
}

fn not_supported(what: &str) -> Error {
    Error::NotSupported { source: format!("{what} on the local disk").into() }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(source) => Err(Error::JoinError { source }),
    }
}

#[cfg(test)]
mod tests;
