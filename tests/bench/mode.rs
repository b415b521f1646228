//! The ways to run a statement's transaction that are compared.

use anyhow::{Context as _, Result};
use atone_tests::{Bank, Cluster, sql};
use bytes::Bytes;
use futures::StreamExt as _;
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use crate::large::Statement;

/// What a LOAD DATA sends at a time, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// How a transaction is run and ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Straight on the server, committed.
    Bare,
    /// Through the proxy, in a global transaction that commits.
    Commit,
    /// Through the proxy, committed locally, in a global transaction that is rolled back.
    Rollback,
}

impl Mode {
    /// All of them.
    pub(crate) const ALL: [Mode; 3] = [Mode::Bare, Mode::Commit, Mode::Rollback];

    /// Its name in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Bare => "bare",
            Mode::Commit => "commit",
            Mode::Rollback => "rollback",
        }
    }
}

/// The connections that the load comes from. They stay open, so that no login is measured.
#[derive(Debug)]
pub(crate) struct Sessions {
    bare: Conn,
    bound: Conn,
}

impl Sessions {
    /// Logs in to the first server, straight and through the proxy.
    pub(crate) async fn open(cluster: &Cluster, schema: &str) -> Result<Self> {
        Ok(Self {
            bare: cluster.direct(Bank::One, schema).await?,
            bound: cluster.app(Bank::One, schema).await?,
        })
    }

    /// Runs one transaction with this statement. Fails where the server counts other rows than the statement is meant
    /// to change.
    pub(crate) async fn run(&mut self, mode: Mode, statement: &Statement) -> Result<()> {
        let (conn, start, end) = match mode {
            Mode::Bare => (&mut self.bare, None, None),
            Mode::Commit => {
                (&mut self.bound, Some("START GLOBAL TRANSACTION"), Some("COMMIT GLOBAL TRANSACTION"))
            }
            Mode::Rollback => {
                (&mut self.bound, Some("START GLOBAL TRANSACTION"), Some("ROLLBACK GLOBAL TRANSACTION"))
            }
        };
        if let Some(start) = start {
            sql::run(conn, start).await?;
        }
        sql::run(conn, "BEGIN").await?;
        execute(conn, statement).await?;
        sql::run(conn, "COMMIT").await?;
        if let Some(end) = end {
            sql::run(conn, end).await?;
            anyhow::ensure!(conn.get_warnings() == 0, "{end} was not done when it was answered");
        }
        Ok(())
    }
}

async fn execute(conn: &mut Conn, statement: &Statement) -> Result<()> {
    if let Some(file) = &statement.file {
        let file = file.clone();
        conn.set_infile_handler(async move {
            let pieces = (0..file.len().div_ceil(PIECE_BYTES)).map(move |n| {
                let end = file.len().min((n + 1) * PIECE_BYTES);
                Ok::<Bytes, std::io::Error>(file.slice(n * PIECE_BYTES..end))
            });
            Ok(futures::stream::iter(pieces).boxed())
        });
    }
    conn.query_drop(&statement.sql).await.with_context(|| format!("{:.200}", statement.sql))?;
    let (changed, expected) = (conn.affected_rows(), statement.affected_rows);
    anyhow::ensure!(changed == expected, "{changed} rows, not {expected}: {:.200}", statement.sql);
    Ok(())
}
