//! SQL: the manifest's views and queries, planned once and run on every batch.
