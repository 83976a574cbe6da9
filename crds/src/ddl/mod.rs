//! Spark's schema language: `id BIGINT, items ARRAY<STRUCT<name: STRING, price: DOUBLE>>, tags MAP<STRING, STRING>`.
//!
//! What Spark accepts is accepted, aliases, colons, `NOT NULL` and `COMMENT` included; what is written by
//! [`Display`](std::fmt::Display) reads back as the same columns.

mod display;
mod error;
mod parser;
mod types;

pub use display::show_schema;
pub use error::DdlError;
pub use parser::{parse_schema, parse_type};

#[cfg(test)]
mod tests;
