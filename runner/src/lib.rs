//! The runner: reads Kafka, runs SQL on Arrow and writes tables, exactly once.
//!
//! A row's way is one straight line, and `pipeline` names every stage of it:
//! `source → decode → plan → sink → commit`. Stages see the batch types of [`batch`] and never one another.

pub mod batch;
pub mod decode;
pub mod ids;
pub mod plan;
pub mod secrets;
pub mod sink;
pub mod source;
