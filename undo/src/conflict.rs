//! The report of a branch that cannot be rolled back: what `WorkResult.detail` holds for CONFLICT and STUCK.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::image::Value;
use crate::record::RowChange;
use crate::record::cell_json;
use crate::table::Table;

/// Why a branch stopped, and the rows that an outsider changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictReport {
    /// One sentence.
    pub reason: String,
    /// The rows, at most [`ConflictReport::MAX_ROWS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<ConflictRow>,
    /// How many more rows there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_rows: u64,
}

/// One row that is neither as the branch left it nor as it was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictRow {
    /// The table's schema.
    pub schema: String,
    /// The table's name.
    pub table: String,
    /// The row's key, column name to value.
    pub key: Map<String, Json>,
    /// The columns in which the current row differs from the branch's after image; empty where the row is there or
    /// gone against expectation.
    pub columns: Vec<String>,
    /// The row before the branch; `None`: there was none.
    pub before: Option<Map<String, Json>>,
    /// The row as the branch left it; `None`: it had deleted it.
    pub after: Option<Map<String, Json>>,
    /// The row now; `None`: it is gone.
    pub current: Option<Map<String, Json>>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl ConflictReport {
    /// The most rows that a report names.
    pub const MAX_ROWS: usize = 20;
    /// Values longer than this, in bytes of text, are cut, with a note.
    pub const MAX_VALUE_BYTES: usize = 1024;

    /// A report without rows.
    pub fn new(reason: impl Into<String>) -> Self {
        ConflictReport { reason: reason.into(), ..ConflictReport::default() }
    }

    /// Adds a row that was judged [`crate::Verdict::Conflict`] with these columns. Beyond
    /// [`ConflictReport::MAX_ROWS`] it is only counted.
    pub fn add(&mut self, table: &Table, change: &RowChange, current: Option<&[Value]>, columns: &[usize]) {
        if self.rows.len() >= Self::MAX_ROWS {
            self.more_rows = self.more_rows.saturating_add(1);
            return;
        }
        let key_columns = table.keys.first().map(|k| k.columns.as_slice()).unwrap_or_default();
        let image = change.before.as_deref().or(change.after.as_deref()).unwrap_or_default();
        self.rows.push(ConflictRow {
            schema: table.schema.clone(),
            table: table.name.clone(),
            key: key_columns.iter().filter_map(|&c| named(table, image, c)).collect(),
            columns: columns.iter().filter_map(|&c| Some(table.columns.get(c)?.name.clone())).collect(),
            before: change.before.as_deref().map(|values| object(table, values)),
            after: change.after.as_deref().map(|values| object(table, values)),
            current: current.map(|values| object(table, values)),
        });
    }

    /// The JSON text that the coordinator keeps as the branch's detail.
    pub fn to_json(&self) -> String {
        // Strings and numbers only: this cannot fail; the reason alone would still be told.
        serde_json::to_string(self).unwrap_or_else(|_| self.reason.clone())
    }
}

fn named(table: &Table, values: &[Value], index: usize) -> Option<(String, Json)> {
    Some((table.columns.get(index)?.name.clone(), cut(values.get(index)?)))
}

fn object(table: &Table, values: &[Value]) -> Map<String, Json> {
    (0..table.columns.len()).filter_map(|c| named(table, values, c)).collect()
}

/// The value as in an undo record, cut to a bounded length.
fn cut(value: &Value) -> Json {
    let max = ConflictReport::MAX_VALUE_BYTES;
    match value {
        Value::Text(text) if text.len() > max => {
            let mut end = max;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            Json::String(format!("{}… (cut: {} bytes)", &text[..end], text.len()))
        }
        Value::Bytes(bytes) if bytes.len() > max / 2 => {
            let mut object = Map::new();
            object.insert("hex".to_owned(), Json::String(hex::encode(&bytes[..max / 2])));
            object.insert("cut_bytes".to_owned(), Json::from(bytes.len()));
            Json::Object(object)
        }
        Value::Document(document) if document.text().len() > max => {
            cut(&Value::Text(document.text().to_owned()))
        }
        other => cell_json(other),
    }
}
