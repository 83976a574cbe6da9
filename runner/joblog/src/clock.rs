//! Time, from outside: the log has no clock of its own.

use std::fmt::Debug;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use crate::ids::Millis;

/// What the log asks about time. A simulation answers from its own.
#[async_trait]
pub trait Clock: Debug + Send + Sync {
    /// The wall clock. It only informs whoever reads the log: no decision depends on it.
    fn now(&self) -> Millis;

    /// Waits before try number `tries` (from 1) of a request that failed.
    async fn pause(&self, tries: u32);
}

/// The machine's clock, with pauses that double from 50 ms to 2 s.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Millis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    async fn pause(&self, tries: u32) {
        let millis = 50u64.saturating_mul(1 << tries.saturating_sub(1).min(6)).min(2_000);
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
}
