//! Rows that a trigger adds to a table.

use crate::types::{Insert, InsertValue, OnConflict};

/// `INSERT INTO log …` of a trigger, which meets no other rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriggerInsert {
    /// The schema, where it is named; else it is the trigger's own.
    pub schema: Option<String>,
    /// The table's name.
    pub table: String,
    /// The columns that it names, where it does.
    columns: Option<Vec<String>>,
    /// What it gives to each of these columns, or to the table's visible columns in their order.
    given: Vec<Given>,
}

/// What a column of a row that is inserted is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Given {
    /// Nothing, or NULL.
    Nothing,
    /// DEFAULT.
    Default,
    /// A value.
    Value,
}

impl TriggerInsert {
    pub(super) fn new(insert: &Insert) -> Option<TriggerInsert> {
        let meets_others = insert.on_conflict != OnConflict::Fail || insert.ignore;
        if meets_others || insert.query.is_some() || insert.returning || insert.has_side_effects {
            return None;
        }
        let width = insert.rows.first().map_or(0, Vec::len);
        let mut given = vec![Given::Nothing; width];
        for row in &insert.rows {
            for (given, value) in given.iter_mut().zip(row) {
                *given = (*given).max(match value {
                    InsertValue::Null => Given::Nothing,
                    InsertValue::Default => Given::Default,
                    _ => Given::Value,
                });
            }
        }
        Some(TriggerInsert {
            schema: insert.table.schema.clone(),
            table: insert.table.name.clone(),
            columns: insert.columns.clone(),
            given,
        })
    }

    /// What it gives at most to the column of this name, which is at this place among the table's visible ones; `None` there
    /// for an invisible column.
    pub fn gives(&self, column: &str, place: Option<usize>) -> Given {
        let at = match &self.columns {
            Some(columns) if columns.is_empty() && !self.given.is_empty() => return Given::Value,
            Some(columns) => columns.iter().position(|named| named.to_lowercase() == column.to_lowercase()),
            None => place,
        };
        match at {
            // `VALUES ()`
            _ if self.given.is_empty() => Given::Nothing,
            Some(at) => self.given.get(at).copied().unwrap_or(Given::Value),
            None => Given::Nothing,
        }
    }
}
