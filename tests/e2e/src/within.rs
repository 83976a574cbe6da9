//! Waiting for a condition, with a bound and a name.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::time::{sleep, timeout};

use crate::Result;

const POLL: Duration = Duration::from_millis(100);
/// One look at a condition may take this long; a server that is away does not answer at all.
const LOOK: Duration = Duration::from_secs(20);

/// Looks again and again until `look` gives a value, and returns that. An error of `look` says why it is not so yet; the
/// last one is shown if it never is.
///
/// # Errors
///
/// When `bound` has passed.
pub async fn within<T>(bound: Duration, what: &str, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        let seen = timeout(LOOK, look()).await.unwrap_or_else(|_| bail!("a look at it took more than {LOOK:?}"));
        match seen {
            Ok(value) => return Ok(value),
            Err(why) if start.elapsed() >= bound => {
                return Err(why).with_context(|| format!("not within {bound:?}: {what}; at last"));
            }
            Err(_) => sleep(POLL).await,
        }
    }
}

/// Looks every half second for the whole of `duration`, and once more at its end.
///
/// # Errors
///
/// As soon as `look` fails: it was to hold throughout.
pub async fn throughout(duration: Duration, what: &str, mut look: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    loop {
        look().await.with_context(|| format!("no longer after {:?}: {what}", start.elapsed()))?;
        if start.elapsed() >= duration {
            return Ok(());
        }
        sleep(Duration::from_millis(500)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_condition_that_comes_true_gives_its_value() -> Result<()> {
        let mut looks = 0;
        let value = within(Duration::from_secs(5), "three looks", async || {
            looks += 1;
            if looks < 3 { bail!("{looks} so far") } else { Ok(looks) }
        });
        assert_eq!(value.await?, 3);
        Ok(())
    }

    #[tokio::test]
    async fn one_that_never_does_says_what_was_seen_last() {
        let never = within(Duration::ZERO, "a miracle", async || -> Result<()> { bail!("nothing moved") });
        let error = never.await.err().map(|error| format!("{error:#}"));
        assert_eq!(error.as_deref(), Some("not within 0ns: a miracle; at last: nothing moved"));
    }
}
