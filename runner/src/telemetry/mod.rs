//! What a runner shows of itself: log lines, metrics, status, health.

pub mod http;
pub mod logging;
pub mod metrics;
