//! A row that an outsider changed after the branch: the rollback stops there, and the operator learns everything.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use atone_tests::cluster::SOON;
use atone_tests::{Bank, Cluster, sql};
use serde_json::json;

atone_tests::shared_tests!(
    an_outsiders_change_stops_the_rollback,
    an_outsiders_delete,
    an_outsiders_insert,
    a_key_that_is_spelled_otherwise,
    already_restored_rows_are_no_conflict,
    earlier_branches_wait_and_other_servers_do_not,
    a_record_that_does_not_decode,
    a_record_cut_short,
    command_line,
);

async fn an_outsiders_change_stops_the_rollback(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("outsider").await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run_all(
        &mut app,
        &[
            "BEGIN",
            "UPDATE account SET balance = 70 WHERE id = 1",
            "DELETE FROM account WHERE id = 2",
            "COMMIT",
        ],
    )
    .await?;
    let mut outsider = c.direct(Bank::One, &schema).await?;
    sql::run(&mut outsider, "UPDATE account SET balance = 71, name = 'mallory' WHERE id = 1").await?;

    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    let transaction = c.rest().wait_for_status(&xid, "rollback_failed", SOON).await?;
    let branch = &transaction["branches"][0];
    assert_eq!(branch["status"], "rollback_failed", "{transaction}");
    let row = &branch["detail"]["rows"][0];
    assert_eq!((&row["schema"], &row["table"]), (&json!(schema), &json!("account")), "{transaction}");
    assert_eq!(row["key"]["id"].to_string().trim_matches('"'), "1", "{transaction}");
    let mut columns: Vec<&str> =
        row["columns"].as_array().into_iter().flatten().filter_map(|v| v.as_str()).collect();
    columns.sort_unstable();
    assert_eq!(columns, ["balance", "name"], "{transaction}");
    for (image, balance) in [("before", "100"), ("after", "70"), ("current", "71")] {
        assert_eq!(row[image]["balance"].to_string().trim_matches('"'), balance, "{image}: {transaction}");
    }
    // Nothing of the branch was undone, the locks are kept, the undo row is kept.
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|mallory|71", "3|NULL|100"]);
    assert_eq!(c.rest().locks(&xid).await?.len(), 2);
    assert_eq!(c.undo_rows(Bank::One, &schema).await?, 1);
    let mut other = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut other).await?;
    sql::refused(&mut other, "UPDATE account SET balance = 0 WHERE id = 1").await?.expect(1213, "40001")?;
    sql::run(&mut other, "ROLLBACK GLOBAL TRANSACTION").await?;

    // A retry before the row is repaired changes nothing.
    c.rest().rollback(&xid).await?.expect(200)?;
    c.rest().wait_for_status(&xid, "rollback_failed", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|mallory|71", "3|NULL|100"]);

    sql::run(&mut outsider, "UPDATE account SET balance = 70, name = 'ann' WHERE id = 1").await?;
    c.rest().rollback(&xid).await?.expect(200)?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|100", "2|bob|100", "3|NULL|100"]);
    assert!(c.rest().locks(&xid).await?.is_empty());
    c.wait_for_purge(Bank::One, &schema).await
}

/// Runs `change` in a transaction and `outside` behind its back. Expects the rollback to fail with the rows as
/// `outside` left them, then runs `repair`, and expects a retry to finish.
async fn conflict(c: &Cluster, change: &str, outside: &str, repair: &str) -> Result<()> {
    let schema = c.bank_schema("conflict").await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run(&mut app, change).await?;
    let mut outsider = c.direct(Bank::One, &schema).await?;
    sql::run(&mut outsider, outside).await?;
    let rows = c.accounts(Bank::One, &schema).await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rollback_failed", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, rows, "{change}; {outside}");
    assert!(!c.rest().locks(&xid).await?.is_empty());
    sql::run(&mut outsider, repair).await?;
    c.rest().rollback(&xid).await?.expect(200)?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(
        c.accounts(Bank::One, &schema).await?,
        ["1|ann|100", "2|bob|100", "3|NULL|100"],
        "{change}; {outside}"
    );
    Ok(())
}

async fn an_outsiders_delete(c: Arc<Cluster>) -> Result<()> {
    conflict(
        &c,
        "UPDATE account SET balance = 1 WHERE id = 1",
        "DELETE FROM account WHERE id = 1",
        "INSERT INTO account VALUES (1, 'ann', 1)",
    )
    .await?;
    conflict(
        &c,
        "INSERT INTO account VALUES (9, 'new', 1)",
        "UPDATE account SET balance = 2 WHERE id = 9",
        "UPDATE account SET balance = 1 WHERE id = 9",
    )
    .await
}

/// It counts as the same key, and the row with it is not gone.
async fn a_key_that_is_spelled_otherwise(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("spelled").await?;
    let mut outsider = c.direct(Bank::One, &schema).await?;
    sql::run_all(
        &mut outsider,
        &[
            "CREATE TABLE w (k VARCHAR(9) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT)",
            "INSERT INTO w VALUES ('m', 1)",
        ],
    )
    .await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run(&mut app, "INSERT INTO w VALUES ('a', 1), ('b', 2), ('c', 3)").await?;
    sql::run(&mut outsider, "UPDATE w SET k = 'B' WHERE k = 'b'").await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    let transaction = c.rest().wait_for_status(&xid, "rollback_failed", SOON).await?;
    assert_eq!(transaction["branches"][0]["detail"]["rows"][0]["columns"], json!(["k"]), "{transaction}");
    let rows = "SELECT k, v FROM w ORDER BY k";
    assert_eq!(c.rows(Bank::One, &schema, rows).await?, ["a|1", "B|2", "c|3", "m|1"]);
    sql::run(&mut outsider, "UPDATE w SET k = 'b' WHERE k = 'b'").await?;
    c.rest().rollback(&xid).await?.expect(200)?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.rows(Bank::One, &schema, rows).await?, ["m|1"]);
    Ok(())
}

async fn an_outsiders_insert(c: Arc<Cluster>) -> Result<()> {
    conflict(
        &c,
        "DELETE FROM account WHERE id = 1",
        "INSERT INTO account VALUES (1, 'eve', 5)",
        "DELETE FROM account WHERE id = 1",
    )
    .await
}

async fn already_restored_rows_are_no_conflict(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("restored").await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run_all(
        &mut app,
        &[
            "UPDATE account SET balance = 1 WHERE id = 1",
            "DELETE FROM account WHERE id = 2",
            "INSERT INTO account VALUES (9, 'x', 1)",
        ],
    )
    .await?;
    sql::run_all(
        &mut c.direct(Bank::One, &schema).await?,
        &[
            "UPDATE account SET balance = 100 WHERE id = 1",
            "INSERT INTO account VALUES (2, 'bob', 100)",
            "DELETE FROM account WHERE id = 9",
        ],
    )
    .await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|100", "2|bob|100", "3|NULL|100"]);
    Ok(())
}

async fn earlier_branches_wait_and_other_servers_do_not(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("earlier").await?;
    let mut one = c.app(Bank::One, &schema).await?;
    let mut two = c.app(Bank::Two, &schema).await?;
    let xid = sql::start_global(&mut one).await?;
    sql::run(&mut two, format!("SET @atone_xid = '{xid}'")).await?;
    sql::run(&mut one, "UPDATE account SET balance = 1 WHERE id = 1").await?;
    sql::run(&mut one, "UPDATE account SET balance = 2 WHERE id = 2").await?;
    sql::run(&mut two, "UPDATE account SET balance = 3 WHERE id = 3").await?;
    let mut outsider = c.direct(Bank::One, &schema).await?;
    sql::run(&mut outsider, "UPDATE account SET balance = 222 WHERE id = 2").await?;
    sql::run(&mut two, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rollback_failed", SOON).await?;
    // The branch before the stuck one is not undone out of turn; the other server is restored.
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|1", "2|bob|222", "3|NULL|100"]);
    atone_tests::wait::until("bank2 is restored", SOON, || async {
        Ok((c.accounts(Bank::Two, &schema).await? == ["1|ann|100", "2|bob|100", "3|NULL|100"]).then_some(()))
    })
    .await?;
    sql::run(&mut outsider, "UPDATE account SET balance = 2 WHERE id = 2").await?;
    c.rest().rollback(&xid).await?.expect(200)?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|100", "2|bob|100", "3|NULL|100"]);
    Ok(())
}

/// Damages the undo row by `damage`, expects the rollback to stop, repairs it and expects a retry to finish.
async fn undecodable(c: &Cluster, damage: &str) -> Result<()> {
    let schema = c.bank_schema("undecodable").await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run(&mut app, "UPDATE account SET balance = 1 WHERE id = 1").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run(&mut direct, "CREATE TABLE undo_kept AS SELECT * FROM undo_log").await?;
    sql::run(&mut direct, damage).await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    let transaction = c.rest().wait_for_status(&xid, "rollback_failed", SOON).await?;
    assert!(!transaction["branches"][0]["detail"].is_null(), "{transaction}");
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|1");
    assert_eq!(c.rest().locks(&xid).await?.len(), 1);
    let shown = c.atone_undo(Bank::One, &["show", &xid, "--schema", &schema]).await?;
    assert_eq!(shown.code, 1, "{shown:?}");
    assert!(shown.stdout.contains(&xid) || shown.stderr.contains(&xid), "{shown:?}");
    // Other sessions are not harmed, and are told what they meet
    let mut other = c.app(Bank::One, &schema).await?;
    let other_xid = sql::start_global(&mut other).await?;
    let error = sql::refused(&mut other, "UPDATE account SET balance = 2 WHERE id = 1").await?;
    error.expect_naming(1213, "40001", &other_xid)?;
    for word in [xid.as_str(), "rollback_failed", "atone tx show"] {
        assert!(error.message.contains(word) && !error.message.contains("run it again"), "{error:?}");
    }
    sql::run_all(&mut other, &["UPDATE account SET balance = 2 WHERE id = 2", "ROLLBACK GLOBAL TRANSACTION"])
        .await?;
    c.rest().wait_for_status(&other_xid, "rolled_back", SOON).await?;

    sql::run_all(&mut direct, &["DELETE FROM undo_log", "INSERT INTO undo_log SELECT * FROM undo_kept"])
        .await?;
    c.rest().rollback(&xid).await?.expect(200)?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|100", "2|bob|100", "3|NULL|100"]);
    Ok(())
}

async fn a_record_that_does_not_decode(c: Arc<Cluster>) -> Result<()> {
    undecodable(&c, "UPDATE undo_log SET rollback_info = 'garbage'").await
}

async fn a_record_cut_short(c: Arc<Cluster>) -> Result<()> {
    undecodable(&c, "UPDATE undo_log SET rollback_info = LEFT(rollback_info, LENGTH(rollback_info) - 1)")
        .await?;
    undecodable(&c, "UPDATE undo_log SET context = ''").await?;
    // A changed value that is still JSON: the checksum finds it.
    undecodable(&c, "UPDATE undo_log SET rollback_info = REPLACE(rollback_info, '100', '900')").await
}

async fn command_line(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("cli").await?;
    let mut app = c.app(Bank::One, &schema).await?;
    sql::run(&mut app, "START GLOBAL TRANSACTION NAME 'by hand'").await?;
    let xid = sql::xid(&mut app).await?.context("no XID")?;
    sql::run(&mut app, "UPDATE account SET balance = 70 WHERE id = 1").await?;

    let listed = c.atone(&["tx", "ls", "--status", "active", "--name", "by hand"]).await?.success()?;
    assert!(listed.contains(&xid) && listed.contains("by hand"), "{listed}");
    let undo = c.atone_undo(Bank::One, &["ls", "--schema", &schema]).await?.success()?;
    assert!(undo.contains(&xid) && undo.contains("account"), "{undo}");
    let shown = c.atone_undo(Bank::One, &["show", &xid, "--schema", &schema]).await?.success()?;
    for word in ["account", "balance", "100", "70", "restorable"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let compensation = c.atone_undo(Bank::One, &["sql", &xid, "--schema", &schema]).await?.success()?;
    assert!(compensation.contains("UPDATE") && compensation.contains("100"), "{compensation}");

    let mut outsider = c.direct(Bank::One, &schema).await?;
    sql::run(&mut outsider, "UPDATE account SET balance = 71 WHERE id = 1").await?;
    let shown = c.atone_undo(Bank::One, &["show", &xid, "--schema", &schema]).await?;
    assert!(shown.stdout.contains("conflict") && shown.stdout.contains("71"), "{shown:?}");

    let answered = c.atone(&["tx", "rollback", &xid]).await?;
    assert!(answered.stdout.contains(&xid), "{answered:?}");
    c.rest().wait_for_status(&xid, "rollback_failed", SOON).await?;
    let shown = c.atone(&["tx", "show", &xid]).await?.success()?;
    for word in ["rollback_failed", "bank1", "account", "balance", "100", "70", "71"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let locks = c.atone(&["lock", "ls", "--xid", &xid]).await?.success()?;
    assert!(locks.contains("account"), "{locks}");

    // What can be read by a program.
    for args in [
        &["tx", "show", &xid, "--json"][..],
        &["tx", "ls", "--json"],
        &["lock", "ls", "--xid", &xid, "--json"],
    ] {
        let text = c.atone(args).await?.success()?;
        serde_json::from_str::<serde_json::Value>(&text).with_context(|| format!("{args:?}: {text}"))?;
    }
    let text = c.atone_undo(Bank::One, &["show", &xid, "--schema", &schema, "--json"]).await?.stdout;
    serde_json::from_str::<serde_json::Value>(&text).with_context(|| text.clone())?;

    // The undo record is JSON that the server's own functions read.
    let value = sql::cell(
        &mut outsider,
        "SELECT JSON_VALUE(CONVERT(rollback_info USING utf8mb4), '$.tables[0].rows[0].before.balance') FROM undo_log",
    )
    .await?;
    assert_eq!(value, "100");

    sql::run(&mut outsider, "UPDATE account SET balance = 70 WHERE id = 1").await?;
    c.atone(&["tx", "rollback", &xid]).await?.success()?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    let gone = c.atone(&["tx", "show", "nobody-knows:1"]).await?;
    assert_eq!(gone.code, 1, "{gone:?}");
    assert!(gone.stderr.contains("nobody-knows:1"), "{gone:?}");
    assert_eq!(c.atone(&["tx", "nonsense"]).await?.code, 2);
    Ok(())
}
