//! A view that others put in the place of a table which a global transaction has written.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::effects::q;
use atone_tests::{Bank, Cluster, sql};
use mysql_async::Conn;

atone_tests::shared_tests!(between_statements, between_statement_and_rollback, until_it_is_back);

const SETUP: &[&str] = &[
    "CREATE TABLE t (id INT PRIMARY KEY, a INT)",
    "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)",
    "CREATE TABLE other (id INT PRIMARY KEY, a INT)",
    "INSERT INTO other VALUES (1, 1), (2, 2), (3, 3)",
];
/// What stands in the place of the table.
const REPLACED: &[&[&str]] = &[
    &["RENAME TABLE t TO kept", "CREATE VIEW t AS SELECT * FROM kept"],
    &["DROP TABLE t", "CREATE VIEW t AS SELECT * FROM other"],
    &["DROP TABLE t", "CREATE VIEW t AS SELECT id, a + 0 AS a FROM other"],
    &["DROP TABLE t", "CREATE VIEW t AS SELECT x.id, y.a FROM other x JOIN other y ON x.id = y.id"],
];
const WRITES: &[&str] = &[
    "UPDATE t SET a = 70 WHERE id = 2",
    "UPDATE t SET a = 70",
    "DELETE FROM t WHERE id = 2",
    "INSERT INTO t VALUES (7, 7)",
    "INSERT INTO t VALUES (2, 7) ON DUPLICATE KEY UPDATE a = 8",
    "REPLACE INTO t VALUES (2, 7)",
    "INSERT IGNORE INTO t VALUES (2, 7), (8, 8)",
    "INSERT INTO t SELECT id + 10, a FROM other",
    "UPDATE t JOIN other USING (id) SET t.a = 9",
    "DELETE t FROM t JOIN other USING (id)",
];

async fn content(c: &Cluster, schema: &str) -> Result<Vec<String>> {
    let tables = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE = 'BASE TABLE' \
                  AND TABLE_NAME <> 'undo_log' ORDER BY 1";
    let mut out = Vec::new();
    for table in c.rows(Bank::One, schema, tables).await? {
        out.extend(
            c.rows(Bank::One, schema, &format!("SELECT '{table}', x.* FROM {table} x ORDER BY 2")).await?,
        );
    }
    Ok(out)
}

async fn between_statements(c: Arc<Cluster>) -> Result<()> {
    let mut wrong = Vec::new();
    for (nth, replaced) in REPLACED.iter().enumerate() {
        // Of the views through which a server writes all that is written
        let writes = if nth < 2 { WRITES } else { &WRITES[..4] };
        for (at, write) in writes.iter().enumerate() {
            let local = (at + nth) % 2 == 0;
            if let Err(error) = write_through(&c, replaced, write, local).await {
                wrong.push(format!("{replaced:?} {write} {local}\n  {error:#}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    Ok(())
}

async fn write_through(c: &Cluster, replaced: &[&str], write: &str, local: bool) -> Result<()> {
    let schema = c.schema("replaced").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(&mut direct, SETUP).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run(&mut app, "UPDATE t SET a = a + 1 WHERE id = 1").await?;
    sql::run_all(&mut direct, replaced).await?;
    let before = content(c, &schema).await?;
    if local {
        sql::run(&mut app, "BEGIN").await?;
    }
    let effect = q(write).run(&mut app).await?;
    if local {
        sql::run(&mut app, "COMMIT").await?;
    }
    let shows_one_table = replaced.iter().any(|ddl| ddl.contains("SELECT * FROM"));
    match &effect.error {
        // It is what the server says of such a view, or that it is none to be followed
        Some(error) if error.code == 1235 => ensure!(error.message.contains("view"), "{error:?}"),
        Some(error) => ensure!([1348, 1394, 1395, 1471].contains(&error.code), "{error:?}"),
        None => ensure!(content(c, &schema).await? != before, "nothing was written"),
    }
    ensure!(
        effect.error.is_none() == (shows_one_table && !write.contains("JOIN"))
            || write.starts_with("DELETE FROM"),
        "{effect:?}"
    );
    stops(c, &mut app, &xid).await?;
    // What was written through the view is undone, in a branch of its own
    ensure!(content(c, &schema).await? == before, "before {before:?}\n  {effect:?}");
    Ok(())
}

/// The rollback of what was written when it was a table stops, and says why.
async fn stops(c: &Cluster, app: &mut Conn, xid: &str) -> Result<()> {
    sql::run(app, "ROLLBACK GLOBAL TRANSACTION").await?;
    let failed = c.rest().wait_for_status(xid, "rollback_failed", SOON).await?;
    let branches = failed["branches"].as_array().context("no branches")?;
    let stopped: Vec<_> = branches.iter().filter(|branch| branch["status"] == "rollback_failed").collect();
    ensure!(stopped.len() == 1, "{failed}");
    let reason = stopped[0]["detail"]["reason"].as_str().unwrap_or_default();
    ensure!(reason.ends_with(".t is a view now, and no table"), "{reason}");
    Ok(())
}

async fn between_statement_and_rollback(c: Arc<Cluster>) -> Result<()> {
    let writes =
        ["UPDATE t SET a = a + 1 WHERE id = 1", "DELETE FROM t WHERE id = 1", "INSERT INTO t VALUES (5, 5)"];
    for replaced in REPLACED {
        for write in writes {
            let schema = c.schema("replaced").await?;
            let mut direct = c.direct(Bank::One, &schema).await?;
            sql::run_all(&mut direct, SETUP).await?;
            let mut app = c.app(Bank::One, &schema).await?;
            let xid = sql::start_global(&mut app).await?;
            sql::run(&mut app, write).await?;
            sql::run_all(&mut direct, replaced).await?;
            let before = content(&c, &schema).await?;
            stops(&c, &mut app, &xid).await.with_context(|| format!("{replaced:?} {write}"))?;
            ensure!(content(&c, &schema).await? == before, "{replaced:?} {write} wrote through the view");
        }
    }
    Ok(())
}

/// With the table in its place again, the rollback goes on.
async fn until_it_is_back(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("replaced").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(&mut direct, SETUP).await?;
    let before = content(&c, &schema).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run_all(&mut app, &["UPDATE t SET a = 50 WHERE id = 1", "DELETE FROM t WHERE id = 2"]).await?;
    sql::run_all(&mut direct, REPLACED[0]).await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rollback_failed", SOON).await?;
    sql::run_all(&mut direct, &["DROP VIEW t", "RENAME TABLE kept TO t"]).await?;
    c.atone(&["tx", "rollback", &xid]).await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    ensure!(content(&c, &schema).await? == before);
    Ok(())
}
