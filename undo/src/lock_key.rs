//! The texts of global row locks. Two key values that the server calls equal must give the same text; that two
//! different values give the same text is harmless (they are locked together).

use crate::charset;
use crate::image::{ImageError, LockKey, Value};
use crate::kind::Kind;
use crate::table::{Column, Table, UniqueKey};

/// Bytes of a collation weight's hash that are kept.
const WEIGHT_BYTES: usize = 16;

impl Column {
    /// Whether equality of this column's strings is decided by a collation that this crate cannot evaluate itself, so
    /// that the server's weight must be read. ENUM and SET are compared by number: their text is canonical.
    pub(crate) fn needs_weight(&self) -> bool {
        if !matches!(self.kind, Kind::Char | Kind::Text) {
            return false;
        }
        let binary = self.collation.as_deref().is_some_and(|c| c.ends_with("_bin") || c == "binary");
        let decodable = self.charset.as_deref().is_some_and(|c| charset::decodable(c).is_some());
        !(binary && decodable)
    }

    /// The expression of a key part's weight. The weight is taken over the declared (or indexed) length, so that it is
    /// padded as PAD SPACE collations pad when they compare, on every level; then trailing weights of a space are cut,
    /// since characters without weight count for the length on some servers.
    pub(crate) fn weight_expression(&self, qualified: &str, prefix: Option<u32>) -> String {
        let length = prefix.or_else(|| declared_length(&self.column_type));
        // MariaDB 11.8 leaves the second level out where the text is longer than what is weighed
        let qualified = match prefix {
            Some(length) => &format!("LEFT({qualified},{length})"),
            None => qualified,
        };
        let weight = match length {
            Some(length) => format!("WEIGHT_STRING({qualified} AS CHAR({length}))"),
            None => format!("WEIGHT_STRING({qualified})"),
        };
        // The digits come in the charset of the connection, in which UNHEX would not know them
        let hashed = |weight: &str| format!("UNHEX(CONVERT(SHA2({weight},256) USING ascii))");
        match (self.charset.as_deref(), self.collation.as_deref()) {
            (Some(charset), Some(collation))
                if charset::is_charset_name(charset) && charset::is_charset_name(collation) =>
            {
                let space = hex::encode(charset::space(charset));
                hashed(&format!(
                    "TRIM(TRAILING WEIGHT_STRING(_{charset} 0x{space} COLLATE {collation}) FROM {weight})"
                ))
            }
            _ => hashed(&weight),
        }
    }
}

/// `50` of `varchar(50)`.
fn declared_length(column_type: &str) -> Option<u32> {
    let inner = column_type.split_once('(')?.1.split_once(')')?.0;
    inner.trim().parse().ok().filter(|n| *n > 0)
}

/// The lock keys of a row; `weights` yields the weight cells in the order of the select list.
pub(crate) fn lock_keys<'a>(
    table: &Table,
    values: &[Value],
    mut weights: impl Iterator<Item = Option<&'a [u8]>>,
) -> Result<Vec<LockKey>, ImageError> {
    let mut found = Vec::with_capacity(table.keys.len());
    for (at, key) in table.keys.iter().enumerate() {
        let mut parts = Vec::with_capacity(key.columns.len());
        let mut null = false;
        for (part, &index) in key.columns.iter().enumerate() {
            let (Some(column), Some(value)) = (table.columns.get(index), values.get(index)) else {
                return Err(ImageError::Width { expected: table.columns.len(), got: index });
            };
            let weight = if column.needs_weight() { Some(weights.next().flatten()) } else { None };
            if *value == Value::Null {
                null = true;
                continue;
            }
            parts.push(match weight {
                Some(Some(weight)) if weight.len() >= WEIGHT_BYTES => {
                    format!("~{}", hex::encode(&weight[..WEIGHT_BYTES]))
                }
                Some(_) => return Err(ImageError::NoWeight { column: column.name.clone() }),
                None => part_text(column, value, key.prefix(part)),
            });
        }
        match (at, null) {
            (0, true) => {
                return Err(ImageError::UnexpectedNull { column: key_names(table, key) });
            }
            (0, false) => found.push(bounded(parts.join(","))),
            (_, true) => {}
            (_, false) => found.push(bounded(format!("{}:{}", key.name, parts.join(",")))),
        }
    }
    Ok(found)
}

fn key_names(table: &Table, key: &UniqueKey) -> String {
    let names: Vec<&str> =
        key.columns.iter().filter_map(|&c| table.columns.get(c)).map(|c| c.name.as_str()).collect();
    names.join(",")
}

/// A key part whose equality is that of its (trimmed) text.
fn part_text(column: &Column, value: &Value, prefix: Option<u32>) -> String {
    let prefix = prefix.and_then(|p| usize::try_from(p).ok());
    match value {
        Value::Null => String::new(),
        Value::Int(n) => n.to_string(),
        Value::Document(document) => printable(document.text()),
        Value::Text(text) => match column.kind {
            Kind::Float | Kind::Double if text == "-0" => "0".to_owned(),
            Kind::Char | Kind::Text => {
                let cut: String = match prefix {
                    Some(n) => text.chars().take(n).collect(),
                    None => text.clone(),
                };
                // Binary collations pad with spaces too, all but the newest.
                printable(cut.trim_end_matches(' '))
            }
            _ => printable(text),
        },
        Value::Bytes(bytes) => {
            let cut = match prefix {
                Some(n) => bytes.get(..n).unwrap_or(bytes),
                None => bytes,
            };
            let cut = match column.charset.as_deref().filter(|_| column.kind.has_charset()) {
                Some(charset) => charset::strip_pad(charset, cut),
                None => cut,
            };
            format!("x{}", hex::encode(cut))
        }
    }
}

/// The text without control characters, which would garble an operator's terminal.
fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| if c.is_control() { c.escape_unicode().to_string() } else { c.to_string() })
        .collect()
}

/// FNV-1a: collisions merely lock two keys together.
fn fnv128(bytes: &[u8]) -> u128 {
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in bytes {
        hash ^= u128::from(*byte);
        hash = hash.wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013B);
    }
    hash
}

fn bounded(text: String) -> LockKey {
    // The empty text, and the SET of nothing, are values as well, but no key of the lock table
    if text.is_empty() {
        return LockKey("''".to_owned());
    }
    if text.len() <= LockKey::MAX_CHARS || text.chars().count() <= LockKey::MAX_CHARS {
        return LockKey(text);
    }
    let head: String = text.chars().take(64).collect();
    LockKey(format!("{head}…#{:032x}", fnv128(text.as_bytes())))
}
