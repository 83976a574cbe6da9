//! StreamingJobs as a user writes them.

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::Result;
use crate::cluster::{KAFKA, MINIO, checkout};
use crate::space::TestNamespace;

/// A StreamingJob in the making.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest(Value);

impl Manifest {
    /// `examples/orders-to-lake.yaml` as it is, but for where the test's servers, topic and bucket are. It is called
    /// `orders-to-lake`, has the outputs `commandes` and `items`, and commits every 10 seconds.
    ///
    /// # Errors
    ///
    /// When the example has changed so much that this no longer fits.
    pub fn example(space: &TestNamespace) -> Result<Manifest> {
        let mut text = std::fs::read_to_string(checkout().join("examples/orders-to-lake.yaml"))?;
        let bucket = format!("s3://{}/", space.bucket());
        for (there, here) in [
            ("commandes-json", space.topic()),
            ("kafka:9092", KAFKA),
            ("http://minio:9000", MINIO),
            ("s3://lake/", bucket.as_str()),
        ] {
            ensure!(text.contains(there), "the example no longer says {there}");
            text = text.replace(there, here);
        }
        Ok(Manifest(serde_saphyr::from_str(&text).context("reading the example")?))
    }

    /// The example that commits every second and is called `orders`: what most tests want.
    ///
    /// # Errors
    ///
    /// As for [`Manifest::example`].
    pub fn orders(space: &TestNamespace) -> Result<Manifest> {
        Manifest::example(space)?.set("/metadata/name", "orders")?.set("/spec/trigger/interval", "1s")
    }

    /// The manifest with another value at a JSON pointer, of which all but the last part is there.
    ///
    /// # Errors
    ///
    /// When there is no such place.
    pub fn set(mut self, pointer: &str, value: impl Into<Value>) -> Result<Manifest> {
        let (parent, name) = pointer.rsplit_once('/').context("not a JSON pointer")?;
        let parent = self.0.pointer_mut(parent).with_context(|| format!("the manifest has no {parent}"))?;
        match parent {
            Value::Object(object) => object.insert(name.to_owned(), value.into()).map_or((), drop),
            Value::Array(items) => {
                let item = name.parse().ok().and_then(|index: usize| items.get_mut(index));
                *item.with_context(|| format!("the manifest has no {pointer}"))? = value.into();
            }
            _ => bail!("{parent} holds nothing"),
        }
        Ok(self)
    }

    /// The job under another name, with a checkpoint and tables of its own.
    ///
    /// # Errors
    ///
    /// When the manifest has no such fields.
    pub fn named(mut self, name: &str) -> Result<Manifest> {
        let old = self.name()?;
        for pointer in ["/spec/checkpoint/location", "/spec/outputs/0/parquet/path", "/spec/outputs/1/parquet/path"] {
            let path = self.0.pointer(pointer).and_then(Value::as_str).context("the manifest has no such path")?;
            let path = format!("{path}-{name}");
            self = self.set(pointer, path)?;
        }
        ensure!(old != name, "the job is called {name} already");
        self.set("/metadata/name", name)
    }

    /// The job's name.
    ///
    /// # Errors
    ///
    /// When it has none.
    pub fn name(&self) -> Result<String> {
        self.0["metadata"]["name"].as_str().map(str::to_owned).context("the manifest has no name")
    }

    /// It as the API server gets it.
    pub fn value(&self) -> &Value {
        &self.0
    }
}
