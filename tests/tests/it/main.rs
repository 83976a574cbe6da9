//! The tests against real servers. One program, so that all of them share one broker and one store.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crash;
mod job;
mod outages;
mod scenarios;
mod servers;
mod zombie;
