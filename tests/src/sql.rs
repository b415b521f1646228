//! Talking SQL to a server or through the proxy.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder, Row, Value};

/// How long a login may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// Options for a connection to 127.0.0.1 on this port.
pub fn options(port: u16, account: (&str, &str), schema: Option<&str>) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .user(Some(account.0))
        .pass(Some(account.1))
        .db_name(schema)
        // The server would tell the client its Unix socket, and the client would go around the proxy.
        .prefer_socket(false)
        .stmt_cache_size(0)
}

/// Logs in to 127.0.0.1 on this port.
pub async fn connect(port: u16, account: (&str, &str), schema: Option<&str>) -> Result<Conn> {
    connect_with(options(port, account, schema)).await
}

/// Logs in with these options.
pub async fn connect_with(options: OptsBuilder) -> Result<Conn> {
    Ok(tokio::time::timeout(CONNECT_LIMIT, Conn::new(options)).await.context("the login took too long")??)
}

/// Logs in and expects to be refused with an error of the server's kind; returns its code and message.
pub async fn refused_login(options: OptsBuilder) -> Result<(u16, String)> {
    match tokio::time::timeout(CONNECT_LIMIT, Conn::new(options)).await.context("the login took too long")? {
        Ok(_) => bail!("the login was to be refused"),
        Err(mysql_async::Error::Server(error)) => Ok((error.code, error.message)),
        Err(other) => bail!("the login was to be refused by an error packet, not: {other}"),
    }
}

/// Runs statements one after the other.
pub async fn run_all(conn: &mut Conn, statements: &[&str]) -> Result<()> {
    for statement in statements {
        conn.query_drop(*statement).await.with_context(|| (*statement).to_owned())?;
    }
    Ok(())
}

/// Runs one statement.
pub async fn run(conn: &mut Conn, statement: impl AsRef<str>) -> Result<()> {
    let statement = statement.as_ref();
    conn.query_drop(statement).await.with_context(|| statement.to_owned())
}

/// All rows of a query as text, one line a row, columns separated by `|`, NULL as `NULL`, bytes that are not UTF-8
/// in hexadecimal.
pub async fn rows(conn: &mut Conn, query: impl AsRef<str>) -> Result<Vec<String>> {
    let query = query.as_ref();
    let rows: Vec<Row> = conn.query(query).await.with_context(|| query.to_owned())?;
    Ok(rows.into_iter().map(|row| row.unwrap().iter().map(text).collect::<Vec<_>>().join("|")).collect())
}

/// The only cell of a query's only row.
pub async fn cell(conn: &mut Conn, query: impl AsRef<str>) -> Result<String> {
    let query = query.as_ref();
    let all = rows(conn, query).await?;
    match all.as_slice() {
        [only] => Ok(only.clone()),
        other => bail!("{query}: {} rows where one was expected", other.len()),
    }
}

/// A value as text.
pub fn text(value: &Value) -> String {
    match value {
        Value::NULL => "NULL".to_owned(),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}")),
        },
        other => other.as_sql(true),
    }
}

/// The code, SQL state and message of the error that this statement gives; an error where it gives none.
pub async fn refused(conn: &mut Conn, statement: impl AsRef<str>) -> Result<ServerError> {
    let statement = statement.as_ref();
    server_error(conn.query_drop(statement).await, statement)
}

/// An error packet as the client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// Such as 1205.
    pub code: u16,
    /// Such as `HY000`.
    pub state: String,
    /// The text.
    pub message: String,
}

/// The error packet in a result; an error where there was none.
pub fn server_error<T>(result: mysql_async::Result<T>, what: &str) -> Result<ServerError> {
    match result {
        Ok(_) => bail!("no error where one was expected: {what}"),
        Err(mysql_async::Error::Server(error)) => {
            Ok(ServerError { code: error.code, state: error.state, message: error.message })
        }
        Err(other) => Err(other).with_context(|| format!("an error packet was expected: {what}")),
    }
}

impl ServerError {
    /// Fails unless the code and state are these and the message begins as the contract says.
    pub fn expect(&self, code: u16, state: &str) -> Result<()> {
        if self.code != code || self.state != state {
            bail!("expected {code} ({state}), got {self:?}");
        }
        if !self.message.starts_with("atone:") {
            bail!("the message does not begin with atone: {self:?}");
        }
        Ok(())
    }

    /// The same, and the message names this XID.
    pub fn expect_naming(&self, code: u16, state: &str, xid: &str) -> Result<()> {
        self.expect(code, state)?;
        if !self.message.contains(xid) {
            bail!("the message does not name {xid}: {self:?}");
        }
        Ok(())
    }
}

/// The XID that this session is bound to, as the server's user variable has it; `None` for NULL and for the empty text.
pub async fn xid(conn: &mut Conn) -> Result<Option<String>> {
    let value: Option<Option<String>> = conn.query_first("SELECT @atone_xid").await?;
    Ok(value.flatten().filter(|xid| !xid.is_empty()))
}

/// Begins a global transaction by SQL; returns its XID.
pub async fn start_global(conn: &mut Conn) -> Result<String> {
    run(conn, "START GLOBAL TRANSACTION").await?;
    xid(conn).await?.context("START GLOBAL TRANSACTION left no XID in @atone_xid")
}

/// A statement that runs beside the test, and its connection.
pub type Waiting = tokio::task::JoinHandle<(Conn, mysql_async::Result<()>)>;

/// Begins to run a statement, for which the test does not wait.
pub fn start(mut conn: Conn, statement: &str) -> Waiting {
    let statement = statement.to_owned();
    tokio::spawn(async move {
        let result = conn.query_drop(statement).await;
        (conn, result)
    })
}

/// Makes a table `numbers (n)` of these, in the connection's schema: a statement of many rows can be made from it.
pub async fn create_numbers(conn: &mut Conn, numbers: Range<u64>) -> Result<()> {
    run(conn, "CREATE TABLE numbers (n INT NOT NULL PRIMARY KEY)").await?;
    let Range { start, end } = numbers;
    run(conn, format!("INSERT INTO numbers VALUES ({start})")).await?;
    let mut next = start + 1;
    while next < end {
        let have = next - start;
        let more = have.min(end - next);
        let double = format!("INSERT INTO numbers SELECT n + {have} FROM numbers WHERE n < {}", start + more);
        run(conn, double).await?;
        next += more;
    }
    Ok(())
}
