//! StreamingJobs as a user would write them.

use serde_json::{Value, json};

/// The manifest of a job.
#[derive(Debug, Clone)]
pub struct Manifest(pub Value);

impl Manifest {
    /// A job that reads orders and runs for ever, with one runner.
    pub fn new(name: &str) -> Self {
        Self(json!({
            "apiVersion": "millrace.dev/v1alpha1",
            "kind": "StreamingJob",
            "metadata": { "name": name },
            "spec": {
                "sources": [{
                    "name": "orders",
                    "kafka": { "bootstrapServers": "kafka:9092", "topics": ["orders"] },
                    "format": { "json": { "schema": "id BIGINT" } },
                }],
                "outputs": [{ "name": "lake", "sql": "SELECT id FROM orders", "parquet": { "path": "s3://lake/orders" } }],
                "checkpoint": { "location": format!("s3://lake/_checkpoints/{name}") },
            },
        }))
    }

    /// The same with another field in its spec, or in its metadata's annotations.
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0["spec"][field] = value.into();
        self
    }

    /// The same, reading what there is and then done.
    pub fn bounded(self) -> Self {
        self.with("trigger", json!({ "availableNow": {} }))
    }

    /// The same with so many runners.
    pub fn parallelism(self, runners: u32) -> Self {
        self.with("parallelism", runners)
    }

    /// The same with a query that tells its revisions apart.
    pub fn query(mut self, sql: &str) -> Self {
        self.0["spec"]["outputs"][0]["sql"] = sql.into();
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap()
    }
}
