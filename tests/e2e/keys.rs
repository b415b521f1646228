//! INSERT whose keys only the server knows: from expressions and defaults, generated ones mixed with given ones, from
//! queries.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::case::{Case, check};
use atone_tests::effects::{Step, e, q};
use atone_tests::{Bank, Cluster, Flavor, sql};
use mysql_async::prelude::Queryable as _;

atone_tests::shared_tests!(
    expressions,
    random_keys,
    computed_defaults,
    evaluated_once,
    one_time,
    what_cannot_be_evaluated_ahead,
    given_and_generated,
    rows_of_others_in_between,
    generated_from_queries,
    queries_of_every_form,
    random_queries,
    character_set_results,
    one_literal_one_row,
);

const TABLES: &[&str] = &[
    "CREATE TABLE src (a INT PRIMARY KEY, b INT, m VARCHAR(20))",
    "INSERT INTO src VALUES (1, 10, 'one'), (2, 20, 'two'), (3, 30, NULL)",
    "CREATE TABLE n (id INT PRIMARY KEY, v INT)",
    "INSERT INTO n VALUES (1, 1), (2, 2)",
    "CREATE TABLE s (id VARCHAR(40) COLLATE utf8mb4_bin PRIMARY KEY, v INT)",
    "CREATE TABLE b (id VARBINARY(16) PRIMARY KEY, v INT)",
    "CREATE TABLE d (day DATE, at DATETIME(3), v INT, PRIMARY KEY (day, at))",
    "CREATE TABLE k (id INT AUTO_INCREMENT PRIMARY KEY, m VARCHAR(20) UNIQUE, v INT)",
    "INSERT INTO k VALUES (1, 'a', 1), (2, 'b', 2)",
    "CREATE TABLE two (a INT, b INT DEFAULT 7, v INT, PRIMARY KEY (a, b))",
    "CREATE TABLE x (id DECIMAL(20, 5) PRIMARY KEY, v INT)",
    "CREATE TABLE hidden (a INT INVISIBLE DEFAULT 5, id INT PRIMARY KEY, b INT INVISIBLE, v INT)",
    "CREATE TABLE f4 (id BINARY(4), at DATETIME(1), n DECIMAL(5, 2), v INT, PRIMARY KEY (id, at, n))",
    "CREATE TABLE dbl (id DOUBLE PRIMARY KEY, v INT)",
];
const CONTENT: &[&str] = &[
    "SELECT * FROM n ORDER BY id",
    "SELECT * FROM s ORDER BY id",
    "SELECT HEX(id), v FROM b ORDER BY id",
    "SELECT * FROM d ORDER BY day, at",
    "SELECT * FROM k ORDER BY id",
    "SELECT * FROM two ORDER BY a, b",
    "SELECT * FROM x ORDER BY id",
    "SELECT * FROM dbl ORDER BY id",
    "SELECT HEX(id), at, n, v FROM f4 ORDER BY v, n",
    "SELECT a, id, b, v FROM hidden",
];

async fn compare(c: &Cluster, name: &str, steps: Vec<Step>) -> Result<()> {
    let mut begun = vec![q("BEGIN")];
    begun.extend(steps.iter().cloned());
    begun.push(q("COMMIT"));
    for steps in [steps, begun] {
        check(c, Case { name, setup: TABLES, tables: CONTENT, steps }).await?;
    }
    Ok(())
}

async fn expressions(c: Arc<Cluster>) -> Result<()> {
    let mut steps = vec![
        q("INSERT INTO n VALUES (1 + 9, 5)"),
        q("INSERT INTO n (v, id) VALUES (4 * 4, 20 + 1), (5, 22), (-1, 0 - 5)"),
        q("INSERT INTO n SET v = 3, id = ABS(-30)"),
        q("INSERT INTO n SET id = 31 + 0, v = id"),
        q("INSERT INTO n VALUES (1 + 0, 5)"),
        q("SHOW WARNINGS"),
        q("INSERT IGNORE INTO n VALUES (1 + 0, 5), (40 + 0, 6)"),
        q("SHOW WARNINGS"),
        q("REPLACE INTO n VALUES (1 + 1, 5), (50 + 0, 6)"),
        q("INSERT INTO n VALUES (1 + 0, 5), (60 + 0, 6) ON DUPLICATE KEY UPDATE v = VALUES(v) + 100"),
        q("SELECT ROW_COUNT(), LAST_INSERT_ID()"),
        q("INSERT INTO n VALUES (FLOOR(70.5), 1), (ROUND(7.1e1), 2), (SQRT(5184), 3)"),
        q("INSERT INTO hidden VALUES (1, 2), (2 + 1, 4)"),
        q("INSERT INTO hidden (b, id) VALUES (9, 5)"),
        q("INSERT INTO hidden SELECT 6, 7"),
        q("INSERT INTO hidden VALUES (1, 1, 1, 1)"),
        q("REPLACE INTO hidden VALUES (6, 8), (7, 7)"),
        q(
            "INSERT INTO f4 VALUES ('ab', '2024-02-29 10:00:00.55555', 1.239, 1), (0x6162, '2024-02-29 10:00:00.7', 1.239, 2)",
        ),
        q("SHOW WARNINGS"),
        q("INSERT INTO f4 VALUES ('ab', 20240229100000, '1', 1)"),
        q("INSERT INTO f4 VALUES ('é', '2024-02-29', -5, 1)"),
        q("DELETE FROM f4 WHERE v = 2"),
        q("INSERT INTO f4 VALUES ('ab', '2024-02-29 10:00:00.7', 1.24, 2)"),
        q("INSERT INTO f4 VALUES ('ab', '2024-02-29 10:00:00.7', 1.24, 2)"),
        q("INSERT INTO f4 (at, v) VALUES ('2024-02-29', 3)"),
        q("REPLACE INTO f4 (at, v) VALUES ('2024-02-29', 3)"),
        q("SET @a = 80"),
        q("INSERT INTO n VALUES (@a, 1), (@a + 1, @a)"),
        q("INSERT INTO n VALUES ((SELECT 90 + MAX(a) FROM src), 1)"),
        q(
            "INSERT INTO n VALUES ((SELECT 91 + MAX(a) FROM (SELECT a FROM src UNION SELECT 3) y), 1), (IF(1 > 2, 1, 99), (SELECT 5))",
        ),
        q(
            "INSERT INTO s VALUES (CONCAT('é', '''', 'x'), 1), (UPPER('abc'), 2), (CONVERT('ü' USING latin1), 3)",
        ),
        q("INSERT INTO s VALUES (1 + 1, 1), (1.50 + 1, 2), (NULLIF(1, 2), 3), (REPEAT('x', 40), 4)"),
        q(
            "INSERT INTO s VALUES (DATE('2024-02-29'), 1), (TIMESTAMP('2024-02-29 10:00:00'), 2), (1e0 / 3, 3)",
        ),
        q(
            "INSERT INTO b VALUES (UNHEX('00ff27'), 1), (CONCAT('a', 'b'), 2), (x'4142', 3), (CONCAT(1, 'é'), 4)",
        ),
        q("INSERT INTO d VALUES (DATE('2024-02-29'), TIMESTAMP('2024-02-29 10:00:00.12345'), 1)"),
        q(
            "INSERT INTO d VALUES (DATE_ADD('2024-02-29', INTERVAL 1 DAY), DATE_ADD('2024-02-29 10:00:00', INTERVAL 1 SECOND), 1)",
        ),
        q("INSERT INTO k (id, m) VALUES (10 + 1, 'x')"),
        q("SELECT LAST_INSERT_ID()"),
        q("INSERT INTO k (m, v) VALUES (CONCAT('y', 1), 5)"),
        q("SELECT LAST_INSERT_ID()"),
        q(
            "INSERT INTO k (m, v) VALUES (CONCAT('y', 1), 6) ON DUPLICATE KEY UPDATE v = VALUES(v), id = LAST_INSERT_ID(id)",
        ),
        q("SELECT LAST_INSERT_ID(), @@identity"),
        q("INSERT IGNORE INTO k (m, v) VALUES (LOWER('A'), 6), (LOWER('Z'), 7)"),
        q("REPLACE INTO k (m, v) VALUES (LOWER('B'), 6)"),
        q("INSERT INTO two (a, v) VALUES (LAST_INSERT_ID(), 1), (5 + 5, 2)"),
        q("INSERT INTO two VALUES (1 + 1, DEFAULT, 3), (3, DEFAULT, 4)"),
        q("INSERT INTO two (a) VALUES (3) ON DUPLICATE KEY UPDATE v = 9"),
        q("INSERT INTO x VALUES (1.25 + 1, 1), (2.5 * 2, 2), (1e0 * 7, 3)"),
        q("INSERT INTO dbl VALUES (1e0 / 3, 1), (RAND(5), 2), (PI() * 1e200, 3), (-0e0 * 1, 4)"),
        e("INSERT INTO n VALUES (? + 0, ?)", &[&200, &1]),
        e("INSERT INTO n VALUES (?, ? * 2), (? + 1, 7)", &[&201, &1, &201]),
        e("INSERT INTO s VALUES (CONCAT(?, '-', ?), 1)", &[&"pré", &"x"]),
        e("INSERT INTO b SET id = UNHEX(?), v = ?", &[&"abcd", &3]),
        // The server's own errors
        q("INSERT INTO n VALUES (nosuch + 1, 5)"),
        q("SHOW WARNINGS"),
        q("INSERT INTO n (v) VALUES (1)"),
        q("INSERT INTO n VALUES (300 + 0, nosuch)"),
        q("INSERT INTO s VALUES (REPEAT('x', 41), 4)"),
        q("INSERT INTO n VALUES (3000000000 + 0, 4)"),
        q("INSERT INTO n VALUES ((SELECT MAX(a) FROM nosuch), 4)"),
        q("INSERT INTO n VALUES ((SELECT a FROM src), 4)"),
        q("INSERT INTO n VALUES (NULLIF(1, 1), 4)"),
        q("SHOW WARNINGS"),
    ];
    if c.flavor() == Flavor::MySql {
        steps.extend([
            q("INSERT INTO n VALUES (JSON_EXTRACT('x', '$'), 4)"),
            q("INSERT INTO n VALUES ROW(400 + 0, 1), ROW(401, 2)"),
            q("INSERT INTO n VALUES (400 + 0, 1) AS new ON DUPLICATE KEY UPDATE v = new.id"),
            q("INSERT INTO n SET id = 400 + 0 AS new ON DUPLICATE KEY UPDATE v = new.id + 1"),
            q("INSERT INTO n VALUES ((SELECT MAX(id) + 1 FROM n), 5)"),
            q("SHOW WARNINGS"),
        ]);
    } else {
        steps.extend([
            q("INSERT INTO n VALUES (400 + 0, 1), (401, 2) RETURNING id, v + 1"),
            q("INSERT INTO s VALUES (CONCAT('r', 1), 1) RETURNING *"),
            q("INSERT INTO n VALUES ((SELECT MAX(id) + 1 FROM n), 5)"),
        ]);
    }
    compare(&c, "expressions", steps).await
}

/// A statement has one time, wherever it stands in it.
async fn one_time(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("one_time").await?;
    let table = "CREATE TABLE t (id INT, at DATETIME(6), day DATE, also DATETIME(6), mine DATETIME(6) DEFAULT CURRENT_TIMESTAMP(6), \
                 PRIMARY KEY (at, id))";
    sql::run(&mut c.direct(Bank::One, &schema).await?, table).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut app).await?;
    let statement = "INSERT INTO t (id, at, day, also) VALUES (1, NOW(6), CURRENT_DATE, NOW(6) + INTERVAL 1 DAY), (2, NOW(6), NULL, NULL)";
    sql::run(&mut app, statement).await?;
    let same = "SELECT COUNT(*), COUNT(DISTINCT at), COUNT(DISTINCT mine), SUM(at = mine), SUM(DATE(at) = day), SUM(also = at + INTERVAL 1 DAY) FROM t";
    assert_eq!(sql::rows(&mut app, same).await?, ["2|1|1|2|1|1"]);
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &schema).await?;
    assert_eq!(c.rows(Bank::One, &schema, "SELECT * FROM t").await?, [""; 0]);
    Ok(())
}

/// What the rows are but for their random keys.
async fn shape(c: &Cluster, schema: &str, table: &str) -> Result<Vec<String>> {
    c.rows(Bank::One, schema, &format!("SELECT LENGTH(id), v FROM {table} ORDER BY v")).await
}

async fn random_keys(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("uuids").await?;
    sql::run_all(
        &mut c.direct(Bank::One, &schema).await?,
        &[
            "CREATE TABLE t (id CHAR(36) PRIMARY KEY, v INT)",
            "CREATE TABLE b (id BINARY(16) PRIMARY KEY, v INT UNIQUE)",
            "CREATE TABLE f (id BIGINT UNSIGNED PRIMARY KEY, v INT)",
            "INSERT INTO t VALUES ('x', 0)",
            "INSERT INTO b VALUES ('x', 0)",
        ],
    )
    .await?;
    let mut app = c.app(Bank::One, &schema).await?;
    for begin in [false, true] {
        for commit in [false, true] {
            sql::start_global(&mut app).await?;
            if begin {
                sql::run(&mut app, "BEGIN").await?;
            }
            for statement in [
                "INSERT INTO t VALUES (UUID(), 1), (UUID(), 2)",
                "INSERT INTO t SET v = 3, id = UUID()",
                "INSERT IGNORE INTO t VALUES (UUID(), 4)",
                "REPLACE INTO t VALUES (UUID(), 5)",
                "INSERT INTO t VALUES (UUID(), 6) ON DUPLICATE KEY UPDATE v = 9",
                "INSERT INTO b VALUES (UNHEX(REPLACE(UUID(), '-', '')), 1), (RANDOM_BYTES(16), 2)",
                "INSERT INTO b VALUES (RANDOM_BYTES(16), 0) ON DUPLICATE KEY UPDATE v = 7",
                "INSERT INTO f VALUES (UUID_SHORT(), 1), (FLOOR(RAND() * 1000000000), 2)",
            ] {
                sql::run(&mut app, statement).await?;
            }
            app.exec_drop("INSERT INTO t VALUES (UUID(), ?)", (7,)).await?;
            if begin {
                sql::run(&mut app, "COMMIT").await?;
            }
            let end = if commit { "COMMIT" } else { "ROLLBACK" };
            sql::run(&mut app, format!("{end} GLOBAL TRANSACTION")).await?;
            c.wait_for_purge(Bank::One, &schema).await?;
            let t = shape(&c, &schema, "t").await?;
            let b = shape(&c, &schema, "b").await?;
            let f = c.rows(Bank::One, &schema, "SELECT v FROM f ORDER BY v").await?;
            if commit {
                assert_eq!(t, ["1|0", "36|1", "36|2", "36|3", "36|4", "36|5", "36|6", "36|7"]);
                assert_eq!(b, ["16|1", "16|2", "16|7"]);
                assert_eq!(f, ["1", "2"]);
                for undo in [
                    "DELETE FROM t WHERE v > 0",
                    "DELETE FROM b",
                    "DELETE FROM f",
                    "INSERT INTO b VALUES ('x', 0)",
                ] {
                    sql::run(&mut c.direct(Bank::One, &schema).await?, undo).await?;
                }
            } else {
                assert_eq!((t, b, f), (vec!["1|0".to_owned()], vec!["16|0".to_owned()], vec![]));
            }
        }
    }
    Ok(())
}

async fn computed_defaults(c: Arc<Cluster>) -> Result<()> {
    let mysql = c.flavor() == Flavor::MySql;
    let uuid = if mysql { "BINARY(16) DEFAULT (UUID_TO_BIN(UUID()))" } else { "UUID DEFAULT UUID()" };
    let schema = c.schema("defaults").await?;
    sql::run_all(
        &mut c.direct(Bank::One, &schema).await?,
        &[
            &format!("CREATE TABLE t (id {uuid} PRIMARY KEY, v INT, w VARCHAR(40) UNIQUE DEFAULT (CONCAT('w', UUID())))"),
            "CREATE TABLE at (id INT, t DATETIME(6) DEFAULT CURRENT_TIMESTAMP(6), v INT, PRIMARY KEY (t, id))",
            "CREATE TABLE only (id VARCHAR(60) DEFAULT (CONCAT('a', UUID())) PRIMARY KEY)",
            "CREATE TABLE named (id INT DEFAULT (v + 1) PRIMARY KEY, v INT)",
        ],
    )
    .await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    for statement in [
        "INSERT INTO t (v) VALUES (1), (2)",
        "INSERT INTO t VALUES (DEFAULT, 3, DEFAULT)",
        "INSERT INTO t SET v = 4",
        "INSERT IGNORE INTO t (v) VALUES (5)",
        "REPLACE INTO t (v) VALUES (6)",
        "INSERT INTO t (v) VALUES (7) ON DUPLICATE KEY UPDATE v = 8",
        "INSERT INTO t (v, w) VALUES (8, 'x') ON DUPLICATE KEY UPDATE v = 80",
        "INSERT INTO t (v, w) VALUES (8, 'x') ON DUPLICATE KEY UPDATE v = 80",
        "INSERT INTO t (v) SELECT v + 100 FROM t WHERE v < 3",
        "INSERT INTO at (id, v) VALUES (1, 1), (2, 2)",
        "INSERT INTO only () VALUES ()",
        "INSERT INTO only VALUES ()",
        "INSERT INTO only VALUES (DEFAULT), (DEFAULT)",
    ] {
        sql::run(&mut app, statement).await?;
    }
    app.exec_drop("INSERT INTO t (v) VALUES (?)", (9,)).await?;
    let refused = "INSERT INTO named (v) VALUES (5)";
    sql::refused(&mut app, refused).await?.expect_naming(1235, "42000", &xid)?;
    let values = "SELECT v FROM t ORDER BY v";
    let wanted = ["1", "2", "3", "4", "5", "6", "7", "9", "80", "101", "102"];
    assert_eq!(sql::rows(&mut app, values).await?, wanted);
    assert_eq!(
        sql::rows(&mut app, "SELECT COUNT(*), COUNT(DISTINCT id), MIN(LENGTH(id)) FROM only").await?,
        ["4|4|37"]
    );
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &schema).await?;
    for table in ["t", "at", "only", "named"] {
        assert_eq!(c.rows(Bank::One, &schema, &format!("SELECT * FROM {table}")).await?, [""; 0]);
    }
    Ok(())
}

async fn evaluated_once(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("once").await?;
    let setup = [
        "CREATE TABLE t (id VARCHAR(40) PRIMARY KEY, v INT)",
        "CREATE TABLE r (id DOUBLE PRIMARY KEY, v INT)",
    ];
    for bank in [Bank::One, Bank::Two] {
        sql::run_all(&mut c.direct(bank, &schema).await?, &setup).await?;
    }
    let mut direct = c.direct(Bank::Two, &schema).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut app).await?;
    // The session's random numbers go on as if nobody had evaluated anything twice
    for conn in [&mut direct, &mut app] {
        sql::run(conn, "SET rand_seed1 = 5, rand_seed2 = 7").await?;
        sql::run(conn, "INSERT INTO r VALUES (RAND(), 1)").await?;
        sql::run(conn, "INSERT INTO r VALUES (RAND(), 2), (RAND(), 3)").await?;
    }
    let rows = "SELECT id, v FROM r ORDER BY v";
    assert_eq!(sql::rows(&mut app, rows).await?, sql::rows(&mut direct, rows).await?);
    assert_eq!(sql::rows(&mut app, "SELECT RAND()").await?, sql::rows(&mut direct, "SELECT RAND()").await?);
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &schema).await?;
    assert_eq!(c.rows(Bank::One, &schema, rows).await?, [""; 0]);
    Ok(())
}

async fn what_cannot_be_evaluated_ahead(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("ahead").await?;
    sql::run_all(
        &mut c.direct(Bank::One, &schema).await?,
        &[
            "CREATE TABLE t (id INT PRIMARY KEY, v INT)",
            "CREATE TABLE f (id FLOAT PRIMARY KEY, v INT)",
            "INSERT INTO t VALUES (1, 1)",
            "CREATE TABLE e (e ENUM('a', 'b'), f FLOAT, b BIT(4), ts TIMESTAMP NULL)",
            "INSERT INTO e VALUES ('b', 1.5, 5, '2024-01-01')",
        ],
    )
    .await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    for begin in [false, true] {
        if begin {
            sql::run(&mut app, "BEGIN").await?;
        }
        for statement in [
            "INSERT INTO t (v, id) VALUES (5, v + 1)",
            "INSERT INTO t VALUES (LAST_INSERT_ID(7), 1)",
            "INSERT INTO t VALUES (@n := 7, 1)",
            "INSERT INTO t VALUES (@n + 7, @n := 1)",
            "INSERT INTO t VALUES (CAST('5x' AS SIGNED), 1)",
            "INSERT INTO t VALUES (ROW_COUNT(), 1)",
            "INSERT INTO f VALUES ((SELECT f FROM e), 1)",
            "INSERT INTO t VALUES ((SELECT b FROM e), 1)",
            "INSERT INTO t VALUES ((SELECT UNIX_TIMESTAMP(ts) FROM e FOR UPDATE), 1)",
            "INSERT INTO t VALUES ((SELECT ts FROM e), 1)",
            "INSERT INTO t VALUES (20 / 3, 1)",
        ] {
            sql::refused(&mut app, statement).await?.expect_naming(1235, "42000", &xid).context(statement)?;
        }
        assert_eq!(sql::rows(&mut app, "SELECT id, v FROM t").await?, ["1|1"]);
    }
    assert_eq!(sql::cell(&mut app, "SELECT @n").await?, "NULL");
    assert_eq!(sql::cell(&mut app, "SELECT LAST_INSERT_ID()").await?, "0");
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await
}

async fn given_and_generated(c: Arc<Cluster>) -> Result<()> {
    let mut steps = vec![
        q("INSERT INTO k VALUES (NULL, 'c', 3), (50, 'd', 4), (NULL, 'e', 5)"),
        q("SELECT LAST_INSERT_ID()"),
        q("INSERT INTO k VALUES (60, 'f', 3), (0, 'g', 4), (DEFAULT, 'h', 5), (7, 'i', 6), (NULL, 'j', 7)"),
        q("SELECT LAST_INSERT_ID(), ROW_COUNT()"),
        q("INSERT INTO k (id, v) VALUES (-5, 1), (NULL, 2)"),
        q("SET auto_increment_increment = 10, auto_increment_offset = 3"),
        q("INSERT INTO k (id, v) VALUES (NULL, 1), (200, 2), (NULL, 2)"),
        q("INSERT INTO k (v) VALUES (1), (2)"),
        q("SET auto_increment_increment = 1, auto_increment_offset = 1, sql_mode = 'NO_AUTO_VALUE_ON_ZERO'"),
        q("INSERT INTO k (id, v) VALUES (NULL, 1), (0, 2), (NULL, 3)"),
        q("SET sql_mode = ''"),
        q("INSERT INTO k (id, v) VALUES (NULL, 1), (NULLIF(1, 1), 2), (900 + 1, 3)"),
        q("SELECT LAST_INSERT_ID()"),
        // Fails, and so as the server does
        q("INSERT INTO k VALUES (NULL, 'z', 3), (1, 'y', 4)"),
        q("INSERT INTO k VALUES (NULL, 'c', 3), (70, 'y', 4)"),
    ];
    if c.flavor() == Flavor::MariaDb {
        steps.push(q("INSERT INTO k (id, v) VALUES (NULL, 1), (1000, 2) RETURNING id, v"));
    }
    compare(&c, "given and generated", steps).await
}

/// The rows of a statement and those that others insert between them are told apart.
async fn rows_of_others_in_between(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("between").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(
        &mut direct,
        &[
            "CREATE TABLE src (a INT PRIMARY KEY)",
            "INSERT INTO src VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12)",
            "CREATE TABLE k (id INT AUTO_INCREMENT PRIMARY KEY, v INT)",
        ],
    )
    .await?;
    let mut app = c.app(Bank::One, &schema).await?;
    for commit in [false, true] {
        sql::run(&mut direct, "DELETE FROM k").await?;
        sql::start_global(&mut app).await?;
        let mut other = c.direct(Bank::One, &schema).await?;
        // Where others are the rows that the statement would have next
        let next = sql::cell(&mut direct, "SELECT COALESCE(MAX(id), 0) FROM k").await?;
        let next: i64 = next.parse()?;
        sql::run(&mut other, "BEGIN").await?;
        sql::run(&mut other, format!("INSERT INTO k VALUES ({}, -1)", next + 1000)).await?;
        sql::run(&mut app, "BEGIN").await?;
        sql::run(&mut app, "INSERT INTO k (v) VALUES (100)").await?;
        let first: i64 = sql::cell(&mut app, "SELECT MAX(id) FROM k").await?.parse()?;
        sql::run(&mut direct, format!("INSERT INTO k VALUES ({}, -2)", first + 3)).await?;
        // It meets a number that is taken, and fails as it does by itself; the next one passes it
        sql::run(&mut app, format!("INSERT INTO k VALUES (NULL, 1), ({}, 2), (NULL, 3)", first + 20)).await?;
        sql::run(&mut app, "INSERT INTO k (v) SELECT a FROM src").await?;
        sql::run(&mut other, "COMMIT").await?;
        sql::run(&mut app, "COMMIT").await?;
        let all = "SELECT v FROM k ORDER BY v";
        ensure!(c.rows(Bank::One, &schema, all).await?.len() == 18);
        sql::run(&mut app, format!("{} GLOBAL TRANSACTION", if commit { "COMMIT" } else { "ROLLBACK" }))
            .await?;
        c.wait_for_purge(Bank::One, &schema).await?;
        let left = c.rows(Bank::One, &schema, all).await?;
        if commit {
            ensure!(left.len() == 18, "{left:?}");
        } else {
            assert_eq!(left, ["-2", "-1"]);
        }
    }
    Ok(())
}

async fn generated_from_queries(c: Arc<Cluster>) -> Result<()> {
    let steps = vec![
        q("INSERT INTO k (v) SELECT b FROM src"),
        q("SELECT LAST_INSERT_ID(), ROW_COUNT()"),
        q("INSERT INTO k (m, v) SELECT m, b FROM src WHERE m IS NOT NULL ORDER BY a DESC"),
        q("SELECT LAST_INSERT_ID()"),
        q("INSERT INTO k (v) SELECT v FROM k"),
        q("INSERT INTO k (v) SELECT a FROM src WHERE a > 100"),
        q("INSERT INTO k (v) SELECT a FROM src UNION ALL SELECT 5"),
        q("INSERT INTO k (v) SELECT RAND() * 0 FROM src"),
        e("INSERT INTO k (v) SELECT a + ? FROM src", &[&5]),
        q("INSERT INTO k (m) SELECT m FROM src WHERE a = 1"),
        q("SHOW WARNINGS"),
        q("INSERT IGNORE INTO k (m, v) SELECT m, 99 FROM src WHERE a < 3"),
        q(
            "INSERT INTO k (m, v) SELECT m, 99 FROM src WHERE a < 3 ON DUPLICATE KEY UPDATE v = k.v + VALUES(v)",
        ),
        q("SET auto_increment_increment = 5"),
        q("INSERT INTO k (v) SELECT b FROM src"),
    ];
    compare(&c, "generated from queries", steps).await
}

async fn queries_of_every_form(c: Arc<Cluster>) -> Result<()> {
    let mut steps = vec![
        q(
            "INSERT INTO n SELECT 100, 1 UNION SELECT 101, 2 UNION ALL SELECT a + 200, b FROM src ORDER BY 1 LIMIT 4",
        ),
        q("INSERT INTO n (SELECT a + 300, b FROM src)"),
        q("INSERT INTO n (id, v) (SELECT a + 310, b FROM src ORDER BY a LIMIT 2)"),
        q("INSERT INTO n (id) (SELECT 320) UNION (SELECT a + 320 FROM src)"),
        q("INSERT INTO n WITH c AS (SELECT a + 400 AS a, b FROM src) SELECT * FROM c"),
        q(
            "INSERT INTO n WITH RECURSIVE c (x) AS (SELECT 500 UNION ALL SELECT x + 1 FROM c WHERE x < 505) SELECT x, 1 FROM c",
        ),
        q("INSERT INTO n SELECT * FROM (SELECT a + 600, b FROM src) y"),
        q(
            "INSERT INTO n SELECT a + 700, (SELECT MAX(b) FROM src) FROM src WHERE a IN (SELECT a FROM src WHERE b > 10)",
        ),
        q(
            "INSERT INTO n SELECT s1.a * 1000 + s2.a, COUNT(*) FROM src s1 JOIN src s2 GROUP BY s1.a, s2.a HAVING COUNT(*) > 0",
        ),
        q("REPLACE INTO n SELECT 100, 9 UNION SELECT 1, 9"),
        q("INSERT IGNORE INTO n SELECT 100, 9 UNION SELECT 2000, 9"),
        q("INSERT INTO n SELECT 100, 8 UNION SELECT 2001, 8 ON DUPLICATE KEY UPDATE v = n.v + VALUES(v)"),
        q("INSERT INTO n SELECT a, b FROM src UNION SELECT nosuch, 1 FROM src"),
        q("INSERT INTO n SELECT 1, 2, 3"),
        q("INSERT INTO n SELECT 1, FROM src"),
        e("INSERT INTO n SELECT a + ?, b FROM src UNION SELECT ?, 5", &[&5000, &6000]),
    ];
    if c.flavor() == Flavor::MySql {
        steps.extend([
            q("DELETE FROM n WHERE id < 100"),
            q("INSERT INTO n (id, v) TABLE n LIMIT 0"),
            q("CREATE TEMPORARY TABLE tmp (a INT, b INT)"),
        ]);
        steps.pop();
    }
    compare(&c, "queries", steps).await
}

async fn random_queries(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("random_queries").await?;
    sql::run_all(
        &mut c.direct(Bank::One, &schema).await?,
        &[
            "CREATE TABLE src (a INT PRIMARY KEY, m VARCHAR(40) CHARACTER SET latin1, j DOUBLE, d DATETIME(6), b VARBINARY(9))",
            "INSERT INTO src VALUES (1, 'é''', 0.1, '2024-02-29 10:00:00.5', x'00ff'), (2, NULL, -1e-300, NULL, NULL), (3, '', 3, '0001-01-01', '')",
            "CREATE TABLE t (id CHAR(36) PRIMARY KEY, a INT, m VARCHAR(40), j DOUBLE, d DATETIME(6), b VARBINARY(9))",
        ],
    )
    .await?;
    let mut app = c.app(Bank::One, &schema).await?;
    for begin in [false, true] {
        let xid = sql::start_global(&mut app).await?;
        if begin {
            sql::run(&mut app, "BEGIN").await?;
        }
        let mut infos = Vec::new();
        for statement in [
            "INSERT INTO t SELECT UUID(), a, m, j, d, b FROM src",
            "INSERT INTO t (b, a, id) SELECT b, 10 + a, UUID() FROM src WHERE a = 1",
            "INSERT IGNORE INTO t (id, a) SELECT UUID(), 20 UNION ALL SELECT UUID(), 21",
            "REPLACE INTO t (id, a) (SELECT UUID(), a + 30 FROM src ORDER BY RAND() LIMIT 3)",
        ] {
            let result = app.query_iter(statement).await.with_context(|| statement.to_owned())?;
            infos.push((result.affected_rows(), result.info().into_owned()));
            result.drop_result().await?;
        }
        let info = |n: u64| (n, format!("Records: {n}  Duplicates: 0  Warnings: 0"));
        assert_eq!(infos, [info(3), info(1), info(2), info(3)]);
        let same = "SELECT COUNT(*) FROM t JOIN src ON t.a = src.a WHERE t.m <=> src.m AND t.j = src.j AND t.d <=> src.d AND t.b <=> src.b";
        assert_eq!(sql::cell(&mut app, same).await?, "3");
        assert_eq!(sql::cell(&mut app, "SELECT COUNT(*) FROM t WHERE LENGTH(id) = 36").await?, "9");
        let refused = "INSERT INTO t (id, a) SELECT UUID(), 1 ON DUPLICATE KEY UPDATE a = 5";
        sql::refused(&mut app, refused).await?.expect_naming(1235, "42000", &xid)?;
        if begin {
            sql::run(&mut app, "COMMIT").await?;
        }
        sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
        c.wait_for_purge(Bank::One, &schema).await?;
        assert_eq!(c.rows(Bank::One, &schema, "SELECT * FROM t").await?, [""; 0]);
    }
    Ok(())
}

/// Connector/J sets it to NULL whenever it connects.
async fn character_set_results(c: Arc<Cluster>) -> Result<()> {
    for charset in ["NULL", "latin1", "utf8mb4", "binary"] {
        let steps = vec![
            q(&format!("SET character_set_results = {charset}")),
            q("INSERT INTO s SELECT CONCAT(m, 'é😀'), a FROM src WHERE m IS NOT NULL"),
            q("INSERT INTO s SELECT m, a FROM src WHERE m IS NOT NULL ON DUPLICATE KEY UPDATE v = s.v + 1"),
            q("INSERT IGNORE INTO s SELECT m, a FROM src WHERE m IS NOT NULL"),
            q("INSERT INTO s VALUES (CONCAT('é', '😀'), 5)"),
            q("SELECT @@character_set_results, @@character_set_client"),
        ];
        check(&c, Case { name: charset, setup: TABLES, tables: CONTENT, steps }).await?;
    }
    Ok(())
}

/// A number finds many texts: it must not stand for a row that was there before.
async fn one_literal_one_row(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("one_row").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(
        &mut direct,
        &["CREATE TABLE t (id VARCHAR(3) PRIMARY KEY, v INT)", "INSERT INTO t VALUES ('01', 1), ('001', 2)"],
    )
    .await?;
    let mut app = c.app(Bank::One, &schema).await?;
    sql::run(&mut app, "SET sql_mode = ''").await?;
    let xid = sql::start_global(&mut app).await?;
    for statement in
        ["INSERT INTO t VALUES (1, 5), ('truncated', 6)", "INSERT INTO t VALUES (1, 5), ('tru', 6)"]
    {
        sql::refused(&mut app, statement).await?.expect_naming(1235, "42000", &xid).context(statement)?;
    }
    sql::run(&mut app, "INSERT INTO t VALUES (2, 5), ('tru', 6)").await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &schema).await?;
    assert_eq!(c.rows(Bank::One, &schema, "SELECT id, v FROM t ORDER BY v").await?, ["01|1", "001|2"]);
    Ok(())
}
