//! A transfer between two servers: both sides or none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use atone_tests::cluster::SOON;
use atone_tests::{Bank, Cluster, sql};
use mysql_async::Conn;
use serde_json::json;

atone_tests::shared_tests!(
    commits,
    rolls_back_by_sql,
    rolls_back_by_rest,
    rolls_back_by_timeout,
    default_timeout_is_reported,
    commits_by_rest,
    joins_a_transaction_begun_by_rest,
    joins_by_prepared_statements,
    commit_ends_the_open_local_transaction,
    rollback_ends_the_open_local_transaction,
    a_local_rollback_leaves_no_branch,
    several_branches_of_one_server,
    many_transactions_at_once,
);

const BEFORE: [&str; 3] = ["1|ann|100", "2|bob|100", "3|NULL|100"];

/// Takes 30 from account 1 of bank1 and gives them to account 2 of bank2, each in a local transaction of its own.
async fn transfer(c: &Cluster, schema: &str) -> Result<(Conn, Conn, String)> {
    let mut one = c.app(Bank::One, schema).await?;
    let mut two = c.app(Bank::Two, schema).await?;
    let xid = sql::start_global(&mut one).await?;
    sql::run(&mut two, format!("SET @atone_xid = '{xid}'")).await?;
    assert_eq!(sql::xid(&mut two).await?.as_deref(), Some(xid.as_str()));
    for (conn, change) in [
        (&mut one, "UPDATE account SET balance = balance - 30 WHERE id = 1"),
        (&mut two, "UPDATE account SET balance = balance + 30 WHERE id = 2"),
    ] {
        sql::run(conn, "BEGIN").await?;
        sql::run(conn, change).await?;
        sql::run(conn, "COMMIT").await?;
    }
    Ok((one, two, xid))
}

async fn assert_moved(c: &Cluster, schema: &str) -> Result<()> {
    assert_eq!(c.accounts(Bank::One, schema).await?, ["1|ann|70", "2|bob|100", "3|NULL|100"]);
    assert_eq!(c.accounts(Bank::Two, schema).await?, ["1|ann|100", "2|bob|130", "3|NULL|100"]);
    Ok(())
}

async fn assert_unmoved(c: &Cluster, schema: &str) -> Result<()> {
    assert_eq!(c.accounts(Bank::One, schema).await?, BEFORE);
    assert_eq!(c.accounts(Bank::Two, schema).await?, BEFORE);
    Ok(())
}

/// Nothing is left of an ended transaction: no lock, no undo row.
async fn assert_clean(c: &Cluster, schema: &str, xid: &str) -> Result<()> {
    assert!(c.rest().locks(xid).await?.is_empty(), "locks are left");
    c.wait_for_purge(Bank::One, schema).await?;
    c.wait_for_purge(Bank::Two, schema).await
}

async fn commits(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("commits").await?;
    let (mut one, _two, xid) = transfer(&c, &schema).await?;

    // Committed locally, recorded, and locked.
    assert_moved(&c, &schema).await?;
    assert_eq!(c.undo_rows(Bank::One, &schema).await?, 1);
    assert_eq!(c.undo_rows(Bank::Two, &schema).await?, 1);
    let locks = c.rest().locks(&xid).await?;
    assert_eq!(locks.len(), 2, "{locks:?}");
    let mut seen: Vec<_> =
        locks.iter().map(|l| (l["resource"].clone(), l["table"].clone(), l["key"].clone())).collect();
    seen.sort_by_key(|l| l.0.to_string());
    let table = format!("{schema}.account");
    assert_eq!(
        seen,
        [(json!("bank1"), json!(table), json!("1")), (json!("bank2"), json!(table), json!("2"))]
    );
    let transaction = c.rest().transaction(&xid).await?;
    assert_eq!(transaction["status"], "active");
    assert_eq!(transaction["branches"].as_array().map(Vec::len), Some(2), "{transaction}");

    sql::run(&mut one, "COMMIT GLOBAL TRANSACTION").await?;
    assert_eq!(sql::xid(&mut one).await?, None, "the session is unbound after the end");
    c.rest().wait_for_status(&xid, "committed", SOON).await?;
    assert_moved(&c, &schema).await?;
    assert_clean(&c, &schema, &xid).await
}

async fn rolls_back_by_sql(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("rollback_sql").await?;
    let (_one, mut two, xid) = transfer(&c, &schema).await?;
    sql::run(&mut two, "ROLLBACK GLOBAL TRANSACTION").await?;
    assert_eq!(sql::xid(&mut two).await?, None, "the session is unbound after the end");
    let transaction = c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_ne!(transaction["reason"], "timeout");
    assert_unmoved(&c, &schema).await?;
    assert_clean(&c, &schema, &xid).await
}

async fn rolls_back_by_rest(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("rollback_rest").await?;
    let (mut one, _two, xid) = transfer(&c, &schema).await?;
    let answer = c.rest().rollback(&xid).await?.expect(200)?;
    assert_eq!(answer["xid"], json!(xid));
    assert!(["rolling_back", "rolled_back"].map(|s| json!(s)).contains(&answer["status"]), "{answer}");
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_unmoved(&c, &schema).await?;
    assert_clean(&c, &schema, &xid).await?;
    // The session that is still bound learns of it and has written nothing.
    let error = sql::refused(&mut one, "UPDATE account SET balance = 0 WHERE id = 1").await?;
    error.expect_naming(1402, "XA100", &xid)?;
    assert_unmoved(&c, &schema).await
}

async fn rolls_back_by_timeout(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("rollback_timeout").await?;
    let mut one = c.app(Bank::One, &schema).await?;
    let mut two = c.app(Bank::Two, &schema).await?;
    let begun = Instant::now();
    sql::run(&mut one, "START GLOBAL TRANSACTION NAME 'slow' TIMEOUT 2").await?;
    let xid = sql::xid(&mut one).await?.context("no XID")?;
    sql::run(&mut two, format!("SET @atone_xid = '{xid}'")).await?;
    sql::run(&mut one, "UPDATE account SET balance = balance - 30 WHERE id = 1").await?;
    sql::run(&mut two, "DELETE FROM account WHERE id = 2").await?;
    let transaction = c.rest().transaction(&xid).await?;
    assert_eq!((&transaction["name"], &transaction["timeout_ms"]), (&json!("slow"), &json!(2000)));
    let transaction = c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert!(begun.elapsed() >= Duration::from_secs(2), "rolled back before its time");
    assert!(begun.elapsed() < Duration::from_secs(6), "rolled back only after {:?}", begun.elapsed());
    assert_eq!(transaction["reason"], "timeout");
    assert_unmoved(&c, &schema).await?;
    assert_clean(&c, &schema, &xid).await?;
    sql::refused(&mut one, "UPDATE account SET balance = 0 WHERE id = 1")
        .await?
        .expect_naming(1613, "XA106", &xid)?;
    sql::refused(&mut two, "COMMIT GLOBAL TRANSACTION").await?.expect_naming(1613, "XA106", &xid)?;
    let problem = c.rest().commit(&xid).await?.expect_problem(409)?;
    assert!(problem["detail"].to_string().contains(&xid), "{problem}");
    assert_unmoved(&c, &schema).await
}

async fn default_timeout_is_reported(c: Arc<Cluster>) -> Result<()> {
    let xid = c.rest().begin(json!({})).await?;
    assert_eq!(c.rest().transaction(&xid).await?["timeout_ms"], json!(60_000));
    c.rest().rollback(&xid).await?.expect(200)?;
    Ok(())
}

async fn commits_by_rest(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("commit_rest").await?;
    let (_one, _two, xid) = transfer(&c, &schema).await?;
    let answer = c.rest().commit(&xid).await?.expect(200)?;
    assert!(["committing", "committed"].map(|s| json!(s)).contains(&answer["status"]), "{answer}");
    c.rest().wait_for_status(&xid, "committed", SOON).await?;
    // Again: the same answer. The other end: refused.
    assert_eq!(c.rest().commit(&xid).await?.expect(200)?["status"], "committed");
    c.rest().rollback(&xid).await?.expect_problem(409)?;
    assert_moved(&c, &schema).await?;
    assert_clean(&c, &schema, &xid).await
}

async fn joins_a_transaction_begun_by_rest(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("join_rest").await?;
    for commit in [true, false] {
        let xid = c.rest().begin(json!({"name": "purchase", "timeout_ms": 30_000})).await?;
        let mut two = c.app(Bank::Two, &schema).await?;
        sql::run(&mut two, format!("set @Atone_Xid := '{xid}'")).await?;
        let before = c.accounts(Bank::Two, &schema).await?;
        sql::run(&mut two, "INSERT INTO account VALUES (9, 'new', 1) ").await?;
        if commit {
            sql::run(&mut two, "COMMIT GLOBAL TRANSACTION").await?;
            c.rest().wait_for_status(&xid, "committed", SOON).await?;
            assert!(c.accounts(Bank::Two, &schema).await?.contains(&"9|new|1".to_owned()));
            sql::run(&mut two, "DELETE FROM account WHERE id = 9").await?;
        } else {
            sql::run(&mut two, "SET @atone_xid = NULL").await?;
            c.rest().rollback(&xid).await?.expect(200)?;
            c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
            assert_eq!(c.accounts(Bank::Two, &schema).await?, before);
        }
    }
    Ok(())
}

async fn joins_by_prepared_statements(c: Arc<Cluster>) -> Result<()> {
    use mysql_async::prelude::Queryable as _;
    let schema = c.bank_schema("join_prepared").await?;
    let mut one = c.app(Bank::One, &schema).await?;
    let mut two = c.app(Bank::Two, &schema).await?;
    one.exec_drop("START GLOBAL TRANSACTION", ()).await?;
    let xid: Option<String> = one.exec_first("SELECT @atone_xid", ()).await?;
    let xid = xid.context("no XID")?;
    two.exec_drop("SET @atone_xid = ?", (&xid,)).await?;
    one.exec_drop("UPDATE account SET balance = balance - ? WHERE id = ?", (30, 1)).await?;
    two.exec_drop("UPDATE account SET balance = balance + ? WHERE id = ?", (30, 2)).await?;
    assert_moved(&c, &schema).await?;
    assert_eq!(c.rest().locks(&xid).await?.len(), 2);
    two.exec_drop("ROLLBACK GLOBAL TRANSACTION", ()).await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_unmoved(&c, &schema).await?;
    one.exec_drop("SET @atone_xid = ?", (None::<String>,)).await?;

    one.exec_drop("START GLOBAL TRANSACTION NAME 'again' TIMEOUT 20", ()).await?;
    one.exec_drop("UPDATE account SET balance = balance - ? WHERE id = ?", (30, 1)).await?;
    one.exec_drop("COMMIT GLOBAL TRANSACTION", ()).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|70");
    Ok(())
}

async fn commit_ends_the_open_local_transaction(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("commit_open").await?;
    let mut one = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut one).await?;
    sql::run_all(
        &mut one,
        &["BEGIN", "UPDATE account SET balance = 1 WHERE id = 1", "COMMIT GLOBAL TRANSACTION"],
    )
    .await?;
    c.rest().wait_for_status(&xid, "committed", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|1");
    Ok(())
}

async fn rollback_ends_the_open_local_transaction(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("rollback_open").await?;
    let mut one = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut one).await?;
    sql::run_all(
        &mut one,
        &[
            "UPDATE account SET balance = 5 WHERE id = 2",
            "BEGIN",
            "UPDATE account SET balance = 1 WHERE id = 1",
            "ROLLBACK GLOBAL TRANSACTION",
        ],
    )
    .await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_unmoved(&c, &schema).await?;
    // The row is free: nothing of the local transaction is left open.
    sql::run(&mut one, "UPDATE account SET balance = 8 WHERE id = 1").await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|8");
    Ok(())
}

async fn a_local_rollback_leaves_no_branch(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("local_rollback").await?;
    let mut one = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut one).await?;
    sql::run_all(&mut one, &["BEGIN", "UPDATE account SET balance = 1 WHERE id = 1", "ROLLBACK"]).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, BEFORE);
    assert!(c.rest().locks(&xid).await?.is_empty());
    // A local transaction that reads, or changes nothing in the end, is none either.
    sql::run_all(
        &mut one,
        &[
            "BEGIN",
            "SELECT * FROM account",
            "UPDATE account SET balance = 1 WHERE id = 1",
            "UPDATE account SET balance = 100 WHERE id = 1",
            "COMMIT",
        ],
    )
    .await?;
    assert_eq!(c.rest().transaction(&xid).await?["branches"], json!([]));
    sql::run(&mut one, "COMMIT GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "committed", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, BEFORE);
    Ok(())
}

async fn several_branches_of_one_server(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("several_branches").await?;
    let mut one = c.app(Bank::One, &schema).await?;
    let mut other = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut one).await?;
    sql::run(&mut other, format!("SET @atone_xid = '{xid}'")).await?;
    // The same row over and over, by two sessions in turn: undone in reverse to the first before image.
    for balance in [1, 2, 3, 4] {
        let conn = if balance % 2 == 0 { &mut one } else { &mut other };
        sql::run(conn, format!("UPDATE account SET balance = {balance} WHERE id = 1")).await?;
    }
    sql::run(&mut other, "DELETE FROM account WHERE id = 1").await?;
    sql::run(&mut one, "INSERT INTO account VALUES (1, 'eve', 7)").await?;
    sql::run(&mut other, "UPDATE account SET balance = 8 WHERE id = 1").await?;
    let transaction = c.rest().transaction(&xid).await?;
    let ids: Vec<_> = transaction["branches"]
        .as_array()
        .context("no branches")?
        .iter()
        .map(|b| (b["branch_id"].as_u64(), b["resource"].clone(), b["status"].clone()))
        .collect();
    assert_eq!(ids.len(), 7, "{transaction}");
    assert!(ids.windows(2).all(|w| w[0].0 < w[1].0), "branch ids rise: {ids:?}");
    sql::run(&mut one, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_unmoved(&c, &schema).await?;
    assert_clean(&c, &schema, &xid).await
}

async fn many_transactions_at_once(c: Arc<Cluster>) -> Result<()> {
    const SESSIONS: u32 = 8;
    const TRANSFERS: u32 = 10;
    let schema = c.schema("many").await?;
    for bank in [Bank::One, Bank::Two] {
        let mut conn = c.direct(bank, &schema).await?;
        sql::run(&mut conn, "CREATE TABLE account (id INT PRIMARY KEY, balance INT NOT NULL)").await?;
        for id in 0..SESSIONS {
            sql::run(&mut conn, format!("INSERT INTO account VALUES ({id}, 1000)")).await?;
        }
    }
    let mut tasks = Vec::new();
    for session in 0..SESSIONS {
        let (c, schema) = (Arc::clone(&c), schema.clone());
        tasks.push(tokio::spawn(async move {
            let mut one = c.app(Bank::One, &schema).await?;
            let mut two = c.app(Bank::Two, &schema).await?;
            for n in 0..TRANSFERS {
                let xid = sql::start_global(&mut one).await?;
                sql::run(&mut two, format!("SET @atone_xid = '{xid}'")).await?;
                sql::run(&mut one, format!("UPDATE account SET balance = balance - 1 WHERE id = {session}"))
                    .await?;
                sql::run(&mut two, format!("UPDATE account SET balance = balance + 1 WHERE id = {session}"))
                    .await?;
                sql::run(&mut two, "SET @atone_xid = NULL").await?;
                let end = if n % 2 == 0 { "COMMIT" } else { "ROLLBACK" };
                sql::run(&mut one, format!("{end} GLOBAL TRANSACTION")).await?;
                if n % 2 == 1 {
                    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
                }
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let sum = "SELECT MIN(balance), MAX(balance) FROM account";
    assert_eq!(c.rows(Bank::One, &schema, sum).await?, ["995|995"]);
    assert_eq!(c.rows(Bank::Two, &schema, sum).await?, ["1005|1005"]);
    c.wait_for_purge(Bank::One, &schema).await?;
    c.wait_for_purge(Bank::Two, &schema).await
}
