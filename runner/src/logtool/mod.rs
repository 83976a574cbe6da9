//! What `millrace log` does to a job's log: looking at it, and moving a job by hand.
//!
//! [`session`] is a command's hand on the log; [`describe`] and [`summary`] say what is there. What changes a job holds the
//! log first ([`hold`]), publishes what is decided ([`drain`]), and then rewinds, edits, skips or destroys.

pub mod describe;
pub mod session;
pub mod summary;

pub use session::{Reply, Session};
