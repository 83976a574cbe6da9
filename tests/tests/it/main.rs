//! The tests against real servers. One program, so that all of them share one broker and one store.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_input;
mod copy_job;
mod crash;
mod crd;
mod demo;
mod formats;
mod job;
mod kafka_changes;
mod kafka_source;
mod log_commands;
mod outages;
mod scenarios;
mod servers;
mod stores;
mod zombie;
