//! Waiting for a condition, with a bound.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::Result;

const POLL: Duration = Duration::from_millis(20);

/// Asks `condition` again and again until it gives a value, and returns that value. `what` completes the sentence
/// "gave up waiting for …".
///
/// # Errors
///
/// When `bound` has passed, or as soon as `condition` fails: an error is for what can no longer come true.
pub fn until<T>(what: &str, bound: Duration, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if start.elapsed() >= bound {
            bail!("gave up waiting for {what} after {bound:?}");
        }
        std::thread::sleep(POLL);
    }
}
