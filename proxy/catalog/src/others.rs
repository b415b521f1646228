//! Rows as other sessions see them: committed or not.

use std::collections::HashSet;

use atone_facts::{NumberedTable, UncommittedNumbers, number_list};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Row};

use crate::rows::Typed;

/// Makes the next SELECT see what others have committed, and nothing else, whatever the server's default isolation
/// level is.
async fn read_committed(conn: &mut Conn) -> Result<(), Error> {
    // For one transaction, which the SELECT is: the connection is shared with phase two
    conn.query_drop("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").await
}

/// See [`crate::Catalog::uncommitted`].
pub(crate) async fn uncommitted(
    conn: &mut Conn,
    NumberedTable { table, column }: &NumberedTable,
    first: i128,
    limit: usize,
) -> Result<UncommittedNumbers, Error> {
    conn.query_drop("SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED").await?;
    let all: Vec<i128> = parsed(
        conn.text_rows(format!(
            "SELECT CAST({column} AS CHAR) FROM {table} WHERE {column} >= {first} ORDER BY {column} LIMIT {limit}"
        ))
        .await?,
    );
    let Some(&last) = all.last() else { return Ok(UncommittedNumbers { ids: all, next: None }) };
    read_committed(conn).await?;
    let committed: HashSet<i128> = parsed(
        conn.text_rows(format!(
            "SELECT CAST({column} AS CHAR) FROM {table} WHERE {column} BETWEEN {first} AND {last}"
        ))
        .await?,
    );
    let next = (all.len() >= limit).then_some(last + 1);
    Ok(UncommittedNumbers { ids: all.into_iter().filter(|id| !committed.contains(id)).collect(), next })
}

/// See [`crate::Catalog::committed`].
pub(crate) async fn committed(
    conn: &mut Conn,
    NumberedTable { table, column }: &NumberedTable,
    ids: &[i128],
    at_once: usize,
) -> Result<HashSet<i128>, Error> {
    let mut all = HashSet::new();
    for chunk in ids.chunks(at_once.max(1)) {
        read_committed(conn).await?;
        let select =
            format!("SELECT CAST({column} AS CHAR) FROM {table} WHERE {column} IN ({})", number_list(chunk));
        all.extend(parsed::<HashSet<i128>>(conn.text_rows(select).await?));
    }
    Ok(all)
}

fn parsed<C: FromIterator<i128>>(ids: Vec<String>) -> C {
    ids.iter().filter_map(|id| id.parse().ok()).collect()
}

/// The committed rows that these SELECTs find.
pub(crate) async fn committed_rows(conn: &mut Conn, selects: &[String]) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for select in selects {
        read_committed(conn).await?;
        rows.extend(conn.query::<Row, _>(select.as_str()).await?);
    }
    Ok(rows)
}

/// The sum of the numbers that these SELECTs give of committed rows. One without a number counts as 1.
pub(crate) async fn count_committed(conn: &mut Conn, selects: &[String]) -> Result<u64, Error> {
    let mut sum: u64 = 0;
    for select in selects {
        read_committed(conn).await?;
        sum = sum.saturating_add(conn.first_text_row::<u64>(select).await?.unwrap_or(1));
    }
    Ok(sum)
}
