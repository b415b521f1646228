//! Rows of a table that have a number in their key, as they are to other sessions than that which asks: committed or not.

use std::collections::HashSet;

use atone_undo::quote_identifier;
use mysql_async::prelude::Queryable as _;

use crate::service::{ServicePool, see_committed};
use crate::typed::Typed;

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
        pool: &ServicePool,
        first: i128,
        limit: usize,
    ) -> Result<Uncommitted, mysql_async::Error> {
        let Numbered { table, column } = self;
        let mut conn = pool.get_conn().await?;
        conn.query_drop("SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED").await?;
        let all: Vec<i128> = parsed(
            conn.text_rows(format!(
                "SELECT CAST({column} AS CHAR) FROM {table} WHERE {column} >= {first} ORDER BY {column} LIMIT {limit}"
            ))
            .await?,
        );
        let Some(&last) = all.last() else { return Ok(Uncommitted { ids: all, next: None }) };
        see_committed(&mut conn).await?;
        let committed: HashSet<i128> = parsed(
            conn.text_rows(format!(
                "SELECT CAST({column} AS CHAR) FROM {table} WHERE {column} BETWEEN {first} AND {last}"
            ))
            .await?,
        );
        let next = (all.len() >= limit).then_some(last + 1);
        Ok(Uncommitted { ids: all.into_iter().filter(|id| !committed.contains(id)).collect(), next })
    }

    /// Which of these numbers another session sees in the table.
    ///
    /// # Errors
    /// What the server says.
    pub async fn committed(
        &self,
        pool: &ServicePool,
        ids: &[i128],
        at_once: usize,
    ) -> Result<HashSet<i128>, mysql_async::Error> {
        let Numbered { table, column } = self;
        let mut conn = pool.get_conn().await?;
        let mut all = HashSet::new();
        for chunk in ids.chunks(at_once.max(1)) {
            see_committed(&mut conn).await?;
            let select =
                format!("SELECT CAST({column} AS CHAR) FROM {table} WHERE {column} IN ({})", list(chunk));
            all.extend(parsed::<HashSet<i128>>(conn.text_rows(select).await?));
        }
        Ok(all)
    }
}

fn parsed<C: FromIterator<i128>>(ids: Vec<String>) -> C {
    ids.iter().filter_map(|id| id.parse().ok()).collect()
}

/// Numbers side by side.
pub fn list(ids: &[i128]) -> String {
    ids.iter().map(i128::to_string).collect::<Vec<_>>().join(",")
}
