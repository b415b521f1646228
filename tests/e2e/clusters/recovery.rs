//! Processes that are killed at the worst moment, and what the rest makes of it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use atone_tests::cluster::SOON;
use atone_tests::run::Harmable;
use atone_tests::{Bank, Cluster, ClusterOptions, sql};
use serde_json::json;

// Each test has a cluster of its own, in which whatever was killed is started again.
atone_tests::owned_tests!(ClusterOptions::default() =>
    killed_after_the_local_commits,
    killed_in_the_middle_of_phase_two,
    servers_away,
    a_lost_local_transaction,
    coordinator_away,
    proxy_away,
    locks_survive,
    orderly_ends,
);

const BEFORE: [&str; 3] = ["1|ann|100", "2|bob|100", "3|NULL|100"];

/// A transfer whose two branches have committed locally.
async fn transfer(c: &Cluster, schema: &str) -> Result<String> {
    let mut one = c.app(Bank::One, schema).await?;
    let mut two = c.app(Bank::Two, schema).await?;
    let xid = sql::start_global(&mut one).await?;
    sql::run(&mut two, format!("SET @atone_xid = '{xid}'")).await?;
    sql::run(&mut one, "UPDATE account SET balance = 70 WHERE id = 1").await?;
    sql::run(&mut one, "DELETE FROM account WHERE id = 3").await?;
    sql::run(&mut two, "UPDATE account SET balance = 130 WHERE id = 2").await?;
    sql::run(&mut two, "INSERT INTO account VALUES (4, 'dee', 4)").await?;
    Ok(xid)
}

async fn assert_committed(c: &Cluster, schema: &str, xid: &str) -> Result<()> {
    c.rest().wait_for_status(xid, "committed", SOON).await?;
    assert_eq!(c.accounts(Bank::One, schema).await?, ["1|ann|70", "2|bob|100"]);
    assert_eq!(c.accounts(Bank::Two, schema).await?, ["1|ann|100", "2|bob|130", "3|NULL|100", "4|dee|4"]);
    assert_clean(c, schema, xid).await
}

async fn assert_rolled_back(c: &Cluster, schema: &str, xid: &str) -> Result<()> {
    c.rest().wait_for_status(xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, schema).await?, BEFORE);
    assert_eq!(c.accounts(Bank::Two, schema).await?, BEFORE);
    assert_clean(c, schema, xid).await
}

async fn assert_clean(c: &Cluster, schema: &str, xid: &str) -> Result<()> {
    assert!(c.rest().locks(xid).await?.is_empty(), "locks are left");
    c.wait_for_purge(Bank::One, schema).await?;
    c.wait_for_purge(Bank::Two, schema).await
}

async fn killed_after_the_local_commits(c: Harmable) -> Result<()> {
    let mut c = c.lock().await;
    for (kill_coordinator, kill_proxy) in [(true, false), (false, true), (true, true)] {
        for commit in [true, false] {
            let schema = c.bank_schema("killed").await?;
            let xid = transfer(&c, &schema).await?;
            if kill_coordinator {
                c.coordinator.kill9()?;
            }
            if kill_proxy {
                c.proxy.kill9()?;
            }
            if kill_coordinator {
                c.coordinator.restart().await?;
            }
            if kill_proxy {
                c.proxy.restart().await?;
            }
            c.proxy.wait_until_ready().await?;
            let what = format!(
                "coordinator killed: {kill_coordinator}, proxy killed: {kill_proxy}, commit: {commit}"
            );
            let transaction = c.rest().transaction(&xid).await.with_context(|| what.clone())?;
            assert_eq!(transaction["status"], "active", "{what}");
            assert_eq!(c.rest().locks(&xid).await?.len(), 4, "{what}: every lock is known again");
            if commit {
                c.rest().commit(&xid).await?.expect(200).with_context(|| what.clone())?;
                assert_committed(&c, &schema, &xid).await.with_context(|| what.clone())?;
            } else {
                c.rest().rollback(&xid).await?.expect(200).with_context(|| what.clone())?;
                assert_rolled_back(&c, &schema, &xid).await.with_context(|| what.clone())?;
            }
        }
    }
    Ok(())
}

async fn killed_in_the_middle_of_phase_two(c: Harmable) -> Result<()> {
    let mut c = c.lock().await;
    for (kill_coordinator, kill_proxy) in [(true, false), (false, true), (true, true)] {
        for commit in [true, false] {
            let schema = c.bank_schema("middle").await?;
            let xid = transfer(&c, &schema).await?;
            // A row lock of an outsider holds phase two's rollback up, so that the kill is in its middle.
            let mut blocker = c.direct(Bank::One, &schema).await?;
            sql::run_all(
                &mut blocker,
                &["BEGIN", "SELECT * FROM account FOR UPDATE", "SELECT * FROM undo_log FOR UPDATE"],
            )
            .await?;
            let rest = c.rest();
            let answer = if commit { rest.commit(&xid).await? } else { rest.decide_rollback(&xid).await? };
            let status = answer.expect(200)?["status"].clone();
            let decided = if commit { ["committing", "committed"] } else { ["rolling_back", "rolling_back"] };
            assert!(decided.iter().any(|s| status == json!(s)), "{status}");
            if kill_coordinator {
                c.coordinator.kill9()?;
            }
            if kill_proxy {
                c.proxy.kill9()?;
            }
            sql::run(&mut blocker, "ROLLBACK").await?;
            if kill_coordinator {
                c.coordinator.restart().await?;
            }
            if kill_proxy {
                c.proxy.restart().await?;
            }
            c.proxy.wait_until_ready().await?;
            let what = format!(
                "coordinator killed: {kill_coordinator}, proxy killed: {kill_proxy}, commit: {commit}"
            );
            if commit {
                assert_committed(&c, &schema, &xid).await.with_context(|| what.clone())?;
                c.rest().rollback(&xid).await?.expect_problem(409)?;
            } else {
                assert_rolled_back(&c, &schema, &xid).await.with_context(|| what.clone())?;
                c.rest().commit(&xid).await?.expect_problem(409)?;
            }
        }
    }
    Ok(())
}

async fn servers_away(c: Harmable) -> Result<()> {
    let mut c = c.lock().await;
    // Decided while one server is down: the other is restored at once, this one when it is back.
    let schema = c.bank_schema("away").await?;
    let xid = transfer(&c, &schema).await?;
    c.bank2.kill9()?;
    c.rest().decide_rollback(&xid).await?.expect(200)?;
    atone_tests::wait::until("bank1 is restored", SOON, || async {
        Ok((c.accounts(Bank::One, &schema).await? == BEFORE).then_some(()))
    })
    .await?;
    assert_eq!(c.rest().transaction(&xid).await?["status"], "rolling_back");
    let ready = c.proxy.rest().get("/readyz").await?;
    assert_eq!(ready.status, 503, "{ready:?}");
    assert!(ready.text.contains("bank2"), "the reason names the server: {}", ready.text);
    c.bank2.restart().await?;
    c.rest().wait_for_status(&xid, "rolled_back", Duration::from_secs(60)).await?;
    assert_rolled_back(&c, &schema, &xid).await?;
    c.proxy.wait_until_ready().await?;

    // Both servers killed after the local commits: what they acknowledged is there, and so is the undo row.
    for commit in [true, false] {
        let schema = c.bank_schema("crashed").await?;
        let xid = transfer(&c, &schema).await?;
        c.bank1.kill9()?;
        c.bank2.kill9()?;
        c.bank1.restart().await?;
        c.bank2.restart().await?;
        if commit {
            c.rest().commit(&xid).await?.expect(200)?;
            assert_committed(&c, &schema, &xid).await?;
        } else {
            c.rest().rollback(&xid).await?.expect(200)?;
            c.rest().wait_for_status(&xid, "rolled_back", Duration::from_secs(60)).await?;
            assert_rolled_back(&c, &schema, &xid).await?;
        }
    }
    Ok(())
}

/// A COMMIT GLOBAL TRANSACTION that lost the local transaction which it was to commit first commits no rest when it
/// is sent again.
async fn a_lost_local_transaction(c: Harmable) -> Result<()> {
    let mut c = c.lock().await;
    for again in [false, true] {
        let schema = c.bank_schema("lost_local").await?;
        let mut bound = c.app(Bank::One, &schema).await?;
        let xid = sql::start_global(&mut bound).await?;
        let first = "UPDATE account SET balance = 1 WHERE id = 1";
        let second = "UPDATE account SET balance = 2 WHERE id = 2";
        sql::run_all(&mut bound, &[first, "BEGIN", second]).await?;
        c.coordinator.kill9()?;
        sql::refused(&mut bound, "COMMIT GLOBAL TRANSACTION").await?.expect_naming(1429, "HY000", &xid)?;
        c.coordinator.restart().await?;
        c.proxy.wait_until_ready().await?;
        for _ in 0..2 {
            let lost = sql::refused(&mut bound, "COMMIT GLOBAL TRANSACTION").await?;
            lost.expect_naming(1213, "40001", &xid)?;
            assert!(lost.message.contains("run it again"), "{lost:?}");
            // A local transaction that writes nothing is not it
            sql::run_all(&mut bound, &["BEGIN", "SELECT * FROM account", "COMMIT"]).await?;
        }
        assert_eq!(c.rest().transaction(&xid).await?["status"], "active");
        let expected = if again {
            sql::run_all(&mut bound, &["BEGIN", second, "COMMIT GLOBAL TRANSACTION"]).await?;
            c.rest().wait_for_status(&xid, "committed", SOON).await?;
            ["1|ann|1", "2|bob|2", "3|NULL|100"]
        } else {
            sql::run(&mut bound, "ROLLBACK GLOBAL TRANSACTION").await?;
            c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
            ["1|ann|100", "2|bob|100", "3|NULL|100"]
        };
        assert_eq!(c.accounts(Bank::One, &schema).await?, expected);
    }
    Ok(())
}

async fn coordinator_away(c: Harmable) -> Result<()> {
    let mut c = c.lock().await;
    let schema = c.bank_schema("no_coordinator").await?;
    let mut bound = c.app(Bank::One, &schema).await?;
    let mut unbound = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut bound).await?;
    sql::run_all(&mut bound, &["BEGIN", "UPDATE account SET balance = 1 WHERE id = 1"]).await?;
    c.coordinator.kill9()?;
    // Nothing committed.
    sql::refused(&mut bound, "COMMIT").await?.expect(1429, "HY000")?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, BEFORE);
    // Of the whole nobody can say that here.
    let unknown = sql::refused(&mut bound, "COMMIT GLOBAL TRANSACTION").await?;
    unknown.expect_naming(1429, "HY000", &xid)?;
    for part in ["is not known", "again", &format!("GET /v1/transactions/{xid}")] {
        assert!(unknown.message.contains(part), "{part}: {}", unknown.message);
    }
    sql::refused(&mut unbound, "START GLOBAL TRANSACTION").await?.expect(1429, "HY000")?;
    sql::refused(&mut unbound, format!("SET @atone_xid = '{xid}'")).await?.expect(1429, "HY000")?;
    // Sessions that have nothing to do with it go on.
    sql::run(&mut unbound, "UPDATE account SET balance = 200 WHERE id = 2").await?;
    let mut fresh = c.app(Bank::One, &schema).await?;
    assert_eq!(sql::cell(&mut fresh, "SELECT balance FROM account WHERE id = 2").await?, "200");
    let ready = c.proxy.rest().get("/readyz").await?;
    assert_eq!(ready.status, 503, "{ready:?}");

    c.coordinator.restart().await?;
    c.proxy.wait_until_ready().await?;
    assert_eq!(c.rest().transaction(&xid).await?["status"], "active");
    sql::run(&mut fresh, format!("SET @atone_xid = '{xid}'")).await?;
    sql::run_all(&mut fresh, &["UPDATE account SET balance = 300 WHERE id = 3", "COMMIT GLOBAL TRANSACTION"])
        .await?;
    c.rest().wait_for_status(&xid, "committed", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|100", "2|bob|200", "3|NULL|300"]);
    Ok(())
}

async fn proxy_away(c: Harmable) -> Result<()> {
    let mut c = c.lock().await;
    let schema = c.bank_schema("no_proxy").await?;
    let mut bound = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut bound).await?;
    sql::run(&mut bound, "UPDATE account SET balance = 2 WHERE id = 2").await?;
    sql::run_all(&mut bound, &["BEGIN", "UPDATE account SET balance = 1 WHERE id = 1"]).await?;
    c.proxy.kill9()?;
    // The open local transaction is gone with its connection; the branch that committed is undone when the proxy is
    // back, and the decision does not wait for it.
    c.rest().decide_rollback(&xid).await?.expect(200)?;
    assert_eq!(c.rest().transaction(&xid).await?["status"], "rolling_back");
    c.proxy.restart().await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, BEFORE);
    Ok(())
}

async fn locks_survive(c: Harmable) -> Result<()> {
    let mut c = c.lock().await;
    let schema = c.bank_schema("locks").await?;
    let xid = transfer(&c, &schema).await?;
    c.coordinator.kill9()?;
    c.coordinator.restart().await?;
    c.proxy.wait_until_ready().await?;
    let mut other = c.app(Bank::One, &schema).await?;
    let other_xid = sql::start_global(&mut other).await?;
    assert_ne!(other_xid, xid, "an XID never comes again");
    sql::run(&mut other, "SET SESSION innodb_lock_wait_timeout = 1").await?;
    sql::refused(&mut other, "UPDATE account SET balance = 0 WHERE id = 1").await?.expect(1205, "HY000")?;
    let ids = |t: &serde_json::Value| -> Vec<u64> {
        t["branches"].as_array().into_iter().flatten().filter_map(|b| b["branch_id"].as_u64()).collect()
    };
    let before = ids(&c.rest().transaction(&xid).await?);
    c.rest().commit(&xid).await?.expect(200)?;
    sql::run(&mut other, "UPDATE account SET balance = 0 WHERE id = 1").await?;
    let after = ids(&c.rest().transaction(&other_xid).await?);
    assert!(after.iter().min() > before.iter().max(), "branch ids go on rising: {before:?}, {after:?}");
    sql::run(&mut other, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&other_xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|70");
    Ok(())
}

async fn orderly_ends(c: Harmable) -> Result<()> {
    let mut c = c.lock().await;
    let schema = c.bank_schema("orderly").await?;
    let xid = transfer(&c, &schema).await?;
    let mut idle = c.app(Bank::One, &schema).await?;
    sql::run(&mut idle, "SELECT 1").await?;
    for _ in 0..2 {
        let status = c.proxy.sigterm().await?;
        assert_eq!(status.code(), Some(0), "the proxy\n{}", c.proxy.log_tail(40));
        let status = c.coordinator.sigterm().await?;
        assert_eq!(status.code(), Some(0), "the coordinator\n{}", c.coordinator.log_tail(40));
        c.coordinator.restart().await?;
        c.proxy.restart().await?;
    }
    c.rest().rollback(&xid).await?.expect(200)?;
    assert_rolled_back(&c, &schema, &xid).await?;
    // In the other order the proxy has nobody to tell.
    assert_eq!(c.coordinator.sigterm().await?.code(), Some(0));
    assert_eq!(c.proxy.sigterm().await?.code(), Some(0));
    Ok(())
}
