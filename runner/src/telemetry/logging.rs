//! Structured log lines on standard error: text for people, JSON in pods. Which lines may change while the process runs,
//! and the last of them are kept for the termination message.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use clap::ValueEnum;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// How many of the last lines are kept.
const TAIL_LINES: usize = 20;
/// How many bytes of each.
const TAIL_BYTES: usize = 300;

/// The level of a process that was given none that can be read.
const FALLBACK: &str = "info";

/// The switch of this process's log, once there is one.
static SWITCH: OnceLock<Switch> = OnceLock::new();
/// The last lines, oldest first.
static TAIL: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One line of text.
    Text,
    /// One JSON object.
    Json,
}

/// Sends log lines at or above `level` to standard error. A second call changes nothing. A level that does not parse
/// falls back to `info` and says so.
pub fn init(format: Format, level: &str) {
    let (filter, switch, problem) = filter(level);
    let lines = fmt::layer().with_writer(io::stderr).with_target(false);
    let lines = match format {
        Format::Text => lines.with_ansi(false).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    let installed = tracing_subscriber::registry().with(filter).with(lines).with(tail_layer()).try_init();
    if installed.is_err() {
        return;
    }
    // Nobody else gets here: a second subscriber is not installed.
    let _ = SWITCH.set(switch);
    if let Some(problem) = problem {
        tracing::warn!(problem, level, "cannot read the log level; using {FALLBACK}");
    }
}

/// Changes which lines are written from now on; `None` is what the process began with.
///
/// # Errors
/// The level does not parse, in a sentence; then nothing changes.
pub fn set_level(level: Option<&str>) -> Result<(), String> {
    SWITCH.get().map_or(Ok(()), |switch| switch.set(level))
}

/// The last lines of the log as text, oldest first, each cut to a few hundred bytes.
pub fn tail() -> Vec<String> {
    lock_tail().iter().cloned().collect()
}

/// What decides which lines are written.
struct Switch {
    handle: reload::Handle<EnvFilter, Registry>,
    began_with: String,
}

impl Switch {
    fn set(&self, level: Option<&str>) -> Result<(), String> {
        let filter = parse(level.unwrap_or(&self.began_with))?;
        self.handle.reload(filter).map_err(|error| error.to_string())
    }
}

/// The filter of a level, its switch, and what is wrong with the level if it is not used.
fn filter(level: &str) -> (reload::Layer<EnvFilter, Registry>, Switch, Option<String>) {
    let (filter, began_with, problem) = match parse(level) {
        Ok(filter) => (filter, level, None),
        Err(problem) => (EnvFilter::new(FALLBACK), FALLBACK, Some(problem)),
    };
    let (layer, handle) = reload::Layer::new(filter);
    (layer, Switch { handle, began_with: began_with.to_owned() }, problem)
}

/// Reads `level` or `target=level,…`. A word alone is a level and nothing else: as a target it would silence all others.
fn parse(level: &str) -> Result<EnvFilter, String> {
    let words = level.split(',').map(str::trim).filter(|word| !word.is_empty() && !word.contains('='));
    for word in words {
        if word.parse::<LevelFilter>().is_err() {
            return Err(format!("'{word}' is no level: write error, warn, info, debug, trace or off, or target=level"));
        }
    }
    if level.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    EnvFilter::try_new(level).map_err(|error| error.to_string())
}

fn tail_layer<S>() -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    fmt::layer().with_writer(TailLine::default).with_target(false).with_ansi(false)
}

/// One line on its way into the tail.
#[derive(Default)]
struct TailLine(Vec<u8>);

impl io::Write for TailLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A little more than is kept, so that what is cut off shows.
        let room = (TAIL_BYTES + 4).saturating_sub(self.0.len());
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for TailLine {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.0);
        let line = cut(text.trim_end());
        let mut tail = lock_tail();
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(line);
    }
}

/// The first bytes of a line, ending at a character; marked where something was cut off.
fn cut(line: &str) -> String {
    if line.len() <= TAIL_BYTES {
        return line.to_owned();
    }
    let end = line.floor_char_boundary(TAIL_BYTES - '…'.len_utf8());
    format!("{}…", &line[..end])
}

fn lock_tail() -> MutexGuard<'static, VecDeque<String>> {
    TAIL.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_long_ones_cut() {
        // One test for both: the tail is the process's.
        let (filter, switch, problem) = filter("info");
        assert_eq!(problem, None);
        let subscriber = tracing_subscriber::registry().with(filter).with(tail_layer());
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..30 {
                tracing::info!(number, "line");
            }
            tracing::info!("{}", "é".repeat(500));
            tracing::debug!("unseen");
            let kept = tail();
            assert_eq!(kept.len(), TAIL_LINES);
            assert!(kept[0].ends_with("line number=11"), "{}", kept[0]);
            let last = kept.last().unwrap();
            assert!(last.ends_with("é…") && last.len() <= TAIL_BYTES && last.len() > TAIL_BYTES - 4, "{last}");

            switch.set(Some("debug")).unwrap();
            tracing::debug!("seen");
            assert!(tail().last().unwrap().ends_with("seen"), "{:?}", tail().last());
            for wrong in ["loud", "", "info,chatty", "millrace=loud"] {
                assert!(switch.set(Some(wrong)).is_err(), "{wrong:?}");
            }
            tracing::debug!("seen after what did not parse");
            assert!(tail().last().unwrap().ends_with("parse"), "{:?}", tail().last());
            switch.set(None).unwrap();
            tracing::debug!("unseen again");
            assert!(tail().last().unwrap().ends_with("parse"), "{:?}", tail().last());
        });
    }

    #[test]
    fn a_level_is_a_level_or_targets_with_levels() {
        for right in ["info", "warn,millrace=info", "off", "DEBUG", "millrace::commit=trace, info"] {
            assert!(parse(right).is_ok(), "{right}");
        }
        let (_, switch, problem) = filter("loud");
        assert_eq!(switch.began_with, FALLBACK);
        assert!(problem.unwrap().contains("'loud' is no level"));
    }
}
