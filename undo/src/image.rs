//! Row images: exact values, the key that finds a row, and its global lock keys.

use thiserror::Error;

use crate::document::Document;
use crate::packed::Image;
use crate::table::Table;

/// One column's value, exact to the byte. Which variant a column uses follows from its [`crate::Kind`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// Exact text: decimals, dates, times and instants (UTC), floats as the shortest digits that round-trip, strings
    /// of charsets that are decoded to Unicode (utf8mb4, utf8mb3, ascii, latin1).
    Text(String),
    /// Integers, BIT, YEAR, and ENUM or SET by number where a text would be ambiguous.
    Int(i128),
    /// Binary values, and strings that are not decoded (bytes in the column's charset).
    Bytes(Vec<u8>),
    /// A document of MySQL's JSON that its text does not tell in full; one that it does is [`Value::Text`].
    Document(Document),
}

/// A row as read by [`Table::image_select_list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// One value a column of the table, in order.
    pub values: Image,
    /// What must be locked globally to write this row: the primary key first, then each further unique key of which no
    /// part is NULL.
    pub lock_keys: Vec<LockKey>,
}

impl Value {
    /// How many bytes it has besides those that every value takes.
    pub fn long_bytes(&self) -> usize {
        match self {
            Value::Null | Value::Int(_) => 0,
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Document(document) => {
                let types = document.types().iter().map(|(path, kind)| path.len() + kind.len());
                document.text().len() + types.sum::<usize>()
            }
        }
    }

    /// The value as an undo record shows it: null, a number, a string, or `{"hex": "…"}`.
    pub fn to_json(&self) -> serde_json::Value {
        crate::record::cell_json(self)
    }
}

impl Row {
    /// A row of these values.
    pub fn of(values: &[Value], lock_keys: Vec<LockKey>) -> Row {
        Row { values: Image::of(values), lock_keys }
    }

    /// The values of the key that identifies rows.
    pub fn key(&self, table: &Table) -> Key {
        let columns = table.keys.first().map(|key| key.columns.as_slice()).unwrap_or_default();
        Key(columns.iter().filter_map(|&column| self.values.get(column)).collect())
    }

    /// About how many bytes it takes, beside what one row takes in any case.
    pub fn long_bytes(&self) -> usize {
        self.values.packed_bytes() + self.lock_keys.iter().map(|key| key.0.len()).sum::<usize>()
    }
}

/// The values of `keys[0]` of a table: identifies a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub Vec<Value>);

/// The text of a global row lock within its table: `5`, `5,2020-01-01` or `index_name:…`. Equal wherever the server
/// would call the key values equal; at most [`LockKey::MAX_CHARS`] characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockKey(pub String);

impl LockKey {
    /// Longer texts are replaced by a hash.
    pub const MAX_CHARS: usize = 512;
}

/// A row that the server sent is not one that this table's select list gives: nothing may be written on its account.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImageError {
    /// Another number of columns.
    #[error("a row image has {got} columns, not {expected}")]
    Width {
        /// [`Table::image_width`].
        expected: usize,
        /// What came.
        got: usize,
    },
    /// NULL where the table has none.
    #[error("column `{column}` is NULL in a row image, which it cannot be")]
    UnexpectedNull {
        /// The column's name.
        column: String,
    },
    /// The column has a value, which the server does not give: what reads it is above the session's
    /// `max_allowed_packet`.
    #[error("the value of column `{column}` cannot be read within max_allowed_packet")]
    Lost {
        /// The column's name.
        column: String,
    },
    /// A value that is not of the column's kind.
    #[error("column `{column}` has the value {head:?} in a row image, which is no {column_type}")]
    BadValue {
        /// The column's name.
        column: String,
        /// Its type.
        column_type: String,
        /// The first bytes of the value.
        head: String,
    },
    /// It is not said whether the column is NULL.
    #[error("it is not told whether column `{column}` is NULL in a row image")]
    NoNulls {
        /// The column's name.
        column: String,
    },
    /// The weight of a collated key part is missing or malformed.
    #[error("the collation weight of column `{column}` is missing in a row image")]
    NoWeight {
        /// The column's name.
        column: String,
    },
}
