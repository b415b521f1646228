//! Statements of a bound session that the server breaks off, and sessions that end in the middle. Conditions that
//! choose other rows each time, and more than one proxy in front of the same servers.

use std::sync::Arc;

use anyhow::{Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::run::Harmable;
use atone_tests::{Bank, Cluster, ClusterOptions, sql};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use serde_json::json;

atone_tests::shared_tests!(
    innodb_deadlock,
    innodb_lock_wait_timeout,
    killed_query,
    killed_connection,
    volatile_conditions,
    read_committed_phantoms,
    several_schemas_in_one_branch,
    temporary_tables,
    autocommit_set_on_again_commits_nothing,
);
atone_tests::owned_tests!(ClusterOptions::default() => two_proxies);

const BEFORE: [&str; 3] = ["1|ann|100", "2|bob|100", "3|NULL|100"];

async fn roll_back(c: &Cluster, conn: &mut Conn, schema: &str, xid: &str) -> Result<()> {
    c.roll_back_global(conn, xid).await?;
    assert_eq!(c.accounts(Bank::One, schema).await?, BEFORE);
    Ok(())
}

async fn autocommit_set_on_again_commits_nothing(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("autocommit_again").await?;
    let mut bound = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut bound).await?;
    sql::run_all(&mut bound, &["BEGIN", "UPDATE account SET balance = 1 WHERE id = 1", "SET autocommit = 1"])
        .await?;
    // Still open: nothing of it is to be seen, and it can be rolled back
    assert_eq!(c.accounts(Bank::One, &schema).await?, BEFORE);
    sql::run_all(&mut bound, &["UPDATE account SET balance = 2 WHERE id = 2", "ROLLBACK"]).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, BEFORE);
    sql::run_all(&mut bound, &["SET autocommit = 0", "UPDATE account SET balance = 3 WHERE id = 3"]).await?;
    sql::run(&mut bound, "SET autocommit = 1").await?;
    assert_eq!(c.undo_rows(Bank::One, &schema).await?, 1, "set on where it was off it commits");
    roll_back(&c, &mut bound, &schema, &xid).await
}

async fn innodb_deadlock(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("innodb_deadlock").await?;
    let mut outsider = c.direct(Bank::One, &schema).await?;
    // The one that has written less is the victim.
    sql::run(&mut outsider, "CREATE TABLE weight (id INT PRIMARY KEY)").await?;
    let weight: Vec<String> = (0..500).map(|n| format!("({n})")).collect();
    sql::run_all(&mut outsider, &["BEGIN", "UPDATE account SET balance = balance WHERE id = 2"]).await?;
    sql::run(&mut outsider, format!("INSERT INTO weight VALUES {}", weight.join(","))).await?;

    let mut bound = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut bound).await?;
    sql::run_all(&mut bound, &["BEGIN", "UPDATE account SET balance = 1 WHERE id = 1"]).await?;
    let id = outsider.id();
    let waiting = tokio::spawn(async move {
        let result = outsider.query_drop("SELECT * FROM account WHERE id = 1 FOR UPDATE").await;
        (outsider, result)
    });
    c.until_running(id, "%id = 1 FOR UPDATE").await?;
    let error = sql::refused(&mut bound, "UPDATE account SET balance = 2 WHERE id = 2").await?;
    assert_eq!((error.code, error.state.as_str()), (1213, "40001"), "{error:?}");
    let (mut outsider, result) = waiting.await?;
    result?;
    sql::run(&mut outsider, "ROLLBACK").await?;
    // The server has rolled the whole local transaction back: nothing of it is left in the branch.
    sql::run_all(&mut bound, &["BEGIN", "UPDATE account SET balance = 3 WHERE id = 3", "COMMIT"]).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|100", "2|bob|100", "3|NULL|3"]);
    assert_eq!(c.rest().locks(&xid).await?.len(), 1);
    roll_back(&c, &mut bound, &schema, &xid).await
}

async fn innodb_lock_wait_timeout(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("innodb_wait").await?;
    let mut outsider = c.direct(Bank::One, &schema).await?;
    sql::run_all(&mut outsider, &["BEGIN", "SELECT * FROM account WHERE id = 2 FOR UPDATE"]).await?;
    let mut bound = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut bound).await?;
    sql::run_all(
        &mut bound,
        &["SET SESSION innodb_lock_wait_timeout = 1", "BEGIN", "UPDATE account SET balance = 1 WHERE id = 1"],
    )
    .await?;
    for statement in [
        "UPDATE account SET balance = 2 WHERE id = 2",
        "DELETE FROM account",
        "UPDATE account SET balance = 0 ORDER BY id LIMIT 2",
    ] {
        let error = sql::refused(&mut bound, statement).await?;
        assert_eq!((error.code, error.state.as_str()), (1205, "HY000"), "{error:?}");
    }
    // Only the statements are undone; the transaction goes on.
    sql::run(&mut bound, "COMMIT").await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|1", "2|bob|100", "3|NULL|100"]);
    assert_eq!(c.rest().locks(&xid).await?.len(), 1);
    sql::run(&mut outsider, "ROLLBACK").await?;
    roll_back(&c, &mut bound, &schema, &xid).await
}

async fn killed_query(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("killed_query").await?;
    let mut outsider = c.direct(Bank::One, &schema).await?;
    sql::run_all(&mut outsider, &["BEGIN", "SELECT * FROM account WHERE id = 2 FOR UPDATE"]).await?;
    let mut bound = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut bound).await?;
    sql::run_all(&mut bound, &["BEGIN", "UPDATE account SET balance = 1 WHERE id = 1"]).await?;
    let id = bound.id();
    let waiting = tokio::spawn(async move {
        let result = bound.query_drop("UPDATE account SET balance = 2 WHERE id = 2").await;
        (bound, result)
    });
    c.until_running(id, "%account%").await?;
    sql::run(&mut c.server(Bank::One).admin().await?, format!("KILL QUERY {id}")).await?;
    let (mut bound, result) = waiting.await?;
    let error = sql::server_error(result, "the killed UPDATE")?;
    assert_eq!(error.code, 1317, "{error:?}");
    sql::run(&mut outsider, "ROLLBACK").await?;
    sql::run(&mut bound, "COMMIT").await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|1", "2|bob|100", "3|NULL|100"]);
    roll_back(&c, &mut bound, &schema, &xid).await
}

async fn killed_connection(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("killed_connection").await?;
    let mut bound = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut bound).await?;
    sql::run(&mut bound, "UPDATE account SET balance = 2 WHERE id = 2").await?;
    sql::run_all(&mut bound, &["BEGIN", "UPDATE account SET balance = 1 WHERE id = 1"]).await?;
    sql::run(&mut c.server(Bank::One).admin().await?, format!("KILL {}", bound.id())).await?;
    ensure!(bound.query_drop("COMMIT").await.is_err(), "the connection was to be gone");
    // What had committed is a branch; what had not is gone.
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|100", "2|bob|2", "3|NULL|100"]);
    let mut fresh = c.app(Bank::One, &schema).await?;
    sql::run(&mut fresh, format!("SET @atone_xid = '{xid}'")).await?;
    roll_back(&c, &mut fresh, &schema, &xid).await
}

async fn volatile_conditions(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("volatile").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run(&mut direct, "CREATE TABLE t (id INT PRIMARY KEY, v INT, w DOUBLE, s VARCHAR(40))").await?;
    let values: Vec<String> = (0..200).map(|n| format!("({n}, {n}, 0, 'x')")).collect();
    sql::run(&mut direct, format!("INSERT INTO t VALUES {}", values.join(","))).await?;
    let before = sql::rows(&mut direct, "SELECT * FROM t").await?;
    let mut bound = c.app(Bank::One, &schema).await?;
    for statement in [
        "UPDATE t SET v = v + 1000 WHERE RAND() < 0.5",
        "UPDATE t SET w = RAND(), s = UUID()",
        "DELETE FROM t WHERE RAND() < 0.3",
        "DELETE FROM t ORDER BY RAND() LIMIT 20",
        "UPDATE t SET v = -1 LIMIT 7",
        "UPDATE t SET v = -1 WHERE v IN (SELECT x.n FROM (SELECT v AS n FROM t WHERE RAND() < 0.5) AS x)",
        "UPDATE t SET s = NOW(6) WHERE id % 3 = SECOND(NOW(6)) % 3",
    ] {
        let xid = sql::start_global(&mut bound).await?;
        sql::run(&mut bound, statement).await?;
        let affected = bound.affected_rows();
        let changed = sql::rows(&mut direct, "SELECT * FROM t").await?;
        ensure!(changed != before || affected == 0, "{statement} changed nothing");
        sql::run(&mut bound, "ROLLBACK GLOBAL TRANSACTION").await?;
        c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
        assert_eq!(sql::rows(&mut direct, "SELECT * FROM t").await?, before, "{statement}");
    }
    Ok(())
}

async fn read_committed_phantoms(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("phantoms").await?;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    // An outsider lets a row come and go, which the condition of the bound UPDATE fits.
    let mut outsider = c.direct(Bank::One, &schema).await?;
    let running = Arc::clone(&stop);
    let coming_and_going = tokio::spawn(async move {
        while !running.load(std::sync::atomic::Ordering::Relaxed) {
            outsider.query_drop("INSERT INTO account VALUES (7, 'ghost', 7)").await?;
            // Captured or not, it is the outsider's to delete.
            outsider.query_drop("DELETE FROM account WHERE id = 7").await?;
        }
        anyhow::Ok(())
    });
    let mut bound = c.app(Bank::One, &schema).await?;
    sql::run(&mut bound, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
    let mut failed = 0;
    for _ in 0..30 {
        let xid = sql::start_global(&mut bound).await?;
        // A row that is not there any more at COMMIT makes the local transaction fail: it is run again.
        if bound.query_drop("UPDATE account SET balance = balance + 1 WHERE id <> 7").await.is_err() {
            failed += 1;
        }
        sql::run(&mut bound, "ROLLBACK GLOBAL TRANSACTION").await?;
        c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    coming_and_going.await??;
    ensure!(failed < 30, "no UPDATE worked");
    assert_eq!(c.accounts(Bank::One, &schema).await?, BEFORE);
    Ok(())
}

async fn several_schemas_in_one_branch(c: Arc<Cluster>) -> Result<()> {
    let (one, two) = (c.bank_schema("schema_a").await?, c.bank_schema("schema_b").await?);
    let mut bound = c.app(Bank::One, &one).await?;
    let xid = sql::start_global(&mut bound).await?;
    sql::run(&mut bound, "BEGIN").await?;
    sql::run(&mut bound, format!("UPDATE `{two}`.account SET balance = 1 WHERE id = 1")).await?;
    sql::run(&mut bound, "DELETE FROM account WHERE id = 2").await?;
    sql::run(&mut bound, format!("USE `{two}`")).await?;
    sql::run(&mut bound, "INSERT INTO account VALUES (4, 'dee', 4)").await?;
    sql::run(&mut bound, "COMMIT").await?;
    // One branch, one undo row, in the schema of its first written table.
    assert_eq!(c.rest().transaction(&xid).await?["branches"][0]["schema"], json!(two));
    assert_eq!((c.undo_rows(Bank::One, &one).await?, c.undo_rows(Bank::One, &two).await?), (0, 1));
    assert_eq!(c.rest().locks(&xid).await?.len(), 3);
    roll_back(&c, &mut bound, &one, &xid).await?;
    assert_eq!(c.accounts(Bank::One, &two).await?, BEFORE);
    Ok(())
}

async fn temporary_tables(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("temporary").await?;
    let mut bound = c.app(Bank::One, &schema).await?;
    // It hides the real one of the same name, and needs no undo: captured by mistake it would "restore" the real one.
    sql::run_all(
        &mut bound,
        &[
            "CREATE TEMPORARY TABLE account (id INT PRIMARY KEY, name VARCHAR(40), balance INT)",
            "INSERT INTO account VALUES (1, 'temporary', 5)",
        ],
    )
    .await?;
    let xid = sql::start_global(&mut bound).await?;
    match bound.query_drop("UPDATE account SET balance = 6 WHERE id = 1").await {
        Ok(()) => assert_eq!(sql::cell(&mut bound, "SELECT balance FROM account").await?, "6"),
        Err(mysql_async::Error::Server(error)) => assert_eq!(error.code, 1235, "{error:?}"),
        Err(other) => return Err(other.into()),
    }
    assert_eq!(c.accounts(Bank::One, &schema).await?, BEFORE);
    assert_eq!(c.rest().locks(&xid).await?, Vec::<serde_json::Value>::new());
    roll_back(&c, &mut bound, &schema, &xid).await
}

async fn two_proxies(c: Harmable) -> Result<()> {
    let c = c.lock().await;
    let schema = c.bank_schema("two_proxies").await?;
    let (mut second, ports) = c.second_proxy().await?;
    let mut one = c.app(Bank::One, &schema).await?;
    let mut other = sql::connect(ports[0], atone_tests::server::APP, Some(&schema)).await?;
    let mut other_two = sql::connect(ports[1], atone_tests::server::APP, Some(&schema)).await?;
    let xid = sql::start_global(&mut one).await?;
    for conn in [&mut other, &mut other_two] {
        sql::run(conn, format!("SET @atone_xid = '{xid}'")).await?;
    }
    sql::run(&mut one, "UPDATE account SET balance = 1 WHERE id = 1").await?;
    sql::run(&mut other, "UPDATE account SET balance = 2 WHERE id IN (1, 2)").await?;
    sql::run(&mut other_two, "DELETE FROM account").await?;
    // Locks hold whichever proxy one comes by.
    let mut third = sql::connect(ports[0], atone_tests::server::APP, Some(&schema)).await?;
    sql::start_global(&mut third).await?;
    sql::run(&mut third, "SET SESSION innodb_lock_wait_timeout = 1").await?;
    sql::refused(&mut third, "UPDATE account SET balance = 9 WHERE id = 1").await?.expect(1205, "HY000")?;
    sql::run(&mut third, "ROLLBACK GLOBAL TRANSACTION").await?;
    // The proxy of two of the branches is gone for good; the other one undoes them.
    second.kill9()?;
    roll_back(&c, &mut one, &schema, &xid).await?;
    assert_eq!(c.accounts(Bank::Two, &schema).await?, BEFORE);
    c.wait_for_purge(Bank::One, &schema).await?;
    c.wait_for_purge(Bank::Two, &schema).await
}
