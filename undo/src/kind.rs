//! What sort of value a column holds: decides how it is read, kept and written back.

use serde::{Deserialize, Serialize};

/// The sort of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// TINYINT to BIGINT, signed or not.
    Int,
    /// DECIMAL: exact digits.
    Decimal,
    /// FLOAT, read as the double it equals.
    Float,
    /// DOUBLE.
    Double,
    /// BIT(n), as an unsigned integer.
    Bit,
    /// YEAR, as an integer.
    Year,
    /// DATE.
    Date,
    /// TIME, from -838:59:59 to 838:59:59.
    Time,
    /// DATETIME: without a time zone.
    DateTime,
    /// TIMESTAMP: an instant, kept as UTC.
    Timestamp,
    /// CHAR: trailing pad spaces are no part of the value.
    Char,
    /// VARCHAR and the TEXT types.
    Text,
    /// ENUM.
    Enum,
    /// SET.
    Set,
    /// BINARY, VARBINARY and the BLOB types.
    Binary,
    /// MySQL's JSON, read with the types that its text does not tell. MariaDB's JSON is LONGTEXT, hence `Text`.
    Document,
    /// MySQL's JSON by its text alone, as records from before [`Kind::Document`] have it.
    Json,
    /// GEOMETRY and its subtypes, in the server's own format (SRID, then WKB).
    Geometry,
    /// VECTOR, as its bytes.
    Vector,
    /// MariaDB's INET4, INET6 and UUID: text in, text out.
    Other,
}

impl Kind {
    /// The kind of a column by `information_schema.COLUMNS.DATA_TYPE` and `COLUMN_TYPE`. `None` where this version
    /// cannot read and restore such a column exactly: a statement that writes the table must then be refused.
    pub fn from_data_type(data_type: &str, column_type: &str) -> Option<Kind> {
        let kind = match data_type.to_ascii_lowercase().as_str() {
            "tinyint" | "smallint" | "mediumint" | "int" | "integer" | "bigint" => Kind::Int,
            "decimal" | "numeric" | "fixed" => Kind::Decimal,
            "float" => Kind::Float,
            "double" | "real" => Kind::Double,
            "bit" => Kind::Bit,
            // YEAR(2) shows two digits: 2000 and the zero year look the same.
            "year" if column_type.to_ascii_lowercase().starts_with("year(2)") => return None,
            "year" => Kind::Year,
            "date" => Kind::Date,
            "time" => Kind::Time,
            "datetime" => Kind::DateTime,
            "timestamp" => Kind::Timestamp,
            "char" => Kind::Char,
            "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => Kind::Text,
            "enum" => Kind::Enum,
            "set" => Kind::Set,
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Kind::Binary,
            "json" => Kind::Document,
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
            | "multipolygon" | "geometrycollection" | "geomcollection" => Kind::Geometry,
            "vector" => Kind::Vector,
            "inet4" | "inet6" | "uuid" => Kind::Other,
            _ => return None,
        };
        Some(kind)
    }

    /// Whether values are characters in the column's charset.
    pub(crate) fn has_charset(self) -> bool {
        matches!(self, Kind::Char | Kind::Text | Kind::Enum | Kind::Set)
    }
}

/// Whether a column of the one kind could go by the name of another.
pub(crate) fn is_alike(one: Kind, other: Kind) -> bool {
    let text = |kind| matches!(kind, Kind::Char | Kind::Text);
    let document = |kind| matches!(kind, Kind::Document | Kind::Json);
    one == other || (text(one) && text(other)) || (document(one) && document(other))
}
