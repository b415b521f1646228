//! Keys from expressions and from defaults that are expressions.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use atone_tests::case::check_queries;
use atone_tests::effects::{e, q};
use atone_tests::{Bank, Cluster, Flavor, sql};
use mysql_async::prelude::Queryable as _;

use super::compare;

atone_tests::shared_tests!(
    expressions,
    random_keys,
    computed_defaults,
    evaluated_once,
    one_time,
    timestamps,
    what_cannot_be_evaluated_ahead,
);

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

/// A TIMESTAMP as a key, from a column and (from MariaDB 11.7 on) from the clock: its text says which time it is.
async fn timestamps(c: Arc<Cluster>) -> Result<()> {
    let setup = [
        "CREATE TABLE src (ts TIMESTAMP(6) NULL)",
        "INSERT INTO src VALUES ('2024-06-01 12:00:00.25')",
        "CREATE TABLE at (at TIMESTAMP(3) PRIMARY KEY, v INT)",
        "CREATE TABLE day (day DATE PRIMARY KEY, v INT)",
    ];
    if c.flavor() == Flavor::MySql {
        let schema = c.schema("timestamps").await?;
        sql::run_all(&mut c.direct(Bank::One, &schema).await?, &setup).await?;
        let mut app = c.app(Bank::One, &schema).await?;
        let xid = sql::start_global(&mut app).await?;
        let statement = "INSERT INTO at VALUES ((SELECT ts FROM src), 1)";
        return sql::refused(&mut app, statement).await?.expect_naming(1235, "42000", &xid);
    }
    let statements = [
        "SET time_zone = '+05:30', timestamp = 1711855800.25",
        "INSERT INTO at VALUES ((SELECT ts FROM src), 1), (NOW(6), 2)",
        "INSERT INTO day VALUES ((SELECT ts FROM src), 1), (NOW(6), 2)",
        "REPLACE INTO at VALUES (NOW(3), 3)",
    ];
    check_queries(&c, &setup, &["at", "day"], &statements).await
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
            "CREATE ALGORITHM = TEMPTABLE VIEW w AS SELECT * FROM t",
            "CREATE TABLE p (id INT PRIMARY KEY, v INT)",
            "CREATE TABLE gone (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)",
            "CREATE TABLE now (id INT PRIMARY KEY, ts TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), UNIQUE (ts))",
        ],
    )
    .await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    if c.flavor() == Flavor::MySql {
        // With the default written out the alias has a column more than for the server
        let unknown = "INSERT INTO now (id) VALUES (1) AS new ON DUPLICATE KEY UPDATE ts = new.ts";
        assert_eq!(sql::refused(&mut app, unknown).await?.code, 1054);
        let known = "INSERT INTO now (id) VALUES (1) /* as */ AS new(a) ON DUPLICATE KEY UPDATE id = new.a";
        sql::refused(&mut app, known).await?.expect_naming(1235, "42000", &xid)?;
        assert!(sql::rows(&mut app, "SELECT id FROM now").await?.is_empty());
    }
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
            "INSERT INTO t VALUES (20 / 3, 1)",
            // The server sees the rows before it
            "INSERT INTO t VALUES (7, 1), ((SELECT COUNT(*) + 14 FROM w), 1)",
            "INSERT INTO t VALUES (7, 1), ((SELECT n + 14 FROM (SELECT COUNT(*) AS n FROM t) d), 1)",
            "REPLACE INTO p VALUES (7, 1), ((SELECT COUNT(*) + 14 FROM gone), 1)",
        ] {
            sql::refused(&mut app, statement).await?.expect_naming(1235, "42000", &xid).context(statement)?;
        }
        assert_eq!(sql::rows(&mut app, "SELECT id, v FROM t").await?, ["1|1"]);
    }
    assert_eq!(sql::cell(&mut app, "SELECT @n").await?, "NULL");
    assert_eq!(sql::cell(&mut app, "SELECT LAST_INSERT_ID()").await?, "0");
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await
}
