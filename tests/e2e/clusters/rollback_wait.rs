//! A rollback is answered when it has happened, or says that it has not.

use anyhow::{Context as _, Result};
use atone_tests::cluster::SOON;
use atone_tests::run::Harmable;
use atone_tests::wait::until;
use atone_tests::{Bank, Cluster, ClusterOptions, sql};
use mysql_async::Conn;

atone_tests::owned_tests!(waiting("300s") =>
    what_is_read_behind_a_rollback_is_undone,
    a_conflict_ends_the_wait,
    a_client_that_goes_gives_up_its_wait,
    a_kill_ends_the_wait,
);
atone_tests::owned_tests!(waiting("1s") => a_rollback_that_is_not_done_warns);
atone_tests::owned_tests!(waiting("0s") => a_call_says_how_long_it_waits);

const BEFORE: [&str; 3] = ["1|ann|100", "2|bob|100", "3|NULL|100"];

fn waiting(wait: &str) -> ClusterOptions {
    let coordinator_transaction = format!("rollback_wait = \"{wait}\"\n");
    ClusterOptions { coordinator_transaction, ..ClusterOptions::default() }
}

/// A bound session with a branch on the first server that has committed locally.
async fn branch(c: &Cluster, schema: &str) -> Result<(Conn, String)> {
    let mut app = c.app(Bank::One, schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run(&mut app, "UPDATE account SET balance = 70 WHERE id = 1").await?;
    Ok((app, xid))
}

/// An outsider whose row lock holds phase two up.
async fn blocker(c: &Cluster, schema: &str) -> Result<Conn> {
    let mut outsider = c.direct(Bank::One, schema).await?;
    sql::run_all(&mut outsider, &["BEGIN", "SELECT * FROM account FOR UPDATE"]).await?;
    Ok(outsider)
}

/// Waits until so many calls wait for a rollback.
async fn until_waiting(c: &Cluster, count: usize) -> Result<()> {
    let line = format!("atone_rollback_waiters {count}");
    until(&line, SOON, || async {
        let metrics = c.rest().get("/metrics").await?.text;
        Ok(metrics.lines().any(|seen| seen == line).then_some(()))
    })
    .await
}

async fn what_is_read_behind_a_rollback_is_undone(c: Harmable) -> Result<()> {
    let c = c.lock().await;
    let schema = c.bank_schema("done").await?;
    for by_rest in [false, true, false, true] {
        let (mut one, xid) = branch(&c, &schema).await?;
        let mut two = c.app(Bank::Two, &schema).await?;
        sql::run(&mut two, format!("SET @atone_xid = '{xid}'")).await?;
        sql::run(&mut two, "DELETE FROM account WHERE id > 1").await?;
        if by_rest {
            let answer = c.rest().rollback(&xid).await?.expect(200)?;
            assert_eq!(answer["status"], "rolled_back");
        } else {
            sql::run(&mut one, "ROLLBACK GLOBAL TRANSACTION").await?;
            assert_eq!(one.get_warnings(), 0);
        }
        assert_eq!(sql::rows(&mut two, "SELECT id, name, balance FROM account ORDER BY id").await?, BEFORE);
        assert_eq!(c.accounts(Bank::One, &schema).await?, BEFORE);
        assert_eq!(c.rest().transaction(&xid).await?["status"], "rolled_back");
    }
    Ok(())
}

async fn a_rollback_that_is_not_done_warns(c: Harmable) -> Result<()> {
    let c = c.lock().await;
    let schema = c.bank_schema("late").await?;
    let (mut app, xid) = branch(&c, &schema).await?;
    let mut outsider = blocker(&c, &schema).await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    assert_eq!(app.get_warnings(), 1);
    let id = c.rest().transaction(&xid).await?["branches"][0]["branch_id"].to_string();
    let warning = format!("Warning|1196|atone: {xid} is rolling_back: branch {id} on bank1");
    for _ in 0..2 {
        assert_eq!(sql::rows(&mut app, "SHOW WARNINGS").await?.join("\n"), warning);
    }
    assert_eq!(sql::cell(&mut app, "SELECT @@warning_count").await?, "1");
    // It is over for this session all the same.
    assert_eq!(sql::xid(&mut app).await?, None);
    sql::refused(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?.expect(1399, "XAE07")?;
    assert_eq!(c.rest().rollback(&xid).await?.expect(200)?["status"], "rolling_back");
    sql::run(&mut outsider, "ROLLBACK").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, BEFORE);
    Ok(())
}

async fn a_call_says_how_long_it_waits(c: Harmable) -> Result<()> {
    let c = c.lock().await;
    let schema = c.bank_schema("asked").await?;
    let (mut app, xid) = branch(&c, &schema).await?;
    let mut outsider = blocker(&c, &schema).await?;
    let path = |wait: &str| format!("/v1/transactions/{xid}/rollback?wait={wait}");
    for bad in ["301s", "x", "5", "1y", ""] {
        c.rest().post(&path(bad)).await?.expect_problem(400)?;
    }
    assert_eq!(c.rest().transaction(&xid).await?["status"], "active", "nothing was done by those");
    // The default here is not to wait.
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    assert_eq!(app.get_warnings(), 1);
    for wait in ["0s", "200ms"] {
        assert_eq!(c.rest().post(&path(wait)).await?.expect(200)?["status"], "rolling_back");
    }
    let long = path("20s");
    let (waited, released) = tokio::join!(c.rest().post(&long), async {
        until_waiting(&c, 1).await?;
        sql::run(&mut outsider, "ROLLBACK").await
    });
    released?;
    assert_eq!(waited?.expect(200)?["status"], "rolled_back");
    assert_eq!(c.accounts(Bank::One, &schema).await?, BEFORE);
    Ok(())
}

async fn a_conflict_ends_the_wait(c: Harmable) -> Result<()> {
    let c = c.lock().await;
    let schema = c.bank_schema("conflict").await?;
    let (mut app, xid) = branch(&c, &schema).await?;
    let mut outsider = c.direct(Bank::One, &schema).await?;
    sql::run(&mut outsider, "UPDATE account SET balance = 71 WHERE id = 1").await?;
    // Both would wait for minutes.
    let ended = sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION");
    tokio::time::timeout(SOON, ended).await.context("the wait did not end")??;
    assert_eq!(app.get_warnings(), 1);
    let warnings = sql::rows(&mut app, "SHOW WARNINGS").await?;
    let begin = format!("Warning|1196|atone: {xid} is rollback_failed: branch ");
    assert!(warnings.len() == 1 && warnings[0].starts_with(&begin), "{warnings:?}");
    let again =
        tokio::time::timeout(SOON, c.rest().rollback(&xid)).await.context("the wait did not end")??;
    assert_eq!(again.expect(200)?["status"], "rollback_failed");
    sql::run(&mut outsider, "UPDATE account SET balance = 70 WHERE id = 1").await?;
    assert_eq!(c.rest().rollback(&xid).await?.expect(200)?["status"], "rolled_back");
    assert_eq!(c.accounts(Bank::One, &schema).await?, BEFORE);
    Ok(())
}

async fn a_client_that_goes_gives_up_its_wait(c: Harmable) -> Result<()> {
    let c = c.lock().await;
    let schema = c.bank_schema("gone").await?;
    let (app, xid) = branch(&c, &schema).await?;
    let mut outsider = blocker(&c, &schema).await?;
    let sql_wait = tokio::spawn(async move {
        let mut app = app;
        sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await
    });
    until_waiting(&c, 1).await?;
    let rest = c.rest().clone();
    let rest_wait = tokio::spawn({
        let xid = xid.clone();
        async move { rest.rollback(&xid).await }
    });
    until_waiting(&c, 2).await?;
    // Their connections are closed with them
    sql_wait.abort();
    until_waiting(&c, 1).await?;
    rest_wait.abort();
    until_waiting(&c, 0).await?;
    sql::run(&mut outsider, "ROLLBACK").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, BEFORE);
    Ok(())
}

async fn a_kill_ends_the_wait(c: Harmable) -> Result<()> {
    let c = c.lock().await;
    let schema = c.bank_schema("killed").await?;
    let (mut app, xid) = branch(&c, &schema).await?;
    let id: u32 = sql::cell(&mut app, "SELECT CONNECTION_ID()").await?.parse()?;
    let mut outsider = blocker(&c, &schema).await?;
    let (ended, killed) = tokio::join!(sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION"), async {
        c.until_running(id, "SELECT /* atone: waits for a global rollback */%").await?;
        // A kill that comes between two of its short statements ends none: it is sent until the wait is over
        until("the wait is killed", SOON, || async {
            let mut admin = c.server(Bank::One).admin().await?;
            sql::run(&mut admin, format!("KILL QUERY {id}")).await?;
            let metrics = c.rest().get("/metrics").await?.text;
            Ok(metrics.lines().any(|seen| seen == "atone_rollback_waiters 0").then_some(()))
        })
        .await
    });
    killed?;
    ended?;
    assert_eq!(app.get_warnings(), 1);
    assert_eq!(sql::xid(&mut app).await?, None);
    sql::run(&mut outsider, "ROLLBACK").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    Ok(())
}
