//! Undo records in several rows: on servers where a packet holds little, so that small branches have them.

use anyhow::{Context as _, Result};
use atone_tests::cluster::SOON;
use atone_tests::run::Harmable;
use atone_tests::{Bank, Cluster, ClusterOptions, sql};
use mysql_async::Conn;

/// About 46 KB of a record fit one packet.
fn options(compress_bytes: usize) -> ClusterOptions {
    ClusterOptions {
        server_options: vec!["--max-allowed-packet=64K".to_owned(), "--net-buffer-length=16K".to_owned()],
        proxy_limits: format!("undo_compress_bytes = {compress_bytes}\n"),
        ..ClusterOptions::default()
    }
}

atone_tests::owned_tests!(options(0) =>
    committed_and_rolled_back,
    a_marker_stops_a_late_commit,
    what_is_not_whole_is_not_undone,
    a_table_that_has_no_room_for_parts,
);
atone_tests::owned_tests!(options(1) => compressed);

const SUM: &str = "SELECT id, n, LENGTH(t), CRC32(t) FROM long_rows ORDER BY id";
const ALL: &str = "UPDATE long_rows SET n = n + 1, t = CONCAT('it''s \\\\ é', REVERSE(t))";

/// A schema with a table of 20 rows of 9,000 characters, which do not compress well.
async fn long_rows(c: &Cluster) -> Result<String> {
    let schema = c.schema("parts").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run(&mut direct, "CREATE TABLE long_rows (id INT PRIMARY KEY, n INT NOT NULL, t TEXT)").await?;
    for id in 0..20 {
        let pieces: Vec<String> = (0..140).map(|piece| format!("SHA2({}, 256)", id * 1000 + piece)).collect();
        sql::run(
            &mut direct,
            format!("INSERT INTO long_rows VALUES ({id}, 0, CONCAT('é', {}))", pieces.join(", ")),
        )
        .await?;
    }
    Ok(schema)
}

async fn log(c: &Cluster, schema: &str) -> Result<Vec<String>> {
    c.rows(
        Bank::One,
        schema,
        "SELECT xid, log_status, context FROM undo_log ORDER BY branch_id, LENGTH(xid), xid",
    )
    .await
}

async fn committed_and_rolled_back(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let schema = long_rows(c).await?;
    let before = c.rows(Bank::One, &schema, SUM).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    for statement in [ALL, "DELETE FROM long_rows"] {
        let xid = sql::start_global(&mut conn).await?;
        sql::run(&mut conn, statement).await?;
        let rows = log(c, &schema).await?;
        assert!(rows.len() > 3, "{rows:?}");
        assert!(rows[0].starts_with(&format!("{xid}|0|format=2;encoding=json;")), "{rows:?}");
        assert!(rows[0].ends_with(&format!(";parts={}", rows.len())), "{rows:?}");
        for (part, row) in rows.iter().enumerate().skip(1) {
            let expected = format!("{xid}#{n}|3|format=2;part={n};parts={};", rows.len(), n = part + 1);
            assert!(row.starts_with(&expected), "{rows:?}");
        }
        let list = c.atone_undo(Bank::One, &["ls", "--schema", &schema]).await?.success()?;
        assert_eq!(list.lines().count(), 2, "{list}");
        assert!(list.contains(&format!("{schema}.long_rows: 20")), "{list}");
        let shown = c.atone_undo(Bank::One, &["show", &xid, "--schema", &schema]).await?.success()?;
        assert_eq!(shown.matches("  restorable").count(), 20, "{shown:.2000}");
        let script = c.atone_undo(Bank::One, &["sql", &xid, "--schema", &schema]).await?.success()?;
        let gone = format!("; -- {} row(s)\nCOMMIT;\n", rows.len());
        assert!(script.ends_with(&gone), "{script:.2000}");

        sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
        c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
        assert_eq!(c.rows(Bank::One, &schema, SUM).await?, before);
        c.wait_for_purge(Bank::One, &schema).await?;
        assert!(log(c, &schema).await?.is_empty());
    }
    for statement in [ALL, "DELETE FROM long_rows WHERE id < 15"] {
        sql::start_global(&mut conn).await?;
        sql::run(&mut conn, statement).await?;
        assert!(log(c, &schema).await?.len() > 2);
        sql::run(&mut conn, "COMMIT GLOBAL TRANSACTION").await?;
        c.wait_for_purge(Bank::One, &schema).await?;
        assert!(log(c, &schema).await?.is_empty());
    }
    assert_eq!(
        c.rows(Bank::One, &schema, "SELECT id, n FROM long_rows").await?,
        ["15|1", "16|1", "17|1", "18|1", "19|1"]
    );
    Ok(())
}

async fn compressed(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let schema = long_rows(c).await?;
    let before = c.rows(Bank::One, &schema, SUM).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    sql::run_all(&mut conn, &["SET NAMES latin1", "SET sql_mode = 'NO_BACKSLASH_ESCAPES'", ALL]).await?;
    let rows = log(c, &schema).await?;
    assert!(rows.len() > 2 && rows[0].contains(";encoding=json+zlib;"), "{rows:?}");
    // The same settings would bend another way of writing it
    sql::run(&mut conn, "UPDATE long_rows SET n = 7 WHERE id = 1").await?;
    let small = log(c, &schema).await?;
    assert!(small[rows.len()].contains(";encoding=json+zlib;") && small.len() == rows.len() + 1, "{small:?}");
    let shown = c.atone_undo(Bank::One, &["show", &xid, "--schema", &schema]).await?.success()?;
    assert_eq!(shown.matches("  restorable").count(), 21, "{shown:.2000}");
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.rows(Bank::One, &schema, SUM).await?, before);
    c.wait_for_purge(Bank::One, &schema).await
}

/// The number that the next branch of this transaction will have.
async fn next_branch(c: &Cluster, conn: &mut Conn, xid: &str) -> Result<u64> {
    sql::run(conn, "UPDATE long_rows SET n = n + 1 WHERE id = 19").await?;
    let transaction = c.rest().transaction(xid).await?;
    let last = transaction["branches"].as_array().and_then(|all| all.last()).context("no branch")?;
    let id = last["branch_id"].as_u64().or_else(|| last["branch_id"].as_str()?.parse().ok());
    Ok(id.context("no branch id")? + 1)
}

/// What phase two leaves of a branch that it gave up, before the branch's own COMMIT arrives.
async fn a_marker_stops_a_late_commit(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let schema = long_rows(c).await?;
    let before = c.rows(Bank::One, &schema, SUM).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    let branch_id = next_branch(c, &mut conn, &xid).await?;
    let marked = log(c, &schema).await?.len() + 1;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(&mut conn, &["BEGIN", "DELETE FROM long_rows WHERE id < 10"]).await?;
    sql::run(
        &mut direct,
        format!("INSERT INTO undo_log VALUES ({branch_id}, '{xid}', '', '', 1, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))"),
    )
    .await?;
    sql::refused(&mut conn, "COMMIT").await?.expect_naming(1402, "XA100", &xid)?;
    assert_eq!(log(c, &schema).await?.len(), marked, "nothing of the record is left");
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.rows(Bank::One, &schema, SUM).await?, before);
    Ok(())
}

/// A part is missing, one too many is there, one is of another branch, one is damaged: the rollback stops, nothing is
/// restored, and once the parts are as they were it goes on.
async fn what_is_not_whole_is_not_undone(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let schema = long_rows(c).await?;
    let before = c.rows(Bank::One, &schema, SUM).await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run(&mut direct, "CREATE TABLE kept (branch_id BIGINT)").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    for (damage, why) in [
        ("DELETE FROM undo_log WHERE xid = 'XID#2'", "in the place of part 2"),
        (
            "DELETE FROM undo_log WHERE xid = (SELECT xid FROM kept ORDER BY LENGTH(xid) DESC, xid DESC LIMIT 1)",
            "it has",
        ),
        (
            "INSERT INTO undo_log SELECT branch_id, 'XID#99', context, rollback_info, log_status, log_created, \
             log_modified FROM kept WHERE xid = 'XID#2'",
            "#99 with log_status 3 is in the place of",
        ),
        (
            "UPDATE undo_log u JOIN kept k ON k.xid = 'XID#3' SET u.rollback_info = k.rollback_info, u.context = k.context \
             WHERE u.xid = 'XID#2'",
            "is part 3",
        ),
        (
            "UPDATE undo_log SET context = REPLACE(context, 'record=', 'record=0') WHERE xid = 'XID#2'",
            "is not understood",
        ),
        ("UPDATE undo_log SET rollback_info = REVERSE(rollback_info) WHERE xid = 'XID#2'", "CRC-32"),
        ("UPDATE undo_log SET log_status = 2 WHERE xid = 'XID#2'", "log_status 2 is in the place of part 2"),
    ] {
        let xid = sql::start_global(&mut conn).await?;
        sql::run(&mut conn, ALL).await?;
        let changed = c.rows(Bank::One, &schema, SUM).await?;
        sql::run_all(&mut direct, &["DROP TABLE kept", "CREATE TABLE kept AS SELECT * FROM undo_log"])
            .await?;
        sql::run(&mut direct, damage.replace("XID", &xid)).await?;
        sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
        let transaction = c.rest().wait_for_status(&xid, "rollback_failed", SOON).await?;
        let detail = transaction["branches"][0]["detail"].to_string();
        assert!(detail.contains(why), "{damage}: {detail}");
        assert_eq!(c.rows(Bank::One, &schema, SUM).await?, changed, "{damage}");
        assert_eq!(c.rest().locks(&xid).await?.len(), 20);
        let shown = c.atone_undo(Bank::One, &["show", &xid, "--schema", &schema]).await?;
        assert_eq!(shown.code, 1, "{damage}: {shown:?}");

        sql::run_all(&mut direct, &["DELETE FROM undo_log", "INSERT INTO undo_log SELECT * FROM kept"])
            .await?;
        c.rest().rollback(&xid).await?.expect(200)?;
        c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
        assert_eq!(c.rows(Bank::One, &schema, SUM).await?, before, "{damage}");
        c.wait_for_purge(Bank::One, &schema).await?;
    }
    Ok(())
}

/// An undo_log of the operator's own, whose key is the branch's number alone.
async fn a_table_that_has_no_room_for_parts(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let schema = long_rows(c).await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run(
        &mut direct,
        "CREATE TABLE undo_log (branch_id BIGINT PRIMARY KEY, xid VARCHAR(128) NOT NULL, context VARCHAR(128) NOT NULL, \
         rollback_info LONGBLOB NOT NULL, log_status INT NOT NULL, log_created DATETIME(6) NOT NULL, \
         log_modified DATETIME(6) NOT NULL)",
    )
    .await?;
    let before = c.rows(Bank::One, &schema, SUM).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    sql::run(&mut conn, "UPDATE long_rows SET n = 1 WHERE id = 1").await?;
    let error = sql::refused(&mut conn, ALL).await?;
    error.expect_naming(1235, "42000", &xid)?;
    assert!(error.message.contains("unique key of undo_log"), "{}", error.message);
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.rows(Bank::One, &schema, SUM).await?, before);
    Ok(())
}
