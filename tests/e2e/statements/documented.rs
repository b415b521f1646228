//! Every row of the tables in docs/sql-support.md, on real servers: what is captured runs and is put back by a
//! rollback, what is refused answers 1235 with its reason and leaves no trace, what passes answers as straight.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use atone_sources::documents::{Documented, statements};
use atone_tests::cluster::SOON;
use atone_tests::effects::{Effect, Step};
use atone_tests::{Bank, Cluster, Flavor, sql};
use futures::StreamExt as _;
use mysql_async::{Conn, Value};

atone_tests::shared_tests!(every_row);

/// The tables `t` that the statements are written for, by the name of a schema; each captured statement runs in the
/// first in which it changes a row by itself.
const SHAPES: &[(&str, &[&str])] = &[
    (
        "wide",
        &[
            "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT, c INT, d DATETIME, n INT, xid VARCHAR(9), j JSON, KEY i (a))",
            "INSERT INTO t (id, a, b, c, d, n) VALUES (1, 1, 1, 1, '2020-01-01', 1), (2, 2, 4, 2, '2020-01-01', 2), \
             (3, 2, 5, 3, '2020-01-01', 3), (4, 2, 6, 4, NULL, 4), (5, 2, 7, 5, '2020-01-01', 5)",
            "INSERT INTO t (id, a) SELECT 10 + x.id * 5 + y.id, 3 FROM t x, t y",
        ],
    ),
    ("one", &["CREATE TABLE t (a INT PRIMARY KEY)", "INSERT INTO t VALUES (9)"]),
    (
        "text",
        &["CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(9), v INT)", "INSERT INTO t VALUES (7, 'x', 1)"],
    ),
    ("pair", &["CREATE TABLE t (id VARCHAR(40) PRIMARY KEY, a INT)", "INSERT INTO t VALUES ('x', 1)"]),
    (
        "numbered",
        &[
            "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a INT DEFAULT 3, b INT) AUTO_INCREMENT = 100",
            "INSERT INTO t (a) VALUES (1), (2)",
        ],
    ),
    (
        "parts",
        &[
            "CREATE TABLE t (a INT PRIMARY KEY) PARTITION BY RANGE (a) \
             (PARTITION p VALUES LESS THAN (10), PARTITION q VALUES LESS THAN MAXVALUE)",
            "INSERT INTO t VALUES (5), (50)",
        ],
    ),
];
const U: &[&str] =
    &["CREATE TABLE u (id INT PRIMARY KEY, a INT, b INT)", "INSERT INTO u VALUES (1, 2, 30), (3, 4, 40)"];
/// `s.t`: the same for all.
const S: &[&str] = &[
    "CREATE DATABASE s",
    "CREATE TABLE s.t (id INT AUTO_INCREMENT PRIMARY KEY, a BIGINT, b INT DEFAULT 3)",
    "INSERT INTO s.t VALUES (1, 1, 1), (2, 2, 2)",
];

/// What is called.
const CALLED: &[&str] = &[
    "CREATE FUNCTION f(x INT) RETURNS INT NO SQL RETURN x",
    "CREATE PROCEDURE p() SELECT 1",
    "CREATE FUNCTION IF NOT EXISTS s.f(x INT) RETURNS INT NO SQL RETURN x",
];

/// The rows of the document that stand for this server.
fn documented(flavor: Flavor) -> Result<Vec<Documented>> {
    let mut rows = statements();
    rows.retain(|row| row.servers().contains(&(flavor == Flavor::MariaDb)));
    ensure!(rows.len() > 100, "only {} rows were found", rows.len());
    Ok(rows)
}

/// What has to be there for a statement that goes on with another.
fn before(sql: &str) -> &'static [&'static str] {
    match sql {
        "PREPARE p FROM @text" => &["SET @text = 'DELETE FROM t WHERE a = 1'"],
        "EXECUTE p" => &["PREPARE p FROM 'UPDATE t SET a = 7 WHERE b > 1'"],
        "EXECUTE p USING @a, @b" => {
            &["SET @a = 8, @b = 2", "PREPARE p FROM 'UPDATE t SET a = ? WHERE b > ?'"]
        }
        "SELECT ROW_COUNT()" => &["DO 1"],
        "DEALLOCATE PREPARE p" | "DROP PREPARE p" => &["PREPARE p FROM 'DELETE FROM t'"],
        _ if sql.contains("USING @a") => &["SET @a = 1"],
        "ROLLBACK TO SAVEPOINT a" | "RELEASE SAVEPOINT a" => &["BEGIN", "SAVEPOINT a"],
        _ => &[],
    }
}

/// The statement, prepared where it has parameters; each is 1.
fn step(sql: &str) -> Step {
    // The only quoted ones are those of PREPARE and EXECUTE IMMEDIATE
    let params =
        if sql.contains("PREPARE") || sql.contains("IMMEDIATE") { 0 } else { sql.matches('?').count() };
    match params {
        0 => Step::Query(sql.to_owned()),
        _ => Step::Exec(sql.to_owned(), vec![Value::Int(1); params]),
    }
}

/// All rows that the statements may change.
async fn rows(c: &Cluster, bank: Bank, schema: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for table in [format!("{schema}.t"), format!("{schema}.u"), "s.t".to_owned()] {
        all.push(format!("-- {table}"));
        all.extend(c.rows(bank, schema, &format!("SELECT * FROM {table}")).await?);
    }
    Ok(all)
}

/// A file for LOAD DATA, with a row of the table in the schema of the first shape.
fn file(sql: &str) -> &'static [u8] {
    if sql.contains("LINES TERMINATED BY") {
        b"the,head\r\n78,\"1\"\r\n"
    } else {
        b"77\t1\t1\t1\t2020-01-01\t1\tx\t{}\n"
    }
}

async fn run(conn: &mut Conn, row: &Documented) -> Result<Effect> {
    for statement in before(&row.sql) {
        sql::run(conn, statement).await?;
    }
    if row.sql.starts_with("LOAD DATA LOCAL") {
        let file = file(&row.sql);
        conn.set_infile_handler(async move { Ok(futures::stream::iter([Ok(file.into())]).boxed()) });
    }
    step(&row.sql).run(conn).await
}

/// The schema in which the statement changes a row by itself.
async fn fitting(c: &Cluster, row: &Documented) -> Result<String> {
    let mut errors = Vec::new();
    for (shape, _) in SHAPES {
        let schema = format!("documented_{shape}");
        let mut conn = c.direct(Bank::Two, &schema).await?;
        sql::run(&mut conn, "BEGIN").await?;
        let effect = run(&mut conn, row).await?;
        sql::run(&mut conn, "ROLLBACK").await?;
        conn.disconnect().await?;
        match &effect.error {
            Some(error) => errors.push(format!("{shape}: {}", error.message)),
            None if effect.affected > 0 || !effect.rows.is_empty() => return Ok(schema),
            None => errors.push(format!("{shape}: no row changes")),
        }
    }
    bail!("the statement changes no row in any of the schemas: {errors:#?}")
}

async fn check(c: &Cluster, row: &Documented) -> Result<()> {
    let captured = row.becomes == "captured";
    let schema = if captured { fitting(c, row).await? } else { "documented_wide".to_owned() };
    let found = rows(c, Bank::One, &schema).await?;
    let mut bound = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut bound).await?;
    // It ends its connection
    let releases = row.sql == "ROLLBACK RELEASE";
    let binds = row.becomes == "binding" || row.sql.contains("@atone_xid");
    if row.becomes == "refused" {
        let effect = step(&row.sql).run(&mut bound).await?;
        let error = effect.error.context("the statement was not refused")?;
        if error.code == 1235 {
            ensure!(error.message.contains(&row.reason), "{error:?}");
        } else {
            // On these tables the server does not run it either
            let mut plain = c.direct(Bank::Two, &schema).await?;
            let straight = step(&row.sql).run(&mut plain).await?;
            ensure!(straight.error.as_ref() == Some(&error), "bound: {error:?}\nstraight: {straight:?}");
        }
    } else if releases {
        // The driver does not expect it
        let _ = step(&row.sql).run(&mut bound).await;
    } else if binds {
        let effect = run(&mut bound, row).await?;
        ensure!(effect.error.as_ref().is_none_or(|e| ![1235, 1064].contains(&e.code)), "{effect:?}");
    } else {
        let effect = run(&mut bound, row).await?;
        if captured {
            ensure!(effect.error.is_none(), "{effect:?}");
        }
        compare(c, row, &schema, effect).await?;
    }
    bound.disconnect().await.ok();
    c.rest().rollback(&xid).await.ok();
    if row.sql != "COMMIT GLOBAL TRANSACTION" {
        c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    }
    let left = rows(c, Bank::One, &schema).await?;
    ensure!(left == found, "after the rollback\nexpected: {found:?}\nfound:    {left:?}");
    Ok(())
}

/// Compares with what the statement answers straight, where that does not depend on more than its tables.
async fn compare(c: &Cluster, row: &Documented, schema: &str, effect: Effect) -> Result<()> {
    let elsewhere = ["KILL ", "SHOW TABLES", "EXPLAIN ", "RAND()", "UUID()", "NOW()", "CHECKSUM"];
    let mut plain = c.direct(Bank::Two, schema).await?;
    sql::run(&mut plain, "BEGIN").await?;
    if !elsewhere.iter().any(|word| row.sql.contains(word)) {
        let mut straight = run(&mut plain, row).await?;
        // Numbers go on after a rollback
        let mut effect = effect;
        for one in [&mut straight, &mut effect] {
            one.last_insert_id = one.last_insert_id.map(|_| 0);
        }
        ensure!(effect == straight, "bound:    {effect:?}\nstraight: {straight:?}");
    }
    // Not to keep what was read or written
    sql::run(&mut plain, "ROLLBACK").await?;
    plain.disconnect().await?;
    Ok(())
}

async fn every_row(c: Arc<Cluster>) -> Result<()> {
    for bank in [Bank::One, Bank::Two] {
        let mut admin = c.server(bank).admin().await?;
        sql::run_all(&mut admin, S).await?;
        for (shape, tables) in SHAPES {
            let schema = format!("documented_{shape}");
            sql::run_all(&mut admin, &[&format!("CREATE DATABASE {schema}"), &format!("USE {schema}")])
                .await?;
            sql::run_all(&mut admin, tables).await?;
            sql::run_all(&mut admin, U).await?;
            sql::run_all(&mut admin, CALLED).await?;
            if c.flavor() == Flavor::MariaDb {
                sql::run_all(&mut admin, &["CREATE SEQUENCE s", "SELECT NEXTVAL(s)"]).await?;
            }
        }
    }
    let mut wrong = String::new();
    for row in documented(c.flavor())? {
        if let Err(error) = check(&c, &row).await {
            wrong += &format!("{}\n  {error:#}\n", row.line);
        }
    }
    ensure!(wrong.is_empty(), "\n{wrong}");
    Ok(())
}
