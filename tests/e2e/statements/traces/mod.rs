//! What the application can see: each line of the hazards' third section, compared between a bound session and a direct
//! connection.
//!
//! Around each statement of a bound session others run on the same connection; none of them may leave a trace.

mod behind;
mod isolation;
mod packets;
mod settings;

use std::sync::Arc;

use anyhow::Result;
use atone_tests::case::{Case, check, check_queries};
use atone_tests::effects::{e, q};
use atone_tests::{Bank, Cluster, Flavor, sql};

atone_tests::shared_tests!(
    last_insert_id,
    row_count,
    row_count_of_returning,
    found_rows,
    show_warnings,
    get_diagnostics,
    identity,
    info_strings,
);

pub(crate) const T: &str =
    "CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(40), c INT DEFAULT 7, KEY (a))";
pub(crate) const T_ROWS: &str = "INSERT INTO t VALUES (1, 10, 'one', 1), (2, 20, 'two', 2), (3, 30, 'three', 3), \
                                 (4, 40, NULL, 4), (5, 50, 'five', 5), (6, 60, 'six', 6)";
pub(crate) const N: &str = "CREATE TABLE n (id INT AUTO_INCREMENT PRIMARY KEY, a INT UNIQUE, b VARCHAR(5))";

/// Statements on the tables `t` and `n`.
pub(crate) async fn on_tables(c: &Cluster, statements: &[&str]) -> Result<()> {
    check_queries(c, &[T, T_ROWS, N], &["t", "n"], statements).await
}

async fn last_insert_id(c: Arc<Cluster>) -> Result<()> {
    on_tables(
        &c,
        &[
            "SELECT LAST_INSERT_ID()",
            "INSERT INTO n (a) VALUES (1), (2)",
            "SELECT LAST_INSERT_ID()",
            "UPDATE t SET a = 1 WHERE id > 2",
            "SELECT LAST_INSERT_ID()",
            "UPDATE t SET c = LAST_INSERT_ID(c + 100) WHERE id = 3",
            "SELECT LAST_INSERT_ID()",
            "DELETE FROM t WHERE id = 4",
            "SELECT LAST_INSERT_ID()",
            "INSERT INTO n (a) VALUES (1) ON DUPLICATE KEY UPDATE id = LAST_INSERT_ID(id)",
            "SELECT LAST_INSERT_ID()",
            "REPLACE INTO n (id, a) VALUES (77, 2)",
            "SELECT LAST_INSERT_ID()",
            "BEGIN",
            "INSERT INTO n (a) VALUES (9)",
            "INSERT INTO n (a) VALUES (9)",
            "SELECT LAST_INSERT_ID()",
            "COMMIT",
            "SELECT LAST_INSERT_ID()",
            "SET insert_id = 500",
            "INSERT INTO n (a) VALUES (10)",
            "SELECT LAST_INSERT_ID()",
            "SET last_insert_id = 6",
            "UPDATE t SET a = LAST_INSERT_ID() WHERE id = 6",
            "SELECT LAST_INSERT_ID()",
        ],
    )
    .await
}

async fn row_count(c: Arc<Cluster>) -> Result<()> {
    on_tables(
        &c,
        &[
            "UPDATE t SET a = 1 WHERE id > 2",
            "SELECT ROW_COUNT()",
            "SELECT ROW_COUNT()",
            "DELETE FROM t WHERE id IN (1, 77)",
            "SELECT ROW_COUNT()",
            "INSERT INTO n (a) VALUES (1), (2)",
            "SELECT ROW_COUNT()",
            "INSERT INTO n (a) VALUES (1) ON DUPLICATE KEY UPDATE b = 'x'",
            "SELECT ROW_COUNT()",
            "REPLACE INTO n (a) VALUES (1)",
            "SELECT ROW_COUNT()",
            "UPDATE t SET a = 1 WHERE id = 77",
            "SELECT ROW_COUNT()",
            "UPDATE t SET nothing = 1",
            "SELECT ROW_COUNT()",
            "BEGIN",
            "SELECT ROW_COUNT()",
            "UPDATE t SET a = 2 WHERE id = 2",
            "SELECT ROW_COUNT()",
            "SAVEPOINT s",
            "SELECT ROW_COUNT()",
            "DELETE FROM t",
            "COMMIT",
            "SELECT ROW_COUNT()",
        ],
    )
    .await
}

/// After rows of RETURNING, be there none, it is -1.
async fn row_count_of_returning(c: Arc<Cluster>) -> Result<()> {
    if c.flavor() == Flavor::MySql {
        return Ok(()); // There is no RETURNING
    }
    on_tables(
        &c,
        &[
            "DELETE FROM t WHERE id = 6 RETURNING id",
            "SELECT ROW_COUNT()",
            "DELETE FROM t WHERE id = 77 RETURNING id",
            "SELECT ROW_COUNT()",
            "DELETE FROM t WHERE a BETWEEN RAND() + 900 AND 1000 RETURNING id, b",
            "SELECT ROW_COUNT()",
            "INSERT INTO n (a) VALUES (1) RETURNING a",
            "SELECT ROW_COUNT()",
        ],
    )
    .await
}

async fn found_rows(c: Arc<Cluster>) -> Result<()> {
    on_tables(
        &c,
        &[
            "SELECT id FROM t LIMIT 2",
            "SELECT FOUND_ROWS()",
            "SELECT SQL_CALC_FOUND_ROWS id FROM t LIMIT 2",
            "SELECT FOUND_ROWS()",
            "UPDATE t SET a = 1 WHERE id > 4",
            "SELECT id FROM t LIMIT 4",
            "SELECT FOUND_ROWS() AS n, 1",
            "BEGIN",
            "UPDATE t SET a = 2 WHERE id > 3",
            "SELECT SQL_CALC_FOUND_ROWS id FROM t WHERE id > 2 LIMIT 1",
            "SAVEPOINT s",
            "SELECT FOUND_ROWS()",
            "COMMIT",
        ],
    )
    .await?;
    // After statements of Atone's own the number is not known: no other one is given
    let schema = c.schema("found").await?;
    sql::run_all(&mut c.direct(Bank::One, &schema).await?, &[T, T_ROWS]).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut app).await?;
    for statement in ["UPDATE t SET a = 1 WHERE id > 4", "DELETE FROM t WHERE id = 5"] {
        sql::run(&mut app, "SELECT id FROM t LIMIT 4").await?;
        sql::run(&mut app, statement).await?;
        let error = sql::refused(&mut app, "SELECT found_rows()").await?;
        error.expect(1235, "42000")?;
    }
    sql::run(&mut app, "SELECT id FROM t LIMIT 4").await?;
    assert_eq!(sql::cell(&mut app, "SELECT FOUND_ROWS()").await?, "4");
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await
}

async fn show_warnings(c: Arc<Cluster>) -> Result<()> {
    on_tables(
        &c,
        &[
            "SET SESSION sql_mode = ''",
            "UPDATE t SET a = 'x' WHERE id IN (1, 2)",
            "SHOW WARNINGS",
            "SHOW WARNINGS LIMIT 1",
            "SHOW COUNT(*) WARNINGS",
            "SELECT @@warning_count, @@error_count",
            "INSERT INTO n (a, b) VALUES (1, 'too long'), ('x', 'y')",
            "SHOW WARNINGS",
            "SHOW ERRORS",
            "UPDATE t SET a = 3 WHERE id = 3",
            "SHOW WARNINGS",
            "UPDATE t SET nothing = 1",
            "SHOW WARNINGS",
            "SHOW ERRORS",
            "INSERT INTO t (id) VALUES (1)",
            "SHOW WARNINGS",
            "SHOW COUNT(*) ERRORS",
            "BEGIN",
            "UPDATE t SET a = 'x' WHERE id IN (1, 2)",
            "SHOW WARNINGS LIMIT 1",
            "INSERT INTO t (id) VALUES (1)",
            "SHOW WARNINGS",
            "COMMIT",
            "SHOW WARNINGS",
            "SET max_error_count = 2",
            "UPDATE t SET a = 'x'",
            "SHOW WARNINGS",
            "SHOW COUNT(*) WARNINGS",
            "SELECT @@warning_count",
            "SET max_error_count = 0",
            "UPDATE t SET a = 'x', b = 'y'",
            "SHOW WARNINGS",
            "SELECT @@warning_count",
        ],
    )
    .await?;
    // The row is looked for by a number, which is compared with texts that are none
    let words = &[
        "CREATE TABLE w (n INT NOT NULL, word VARCHAR(12) NOT NULL, PRIMARY KEY (n, word))",
        "INSERT INTO w VALUES (7, 'x2')",
    ];
    for shown in ["SHOW WARNINGS", "SHOW COUNT(*) WARNINGS", "SHOW ERRORS", "SHOW WARNINGS LIMIT 1"] {
        check_queries(
            &c,
            words,
            &["w"],
            &["BEGIN", "INSERT INTO w VALUES (7, 1)", shown, "SELECT ROW_COUNT()", "COMMIT"],
        )
        .await?;
    }
    Ok(())
}

async fn get_diagnostics(c: Arc<Cluster>) -> Result<()> {
    on_tables(
        &c,
        &[
            "SET SESSION sql_mode = ''",
            "BEGIN",
            "UPDATE t SET a = 'x' WHERE id IN (1, 2)",
            "GET DIAGNOSTICS @n = NUMBER, @r = ROW_COUNT",
            "SELECT @n, @r",
            "UPDATE t SET a = 'y' WHERE id IN (1, 2)",
            "GET DIAGNOSTICS CONDITION 2 @s = RETURNED_SQLSTATE, @m = MESSAGE_TEXT, @e = MYSQL_ERRNO",
            "SELECT @s, @m, @e",
            "INSERT INTO t (id) VALUES (1)",
            "GET DIAGNOSTICS CONDITION 1 @s = RETURNED_SQLSTATE, @m = MESSAGE_TEXT",
            "SELECT @s, @m",
            "COMMIT",
        ],
    )
    .await
}

async fn identity(c: Arc<Cluster>) -> Result<()> {
    on_tables(
        &c,
        &[
            "SELECT @@identity, @@last_insert_id, @@insert_id",
            "INSERT INTO n (a) VALUES (1), (2)",
            "SELECT @@identity, @@last_insert_id, @@insert_id",
            "UPDATE n SET b = 'x'",
            "DELETE FROM t WHERE id > 3",
            "SELECT @@identity, @@last_insert_id, @@insert_id",
            "SET identity = 9",
            "UPDATE t SET a = 2",
            "SELECT @@identity",
            "SET insert_id = 40",
            "UPDATE t SET a = 3",
            "INSERT INTO n (a) VALUES (3)",
            "SELECT @@identity, id FROM n WHERE a = 3",
        ],
    )
    .await
}

async fn info_strings(c: Arc<Cluster>) -> Result<()> {
    let mut statements = vec![
        "UPDATE t SET a = 10 WHERE id < 3",
        "UPDATE t SET a = 1 WHERE id = 77",
        "UPDATE t SET a = 1 WHERE a = 77",
        "UPDATE t SET a = 1 WHERE 1 = 0",
        "UPDATE t SET a = 1 LIMIT 0",
        "UPDATE t SET a = 1 WHERE id < 4 AND id > RAND() + 9",
        "DELETE FROM t WHERE id IN (5, 6)",
        "INSERT INTO n (a) VALUES (1)",
        "INSERT INTO n (a) VALUES (2), (3)",
        "INSERT IGNORE INTO n (a) VALUES (3), (4)",
        "REPLACE INTO n (a) VALUES (4), (5)",
        "INSERT INTO n (a) SELECT 100 + id FROM t",
        "INSERT INTO n (id, a) SELECT 1000 + id, 200 + id FROM t",
        "INSERT INTO n (a) VALUES (5), (6) ON DUPLICATE KEY UPDATE b = 'x'",
        "SET sql_mode = ''",
        "UPDATE t SET a = 'x' WHERE id < 3",
        "INSERT INTO n (a) VALUES ('x'), (8)",
    ];
    // The numbers that are generated differ
    if c.flavor() == Flavor::MariaDb {
        statements.push("DELETE FROM t WHERE id = 4 RETURNING id");
    }
    on_tables(&c, &statements).await?;
    let steps = vec![
        e("UPDATE t SET a = ? WHERE id = ?", &[&1, &77]),
        e("UPDATE t SET a = ? WHERE id < ?", &[&1, &3]),
        e("INSERT INTO n (a) VALUES (?), (?)", &[&1, &2]),
        q("BEGIN"),
        e("UPDATE t SET a = ? WHERE a = ?", &[&7, &1]),
        q("COMMIT"),
    ];
    check(
        &c,
        Case { name: "info of prepared statements", setup: &[T, T_ROWS, N], tables: &["t", "n"], steps },
    )
    .await
}
