//! What a bound session may not run, since it could not be undone exactly: 1235, and nothing ran.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use atone_tests::cluster::SOON;
use atone_tests::run::Harmable;
use atone_tests::server::SERVICE;
use atone_tests::{Bank, Cluster, ClusterOptions, Flavor, sql};
use mysql_async::prelude::Queryable as _;

atone_tests::shared_tests!(
    statements,
    tables_that_can_not_be_undone,
    prepared,
    unbound_sessions_may,
    reads_pass,
    views_that_write,
    unreadable_charsets,
);

fn looking_again() -> ClusterOptions {
    ClusterOptions { proxy_timeouts: "metadata_ttl = \"0s\"\n".to_owned(), ..ClusterOptions::default() }
}

atone_tests::owned_tests!(looking_again() => views_that_are_not_seen);

const SETUP: &[&str] = &[
    "CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(20), UNIQUE KEY (b))",
    "INSERT INTO t VALUES (1, 1, 'one'), (2, 2, 'two')",
    "CREATE TABLE u (id INT PRIMARY KEY, a INT)",
    "INSERT INTO u VALUES (1, 1), (2, 2)",
    "CREATE TABLE nokey (a INT)",
    "CREATE TABLE nullkey (a INT NULL, UNIQUE KEY (a))",
    "CREATE TABLE notx (id INT PRIMARY KEY) ENGINE = MyISAM",
    "CREATE TABLE trg (id INT PRIMARY KEY, a INT)",
    "CREATE TABLE parent (id INT PRIMARY KEY)",
    "CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE)",
    "INSERT INTO parent VALUES (1)",
    "INSERT INTO child VALUES (1, 1)",
    "INSERT INTO trg VALUES (1, 1)",
    "CREATE TRIGGER trg_after AFTER UPDATE ON trg FOR EACH ROW UPDATE u SET a = a + 1",
    "CREATE VIEW v AS SELECT id, a FROM t LIMIT 9",
    "CREATE PROCEDURE p() UPDATE t SET a = a + 1",
    "CREATE FUNCTION f() RETURNS INT NOT DETERMINISTIC MODIFIES SQL DATA BEGIN UPDATE t SET a = a + 1; RETURN 1; END",
];
const TABLES: &[&str] = &["t", "u", "nokey", "nullkey", "notx", "trg", "parent", "child"];

/// MariaDB makes a warning of what fails in the SELECT.
const MARIADB_STATEMENTS: &[&str] =
    &["INSERT IGNORE INTO u SELECT id + 10, 1 FROM u WHERE id = (SELECT id FROM t)"];

const STATEMENTS: &[&str] = &[
    "REPLACE INTO t SELECT * FROM t FOR UPDATE",
    "INSERT IGNORE INTO t (SELECT * FROM t FOR UPDATE)",
    "INSERT INTO t VALUES (1, 9, 'x') ON DUPLICATE KEY UPDATE id = 9",
    "INSERT INTO t SELECT id + 10, a, NULL FROM u FOR UPDATE",
    "UPDATE v SET a = 9",
    "UPDATE t JOIN v USING (id) SET v.a = 9",
    "UPDATE t JOIN u USING (id) SET t.id = 9",
    "DELETE t FROM t JOIN u ON t.id = u.id + SLEEP(0)",
    "UPDATE t SET a = f()",
    "UPDATE t SET a = 9 WHERE f() = 1",
    "SELECT f()",
    "DO f()",
    "CALL p()",
    "TRUNCATE TABLE t",
    "DROP TABLE u",
    "ALTER TABLE t ADD COLUMN z INT",
    "CREATE TABLE z (id INT PRIMARY KEY)",
    "CREATE INDEX i ON t (a)",
    "RENAME TABLE t TO z",
    "LOCK TABLES t WRITE",
    "HANDLER t OPEN",
    "EXECUTE s",
    "XA START 'x'",
    "LOAD DATA LOCAL INFILE '/dev/null' INTO TABLE t SET a = 1",
    "SELECT 1 INTO OUTFILE '/nonexistent/x'",
    "ANALYZE TABLE t",
    "OPTIMIZE TABLE t",
    "FLUSH TABLES",
    "SET GLOBAL max_connections = 400",
    "GRANT SELECT ON t TO nobody",
    "CREATE USER nobody",
    "UPDATE /*! t SET a = 9 */",
    "/*!50000 DELETE FROM t */",
    "UPDATE t SET a = 9 /*!50000 ; DELETE FROM t */",
    "CREATE PROCEDURE q() BEGIN UPDATE t SET a = 9; DELETE FROM t; END",
    "UPDATE t SET a = 'unterminated",
    "FROBNICATE t",
];

/// Those that the server would not run either, for a reason of its own; rights it may tell only when it runs them.
const NOT_RUN: &[(&str, &[u16])] = &[
    ("UPDATE v SET a = 9", &[1288]),
    ("UPDATE t JOIN v USING (id) SET v.a = 9", &[1288]),
    ("UPDATE t SET a = 'unterminated", &[1064]),
    ("FROBNICATE t", &[1064]),
    ("SELECT 1 INTO OUTFILE '/nonexistent/x'", &[1227, 1235]),
    ("SET GLOBAL max_connections = 400", &[1227, 1235]),
    ("INSERT INTO mysql.user (user) VALUES ('x')", &[1142, 1235, 1356]),
];

async fn snapshot(c: &Cluster, schema: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for table in TABLES {
        all.push((*table).to_owned());
        all.extend(c.rows(Bank::One, schema, &format!("SELECT * FROM {table} ORDER BY 1")).await?);
    }
    all.extend(
        c.rows(
            Bank::One,
            schema,
            &format!(
                "SELECT TABLE_NAME, COLUMN_NAME, COLUMN_KEY FROM information_schema.COLUMNS \
                 WHERE TABLE_SCHEMA = '{schema}' AND TABLE_NAME <> 'undo_log' ORDER BY 1, 2"
            ),
        )
        .await?,
    );
    Ok(all)
}

async fn prepare(c: &Cluster) -> Result<String> {
    let schema = c.schema("refused").await?;
    // Functions and triggers need an administrator where the binary log might be on.
    let mut admin = c.server(Bank::One).connect(atone_tests::server::ADMIN, Some(&schema)).await?;
    sql::run_all(&mut admin, SETUP).await?;
    Ok(schema)
}

async fn statements(c: Arc<Cluster>) -> Result<()> {
    let schema = prepare(&c).await?;
    let before = snapshot(&c, &schema).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    let mut statements = STATEMENTS.to_vec();
    if c.flavor() == Flavor::MariaDb {
        statements.extend(MARIADB_STATEMENTS);
    }
    for in_transaction in [false, true] {
        for statement in &statements {
            if in_transaction {
                sql::run_all(&mut conn, &["BEGIN", "UPDATE u SET a = 50 WHERE id = 2"]).await?;
            }
            let error = sql::refused(&mut conn, statement).await?;
            match NOT_RUN.iter().find(|(not_run, _)| not_run == statement) {
                Some((_, codes)) => assert!(codes.contains(&error.code), "{statement}: {error:?}"),
                None => error.expect_naming(1235, "42000", &xid).with_context(|| (*statement).to_owned())?,
            }
            if in_transaction {
                // The local transaction is still open, and takes more.
                assert_eq!(sql::cell(&mut conn, "SELECT a FROM u WHERE id = 2").await?, "50", "{statement}");
                sql::run(&mut conn, "ROLLBACK").await?;
            }
            assert_eq!(snapshot(&c, &schema).await?, before, "{statement} did something");
        }
    }
    sql::run(&mut conn, "UPDATE t SET a = 5 WHERE id = 1").await?;
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(snapshot(&c, &schema).await?, before);
    Ok(())
}

async fn tables_that_can_not_be_undone(c: Arc<Cluster>) -> Result<()> {
    let schema = prepare(&c).await?;
    let before = snapshot(&c, &schema).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    for statement in [
        "INSERT INTO nokey VALUES (1)",
        "INSERT INTO nullkey VALUES (1)",
        "INSERT INTO notx VALUES (1)",
        "UPDATE trg SET a = 2",
        "INSERT INTO mysql.user (user) VALUES ('x')",
        "UPDATE undo_log SET log_status = 1",
        "DELETE FROM undo_log",
    ] {
        let error = sql::refused(&mut conn, statement).await?;
        match NOT_RUN.iter().find(|(not_run, _)| *not_run == statement) {
            Some((_, codes)) => assert!(codes.contains(&error.code), "{statement}: {error:?}"),
            None => error.expect_naming(1235, "42000", &xid).with_context(|| statement.to_owned())?,
        }
        assert_eq!(snapshot(&c, &schema).await?, before, "{statement} did something");
    }
    if c.flavor() == Flavor::MariaDb {
        // Two periods that overlap are equal in no column
        let table = "CREATE TABLE booked (id INT, s DATE, e DATE, PERIOD FOR p (s, e), UNIQUE KEY (id, p WITHOUT OVERLAPS), \
                     PRIMARY KEY (id, s))";
        sql::run(&mut c.direct(Bank::One, &schema).await?, table).await?;
        let statement = "INSERT INTO booked VALUES (1, '2024-01-01', '2024-02-01')";
        let error = sql::refused(&mut conn, statement).await?;
        error.expect_naming(1235, "42000", &xid)?;
        assert!(error.message.contains("WITHOUT OVERLAPS"), "{error:?}");
    }
    assert_eq!(c.rest().transaction(&xid).await?["branches"], serde_json::json!([]));
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await
}

async fn prepared(c: Arc<Cluster>) -> Result<()> {
    let schema = prepare(&c).await?;
    let before = snapshot(&c, &schema).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    // Prepared while unbound, executed while bound.
    let statement = conn.prep("REPLACE INTO t (SELECT ?, ?, ? FROM t FOR UPDATE)").await?;
    let harmless = conn.prep("UPDATE t SET a = ? WHERE id = 1").await?;
    let xid = sql::start_global(&mut conn).await?;
    let error =
        sql::server_error(conn.exec_drop(&statement, (1, 1, "x")).await, "EXECUTE of a REPLACE … SELECT")?;
    error.expect_naming(1235, "42000", &xid)?;
    assert_eq!(snapshot(&c, &schema).await?, before);
    conn.exec_drop(&harmless, (9,)).await?;
    assert!(!c.rest().locks(&xid).await?.is_empty(), "not captured");
    let error = match conn.exec_drop("INSERT INTO t (SELECT ?, 1, NULL FROM u FOR UPDATE)", (5,)).await {
        Err(mysql_async::Error::Server(error)) => error,
        other => anyhow::bail!("not refused: {other:?}"),
    };
    assert_eq!((error.code, error.state.as_str()), (1235, "42000"), "{error:?}");
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(snapshot(&c, &schema).await?, before);
    // Prepared while bound, executed while unbound.
    conn.exec_drop(&statement, (1, 77, "x")).await?;
    assert_eq!(c.rows(Bank::One, &schema, "SELECT a FROM t WHERE id = 1").await?, ["77"]);
    Ok(())
}

async fn unbound_sessions_may(c: Arc<Cluster>) -> Result<()> {
    let schema = prepare(&c).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut conn).await?;
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    for statement in STATEMENTS.iter().filter(|s| !s.starts_with("LOAD DATA LOCAL")) {
        // (The driver has no file to send; `unbound.rs` has that one.)
        // Refused or not, as the server likes, but not by the proxy.
        if let Err(mysql_async::Error::Server(error)) = conn.query_drop(*statement).await {
            assert!(!error.message.starts_with("atone:"), "{statement}: {error:?}");
        }
        conn.query_drop("UNLOCK TABLES").await.or_else(|error| match error {
            mysql_async::Error::Server(_) => Ok(()),
            other => Err(other),
        })?;
        if statement.starts_with("XA") {
            sql::run_all(&mut conn, &["XA END 'x'", "XA ROLLBACK 'x'"]).await?;
        }
    }
    Ok(())
}

async fn reads_pass(c: Arc<Cluster>) -> Result<()> {
    let schema = prepare(&c).await?;
    let mut bound = c.app(Bank::One, &schema).await?;
    let mut plain = c.direct(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut bound).await?;
    let mut queries = vec![
        "SELECT * FROM t ORDER BY id",
        "SELECT t.a, u.a FROM t LEFT JOIN u USING (id) ORDER BY 1",
        "SELECT COUNT(*), MAX(a), GROUP_CONCAT(b ORDER BY b) FROM t GROUP BY a ORDER BY 1, 2",
        "(SELECT 1) UNION ALL (SELECT 2)",
        "WITH x AS (SELECT id FROM t) SELECT * FROM x ORDER BY id",
        "SELECT * FROM t WHERE id = 1 FOR UPDATE",
        "SELECT * FROM t WHERE id = 1 LOCK IN SHARE MODE",
        "SELECT 'x; DELETE FROM t' AS c, \"--\" AS d, `a` FROM t LIMIT 1",
        "SELECT /* a comment */ 1 -- end",
        "SELECT /*! 1 + */ 1",
        "SELECT JSON_EXTRACT('{\"a\": 1}', '$.a'), IF(1, 2, 3), COALESCE(NULL, 4), CAST('5' AS SIGNED)",
        "SHOW TABLES LIKE 't'",
        "SHOW COLUMNS FROM t",
        "SHOW CREATE TABLE u",
        "SHOW VARIABLES LIKE 'sql_mode'",
        "DESCRIBE t",
        "EXPLAIN SELECT * FROM t WHERE id = 1",
        "SELECT @@version_comment LIMIT 1",
        "SELECT DATABASE(), CURRENT_USER()",
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 't'",
        "VALUES (1, 2)",
    ];
    if c.flavor() == Flavor::MySql {
        queries.retain(|query| !query.starts_with("VALUES"));
        queries.push("TABLE u");
        queries.push("VALUES ROW(1, 2)");
    }
    for query in queries {
        let expected = sql::rows(&mut plain, query).await?;
        assert_eq!(sql::rows(&mut bound, query).await?, expected, "{query}");
    }
    for harmless in [
        "SET NAMES utf8mb4",
        "SET @x = 5, @y = @x",
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SELECT 1 INTO @x",
        "USE information_schema",
        "DO 1",
    ] {
        sql::run(&mut bound, harmless).await?;
    }
    sql::run(&mut bound, format!("USE {schema}")).await?;
    assert_eq!(c.rest().transaction(&xid).await?["branches"], serde_json::json!([]));
    sql::run(&mut bound, "COMMIT GLOBAL TRANSACTION").await
}

async fn unreadable_charsets(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("unreadable").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let update = conn.prep("UPDATE account SET name = ? WHERE id = 1").await?;
    let select = conn.prep("SELECT name FROM account WHERE id = ?").await?;
    let xid = sql::start_global(&mut conn).await?;
    // It has letters in the place of brackets
    sql::run(&mut conn, "SET character_set_client = swe7").await?;
    let error = sql::server_error(conn.exec_drop(&update, ("x",)).await, "UPDATE")?;
    error.expect_naming(1235, "42000", &xid)?;
    let error = sql::server_error(conn.exec_drop(&select, (1,)).await, "SELECT")?;
    error.expect_naming(1235, "42000", &xid)?;
    sql::refused(&mut conn, "DELETE FROM account; SELECT 'x'").await?.expect_naming(1235, "42000", &xid)?;
    sql::refused(&mut conn, "DELETE FROM account").await?.expect_naming(1235, "42000", &xid)?;
    sql::run(&mut conn, "SET NAMES utf8mb4").await?;
    // Perhaps it was prepared under another collation
    sql::server_error(conn.exec_drop(&update, ("né",)).await, "UPDATE")?
        .expect_naming(1235, "42000", &xid)?;
    let update = conn.prep("UPDATE account SET name = ? WHERE id = 1").await?;
    conn.exec_drop(&update, ("né",)).await?;
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &schema).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|100");
    Ok(())
}

/// A view may call a function that writes, and none of it stands in the statement.
async fn views_that_write(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("views_that_write").await?;
    let other = c.schema("views_elsewhere").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(
        &mut direct,
        &[
            "CREATE TABLE t (id INT PRIMARY KEY, a INT)",
            "INSERT INTO t VALUES (1, 1), (2, 2)",
            "CREATE TABLE u (id INT PRIMARY KEY, a INT)",
            "INSERT INTO u VALUES (1, 1), (2, 2)",
            "CREATE FUNCTION f() RETURNS INT NOT DETERMINISTIC MODIFIES SQL DATA BEGIN UPDATE t SET a = a + 1 WHERE id = 2; RETURN 1; END",
            "CREATE VIEW writes AS SELECT f() AS x, id FROM t",
            "CREATE VIEW `over it` AS SELECT x FROM writes",
            "CREATE VIEW harmless AS SELECT COUNT(*) AS n, UPPER('f(') AS u FROM t",
            "CREATE VIEW over_harmless AS SELECT n FROM harmless",
        ],
    )
    .await?;
    sql::run(&mut direct, format!("CREATE VIEW {other}.far AS SELECT * FROM {schema}.writes")).await?;
    let before = c.rows(Bank::One, &schema, "SELECT * FROM t ORDER BY id").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut conn).await?;
    let far = format!("SELECT 1 FROM t JOIN {other}.far ON t.id = far.id");
    for statement in [
        "SELECT * FROM writes",
        "SELECT x FROM `over it`",
        "SELECT (SELECT MAX(x) FROM (`over it`))",
        "WITH w AS (SELECT * FROM writes) SELECT * FROM w",
        "UPDATE u SET a = (SELECT MIN(x) FROM writes) WHERE id = 1",
        "DELETE FROM u WHERE id IN (SELECT x FROM writes)",
        "INSERT INTO u SELECT x + 10, 1 FROM writes",
        "SET @a = (SELECT MIN(x) FROM writes)",
        "SELECT MIN(x) FROM writes INTO @atone_xid",
        "DO (SELECT MIN(x) FROM writes)",
        &far,
    ] {
        let error = sql::refused(&mut conn, statement).await?;
        error.expect(1235, "42000").context(statement.to_owned())?;
        assert!(error.message.contains("calls the function"), "{statement}: {}", error.message);
        let prepared = conn.exec_drop(statement, ()).await;
        sql::server_error(prepared, statement)?.expect(1235, "42000")?;
    }
    assert_eq!(sql::rows(&mut conn, "SELECT n FROM over_harmless").await?, ["2"]);
    assert_eq!(sql::rows(&mut conn, "SELECT u FROM harmless").await?, ["F("]);
    sql::run(&mut conn, "COMMIT GLOBAL TRANSACTION").await?;
    assert_eq!(c.rows(Bank::One, &schema, "SELECT * FROM t ORDER BY id").await?, before);
    Ok(())
}

/// Without SHOW VIEW nobody can say what a view calls; where there is no function at all, it calls none.
async fn views_that_are_not_seen(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let schema = c.schema("unseen").await?;
    let mut admin = c.server(Bank::One).admin().await?;
    sql::run(&mut admin, format!("REVOKE SHOW VIEW ON *.* FROM '{}'@'%'", SERVICE.0)).await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run(&mut direct, "CREATE VIEW v AS SELECT 1 AS x").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut conn).await?;
    assert_eq!(sql::rows(&mut conn, "SELECT x FROM v").await?, ["1"]);
    sql::run(&mut direct, "CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN 1").await?;
    let error = sql::refused(&mut conn, "SELECT x FROM v").await?;
    error.expect(1235, "42000")?;
    assert!(error.message.contains("cannot see the definition of the view"), "{}", error.message);
    sql::run(&mut conn, "COMMIT GLOBAL TRANSACTION").await
}
