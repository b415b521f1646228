//! Rows of a table that have a number in their key, as they are to other sessions than that which asks: committed or not.

use std::collections::HashSet;

use crate::capture::port::{Beside, Cells, Seen};
use crate::service::ServiceError;
use atone_undo::quote_identifier;

/// How many rows of a table to which triggers add are looked at in one go.
pub const ROWS_PER_LOOK: usize = 10_000;

/// A table and the column that numbers its rows.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// The table's name with its schema, quoted.
    table: String,
    /// The column's name, quoted.
    column: String,
}

/// Numbers of rows that somebody has inserted and not committed.
#[derive(Debug)]
pub struct Uncommitted {
    /// The numbers in their order.
    pub ids: Vec<i128>,
    /// Where to look on, where there may be more.
    pub next: Option<i128>,
}

impl Numbered {
    /// `table` is the table's name with its schema, quoted.
    pub fn new(table: String, column: &str) -> Numbered {
        Numbered { table, column: quote_identifier(column) }
    }

    /// The numbers from `first` on of rows that somebody has inserted and not committed, among so many rows at most; those of
    /// committed ones are left out.
    ///
    /// # Errors
    /// What the server says.
    pub async fn uncommitted(
        &self,
        beside: &dyn Beside,
        first: i128,
        limit: usize,
    ) -> Result<Uncommitted, ServiceError> {
        let Numbered { table, column } = self;
        let select = format!(
            "SELECT CAST({column} AS CHAR) FROM {table} WHERE {column} >= {first} ORDER BY {column} LIMIT {limit}"
        );
        let all: Vec<i128> = parsed(beside.rows_beside(Seen::Uncommitted, select).await?);
        let Some(&last) = all.last() else { return Ok(Uncommitted { ids: all, next: None }) };
        let select =
            format!("SELECT CAST({column} AS CHAR) FROM {table} WHERE {column} BETWEEN {first} AND {last}");
        let committed: HashSet<i128> = parsed(beside.rows_beside(Seen::Committed, select).await?);
        let next = (all.len() >= limit).then_some(last + 1);
        Ok(Uncommitted { ids: all.into_iter().filter(|id| !committed.contains(id)).collect(), next })
    }

    /// Which of these numbers another session sees in the table.
    ///
    /// # Errors
    /// What the server says.
    pub async fn committed(
        &self,
        beside: &dyn Beside,
        ids: &[i128],
        at_once: usize,
    ) -> Result<HashSet<i128>, ServiceError> {
        let Numbered { table, column } = self;
        let mut all = HashSet::new();
        for chunk in ids.chunks(at_once.max(1)) {
            let select =
                format!("SELECT CAST({column} AS CHAR) FROM {table} WHERE {column} IN ({})", list(chunk));
            all.extend(parsed::<HashSet<i128>>(beside.rows_beside(Seen::Committed, select).await?));
        }
        Ok(all)
    }
}

fn parsed<C: FromIterator<i128>>(rows: Vec<Cells>) -> C {
    let number = |row: &Cells| std::str::from_utf8(row.first()?.as_deref()?).ok()?.parse().ok();
    rows.iter().filter_map(number).collect()
}

/// Numbers side by side.
pub fn list(ids: &[i128]) -> String {
    ids.iter().map(i128::to_string).collect::<Vec<_>>().join(",")
}
