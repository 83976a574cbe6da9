//! What `millrace log` does with a job's log.
//!
//! [`session`] is a command's hand on the log; [`describe`] and [`summary`] say what is there. What moves a job holds the
//! log first ([`hold`]) and publishes what is decided ([`drain`]); then it rewinds, edits, skips or destroys.
//! [`start_from`] is the rewind that a spec asks for.

pub mod describe;
pub mod destroy;
pub mod drain;
pub mod edit;
pub mod files;
pub mod hold;
pub mod rewind;
pub mod session;
pub mod skip;
pub mod start_from;
pub mod summary;
#[cfg(test)]
mod tests;

pub use session::{Reply, Session};
