//! What librdkafka tells in passing: log lines, and how the connections are.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

/// A log line that differs from an earlier one by numbers only is shown again after this time at the earliest.
const REPEAT_AFTER: Duration = Duration::from_secs(30);
/// How many different log lines are remembered; beyond that all are forgotten and shown anew.
const REMEMBERED_LINES: usize = 64;
/// Brokers that refuse us also count as down: what was refused this long before is still why.
const SAME_TROUBLE: Duration = Duration::from_secs(10);

/// The facility of the log line that an error becomes when no callback takes it.
const PARTITION_ERROR: &str = "ERROR";

/// The facility of log lines about connections that failed.
const CONNECTION_FAILED: &str = "FAIL";

/// Why the brokers cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// They refuse us: credentials, certificates.
    Denied(String),
    /// They are not there.
    Unreachable(String),
}

/// The context of one source's librdkafka clients, called by whichever thread serves their events.
pub(super) struct Context {
    source: String,
    health: Mutex<Health>,
    logged: Mutex<HashMap<String, Instant>>,
    /// Something was said about a partition, outside the flow of messages.
    suspicion: AtomicBool,
}

#[derive(Default)]
struct Health {
    /// Since when every broker has been down or refused us without one answer in between.
    since: Option<Instant>,
    denied: Option<(Instant, String)>,
    down: Option<(Instant, String)>,
}

impl Context {
    pub(super) fn new(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            health: Mutex::default(),
            logged: Mutex::default(),
            suspicion: AtomicBool::new(false),
        }
    }

    /// A broker answered a question: whatever was wrong is over. Messages are no such sign, for they may have waited in a
    /// queue since before; and librdkafka says only once that all brokers are down.
    pub(super) fn recovered(&self) {
        *lock(&self.health) = Health::default();
    }

    /// What is wrong, if it has been for at least `lasting`.
    pub(super) fn trouble(&self, lasting: Duration) -> Option<Trouble> {
        let health = lock(&self.health);
        if health.since?.elapsed() < lasting {
            return None;
        }
        match (&health.denied, &health.down) {
            (Some((denied, _)), Some((down, reason))) if *down > *denied + SAME_TROUBLE => {
                Some(Trouble::Unreachable(reason.clone()))
            }
            (Some((_, reason)), _) => Some(Trouble::Denied(reason.clone())),
            (None, Some((_, reason))) => Some(Trouble::Unreachable(reason.clone())),
            (None, None) => None,
        }
    }

    /// What librdkafka said last about a connection, whether or not other brokers are fine.
    pub(super) fn last_words(&self) -> Option<String> {
        lock(&self.health).down.as_ref().map(|(_, reason)| reason.clone())
    }

    /// Whether, since the last call, librdkafka complained of a partition in a log line only. That is how it tells a batch
    /// reader that metadata no longer have a topic or a partition, or that there is no right on it.
    pub(super) fn take_suspicion(&self) -> bool {
        self.suspicion.swap(false, Ordering::Relaxed)
    }

    fn note(&self, code: RDKafkaErrorCode, reason: &str) {
        // librdkafka ends with how long it took and how often: other words each time for the same trouble.
        let reason = reason.split(" (after ").next().unwrap_or(reason);
        let now = Instant::now();
        let mut health = lock(&self.health);
        match code {
            RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SSL
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed => {
                health.since.get_or_insert(now);
                health.denied = Some((now, reason.to_owned()));
            }
            RDKafkaErrorCode::AllBrokersDown => {
                health.since.get_or_insert(now);
                // The line of a single broker says why; "2/2 brokers are down" does not.
                let words = health.down.take().map_or_else(|| reason.to_owned(), |(_, words)| words);
                health.down = Some((now, words));
            }
            RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::OperationTimedOut => {
                health.down = Some((now, reason.to_owned()));
            }
            _ => {}
        }
    }

    /// Whether a line like this was logged lately.
    fn is_repeated(&self, facility: &str, message: &str) -> bool {
        let key: String = facility.chars().chain(message.chars().filter(|c| !c.is_ascii_digit())).take(160).collect();
        let now = Instant::now();
        let mut logged = lock(&self.logged);
        if logged.get(&key).is_some_and(|last| now.duration_since(*last) < REPEAT_AFTER) {
            return true;
        }
        if logged.len() >= REMEMBERED_LINES {
            logged.clear();
        }
        logged.insert(key, now);
        false
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let source = self.source.as_str();
        if facility == PARTITION_ERROR {
            self.suspicion.store(true, Ordering::Relaxed);
        }
        match level {
            // What fails for good is returned as an error by the source; what librdkafka retries by itself is a warning.
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning
                if !is_first_contact(facility, message) && !self.is_repeated(facility, message) =>
            {
                tracing::warn!(source, facility, "librdkafka: {message}");
            }
            _ => tracing::debug!(source, facility, "librdkafka: {message}"),
        }
    }

    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(source = self.source.as_str(), "librdkafka: {error}: {reason}");
        if let Some(code) = error.rdkafka_error_code() {
            self.note(code, reason);
        }
    }
}

impl ConsumerContext for Context {}

/// Whether the line is about reaching a bootstrap server: that no broker can be reached is an error of the source, which
/// says so with the same words.
fn is_first_contact(facility: &str, message: &str) -> bool {
    facility == CONNECTION_FAILED && message.contains("/bootstrap")
}

/// A panic of another thread while it held the lock leaves nothing half-done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_that_refuse_us_are_denial_although_they_then_count_as_down() {
        let context = Context::new("orders");
        context.note(RDKafkaErrorCode::Authentication, "wrong password");
        context.note(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        assert_eq!(context.trouble(Duration::ZERO), Some(Trouble::Denied("wrong password".into())));
        assert_eq!(context.trouble(Duration::from_secs(60)), None);
        context.recovered();
        assert_eq!(context.trouble(Duration::ZERO), None);
    }

    #[test]
    fn one_lost_broker_of_several_is_no_trouble_but_its_words_explain_when_all_are_down() {
        let context = Context::new("orders");
        context.note(RDKafkaErrorCode::BrokerTransportFailure, "connection refused");
        assert_eq!(context.trouble(Duration::ZERO), None);
        assert_eq!(context.last_words().as_deref(), Some("connection refused"));
        context.note(RDKafkaErrorCode::AllBrokersDown, "2/2 brokers are down");
        assert_eq!(context.trouble(Duration::ZERO), Some(Trouble::Unreachable("connection refused".into())));
    }

    #[test]
    fn the_same_trouble_has_the_same_words_however_long_it_takes() {
        let context = Context::new("orders");
        let words = |times: &str| {
            let reason = format!("b:1/bootstrap: Connect failed: Connection refused (after {times})");
            context.note(RDKafkaErrorCode::BrokerTransportFailure, &reason);
            context.last_words()
        };
        let first = words("0ms in state CONNECT");
        assert_eq!(first.as_deref(), Some("b:1/bootstrap: Connect failed: Connection refused"));
        assert_eq!(first, words("3ms in state CONNECT, 7 identical error(s) suppressed"));
        assert!(is_first_contact("FAIL", "[thrd:b:1/bootstrap]: b:1/bootstrap: Connect failed"));
        assert!(!is_first_contact("FAIL", "[thrd:b:1/1]: b:1/1: Disconnected"));
    }

    #[test]
    fn log_lines_that_differ_by_numbers_only_are_repetitions() {
        let context = Context::new("orders");
        assert!(!context.is_repeated("FAIL", "connect failed (after 12ms)"));
        assert!(context.is_repeated("FAIL", "connect failed (after 345ms)"));
        assert!(!context.is_repeated("FAIL", "disconnected"));
        for i in 0..10 * REMEMBERED_LINES {
            let other: String = format!("{i}").chars().map(|c| (c as u8 + 17) as char).collect();
            assert!(!context.is_repeated("X", &other));
        }
        assert!(lock(&context.logged).len() <= REMEMBERED_LINES);
    }
}
