//! The operator's program against a real API server. One program, so that all tests share one server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod edits;
mod failures;
// The figures use the rest of it.
#[allow(dead_code)]
mod harness;
mod kstatus;
mod lifecycle;
mod operators;
mod rights;
