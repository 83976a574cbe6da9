//! The tests against real servers. One program, so that all of them share one broker and one store.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_input;
mod formats;
mod job;
mod scenarios;
mod servers;
