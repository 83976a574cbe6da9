//! Outputs and storage as they are written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DurationText, LocationText, LongText, ObjectName, QuantityText, SecretKey, ShortText, SqlName, SqlText};

/// A named query and where its results are written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.parquet) != has(self.console)",
    "message": "give exactly one of parquet, console",
}]))]
pub struct OutputSpec {
    /// The output's name, unique among the outputs: letters, digits and underscores.
    pub name: SqlName,
    /// The query over sources and views, in DataFusion's SQL.
    pub sql: SqlText,
    /// Which results are written: `append` (each once, when it is final), `update` (those that changed) or `complete` (all of
    /// them). Unset: `append`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_mode: Option<OutputModeSpec>,
    /// Write Parquet files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parquet: Option<ParquetSpec>,
    /// Print tables, for trying out. Written `console: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<ConsoleSpec>,
}

/// Which results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::spec::without_description)]
pub enum OutputModeSpec {
    /// Each result once, when it is final.
    Append,
    /// Results that changed.
    Update,
    /// The whole result.
    Complete,
}

/// Parquet files in a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParquetSpec {
    /// The table's folder, which nothing else writes to: `s3://bucket/folder`, or a path on a laptop.
    pub path: LocationText,
    /// Columns that become folders `column=value`, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub partition_by: Vec<ShortText>,
    /// `zstd`, `snappy`, `lz4` or `none`. Unset: `zstd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<CompressionSpec>,
    /// A file is closed once it holds about this many bytes: `128Mi`. Unset: `128Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_file_bytes: Option<QuantityText>,
    /// A file is closed once it has been open this long, also within an epoch. Unset: with the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_file_age: Option<DurationText>,
    /// How many files a runner has open at once; beyond it the least recently used one is closed. Unset: 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_open_files: Option<u32>,
}

/// Compression of Parquet column data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::spec::without_description)]
pub enum CompressionSpec {
    /// Zstandard.
    Zstd,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// None.
    None,
}

/// Tables on standard output.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsoleSpec {
    /// At most this many rows of an epoch are shown. Unset: 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub rows: Option<u32>,
    /// Cells are cut to this many characters; 0 shows them whole. Unset: 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub truncate: Option<u32>,
}

/// How object stores are reached.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageSpec {
    /// Settings for `s3://` locations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Spec>,
}

/// Settings for `s3://` locations.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3Spec {
    /// URL of the service, for MinIO and the like: `http://minio:9000`. Unset: AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<LongText>,
    /// Region to sign for. Unset: the environment's, else `us-east-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<ShortText>,
    /// Secret with the access keys. Unset: workload identity in a cluster, the `AWS_*` variables on a laptop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<CredentialsSecretSpec>,
    /// Secret with a PEM certificate authority to trust in addition to the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<CaSecretSpec>,
    /// Whether the bucket goes into the path instead of the host name. Unset: true with an endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_path_style: Option<bool>,
}

/// A Secret with access keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsSecretSpec {
    /// Name of the Secret.
    pub name: ObjectName,
    /// Key of the access key id in it. Unset: `AWS_ACCESS_KEY_ID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id_key: Option<SecretKey>,
    /// Key of the secret access key in it. Unset: `AWS_SECRET_ACCESS_KEY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key_key: Option<SecretKey>,
    /// Key of the session token of temporary credentials in it. Unset: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token_key: Option<SecretKey>,
}

/// A Secret with a certificate authority.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaSecretSpec {
    /// Name of the Secret.
    pub name: ObjectName,
    /// Key of the PEM certificate in it. Unset: `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretKey>,
}
