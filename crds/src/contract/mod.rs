//! The contract between operator and runner: what one writes and the other reads.
//!
//! An operator drives runners of its own version and of the two before, so these forms only grow: fields are added as
//! optional ones, nothing is renamed, and unknown fields are ignored. `fixtures/` pins them.

mod exit;
mod names;
mod progress;
mod settings;
mod status;
mod term;
mod termination;

pub use exit::{ExitCode, FailureClass};
pub use names::*;
pub use progress::{EventTimeProgress, Offsets, Progress, SinkProgress, SourceProgress, StateOperatorProgress};
pub use settings::RunnerSettings;
pub use status::{CommitPoint, Degraded, Lag, Phase, RunnerStatus, SavepointPoint};
pub use term::TermRequest;
pub use termination::{MAX_TERMINATION_BYTES, TerminationMessage};

#[cfg(test)]
mod tests;
