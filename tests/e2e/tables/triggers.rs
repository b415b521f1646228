//! Triggers that write no table are no obstacle where the rollback can do without them; all others are.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use atone_tests::case::check_queries;
use atone_tests::{Bank, Cluster, sql};

atone_tests::shared_tests!(captured, refused, of_children);

const T: &str = "CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(20), at DATETIME, UNIQUE KEY (b))";
const ROWS: &str =
    "INSERT INTO t VALUES (1, 10, 'one', '2020-01-01'), (2, 20, 'two', '2020-01-02'), (3, 30, NULL, NULL)";
const LOG: &str = "CREATE TABLE log (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(40))";
const STAMP: &str = "CREATE TRIGGER stamp BEFORE UPDATE ON t FOR EACH ROW SET NEW.at = '2024-01-01'";
const CREATED: &str =
    "CREATE TRIGGER created BEFORE INSERT ON t FOR EACH ROW SET NEW.at = '2023-01-01', NEW.a = NEW.a * 2";
const GUARD: &str = "CREATE TRIGGER guard BEFORE UPDATE ON t FOR EACH ROW BEGIN DECLARE low INT DEFAULT 0; \
                     IF NEW.a < low THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'too low'; END IF; SET NEW.at = NULL; END";
const KEEP: &str = "CREATE TRIGGER keep BEFORE DELETE ON t FOR EACH ROW IF OLD.a > 25 THEN \
                    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'kept'; END IF";
const LOGGED: &str =
    "CREATE TRIGGER logged AFTER INSERT ON t FOR EACH ROW UPDATE log SET what = NEW.b WHERE id = NEW.id";

async fn captured(c: Arc<Cluster>) -> Result<()> {
    for (trigger, statements) in [
        // Undone by DELETE and INSERT
        (
            STAMP,
            &[
                "UPDATE t SET a = a + 1 WHERE id = 1",
                "UPDATE t SET a = a + 1",
                "UPDATE t SET a = a WHERE id = 2",
                "UPDATE t SET b = 'eins' WHERE id = 1",
                "INSERT INTO t VALUES (4, 40, 'four', NULL)",
                "INSERT INTO t VALUES (2, 0, 'x', NULL), (5, 50, 'five', NULL) ON DUPLICATE KEY UPDATE a = a + 100",
                "REPLACE INTO t VALUES (3, 33, 'three', NULL)",
                "UPDATE t SET id = id + 10 ORDER BY id DESC",
                "UPDATE t JOIN (SELECT 11 AS n) d ON t.id = d.n SET t.a = 5",
                "DELETE FROM t WHERE id = 12",
            ][..],
        ),
        (
            CREATED,
            &[
                "INSERT INTO t VALUES (4, 40, 'four', NULL), (5, 50, 'five', NULL)",
                "INSERT IGNORE INTO t VALUES (4, 1, 'x', NULL), (6, 60, 'six', NULL)",
                "UPDATE t SET a = 5 WHERE id = 4",
                "UPDATE t SET at = NOW() WHERE id = 100",
                "INSERT INTO t SET id = 7, b = 'seven' ON DUPLICATE KEY UPDATE a = 1",
                "INSERT INTO t SET id = 1 ON DUPLICATE KEY UPDATE a = 1",
                "INSERT INTO t SELECT id + 20, a, NULL, at FROM t WHERE id < 3",
            ],
        ),
        (
            GUARD,
            &[
                "BEGIN",
                "UPDATE t SET a = a - 15",
                "UPDATE t SET a = a - 5",
                "UPDATE t SET a = -1 WHERE id = 2",
                "DELETE FROM t WHERE id = 3",
                "COMMIT",
                "UPDATE t SET a = -5 WHERE id = 1",
            ],
        ),
        (
            KEEP,
            &[
                "DELETE FROM t WHERE a < 15",
                "DELETE FROM t",
                "DELETE FROM t WHERE id = 3",
                "UPDATE t SET a = 1",
            ],
        ),
        (LOGGED, &["UPDATE t SET a = 1", "UPDATE t SET a = 2, at = NOW() WHERE id = 100"]),
    ] {
        check_queries(&c, &[T, ROWS, LOG, trigger], &["t", "log"], statements)
            .await
            .with_context(|| trigger.to_owned())?;
    }
    Ok(())
}

async fn refused(c: Arc<Cluster>) -> Result<()> {
    for (triggers, statements) in [
        (
            &[LOGGED][..],
            &[
                "INSERT INTO t VALUES (4, 1, 'x', NULL)",
                "DELETE FROM t WHERE id = 1",
                "REPLACE INTO t (id) VALUES (1)",
            ][..],
        ),
        // The rollback would be bent
        (&[CREATED], &["DELETE FROM t WHERE id = 1", "REPLACE INTO t (id) VALUES (1)"]),
        (
            &[CREATED, STAMP],
            &["UPDATE t SET a = 1 WHERE id = 1", "INSERT INTO t SET id = 1 ON DUPLICATE KEY UPDATE a = 1"],
        ),
        (&[KEEP, STAMP], &["UPDATE t SET a = 1", "INSERT INTO t (id) VALUES (9)"]),
        (&[CREATED], &["UPDATE t SET b = 'x' WHERE id = 1", "UPDATE t SET id = 9 WHERE id = 1"]),
        (
            &["CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET NEW.b = 'x'"],
            &["INSERT INTO t VALUES (4, 1, 'y', NULL)"],
        ),
        (
            &["CREATE TRIGGER x AFTER UPDATE ON t FOR EACH ROW UPDATE log SET what = NEW.b"],
            &["UPDATE t SET a = 1 WHERE id = 1", "UPDATE t, log SET t.a = 1"],
        ),
        (
            &["CREATE TRIGGER x BEFORE UPDATE ON t FOR EACH ROW SET NEW.a = (SELECT COUNT(*) FROM log)"],
            &["UPDATE t SET a = 1 WHERE id = 1"],
        ),
    ] {
        let schema = c.schema("triggers").await?;
        let mut admin = c.server(Bank::One).connect(atone_tests::server::ADMIN, Some(&schema)).await?;
        sql::run_all(&mut admin, &[T, ROWS, LOG]).await?;
        sql::run_all(&mut admin, triggers).await?;
        let mut app = c.app(Bank::One, &schema).await?;
        let xid = sql::start_global(&mut app).await?;
        for statement in statements {
            let error = sql::refused(&mut app, statement).await.with_context(|| format!("{triggers:?}"))?;
            error.expect_naming(1235, "42000", &xid).with_context(|| format!("{triggers:?}: {statement}"))?;
        }
        sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
        assert_eq!(c.rows(Bank::One, &schema, "SELECT COUNT(*), SUM(a) FROM t").await?, ["3|60"]);
        assert_eq!(c.rows(Bank::One, &schema, "SELECT COUNT(*) FROM log").await?, ["0"]);
    }
    Ok(())
}

/// They do not fire for what a foreign key changes, but they would for its rollback.
async fn of_children(c: Arc<Cluster>) -> Result<()> {
    let setup = |trigger| {
        [
            "CREATE TABLE p (id INT PRIMARY KEY)",
            "CREATE TABLE child (id INT PRIMARY KEY, p INT, at DATETIME, FOREIGN KEY (p) REFERENCES p (id) ON DELETE SET NULL)",
            LOG,
            "INSERT INTO p VALUES (1), (2)",
            "INSERT INTO child VALUES (1, 1, '2020-01-01'), (2, 2, NULL)",
            trigger,
        ]
    };
    for trigger in [
        "CREATE TRIGGER x BEFORE UPDATE ON child FOR EACH ROW SET NEW.at = '2024-01-01'",
        "CREATE TRIGGER x AFTER UPDATE ON child FOR EACH ROW INSERT INTO log (what) VALUES ('update')",
        "CREATE TRIGGER x AFTER INSERT ON child FOR EACH ROW INSERT INTO log (what) VALUES ('insert')",
    ] {
        check_queries(&c, &setup(trigger), &["p", "child", "log"], &["DELETE FROM p WHERE id = 1"])
            .await
            .with_context(|| trigger.to_owned())?;
    }
    Ok(())
}
