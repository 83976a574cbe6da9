//! What `millrace log` does with a job's log.
//!
//! [`session`] is a command's hand on the log; [`describe`] and [`summary`] say what is there.

pub mod describe;
pub mod session;
pub mod summary;

pub use session::{Reply, Session};
