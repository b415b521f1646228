//! INSERT IGNORE, REPLACE and ON DUPLICATE KEY UPDATE: rows that were there before are restored, not deleted.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use atone_tests::case::check_queries;
use atone_tests::{Bank, Cluster, Flavor, sql};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

atone_tests::shared_tests!(
    autocommitted,
    in_a_transaction,
    with_found_rows,
    prepared,
    refused_before_they_run,
    taken_back_where_the_counts_do_not_fit,
    errors,
    returning,
    partitions,
    from_selects,
    keys_that_optimizers_look_away_from,
    keys_that_the_charset_cannot_name,
);

const TABLES: &[&str] = &[
    "CREATE TABLE u (id INT AUTO_INCREMENT PRIMARY KEY, mail VARCHAR(40) UNIQUE, n INT NOT NULL DEFAULT 5, \
     k INT NULL, touched TIMESTAMP NOT NULL DEFAULT '2020-01-01 00:00:00', UNIQUE (k))",
    "INSERT INTO u (id, mail, n, k) VALUES (1, 'a@x', 10, 100), (2, 'b@x', 20, 200), (3, 'c@x', 30, NULL)",
    "CREATE TABLE two (a INT, b VARCHAR(20) COLLATE utf8mb4_bin, v TEXT, PRIMARY KEY (a, b))",
    "INSERT INTO two VALUES (1, 'x', 'one'), (1, 'y', 'two')",
    "CREATE TABLE plain (id INT AUTO_INCREMENT PRIMARY KEY, v INT)",
    "INSERT INTO plain VALUES (1, 1)",
];

const STATEMENTS: &[&str] = &[
    // Nothing in the way
    "INSERT IGNORE INTO u (mail, n) VALUES ('new@x', 1)",
    "INSERT INTO u (mail, n) VALUES ('new2@x', 1) ON DUPLICATE KEY UPDATE n = n + 1",
    "REPLACE INTO u (mail, n) VALUES ('new3@x', 1)",
    // By the primary key
    "INSERT IGNORE INTO u (id, mail) VALUES (1, 'other@x')",
    "INSERT INTO u (id, mail) VALUES (1, 'other@x') ON DUPLICATE KEY UPDATE n = n + 1",
    "REPLACE INTO u (id, mail, n) VALUES (2, 'other2@x', 3)",
    // By another unique key
    "INSERT IGNORE INTO u (mail, n) VALUES ('a@x', 99)",
    "INSERT INTO u (mail, n) VALUES ('a@x', 99) ON DUPLICATE KEY UPDATE n = VALUES(n), k = NULL",
    "INSERT INTO u SET mail = 'c@x', n = 1 ON DUPLICATE KEY UPDATE id = LAST_INSERT_ID(id), n = n + 1",
    "REPLACE INTO u (mail, n, k) VALUES ('c@x', 99, 300)",
    "REPLACE u SET mail = 'c@x', n = 98",
    // By several at once
    "INSERT INTO u (id, mail, k) VALUES (1, 'b@x', 300) ON DUPLICATE KEY UPDATE n = 77",
    "REPLACE INTO u (id, mail, k) VALUES (1, 'b@x', 300)",
    // Several rows
    "INSERT IGNORE INTO u (id, mail) VALUES (1, 'z1@x'), (50, 'z2@x'), (51, 'z2@x'), (52, 'z3@x')",
    "INSERT INTO u (id, mail, n) VALUES (50, 'z2@x', 1), (60, 'z4@x', 2) ON DUPLICATE KEY UPDATE n = VALUES(n) + 100",
    "REPLACE INTO u (id, mail, n) VALUES (50, 'z5@x', 1), (70, 'z4@x', 2), (71, 'z6@x', 3)",
    "INSERT IGNORE INTO u (id, mail, n) VALUES (50, 'z8@x', 1), (61, 'z9@x', 'x') ON DUPLICATE KEY UPDATE n = n + 3",
    "INSERT IGNORE INTO u (id, mail) VALUES (61, 'z10@x') ON DUPLICATE KEY UPDATE mail = 'a@x'",
    "INSERT IGNORE INTO u (id, mail) VALUES (0, 'zero@x'), (0, 'a@x')",
    "INSERT INTO u (id, mail) VALUES (0, 'zero@x') ON DUPLICATE KEY UPDATE n = 55",
    // Changes nothing
    "INSERT INTO u (id) VALUES (52) ON DUPLICATE KEY UPDATE n = n",
    "REPLACE INTO two VALUES (1, 'x', 'one')",
    // Keys of two columns, case
    "INSERT IGNORE INTO two VALUES (1, 'x', 'no'), (1, 'X', 'yes'), (2, 'x', 'yes')",
    "INSERT INTO two VALUES (1, 'y', 'new') ON DUPLICATE KEY UPDATE v = CONCAT(v, '+', VALUES(v))",
    "REPLACE INTO two (a, b) VALUES (1, 'y'), (3, 'z')",
    // NULL stands in nobody's way
    "INSERT INTO u (mail, k) VALUES (NULL, 100) ON DUPLICATE KEY UPDATE n = -1",
    "INSERT IGNORE INTO u (mail, k) VALUES ('c@x', NULL)",
    // Strings are folded as their collation says
    "INSERT INTO u (mail) VALUES ('Z6@X') ON DUPLICATE KEY UPDATE n = 12",
    // No key can meet another
    "INSERT IGNORE INTO plain (v) VALUES (1), (2)",
    "REPLACE INTO plain (v) VALUES (3)",
    "INSERT INTO plain (v) VALUES (4) ON DUPLICATE KEY UPDATE v = 0",
    // Warnings
    "INSERT IGNORE INTO u (id, mail, n) VALUES (80, 'w@x', 'no number')",
];

const CONTENT: &[&str] = &[
    "SELECT id, mail, n, k, touched FROM u ORDER BY id",
    "SELECT a, b, v FROM two ORDER BY a, b",
    "SELECT id, v FROM plain ORDER BY id",
];

async fn schema(c: &Cluster, name: &str) -> Result<String> {
    let schema = c.schema(name).await?;
    let mut conn = c.direct(Bank::One, &schema).await?;
    sql::run_all(&mut conn, TABLES).await?;
    Ok(schema)
}

async fn content(c: &Cluster, schema: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for query in CONTENT {
        all.extend(c.rows(Bank::One, schema, query).await?);
    }
    Ok(all)
}

/// What the application sees of a statement.
async fn seen(conn: &mut Conn, statement: &str) -> Result<String> {
    let result = conn.query_iter(statement).await.with_context(|| statement.to_owned())?;
    let (rows, id) = (result.affected_rows(), result.last_insert_id());
    let (info, warnings) = (result.info().into_owned(), result.warnings());
    result.drop_result().await?;
    let said = sql::rows(conn, "SHOW WARNINGS").await?;
    let numbers = sql::rows(conn, "SELECT LAST_INSERT_ID()").await?;
    Ok(format!("{statement}: {rows} {id:?} '{info}' {warnings} {said:?} {numbers:?}"))
}

/// Runs all statements on both, and rolls them back.
async fn compare(c: &Cluster, name: &str, begin: bool, found_rows: bool) -> Result<()> {
    let (plain, bound) = (schema(c, &format!("{name}_plain")).await?, schema(c, name).await?);
    let before = content(c, &bound).await?;
    let options = |port| {
        sql::options(
            port,
            atone_tests::server::APP,
            Some(if port == c.proxy_port(Bank::One) { &bound } else { &plain }),
        )
        .client_found_rows(found_rows)
    };
    let mut direct = sql::connect_with(options(c.server(Bank::One).port())).await?;
    let mut app = sql::connect_with(options(c.proxy_port(Bank::One))).await?;
    sql::start_global(&mut app).await?;
    for statement in STATEMENTS {
        for conn in [&mut direct, &mut app] {
            if begin {
                sql::run(conn, "BEGIN").await?;
            }
        }
        // MariaDB names the schema in warnings
        let through = seen(&mut app, statement).await?.replace(&bound, "schema");
        assert_eq!(through, seen(&mut direct, statement).await?.replace(&plain, "schema"));
        for conn in [&mut direct, &mut app] {
            if begin {
                sql::run(conn, "COMMIT").await?;
            }
        }
        assert_eq!(content(c, &bound).await?, content(c, &plain).await?, "{statement}");
    }
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &bound).await?;
    assert_eq!(content(c, &bound).await?, before);
    Ok(())
}

async fn autocommitted(c: Arc<Cluster>) -> Result<()> {
    compare(&c, "upserts", false, false).await
}

async fn in_a_transaction(c: Arc<Cluster>) -> Result<()> {
    compare(&c, "upserts_begun", true, false).await
}

async fn with_found_rows(c: Arc<Cluster>) -> Result<()> {
    compare(&c, "upserts_found", false, true).await
}

async fn prepared(c: Arc<Cluster>) -> Result<()> {
    let schema = schema(&c, "upserts_prepared").await?;
    let before = content(&c, &schema).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut app).await?;
    let update = "INSERT INTO u (id, mail, n) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE n = n + ?";
    for (id, mail, n) in [(1, Some("p@x"), 4), (9, Some("b@x"), 5), (10, None, 6), (10, None, 7)] {
        app.exec_drop(update, (id, mail, n, n)).await?;
    }
    app.exec_drop("REPLACE INTO two VALUES (?, ?, ?)", (1, "x", None::<String>)).await?;
    assert_eq!(
        c.rows(Bank::One, &schema, "SELECT id, n FROM u ORDER BY id").await?,
        ["1|14", "2|25", "3|30", "10|13"]
    );
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &schema).await?;
    assert_eq!(content(&c, &schema).await?, before);
    Ok(())
}

async fn refused_before_they_run(c: Arc<Cluster>) -> Result<()> {
    let schema = schema(&c, "upserts_refused").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(
        &mut direct,
        &[
            "CREATE TABLE part (id INT PRIMARY KEY, t VARCHAR(90), UNIQUE (t(5)))",
            "CREATE TABLE gen (id INT PRIMARY KEY, a INT, g INT AS (a + 1) STORED, UNIQUE (g))",
            "CREATE TABLE parent (id INT PRIMARY KEY, n INT)",
            "CREATE TABLE kid (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE)",
            "INSERT INTO parent VALUES (1, 1)",
            "INSERT INTO kid VALUES (1, 1)",
            "CREATE TABLE bits (id INT PRIMARY KEY, b BIT(64), UNIQUE (b))",
            "INSERT INTO bits VALUES (1, 0)",
        ],
    )
    .await?;
    let before = content(&c, &schema).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    for statement in [
        "INSERT INTO u (id, mail) VALUES (1, 'a@x') ON DUPLICATE KEY UPDATE id = 9",
        "INSERT IGNORE INTO u (mail) VALUES ('q@x'), (NULL)",
        "INSERT IGNORE INTO two VALUES (NULL, 'x', '')",
        "INSERT IGNORE INTO part VALUES (1, 'abcdefgh')",
        "REPLACE INTO gen (id, a) VALUES (1, 1)",
        // The number that its byte is
        "REPLACE INTO bits VALUES (2, '0')",
    ] {
        sql::refused(&mut app, statement).await?.expect_naming(1235, "42000", &xid).context(statement)?;
    }
    // MariaDB's InnoDB does not know it
    let delayed = sql::refused(&mut app, "REPLACE DELAYED INTO u (mail) VALUES ('a@x')").await?;
    assert!([1235, 1616].contains(&delayed.code), "{delayed:?}");
    assert_eq!(content(&c, &schema).await?, before);
    assert_eq!(c.rows(Bank::One, &schema, "SELECT * FROM kid").await?, ["1|1"]);
    assert_eq!(c.rows(Bank::One, &schema, "SELECT id, b + 0 FROM bits").await?, ["1|0"]);
    // IGNORE changes no row that a child hangs on, and this one not what it hangs on
    sql::run(&mut app, "INSERT IGNORE INTO parent VALUES (1, 2), (2, 2)").await?;
    sql::run(&mut app, "INSERT INTO parent VALUES (1, 2) ON DUPLICATE KEY UPDATE n = 2").await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &schema).await?;
    assert_eq!(c.rows(Bank::One, &schema, "SELECT * FROM parent").await?, ["1|1"]);
    Ok(())
}

async fn taken_back_where_the_counts_do_not_fit(c: Arc<Cluster>) -> Result<()> {
    let schema = schema(&c, "upserts_counts").await?;
    let before = content(&c, &schema).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    for begin in [false, true] {
        if begin {
            sql::run(&mut app, "BEGIN").await?;
        }
        for statement in [
            // A row of the statement meets another one of it
            "INSERT INTO u (id, mail) VALUES (90, 'd@x'), (90, 'd@x') ON DUPLICATE KEY UPDATE n = n + 1",
            "REPLACE INTO u (id, mail) VALUES (90, 'd@x'), (91, 'd@x')",
            // Stored as something else
            "INSERT IGNORE INTO two VALUES (4, 'longer than the column is', '')",
        ] {
            sql::refused(&mut app, statement).await?.expect_naming(1235, "42000", &xid).context(statement)?;
            let now: Vec<String> = sql::rows(&mut app, CONTENT[0]).await?;
            assert_eq!(now[..], before[..now.len()], "{statement}");
        }
    }
    sql::run(&mut app, "UPDATE u SET n = 1 WHERE id = 1").await?;
    sql::run(&mut app, "COMMIT GLOBAL TRANSACTION").await?;
    assert_eq!(c.rows(Bank::One, &schema, "SELECT id, n FROM u ORDER BY id").await?, ["1|1", "2|20", "3|30"]);
    Ok(())
}

async fn errors(c: Arc<Cluster>) -> Result<()> {
    let schema = schema(&c, "upserts_errors").await?;
    let before = content(&c, &schema).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut app).await?;
    let statement = "INSERT INTO u (id, mail) VALUES (1, 'q@x') ON DUPLICATE KEY UPDATE mail = 'b@x'";
    for begin in [false, true] {
        if begin {
            sql::run(&mut app, "BEGIN").await?;
        }
        let error = sql::server_error(app.query_drop(statement).await, statement)?;
        assert_eq!((error.code, error.state.as_str()), (1062, "23000"));
        let message = sql::rows(&mut app, "SHOW WARNINGS").await?;
        assert!(message[0].starts_with("Error|1062|"), "{message:?}");
        if c.flavor() == Flavor::MySql {
            let alias =
                "INSERT INTO u (id, mail) VALUES (2, 'q@x') AS new ON DUPLICATE KEY UPDATE n = new.id + 40";
            sql::run(&mut app, alias).await?;
        }
    }
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &schema).await?;
    assert_eq!(content(&c, &schema).await?, before);
    Ok(())
}

/// Rows of a statement, the driver's types included, and the diagnostics after it.
async fn returned(
    conn: &mut Conn,
    statement: &str,
    params: Option<Vec<mysql_async::Value>>,
) -> Result<String> {
    let rows: Vec<mysql_async::Row> = match params {
        Some(params) => conn.exec(statement, params).await,
        None => conn.query(statement).await,
    }
    .with_context(|| statement.to_owned())?;
    let rows: Vec<String> = rows
        .iter()
        .map(|row| {
            let columns = row.columns_ref().iter().map(|c| format!("{} {:?}", c.name_str(), c.column_type()));
            format!("{:?} {:?}", columns.collect::<Vec<_>>(), row.clone().unwrap())
        })
        .collect();
    let warnings = sql::rows(conn, "SHOW WARNINGS").await?;
    let numbers = sql::rows(conn, "SELECT ROW_COUNT(), LAST_INSERT_ID()").await?;
    Ok(format!("{statement}: {rows:?} {warnings:?} {numbers:?}"))
}

async fn returning(c: Arc<Cluster>) -> Result<()> {
    if c.flavor() == Flavor::MySql {
        return Ok(()); // MySQL has no RETURNING
    }
    let (plain, bound) = (schema(&c, "returning_plain").await?, schema(&c, "returning").await?);
    let before = content(&c, &bound).await?;
    let mut direct = c.direct(Bank::One, &plain).await?;
    let mut app = c.app(Bank::One, &bound).await?;
    sql::start_global(&mut app).await?;
    for begin in [false, true] {
        let n = if begin { 7 } else { 3 };
        let statements = [
            (format!("INSERT INTO plain (v) VALUES (1), ({n}) RETURNING id, v + 1 AS w, v"), None),
            (format!("INSERT INTO two VALUES ({n}, 'r', 'x') RETURNING a, b"), None),
            (
                format!(
                    "INSERT IGNORE INTO u (id, mail) VALUES (1, 'i@x'), ({n}00, 'i{n}@x') RETURNING id, mail"
                ),
                None,
            ),
            ("INSERT INTO plain (v) VALUES (?) RETURNING id, v".to_owned(), Some(vec![n.into()])),
            (
                "INSERT INTO two VALUES (?, ?, NULL) RETURNING *".to_owned(),
                Some(vec![(n + 50).into(), "p".into()]),
            ),
            (
                "INSERT INTO u (mail, n) VALUES (?, 1) RETURNING *".to_owned(),
                Some(vec![format!("q{n}@x").into()]),
            ),
        ];
        for (statement, params) in statements {
            let mut seen = Vec::new();
            for conn in [&mut direct, &mut app] {
                if begin {
                    sql::run(conn, "BEGIN").await?;
                }
                seen.push(returned(conn, &statement, params.clone()).await?);
                if begin {
                    sql::run(conn, "COMMIT").await?;
                }
            }
            assert_eq!(seen[1], seen[0]);
            assert_eq!(content(&c, &bound).await?, content(&c, &plain).await?, "{statement}");
        }
    }
    let error = sql::server_error(
        app.query_drop("INSERT INTO plain (id) VALUES (1) RETURNING id").await,
        "a duplicate with RETURNING",
    )?;
    assert_eq!(error.code, 1062);
    // What was kept of it does not answer the next statement
    sql::run(&mut app, "UPDATE plain SET v = 0 WHERE id = 1").await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &bound).await?;
    assert_eq!(content(&c, &bound).await?, before);
    Ok(())
}

async fn partitions(c: Arc<Cluster>) -> Result<()> {
    let table = "CREATE TABLE part (id INT PRIMARY KEY, v INT) PARTITION BY RANGE (id) \
                 (PARTITION low VALUES LESS THAN (10), PARTITION `high est` VALUES LESS THAN MAXVALUE)";
    let rows = "INSERT INTO part VALUES (1, 1), (2, 2), (11, 11), (12, 12)";
    let query = "SELECT id, v FROM part ORDER BY id";
    let (plain, bound) = (c.schema("part_plain").await?, c.schema("part").await?);
    let mut direct = c.direct(Bank::One, &plain).await?;
    sql::run_all(&mut direct, &[table, rows]).await?;
    sql::run_all(&mut c.direct(Bank::One, &bound).await?, &[table, rows]).await?;
    let mut app = c.app(Bank::One, &bound).await?;
    sql::start_global(&mut app).await?;
    let mut statements = vec![
        "INSERT INTO part PARTITION (low) (id, v) VALUES (3, 3), (4, 4)",
        "UPDATE part PARTITION (low, `high est`) AS x SET x.v = x.v + 1 WHERE x.v > 2",
        "UPDATE part PARTITION (low) SET v = 0",
        "DELETE FROM part PARTITION (`high est`) WHERE v > 11 LIMIT 1",
        "DELETE FROM part PARTITION (low) WHERE id = 1",
        "DELETE FROM part PARTITION (low) WHERE id = 11",
        "INSERT IGNORE INTO part PARTITION (low) VALUES (2, 9), (20, 9)",
        "REPLACE INTO part PARTITION (low) VALUES (2, 10), (5, 10)",
    ];
    if c.flavor() == Flavor::MySql {
        statements.push("INSERT INTO part VALUES ROW(30, 1), ROW(31, 2)");
        statements.push("INSERT INTO part VALUES ROW(30, 7) ON DUPLICATE KEY UPDATE v = v + 5");
    }
    for statement in statements {
        let through = seen(&mut app, statement).await?.replace(&bound, "schema");
        assert_eq!(through, seen(&mut direct, statement).await?.replace(&plain, "schema"));
        assert_eq!(
            c.rows(Bank::One, &bound, query).await?,
            c.rows(Bank::One, &plain, query).await?,
            "{statement}"
        );
    }
    for statement in [
        "INSERT INTO part PARTITION (low) VALUES (40, 1)",
        "UPDATE part PARTITION (none) SET v = 1",
        "UPDATE part PARTITION (low) SET v = 1 WHERE id = 'x' AND nothing = 1",
    ] {
        let through = sql::server_error(app.query_drop(statement).await, statement)?;
        let straight = sql::server_error(direct.query_drop(statement).await, statement)?;
        assert_eq!((through.code, through.state), (straight.code, straight.state), "{statement}");
    }
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &bound).await?;
    assert_eq!(c.rows(Bank::One, &bound, query).await?, ["1|1", "2|2", "11|11", "12|12"]);
    Ok(())
}

const SOURCE: &[&str] = &[
    "CREATE TABLE src (a INT PRIMARY KEY, m VARCHAR(40) CHARACTER SET latin1, d DATE, b VARBINARY(10), x DOUBLE)",
    "INSERT INTO src VALUES (1, 'a@x', '2024-01-01', x'00ff', 0.1), (2, 'é', '2024-02-29', 'b', -1e300), \
     (60, NULL, NULL, NULL, NULL)",
    "CREATE TABLE dst (d DATE, b VARBINARY(10), m VARCHAR(40), n DECIMAL(20,5), PRIMARY KEY (d, b))",
];

const SELECTING: &[&str] = &[
    "INSERT INTO u (id, mail) SELECT a + 100, CONCAT(m, '!') FROM src",
    "INSERT INTO u (id, mail) SELECT a, m FROM src WHERE a > 1000",
    "INSERT IGNORE INTO u (id, mail) SELECT a, m FROM src ORDER BY a",
    "INSERT INTO u (id, n) SELECT a, 5 FROM src WHERE a < 3 ON DUPLICATE KEY UPDATE n = u.n + VALUES(n)",
    "REPLACE INTO u (id, mail, n) SELECT a, m, 9 FROM src WHERE m IS NOT NULL",
    "INSERT INTO u (id, mail) SELECT MAX(id) + 1, 'self' FROM u",
    "INSERT INTO u (id, mail) SELECT id + 1000, NULL FROM u WHERE id < 3 ORDER BY id LIMIT 2",
    "INSERT INTO dst SELECT d, b, m, x FROM src WHERE a = 1",
    "INSERT INTO dst (n, d, b) SELECT a * 1.5, d, b FROM src WHERE a = 2",
    "REPLACE INTO dst SELECT d, b, 'again', NULL FROM src WHERE d IS NOT NULL",
    "INSERT INTO two SELECT a, m, b FROM src WHERE a = 2",
];

async fn from_selects(c: Arc<Cluster>) -> Result<()> {
    let contents = |schema: String, c: Arc<Cluster>| async move {
        let mut all = content(&c, &schema).await?;
        all.extend(c.rows(Bank::One, &schema, "SELECT d, HEX(b), m, n FROM dst ORDER BY 1, 2").await?);
        anyhow::Ok(all)
    };
    for begin in [false, true] {
        let (plain, bound) = (schema(&c, "select_plain").await?, schema(&c, "select").await?);
        sql::run_all(&mut c.direct(Bank::One, &bound).await?, SOURCE).await?;
        let before = contents(bound.clone(), c.clone()).await?;
        let mut direct = c.direct(Bank::One, &plain).await?;
        sql::run_all(&mut direct, SOURCE).await?;
        let mut app = c.app(Bank::One, &bound).await?;
        if c.flavor() == Flavor::MariaDb {
            // By default 11.8 fails where the snapshot is older
            for conn in [&mut direct, &mut app] {
                sql::run(conn, "SET innodb_snapshot_isolation = OFF").await?;
            }
        }
        let xid = sql::start_global(&mut app).await?;
        for conn in [&mut direct, &mut app] {
            if begin {
                sql::run(conn, "BEGIN").await?;
                // The snapshot is older than what is read under locks
                sql::run(conn, "SELECT * FROM src").await?;
            }
        }
        for schema in [&plain, &bound] {
            let mut other = c.direct(Bank::One, schema).await?;
            sql::run(&mut other, "INSERT INTO src VALUES (61, 'later', '2025-01-01', 'l', 1)").await?;
        }
        for statement in SELECTING {
            let through = seen(&mut app, statement).await?.replace(&bound, "schema");
            assert_eq!(through, seen(&mut direct, statement).await?.replace(&plain, "schema"));
        }
        for refused in [
            "INSERT INTO u (id) SELECT SUBSTRING(SYSDATE(6), 21) FROM src WHERE a = 1",
            "INSERT INTO u (id) SELECT SLEEP(0)",
        ] {
            sql::refused(&mut app, refused).await?.expect_naming(1235, "42000", &xid).context(refused)?;
        }
        let duplicate = "INSERT INTO u (id) SELECT a FROM src";
        let error = sql::server_error(app.query_drop(duplicate).await, duplicate)?;
        assert_eq!(error.code, 1062);
        for conn in [&mut direct, &mut app] {
            if begin {
                sql::run(conn, "COMMIT").await?;
            }
        }
        let statement = "INSERT INTO u (id, mail) SELECT a + ?, ? FROM src WHERE a < ?";
        for conn in [&mut direct, &mut app] {
            conn.exec_drop(statement, (7000, None::<String>, 3)).await?;
        }
        assert_eq!(
            contents(bound.clone(), c.clone()).await?,
            contents(plain.clone(), c.clone()).await?,
            "{begin}"
        );
        sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
        c.wait_for_purge(Bank::One, &bound).await?;
        assert_eq!(contents(bound, c.clone()).await?, before);
    }
    Ok(())
}

/// Such a key still keeps rows out, and no statement may name it in an index hint.
async fn keys_that_optimizers_look_away_from(c: Arc<Cluster>) -> Result<()> {
    let hidden = if c.flavor() == Flavor::MariaDb { "IGNORED" } else { "INVISIBLE" };
    let table = format!(
        "CREATE TABLE away (id INT PRIMARY KEY, u INT, v INT, UNIQUE KEY `u``x` (u) {hidden}, UNIQUE KEY v (v))"
    );
    let rows = "INSERT INTO away VALUES (1, 10, 100), (2, 20, 200), (3, NULL, 300)";
    let statements = [
        "INSERT IGNORE INTO away VALUES (4, 10, 400), (5, 50, 500)",
        "INSERT INTO away VALUES (6, 20, 600) ON DUPLICATE KEY UPDATE v = v + 1",
        "REPLACE INTO away VALUES (7, 10, 300)",
        "REPLACE INTO away VALUES (7, 10, 300)",
    ];
    check_queries(&c, &[&table, rows], &["away"], &statements).await
}

async fn keys_that_the_charset_cannot_name(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("upserts_names").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    let table = "CREATE TABLE named (id INT PRIMARY KEY, u INT, v INT, UNIQUE KEY `姓名` (u))";
    sql::run_all(&mut direct, &[table, "INSERT INTO named VALUES (1, 10, 100), (2, 20, 200)"]).await?;
    let rows = "SELECT id, u, v FROM named ORDER BY id";
    let mut conn = c.app(Bank::One, &schema).await?;
    for names in ["SET NAMES latin1", "SET NAMES utf8mb4"] {
        sql::start_global(&mut conn).await?;
        sql::run(&mut conn, names).await?;
        for statement in [
            "INSERT IGNORE INTO named VALUES (3, 10, 1), (4, 40, 4)",
            "INSERT INTO named VALUES (5, 20, 5) ON DUPLICATE KEY UPDATE v = v + 1",
            "REPLACE INTO named VALUES (6, 10, 6)",
        ] {
            sql::run(&mut conn, statement).await.with_context(|| names.to_owned())?;
        }
        assert_eq!(c.rows(Bank::One, &schema, rows).await?, ["2|20|201", "4|40|4", "6|10|6"]);
        sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
        assert_eq!(c.rows(Bank::One, &schema, rows).await?, ["1|10|100", "2|20|200"]);
    }
    Ok(())
}
