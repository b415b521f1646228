//! Rows that are told apart by generated numbers.

use atone_undo::quote_identifier;

/// How many rows of an audit table are read at once.
pub const NUMBERS_PER_READ: usize = 10_000;

/// A table and the column that numbers its rows.
#[derive(Clone, Debug)]
pub struct NumberedTable {
    /// The table's name with its schema, quoted.
    pub table: String,
    /// The column's name, quoted.
    pub column: String,
}

impl NumberedTable {
    /// `table` is the table's name with its schema, quoted; `column` is the column's bare name.
    pub fn new(table: String, column: &str) -> NumberedTable {
        NumberedTable { table, column: quote_identifier(column) }
    }
}

/// Numbers of rows that somebody has inserted and not committed.
#[derive(Debug)]
pub struct UncommittedNumbers {
    /// The numbers in their order.
    pub ids: Vec<i128>,
    /// Where to read on, if there may be more.
    pub next: Option<i128>,
}

/// Numbers side by side, for the list of an IN.
pub fn number_list(ids: &[i128]) -> String {
    ids.iter().map(i128::to_string).collect::<Vec<_>>().join(",")
}
