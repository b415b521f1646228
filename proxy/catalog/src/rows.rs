//! Rows of the service account's queries, as typed values. A row of other types is an error here: the driver's own
//! functions panic.

use atone_undo::Table;
use mysql_async::prelude::{FromRow, Queryable, StatementLike};
use mysql_async::{Conn, DriverError, Error, FromRowError, Params, Row, Value};

/// Queries whose rows are read as `T`. Errors are those of the server, the driver and the system, and rows of other
/// types.
pub trait Typed {
    /// The rows of a statement with parameters.
    fn rows<T, P>(
        &mut self,
        sql: impl StatementLike,
        params: P,
    ) -> impl Future<Output = Result<Vec<T>, Error>> + Send
    where
        T: FromRow + Send,
        P: Into<Params> + Send;

    /// The first row of a statement with parameters, if there is one.
    fn first_row<T, P>(
        &mut self,
        sql: impl StatementLike,
        params: P,
    ) -> impl Future<Output = Result<Option<T>, Error>> + Send
    where
        T: FromRow + Send,
        P: Into<Params> + Send;

    /// The rows of a query in text.
    fn text_rows<T: FromRow + Send>(
        &mut self,
        sql: impl AsRef<str> + Send + Sync,
    ) -> impl Future<Output = Result<Vec<T>, Error>> + Send;

    /// The first row of a query in text, if there is one.
    fn first_text_row<T: FromRow + Send>(
        &mut self,
        sql: impl AsRef<str> + Send + Sync,
    ) -> impl Future<Output = Result<Option<T>, Error>> + Send;

    /// The rows of several queries in text, which go to the server together.
    fn results<const N: usize>(
        &mut self,
        queries: [&str; N],
    ) -> impl Future<Output = Result<[Vec<Row>; N], Error>> + Send;

    /// The same for any number of queries, at least one.
    fn all_results(
        &mut self,
        queries: &[String],
    ) -> impl Future<Output = Result<Vec<Vec<Row>>, Error>> + Send;
}

impl Typed for Conn {
    async fn rows<T, P>(&mut self, sql: impl StatementLike, params: P) -> Result<Vec<T>, Error>
    where
        T: FromRow + Send,
        P: Into<Params> + Send,
    {
        let rows: Vec<Row> = self.exec(sql, params).await?;
        rows.into_iter().map(typed).collect()
    }

    async fn first_row<T, P>(&mut self, sql: impl StatementLike, params: P) -> Result<Option<T>, Error>
    where
        T: FromRow + Send,
        P: Into<Params> + Send,
    {
        let row: Option<Row> = self.exec_first(sql, params).await?;
        row.map(typed).transpose()
    }

    async fn text_rows<T: FromRow + Send>(
        &mut self,
        sql: impl AsRef<str> + Send + Sync,
    ) -> Result<Vec<T>, Error> {
        let rows: Vec<Row> = self.query(sql.as_ref()).await?;
        rows.into_iter().map(typed).collect()
    }

    async fn first_text_row<T: FromRow + Send>(
        &mut self,
        sql: impl AsRef<str> + Send + Sync,
    ) -> Result<Option<T>, Error> {
        let row: Option<Row> = self.query_first(sql.as_ref()).await?;
        row.map(typed).transpose()
    }

    async fn results<const N: usize>(&mut self, queries: [&str; N]) -> Result<[Vec<Row>; N], Error> {
        let mut results = self.query_iter(queries.join("; ")).await?;
        let mut out = [const { Vec::new() }; N];
        for rows in &mut out {
            *rows = results.collect().await?;
        }
        Ok(out)
    }

    async fn all_results(&mut self, queries: &[String]) -> Result<Vec<Vec<Row>>, Error> {
        let mut results = self.query_iter(queries.join("; ")).await?;
        let mut out = Vec::with_capacity(queries.len());
        for _ in queries {
            out.push(results.collect().await?);
        }
        Ok(out)
    }
}

/// A text as an SQL literal, under a `sql_mode` with backslash escapes.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The rows of one of several results.
pub(crate) fn typed_rows<T: FromRow>(rows: Vec<Row>) -> Result<Vec<T>, Error> {
    rows.into_iter().map(typed).collect()
}

fn typed<T: FromRow>(row: Row) -> Result<T, Error> {
    T::from_row_opt(row).map_err(|FromRowError(row)| Error::Driver(DriverError::FromRow { row }))
}

/// Decodes a row that was read as text by the table's image list.
///
/// # Errors
/// Why the row does not decode.
pub fn image(table: &Table, row: Row) -> Result<atone_undo::Row, String> {
    let cells = row.unwrap();
    let cells = cells.iter().map(|cell| match cell {
        Value::NULL => Ok(None),
        Value::Bytes(bytes) => Ok(Some(bytes.as_slice())),
        _ => Err("it is not text"),
    });
    let cells: Vec<Option<&[u8]>> = cells.collect::<Result<_, _>>()?;
    table.decode_row(&cells).map_err(|e| e.to_string())
}
