//! Real servers: where they are installed, and what starting any of them takes.

pub mod apiserver;
pub mod kafka;
pub mod minio;
pub mod process;

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, anyhow, bail};
use tempfile::TempDir;

use crate::Result;

/// The checkout's root directory.
pub fn checkout() -> PathBuf {
    // cargo sets the variable for the tests it runs; the compiled-in path could be another clone's, with which this one
    // shares its build cache.
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let package = PathBuf::from(package);
    package.parent().map(Path::to_path_buf).unwrap_or(package)
}

/// Where `tests/servers/setup` put the program or directory of that name: `KAFKA_LIBS`, `MINIO` or `PYTHON`. The first
/// call of a process runs the script, which installs what is missing and says so on standard error.
///
/// # Errors
///
/// When the script fails; it has then said why on standard error.
pub fn installed(name: &str) -> Result<PathBuf> {
    static INSTALLED: Once<HashMap<String, PathBuf>> = Once::new();
    find(&INSTALLED, "setup", name)
}

/// Where `tests/servers/setup-apiserver` put `KUBE_APISERVER` or `ETCD`; otherwise as [`installed`].
///
/// # Errors
///
/// As for [`installed`].
pub fn installed_apiserver(name: &str) -> Result<PathBuf> {
    static INSTALLED: Once<HashMap<String, PathBuf>> = Once::new();
    find(&INSTALLED, "setup-apiserver", name)
}

/// Where `tests/servers/setup-kstatus` put `KSTATUS`; otherwise as [`installed`].
///
/// # Errors
///
/// As for [`installed`].
pub fn installed_kstatus(name: &str) -> Result<PathBuf> {
    static INSTALLED: Once<HashMap<String, PathBuf>> = Once::new();
    find(&INSTALLED, "setup-kstatus", name)
}

/// A port on loopback that nothing listens on and that this process gives out once only. It lies below the range from
/// which the kernel takes the ports of outgoing connections, so none of those takes it before the server does.
///
/// # Errors
///
/// When no port is free.
pub fn free_port() -> Result<u16> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side start at different places.
    let start = (u64::from(std::process::id()) * 61 % u64::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port between {FIRST} and {} is free", FIRST + COUNT)
}

/// A new directory that goes when its owner is dropped, or with the test process if that never happens.
///
/// # Errors
///
/// When the temporary directory cannot be written.
pub fn scratch(name: &str) -> Result<TempDir> {
    static ROOT: Once<PathBuf> = Once::new();
    let root = once(&ROOT, make_root)?;
    Ok(tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(root)?)
}

/// A name that no other test uses, made of `prefix` and random digits: `orders-0f3a…`.
pub fn unique(prefix: &str) -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("{prefix}-{}", &id[..12])
}

/// What a process makes once, when it is first asked for; a failure is remembered too, so that every test reports it.
type Once<T> = OnceLock<Result<T, String>>;

fn once<T>(place: &'static Once<T>, make: impl FnOnce() -> Result<T>) -> Result<&'static T> {
    let made = place.get_or_init(|| make().map_err(|error| format!("{error:#}")));
    made.as_ref().map_err(|error| anyhow!("{error}"))
}

fn make_root() -> Result<PathBuf> {
    let root = tempfile::Builder::new().prefix("millrace-tests-").tempdir()?.keep();
    process::remove_when_this_process_ends(&root)?;
    Ok(root)
}

fn find(installed: &'static Once<HashMap<String, PathBuf>>, script: &str, name: &str) -> Result<PathBuf> {
    let paths = once(installed, || run_script(script))?;
    paths.get(name).cloned().with_context(|| format!("tests/servers/{script} did not say where {name} is"))
}

fn run_script(script: &str) -> Result<HashMap<String, PathBuf>> {
    let path = checkout().join("tests/servers").join(script);
    let output = Command::new(&path).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("running {}", path.display()))?;
    if !output.status.success() {
        bail!("tests/servers/{script} failed; it has said why on standard error");
    }
    let lines = String::from_utf8(output.stdout)?;
    let pairs = lines.lines().filter_map(|line| line.split_once('='));
    Ok(pairs.map(|(name, path)| (name.to_owned(), PathBuf::from(path))).collect())
}
