//! The table undo_log itself: dropped and made anew, and others in its place.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::{Bank, Cluster, sql};
use mysql_async::Conn;

atone_tests::shared_tests!(
    made_anew_at_once,
    made_anew_with_its_schema,
    refused_with_its_reason,
    replaced_behind_the_statement,
    hidden_by_a_temporary_table,
    as_seata_makes_it,
);

const COLUMNS: &str = "branch_id BIGINT NOT NULL, xid VARCHAR(128) NOT NULL, context VARCHAR(128) NOT NULL, \
                       rollback_info LONGBLOB NOT NULL, log_status INT NOT NULL, log_created DATETIME(6) NOT NULL, \
                       log_modified DATETIME(6) NOT NULL";

async fn set(conn: &mut Conn, id: u32, balance: u32) -> Result<()> {
    sql::run(conn, format!("UPDATE account SET balance = {balance} WHERE id = {id}")).await
}

/// Dropped before a statement, and between a statement and its COMMIT. What it held is lost, and is not taken for
/// rolled back.
async fn made_anew_at_once(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("anew").await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    set(&mut app, 1, 70).await?;
    sql::run(&mut direct, "DROP TABLE undo_log").await?;
    sql::run(&mut app, "BEGIN").await?;
    set(&mut app, 2, 70).await?;
    ensure!(c.undo_list(Bank::One, &schema).await?.is_empty(), "nothing has committed since");
    sql::run(&mut direct, "DROP TABLE undo_log").await.context("it was made before the statement")?;
    sql::run(&mut app, "COMMIT").await?;
    let rows = c.undo_list(Bank::One, &schema).await?;
    ensure!(rows.len() == 1 && rows.iter().all(|row| row.ends_with(&format!("|{xid}|0"))), "{rows:?}");
    // And before a statement that commits by itself.
    sql::run(&mut direct, "CREATE TABLE kept AS SELECT * FROM undo_log").await?;
    sql::run(&mut direct, "DROP TABLE undo_log").await?;
    set(&mut app, 3, 70).await?;
    sql::run(&mut direct, "INSERT INTO undo_log SELECT * FROM kept").await?;

    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    let transaction = c.rest().wait_for_status(&xid, "rollback_failed", SOON).await?;
    let branches = transaction["branches"].as_array().context("no branches")?;
    let said: Vec<&str> = branches.iter().filter_map(|b| b["detail"]["problem"].as_str()).collect();
    assert_eq!(said, ["undo_missing"], "{transaction}");
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|70", "2|bob|100", "3|NULL|100"]);
    Ok(())
}

/// As a suite of tests does it, under a session that goes on.
async fn made_anew_with_its_schema(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("suite").await?;
    let mut app = c.app(Bank::One, "information_schema").await?;
    let mut admin = c.server(Bank::One).admin().await?;
    for n in 0..3 {
        if n > 0 {
            for statement in [
                format!("DROP DATABASE {schema}"),
                format!("CREATE DATABASE {schema}"),
                format!(
                    "CREATE TABLE {schema}.account (id INT PRIMARY KEY, name VARCHAR(40), balance INT NOT NULL)"
                ),
                format!("INSERT INTO {schema}.account VALUES (1, 'ann', 100)"),
            ] {
                sql::run(&mut admin, statement).await?;
            }
        }
        let xid = sql::start_global(&mut app).await?;
        sql::run(&mut app, format!("UPDATE {schema}.account SET balance = 70 WHERE id = 1")).await?;
        c.roll_back_global(&mut app, &xid).await?;
        assert_eq!(c.accounts(Bank::One, &schema).await?.first().map(String::as_str), Some("1|ann|100"));
    }
    Ok(())
}

/// Another table in its place, under a session that has just written an undo record.
async fn refused_with_its_reason(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("shapes").await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    set(&mut app, 1, 70).await?;
    sql::run(&mut direct, "RENAME TABLE undo_log TO kept").await?;
    let with = |more: &str| format!("CREATE TABLE undo_log ({COLUMNS}, {more})");
    let key = "PRIMARY KEY (branch_id, xid)";
    for (create, reason) in [
        (format!("{} ENGINE=MyISAM", with(key)), "is of the engine MyISAM"),
        ("CREATE VIEW undo_log AS SELECT * FROM kept".to_owned(), "is no base table but a VIEW"),
        ("CREATE TABLE undo_log (branch_id BIGINT PRIMARY KEY)".to_owned(), "has no column xid"),
        (
            with(key).replace("context VARCHAR(128)", "context VARCHAR(64)"),
            "has the column context as varchar(64)",
        ),
        (with(key).replace("LONGBLOB", "BLOB"), "has the column rollback_info as blob"),
        (with("KEY (branch_id, xid)"), "has no unique key on (branch_id, xid)"),
        (with(&format!("{key}, UNIQUE KEY u (xid)")), "has the unique key u"),
        (with(&format!("{key}, app INT NOT NULL")), "has the column app"),
        (
            format!(
                "{};CREATE TRIGGER {schema}_t BEFORE INSERT ON undo_log FOR EACH ROW SET NEW.log_status = 7",
                with(key)
            ),
            "has the trigger",
        ),
    ] {
        for statement in create.split(';') {
            sql::run(&mut direct, statement).await?;
        }
        for ahead in [None, Some("BEGIN")] {
            if let Some(begin) = ahead {
                sql::run(&mut app, begin).await?;
            }
            let error = sql::refused(&mut app, "UPDATE account SET balance = 60 WHERE id = 2").await?;
            error.expect_naming(1235, "42000", &xid).with_context(|| create.clone())?;
            ensure!(error.message.contains(reason), "{create}: {}", error.message);
            sql::run(&mut app, "COMMIT").await?;
        }
        let kind = if create.starts_with("CREATE VIEW") { "VIEW" } else { "TABLE" };
        sql::run(&mut direct, format!("DROP {kind} undo_log")).await?;
    }
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|70", "2|bob|100", "3|NULL|100"]);
    sql::run(&mut direct, "RENAME TABLE kept TO undo_log").await?;
    set(&mut app, 2, 60).await?;
    c.roll_back_global(&mut app, &xid).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|100", "2|bob|100", "3|NULL|100"]);
    Ok(())
}

/// Put there between a statement and its COMMIT: nothing is committed without its undo record.
async fn replaced_behind_the_statement(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("replaced").await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    let key = "PRIMARY KEY (branch_id, xid)";
    for (create, reason) in [
        ("CREATE TABLE undo_log (branch_id BIGINT PRIMARY KEY)".to_owned(), "has no column xid"),
        (format!("CREATE TABLE undo_log ({COLUMNS}, app INT NOT NULL, {key})"), "has the column app"),
        ("CREATE VIEW undo_log AS SELECT 1 AS branch_id".to_owned(), "is no base table but a VIEW"),
    ] {
        sql::run(&mut app, "BEGIN").await?;
        set(&mut app, 1, 70).await?;
        sql::run_all(&mut direct, &["DROP TABLE undo_log", &create]).await?;
        let error = sql::refused(&mut app, "COMMIT").await?;
        error.expect_naming(1235, "42000", &xid).with_context(|| create.clone())?;
        ensure!(error.message.contains(reason), "{create}: {}", error.message);
        let kind = if create.starts_with("CREATE VIEW") { "VIEW" } else { "TABLE" };
        sql::run(&mut direct, format!("DROP {kind} undo_log")).await?;
    }
    sql::run(&mut app, "COMMIT GLOBAL TRANSACTION").await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|100", "2|bob|100", "3|NULL|100"]);
    Ok(())
}

/// The undo record would go into it, and with the session.
async fn hidden_by_a_temporary_table(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("hidden").await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let create = format!("CREATE TEMPORARY TABLE undo_log ({COLUMNS}, PRIMARY KEY (branch_id, xid))");
    sql::run(&mut app, &create).await?;
    let xid = sql::start_global(&mut app).await?;
    let error = sql::refused(&mut app, "UPDATE account SET balance = 70 WHERE id = 1").await?;
    error.expect_naming(1235, "42000", &xid)?;
    ensure!(error.message.contains("a temporary table hides"), "{}", error.message);
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    sql::run(&mut app, "DROP TEMPORARY TABLE undo_log").await?;
    // And once a bound session has written, while it is not bound.
    let xid = sql::start_global(&mut app).await?;
    set(&mut app, 1, 70).await?;
    c.roll_back_global(&mut app, &xid).await?;
    sql::run(&mut app, &create).await?;
    let xid = sql::start_global(&mut app).await?;
    let error = sql::refused(&mut app, "UPDATE account SET balance = 70 WHERE id = 1").await?;
    error.expect_naming(1235, "42000", &xid)?;
    assert_eq!(c.accounts(Bank::One, &schema).await?.first().map(String::as_str), Some("1|ann|100"));
    Ok(())
}

/// A table of the shape that Seata's users have: with a number of its own, and a column more.
async fn as_seata_makes_it(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("seata").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    let create = format!(
        "CREATE TABLE undo_log (id BIGINT NOT NULL AUTO_INCREMENT, {COLUMNS}, ext VARCHAR(100) DEFAULT NULL, \
         PRIMARY KEY (id), UNIQUE KEY ux_undo_log (xid, branch_id))"
    );
    sql::run(&mut direct, create).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    for id in [1, 2] {
        set(&mut app, id, 70).await?;
    }
    assert_eq!(c.undo_rows(Bank::One, &schema).await?, 2);
    c.roll_back_global(&mut app, &xid).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|100", "2|bob|100", "3|NULL|100"]);
    c.wait_for_purge(Bank::One, &schema).await
}
