//! UPDATE and DELETE with IGNORE and RETURNING: a bound session does and sees what a plain one does, and a rollback
//! restores the former rows.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use atone_tests::case::{Case, check, check_queries};
use atone_tests::effects::{e, q};
use atone_tests::{Bank, Cluster, Flavor, sql};

atone_tests::shared_tests!(
    ignoring,
    ignoring_what_foreign_keys_forbid,
    returning,
    keys_of_two_columns,
    many_keys_of_two_columns,
    order_without_an_order,
    keys_compared_by_number,
    zero_timestamps_in_keys,
    safe_updates,
    a_volatile_condition_on_the_table_itself,
    warnings_of_a_volatile_condition,
);

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
        // What has to stay does not count
        &["DELETE IGNORE FROM p ORDER BY id LIMIT 2", "SHOW WARNINGS"],
        &[
            "DELETE IGNORE FROM p WHERE id > 1 AND RAND() < 2 ORDER BY id LIMIT 1",
            "DELETE IGNORE FROM p ORDER BY id LIMIT 9",
        ],
        &["UPDATE IGNORE ch SET p = id + 2", "UPDATE IGNORE ch SET p = 99 WHERE id = 1", "SHOW WARNINGS"],
        &["BEGIN", "DELETE IGNORE FROM p WHERE v > 1", "DELETE FROM ch", "DELETE IGNORE FROM p", "COMMIT"],
    ] {
        check_queries(&c, &setup, &["p", "ch"], statements).await?;
    }
    // MySQL takes the row away, and of its children those that it comes to before the one that has to stay
    let cascades = [
        "CREATE TABLE p (id INT PRIMARY KEY)",
        "CREATE TABLE ch (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)",
        "CREATE TABLE gr (id INT PRIMARY KEY, ch INT, FOREIGN KEY (ch) REFERENCES ch (id))",
        "INSERT INTO p VALUES (1), (2)",
        "INSERT INTO ch VALUES (1, 1), (2, 1), (3, 1), (4, 2)",
        "INSERT INTO gr VALUES (1, 2), (2, 1)",
    ];
    for statement in [
        "DELETE IGNORE FROM p",
        "DELETE IGNORE FROM p ORDER BY id LIMIT 1",
        "DELETE IGNORE x FROM p AS x JOIN ch ON ch.p = x.id",
    ] {
        check_queries(&c, &cascades, &["p", "ch", "gr"], &[statement, "SHOW WARNINGS"]).await?;
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

/// The restriction to keys finds rows whatever the types of the key's columns, and however the session reads literals.
async fn keys_of_two_columns(c: Arc<Cluster>) -> Result<()> {
    for (column, values) in [
        ("BIGINT UNSIGNED", ["18446744073709551615", "0", "9223372036854775808"]),
        ("DECIMAL(20,5)", ["1.5", "-0.00001", "123456789012345"]),
        ("DATE", ["'2024-02-29'", "'0001-01-01'", "'9999-12-31'"]),
        ("DATETIME(3)", ["'2024-02-29 23:59:59.999'", "'2024-02-29'", "'2024-02-29 23:59:59.99'"]),
        ("TIMESTAMP(6)", ["'2024-02-29 23:59:59.999999'", "'2024-02-29'", "'2024-02-28'"]),
        ("TIME(1)", ["'-800:00:00.5'", "'0:00'", "'12:30:00'"]),
        ("YEAR", ["1901", "2155", "2000"]),
        ("BINARY(3)", ["'a'", "X'610062'", "X'FF27'"]),
        ("VARBINARY(9)", ["''", "'a '", "'a'"]),
        ("BIT(9)", ["1", "256", "0"]),
        ("ENUM('x','Y','')", ["'x'", "'y'", "''"]),
        ("SET('x','y')", ["'x,y'", "''", "'y'"]),
        ("DOUBLE", ["0.1", "1e300", "-0.5"]),
        ("CHAR(9) CHARACTER SET latin1", ["'é'", "'f '", "'it''s \"x\"'"]),
        ("VARCHAR(9) CHARACTER SET utf8mb3", ["'é'", "'日本'", "''"]),
        ("VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", ["'é'", "'É'", "'😀'"]),
        ("VARCHAR(9) CHARACTER SET ucs2", ["'é'", "'x'", "'日本'"]),
        ("VARCHAR(9) CHARACTER SET utf16", ["'é'", "'😀'", "'x'"]),
        ("VARCHAR(9) CHARACTER SET gbk", ["'日本'", "'x'", "'y'''"]),
        ("VARCHAR(9) CHARACTER SET cp1251", ["'Жук'", "'x'", "'y'"]),
    ] {
        let rows: Vec<String> = values.iter().map(|v| format!("({v}, 1, 0), ({v}, 2, 0)")).collect();
        let setup = [
            format!("CREATE TABLE k (a {column}, b INT, v INT, PRIMARY KEY (a, b))"),
            format!("INSERT INTO k VALUES {}", rows.join(", ")),
        ];
        let setup: Vec<&str> = setup.iter().map(String::as_str).collect();
        let statements = [
            "SET time_zone = '+05:30', collation_connection = 'utf16_general_ci'",
            "UPDATE k SET v = v + 1 WHERE b = 1",
            "UPDATE k SET v = v + 1",
            "SET collation_connection = 'latin1_bin', sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES'",
            "UPDATE k SET v = v + 1",
            "DELETE FROM k WHERE v = 3",
        ];
        let content = ["SELECT HEX(a), a + 0, b, v FROM k ORDER BY a, b"];
        check_queries(&c, &setup, &content, &statements).await.with_context(|| column.to_owned())?;
    }
    Ok(())
}

/// Ten thousand rows of such a key take seconds at most, and leave no warning of the server's optimizer.
async fn many_keys_of_two_columns(c: Arc<Cluster>) -> Result<()> {
    let digits = "(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL \
                  SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
    let fill = format!(
        "INSERT INTO k SELECT REPEAT(CHAR(97 + x.d), 150), y.d + 10 * z.d + 100 * w.d, 0 \
         FROM {digits} x, {digits} y, {digits} z, {digits} w"
    );
    let setup = ["CREATE TABLE k (a VARCHAR(200), b INT, v INT, PRIMARY KEY (a, b))", &fill];
    let content = ["SELECT a, SUM(v), COUNT(*) FROM k GROUP BY a ORDER BY a"];
    let statements = ["UPDATE k SET v = b", "DELETE FROM k WHERE b % 2 = 0"];
    check_queries(&c, &setup, &content, &statements).await
}

/// Without ORDER BY the server takes the rows in the order of its plan: which of them a value goes to, and which one
/// is in the way of which.
async fn order_without_an_order(c: Arc<Cluster>) -> Result<()> {
    let setup = [
        "CREATE TABLE t (id INT PRIMARY KEY, a INT, u INT, KEY (a), UNIQUE (u))",
        "INSERT INTO t SELECT 100 - n, n, NULL FROM (SELECT 1 AS n UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION \
         SELECT 5 UNION SELECT 6) n",
        "INSERT INTO t SELECT id + 1000, 500, NULL FROM t",
        "INSERT INTO t SELECT id + 2000, 500, NULL FROM t",
        "INSERT INTO t SELECT id + 4000, 500, NULL FROM t",
    ];
    let content = ["SELECT * FROM t ORDER BY id"];
    for statements in [
        &["UPDATE IGNORE t SET u = 1 WHERE a < 5"][..],
        &["SET @n = 0", "UPDATE t SET u = (@n := @n + 1) WHERE a < 5"],
        &["UPDATE t SET u = LAST_INSERT_ID(id) WHERE a BETWEEN 2 AND 4", "SELECT LAST_INSERT_ID()"],
        &["UPDATE t SET id = id + 1 WHERE a < 5", "UPDATE t SET id = id - 1 WHERE a < 5"],
    ] {
        check_queries(&c, &setup, &content, statements).await?;
    }
    Ok(())
}

async fn keys_compared_by_number(c: Arc<Cluster>) -> Result<()> {
    let setup = [
        "CREATE TABLE t (k SET('x','y','z') PRIMARY KEY, v INT)",
        "CREATE TABLE e (k ENUM('x','y','z') PRIMARY KEY, v INT)",
        "INSERT INTO t VALUES ('x,y', 1), ('z', 2)",
        "INSERT INTO e VALUES ('x', 1), ('z', 2)",
        "CREATE TABLE b (k BIT(64) PRIMARY KEY, v INT)",
        "CREATE TABLE f (k FLOAT PRIMARY KEY, v INT)",
        "INSERT INTO b VALUES (0, 1), (5, 2)",
        "INSERT INTO f VALUES (0.1, 1), (1.5, 2)",
        "CREATE TABLE z (k INT(7) ZEROFILL PRIMARY KEY, v INT)",
        "INSERT INTO z VALUES (5, 1), (66, 2)",
    ];
    let statements = [
        "UPDATE t AS x SET v = 5 WHERE k IN (3, 3)",
        "UPDATE t SET v = 6 WHERE k = 4 ORDER BY v LIMIT 1",
        "UPDATE e SET v = 7 WHERE k IN (1, 2)",
        "DELETE FROM e WHERE k = 3",
        "DELETE FROM t WHERE k + 0 = 3",
        // The length of a text that a number in its place would not have
        "UPDATE b SET v = 8 WHERE CHAR_LENGTH(k) > 3 AND k < 5",
        "DELETE FROM b WHERE LENGTH(k) = 8 LIMIT 1",
        "UPDATE f SET v = 9 WHERE CHAR_LENGTH(k) = 3 AND k < 1",
        "UPDATE z SET v = 10 WHERE CHAR_LENGTH(k) = 7 AND v = 1",
        "DELETE FROM z WHERE k LIKE '00%' ORDER BY k LIMIT 1",
    ];
    let shown = ["t", "e", "SELECT k + 0, v FROM b ORDER BY 1", "f", "z"];
    check_queries(&c, &setup, &shown, &statements).await
}

async fn zero_timestamps_in_keys(c: Arc<Cluster>) -> Result<()> {
    let setup = [
        "SET sql_mode = ''",
        "CREATE TABLE t (a TIMESTAMP NOT NULL DEFAULT '2020-01-01', b VARCHAR(9) NOT NULL, c INT, PRIMARY KEY (a, b))",
        "INSERT INTO t VALUES ('0000-00-00', 'x', 3), ('0000-00-00', 'y', 3), ('2020-01-01', 'y', 3)",
        "CREATE VIEW v AS SELECT a, b, c FROM t WHERE c > 0",
        "SET sql_mode = DEFAULT",
    ];
    for statement in ["UPDATE t SET c = 4 WHERE b = 'x'", "DELETE FROM t WHERE a <= '2037-12-31 23:59:59.5'"]
    {
        check_queries(&c, &setup, &["t"], &["SET sql_mode = ''", statement]).await?;
    }
    // Read through a view MariaDB gives no instant for a zero
    let through = "DELETE FROM v WHERE a <= '2037-12-31 23:59:59'";
    if c.flavor() == Flavor::MySql {
        return check_queries(&c, &setup, &["t"], &["SET sql_mode = ''", through]).await;
    }
    let schema = c.schema("zero").await?;
    sql::run_all(&mut c.direct(Bank::One, &schema).await?, &setup).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::refused(&mut app, through).await?.expect_naming(1235, "42000", &xid)?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await
}

async fn safe_updates(c: Arc<Cluster>) -> Result<()> {
    for statement in [
        "UPDATE t SET b = 'x' WHERE id > 2",
        "UPDATE t SET b = 'x' WHERE id = 2",
        "DELETE FROM t WHERE b = 'one'",
        "DELETE FROM t WHERE id IN (1, 3)",
        // No row is meant, and what the condition looks at decides all the same
        "DELETE FROM t WHERE id = 77",
        "DELETE FROM t WHERE EXISTS (SELECT 1 FROM u WHERE id = 77)",
        "UPDATE t SET n = 2 WHERE EXISTS (SELECT 1 FROM u WHERE id = 77)",
        "UPDATE t SET n = 2 WHERE n > 77",
    ] {
        let setup = [T, ROWS, "CREATE TABLE u (id INT PRIMARY KEY)"];
        check_queries(&c, &setup, &["t"], &["SET sql_safe_updates = 1", statement]).await?;
    }
    let schema = c.schema("safe").await?;
    sql::run_all(&mut c.direct(Bank::One, &schema).await?, &[T, ROWS]).await?;
    let before = c.rows(Bank::One, &schema, "SELECT * FROM t").await?;
    let mut app = c.app(Bank::One, &schema).await?;
    sql::run(&mut app, "SET sql_safe_updates = 1").await?;
    sql::start_global(&mut app).await?;
    for (statement, code) in [
        ("UPDATE t SET b = 'x' WHERE n > 0", 1175),
        ("DELETE FROM t", 1175),
        ("UPDATE t SET b = 'x' LIMIT 1", 1235),
        ("DELETE FROM t WHERE n > RAND()", 1235),
    ] {
        assert_eq!(sql::refused(&mut app, statement).await?.code, code, "{statement}");
        assert_eq!(c.rows(Bank::One, &schema, "SELECT * FROM t").await?, before, "{statement}");
    }
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await
}

/// What MySQL says of it, and what MariaDB does.
async fn a_volatile_condition_on_the_table_itself(c: Arc<Cluster>) -> Result<()> {
    let setup = [T, ROWS, "CREATE VIEW v AS SELECT id, a FROM t"];
    for statement in [
        "UPDATE t SET b = 'x' WHERE id IN (SELECT id FROM t WHERE a < 30) AND n > RAND() * 0",
        "DELETE FROM t WHERE EXISTS (SELECT 1 FROM v WHERE a = 30) AND RAND() < 2",
        "DELETE FROM t WHERE RAND() < 2 AND EXISTS (SELECT 1 FROM nosuch)",
        "UPDATE v SET a = 5 WHERE id = 1 AND RAND() < 2 AND EXISTS (SELECT 1 FROM t)",
    ] {
        check_queries(&c, &setup, &["t"], &[statement, "SHOW WARNINGS"]).await?;
    }
    Ok(())
}

/// What a condition warns of, or fails of in strict mode, also where the rows imaged take its place.
async fn warnings_of_a_volatile_condition(c: Arc<Cluster>) -> Result<()> {
    let setup = [T, ROWS, "CREATE VIEW v AS SELECT id, a, b FROM t"];
    let changes = [
        "DELETE FROM t WHERE b = 'two' AND RAND() < 2 AND b > 5",
        "DELETE FROM t WHERE b > 5 AND RAND() > 2",
        "DELETE FROM t WHERE b = CURRENT_DATE AND a > 'x'",
        "UPDATE t SET n = 9 WHERE b < 1 AND RAND() < 2 AND a < 30",
        "UPDATE t SET n = 9 WHERE b < 1 AND RAND() < 2 ORDER BY id DESC LIMIT 2",
        "UPDATE t SET n = 9 WHERE b < 1 AND RAND() > 2 ORDER BY id DESC LIMIT 2",
        "UPDATE IGNORE t SET a = 30 WHERE b < 1 AND id = 2 AND RAND() < 2",
        "UPDATE t SET n = 9 WHERE b < 1 AND @i IS NULL AND id < 3",
        "UPDATE t SET n = 9 WHERE CAST('x' AS SIGNED) = 0 AND RAND() < 2 AND id < 3",
        "UPDATE v SET b = 'x' WHERE b < 1 AND id < 3",
        "UPDATE v SET b = 'x' WHERE b < 1 AND id < 3 AND RAND() < 2",
        "DELETE FROM v WHERE b < 1 AND id < 3 AND RAND() > 2",
        "UPDATE t JOIN v ON v.id = t.id SET t.n = 9 WHERE v.b < 1 AND t.id < 3 AND RAND() < 2",
    ];
    for change in changes {
        for mode in ["SET sql_mode = ''", "SET sql_mode = 'TRADITIONAL'"] {
            check_queries(&c, &setup, &["t"], &[mode, change, "SHOW WARNINGS"]).await?;
        }
    }
    // A text in UTF-8 that is none in GBK
    for change in [
        "DELETE FROM t WHERE b = '表' AND n = CURRENT_DATE",
        "DELETE FROM t WHERE b <> '表' AND n < CURRENT_DATE",
        "UPDATE t SET n = 9 WHERE b <> '表' AND RAND() < 2 LIMIT 2",
        "UPDATE t SET b = '表' WHERE b <> '表' AND RAND() < 2",
    ] {
        let statements = ["SET sql_mode = ''", "SET NAMES gbk", change, "SHOW WARNINGS"];
        check_queries(&c, &setup, &["t"], &statements).await?;
    }
    Ok(())
}
