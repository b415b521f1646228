//! What a session sees of a statement afterwards: row count, warnings, generated keys. Other statements ran after
//! it, of which nothing may show.

use std::sync::Arc;

use anyhow::Result;
use atone_tests::Cluster;
use atone_tests::case::{Case, check, check_queries};
use atone_tests::effects::{e, q};

atone_tests::shared_tests!(
    diagnostics,
    diagnostics_in_expressions,
    diagnostics_by_prepared_statements,
    executions_that_fail_under_autocommit_0,
    warnings_that_an_ok_does_not_count,
    diagnostics_of_a_select_that_fails,
);

const T: &str = "CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(40), c INT DEFAULT 7, KEY (a))";
const T_ROWS: &str = "INSERT INTO t VALUES (1, 10, 'one', 1), (2, 20, 'two', 2), (3, 30, 'three', 3), (4, 40, NULL, 4), \
                      (5, 50, 'five', 5), (6, 60, 'six', 6)";

async fn simple(c: &Cluster, statements: &[&str]) -> Result<()> {
    check_queries(c, &[T, T_ROWS], &["t"], statements).await
}

async fn diagnostics(c: Arc<Cluster>) -> Result<()> {
    simple(
        &c,
        &[
            "SET SESSION sql_mode = ''",
            "UPDATE t SET a = 'no number' WHERE id = 1",
            "SHOW WARNINGS",
            "UPDATE t SET a = 'no number' WHERE id IN (2, 3)",
            "UPDATE t SET a = 1 WHERE id IN (1, 2, 3, 4)",
            "SELECT ROW_COUNT()",
            "SELECT ROW_COUNT()",
            "UPDATE t SET a = 1 WHERE id = 1",
            "SELECT ROW_COUNT() AS n, 1",
            "INSERT INTO t (id, b) VALUES (7, REPEAT('x', 50)), (8, 'y')",
            "SHOW WARNINGS",
            "SELECT id FROM t LIMIT 3",
            "SELECT FOUND_ROWS()",
            "DELETE FROM t WHERE id = 7",
            "SELECT ROW_COUNT(), LAST_INSERT_ID()",
            "BEGIN",
            "UPDATE t SET a = 9",
            "SELECT ROW_COUNT()",
            "SHOW WARNINGS",
            "COMMIT",
            "SHOW WARNINGS",
            "SELECT LAST_INSERT_ID(77)",
            "UPDATE t SET c = LAST_INSERT_ID(c + 1) WHERE id = 2",
            "SELECT LAST_INSERT_ID()",
        ],
    )
    .await
}

async fn diagnostics_in_expressions(c: Arc<Cluster>) -> Result<()> {
    simple(
        &c,
        &[
            "SET SESSION sql_mode = ''",
            "UPDATE t SET a = 'no number' WHERE id IN (2, 3)",
            "SELECT @@warning_count",
            "UPDATE t SET a = 'no number' WHERE id IN (1, 2, 3)",
            "SHOW COUNT(*) WARNINGS",
            "SELECT @@session.warning_count + 0 AS w, @@error_count",
            "UPDATE t SET a = 9 WHERE id > 2",
            "SELECT ROW_COUNT() + 1, IF(ROW_COUNT() > 0, 'some', 'none')",
        ],
    )
    .await
}

async fn diagnostics_by_prepared_statements(c: Arc<Cluster>) -> Result<()> {
    let steps = vec![
        e("INSERT INTO t (id, a) VALUES (?, ?), (?, ?)", &[&7, &1, &8, &1]),
        e("SELECT ROW_COUNT(), LAST_INSERT_ID()", &[]),
        e("UPDATE t SET a = ? WHERE id > ?", &[&2, &6]),
        q("SELECT ROW_COUNT()"),
        q("UPDATE t SET a = 3 WHERE id > 6"),
        e("SELECT ROW_COUNT()", &[]),
        q("SET SESSION sql_mode = ''"),
        e("UPDATE t SET a = ? WHERE id > ?", &[&"no number", &6]),
        e("SHOW WARNINGS", &[]),
        q("SHOW WARNINGS"),
    ];
    check(&c, Case { name: "diagnostics by prepared statements", setup: &[T, T_ROWS], tables: &["t"], steps })
        .await
}

/// What the server makes of them is asked with their parameters.
async fn executions_that_fail_under_autocommit_0(c: Arc<Cluster>) -> Result<()> {
    let mut steps = vec![q("SET SESSION sql_mode = 'STRICT_ALL_TABLES'"), q("SET autocommit = 0")];
    for failing in [
        e("UPDATE t SET a = ? WHERE id = ?", &[&"no number", &1]),
        e("UPDATE t SET a = ? WHERE id IN (?, 2)", &[&"no number", &1]),
        e("INSERT INTO t (id, a) VALUES (?, ?)", &[&9, &"no number"]),
        e("INSERT INTO t (id) VALUES (?)", &[&1]),
        e("UPDATE t SET a = (SELECT id FROM t s WHERE s.id > ?) WHERE id = 1", &[&1]),
    ] {
        steps.extend([failing.clone(), q("SHOW WARNINGS"), q("SELECT ROW_COUNT()"), failing, q("ROLLBACK")]);
    }
    check(&c, Case { name: "executions that fail", setup: &[T, T_ROWS], tables: &["t"], steps }).await
}

/// MySQL ends an INSERT IGNORE or UPDATE IGNORE over an error of what a trigger assigns; its OK packet counts no
/// warning.
async fn warnings_that_an_ok_does_not_count(c: Arc<Cluster>) -> Result<()> {
    check_queries(
        &c,
        &[
            "CREATE TABLE t (id INT PRIMARY KEY, a INT NOT NULL, b INT)",
            "CREATE TRIGGER ti BEFORE INSERT ON t FOR EACH ROW SET NEW.a = NEW.b",
            "CREATE TABLE u (id INT PRIMARY KEY, a INT NOT NULL, b INT)",
            "INSERT INTO u VALUES (1, 1, 1), (2, 1, 1)",
            "CREATE TRIGGER tu BEFORE UPDATE ON u FOR EACH ROW SET NEW.a = NEW.b",
        ],
        &["t", "u"],
        &[
            "INSERT IGNORE INTO t (id) VALUES (7)",
            "SHOW COUNT(*) WARNINGS",
            "SHOW WARNINGS",
            "INSERT IGNORE INTO t VALUES (8, 8, NULL)",
            "SELECT @@warning_count, ROW_COUNT()",
            "UPDATE IGNORE u SET b = NULL WHERE id < 3",
            "SELECT ROW_COUNT()",
            "UPDATE IGNORE u SET b = NULL WHERE id < 3",
            "SHOW COUNT(*) WARNINGS",
            "SHOW WARNINGS",
            "UPDATE IGNORE u SET b = 5 WHERE id = 2",
            "SHOW WARNINGS",
            "SELECT ROW_COUNT()",
            "BEGIN",
            "INSERT IGNORE INTO t (id) VALUES (11)",
            "SHOW WARNINGS",
            "INSERT IGNORE INTO t (id) VALUES (12)",
            "SELECT ROW_COUNT()",
            "UPDATE IGNORE u SET b = NULL WHERE id < 3",
            "SELECT ROW_COUNT()",
            "COMMIT",
        ],
    )
    .await
}

/// The SELECT of an INSERT is read first; after it the session is set to what it was.
async fn diagnostics_of_a_select_that_fails(c: Arc<Cluster>) -> Result<()> {
    let statements = [
        "INSERT INTO t (id, a) SELECT id + 10, 1 FROM t WHERE id = (SELECT id FROM t)",
        "SHOW ERRORS",
        "SHOW COUNT(*) ERRORS",
        "SELECT ROW_COUNT(), @@error_count",
        "INSERT INTO t (id, a) SELECT id + 10, b = 'über' FROM s",
        "SHOW WARNINGS",
        "INSERT INTO t (id, a) SELECT id + 10, 7 FROM s WHERE b = 'über' ORDER BY id",
        "SHOW COUNT(*) WARNINGS",
        "INSERT INTO t (id, a) SELECT id + 10 a b FROM t",
        "SHOW ERRORS",
    ];
    let mut all = statements.to_vec();
    all.push("BEGIN");
    all.extend(statements);
    all.push("COMMIT");
    let ascii = "CREATE TABLE s (id INT PRIMARY KEY, b VARCHAR(20) CHARACTER SET ascii)";
    check_queries(&c, &[T, T_ROWS, ascii], &["t", "s"], &all).await
}
