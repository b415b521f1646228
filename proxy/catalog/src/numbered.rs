//! Rows as other sessions see them: committed or not. Rows with generated numbers are told apart by them.

use std::collections::HashSet;

use atone_facts::ServiceError;
use atone_undo::{Row, Table, quote_identifier};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

use crate::error::service_error;
use crate::rows::{Typed, image};

/// How many rows of an audit table are read at once.
pub const NUMBERS_PER_READ: usize = 10_000;

/// Makes the next SELECT see what others have committed, and nothing else, whatever the server's default isolation level is.
async fn read_committed(conn: &mut Conn) -> Result<(), Error> {
    // For one transaction, which the SELECT is: the connection is shared with phase two
    conn.query_drop("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").await
}

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
pub struct UncommittedNumbers {
    /// The numbers in their order.
    pub ids: Vec<i128>,
    /// Where to read on, if there may be more.
    pub next: Option<i128>,
}

impl Numbered {
    /// `table` is the table's name with its schema, quoted.
    pub fn new(table: String, column: &str) -> Numbered {
        Numbered { table, column: quote_identifier(column) }
    }

    /// The numbers from `first` on of rows that somebody has inserted and not committed, among so many rows at most; those of
    /// committed rows are left out.
    pub(crate) async fn uncommitted(
        &self,
        conn: &mut Conn,
        first: i128,
        limit: usize,
    ) -> Result<UncommittedNumbers, Error> {
        let Numbered { table, column } = self;
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

    /// Which of these numbers are those of committed rows.
    pub(crate) async fn committed(
        &self,
        conn: &mut Conn,
        ids: &[i128],
        at_once: usize,
    ) -> Result<HashSet<i128>, Error> {
        let Numbered { table, column } = self;
        let mut all = HashSet::new();
        for chunk in ids.chunks(at_once.max(1)) {
            read_committed(conn).await?;
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

/// Why committed rows could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What the server or the system says.
    #[error(transparent)]
    Unread(#[from] ServiceError),
    /// A row that does not decode.
    #[error("{0}")]
    Undecoded(String),
}

/// A reader of committed rows.
#[derive(Debug)]
pub struct Committed(Conn);

impl Committed {
    pub(crate) fn new(conn: Conn) -> Committed {
        Committed(conn)
    }

    /// The rows of a SELECT of the table's image list.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn rows(&mut self, table: &Table, select: String) -> Result<Vec<Row>, ReadError> {
        let read = async {
            read_committed(&mut self.0).await?;
            self.0.query::<mysql_async::Row, _>(select).await
        };
        let rows = read.await.map_err(service_error)?;
        rows.into_iter().map(|row| image(table, row)).collect::<Result<_, _>>().map_err(ReadError::Undecoded)
    }

    /// The number that a SELECT gives, if it gives one.
    ///
    /// # Errors
    /// What the server or the system says.
    pub async fn number(&mut self, select: String) -> Result<Option<u64>, ServiceError> {
        let read = async {
            read_committed(&mut self.0).await?;
            self.0.first_text_row(select).await
        };
        read.await.map_err(service_error)
    }
}
