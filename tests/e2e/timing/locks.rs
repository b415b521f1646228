//! Global row locks: who waits, how long, and who is told to start over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::sql::{Waiting, start};
use atone_tests::wait::until;
use atone_tests::{Bank, Cluster, sql};
use mysql_async::Conn;
use serde_json::json;

atone_tests::shared_tests!(
    the_second_waits_for_the_commit,
    the_second_starts_over_after_a_rollback,
    lock_wait_timeout,
    lock_wait_timeout_of_an_autocommitted_statement,
    deadlock_over_two_servers,
    reads_do_not_wait,
    several_sessions_of_one_transaction,
    the_waiter_that_goes_away,
    lock_list,
    rows_of_others,
    empty_keys,
);

/// Two sessions of two transactions, the first of which has changed row 1 of bank1 and committed that locally.
async fn two(c: &Cluster, schema: &str) -> Result<(Conn, String, Conn, String)> {
    let mut first = c.app(Bank::One, schema).await?;
    let mut second = c.app(Bank::One, schema).await?;
    let one = sql::start_global(&mut first).await?;
    let two = sql::start_global(&mut second).await?;
    sql::run(&mut first, "UPDATE account SET balance = balance + 1 WHERE id = 1").await?;
    Ok((first, one, second, two))
}

/// Waits until the coordinator counts a waiter, or fails if the statement ended without waiting.
async fn assert_waits(c: &Cluster, waiting: &Waiting) -> Result<()> {
    // The statement has had time enough to end if it were not to wait: others take milliseconds.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(400) {
        ensure!(!waiting.is_finished(), "the statement did not wait");
        c.rest().get("/livez").await?.expect(200)?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn the_second_waits_for_the_commit(c: Arc<Cluster>) -> Result<()> {
    for in_transaction in [false, true] {
        let schema = c.bank_schema("waits").await?;
        let (mut first, one, mut second, two) = two(&c, &schema).await?;
        let waiting = if in_transaction {
            sql::run_all(&mut second, &["BEGIN", "UPDATE account SET balance = balance + 10 WHERE id = 1"])
                .await?;
            start(second, "COMMIT")
        } else {
            start(second, "UPDATE account SET balance = balance + 10 WHERE id = 1")
        };
        assert_waits(&c, &waiting).await?;
        assert_eq!(
            c.accounts(Bank::One, &schema).await?[0],
            "1|ann|101",
            "nothing of the second is committed"
        );
        assert!(c.rest().locks(&two).await?.is_empty());
        let begun = Instant::now();
        sql::run(&mut first, "COMMIT GLOBAL TRANSACTION").await?;
        let (mut second, result) = waiting.await?;
        result?;
        assert!(begun.elapsed() < Duration::from_secs(3), "it went on only after {:?}", begun.elapsed());
        assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|111");
        sql::run(&mut second, "ROLLBACK GLOBAL TRANSACTION").await?;
        c.rest().wait_for_status(&two, "rolled_back", SOON).await?;
        c.rest().wait_for_status(&one, "committed", SOON).await?;
        assert_eq!(
            c.accounts(Bank::One, &schema).await?[0],
            "1|ann|101",
            "to the first one's value, not before it"
        );
    }
    Ok(())
}

async fn the_second_starts_over_after_a_rollback(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("starts_over").await?;
    let (mut first, one, mut second, two) = two(&c, &schema).await?;
    sql::run_all(&mut second, &["BEGIN", "UPDATE account SET balance = balance + 10 WHERE id = 1"]).await?;
    let waiting = start(second, "COMMIT");
    assert_waits(&c, &waiting).await?;
    // The second holds InnoDB's lock on the row that the rollback needs: it has to give way.
    sql::run(&mut first, "ROLLBACK GLOBAL TRANSACTION").await?;
    let (mut second, result) = waiting.await?;
    sql::server_error(result, "COMMIT")?.expect_naming(1213, "40001", &two)?;
    c.rest().wait_for_status(&one, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|100");
    // Run again, as a driver would after 1213.
    sql::run_all(&mut second, &["BEGIN", "UPDATE account SET balance = balance + 10 WHERE id = 1", "COMMIT"])
        .await?;
    sql::run(&mut second, "COMMIT GLOBAL TRANSACTION").await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|110");
    Ok(())
}

async fn lock_wait_timeout(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("timeout").await?;
    let (mut first, _one, mut second, two) = two(&c, &schema).await?;
    sql::run_all(
        &mut second,
        &[
            "SET SESSION innodb_lock_wait_timeout = 1",
            "BEGIN",
            "UPDATE account SET balance = 0 WHERE id = 2",
            "UPDATE account SET balance = balance + 10 WHERE id = 1",
        ],
    )
    .await?;
    let begun = Instant::now();
    let error = sql::refused(&mut second, "COMMIT").await?;
    error.expect_naming(1205, "HY000", &two)?;
    assert!(
        (Duration::from_millis(900)..Duration::from_secs(5)).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
    assert!(c.rest().locks(&two).await?.is_empty());
    // The local transaction is still open: once the lock is free the same COMMIT works.
    assert_eq!(sql::cell(&mut second, "SELECT balance FROM account WHERE id = 2").await?, "0");
    assert_eq!(c.accounts(Bank::One, &schema).await?[1], "2|bob|100");
    sql::run(&mut first, "COMMIT GLOBAL TRANSACTION").await?;
    sql::run(&mut second, "COMMIT").await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?[..2], ["1|ann|111", "2|bob|0"]);
    sql::run(&mut second, "COMMIT GLOBAL TRANSACTION").await
}

async fn lock_wait_timeout_of_an_autocommitted_statement(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("timeout_auto").await?;
    let (mut first, _one, mut second, two) = two(&c, &schema).await?;
    sql::run(&mut second, "SET SESSION innodb_lock_wait_timeout = 1").await?;
    let error = sql::refused(&mut second, "UPDATE account SET balance = 0 WHERE id = 1").await?;
    error.expect_naming(1205, "HY000", &two)?;
    // Nothing is left open: an outsider can write the row at once.
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(
        &mut direct,
        &["SET SESSION innodb_lock_wait_timeout = 1", "UPDATE account SET balance = 5 WHERE id = 1"],
    )
    .await?;
    sql::run(&mut first, "COMMIT GLOBAL TRANSACTION").await?;
    sql::run(&mut second, "UPDATE account SET balance = 0 WHERE id = 1").await?;
    sql::run(&mut second, "COMMIT GLOBAL TRANSACTION").await
}

async fn deadlock_over_two_servers(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("deadlock").await?;
    let mut one = (c.app(Bank::One, &schema).await?, c.app(Bank::Two, &schema).await?);
    let mut two = (c.app(Bank::One, &schema).await?, c.app(Bank::Two, &schema).await?);
    let mut xids = Vec::new();
    for session in [&mut one, &mut two] {
        let xid = sql::start_global(&mut session.0).await?;
        sql::run(&mut session.1, format!("SET @atone_xid = '{xid}'")).await?;
        xids.push(xid);
    }
    sql::run(&mut one.0, "UPDATE account SET balance = 1 WHERE id = 1").await?;
    sql::run(&mut two.1, "UPDATE account SET balance = 2 WHERE id = 1").await?;
    // The first waits on bank2 for the second; the second would wait on bank1 for the first.
    let waiting = start(one.1, "UPDATE account SET balance = 1 WHERE id = 1");
    assert_waits(&c, &waiting).await?;
    let begun = Instant::now();
    let error = sql::refused(&mut two.0, "UPDATE account SET balance = 2 WHERE id = 1").await?;
    error.expect_naming(1213, "40001", &xids[1])?;
    assert!(error.message.contains("(deadlock)"), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(3), "found only after {:?}", begun.elapsed());
    c.rest().rollback(&xids[1]).await?.expect(200)?;
    let (mut one_on_two, result) = waiting.await?;
    // The holder is rolled back: the waiter starts over, and then gets the row.
    let error = sql::server_error(result, "the waiter")?;
    error.expect(1213, "40001")?;
    assert!(error.message.contains("is being rolled back"), "{error:?}");
    c.rest().wait_for_status(&xids[1], "rolled_back", SOON).await?;
    sql::run(&mut one_on_two, "UPDATE account SET balance = 1 WHERE id = 1").await?;
    sql::run(&mut one.0, "COMMIT GLOBAL TRANSACTION").await?;
    for bank in [Bank::One, Bank::Two] {
        assert_eq!(c.accounts(bank, &schema).await?[0], "1|ann|1");
    }
    Ok(())
}

async fn reads_do_not_wait(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("reads").await?;
    let (mut first, _one, mut second, _two) = two(&c, &schema).await?;
    sql::run(&mut second, "SET SESSION innodb_lock_wait_timeout = 1").await?;
    assert_eq!(sql::cell(&mut second, "SELECT balance FROM account WHERE id = 1").await?, "101");
    sql::run(&mut second, "UPDATE account SET balance = 0 WHERE id = 2").await?;
    sql::run(&mut second, "COMMIT GLOBAL TRANSACTION").await?;
    sql::run(&mut first, "COMMIT GLOBAL TRANSACTION").await
}

async fn several_sessions_of_one_transaction(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("reentrant").await?;
    let xid = c.rest().begin(json!({})).await?;
    let mut tasks = Vec::new();
    for _ in 0..6 {
        let (c, schema, xid) = (Arc::clone(&c), schema.clone(), xid.clone());
        tasks.push(tokio::spawn(async move {
            let mut conn = c.app(Bank::One, &schema).await?;
            sql::run(&mut conn, format!("SET @atone_xid = '{xid}'")).await?;
            for _ in 0..5 {
                sql::run(&mut conn, "UPDATE account SET balance = balance + 1 WHERE id = 1").await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|130");
    c.rest().rollback(&xid).await?.expect(200)?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|100");
    Ok(())
}

async fn the_waiter_that_goes_away(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("goes_away").await?;
    let (mut first, _one, second, two) = two(&c, &schema).await?;
    let waiting = start(second, "UPDATE account SET balance = 77 WHERE id = 1");
    assert_waits(&c, &waiting).await?;
    waiting.abort();
    sql::run(&mut first, "COMMIT GLOBAL TRANSACTION").await?;
    // The row is free again, and the one that went away has changed nothing.
    let mut third = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut third).await?;
    sql::run(&mut third, "UPDATE account SET balance = balance + 1000 WHERE id = 1").await?;
    until("the row has the third one's value only", SOON, || async {
        Ok((c.accounts(Bank::One, &schema).await?[0] == "1|ann|1101").then_some(()))
    })
    .await?;
    c.rest().rollback(&two).await?.expect(200)?;
    sql::run(&mut third, "COMMIT GLOBAL TRANSACTION").await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|1101");
    Ok(())
}

async fn lock_list(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("list").await?;
    let mut conn = c.app(Bank::Two, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    sql::run(&mut conn, "UPDATE account SET balance = 0").await?;
    let locks = c.rest().locks(&xid).await?;
    assert_eq!(locks.len(), 3, "{locks:?}");
    for lock in &locks {
        assert_eq!(
            (lock["resource"].as_str(), lock["xid"].as_str()),
            (Some("bank2"), Some(xid.as_str())),
            "{lock}"
        );
        assert!(lock["branch_id"].is_u64(), "{lock}");
    }
    let table = format!("{schema}.account");
    let filtered = c.rest().get(&format!("/v1/locks?resource=bank2&table={table}")).await?.expect(200)?;
    assert_eq!(filtered["locks"].as_array().map(Vec::len), Some(3), "{filtered}");
    let other = c.rest().get(&format!("/v1/locks?resource=bank1&table={table}")).await?.expect(200)?;
    assert_eq!(other["locks"], json!([]));
    // In pages.
    let mut keys = Vec::new();
    let mut after = String::new();
    loop {
        let page = c.rest().get(&format!("/v1/locks?xid={xid}&limit=2{after}")).await?.expect(200)?;
        keys.extend(page["locks"].as_array().into_iter().flatten().map(|l| l["key"].to_string()));
        match page.get("next").and_then(|next| next.as_str()) {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    keys.sort();
    assert_eq!(keys, ["\"1\"", "\"2\"", "\"3\""]);
    let listed = c.atone(&["lock", "ls", "--xid", &xid]).await?.success()?;
    for word in ["bank2", &table, &xid] {
        assert!(listed.contains(word), "{listed}");
    }
    sql::run(&mut conn, "COMMIT GLOBAL TRANSACTION").await?;
    assert!(c.rest().locks(&xid).await?.is_empty());
    Ok(())
}

/// What a branch reads by key must not wait for other rows, which others have locked on the server, be the table ever
/// so small; nor must its rollback.
async fn rows_of_others(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("rows_of_others").await?;
    let mut other = c.direct(Bank::One, &schema).await?;
    let rows: Vec<String> = (1..=20).map(|i| format!("({i}, 0)")).collect();
    sql::run(&mut other, "CREATE TABLE t (id INT PRIMARY KEY, n INT)").await?;
    sql::run(&mut other, format!("INSERT INTO t VALUES {}", rows.join(","))).await?;
    sql::run_all(
        &mut other,
        &["BEGIN", "INSERT INTO t VALUES (1001, -1)", "UPDATE t SET n = 5 WHERE id = 20"],
    )
    .await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    sql::run_all(&mut conn, &["SET innodb_lock_wait_timeout = 1", "BEGIN"]).await?;
    for id in 1..=13 {
        sql::run(&mut conn, format!("UPDATE t SET n = n + 1 WHERE id = {id}")).await?;
    }
    let rows: Vec<String> = (101..=113).map(|i| format!("({i}, 1)")).collect();
    sql::run(&mut conn, format!("INSERT INTO t VALUES {}", rows.join(","))).await?;
    sql::run(&mut conn, "COMMIT").await?;
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    sql::run(&mut other, "COMMIT").await?;
    let seen = c.rows(Bank::One, &schema, "SELECT COUNT(*), SUM(n), MAX(id) FROM t").await?;
    assert_eq!(seen, ["21|4|1001"]);
    Ok(())
}

/// A key may be the empty text, which has a lock as well.
async fn empty_keys(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("empty_keys").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run(
        &mut direct,
        "CREATE TABLE t (id VARCHAR(40) PRIMARY KEY, b VARBINARY(9) NOT NULL, UNIQUE KEY (b))",
    )
    .await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    sql::run(&mut conn, "INSERT INTO t VALUES ('', '')").await?;
    ensure!(!c.rest().locks(&xid).await?.is_empty(), "no lock");
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.rows(Bank::One, &schema, "SELECT * FROM t").await?, [""; 0]);
    Ok(())
}
