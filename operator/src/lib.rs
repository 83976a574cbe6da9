//! The operator: it brings StreamingJobs about as runner pods, and says how they are.
//!
//! One reconcile is one way through: [`dereference`] (reads) → [`validate`] (pure) → [`decide`] and [`build`] (pure) →
//! [`apply`] (writes) → [`status`] (pure). It can be cut off between any two steps and begun again.

pub mod apply;
mod args;
pub mod build;
mod client;
pub mod context;
pub mod controller;
pub mod decide;
pub mod dereference;
pub mod facts;
pub mod failure;
mod http;
pub mod lease;
mod logging;
pub mod metrics;
mod poll;
mod queue;
mod run;
pub mod status;
mod task;
pub mod validate;

pub use run::main;
