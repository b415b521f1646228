//! The proxy's limits: above each the statement gets its error, nothing of it has run, and the session goes on.

use anyhow::{Context as _, Result};
use atone_tests::run::Harmable;
use atone_tests::server::RAW;
use atone_tests::wire::{Greeting, RawConn, caps, error_packet};
use atone_tests::{Bank, Cluster, ClusterOptions, sql};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

fn limits() -> ClusterOptions {
    let proxy_limits = "max_branch_rows = 3\nmax_branch_bytes = 20000\nmax_statement_bytes = 3000\n\
                        max_prepared_statements = 2\nmax_connections = 3\n";
    ClusterOptions { proxy_limits: proxy_limits.to_owned(), ..ClusterOptions::default() }
}

fn short_login() -> ClusterOptions {
    let proxy_timeouts = "handshake_timeout = \"3s\"\nconnect_timeout = \"3s\"\n".to_owned();
    ClusterOptions { proxy_timeouts, ..ClusterOptions::default() }
}

atone_tests::owned_tests!(limits() => each_limit_has_its_error);
fn of_coordinator() -> ClusterOptions {
    let limits = "[limits]\nmax_transactions = 2\nmax_branches_per_transaction = 2\nmax_locks_per_branch = 2\n\
                  max_waiters = 1\n";
    ClusterOptions { coordinator_transaction: limits.to_owned(), ..ClusterOptions::default() }
}

atone_tests::owned_tests!(of_coordinator() => limits_of_the_coordinator_say_try_again);
atone_tests::owned_tests!(short_login() => logins_that_take_too_long, logins_that_the_server_delays);

/// The statement is refused with this code, the rows are as before, and the session can still write a row.
async fn refused(
    c: &Cluster,
    conn: &mut Conn,
    schema: &str,
    statement: &str,
    code: u16,
    names: &str,
) -> Result<()> {
    let rows = "SELECT id, n, LENGTH(b) FROM many ORDER BY id";
    let before = c.rows(Bank::One, schema, rows).await?;
    let error = sql::refused(conn, statement).await?;
    assert_eq!(
        (error.code, error.message.contains(names)),
        (code, true),
        "{statement:.60}: {}",
        error.message
    );
    assert_eq!(c.rows(Bank::One, schema, rows).await?, before, "{statement:.60}");
    sql::run(conn, "UPDATE many SET n = n + 1 WHERE id = 1").await
}

async fn each_limit_has_its_error(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let schema = c.schema("limits").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run(&mut direct, "CREATE TABLE many (id INT PRIMARY KEY, n INT NOT NULL, b LONGBLOB)").await?;
    sql::run(
        &mut direct,
        "INSERT INTO many VALUES (1,0,''),(2,0,''),(3,0,''),(4,0,''),(5,0,REPEAT('x',15000)),(6,0,REPEAT('x',15000))",
    )
    .await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut conn).await?;

    let rows = "max_branch_rows";
    refused(c, &mut conn, &schema, "UPDATE many SET n = 9 WHERE id < 5", 1235, rows).await?;
    refused(c, &mut conn, &schema, "DELETE FROM many WHERE id < 5", 1235, rows).await?;
    refused(
        c,
        &mut conn,
        &schema,
        "INSERT INTO many VALUES (7,0,''),(8,0,''),(9,0,''),(10,0,'')",
        1235,
        rows,
    )
    .await?;
    refused(c, &mut conn, &schema, "UPDATE many SET n = 9 WHERE id IN (5, 6)", 1235, "max_branch_bytes")
        .await?;
    let long = format!("UPDATE many SET n = 9 WHERE id = 1 AND '{}' <> ''", "x".repeat(3000));
    refused(c, &mut conn, &schema, &long, 1153, "max_statement_bytes").await?;

    // A local transaction that has reached the limit is still open, with what it had done.
    sql::run_all(&mut conn, &["BEGIN", "UPDATE many SET n = 7 WHERE id IN (1, 2)"]).await?;
    sql::refused(&mut conn, "UPDATE many SET n = 7 WHERE id IN (3, 4)").await?.expect(1235, "42000")?;
    sql::run(&mut conn, "COMMIT").await?;
    let sevens = c.rows(Bank::One, &schema, "SELECT id FROM many WHERE n = 7 ORDER BY id").await?;
    assert_eq!(sevens, ["1", "2"]);
    sql::run(&mut conn, "COMMIT GLOBAL TRANSACTION").await?;

    let (_one, _two) = (conn.prep("SELECT 1").await?, conn.prep("SELECT 2").await?);
    let error = sql::server_error(conn.prep("SELECT 3").await.map(drop), "a third prepared statement")?;
    error.expect(1461, "42000")?;

    let mut others = Vec::new();
    for _ in 0..2 {
        others.push(c.app(Bank::One, &schema).await?);
    }
    let (code, message) = sql::refused_login(c.app_options(Bank::One, &schema)).await?;
    assert_eq!((code, message.contains("max_connections")), (1040, true), "{message}");
    Ok(())
}

/// The error that a connection ends with.
async fn told(conn: &mut RawConn) -> Result<(u16, String)> {
    let (_, packet) = conn.read().await?.context("closed without a word")?;
    let error = error_packet(&packet).with_context(|| format!("no error: {packet:?}"))?;
    anyhow::ensure!(conn.read().await?.is_none(), "the connection goes on");
    Ok(error)
}

/// What the server takes for a login is not the client's silence: one who is silent, and came later, goes first.
async fn logins_that_the_server_delays(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let port = c.proxy_port(Bank::One);
    let mut delayed = RawConn::connect(port).await?;
    let (_, greeting) = delayed.read().await?.context("no greeting")?;
    let mut answer = caps::MINIMAL.to_le_bytes()[..4].to_vec();
    answer.resize(32, 0);
    let plugin = Greeting::parse(&greeting)?.plugin;
    answer
        .extend_from_slice(&[RAW.as_bytes(), b"\0\0information_schema\0", plugin.as_bytes(), b"\0"].concat());
    let mut silent = RawConn::connect(port).await?;
    silent.read().await?.context("no greeting")?;

    c.server(Bank::One).pause()?;
    let seen = async {
        delayed.send(1, &answer).await?;
        told(&mut silent).await
    }
    .await;
    c.server(Bank::One).resume()?;
    let (code, message) = seen?;
    assert_eq!((code, message.contains("handshake_timeout = 3s")), (1159, true), "{message}");
    let (_, packet) = delayed.read().await?.context("closed without a word")?;
    anyhow::ensure!(packet.first() == Some(&0), "not let in: {:?}", error_packet(&packet));
    let answer = delayed.command(b"\x03DO 0").await?.context("closed")?;
    anyhow::ensure!(answer.first() == Some(&0), "{answer:?}");
    Ok(())
}

/// Who was too slow is told so, and the connection is closed.
async fn logins_that_take_too_long(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let mut silent = RawConn::connect(c.proxy_port(Bank::One)).await?;
    let (_, greeting) = silent.read().await?.context("no greeting")?;
    assert_eq!(greeting.first(), Some(&10));
    let (code, message) = told(&mut silent).await?;
    assert_eq!((code, message.contains("handshake_timeout = 3s")), (1159, true), "{message}");

    c.server(Bank::One).pause()?;
    let mut waiting = RawConn::connect(c.proxy_port(Bank::One)).await?;
    let seen = told(&mut waiting).await;
    c.server(Bank::One).resume()?;
    let (code, message) = seen?;
    assert_eq!((code, message.contains("connect_timeout = 3s")), (1429, true), "{message}");
    c.app(Bank::One, "information_schema").await?;
    Ok(())
}

/// 1040 with the limit's name, from the first to the last.
async fn limits_of_the_coordinator_say_try_again(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let schema = c.bank_schema("coordinator").await?;
    let reached = async |conn: &mut Conn, statement: &str, limit: &str| -> Result<()> {
        let error = sql::refused(conn, statement).await?;
        error.expect(1040, "08004")?;
        assert!(error.message.starts_with("atone: ") && error.message.contains(limit), "{}", error.message);
        Ok(())
    };
    let (mut one, mut two) = (c.app(Bank::One, &schema).await?, c.app(Bank::One, &schema).await?);
    let mut more = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut one).await?;
    let xid = sql::start_global(&mut two).await?;
    reached(&mut more, "START GLOBAL TRANSACTION", "max_transactions").await?;
    let problem = c.rest().post("/v1/transactions").await?.expect_problem(503)?;
    assert_eq!(problem["code"], "limit_reached");
    reached(&mut one, "UPDATE account SET balance = 1", "max_locks_per_branch").await?;
    for id in [1, 2] {
        sql::run(&mut one, format!("UPDATE account SET balance = {id} WHERE id = {id}")).await?;
    }
    reached(&mut one, "UPDATE account SET balance = 3 WHERE id = 3", "max_branches_per_transaction").await?;
    // One waits; the next one would be the second.
    sql::run(&mut more, format!("SET @atone_xid = '{xid}'")).await?;
    let id: u32 = sql::cell(&mut two, "SELECT CONNECTION_ID()").await?.parse()?;
    let (waited, refused) =
        tokio::join!(sql::run(&mut two, "UPDATE account SET name = 'x' WHERE id = 1"), async {
            c.until_running(id, "SELECT /* atone: waits for a global row lock */%").await?;
            reached(&mut more, "UPDATE account SET name = 'y' WHERE id = 2", "max_waiters").await?;
            sql::run(&mut one, "COMMIT GLOBAL TRANSACTION").await
        });
    refused?;
    waited?;
    // What met the limit was rolled back, and can be sent again.
    sql::run(&mut more, "UPDATE account SET name = 'y' WHERE id = 2").await?;
    sql::run(&mut two, "COMMIT GLOBAL TRANSACTION").await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|x|1", "2|y|2", "3|NULL|100"]);
    Ok(())
}
