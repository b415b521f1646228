//! UPDATE and DELETE with IGNORE and RETURNING: a bound session does and sees what a plain one does, and a rollback
//! restores the former rows.

use std::sync::Arc;

use anyhow::Result;
use atone_tests::case::{Case, check, check_queries};
use atone_tests::effects::{e, q};
use atone_tests::{Cluster, Flavor};

atone_tests::shared_tests!(ignoring, ignoring_what_foreign_keys_forbid, returning);

const T: &str = "CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(6), n TINYINT NOT NULL DEFAULT 1, KEY (b), UNIQUE (a))";
const ROWS: &str =
    "INSERT INTO t VALUES (1, 10, 'one', 1), (2, 20, 'two', 2), (3, 30, 'three', 3), (4, 40, NULL, 4)";

async fn ignoring(c: Arc<Cluster>) -> Result<()> {
    for statements in [
        // A unique key is in the way of some rows
        &["UPDATE IGNORE t SET a = 50 WHERE id > 1 ORDER BY id", "SHOW WARNINGS"][..],
        &["UPDATE IGNORE t SET a = a + 10 ORDER BY id", "SHOW WARNINGS"],
        &["UPDATE LOW_PRIORITY IGNORE t SET a = 10 WHERE id = 2", "SHOW WARNINGS"],
        // Values that do not fit
        &["UPDATE IGNORE t SET b = 'longer than six', n = 1000 WHERE id IN (1, 3)", "SHOW WARNINGS"],
        &["UPDATE IGNORE t SET n = NULL WHERE b > 'p' LIMIT 1", "SHOW WARNINGS"],
        &["UPDATE IGNORE t SET n = 'x'"],
        &["UPDATE IGNORE t SET a = 99 WHERE id = 77"],
        &["DELETE IGNORE FROM t WHERE a > 20", "SELECT ROW_COUNT()"],
        &["DELETE LOW_PRIORITY QUICK IGNORE FROM t ORDER BY id DESC LIMIT 2"],
        &[
            "BEGIN",
            "UPDATE IGNORE t SET a = 20, n = 9",
            "SHOW WARNINGS",
            "SAVEPOINT s",
            "DELETE IGNORE FROM t WHERE n = 9",
            "ROLLBACK TO s",
            "UPDATE IGNORE t SET a = 60 ORDER BY id DESC LIMIT 2",
            "COMMIT",
        ],
    ] {
        check_queries(&c, &[T, ROWS], &["t"], statements).await?;
    }
    let steps = vec![
        e("UPDATE IGNORE t SET a = ?, n = ? WHERE b LIKE ? ORDER BY id", &[&70, &"many", &"t%"]),
        q("SHOW WARNINGS"),
        e("DELETE IGNORE FROM t WHERE id = ?", &[&1]),
    ];
    check(&c, Case { name: "prepared with IGNORE", setup: &[T, ROWS], tables: &["t"], steps }).await
}

async fn ignoring_what_foreign_keys_forbid(c: Arc<Cluster>) -> Result<()> {
    let setup = [
        "CREATE TABLE p (id INT PRIMARY KEY, v INT)",
        "CREATE TABLE ch (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (id))",
        "INSERT INTO p VALUES (1, 1), (2, 2), (3, 3), (4, 4)",
        "INSERT INTO ch VALUES (1, 2), (2, 4)",
    ];
    for statements in [
        &["DELETE IGNORE FROM p", "SHOW WARNINGS"][..],
        &["DELETE IGNORE FROM p WHERE id = 2", "SELECT ROW_COUNT()"],
        &["UPDATE IGNORE ch SET p = id + 2", "UPDATE IGNORE ch SET p = 99 WHERE id = 1", "SHOW WARNINGS"],
        &["BEGIN", "DELETE IGNORE FROM p WHERE v > 1", "DELETE FROM ch", "DELETE IGNORE FROM p", "COMMIT"],
    ] {
        check_queries(&c, &setup, &["p", "ch"], statements).await?;
    }
    Ok(())
}

/// MariaDB only.
async fn returning(c: Arc<Cluster>) -> Result<()> {
    if c.flavor() == Flavor::MySql {
        return Ok(());
    }
    for statements in [
        &["DELETE FROM t WHERE id = 2 RETURNING *", "SELECT ROW_COUNT(), LAST_INSERT_ID()"][..],
        &["DELETE FROM t ORDER BY id RETURNING id, a + 1 AS more, UPPER(b)", "SHOW WARNINGS"],
        &["DELETE FROM t ORDER BY a DESC LIMIT 2 RETURNING b, t.n"],
        &["DELETE FROM t WHERE id = 99 RETURNING id"],
        &["DELETE FROM t WHERE n < 1000 * RAND() + 1000 ORDER BY id RETURNING id;"],
        &["DELETE FROM t WHERE id = 1 RETURNING id, b + 1", "SHOW WARNINGS"],
        &["DELETE FROM t WHERE id = 1 RETURNING nosuch"],
        &[
            "BEGIN",
            "DELETE FROM t WHERE id IN (1, 3) ORDER BY id RETURNING id",
            "INSERT INTO t (id, a) VALUES (3, 33)",
            "DELETE IGNORE FROM t WHERE a > 20 ORDER BY id RETURNING id, a",
            "COMMIT",
        ],
    ] {
        check_queries(&c, &[T, ROWS], &["t"], statements).await?;
    }
    let steps = vec![
        e("DELETE FROM t WHERE id = ? RETURNING id, a, b", &[&1]),
        e("DELETE FROM t WHERE a > 20 ORDER BY id RETURNING *", &[]),
    ];
    check(&c, Case { name: "prepared with RETURNING", setup: &[T, ROWS], tables: &["t"], steps }).await
}
