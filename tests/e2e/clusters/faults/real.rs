//! The same with errors that the servers give by themselves.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::run::Harmable;
use atone_tests::wait::until;
use atone_tests::{Bank, Cluster, ClusterOptions, Flavor, sql};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

atone_tests::shared_tests!(
    deadlocks,
    lock_waits,
    new_keys_side_by_side,
    numbered_rows_side_by_side,
    killed_while_waiting_for_a_global_lock,
    statement_time_while_waiting_for_a_global_lock,
    changed_since_the_snapshot,
);
atone_tests::owned_tests!(ClusterOptions::default() => commit_under_read_only);

const BEFORE: [&str; 3] = ["1|ann|100", "2|bob|100", "3|NULL|100"];

/// Statements whose first look meets the rows 2 and 3.
const STATEMENTS: [&str; 7] = [
    "UPDATE account SET id = id + 100 WHERE id IN (2, 3)",
    "UPDATE account SET balance = balance + 1 WHERE balance > 0 AND id > 1",
    "DELETE FROM account WHERE id IN (2, 3)",
    "INSERT INTO account VALUES (2, 'x', 1) ON DUPLICATE KEY UPDATE balance = 7",
    "INSERT IGNORE INTO account VALUES (2, 'x', 1), (8, 'y', 2)",
    "REPLACE INTO account VALUES (2, 'x', 1)",
    "INSERT INTO account SELECT id, name, 5 FROM account AS other WHERE id = 2 ON DUPLICATE KEY UPDATE balance = 7",
];

async fn roll_back(c: &Cluster, conn: &mut Conn, schema: &str, xid: &str) -> Result<()> {
    c.roll_back_global(conn, xid).await?;
    assert_eq!(c.accounts(Bank::One, schema).await?, BEFORE);
    Ok(())
}

/// Begins a local transaction with a write.
async fn write_first(conn: &mut Conn, autocommit: bool) -> Result<()> {
    sql::run(conn, if autocommit { "BEGIN" } else { "SET autocommit = 0" }).await?;
    sql::run(conn, "UPDATE account SET balance = 1 WHERE id = 1").await
}

/// Nothing of the local transaction is left, and what follows is captured.
async fn goes_on(c: &Cluster, conn: &mut Conn, schema: &str, xid: &str) -> Result<()> {
    assert_eq!(sql::cell(conn, "SELECT balance FROM account WHERE id = 1").await?, "100");
    sql::run_all(conn, &["UPDATE account SET balance = 3 WHERE id = 3", "COMMIT"]).await?;
    assert_eq!(c.accounts(Bank::One, schema).await?, ["1|ann|100", "2|bob|100", "3|NULL|3"]);
    ensure!(c.rest().locks(xid).await?.len() == 1, "the UPDATE behind it is not captured");
    roll_back(c, conn, schema, xid).await
}

async fn deadlocks(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("deadlocks").await?;
    let mut outsider = c.direct(Bank::One, &schema).await?;
    sql::run(&mut outsider, "CREATE TABLE weight (id INT PRIMARY KEY)").await?;
    // The one that has written less is the victim
    let weight: Vec<String> = (0..500).map(|n| format!("({n})")).collect();
    let weight = format!("INSERT INTO weight VALUES {}", weight.join(","));
    for autocommit in [true, false] {
        for statement in STATEMENTS {
            let hold = ["BEGIN", "UPDATE account SET balance = balance WHERE id = 2", &weight];
            sql::run_all(&mut outsider, &hold).await?;
            let mut bound = c.app(Bank::One, &schema).await?;
            let xid = sql::start_global(&mut bound).await?;
            write_first(&mut bound, autocommit).await?;
            let id = outsider.id();
            let waiting = tokio::spawn(async move {
                let result = outsider.query_drop("SELECT * FROM account WHERE id = 1 FOR UPDATE").await;
                (outsider, result)
            });
            c.until_running(id, "%id = 1 FOR UPDATE").await?;
            let error = sql::refused(&mut bound, statement).await?;
            assert_eq!((error.code, error.state.as_str()), (1213, "40001"), "{statement}: {error:?}");
            let result;
            (outsider, result) = waiting.await?;
            result?;
            sql::run(&mut outsider, "ROLLBACK").await?;
            goes_on(&c, &mut bound, &schema, &xid).await?;
        }
    }
    Ok(())
}

async fn lock_waits(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("lock_waits").await?;
    let mut outsider = c.direct(Bank::One, &schema).await?;
    for autocommit in [true, false] {
        let hold = ["BEGIN", "SELECT * FROM account WHERE id = 2 FOR UPDATE"];
        sql::run_all(&mut outsider, &hold).await?;
        let mut bound = c.app(Bank::One, &schema).await?;
        let xid = sql::start_global(&mut bound).await?;
        sql::run(&mut bound, "SET SESSION innodb_lock_wait_timeout = 1").await?;
        write_first(&mut bound, autocommit).await?;
        for statement in STATEMENTS {
            let error = sql::refused(&mut bound, statement).await?;
            assert_eq!((error.code, error.state.as_str()), (1205, "HY000"), "{statement}: {error:?}");
        }
        // Only the statements are undone; the transaction goes on
        sql::run(&mut bound, "COMMIT").await?;
        assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|1", "2|bob|100", "3|NULL|100"]);
        assert_eq!(c.rest().locks(&xid).await?.len(), 1);
        sql::run(&mut outsider, "ROLLBACK").await?;
        roll_back(&c, &mut bound, &schema, &xid).await?;
    }
    Ok(())
}

const CLIENTS: i64 = 4;
const UPSERTS: i64 = 40;

/// As many clients upsert keys of their own, which lie between those of the others.
async fn side_by_side(c: Arc<Cluster>, name: &str, table: &str, may_deadlock: bool) -> Result<()> {
    let schema = c.bank_schema(name).await?;
    sql::run(&mut c.direct(Bank::One, &schema).await?, table).await?;
    let clients = (0..CLIENTS).map(|client| {
        let (c, schema) = (Arc::clone(&c), schema.clone());
        tokio::spawn(async move {
            let mut conn = c.app(Bank::One, &schema).await?;
            for n in 0..UPSERTS {
                let k = n * CLIENTS + client;
                let upsert =
                    format!("INSERT INTO seen (k, n) VALUES ({k}, 1) ON DUPLICATE KEY UPDATE n = n + 1");
                sql::start_global(&mut conn).await?;
                loop {
                    sql::run(&mut conn, "BEGIN").await?;
                    match conn.query_drop(&upsert).await {
                        Ok(()) => break,
                        // All of it is gone, and can be run again
                        Err(mysql_async::Error::Server(error)) if may_deadlock && error.code == 1213 => {}
                        Err(other) => return Err(other.into()),
                    }
                }
                sql::run_all(&mut conn, &["COMMIT", "COMMIT GLOBAL TRANSACTION"]).await?;
            }
            anyhow::Ok(())
        })
    });
    for client in futures::future::join_all(clients).await {
        client??;
    }
    let rows = c.rows(Bank::One, &schema, "SELECT COUNT(*), SUM(n) FROM seen").await?;
    assert_eq!(rows, [format!("{0}|{0}", CLIENTS * UPSERTS)]);
    Ok(())
}

/// The server alone has no deadlock there.
async fn new_keys_side_by_side(c: Arc<Cluster>) -> Result<()> {
    side_by_side(c, "new_keys", "CREATE TABLE seen (k INT PRIMARY KEY, n INT NOT NULL)", false).await
}

/// The look at the rows that are in the way locks gaps there.
async fn numbered_rows_side_by_side(c: Arc<Cluster>) -> Result<()> {
    let table =
        "CREATE TABLE seen (id INT AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL UNIQUE, n INT NOT NULL)";
    side_by_side(c, "numbered_rows", table, true).await
}

/// A session whose UPDATE waits for the global lock of another global transaction.
struct Waiting {
    holder: Conn,
    id: u32,
    task: tokio::task::JoinHandle<(Conn, mysql_async::Result<()>)>,
    xid: String,
}

async fn wait_for_global_lock(
    c: &Cluster,
    schema: &str,
    before: &[&str],
    statement: &str,
) -> Result<Waiting> {
    let mut holder = c.app(Bank::One, schema).await?;
    sql::start_global(&mut holder).await?;
    sql::run(&mut holder, "UPDATE account SET balance = balance + 5 WHERE id = 1").await?;
    let mut bound = c.app(Bank::One, schema).await?;
    let xid = sql::start_global(&mut bound).await?;
    sql::run_all(&mut bound, before).await?;
    let (id, statement) = (bound.id(), statement.to_owned());
    let task = tokio::spawn(async move {
        let result = bound.query_drop(statement).await;
        (bound, result)
    });
    Ok(Waiting { holder, id, task, xid })
}

async fn killed_while_waiting_for_a_global_lock(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("killed_waiting").await?;
    let update = "UPDATE account SET balance = 6 WHERE id = 1";
    let open: &[&str] = &["BEGIN", update];
    for (before, statement, left) in [(&[] as &[&str], update, 105), (open, "COMMIT", 110)] {
        let mut w = wait_for_global_lock(&c, &schema, before, statement).await?;
        c.until_running(w.id, "%waits for a global row lock%").await?;
        until("the wait has ended", SOON, || async {
            // One that falls between two of its statements is not heard
            sql::run(&mut c.server(Bank::One).admin().await?, format!("KILL QUERY {}", w.id)).await?;
            Ok(w.task.is_finished().then_some(()))
        })
        .await?;
        let (mut bound, result) = w.task.await?;
        let error = sql::server_error(result, statement)?;
        assert_eq!((error.code, error.state.as_str()), (1317, "70100"), "{error:?}");
        sql::run(&mut w.holder, "COMMIT GLOBAL TRANSACTION").await?;
        if statement == "COMMIT" {
            // Still open, and the lock is free now
            sql::run(&mut bound, "COMMIT").await?;
            ensure!(c.rest().locks(&w.xid).await?.len() == 1, "no lock behind the second COMMIT");
        }
        sql::run(&mut bound, "ROLLBACK GLOBAL TRANSACTION").await?;
        c.rest().wait_for_status(&w.xid, "rolled_back", SOON).await?;
        let left = format!("1|ann|{left}");
        assert_eq!(c.accounts(Bank::One, &schema).await?, [left.as_str(), "2|bob|100", "3|NULL|100"]);
    }
    // The connection itself
    let mut w = wait_for_global_lock(&c, &schema, &[], update).await?;
    c.until_running(w.id, "%waits for a global row lock%").await?;
    sql::run(&mut c.server(Bank::One).admin().await?, format!("KILL CONNECTION {}", w.id)).await?;
    let (_, result) = tokio::time::timeout(Duration::from_secs(10), w.task).await??;
    ensure!(result.is_err(), "the UPDATE of a killed connection");
    sql::run(&mut w.holder, "COMMIT GLOBAL TRANSACTION").await
}

/// MariaDB's max_statement_time bounds the wait; MySQL's max_execution_time is for SELECT only.
async fn statement_time_while_waiting_for_a_global_lock(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("statement_time").await?;
    let update = "UPDATE account SET balance = 6 WHERE id = 1";
    let (limit, code) = match c.flavor() {
        Flavor::MariaDb => ("SET SESSION max_statement_time = 1", 1969),
        Flavor::MySql => ("SET SESSION max_execution_time = 300, innodb_lock_wait_timeout = 1", 1205),
    };
    let mut w = wait_for_global_lock(&c, &schema, &[limit], update).await?;
    let (mut bound, result) = tokio::time::timeout(Duration::from_secs(10), w.task).await??;
    let error = sql::server_error(result, update)?;
    assert_eq!(error.code, code, "{error:?}");
    sql::run(&mut bound, "ROLLBACK GLOBAL TRANSACTION").await?;
    sql::run(&mut w.holder, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&w.xid, "rolled_back", SOON).await?;
    Ok(())
}

/// MariaDB's innodb_snapshot_isolation: 1020 ends the local transaction.
async fn changed_since_the_snapshot(c: Arc<Cluster>) -> Result<()> {
    if c.flavor() == Flavor::MySql {
        return Ok(());
    }
    let schema = c.bank_schema("changed_since").await?;
    let mut outsider = c.direct(Bank::One, &schema).await?;
    for autocommit in [true, false] {
        for statement in STATEMENTS {
            let mut bound = c.app(Bank::One, &schema).await?;
            let xid = sql::start_global(&mut bound).await?;
            sql::run(&mut bound, "SET SESSION innodb_snapshot_isolation = ON").await?;
            write_first(&mut bound, autocommit).await?;
            sql::rows(&mut bound, "SELECT * FROM account").await?;
            for change in ["balance = 99", "balance = 100"] {
                sql::run(&mut outsider, format!("UPDATE account SET {change} WHERE id = 2")).await?;
            }
            let error = sql::refused(&mut bound, statement).await?;
            assert_eq!((error.code, error.state.as_str()), (1020, "HY000"), "{statement}: {error:?}");
            goes_on(&c, &mut bound, &schema, &xid).await?;
        }
    }
    Ok(())
}

async fn commit_under_read_only(c: Harmable) -> Result<()> {
    let c = c.lock().await;
    let schema = c.bank_schema("read_only").await?;
    let mut admin = c.server(Bank::One).admin().await?;
    for (end, again) in [("COMMIT", true), ("SET autocommit = 1", false)] {
        let mut bound = c.app(Bank::One, &schema).await?;
        let xid = sql::start_global(&mut bound).await?;
        sql::run_all(&mut bound, &["SET autocommit = 0", "UPDATE account SET balance = 1 WHERE id = 1"])
            .await?;
        sql::run(&mut admin, "SET GLOBAL read_only = 1").await?;
        let error = sql::refused(&mut bound, end).await?;
        assert_eq!((error.code, error.state.as_str()), (1290, "HY000"), "{error:?}");
        sql::run(&mut admin, "SET GLOBAL read_only = 0").await?;
        if again {
            sql::run(&mut bound, "COMMIT").await?;
            assert_eq!(c.accounts(Bank::One, &schema).await?, BEFORE, "it was rolled back");
        }
        roll_back(&c, &mut bound, &schema, &xid).await?;
    }
    Ok(())
}
