//! Isolation levels, snapshots, and the order of locks: what others can do between the statements of a bound session.

use std::sync::Arc;

use anyhow::{Result, ensure};
use atone_tests::{Bank, Cluster, sql};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use super::{T, T_ROWS};

atone_tests::shared_tests!(
    isolation_level_for_one_transaction,
    isolation_level_of_the_session,
    access_mode_for_one_transaction,
    consistent_snapshot,
    no_snapshot_before_its_time,
    order_of_locks,
);

/// A statement of the session, or of an outsider between them.
enum By<'a> {
    Session(&'a str),
    Outsider(&'a str),
}
use By::{Outsider, Session};

/// What the session sees on this connection: the rows, or the error's code.
async fn seen(
    c: &Cluster,
    bank: Bank,
    schema: &str,
    mut conn: Conn,
    steps: &[By<'_>],
) -> Result<Vec<String>> {
    let mut out = Vec::new();
    let mut outsider = c.direct(bank, schema).await?;
    sql::run(&mut outsider, "SET innodb_lock_wait_timeout = 1").await?;
    for step in steps {
        let (sql, conn) = match step {
            Session(sql) => (sql, &mut conn),
            Outsider(sql) => (sql, &mut outsider),
        };
        out.push(match conn.query::<mysql_async::Row, _>(*sql).await {
            Ok(rows) => {
                let rows: Vec<Vec<String>> =
                    rows.into_iter().map(|row| row.unwrap().iter().map(sql::text).collect()).collect();
                format!("{sql}: {rows:?}")
            }
            Err(mysql_async::Error::Server(error)) => format!("{sql}: error {}", error.code),
            Err(error) => return Err(error.into()),
        });
    }
    Ok(out)
}

/// The same steps bound, and straight on the other server.
async fn same(c: &Cluster, steps: &[By<'_>]) -> Result<()> {
    let schema = c.schema("isolation").await?;
    for bank in [Bank::One, Bank::Two] {
        sql::run_all(&mut c.direct(bank, &schema).await?, &[T, T_ROWS]).await?;
    }
    let mut bound = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut bound).await?;
    let bound = seen(c, Bank::One, &schema, bound, steps).await?;
    let plain = seen(c, Bank::Two, &schema, c.direct(Bank::Two, &schema).await?, steps).await?;
    ensure!(bound == plain, "bound:    {bound:#?}\nstraight: {plain:#?}");
    c.rest().commit(&xid).await?;
    Ok(())
}

async fn isolation_level_for_one_transaction(c: Arc<Cluster>) -> Result<()> {
    // READ COMMITTED sees what is committed meanwhile, for one transaction
    same(
        &c,
        &[
            Session("SET TRANSACTION ISOLATION LEVEL READ COMMITTED"),
            Session("BEGIN"),
            Session("SELECT a FROM t WHERE id = 2"),
            Session("UPDATE t SET a = 1 WHERE id = 1"),
            Outsider("UPDATE t SET a = 21 WHERE id = 2"),
            Session("SELECT a FROM t WHERE id = 2"),
            Session("COMMIT"),
            Session("BEGIN"),
            Session("SELECT a FROM t WHERE id = 2"),
            Outsider("UPDATE t SET a = 22 WHERE id = 2"),
            Session("SELECT a FROM t WHERE id = 2"),
            Session("UPDATE t SET a = 2 WHERE id = 1"),
            Session("SELECT a FROM t WHERE id = 2"),
            Session("COMMIT"),
        ],
    )
    .await?;
    // The first look at a table comes before the transaction begins
    same(
        &c,
        &[
            Session("SET autocommit = 0"),
            Session("SET TRANSACTION ISOLATION LEVEL READ COMMITTED"),
            Session("UPDATE t SET a = 1 WHERE id = 1"),
            Session("SELECT a FROM t WHERE id = 2"),
            Outsider("UPDATE t SET a = 21 WHERE id = 2"),
            Session("SELECT a FROM t WHERE id = 2"),
            Session("COMMIT"),
            Session("SELECT a FROM t WHERE id = 2"),
            Outsider("UPDATE t SET a = 22 WHERE id = 2"),
            Session("SELECT a FROM t WHERE id = 2"),
            Session("COMMIT"),
        ],
    )
    .await
}

async fn isolation_level_of_the_session(c: Arc<Cluster>) -> Result<()> {
    same(
        &c,
        &[
            Session("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"),
            Session("BEGIN"),
            Session("UPDATE t SET a = 1 WHERE id = 1"),
            Session("SELECT a FROM t WHERE id = 2"),
            Outsider("UPDATE t SET a = 21 WHERE id = 2"),
            Session("SELECT a FROM t WHERE id = 2"),
            Session("COMMIT"),
            Session("BEGIN"),
            Session("SELECT a FROM t WHERE id = 2"),
            Outsider("UPDATE t SET a = 22 WHERE id = 2"),
            Session("DELETE FROM t WHERE id = 1"),
            Session("SELECT a FROM t WHERE id = 2"),
            Session("COMMIT"),
        ],
    )
    .await
}

async fn access_mode_for_one_transaction(c: Arc<Cluster>) -> Result<()> {
    same(
        &c,
        &[
            Session("SET TRANSACTION READ ONLY"),
            Session("UPDATE t SET a = 1 WHERE id = 1"),
            Session("SELECT a FROM t WHERE id = 1"),
            Session("UPDATE t SET a = 2 WHERE id = 1"),
            Session("SET TRANSACTION READ ONLY"),
            Session("SELECT 1"),
            Session("BEGIN"),
            Session("DELETE FROM t WHERE id = 1"),
            Session("COMMIT"),
            Session("DELETE FROM t WHERE id = 1"),
            Session("SET TRANSACTION READ ONLY"),
            Session("SELECT id FROM t"),
            Session("DELETE FROM t WHERE id = 2"),
        ],
    )
    .await
}

async fn consistent_snapshot(c: Arc<Cluster>) -> Result<()> {
    same(
        &c,
        &[
            Session("START TRANSACTION WITH CONSISTENT SNAPSHOT"),
            Outsider("UPDATE t SET a = 21 WHERE id = 2"),
            Outsider("INSERT INTO t (id, a) VALUES (77, 77)"),
            Session("SELECT id, a FROM t WHERE id IN (2, 77)"),
            Session("UPDATE t SET a = 1 WHERE id = 1"),
            Session("SELECT id, a FROM t WHERE id IN (1, 2, 77)"),
            // What it writes itself it sees, as it is now
            Session("UPDATE t SET b = 'x' WHERE id = 2"),
            Session("SELECT id, a, b FROM t WHERE id = 2"),
            Session("COMMIT"),
            Session("SELECT id, a, b FROM t"),
        ],
    )
    .await
}

async fn no_snapshot_before_its_time(c: Arc<Cluster>) -> Result<()> {
    // Neither BEGIN nor a statement that writes takes the snapshot: the first ordinary read does
    same(
        &c,
        &[
            Session("BEGIN"),
            Session("UPDATE t SET a = 1 WHERE id = 1"),
            Session("DELETE FROM t WHERE c = 6"),
            Session("INSERT INTO t (id, a) VALUES (7, 7)"),
            Outsider("UPDATE t SET a = 21 WHERE id = 2"),
            Session("SELECT id, a FROM t"),
            Outsider("UPDATE t SET a = 22 WHERE id = 2"),
            Session("SELECT id, a FROM t"),
            Session("UPDATE t SET a = 3 WHERE id = 3"),
            Session("SELECT id, a FROM t"),
            Session("COMMIT"),
        ],
    )
    .await
}

async fn order_of_locks(c: Arc<Cluster>) -> Result<()> {
    // Which rows an outsider may write, and which not, while the local transaction is open
    same(
        &c,
        &[
            Session("BEGIN"),
            Session("UPDATE t SET a = 1 WHERE id = 1"),
            Outsider("UPDATE t SET a = 2 WHERE id = 1"),
            Outsider("UPDATE t SET a = 2 WHERE id = 2"),
            Session("UPDATE t SET b = 'x' WHERE a = 30"),
            Outsider("UPDATE t SET b = 'y' WHERE id = 3"),
            Outsider("UPDATE t SET b = 'y' WHERE id = 5"),
            Session("DELETE FROM t WHERE id = 6"),
            Outsider("INSERT INTO t (id) VALUES (6)"),
            Outsider("UPDATE t SET b = 'y' WHERE id = 5"),
            Session("COMMIT"),
            Outsider("UPDATE t SET a = 2 WHERE id = 1"),
        ],
    )
    .await
}
