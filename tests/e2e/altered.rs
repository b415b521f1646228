//! Tables that others alter: noticed at once by those who write them, whatever is remembered of them.

use anyhow::{Context as _, Result};
use atone_tests::cluster::SOON;
use atone_tests::run::Harmable;
use atone_tests::{Bank, Cluster, ClusterOptions, sql, wait};
use mysql_async::Conn;

/// What is known of a table is believed for an hour.
fn believing() -> ClusterOptions {
    ClusterOptions { proxy_limits: "metadata_ttl_ms = 3600000\n".to_owned(), ..ClusterOptions::default() }
}

atone_tests::owned_tests!(believing() =>
    noticed_before_the_commit,
    noticed_in_a_transaction,
    nothing_waits_for_one_who_waits,
);

const SETUP: &[&str] = &[
    "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a INT, b INT, KEY (a), KEY (b))",
    "CREATE TABLE child (id INT PRIMARY KEY, t INT, KEY (t))",
    "CREATE TABLE audit (id INT PRIMARY KEY AUTO_INCREMENT, what VARCHAR(40))",
    "INSERT INTO t VALUES (1, 10, 1), (2, 20, 2), (3, 30, 3)",
    "INSERT INTO child VALUES (1, 1), (2, 1), (3, 2)",
];
const CONTENT: [&str; 3] = [
    "SELECT id, a, b FROM t ORDER BY id",
    "SELECT * FROM child ORDER BY id",
    "SELECT what FROM audit ORDER BY id",
];

async fn content(c: &Cluster, schema: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for query in CONTENT {
        all.push(query.to_owned());
        all.extend(c.rows(Bank::One, schema, query).await?);
    }
    Ok(all)
}

/// A schema, and a session that has written all its tables in every way.
async fn known(c: &Cluster) -> Result<(String, Conn)> {
    let schema = c.schema("altered").await?;
    sql::run_all(&mut c.direct(Bank::One, &schema).await?, SETUP).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut app).await?;
    sql::run_all(
        &mut app,
        &[
            "UPDATE t SET a = a + 1 WHERE id = 1",
            "INSERT INTO t VALUES (4, 40, 4)",
            "REPLACE INTO t VALUES (4, 41, 4)",
            "INSERT INTO child VALUES (4, NULL)",
            "DELETE FROM t WHERE id = 4",
            "ROLLBACK GLOBAL TRANSACTION",
        ],
    )
    .await?;
    c.wait_for_purge(Bank::One, &schema).await?;
    Ok((schema, app))
}

/// What an outsider does, a statement that must not be captured as before, its error, and whether it can be then.
const CASES: &[(&[&str], &str, u16, bool)] = &[
    (
        &["CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW INSERT INTO audit (what) VALUES ('insert')"],
        "INSERT INTO t VALUES (5, 50, 5)",
        1213,
        false,
    ),
    (
        &["CREATE TRIGGER x AFTER UPDATE ON t FOR EACH ROW INSERT INTO audit (what) VALUES ('update')"],
        "UPDATE t SET a = 5 WHERE id = 1",
        1213,
        false,
    ),
    // Nothing changes, and a trigger fires all the same
    (
        &["CREATE TRIGGER x BEFORE UPDATE ON t FOR EACH ROW INSERT INTO audit (what) VALUES ('update')"],
        "UPDATE t SET a = 10 WHERE id = 1",
        1213,
        false,
    ),
    (
        &["CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW INSERT INTO audit (what) VALUES ('insert')"],
        "INSERT IGNORE INTO t VALUES (1, 1, 1)",
        1213,
        false,
    ),
    (
        &["CREATE TRIGGER x BEFORE DELETE ON t FOR EACH ROW INSERT INTO audit (what) VALUES ('delete')"],
        "DELETE FROM t WHERE id = 1",
        1213,
        false,
    ),
    (
        &["ALTER TABLE child ADD FOREIGN KEY (t) REFERENCES t (id) ON DELETE CASCADE"],
        "DELETE FROM t WHERE id = 1",
        1213,
        true,
    ),
    (
        &[
            "CREATE TABLE late (id INT PRIMARY KEY, t INT, FOREIGN KEY (t) REFERENCES t (id) ON DELETE SET NULL)",
            "INSERT INTO late VALUES (1, 1)",
        ],
        "DELETE FROM t WHERE id = 1",
        1213,
        true,
    ),
    (
        &[
            "ALTER TABLE child DROP INDEX t",
            "ALTER TABLE t DROP INDEX b, ADD UNIQUE KEY b (b)",
            "ALTER TABLE child ADD FOREIGN KEY (t) REFERENCES t (b) ON UPDATE CASCADE",
        ],
        "UPDATE t SET b = 9 WHERE id = 1",
        1213,
        true,
    ),
    // The session sees no other columns than before
    (&["ALTER TABLE t ADD UNIQUE KEY (b, a)"], "REPLACE INTO t VALUES (7, 20, 2)", 1235, true),
    (
        &["ALTER TABLE t ADD UNIQUE KEY (b, a)"],
        "INSERT INTO t VALUES (7, 20, 2) ON DUPLICATE KEY UPDATE b = 99",
        1235,
        true,
    ),
];

async fn noticed_before_the_commit(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    for (ddl, statement, code, is_captured) in CASES {
        let case = async {
            let (schema, mut app) = known(c).await?;
            let mut outsider = c.server(Bank::One).connect(atone_tests::server::ADMIN, Some(&schema)).await?;
            sql::run_all(&mut outsider, ddl).await?;
            let before = content(c, &schema).await?;
            let xid = sql::start_global(&mut app).await?;
            let state = if *code == 1213 { "40001" } else { "42000" };
            sql::refused(&mut app, statement).await?.expect_naming(*code, state, &xid)?;
            anyhow::ensure!(content(c, &schema).await? == before, "something has changed");
            if *is_captured {
                sql::run(&mut app, statement).await?;
                anyhow::ensure!(content(c, &schema).await? != before, "nothing has changed");
            } else {
                sql::refused(&mut app, statement).await?.expect_naming(1235, "42000", &xid)?;
            }
            sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
            c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
            let after = content(c, &schema).await?;
            anyhow::ensure!(after == before, "after the rollback\nexpected {before:?}\nfound {after:?}");
            Ok(())
        };
        case.await.with_context(|| format!("{ddl:?}: {statement}"))?;
    }
    Ok(())
}

async fn noticed_in_a_transaction(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let (schema, mut app) = known(c).await?;
    let before = content(c, &schema).await?;
    let mut outsider = c.server(Bank::One).connect(atone_tests::server::ADMIN, Some(&schema)).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run_all(&mut app, &["BEGIN", "UPDATE child SET t = 3 WHERE id = 1"]).await?;
    // Nobody has touched `t` yet
    sql::run(
        &mut outsider,
        "CREATE TRIGGER x AFTER UPDATE ON t FOR EACH ROW INSERT INTO audit (what) VALUES ('update')",
    )
    .await?;
    sql::run(&mut app, "UPDATE t SET a = 5 WHERE id = 1").await?;
    sql::refused(&mut app, "COMMIT").await?.expect_naming(1213, "40001", &xid)?;
    assert_eq!(content(c, &schema).await?, before);
    sql::run_all(&mut app, &["BEGIN", "UPDATE child SET t = 3 WHERE id = 1"]).await?;
    sql::refused(&mut app, "UPDATE t SET a = 5 WHERE id = 1").await?.expect_naming(1235, "42000", &xid)?;
    sql::run_all(&mut app, &["COMMIT", "ROLLBACK GLOBAL TRANSACTION"]).await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(content(c, &schema).await?, before);
    Ok(())
}

/// An ALTER waits for the transaction, and what this looks at before its COMMIT does not wait for the ALTER.
async fn nothing_waits_for_one_who_waits(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    for ddl in [
        "ALTER TABLE t ADD COLUMN z INT",
        "CREATE TRIGGER x AFTER UPDATE ON t FOR EACH ROW SET @x = 1",
        "ALTER TABLE child ADD FOREIGN KEY (t) REFERENCES t (id) ON DELETE CASCADE",
    ] {
        let (schema, mut app) = known(c).await?;
        let before = content(c, &schema).await?;
        let xid = sql::start_global(&mut app).await?;
        sql::run_all(&mut app, &["BEGIN", "UPDATE t SET a = 5 WHERE id = 1", "DELETE FROM t WHERE id = 3"])
            .await?;
        let mut outsider = c.server(Bank::One).connect(atone_tests::server::ADMIN, Some(&schema)).await?;
        let id = sql::cell(&mut outsider, "SELECT CONNECTION_ID()").await?;
        let altering = tokio::spawn(async move { sql::run(&mut outsider, ddl).await });
        let waiting = format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {id} AND STATE LIKE '%metadata lock%'"
        );
        wait::until("the ALTER waits", SOON, || async {
            let mut admin = c.server(Bank::One).admin().await?;
            Ok((sql::cell(&mut admin, &waiting).await? == "1").then_some(()))
        })
        .await
        .context(ddl)?;
        tokio::time::timeout(SOON, sql::run(&mut app, "COMMIT")).await.context(ddl)??;
        altering.await??;
        if ddl.starts_with("ALTER TABLE child") {
            sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
            c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
            assert_eq!(content(c, &schema).await?, before);
        } else {
            sql::run(&mut app, "COMMIT GLOBAL TRANSACTION").await?;
        }
    }
    Ok(())
}
