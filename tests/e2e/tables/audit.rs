//! Triggers that add rows to a table of their own, such as an audit table: these rows are part of the branch, and
//! those that the rollback's own triggers add go with it.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::case::{Case, check, check_queries};
use atone_tests::cluster::SOON;
use atone_tests::effects::{Step, e, q};
use atone_tests::flavor::Flavor;
use atone_tests::{Bank, Cluster, server, sql};
use mysql_async::Conn;

atone_tests::shared_tests!(
    inserts,
    updates,
    deletes,
    bodies,
    transactions,
    prepared,
    others,
    refused,
    rights,
    moved_ids,
    limits,
    altered,
    of_the_rollback
);

const T: &str = "CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(20), UNIQUE KEY (b))";
const ROWS: &str = "INSERT INTO t VALUES (1, 10, 'one'), (2, 20, 'two'), (3, 30, NULL)";
const AUDIT: &str = "CREATE TABLE audit (n BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, what VARCHAR(10) NOT NULL, id INT, \
                     was INT, is_now INT, at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), who VARCHAR(80))";
const ON_INSERT: &str = "CREATE TRIGGER on_insert AFTER INSERT ON t FOR EACH ROW \
                         INSERT INTO audit (what, id, is_now, who) VALUES ('insert', NEW.id, NEW.a, USER())";
const ON_UPDATE: &str = "CREATE TRIGGER on_update AFTER UPDATE ON t FOR EACH ROW \
                         INSERT INTO audit SET what = 'update', id = NEW.id, was = OLD.a, is_now = NEW.a, at = NOW(6)";
const ON_DELETE: &str = "CREATE TRIGGER on_delete AFTER DELETE ON t FOR EACH ROW \
                         INSERT INTO audit VALUES (NULL, 'delete', OLD.id, OLD.a, NULL, NOW(6), DEFAULT), \
                         (DEFAULT, 'gone', OLD.id, NULL, NULL, NOW(6), NULL)";
const SETUP: [&str; 6] = [T, ROWS, AUDIT, ON_INSERT, ON_UPDATE, ON_DELETE];
/// The audit rows but for their time, which the two runs do not share.
const TABLES: [&str; 2] =
    ["SELECT * FROM t", "SELECT n, what, id, was, is_now, at > '2020-01-01' FROM audit"];

async fn audited(c: &Cluster, statements: &[&str]) -> Result<()> {
    check_queries(c, &SETUP, &TABLES, statements).await
}

async fn inserts(c: Arc<Cluster>) -> Result<()> {
    audited(
        &c,
        &[
            "INSERT INTO t VALUES (4, 40, 'four')",
            "INSERT INTO t VALUES (5, 50, 'five'), (6, 60, NULL)",
            "INSERT INTO t SET id = 3 + 4, a = 70",
            "SELECT LAST_INSERT_ID(), ROW_COUNT()",
            "INSERT IGNORE INTO t VALUES (1, 1, 'x'), (8, 80, 'eight')",
            "SHOW WARNINGS",
            "INSERT IGNORE INTO t VALUES (1, 1, 'x')",
            "INSERT INTO t VALUES (1, 1, 'x')",
            "INSERT INTO t VALUES (9, 90, 'nine'), (1, 1, 'x')",
            "INSERT INTO t VALUES (2, 0, 'zwei'), (10, 100, 'ten') ON DUPLICATE KEY UPDATE a = a + 1, b = 'two'",
            "REPLACE INTO t VALUES (3, 33, 'three'), (11, 110, 'one')",
            "INSERT INTO t SELECT id + 20, a, NULL FROM t WHERE id < 6",
            "INSERT INTO t SELECT id + 40, a, NULL FROM t WHERE id > 1000",
            "INSERT INTO t SELECT 60 + ROUND(RAND() * 0), 1, 'r'",
        ],
    )
    .await?;
    let generated = [
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a INT, b VARCHAR(20), UNIQUE KEY (b)) AUTO_INCREMENT = 100",
        ROWS,
        AUDIT,
        "INSERT INTO audit (what) VALUES ('a'), ('b'), ('c')",
        // Its own number comes before the table's
        "CREATE TRIGGER before_insert BEFORE INSERT ON t FOR EACH ROW INSERT INTO audit (what, is_now) VALUES ('before', NEW.a)",
        ON_INSERT,
        ON_DELETE,
    ];
    let statements = [
        "INSERT INTO t (a) VALUES (1)",
        "SELECT LAST_INSERT_ID(), ROW_COUNT()",
        "INSERT INTO t (a, b) VALUES (2, 'x'), (3, 'y'), (4, 'z')",
        "SELECT LAST_INSERT_ID()",
        "INSERT INTO t VALUES (NULL, 5, NULL), (200, 6, NULL), (NULL, 7, NULL)",
        "INSERT IGNORE INTO t (a, b) VALUES (8, 'x'), (9, 'v')",
        "INSERT INTO t (a) SELECT a FROM t WHERE id < 3",
        "INSERT INTO t (a, b) VALUES (10, 'x'), (11, 'u') ON DUPLICATE KEY UPDATE a = VALUES(a)",
        "SELECT LAST_INSERT_ID(), @@identity",
        "REPLACE INTO t (a, b) VALUES (12, 'x')",
        "SELECT LAST_INSERT_ID()",
    ];
    check_queries(&c, &generated, &TABLES, &statements).await
}

async fn updates(c: Arc<Cluster>) -> Result<()> {
    audited(
        &c,
        &[
            "UPDATE t SET a = a + 1 WHERE id = 1",
            "SHOW WARNINGS",
            "SELECT ROW_COUNT()",
            "UPDATE t SET a = a + 1",
            "UPDATE t SET a = a",
            "UPDATE t SET a = 5 WHERE id = 100",
            "UPDATE t SET b = 'eins', a = 7 WHERE id = 1",
            "UPDATE t SET id = id + 10 ORDER BY id DESC LIMIT 2",
            "UPDATE t SET id = 12 WHERE id = 1",
            "UPDATE IGNORE t SET id = 12, a = 9 WHERE id IN (1, 12)",
            "UPDATE t SET a = LENGTH(CAST('x' AS UNSIGNED)) WHERE id = 12",
            "SHOW WARNINGS",
            "UPDATE t SET a = 6 WHERE RAND() < 2",
        ],
    )
    .await
}

async fn deletes(c: Arc<Cluster>) -> Result<()> {
    audited(
        &c,
        &[
            "DELETE FROM t WHERE id = 1",
            "INSERT INTO t VALUES (1, 1, 'again')",
            "DELETE FROM t WHERE a > 5 ORDER BY id LIMIT 1",
            "DELETE FROM t WHERE id = 77",
            "DELETE FROM t",
        ],
    )
    .await
}

/// Several logs, conditions, several triggers, and other things that triggers do beside.
async fn bodies(c: Arc<Cluster>) -> Result<()> {
    let setup = [
        T,
        ROWS,
        AUDIT,
        "CREATE TABLE history (h INT AUTO_INCREMENT PRIMARY KEY, doc JSON, p INT, FOREIGN KEY (p) REFERENCES t (id) ON DELETE CASCADE)",
        "CREATE TABLE tiny (n TINYINT AUTO_INCREMENT PRIMARY KEY, x INT) AUTO_INCREMENT = 100",
        "CREATE TRIGGER a AFTER UPDATE ON t FOR EACH ROW BEGIN DECLARE d INT DEFAULT NEW.a - OLD.a; IF d > 0 THEN \
         INSERT INTO audit (what, id, was, is_now) VALUES ('more', NEW.id, OLD.a, NEW.a); \
         INSERT INTO history (doc) VALUES (JSON_OBJECT('id', NEW.id, 'by', d)); \
         ELSEIF d < 0 THEN INSERT INTO history (doc) VALUES (NULL), (JSON_ARRAY(d)); END IF; SET @changed = d; END",
        "CREATE TRIGGER b AFTER UPDATE ON t FOR EACH ROW INSERT INTO tiny (x) VALUES (NEW.a)",
        "CREATE TRIGGER c BEFORE UPDATE ON t FOR EACH ROW IF NEW.a > 1000 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; \
         ELSE INSERT INTO audit (what) VALUES ('checked'); END IF",
        "CREATE TRIGGER d AFTER INSERT ON t FOR EACH ROW INSERT INTO history (doc, p) VALUES (JSON_OBJECT('new', NEW.id), NEW.id)",
    ];
    let tables = [TABLES[0], TABLES[1], "SELECT h, doc, p FROM history", "tiny"];
    check_queries(
        &c,
        &setup,
        &tables,
        &[
            "UPDATE t SET a = a + 5",
            "UPDATE t SET a = a - 1 WHERE id < 3",
            "UPDATE t SET a = 1",
            "SELECT @changed",
            "UPDATE t SET a = id * 500",
            "UPDATE t SET a = a * 2 WHERE id < 3",
            "INSERT INTO t VALUES (4, 1, NULL)",
            "REPLACE INTO t VALUES (4, 2, NULL), (5, 3, NULL)",
            "DELETE FROM t WHERE id = 5",
        ],
    )
    .await
}

async fn transactions(c: Arc<Cluster>) -> Result<()> {
    audited(
        &c,
        &[
            "BEGIN",
            "INSERT INTO t VALUES (4, 40, 'four')",
            "SAVEPOINT a",
            "UPDATE t SET a = a + 1",
            "DELETE FROM t WHERE id = 2",
            "ROLLBACK TO a",
            "UPDATE t SET a = a + 7 WHERE id < 3",
            "INSERT INTO t VALUES (5, 1, NULL), (6, 1, 'one')",
            "DELETE FROM audit WHERE what = 'insert'",
            "UPDATE audit SET is_now = 1",
            "DELETE FROM t WHERE id = 4",
            "COMMIT",
            "BEGIN",
            "DELETE FROM t",
            "ROLLBACK",
            "SET autocommit = 0",
            "UPDATE t SET a = 0 WHERE id = 1",
            "INSERT INTO t VALUES (8, 40, 'eight')",
            "COMMIT",
            "SET autocommit = 1",
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "UPDATE t SET a = 0 WHERE a = 40",
            "SET SESSION auto_increment_increment = 10, SESSION auto_increment_offset = 3",
            "UPDATE t SET a = 50",
            "INSERT INTO t VALUES (9, 40, 'nine')",
        ],
    )
    .await
}

async fn prepared(c: Arc<Cluster>) -> Result<()> {
    let steps = vec![
        e("INSERT INTO t VALUES (?, ?, ?)", &[&4, &40, &"four"]),
        e("INSERT INTO t VALUES (?, ?, ?)", &[&1, &40, &"four"]),
        e("UPDATE t SET a = ? WHERE id = ?", &[&5, &1]),
        e("UPDATE t SET a = a + ? WHERE a > ?", &[&5, &1]),
        e("DELETE FROM t WHERE id = ?", &[&1]),
        e("REPLACE INTO t VALUES (?, ?, ?)", &[&2, &40, &"two"]),
        Step::Many(vec!["UPDATE t SET a = 1 WHERE id = 2".into(), "DELETE FROM t WHERE id = 2".into()]),
        q("SELECT ROW_COUNT()"),
    ];
    check(&c, Case { name: "prepared", setup: &SETUP, tables: &TABLES, steps }).await
}

/// A schema with the audit table on the first bank, its application bound, and the XID.
async fn bound(c: &Cluster, setup: &[&str]) -> Result<(String, Conn, String)> {
    let schema = c.schema("audit").await?;
    let mut admin = c.server(Bank::One).connect(server::ADMIN, Some(&schema)).await?;
    sql::run_all(&mut admin, setup).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    Ok((schema, app, xid))
}

async fn rolled_back(c: &Cluster, app: &mut Conn, xid: &str) -> Result<()> {
    sql::run(app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(xid, "rolled_back", SOON).await?;
    Ok(())
}

/// Rows that others add to the same table, before, while and after: they stay, and never become a part of the branch.
async fn others(c: Arc<Cluster>) -> Result<()> {
    let (schema, mut app, xid) = bound(&c, &SETUP).await?;
    let mut committed = c.direct(Bank::One, &schema).await?;
    let mut open = c.direct(Bank::One, &schema).await?;
    let mut undone = c.direct(Bank::One, &schema).await?;
    let add = |what: &str| format!("INSERT INTO audit (what) VALUES ('{what}')");
    sql::run(&mut committed, add("before")).await?;
    sql::run(&mut open, "BEGIN").await?;
    sql::run(&mut open, add("open 1")).await?;
    sql::run(&mut undone, "BEGIN").await?;
    sql::run(&mut undone, add("undone 1")).await?;
    sql::run(&mut app, "BEGIN").await?;
    for statement in
        ["UPDATE t SET a = a + 1", "INSERT INTO t VALUES (4, 4, 'four')", "DELETE FROM t WHERE id = 1"]
    {
        sql::run(&mut app, statement).await?;
        sql::run(&mut committed, add("while")).await?;
        sql::run(&mut open, add("open 2")).await?;
        sql::run(&mut undone, add("undone 2")).await?;
    }
    sql::run(&mut open, "COMMIT").await?;
    sql::run(&mut app, "UPDATE t SET a = 0 WHERE id = 2").await?;
    sql::run(&mut app, "COMMIT").await?;
    sql::run(&mut committed, add("after")).await?;
    let own = "SELECT COUNT(*) FROM audit WHERE what IN ('insert', 'update', 'delete', 'gone')";
    ensure!(c.rows(Bank::One, &schema, own).await? == ["7"]);
    // Those of somebody who has not ended yet are passed by
    rolled_back(&c, &mut app, &xid).await?;
    ensure!(c.rows(Bank::One, &schema, own).await? == ["0"]);
    sql::run(&mut undone, "ROLLBACK").await?;
    let left =
        c.rows(Bank::One, &schema, "SELECT what, COUNT(*) FROM audit GROUP BY what ORDER BY what").await?;
    ensure!(left == ["after|1", "before|1", "open 1|1", "open 2|3", "while|3"], "{left:?}");
    let rows = c.rows(Bank::One, &schema, "SELECT * FROM t ORDER BY id").await?;
    ensure!(rows == ["1|10|one", "2|20|two", "3|30|NULL"], "{rows:?}");
    Ok(())
}

async fn refused(c: Arc<Cluster>) -> Result<()> {
    const UPDATES: &str = "CREATE TRIGGER x AFTER UPDATE ON t FOR EACH ROW";
    for (log, body) in [
        ("CREATE TABLE log (n INT PRIMARY KEY, what INT)", "INSERT INTO log (what) VALUES (1)"),
        (
            "CREATE TABLE log (n INT AUTO_INCREMENT, what INT, PRIMARY KEY (n, what))",
            "INSERT INTO log (what) VALUES (NEW.a)",
        ),
        ("CREATE TABLE log (n INT AUTO_INCREMENT UNIQUE, what INT)", "INSERT INTO log (what) VALUES (NEW.a)"),
        (
            "CREATE TABLE log (n INT AUTO_INCREMENT PRIMARY KEY, what INT UNIQUE)",
            "INSERT INTO log (what) VALUES (NEW.a)",
        ),
        (
            "CREATE TABLE log (n INT AUTO_INCREMENT PRIMARY KEY, what INT) ENGINE=MyISAM",
            "INSERT INTO log (what) VALUES (1)",
        ),
        (
            "CREATE TABLE log (n INT AUTO_INCREMENT PRIMARY KEY, what INT) PARTITION BY HASH (n) PARTITIONS 2",
            "INSERT INTO log (what) VALUES (1)",
        ),
        (
            "CREATE TABLE log (n INT AUTO_INCREMENT PRIMARY KEY, what INT)",
            "INSERT INTO log VALUES (NEW.a + 1000, 1)",
        ),
        (
            "CREATE TABLE log (n INT AUTO_INCREMENT PRIMARY KEY, what INT)",
            "INSERT INTO log SET n = 0, what = 1",
        ),
        (
            "CREATE TABLE log (n INT AUTO_INCREMENT PRIMARY KEY, what INT)",
            "INSERT IGNORE INTO log (what) VALUES (1)",
        ),
        ("CREATE TABLE log (n INT AUTO_INCREMENT PRIMARY KEY, what INT)", "INSERT INTO log (what) SELECT 1"),
        (
            "CREATE TABLE log (n INT AUTO_INCREMENT PRIMARY KEY, what INT)",
            "INSERT INTO log (what) VALUES ((SELECT 1))",
        ),
        (
            "CREATE TABLE log (n INT AUTO_INCREMENT PRIMARY KEY, what INT)",
            "REPLACE INTO log (what) VALUES (1)",
        ),
    ] {
        let trigger = format!("{UPDATES} {body}");
        let (schema, mut app, xid) = bound(&c, &[T, ROWS, log, &trigger]).await?;
        let error = sql::refused(&mut app, "UPDATE t SET a = 1").await.with_context(|| trigger.clone())?;
        error.expect_naming(1235, "42000", &xid).with_context(|| format!("{log}: {trigger}"))?;
        ensure!(error.message.contains("trigger x"), "{}", error.message);
        rolled_back(&c, &mut app, &xid).await?;
        ensure!(c.rows(Bank::One, &schema, "SELECT SUM(a) FROM t").await? == ["60"]);
    }
    let log = "CREATE TABLE log (n INT AUTO_INCREMENT PRIMARY KEY, what INT)";
    let trigger = format!("{UPDATES} INSERT INTO log (what) VALUES (NEW.a)");
    let own = "CREATE TRIGGER own BEFORE INSERT ON log FOR EACH ROW SET NEW.what = 7";
    let no_zero = format!("{UPDATES} INSERT INTO log VALUES (DEFAULT, 1)");
    let zero = "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'";
    for (setup, statements) in [
        // The table has a trigger itself
        (&[T, ROWS, log, &trigger, own][..], &["UPDATE t SET a = 1"][..]),
        (&[T, ROWS, log, zero, &no_zero], &["UPDATE t SET a = 1"]),
        (
            &[T, ROWS, log, &trigger],
            &["UPDATE t, (SELECT 1 AS n) d SET t.a = d.n", "SET insert_id = 1; UPDATE t SET a = 1"],
        ),
        // Undone by a trigger of which nobody knows what it does
        (
            &[
                T,
                ROWS,
                log,
                &trigger,
                "CREATE TRIGGER y AFTER DELETE ON t FOR EACH ROW UPDATE log SET what = 1",
            ],
            &["INSERT INTO t VALUES (4, 4, NULL)", "UPDATE t SET id = 4 WHERE id = 1"],
        ),
    ] {
        let (schema, mut app, xid) = bound(&c, setup).await?;
        for statement in statements {
            let mut all = statement.split("; ").collect::<Vec<_>>();
            let last = all.pop().unwrap_or_default();
            sql::run_all(&mut app, &all).await?;
            let error =
                sql::refused(&mut app, last).await.with_context(|| format!("{statement}: {setup:?}"))?;
            error.expect_naming(1235, "42000", &xid).with_context(|| format!("{statement}: {setup:?}"))?;
        }
        rolled_back(&c, &mut app, &xid).await?;
        ensure!(c.rows(Bank::One, &schema, "SELECT COUNT(*), SUM(a) FROM t").await? == ["3|60"]);
        ensure!(c.rows(Bank::One, &schema, "SELECT COUNT(*) FROM log").await? == ["0"]);
    }
    let (schema, mut app, xid) = bound(&c, &[T, ROWS, log, &trigger]).await?;
    let mut other = c.app(Bank::One, &schema).await?;
    sql::run(&mut other, "CREATE TEMPORARY TABLE log (n INT)").await?;
    sql::run(&mut other, format!("SET @atone_xid = '{xid}'")).await?;
    sql::refused(&mut other, "UPDATE t SET a = 1").await?.expect_naming(1235, "42000", &xid)?;
    rolled_back(&c, &mut app, &xid).await?;
    Ok(())
}

/// An application that may not read and lock what the triggers add is told so before.
async fn rights(c: Arc<Cluster>) -> Result<()> {
    let (schema, mut app, xid) = bound(&c, &SETUP).await?;
    let mut admin = c.server(Bank::One).admin().await?;
    let user = format!("u_{schema}");
    sql::run_all(
        &mut admin,
        &[
            &format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'pw'"),
            &format!("GRANT SELECT, INSERT, UPDATE, DELETE ON `{schema}`.t TO '{user}'@'%'"),
            &format!("GRANT ALL ON `{schema}`.undo_log TO '{user}'@'%'"),
        ],
    )
    .await?;
    for granted in [None, Some("SELECT")] {
        if let Some(right) = granted {
            sql::run(&mut admin, format!("GRANT {right} ON `{schema}`.audit TO '{user}'@'%'")).await?;
        }
        let options = sql::options(c.proxy_port(Bank::One), (&user, "pw"), Some(&schema));
        let mut weak = sql::connect_with(options).await?;
        sql::run(&mut weak, format!("SET @atone_xid = '{xid}'")).await?;
        for statement in ["UPDATE t SET a = 1", "INSERT INTO t VALUES (4, 4, NULL)"] {
            let error = sql::refused(&mut weak, statement).await;
            if let Err(e) = &error
                && granted.is_some()
                && c.flavor() == Flavor::MariaDb
            {
                // There SELECT is enough to lock rows
                ensure!(e.to_string().contains("no error"), "{e}");
                continue;
            }
            let error = error.with_context(|| format!("{granted:?}: {statement}"))?;
            error.expect_naming(1235, "42000", &xid).with_context(|| format!("{granted:?}: {statement}"))?;
            ensure!(error.message.contains("audit"), "{}", error.message);
        }
    }
    rolled_back(&c, &mut app, &xid).await?;
    ensure!(c.rows(Bank::One, &schema, "SELECT COUNT(*), SUM(a) FROM t").await? == ["3|60"]);
    ensure!(c.rows(Bank::One, &schema, "SELECT COUNT(*) FROM audit").await? == ["0"]);
    Ok(())
}

/// On MariaDB an UPDATE of a number leaves the counter as it is: rows may stand above it.
async fn moved_ids(c: Arc<Cluster>) -> Result<()> {
    let setup = [
        T,
        ROWS,
        AUDIT,
        "INSERT INTO audit (what) VALUES ('a'), ('b'), ('c'), ('d')",
        "UPDATE audit SET n = n + 8 WHERE n > 2",
        ON_UPDATE,
        ON_DELETE,
    ];
    check_queries(
        &c,
        &setup,
        &TABLES,
        &[
            "UPDATE t SET a = a + 1",
            "BEGIN",
            "UPDATE audit SET n = 20 WHERE what = 'a'",
            "UPDATE t SET a = a + 1 WHERE id = 1",
            "DELETE FROM audit WHERE n = 20",
            "COMMIT",
            "DELETE FROM t WHERE id = 1",
        ],
    )
    .await?;
    // Here the number is taken when the trigger comes to it
    let taken =
        ["UPDATE audit SET n = 5 WHERE what = 'b'", "UPDATE t SET a = a + 1", "UPDATE t SET a = a + 1"];
    check_queries(&c, &setup, &TABLES, &taken).await?;
    let again = [
        "BEGIN",
        "UPDATE t SET a = a + 1",
        "UPDATE audit SET n = 40 WHERE what = 'update' AND id = 1",
        "UPDATE t SET a = a + 1 WHERE id = 2",
        "COMMIT",
    ];
    check_queries(&c, &setup, &TABLES, &again).await
}

async fn limits(c: Arc<Cluster>) -> Result<()> {
    let many = "INSERT INTO t SELECT seq + 100, 1, NULL FROM (WITH RECURSIVE s (seq) AS (SELECT 1 UNION ALL SELECT seq + 1 \
                FROM s WHERE seq < 900) SELECT seq FROM s) d";
    check_queries(
        &c,
        &[&SETUP[..], &[many]].concat(),
        &TABLES,
        &["UPDATE t SET a = a + 1", "DELETE FROM t WHERE id > 3"],
    )
    .await
}

/// A trigger or its table is altered by others between the statements.
async fn altered(c: Arc<Cluster>) -> Result<()> {
    let (schema, mut app, xid) = bound(&c, &SETUP).await?;
    let mut admin = c.server(Bank::One).connect(server::ADMIN, Some(&schema)).await?;
    sql::run(&mut app, "UPDATE t SET a = 1 WHERE id = 1").await?;
    sql::run(&mut admin, "CREATE TRIGGER own BEFORE INSERT ON audit FOR EACH ROW SET NEW.who = 'me'").await?;
    // Noticed at once, or when the local transaction commits
    let error = sql::refused(&mut app, "UPDATE t SET a = 2 WHERE id = 1").await?;
    ensure!([1213, 1235].contains(&error.code), "{error:?}");
    sql::run(&mut admin, "DROP TRIGGER own").await?;
    sql::run(&mut admin, "ALTER TABLE audit ADD COLUMN more INT DEFAULT 5").await?;
    while let Err(e) = sql::run(&mut app, "UPDATE t SET a = 3 WHERE id = 1").await {
        ensure!(format!("{e:#}").contains("altered") || format!("{e:#}").contains("own"), "{e:#}");
    }
    rolled_back(&c, &mut app, &xid).await?;
    ensure!(c.rows(Bank::One, &schema, "SELECT COUNT(*), SUM(a) FROM t").await? == ["3|60"]);
    ensure!(c.rows(Bank::One, &schema, "SELECT COUNT(*) FROM audit").await? == ["0"]);
    Ok(())
}

/// Triggers as they are when the rollback runs, and rows of the table that have been changed or taken away since.
async fn of_the_rollback(c: Arc<Cluster>) -> Result<()> {
    let (schema, mut app, xid) = bound(&c, &[T, ROWS, AUDIT]).await?;
    sql::run(&mut app, "UPDATE t SET a = a + 1").await?;
    sql::run(&mut app, "DELETE FROM t WHERE id = 3").await?;
    sql::run(&mut app, "INSERT INTO t VALUES (4, 4, 'four')").await?;
    let mut admin = c.server(Bank::One).connect(server::ADMIN, Some(&schema)).await?;
    sql::run_all(&mut admin, &[ON_INSERT, ON_UPDATE, ON_DELETE]).await?;
    rolled_back(&c, &mut app, &xid).await?;
    ensure!(c.rows(Bank::One, &schema, "SELECT COUNT(*), SUM(a) FROM t").await? == ["3|60"]);
    ensure!(c.rows(Bank::One, &schema, "SELECT COUNT(*) FROM audit").await? == ["0"]);

    let xid = sql::start_global(&mut app).await?;
    if let Err(e) = sql::run(&mut app, "UPDATE t SET a = a + 1").await {
        // The triggers are new to it
        ensure!(format!("{e:#}").contains("altered meanwhile"), "{e:#}");
        sql::run(&mut app, "UPDATE t SET a = a + 1").await?;
    }
    // Somebody else's clearing of the table is as good as the rollback's; a change is not
    sql::run(&mut admin, "DELETE FROM audit ORDER BY n LIMIT 1").await?;
    sql::run(&mut admin, "UPDATE audit SET who = 'me' ORDER BY n LIMIT 1").await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rollback_failed", SOON).await?;
    ensure!(c.rows(Bank::One, &schema, "SELECT COUNT(*), SUM(a) FROM t").await? == ["3|63"]);
    ensure!(c.rows(Bank::One, &schema, "SELECT COUNT(*) FROM audit").await? == ["2"]);
    Ok(())
}
