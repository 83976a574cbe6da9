//! Writing columns in the schema language.

use std::fmt;

use crate::job::{DataType, Field};

/// Columns separated by commas, as [`parse_schema`](super::parse_schema) reads them.
pub fn show_schema(fields: &[Field]) -> String {
    fields.iter().map(Field::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", name(&self.name), self.data_type)?;
        if self.nullable { Ok(()) } else { f.write_str(" NOT NULL") }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("BOOLEAN"),
            Self::TinyInt => f.write_str("TINYINT"),
            Self::SmallInt => f.write_str("SMALLINT"),
            Self::Int => f.write_str("INT"),
            Self::BigInt => f.write_str("BIGINT"),
            Self::Float => f.write_str("FLOAT"),
            Self::Double => f.write_str("DOUBLE"),
            Self::Decimal { precision, scale } => write!(f, "DECIMAL({precision}, {scale})"),
            Self::String => f.write_str("STRING"),
            Self::Binary => f.write_str("BINARY"),
            Self::Date => f.write_str("DATE"),
            Self::Timestamp => f.write_str("TIMESTAMP"),
            Self::TimestampNtz => f.write_str("TIMESTAMP_NTZ"),
            Self::Array(element) => write!(f, "ARRAY<{}>", element.data_type),
            Self::Map { key, value } => write!(f, "MAP<{key}, {}>", value.data_type),
            Self::Struct(fields) => write!(f, "STRUCT<{}>", struct_fields(fields)),
        }
    }
}

fn struct_fields(fields: &[Field]) -> String {
    let one = |field: &Field| {
        let not_null = if field.nullable { "" } else { " NOT NULL" };
        format!("{}: {}{not_null}", name(&field.name), field.data_type)
    };
    fields.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A name, between back-quotes unless it is plain.
fn name(name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain { name.to_owned() } else { format!("`{}`", name.replace('`', "``")) }
}
