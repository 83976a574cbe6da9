//! Structured log lines on standard error.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// Sends log lines at or above `level` to standard error. A level that does not parse is taken as `info`.
pub fn init(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A second call changes nothing.
    let _ = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}
