//! Names of simple types: Spark's, their aliases, and what people coming from elsewhere write.

use crate::job::DataType;

/// What a type's name stands for.
pub(super) enum Named {
    /// A type without arguments.
    Simple(DataType),
    /// Text that may have a length, which is not enforced.
    Text,
    /// Fixed point, with optional precision and scale.
    Decimal,
    /// `ARRAY<…>`.
    Array,
    /// `MAP<…, …>`.
    Map,
    /// `STRUCT<…>`.
    Struct,
}

/// Every name that is understood, for suggestions.
pub(super) const NAMES: [&str; 27] = [
    "BOOLEAN",
    "TINYINT",
    "BYTE",
    "SMALLINT",
    "SHORT",
    "INT",
    "INTEGER",
    "BIGINT",
    "LONG",
    "FLOAT",
    "REAL",
    "DOUBLE",
    "DATE",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
    "TIMESTAMP_NTZ",
    "STRING",
    "CHAR",
    "CHARACTER",
    "VARCHAR",
    "BINARY",
    "DECIMAL",
    "DEC",
    "NUMERIC",
    "ARRAY",
    "MAP",
    "STRUCT",
];

/// Looks a name up, in any case.
pub(super) fn lookup(name: &str) -> Option<Named> {
    Some(match name.to_ascii_uppercase().as_str() {
        "BOOLEAN" => Named::Simple(DataType::Boolean),
        "TINYINT" | "BYTE" => Named::Simple(DataType::TinyInt),
        "SMALLINT" | "SHORT" => Named::Simple(DataType::SmallInt),
        "INT" | "INTEGER" => Named::Simple(DataType::Int),
        "BIGINT" | "LONG" => Named::Simple(DataType::BigInt),
        "FLOAT" | "REAL" => Named::Simple(DataType::Float),
        "DOUBLE" => Named::Simple(DataType::Double),
        "DATE" => Named::Simple(DataType::Date),
        "TIMESTAMP" | "TIMESTAMP_LTZ" => Named::Simple(DataType::Timestamp),
        "TIMESTAMP_NTZ" => Named::Simple(DataType::TimestampNtz),
        "BINARY" => Named::Simple(DataType::Binary),
        "STRING" | "CHAR" | "CHARACTER" | "VARCHAR" => Named::Text,
        "DECIMAL" | "DEC" | "NUMERIC" => Named::Decimal,
        "ARRAY" => Named::Array,
        "MAP" => Named::Map,
        "STRUCT" => Named::Struct,
        _ => return None,
    })
}

/// What to write instead of a name that is not understood.
pub(super) fn instead(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    let elsewhere = match upper.as_str() {
        "TEXT" | "UTF8" | "STR" | "NVARCHAR" | "UUID" => Some("STRING"),
        "BOOL" => Some("BOOLEAN"),
        "INT8" => Some("TINYINT"),
        "INT16" => Some("SMALLINT"),
        "INT32" => Some("INT"),
        "INT64" | "UINT32" | "BIGINTEGER" => Some("BIGINT"),
        "FLOAT4" | "FLOAT32" => Some("FLOAT"),
        "FLOAT8" | "FLOAT64" | "NUMBER" => Some("DOUBLE"),
        "UINT64" | "BIGDECIMAL" => Some("DECIMAL(20, 0)"),
        "DATETIME" | "TIMESTAMPTZ" => Some("TIMESTAMP"),
        "BYTES" | "BLOB" | "BYTEA" | "VARBINARY" => Some("BINARY"),
        "LIST" => Some("ARRAY<…>"),
        "OBJECT" | "ROW" | "RECORD" => Some("STRUCT<…>"),
        "DICT" => Some("MAP<STRING, …>"),
        "JSON" | "VARIANT" => Some("STRUCT<…>, or STRING and take it apart in SQL"),
        "TIME" | "INTERVAL" | "VOID" => return "no such type can be read; STRING keeps the text".to_owned(),
        _ => None,
    };
    if let Some(elsewhere) = elsewhere {
        return format!("write {elsewhere}");
    }
    match crate::suggest::nearest(&upper, NAMES) {
        Some(name) => format!("did you mean {name}?"),
        None => {
            "known are BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p, s), STRING, BINARY, DATE, \
                 TIMESTAMP, TIMESTAMP_NTZ, ARRAY<…>, MAP<…, …>, STRUCT<…>"
                .to_owned()
        }
    }
}
