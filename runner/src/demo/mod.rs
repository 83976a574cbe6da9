//! The pieces of `millrace demo`: an in-process Kafka, generated orders, and the proof over the tables they became.

pub mod kafka;
pub mod orders;
pub mod proof;
