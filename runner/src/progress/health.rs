//! What the probes ask: is the runner valid, does its loop turn, does it do its part of the work?

use std::time::Duration;

use millrace_crds::contract::{Phase, RunnerStatus};
use tokio::time::Instant;

use super::ProgressHub;
use crate::commit::Place;

/// The loop counts as stuck when it has not turned for this long.
const STUCK_AFTER: Duration = Duration::from_secs(120);

/// A runner that held all its tasks may wait so long for those that another division brings: longer than others may take
/// to release them.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the probes are answered from.
pub(super) struct Health {
    /// Whether the runner was found valid.
    valid: bool,
    place: Option<Place>,
    /// Since when it waits for tasks.
    waiting_since: Option<Instant>,
    /// Whether it ever held all that was its own.
    was_whole: bool,
    last_turn: Instant,
    last_progress: Option<Instant>,
    /// Without progress for so long the runner is not ready; the manifest's, unless the settings have another.
    deadline: Duration,
}

impl Health {
    pub(super) fn new(deadline: Duration) -> Self {
        Self {
            valid: false,
            place: None,
            waiting_since: None,
            was_whole: false,
            last_turn: Instant::now(),
            last_progress: None,
            deadline,
        }
    }

    pub(super) fn turned(&mut self) {
        self.last_turn = Instant::now();
    }

    pub(super) fn progressed(&mut self) {
        self.last_progress = Some(Instant::now());
    }
}

impl ProgressHub {
    /// The runner came through everything that can be checked before it works: its place in the log is what it is, and it
    /// goes on, or waits for a term that has a place for it.
    pub fn found_valid(&self) {
        self.state().health.valid = true;
    }

    /// What the log's term gives the runner now.
    pub fn placed(&self, place: Place) {
        let mut state = self.state();
        let health = &mut state.health;
        match place {
            Place::Waiting(_) => {
                health.waiting_since.get_or_insert(Instant::now());
            }
            Place::Whole => {
                health.was_whole = true;
                health.waiting_since = None;
            }
            Place::OtherTerm | Place::Surplus => health.waiting_since = None,
        }
        health.place = Some(place);
    }

    /// How long the runner may go without progress from now on; `None` is what it began with.
    pub fn set_deadline(&self, deadline: Option<Duration>) {
        self.state().health.deadline = deadline.unwrap_or(self.deadline);
    }

    /// Whether the runner was found valid. One whose place another has counts as well: to start it anew would change
    /// nothing.
    ///
    /// # Errors
    /// The reason, if it was not yet.
    pub fn started(&self) -> Result<(), String> {
        let state = self.state();
        match state.health.valid || state.status.superseded {
            true => Ok(()),
            false => Err(why(&state.status)),
        }
    }

    /// Whether the loop turns.
    ///
    /// # Errors
    /// The reason, if it does not.
    pub fn alive(&self) -> Result<(), String> {
        let still = self.state().health.last_turn.elapsed();
        if still < STUCK_AFTER { Ok(()) } else { Err(format!("the loop has not turned for {} s", still.as_secs())) }
    }

    /// Whether the runner holds every task that the log's term gives it, and makes progress: it committed, or was caught
    /// up, within the deadline.
    ///
    /// # Errors
    /// The reason, if it does not.
    pub fn ready(&self) -> Result<(), String> {
        let state = self.state();
        let Health { place, waiting_since, was_whole, last_progress, deadline, .. } = &state.health;
        if !matches!(state.status.phase, Phase::Running | Phase::Waiting) {
            return Err(why(&state.status));
        }
        match place {
            None => return Err(why(&state.status)),
            Some(Place::OtherTerm | Place::Surplus) => return Err("no place in the term".to_owned()),
            Some(Place::Waiting(tasks)) => {
                let patient = *was_whole && waiting_since.is_some_and(|since| since.elapsed() < PATIENCE);
                if !patient {
                    return Err(format!("waiting for {tasks} tasks that other runners hold"));
                }
            }
            Some(Place::Whole) => {}
        }
        match last_progress {
            Some(at) if at.elapsed() < *deadline => Ok(()),
            Some(at) => Err(format!("no progress for {} s", at.elapsed().as_secs())),
            None => Err("no progress yet".to_owned()),
        }
    }
}

/// What keeps the runner from its work: the phase it is in, and what is wrong, if anything is.
fn why(status: &RunnerStatus) -> String {
    match &status.degraded {
        Some(degraded) => format!("{:?}: {}", status.phase, degraded.message),
        None => format!("{:?}", status.phase),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::time::advance;

    use super::*;
    use crate::failure::Failure;

    fn new_hub() -> ProgressHub {
        ProgressHub::new("job", "r1", 0, "incarnation", Duration::from_secs(60))
    }

    fn running(place: Place) -> ProgressHub {
        let hub = new_hub();
        hub.phase(Phase::Running);
        hub.placed(place);
        hub.caught_up();
        hub
    }

    #[tokio::test(start_paused = true)]
    async fn a_runner_is_started_once_it_was_found_valid_or_superseded_and_says_why_not_until_then() {
        let hub = new_hub();
        assert_eq!(hub.started().unwrap_err(), "Starting");
        hub.degraded(&Failure::external("KafkaUnreachable", "kafka:9092 does not answer"), 0);
        assert_eq!(hub.started().unwrap_err(), "Starting: kafka:9092 does not answer");
        hub.found_valid();
        assert_eq!(hub.started(), Ok(()));
        let other = new_hub();
        other.phase(Phase::Superseded);
        assert_eq!(other.started(), Ok(()));
        assert!(other.ready().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_runner_without_a_place_in_the_term_is_not_ready_and_one_without_tasks_is() {
        for place in [Place::OtherTerm, Place::Surplus] {
            assert_eq!(running(place).ready().unwrap_err(), "no place in the term");
        }
        let idle = running(Place::Whole);
        idle.phase(Phase::Waiting);
        assert_eq!(idle.ready(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_others_tasks_matters_at_the_start_and_later_only_if_it_lasts() {
        let hub = running(Place::Waiting(3));
        assert_eq!(hub.ready().unwrap_err(), "waiting for 3 tasks that other runners hold");
        hub.placed(Place::Whole);
        assert_eq!(hub.ready(), Ok(()));
        hub.placed(Place::Waiting(2));
        advance(PATIENCE / 2).await;
        hub.placed(Place::Waiting(1));
        assert_eq!(hub.ready(), Ok(()));
        advance(PATIENCE / 2).await;
        assert!(hub.ready().is_err());
        hub.placed(Place::Whole);
        assert_eq!(hub.ready(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_settings_deadline_goes_before_the_manifests_and_can_be_taken_back() {
        let hub = running(Place::Whole);
        advance(Duration::from_secs(59)).await;
        assert_eq!(hub.ready(), Ok(()));
        hub.set_deadline(Some(Duration::from_secs(10)));
        assert_eq!(hub.ready().unwrap_err(), "no progress for 59 s");
        hub.set_deadline(None);
        assert_eq!(hub.ready(), Ok(()));
    }
}
