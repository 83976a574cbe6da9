//! Live progress: a line that moves on a terminal, plain lines in a pipe.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use crate::cli::say;
use crate::progress::{ProgressHub, Totals};

/// How often a terminal's line moves.
const REFRESH: Duration = Duration::from_millis(250);
/// How often a pipe gets a line, if anything was committed since the last one.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A running view. Dropped or finished, it ends.
pub struct Live {
    task: JoinHandle<()>,
    bar: Option<ProgressBar>,
    hub: Arc<ProgressHub>,
}

/// Shows progress on standard error until it is finished.
pub fn show(hub: Arc<ProgressHub>) -> Live {
    let bar = std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::default_spinner());
        bar.enable_steady_tick(REFRESH);
        bar
    });
    let (task_bar, task_hub) = (bar.clone(), Arc::clone(&hub));
    let task = tokio::spawn(async move {
        let every = if task_bar.is_some() { REFRESH } else { LINE_EVERY };
        let mut before = (Instant::now(), task_hub.totals());
        loop {
            tokio::time::sleep(every).await;
            let now = (Instant::now(), task_hub.totals());
            let text = line(&task_hub, now.1, before.1, now.0 - before.0);
            match &task_bar {
                Some(bar) => bar.set_message(text),
                None if now.1 != before.1 => say(&text),
                None => {}
            }
            before = now;
        }
    });
    Live { task, bar, hub }
}

impl Live {
    /// Ends the view with a last line of sums.
    pub fn finish(self) {
        self.task.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let totals = self.hub.totals();
        say(&format!(
            "committed {} rows in, {} rows out, {} bad, in {} epochs",
            totals.rows_in, totals.rows_out, totals.bad, totals.commits
        ));
    }
}

fn line(hub: &ProgressHub, now: Totals, before: Totals, elapsed: Duration) -> String {
    let status = hub.status();
    let rate = (now.rows_in - before.rows_in) as f64 / elapsed.as_secs_f64().max(0.001);
    let lag: u64 = status.lag.values().map(|lag| lag.records).sum();
    let seq = status.last_commit.map_or_else(|| "-".to_owned(), |commit| commit.seq.to_string());
    let trouble = status.degraded.map_or_else(String::new, |degraded| format!("  degraded: {}", degraded.message));
    format!("{rate:>9.0} rows/s  lag {lag}  committed {} rows, last record {seq}{trouble}", now.rows_in)
}
