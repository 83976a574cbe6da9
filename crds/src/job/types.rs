//! Columns and their types, as Spark's schema language writes them.

/// A column, or a field of a struct.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// The name, as written (without quotes).
    pub name: String,
    /// The type.
    pub data_type: DataType,
    /// Whether the value may be missing.
    pub nullable: bool,
}

/// The type of a column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DataType {
    /// True or false.
    Boolean,
    /// Signed 8-bit integer.
    TinyInt,
    /// Signed 16-bit integer.
    SmallInt,
    /// Signed 32-bit integer.
    Int,
    /// Signed 64-bit integer.
    BigInt,
    /// 32-bit floating point.
    Float,
    /// 64-bit floating point.
    Double,
    /// Fixed point.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: i8,
    },
    /// UTF-8 text.
    String,
    /// Bytes (in JSON: base64).
    Binary,
    /// A day.
    Date,
    /// An instant, in microseconds UTC.
    Timestamp,
    /// A date and time of day without a zone, in microseconds.
    TimestampNtz,
    /// A list; the field is its element (named `element`).
    Array(Box<Field>),
    /// A map.
    Map {
        /// Type of the keys, never null.
        key: Box<DataType>,
        /// The value (named `value`).
        value: Box<Field>,
    },
    /// A struct.
    Struct(Vec<Field>),
}
