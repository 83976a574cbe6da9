//! The StreamingJob resource: its types, its validation, and the contract between operator and runner.
//!
//! No client and no runtime: the operator, the runner and the command line share it.

pub mod contract;
mod job;

pub use job::*;
