//! What is concluded from undo rows that are missing or marked: the table in docs/undo-format.md, on real servers,
//! with rows that somebody has deleted or changed by hand and processes that are killed.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use atone_tests::cluster::SOON;
use atone_tests::run::Harmable;
use atone_tests::wait::until;
use atone_tests::{Bank, Cluster, ClusterOptions, sql};
use mysql_async::prelude::Queryable as _;
use serde_json::{Value, json};

atone_tests::shared_tests!(
    rows_that_contradict_themselves,
    an_operator_keeps_what_an_outsider_wrote,
    what_a_sweep_takes,
);
atone_tests::owned_tests!(ClusterOptions::default() =>
    asking_again_is_no_consent,
    a_restarted_coordinator_knows_who_committed,
    a_dropped_undo_log_says_nothing,
);
// Long enough to change a row by hand before it is purged.
atone_tests::owned_tests!(
    ClusterOptions { coordinator_transaction: "purge_delay = \"5s\"\n".into(), ..ClusterOptions::default() } =>
    a_purge_takes_only_what_should_be_there,
    a_purge_locks_nothing_but_its_rows,
);

const BEFORE: [&str; 3] = ["1|ann|100", "2|bob|100", "3|NULL|100"];
const CHANGED: [&str; 3] = ["1|ann|70", "2|bob|100", "3|NULL|100"];

/// A bound session whose only branch has committed locally: the XID and the session.
async fn branch(c: &Cluster, schema: &str) -> Result<(String, mysql_async::Conn)> {
    let mut app = c.app(Bank::One, schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run(&mut app, "UPDATE account SET balance = 70 WHERE id = 1").await?;
    Ok((xid, app))
}

/// Waits until the coordinator says this of the transaction's only branch.
async fn until_branch(c: &Cluster, xid: &str, status: &str) -> Result<Value> {
    until(&format!("the branch of {xid} is {status}"), SOON, || async {
        let branch = c.rest().transaction(xid).await?["branches"][0].clone();
        Ok((branch["status"] == json!(status)).then_some(branch))
    })
    .await
}

/// How many pieces of work the proxy has answered so since its start.
async fn answered(c: &Cluster, outcome: &str) -> Result<u64> {
    let text = c.proxy.rest().get("/metrics").await?.text;
    let lines = text.lines().filter(|l| l.starts_with("atone_phase_two_total{") && l.contains(outcome));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}

async fn until_answered(c: &Cluster, outcome: &str, count: u64) -> Result<()> {
    until(&format!("{count} answers {outcome}"), SOON, || async {
        Ok((answered(c, outcome).await? >= count).then_some(()))
    })
    .await
}

/// The loss is shown, the locks are kept, and nobody is told that it was rolled back.
async fn assert_stopped(c: &Cluster, schema: &str, xid: &str) -> Result<()> {
    let transaction = c.rest().wait_for_status(xid, "rollback_failed", SOON).await?;
    assert_eq!(transaction["branches"][0]["detail"]["problem"], "undo_missing", "{transaction}");
    assert_eq!(c.rest().locks(xid).await?.len(), 1);
    assert_eq!(c.accounts(Bank::One, schema).await?, CHANGED);
    let mut other = c.app(Bank::One, schema).await?;
    let error = sql::refused(&mut other, format!("SET @atone_xid = '{xid}'")).await?;
    error.expect_naming(1399, "XAE07", xid)?;
    assert!(error.message.contains("rollback_failed"), "{error:?}");
    c.rest().commit(xid).await?.expect_problem(409)?;
    Ok(())
}

async fn asking_again_is_no_consent(c: Harmable) -> Result<()> {
    let mut c = c.lock().await;
    let schema = c.bank_schema("again").await?;
    let (xid, mut app) = branch(&c, &schema).await?;
    let mut bound = Vec::new();
    for _ in 0..2 {
        let mut conn = c.app(Bank::One, &schema).await?;
        sql::run(&mut conn, format!("SET @atone_xid = '{xid}'")).await?;
        bound.push(conn);
    }
    sql::run(&mut c.direct(Bank::One, &schema).await?, "DELETE FROM undo_log").await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    assert_stopped(&c, &schema, &xid).await?;

    // By whatever repeats a call: an HTTP client, the command line, an application.
    let mut tries = answered(&c, "ABSENT").await?;
    for n in 0..2 {
        c.rest().rollback(&xid).await?.expect(200)?;
        tries += 1;
        until_answered(&c, "ABSENT", tries).await?;
        assert_stopped(&c, &schema, &xid).await.with_context(|| format!("POST {n}"))?;
    }
    c.atone(&["tx", "rollback", &xid]).await?.success()?;
    until_answered(&c, "ABSENT", tries + 1).await?;
    assert_stopped(&c, &schema, &xid).await.context("atone tx rollback")?;
    for mut conn in bound {
        tries = answered(&c, "ABSENT").await?;
        sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
        until_answered(&c, "ABSENT", tries + 1).await?;
        assert_stopped(&c, &schema, &xid).await.context("ROLLBACK GLOBAL TRANSACTION")?;
    }
    // By a restart of either side.
    for proxy_too in [false, true] {
        c.coordinator.kill9()?;
        if proxy_too {
            c.proxy.kill9()?;
        }
        let tries = if proxy_too { 0 } else { answered(&c, "ABSENT").await? };
        c.coordinator.restart().await?;
        if proxy_too {
            c.proxy.restart().await?;
        }
        c.proxy.wait_until_ready().await?;
        until_answered(&c, "ABSENT", tries + 1).await?;
        c.rest().rollback(&xid).await?.expect(200)?;
        until_answered(&c, "ABSENT", tries + 2).await?;
        assert_stopped(&c, &schema, &xid).await.with_context(|| format!("killed, proxy too: {proxy_too}"))?;
    }

    // The verb: first what would be given up, then for good.
    let id = c.rest().transaction(&xid).await?["branches"][0]["branch_id"].to_string();
    let dry = c.atone(&["tx", "resolve", &xid, &id, "--keep-current", "--dry-run"]).await?.success()?;
    assert!(dry.contains("dry run") && dry.contains("would be given up: the branch committed"), "{dry}");
    assert_stopped(&c, &schema, &xid).await.context("a dry run")?;
    let usage = c.atone(&["tx", "resolve", &xid, &id]).await?;
    assert_eq!(usage.code, 2, "{usage:?}");
    let done = c.atone(&["tx", "resolve", &xid, &id, "--keep-current", "--by", "ann"]).await?.success()?;
    assert!(done.contains("resolved") && done.contains("given up"), "{done}");
    assert_eq!(c.rest().transaction(&xid).await?["status"], "rolled_back");
    assert_eq!(c.accounts(Bank::One, &schema).await?, CHANGED);
    assert!(c.rest().locks(&xid).await?.is_empty());
    let mut other = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut other).await?;
    sql::run(&mut other, "UPDATE account SET balance = 60 WHERE id = 1").await?;
    sql::run(&mut other, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &schema).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, CHANGED);

    c.coordinator.kill9()?;
    c.coordinator.restart().await?;
    let shown = c.atone(&["tx", "show", &xid]).await?.success()?;
    assert!(shown.contains("keep_current by ann"), "{shown}");
    let path = format!("/v1/transactions/{xid}/branches/{id}/resolve");
    let again = c.rest().post_text(&path, r#"{"action":"keep_current"}"#).await?.expect(200)?;
    assert_eq!((&again["status"], &again["dry_run"]), (&json!("resolved"), &json!(false)));
    Ok(())
}

async fn a_restarted_coordinator_knows_who_committed(c: Harmable) -> Result<()> {
    let mut c = c.lock().await;
    for proxy_too in [false, true] {
        let schema = c.bank_schema("known").await?;
        let (xid, _app) = branch(&c, &schema).await?;
        if proxy_too {
            // It ends when its reports are durable.
            c.proxy.sigterm().await?;
            c.coordinator.kill9()?;
            c.coordinator.restart().await?;
            c.proxy.restart().await?;
        } else {
            c.coordinator.kill9()?;
            c.coordinator.restart().await?;
        }
        c.proxy.wait_until_ready().await?;
        until_branch(&c, &xid, "committed").await.with_context(|| format!("proxy too: {proxy_too}"))?;
        sql::run(&mut c.direct(Bank::One, &schema).await?, "DELETE FROM undo_log").await?;
        c.rest().rollback(&xid).await?.expect(200)?;
        assert_stopped(&c, &schema, &xid).await.with_context(|| format!("proxy too: {proxy_too}"))?;
    }
    Ok(())
}

/// A branch of which nobody knows whether it committed, and an undo_log that was dropped: made anew, the table would
/// say that it never did.
async fn a_dropped_undo_log_says_nothing(c: Harmable) -> Result<()> {
    let mut c = c.lock().await;
    let schema = c.bank_schema("dropped").await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run_all(&mut app, &["BEGIN", "UPDATE account SET balance = 70 WHERE id = 1"]).await?;
    let mut blocker = c.direct(Bank::One, &schema).await?;
    sql::run_all(&mut blocker, &["BEGIN", "SELECT * FROM undo_log FOR UPDATE"]).await?;
    let commit = tokio::spawn(async move { sql::run(&mut app, "COMMIT").await });
    let admin = tokio::sync::Mutex::new(c.server(Bank::One).admin().await?);
    let inserting =
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'INSERT INTO%undo_log%'";
    until("the local COMMIT is under way", SOON, || async {
        Ok((sql::cell(&mut *admin.lock().await, inserting).await? == "1").then_some(()))
    })
    .await?;
    c.proxy.kill9()?;
    assert!(commit.await?.is_err());
    sql::run(&mut blocker, "ROLLBACK").await?;
    until("it has committed all the same", SOON, || async {
        Ok((c.accounts(Bank::One, &schema).await? == CHANGED).then_some(()))
    })
    .await?;
    sql::run_all(
        &mut blocker,
        &["CREATE TABLE saved LIKE undo_log", "INSERT INTO saved SELECT * FROM undo_log"],
    )
    .await?;
    sql::run(&mut blocker, "DROP TABLE undo_log").await?;
    c.proxy.restart().await?;
    c.rest().rollback(&xid).await?.expect(200)?;
    let transaction = c.rest().wait_for_status(&xid, "rollback_failed", SOON).await?;
    let reason = transaction["branches"][0]["detail"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("undo_log` is gone"), "{transaction}");
    assert_eq!(c.rest().locks(&xid).await?.len(), 1);
    // Put back, it is undone.
    sql::run(&mut blocker, "RENAME TABLE saved TO undo_log").await?;
    c.rest().rollback(&xid).await?.expect(200)?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, BEFORE);
    c.wait_for_purge(Bank::One, &schema).await
}

async fn rows_that_contradict_themselves(c: Arc<Cluster>) -> Result<()> {
    for (change, reason) in [
        ("UPDATE undo_log SET log_status = 2", "restored, and its record is still there"),
        ("UPDATE undo_log SET log_status = 2, context = ''", "restored, and its record is still there"),
        ("UPDATE undo_log SET log_status = 1", "never committed, and its record is still there"),
        ("UPDATE undo_log SET log_status = 3", "log_status of a further part"),
        ("UPDATE undo_log SET log_status = 7", "unknown log_status 7"),
        ("UPDATE undo_log SET context = '', rollback_info = ''", "holds no record"),
        ("UPDATE undo_log SET rollback_info = ''", "does not decode"),
        (
            "INSERT INTO undo_log SELECT branch_id, CONCAT(xid, '#2'), context, rollback_info, 3, log_created, log_modified \
             FROM undo_log; UPDATE undo_log SET log_status = 2, context = '', rollback_info = '' WHERE log_status = 0",
            "restored, and further parts of its record are still there",
        ),
        (
            "UPDATE undo_log SET log_status = 3, xid = CONCAT(xid, '#2')",
            "the first row of the undo record is gone, 1 of its parts are there",
        ),
    ] {
        let schema = c.bank_schema("odd").await?;
        let (xid, mut app) = branch(&c, &schema).await?;
        let mut direct = c.direct(Bank::One, &schema).await?;
        sql::run(&mut direct, "CREATE TABLE saved AS SELECT * FROM undo_log").await?;
        for statement in change.split("; ") {
            sql::run(&mut direct, statement).await?;
        }
        sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
        let transaction = c
            .rest()
            .wait_for_status(&xid, "rollback_failed", SOON)
            .await
            .with_context(|| change.to_owned())?;
        let said = transaction["branches"][0]["detail"]["reason"].as_str().unwrap_or_default();
        assert!(said.contains(reason), "{change}: {transaction}");
        assert_eq!(c.accounts(Bank::One, &schema).await?, CHANGED, "{change}");
        assert_eq!(c.rest().locks(&xid).await?.len(), 1, "{change}");
        // As it was, it is undone.
        sql::run_all(&mut direct, &["DELETE FROM undo_log", "INSERT INTO undo_log SELECT * FROM saved"])
            .await?;
        c.rest().rollback(&xid).await?.expect(200)?;
        c.rest().wait_for_status(&xid, "rolled_back", SOON).await.with_context(|| change.to_owned())?;
        assert_eq!(c.accounts(Bank::One, &schema).await?, BEFORE, "{change}");
        c.wait_for_purge(Bank::One, &schema).await?;
    }
    Ok(())
}

/// The record is there, and is given up: no later try may find it.
async fn an_operator_keeps_what_an_outsider_wrote(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("kept").await?;
    let (xid, mut app) = branch(&c, &schema).await?;
    // An earlier branch of the same row waits for it; another server does not.
    let mut two = c.app(Bank::Two, &schema).await?;
    sql::run(&mut two, format!("SET @atone_xid = '{xid}'")).await?;
    sql::run(&mut two, "UPDATE account SET balance = 5 WHERE id = 3").await?;
    sql::run(&mut app, "UPDATE account SET balance = 50 WHERE id = 2").await?;
    let mut outsider = c.direct(Bank::One, &schema).await?;
    sql::run(&mut outsider, "UPDATE account SET balance = 51 WHERE id = 2").await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    let failed = c.rest().wait_for_status(&xid, "rollback_failed", SOON).await?;
    let branches = failed["branches"].as_array().context("no branches")?;
    let stopped = branches.iter().find(|b| b["status"] == "rollback_failed").context("none has stopped")?;
    let path = format!("/v1/transactions/{xid}/branches/{}/resolve", stopped["branch_id"]);
    let waiting = format!("/v1/transactions/{xid}/branches/{}/resolve", branches[0]["branch_id"]);
    let keep = r#"{"action": "keep_current", "by": "ann"}"#;
    c.rest().post_text(&waiting, keep).await?.expect_problem(409)?;
    let dry = r#"{"action": "keep_current", "dry_run": true}"#;
    let dry = c.rest().post_text(&path, dry).await?.expect(200)?;
    assert_eq!(dry["given_up"], stopped["detail"], "{dry}");
    assert_eq!(c.undo_rows(Bank::One, &schema).await?, 2);
    let done = c.rest().post_text(&path, keep).await?.expect(200)?;
    assert_eq!(done["given_up"], stopped["detail"], "{done}");
    // The rest is undone, the row stays as the outsider left it.
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|100", "2|bob|51", "3|NULL|100"]);
    assert_eq!(c.accounts(Bank::Two, &schema).await?, BEFORE);
    c.wait_for_purge(Bank::One, &schema).await?;
    let markers = "SELECT COUNT(*), SUM(LENGTH(rollback_info)) FROM undo_log WHERE log_status = 1";
    assert_eq!(c.rows(Bank::One, &schema, markers).await?, ["1|0"]);
    assert!(c.rest().locks(&xid).await?.is_empty());
    c.rest().rollback(&xid).await?.expect(200)?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|100", "2|bob|51", "3|NULL|100"]);
    Ok(())
}

/// A sweep deletes of what says that a branch was restored only what the coordinator has no more use for.
async fn what_a_sweep_takes(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("swept").await?;
    let (open, mut holder) = branch(&c, &schema).await?;
    let coordinator = open.split(':').next().context("an XID without a colon")?;
    let forgotten = format!("{coordinator}:0000000000000001");
    let mut direct = c.direct(Bank::One, &schema).await?;
    let row = |id: u32, xid: &str, status: u8, created_h: u32, modified_h: u32| {
        format!(
            "INSERT INTO undo_log VALUES ({id}, '{xid}', '', '', {status}, UTC_TIMESTAMP(6) - INTERVAL {created_h} HOUR, \
             UTC_TIMESTAMP(6) - INTERVAL {modified_h} HOUR)"
        )
    };
    for insert in [
        // Restored a moment ago, of a branch of more than a day.
        row(900_001, &open, 2, 72, 0),
        row(900_002, &forgotten, 2, 72, 0),
        // Its result is not stored, since the coordinator was away for days.
        row(900_003, &open, 2, 72, 72),
        row(900_004, &forgotten, 2, 72, 72),
        row(900_005, "ffffffff:0000000000000001", 2, 72, 72),
        // A server lets a silent session live for eight hours beyond the day.
        row(900_006, &open, 1, 25, 25),
        row(900_007, &open, 1, 72, 72),
        // Parts without their first row may be all that is left of a record.
        row(900_008, &format!("{open}#2"), 3, 72, 72),
        row(900_009, &format!("{forgotten}#2"), 3, 72, 72),
    ] {
        sql::run(&mut direct, insert).await?;
    }
    // The first purge in this schema sweeps.
    let mut other = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut other).await?;
    sql::run(&mut other, "UPDATE account SET balance = 1 WHERE id = 3").await?;
    sql::run(&mut other, "COMMIT GLOBAL TRANSACTION").await?;
    let left = "SELECT branch_id - 900000 FROM undo_log WHERE branch_id > 900000 ORDER BY 1";
    until("the sweep is through", SOON, || async {
        Ok((!c.rows(Bank::One, &schema, left).await?.contains(&"9".to_owned())).then_some(()))
    })
    .await?;
    assert_eq!(c.rows(Bank::One, &schema, left).await?, ["1", "2", "3", "5", "6", "8"]);
    sql::run(&mut direct, "DELETE FROM undo_log WHERE branch_id > 900000").await?;
    sql::run(&mut holder, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &schema).await
}

/// A server that loses what it has acknowledged has the record back that its restored rows had left.
async fn a_purge_takes_only_what_should_be_there(c: Harmable) -> Result<()> {
    let c = c.lock().await;
    let schema = c.bank_schema("purged").await?;
    let (xid, mut app) = branch(&c, &schema).await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run(&mut direct, "CREATE TABLE saved AS SELECT * FROM undo_log").await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    sql::run_all(
        &mut direct,
        &[
            "BEGIN",
            "UPDATE account SET balance = 70 WHERE id = 1",
            "DELETE FROM undo_log",
            "INSERT INTO undo_log SELECT * FROM saved",
            "COMMIT",
        ],
    )
    .await?;
    until("the purge has said what it found", SOON, || async {
        Ok(c.proxy.log().contains("not what the coordinator knows").then_some(()))
    })
    .await?;
    assert_eq!(c.undo_rows(Bank::One, &schema).await?, 1);
    Ok(())
}

/// The statement that the service account has sent is taken from the server's own log.
async fn a_purge_locks_nothing_but_its_rows(c: Harmable) -> Result<()> {
    const BRANCHES: usize = 200;
    let c = c.lock().await;
    let schema = c.bank_schema("ranged").await?;
    let mut admin = c.server(Bank::One).admin().await?;
    sql::run_all(&mut admin, &["SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = 1"]).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    for n in 0..BRANCHES {
        sql::run(&mut app, format!("UPDATE account SET balance = {n} WHERE id = 1")).await?;
    }
    let mut direct = c.direct(Bank::One, &schema).await?;
    assert_eq!(c.undo_rows(Bank::One, &schema).await?, BRANCHES);
    // Rows of others, some of them with the same numbers, and in between.
    sql::run_all(
        &mut direct,
        &[
            "CREATE TABLE saved AS SELECT * FROM undo_log",
            "CREATE TABLE digit (n INT PRIMARY KEY)",
            "INSERT INTO digit VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)",
            "INSERT INTO undo_log SELECT a.n * 1000 + b.n * 100 + c.n * 10 + d.n + (SELECT MIN(branch_id) FROM saved), \
             'ffffffff:0000010000000001', '', REPEAT('x', 200), 0, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) \
             FROM digit a, digit b, digit c, digit d WHERE a.n < 5",
            "ANALYZE TABLE undo_log",
        ],
    )
    .await?;
    sql::run(&mut app, "COMMIT GLOBAL TRANSACTION").await?;
    let left = format!("SELECT COUNT(*) FROM undo_log WHERE xid = '{xid}'");
    until("the purge is through", SOON, || async {
        Ok((c.rows(Bank::One, &schema, &left).await? == ["0"]).then_some(()))
    })
    .await?;
    assert_eq!(c.undo_rows(Bank::One, &schema).await?, 5000, "rows of others");
    sql::run(&mut admin, "SET GLOBAL general_log = 0").await?;
    let deletes = format!(
        "SELECT argument FROM mysql.general_log WHERE argument LIKE 'DELETE FROM `{schema}`.`undo_log` WHERE branch_id IN (%'"
    );
    let deletes = sql::rows(&mut admin, deletes).await?;
    assert_eq!(deletes.len(), 1, "{deletes:?}");
    let level = "SELECT COUNT(*) FROM mysql.general_log WHERE argument = 'SET TRANSACTION ISOLATION LEVEL READ COMMITTED'";
    assert_ne!(sql::cell(&mut admin, level).await?, "0");

    // The same again in a transaction that stays open.
    sql::run(&mut direct, "INSERT INTO undo_log SELECT * FROM saved").await?;
    let plan: Vec<mysql_async::Row> =
        direct.query(format!("EXPLAIN FORMAT = TRADITIONAL {}", deletes[0])).await?;
    let [plan] = plan.as_slice() else { anyhow::bail!("{plan:?}") };
    let cell = |name: &str| plan.get::<Option<String>, _>(name).flatten().unwrap_or_default();
    assert_eq!((cell("type").as_str(), cell("key").as_str()), ("range", "PRIMARY"), "{plan:?}");
    let rows: usize = cell("rows").parse()?;
    assert!(rows <= 4 * BRANCHES, "{plan:?}");
    sql::run_all(&mut direct, &["SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "BEGIN", &deletes[0]])
        .await?;
    assert_eq!(sql::cell(&mut direct, &left).await?, "0");
    let mut other = c.direct(Bank::One, &schema).await?;
    sql::run(&mut other, "SET innodb_lock_wait_timeout = 1").await?;
    for (of, id) in [("in between", "MIN(branch_id) + 1"), ("behind all", "MAX(branch_id) + 10000")] {
        let insert = format!(
            "INSERT INTO undo_log SELECT {id}, 'eeeeeeee:0000010000000001', '', '', 0, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) \
             FROM saved"
        );
        sql::run(&mut other, insert).await.context(of)?;
    }
    sql::run(&mut direct, "ROLLBACK").await
}
