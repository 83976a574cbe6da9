//! What a runner takes from outside: time and chance. Both are injected, so that a simulation can replay a run.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use rand::rngs::{StdRng, SysRng};
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use crate::failpoint::{Disarmed, Failpoints};
use crate::ids::Millis;

/// The wall clock. Waiting goes through `tokio::time`, which a test can pause; this is for timestamps in records.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now_millis(&self) -> i64;
}

/// The machine's clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_millis(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
    }
}

/// Everything from outside, in one hand.
#[derive(Clone)]
pub struct Env {
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// What to do at a failpoint.
    pub failpoints: Arc<dyn Failpoints>,
    rng: Arc<Mutex<StdRng>>,
}

impl Env {
    /// The environment of a real process, with no failpoint armed.
    pub fn system() -> Self {
        let rng = StdRng::try_from_rng(&mut SysRng).unwrap_or_else(|_| StdRng::seed_from_u64(fallback_seed()));
        Self { clock: Arc::new(SystemClock), failpoints: Arc::new(Disarmed), rng: Arc::new(Mutex::new(rng)) }
    }

    /// An environment whose every random choice follows from `seed`.
    pub fn seeded(seed: u64, clock: Arc<dyn Clock>, failpoints: Arc<dyn Failpoints>) -> Self {
        Self { clock, failpoints, rng: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))) }
    }

    /// A fresh UUID, version 4.
    pub fn uuid(&self) -> Uuid {
        let mut bytes = [0u8; 16];
        self.lock().fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// `duration`, shortened by up to a quarter, so that many waiters do not wake together.
    pub fn jitter(&self, duration: Duration) -> Duration {
        duration.mul_f64(self.lock().random_range(0.75..=1.0))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, StdRng> {
        self.rng.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A seed for the case that the operating system gives no randomness: the time and the process id, which still differ
/// between two processes of one machine.
fn fallback_seed() -> u64 {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    nanos ^ (u64::from(std::process::id()) << 32)
}

/// Time as the job log asks for it.
#[derive(Clone)]
pub struct LogClock(pub Env);

impl std::fmt::Debug for LogClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogClock")
    }
}

#[async_trait]
impl millrace_joblog::Clock for LogClock {
    fn now(&self) -> Millis {
        Millis(self.0.clock.now_millis())
    }

    async fn pause(&self, tries: u32) {
        let wait = Duration::from_millis(50 << tries.saturating_sub(1).min(5)).min(Duration::from_secs(2));
        tokio::time::sleep(self.0.jitter(wait)).await;
    }
}

/// Waits that grow: doubled after each failure, bounded, reset by success.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `initial` and never waits longer than `max`.
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, next: initial }
    }

    /// How long to wait now.
    pub fn next(&mut self, env: &Env) -> Duration {
        let wait = self.next;
        self.next = (self.next * 2).min(self.max);
        env.jitter(wait)
    }

    /// After a success.
    pub fn reset(&mut self) {
        self.next = self.initial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_bound_and_starts_over_after_a_success() {
        let env = Env::seeded(1, Arc::new(SystemClock), Arc::new(Disarmed));
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(300));
        for bound in [100, 200, 300, 300] {
            let wait = backoff.next(&env).as_millis();
            assert!(wait <= bound && wait * 4 >= bound * 3, "{wait} of {bound}");
        }
        backoff.reset();
        assert!(backoff.next(&env) <= Duration::from_millis(100));
    }

    #[test]
    fn the_same_seed_gives_the_same_ids() {
        let make = || Env::seeded(7, Arc::new(SystemClock), Arc::new(Disarmed));
        assert_eq!(make().uuid(), make().uuid());
        let env = make();
        assert_ne!(env.uuid(), env.uuid());
    }
}
