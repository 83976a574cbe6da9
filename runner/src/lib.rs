//! The runner: reads Kafka, runs SQL on Arrow and writes tables, exactly once.
//!
//! A row's way is one straight line, and [`pipeline`] names every stage of it:
//! `source → decode → plan → sink → commit`. Stages see the batch types of [`batch`] and never one another.

pub mod assemble;
pub mod batch;
pub mod cli;
pub mod commit;
pub mod control;
pub mod decode;
pub mod demo;
pub mod env;
pub mod epoch;
pub mod failpoint;
pub mod failure;
pub mod ids;
pub mod intake;
pub mod logtool;
pub mod output;
pub mod pipeline;
pub mod plan;
pub mod progress;
pub mod queries;
pub mod secrets;
pub mod sink;
pub mod source;
pub mod state;
pub mod storage;
pub mod telemetry;
pub mod watermark;
