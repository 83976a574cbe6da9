//! The StreamingJob resource: its types, its validation, and the contract between operator and runner.
//!
//! No client and no runtime: the operator, the runner and the command line share it.

pub mod contract;
mod crd;
pub mod ddl;
mod job;
pub mod manifest;
pub mod quantity;
mod reference;
pub mod spec;
mod suggest;
mod validate;

pub use crd::{crd, crd_yaml};
pub use job::*;
pub use reference::reference_markdown;
pub use validate::SpecError;
