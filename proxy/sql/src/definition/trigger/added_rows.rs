//! Rows that a trigger inserts into a table.

use crate::types::{Insert, InsertValue, OnConflict};

/// `INSERT INTO log …` of a trigger, without conflict handling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriggerInsert {
    /// The schema; `None` for the trigger's own.
    pub schema: Option<String>,
    /// The table's name.
    pub table: String,
    /// The column list, if there is one.
    columns: Option<Vec<String>>,
    /// The inputs of these columns, or of the table's visible columns in their order.
    inputs: Vec<ColumnInput>,
}

/// What an INSERT gives a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ColumnInput {
    /// Nothing, or NULL.
    Nothing,
    /// DEFAULT.
    Default,
    /// A value.
    Value,
}

impl TriggerInsert {
    pub(super) fn new(insert: &Insert) -> Option<TriggerInsert> {
        let handles_conflicts = insert.on_conflict != OnConflict::Fail || insert.ignore;
        if handles_conflicts || insert.query.is_some() || insert.returning || insert.has_side_effects {
            return None;
        }
        let width = insert.rows.first().map_or(0, Vec::len);
        let mut inputs = vec![ColumnInput::Nothing; width];
        for row in &insert.rows {
            for (input, value) in inputs.iter_mut().zip(row) {
                *input = (*input).max(match value {
                    InsertValue::Null => ColumnInput::Nothing,
                    InsertValue::Default => ColumnInput::Default,
                    _ => ColumnInput::Value,
                });
            }
        }
        Some(TriggerInsert {
            schema: insert.table.schema.clone(),
            table: insert.table.name.clone(),
            columns: insert.columns.clone(),
            inputs,
        })
    }

    /// The most that it gives the column of this name. `place` is the column's place among the visible ones; `None` for
    /// an invisible column.
    pub fn input_of(&self, column: &str, place: Option<usize>) -> ColumnInput {
        let at = match &self.columns {
            Some(columns) if columns.is_empty() && !self.inputs.is_empty() => return ColumnInput::Value,
            Some(columns) => columns.iter().position(|named| named.to_lowercase() == column.to_lowercase()),
            None => place,
        };
        match at {
            // `VALUES ()`
            _ if self.inputs.is_empty() => ColumnInput::Nothing,
            Some(at) => self.inputs.get(at).copied().unwrap_or(ColumnInput::Value),
            None => ColumnInput::Nothing,
        }
    }
}
