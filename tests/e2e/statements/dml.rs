//! Every form of DML that is captured: a bound session does and sees exactly what a plain one does, and a rollback
//! restores the former rows.

use std::sync::Arc;

use anyhow::Result;
use atone_tests::case::{Case, check, check_queries};
use atone_tests::effects::{e, q};
use atone_tests::{Bank, Cluster, sql};

atone_tests::shared_tests!(
    updates,
    deletes,
    inserts,
    auto_increment,
    composite_keys,
    keys_without_a_primary_key,
    keys_that_the_server_changes,
    nulls,
    savepoints,
    transactions,
    autocommit_off,
    failing_statements,
    prepared,
    long_expressions,
);

const T: &str = "CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(40), c INT DEFAULT 7, KEY (a))";
const T_ROWS: &str = "INSERT INTO t VALUES (1, 10, 'one', 1), (2, 20, 'two', 2), (3, 30, 'three', 3), (4, 40, NULL, 4), \
                      (5, 50, 'five', 5), (6, 60, 'six', 6)";

async fn simple(c: &Cluster, statements: &[&str]) -> Result<()> {
    check_queries(c, &[T, T_ROWS], &["t"], statements).await
}

async fn updates(c: Arc<Cluster>) -> Result<()> {
    for statements in [
        &["UPDATE t SET a = 11 WHERE id = 1"][..],
        &["UPDATE t SET a = 11, b = 'x' WHERE id IN (1, 3, 5)"],
        &["update t set a = a + 1"],
        &["UPDATE t SET a = a * 2 WHERE a BETWEEN 20 AND 45 OR b LIKE 's%'"],
        &["UPDATE t SET a = 0 WHERE b IS NULL"],
        &["UPDATE t SET b = NULL WHERE a > 30"],
        &["UPDATE t SET a = 0 ORDER BY id DESC LIMIT 2"],
        &["UPDATE t SET a = 0 WHERE id > 1 ORDER BY a LIMIT 3"],
        &["UPDATE t SET a = 0 LIMIT 0"],
        &["UPDATE t AS x SET x.a = 1 WHERE x.id = 2"],
        &["UPDATE `t` SET `t`.`a` = 1 WHERE `t`.`id` = 2;"],
        &["/* a comment */ UPDATE t -- another\n SET a = 1 # third\n WHERE id = 2"],
        // Matches, but changes nothing; matches nothing.
        &["UPDATE t SET a = 10 WHERE id = 1"],
        &["UPDATE t SET a = 1 WHERE id = 99"],
        // The values that WHERE reads are the ones that change.
        &["UPDATE t SET a = a + 10 WHERE a >= 20", "UPDATE t SET a = a + 10 WHERE a >= 20"],
        &["UPDATE t SET a = DEFAULT, c = DEFAULT WHERE id = 3"],
        &["UPDATE t SET b = CONCAT(b, '\\'', \"\\\"\", 'é', '😀') WHERE id < 4"],
        &["UPDATE t SET a = 1 WHERE id = 1 AND b = 'one' AND c = 1"],
        &["UPDATE t SET a = IF(a > 30, -a, a), b = UPPER(b) WHERE id = 1 OR id = 6"],
        &["UPDATE t SET a = CASE id WHEN 1 THEN 100 ELSE 200 END WHERE id < 3"],
        // The same row again and again.
        &[
            "UPDATE t SET a = 1 WHERE id = 1",
            "UPDATE t SET a = 2 WHERE id = 1",
            "UPDATE t SET a = 10 WHERE id = 1",
        ],
    ] {
        simple(&c, statements).await?;
    }
    Ok(())
}

async fn deletes(c: Arc<Cluster>) -> Result<()> {
    for statements in [
        &["DELETE FROM t WHERE id = 1"][..],
        &["DELETE FROM t"],
        &["DELETE FROM t WHERE a > 20 AND b IS NOT NULL"],
        &["DELETE FROM t ORDER BY a DESC LIMIT 2"],
        &["DELETE FROM t WHERE id IN (2, 4, 99)"],
        &["DELETE FROM t WHERE id = 99"],
        &["delete from t where b in ('one', 'six') limit 1"],
        &["UPDATE t SET a = 5 WHERE id = 2", "DELETE FROM t WHERE a = 5"],
        &[
            "DELETE FROM t WHERE id = 2",
            "INSERT INTO t (id, a) VALUES (2, 99)",
            "UPDATE t SET c = 1 WHERE id = 2",
        ],
        &["DELETE FROM t WHERE id = 2", "INSERT INTO t VALUES (2, 20, 'two', 2)"],
    ] {
        simple(&c, statements).await?;
    }
    Ok(())
}

async fn inserts(c: Arc<Cluster>) -> Result<()> {
    for statements in [
        &["INSERT INTO t VALUES (7, 70, 'seven', 7)"][..],
        &["INSERT t (b, id) VALUES ('seven', 7), ('eight', 8), (NULL, 9)"],
        &["INSERT INTO t SET id = 7, b = 'seven'"],
        &["INSERT INTO t (id, c) VALUES (7, DEFAULT)"],
        &["INSERT INTO t (id, b) VALUES (-7, 'it''s \\\\ \"quoted\" \\n'), (0, '')"],
        &["INSERT INTO t VALUES (7, 1, 'x', 1)", "DELETE FROM t WHERE id = 7"],
        &[
            "INSERT INTO t VALUES (7, 1, 'x', 1)",
            "UPDATE t SET a = 2 WHERE id = 7",
            "UPDATE t SET b = NULL WHERE id = 7",
        ],
        &["insert into t values (7,1,'x',1) , (8,1,'y',1);"],
    ] {
        simple(&c, statements).await?;
    }
    Ok(())
}

async fn auto_increment(c: Arc<Cluster>) -> Result<()> {
    let setup = &[
        "CREATE TABLE t (id BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT, a INT)",
        "INSERT INTO t VALUES (1, 1), (5, 5)",
    ];
    for statements in [
        &["INSERT INTO t (a) VALUES (6)", "SELECT LAST_INSERT_ID(), ROW_COUNT()"][..],
        &["INSERT INTO t (a) VALUES (6), (7), (8)", "SELECT LAST_INSERT_ID()"],
        &[
            "INSERT INTO t VALUES (NULL, 6)",
            "INSERT INTO t VALUES (0, 7)",
            "INSERT INTO t VALUES (DEFAULT, 8)",
        ],
        &["INSERT INTO t VALUES (20, 6)", "INSERT INTO t (a) VALUES (7)", "SELECT LAST_INSERT_ID()"],
        &["INSERT INTO t (a) VALUES (6)", "UPDATE t SET a = 60 WHERE id = LAST_INSERT_ID()"],
        &[
            "INSERT INTO t (a) VALUES (6)",
            "INSERT INTO t VALUES (30, 7)",
            "SELECT LAST_INSERT_ID(), @@identity",
        ],
        &["INSERT INTO t VALUES (18446744073709551614, 1)", "SELECT a FROM t WHERE id > 9223372036854775807"],
        &[
            "SET SESSION auto_increment_increment = 3",
            "INSERT INTO t (a) VALUES (6), (7)",
            "SELECT LAST_INSERT_ID()",
            "SET SESSION auto_increment_increment = 1",
        ],
        &[
            "SET SESSION sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO')",
            "INSERT INTO t VALUES (0, 6)",
            "SET SESSION sql_mode = DEFAULT",
            "UPDATE t SET a = 9 WHERE id = 0",
        ],
    ] {
        check_queries(&c, setup, &["t"], statements).await?;
    }
    Ok(())
}

async fn composite_keys(c: Arc<Cluster>) -> Result<()> {
    let setup = &[
        "CREATE TABLE t (a INT, b VARCHAR(20), c DATE, v INT, PRIMARY KEY (c, b, a))",
        "INSERT INTO t VALUES (1, 'x', '2024-02-29', 1), (1, 'y', '2024-02-29', 2), (2, 'x,1', '2024-02-29', 3), \
         (2, 'x', '2024-03-01', 4)",
    ];
    for statements in [
        &["UPDATE t SET v = 9 WHERE a = 1 AND b = 'y' AND c = '2024-02-29'"][..],
        &["UPDATE t SET v = v + 1 WHERE b = 'x'"],
        &["DELETE FROM t WHERE c = '2024-02-29'"],
        &["INSERT INTO t VALUES (3, 'x', '2024-02-29', 1), (3, 'X2', '2024-02-29', 2)"],
        &["INSERT INTO t (v, c, b, a) VALUES (1, '2024-02-29', 'z', 1)", "DELETE FROM t WHERE b = 'z'"],
    ] {
        check_queries(&c, setup, &["t"], statements).await?;
    }
    Ok(())
}

async fn keys_without_a_primary_key(c: Arc<Cluster>) -> Result<()> {
    let setup = &[
        "CREATE TABLE t (n INT, code VARCHAR(20) NOT NULL, v INT, UNIQUE KEY loose (n), UNIQUE KEY tight (code))",
        "INSERT INTO t VALUES (NULL, 'a', 1), (NULL, 'b', 2), (3, 'c', 3)",
    ];
    for statements in [
        &["UPDATE t SET v = 9 WHERE n IS NULL"][..],
        &["DELETE FROM t WHERE code = 'c'", "INSERT INTO t VALUES (3, 'd', 3)"],
        &["INSERT INTO t VALUES (NULL, 'e', 1)"],
    ] {
        check_queries(&c, setup, &["t"], statements).await?;
    }
    Ok(())
}

async fn keys_that_the_server_changes(c: Arc<Cluster>) -> Result<()> {
    // The other key identifies the rows
    check_queries(
        &c,
        &[
            "CREATE TABLE t (k INT NOT NULL, ts TIMESTAMP(6) NOT NULL DEFAULT '2020-01-01 00:00:00' \
             ON UPDATE CURRENT_TIMESTAMP(6), v INT, UNIQUE KEY a (ts), UNIQUE KEY uk (k))",
            "INSERT INTO t (k, ts, v) VALUES (1, '2021-01-01 00:00:00', 1)",
        ],
        &["t"],
        &["SET timestamp = 1700000000", "UPDATE t SET v = 2", "DELETE FROM t WHERE v = 2"],
    )
    .await?;
    // There is no other
    let schema = c.schema("follows").await?;
    let table = "CREATE TABLE t (id INT, ts TIMESTAMP NOT NULL DEFAULT '2020-01-01 00:00:00' \
                 ON UPDATE CURRENT_TIMESTAMP, v INT, PRIMARY KEY (id, ts))";
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(&mut direct, &[table, "INSERT INTO t (id, v) VALUES (1, 1), (2, 2)"]).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::refused(&mut app, "UPDATE t SET v = 3").await?.expect_naming(1235, "42000", &xid)?;
    sql::run(&mut app, "DELETE FROM t WHERE id = 1").await?;
    sql::run(&mut app, "INSERT INTO t VALUES (3, '2022-02-02 00:00:00', 3)").await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &schema).await?;
    assert_eq!(c.rows(Bank::One, &schema, "SELECT id, v FROM t ORDER BY id").await?, ["1|1", "2|2"]);
    Ok(())
}

async fn nulls(c: Arc<Cluster>) -> Result<()> {
    let setup = &[
        "CREATE TABLE t (id INT PRIMARY KEY, a INT NULL, b TEXT NULL, d DATETIME(3) NULL, e VARCHAR(5) NOT NULL)",
        "INSERT INTO t VALUES (1, NULL, NULL, NULL, ''), (2, 0, '', '2024-01-01 00:00:00.123', 'NULL')",
    ];
    for statements in [
        &["UPDATE t SET a = 1, b = 'NULL', d = '2020-02-02 02:02:02.2' WHERE id = 1"][..],
        &["UPDATE t SET a = NULL, b = NULL, d = NULL WHERE id = 2"],
        &["DELETE FROM t WHERE a <=> NULL"],
        &["DELETE FROM t"],
    ] {
        check_queries(&c, setup, &["t"], statements).await?;
    }
    Ok(())
}

async fn savepoints(c: Arc<Cluster>) -> Result<()> {
    for statements in [
        &[
            "BEGIN",
            "UPDATE t SET a = 1 WHERE id = 1",
            "SAVEPOINT s1",
            "UPDATE t SET a = 2 WHERE id IN (1, 2)",
            "DELETE FROM t WHERE id = 3",
            "INSERT INTO t (id) VALUES (7)",
            "ROLLBACK TO SAVEPOINT s1",
            "UPDATE t SET a = 4 WHERE id = 4",
            "COMMIT",
        ][..],
        // Nested, set again, released, and gone.
        &[
            "START TRANSACTION",
            "SAVEPOINT a",
            "UPDATE t SET a = 1 WHERE id = 1",
            "SAVEPOINT `B`",
            "UPDATE t SET a = 2 WHERE id = 2",
            "SAVEPOINT c",
            "DELETE FROM t WHERE id = 2",
            "ROLLBACK TO b",
            "ROLLBACK TO c",
            "UPDATE t SET a = 3 WHERE id = 3",
            "SAVEPOINT a",
            "UPDATE t SET a = 4 WHERE id = 1",
            "ROLLBACK WORK TO A",
            "RELEASE SAVEPOINT a",
            "ROLLBACK TO a",
            "COMMIT",
        ],
        // Everything is taken back.
        &[
            "BEGIN",
            "SAVEPOINT s",
            "UPDATE t SET a = 1",
            "INSERT INTO t (id) VALUES (8)",
            "ROLLBACK TO s",
            "COMMIT",
        ],
    ] {
        simple(&c, statements).await?;
    }
    Ok(())
}

async fn transactions(c: Arc<Cluster>) -> Result<()> {
    for statements in [
        &[
            "BEGIN",
            "UPDATE t SET a = 1",
            "COMMIT",
            "START TRANSACTION",
            "DELETE FROM t WHERE id = 1",
            "COMMIT WORK",
        ][..],
        &["BEGIN", "UPDATE t SET a = 1", "ROLLBACK", "DELETE FROM t WHERE id = 1"],
        // A BEGIN commits what is open.
        &["BEGIN", "UPDATE t SET a = 1", "BEGIN", "UPDATE t SET a = 2 WHERE id = 1", "ROLLBACK"],
        &["START TRANSACTION READ ONLY", "SELECT COUNT(*) FROM t", "COMMIT"],
        &["COMMIT", "ROLLBACK", "UPDATE t SET c = 0 WHERE id = 6", "COMMIT"],
        &[
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "BEGIN",
            "UPDATE t SET a = 3 WHERE a > 20",
            "COMMIT",
        ],
        &[
            "BEGIN",
            "SELECT a FROM t WHERE id = 1 FOR UPDATE",
            "UPDATE t SET a = 3 WHERE id = 1",
            "SELECT * FROM t",
            "COMMIT",
        ],
    ] {
        simple(&c, statements).await?;
    }
    Ok(())
}

async fn autocommit_off(c: Arc<Cluster>) -> Result<()> {
    simple(
        &c,
        &[
            "SET autocommit = 0",
            "UPDATE t SET a = 1 WHERE id = 1",
            "INSERT INTO t (id) VALUES (7)",
            "COMMIT",
            "DELETE FROM t WHERE id = 2",
            "ROLLBACK",
            "UPDATE t SET a = 5 WHERE id = 5",
            // Turning it on commits.
            "SET @@session.autocommit = ON",
            "UPDATE t SET a = 6 WHERE id = 6",
        ],
    )
    .await
}

async fn failing_statements(c: Arc<Cluster>) -> Result<()> {
    simple(
        &c,
        &[
            "BEGIN",
            "UPDATE t SET a = 1 WHERE id = 1",
            "INSERT INTO t (id) VALUES (7), (8), (1)",
            "UPDATE t SET a = 'x' WHERE id = 2",
            "UPDATE t SET nosuch = 1 WHERE id = 2",
            "UPDATE nosuch SET a = 1",
            "INSERT INTO t (id, nosuch) VALUES (9, 9)",
            "DELETE FROM t WHERE nosuch = 2",
            "SELECT 1 FROM nosuch",
            "UPDATE t SET a = 2 WHERE id = 2",
            "COMMIT",
            "INSERT INTO t (id) VALUES (2)",
            "SHOW WARNINGS",
            "INSERT INTO t (id) VALUES (9)",
        ],
    )
    .await?;
    let setup = &[
        "CREATE TABLE p (id INT PRIMARY KEY)",
        "CREATE TABLE t (id INT PRIMARY KEY, p INT, n INT CHECK (n >= 0), FOREIGN KEY (p) REFERENCES p (id))",
        "INSERT INTO p VALUES (1)",
        "INSERT INTO t VALUES (1, 1, 5), (2, NULL, 0)",
    ];
    let statements = [
        "BEGIN",
        "UPDATE t SET n = n - 1",
        "INSERT INTO t VALUES (3, 99, 1)",
        "UPDATE t SET n = n - 5 WHERE id = 1",
        "UPDATE t SET n = n - 2 WHERE id = 1",
        "COMMIT",
    ];
    check_queries(&c, setup, &["t", "p"], &statements).await
}

async fn prepared(c: Arc<Cluster>) -> Result<()> {
    let none = None::<i32>;
    let steps = vec![
        e("UPDATE t SET a = ? WHERE id = ?", &[&11, &1]),
        e("UPDATE t SET b = ? WHERE a > ? ORDER BY id DESC LIMIT ?", &[&"it's \\ \u{1F600}", &20, &2]),
        e("INSERT INTO t (id, a, b) VALUES (?, ?, ?), (?, DEFAULT, ?)", &[&7, &none, &"x", &8, &"y"]),
        e("DELETE FROM t WHERE b = ? OR b IS NULL", &[&"two"]),
        e("BEGIN", &[]),
        e("UPDATE t SET a = a + ?", &[&1.5]),
        e("SELECT id, a FROM t WHERE id = ?", &[&1]),
        e("COMMIT", &[]),
        e("UPDATE t SET a = 5 WHERE id = 5", &[]),
        e("INSERT INTO t (id) VALUES (?)", &[&1]),
        e("UPDATE t SET b = ? WHERE id = ?", &[&"a\0b'\\", &"6"]),
        e("INSERT INTO t SET id = ?, b = ?", &[&-3, &none]),
        q("UPDATE t SET a = 0 WHERE id = -3"),
    ];
    check(&c, Case { name: "prepared statements", setup: &[T, T_ROWS], tables: &["t"], steps }).await
}

/// What object-relational mappers write for many rows at once.
async fn long_expressions(c: Arc<Cluster>) -> Result<()> {
    let list =
        |n: u32, sep: &str, item: &dyn Fn(u32) -> String| (1..=n).map(item).collect::<Vec<_>>().join(sep);
    let rows =
        format!("INSERT INTO t VALUES {}", list(400, ", ", &|id| format!("({id}, {id}, 'row {id}', {id})")));
    let whens = list(400, " ", &|id| format!("WHEN (`t`.`id` = {id}) THEN UPPER('name {id}')"));
    let ids = list(400, ", ", &|id| id.to_string());
    let pairs = list(1000, ", ", &|id| format!("({id}, 'row {id}')"));
    let nested = format!("{}id = 400{}", list(150, "", &|id| format!("(id = {id} OR ")), ")".repeat(150));
    let sum = list(600, " + ", &|n| format!("a * {n}"));
    let updates = [
        format!("UPDATE `t` SET `b` = CASE {whens} ELSE NULL END WHERE `t`.`id` IN ({ids})"),
        format!("UPDATE t SET c = c + 1 WHERE (id, LOWER(b)) IN ({pairs})"),
        format!("UPDATE t SET a = a + 1 WHERE {nested}"),
        format!("UPDATE t SET c = {sum} WHERE id < 20"),
        format!("DELETE FROM t WHERE id NOT IN ({ids}) OR (id, a) IN ({pairs}, (7, 8))"),
    ];
    let statements: Vec<&str> = updates.iter().map(String::as_str).collect();
    let steps = statements.iter().map(|statement| q(statement)).collect();
    check(&c, Case { name: "long expressions", setup: &[T, &rows], tables: &["t"], steps }).await
}
