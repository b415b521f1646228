//! Keys that the server generates.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::case::check_queries;
use atone_tests::cluster::SOON;
use atone_tests::effects::{e, q};
use atone_tests::{Bank, Cluster, Flavor, sql};
use mysql_async::prelude::Queryable as _;

use super::compare;

atone_tests::shared_tests!(
    given_and_generated,
    behind_a_number_that_was_set,
    rows_of_others_in_between,
    rows_of_others_meanwhile,
    generated_from_queries,
    ignored_children,
    under_other_collations,
);

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
        q("DELETE FROM k WHERE id = 0"),
        // DEFAULT is 0 then
        q("INSERT INTO k (id, v) VALUES (NULL, 4), (DEFAULT, 5)"),
        q("INSERT IGNORE INTO k (id, v) VALUES (DEFAULT, 6)"),
        q("INSERT INTO k (id, v) VALUES (DEFAULT, 6) ON DUPLICATE KEY UPDATE v = 7"),
        q("REPLACE INTO k (id, v) VALUES (DEFAULT, 8)"),
        q("SELECT LAST_INSERT_ID()"),
        q("DELETE FROM k WHERE id = 0"),
        q("INSERT INTO k (id, v) VALUES (DEFAULT, 6)"),
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

/// `SET insert_id` says the first number; the next ones are in step again, as the server counts.
async fn behind_a_number_that_was_set(c: Arc<Cluster>) -> Result<()> {
    for (increment, offset) in [(1, 1), (3, 1), (3, 2), (3, 7), (5, 12), (10, 10)] {
        let mut steps =
            vec![q(&format!("SET auto_increment_increment = {increment}, auto_increment_offset = {offset}"))];
        for (at, statement) in [
            "INSERT INTO k (v) VALUES (1), (2), (3), (4)",
            "INSERT INTO k (v) VALUES (1)",
            "INSERT INTO k (id, v) VALUES (NULL, 1), (5000, 2), (NULL, 3), (NULL, 4)",
            "INSERT INTO k (id, v) VALUES (2, 1), (NULL, 2), (NULL, 3)",
            "INSERT INTO k (v) SELECT a FROM src",
            "INSERT IGNORE INTO k (m, v) VALUES ('x', 1), ('y', 2), ('z', 3)",
            "REPLACE INTO k (m, v) VALUES ('x', 1), ('y', 2), ('z', 3)",
            "INSERT INTO k (m, v) VALUES ('w', 1), ('new', 2) ON DUPLICATE KEY UPDATE v = 9",
            "INSERT INTO pairs (b, v) VALUES (1.5, 1), ('2.5', 2), (3, 3)",
        ]
        .into_iter()
        .enumerate()
        {
            let number = 100 * (at + 1);
            steps.push(q(&format!("SET insert_id = {number}")));
            steps.push(q(statement));
            steps.push(q("SELECT LAST_INSERT_ID()"));
        }
        compare(&c, "behind a number that was set", steps).await?;
    }
    Ok(())
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

/// Others insert while the statement waits: its numbers have gaps, in which their rows stand, committed or not.
async fn rows_of_others_meanwhile(c: Arc<Cluster>) -> Result<()> {
    if c.flavor() == Flavor::MariaDb {
        return Ok(()); // Its statements hold the table's numbers to their end (innodb_autoinc_lock_mode = 1)
    }
    let schema = c.schema("meanwhile").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(
        &mut direct,
        &[
            "CREATE TABLE src (a INT PRIMARY KEY)",
            "INSERT INTO src VALUES (1), (2), (3), (4), (5), (6), (7), (8)",
            "CREATE TABLE k (id INT AUTO_INCREMENT PRIMARY KEY, v INT)",
        ],
    )
    .await?;
    for (begin, end) in [(false, "ROLLBACK"), (true, "ROLLBACK"), (true, "COMMIT")] {
        sql::run(&mut direct, "DELETE FROM k").await?;
        let mut app = c.app(Bank::One, &schema).await?;
        let connection = format!("thread id {},", sql::cell(&mut app, "SELECT CONNECTION_ID()").await?);
        sql::start_global(&mut app).await?;
        if begin {
            sql::run(&mut app, "BEGIN").await?;
        }
        let mut holder = c.direct(Bank::One, &schema).await?;
        sql::run(&mut holder, "BEGIN").await?;
        sql::run(&mut holder, "SELECT a FROM src WHERE a = 3 FOR UPDATE").await?;
        let statement = "INSERT INTO k (v) SELECT a FROM src ORDER BY a";
        let inserting = tokio::spawn(async move {
            let done = app.query_drop(statement).await;
            (app, done)
        });
        let mut admin = c.bank1.admin().await?;
        atone_tests::wait::until("the INSERT waits", SOON, || async {
            let mut admin = c.bank1.admin().await?;
            // information_schema.INNODB_TRX stays as it was for who asks again within 0.1 s
            let status = sql::rows(&mut admin, "SHOW ENGINE INNODB STATUS").await?;
            let mut transactions = status.iter().flat_map(|text| text.split("---TRANSACTION"));
            Ok(transactions.any(|of| of.contains(&connection) && of.contains("LOCK WAIT")).then_some(()))
        })
        .await?;
        sql::run(&mut admin, format!("INSERT INTO `{schema}`.k (v) VALUES (-1)")).await?;
        let mut open = c.direct(Bank::One, &schema).await?;
        sql::run(&mut open, "BEGIN").await?;
        sql::run(&mut open, "INSERT INTO k (v) VALUES (-2), (-3)").await?;
        sql::run(&mut holder, "COMMIT").await?;
        let (mut app, done) = inserting.await?;
        done.context(statement)?;
        sql::run(&mut open, "COMMIT").await?;
        let last = sql::cell(&mut app, "SELECT MAX(id) - LAST_INSERT_ID() FROM k WHERE v > 0").await?;
        ensure!(last.parse::<i64>()? > 7, "nobody came between: {last}");
        if begin {
            sql::run(&mut app, "COMMIT").await?;
        }
        sql::run(&mut app, format!("{end} GLOBAL TRANSACTION")).await?;
        c.wait_for_purge(Bank::One, &schema).await?;
        let mut left = c.rows(Bank::One, &schema, "SELECT v FROM k ORDER BY v").await?;
        if end == "COMMIT" {
            ensure!(left.len() == 11, "{left:?}");
            left.truncate(3);
        }
        assert_eq!(left, ["-3", "-2", "-1"]);
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

/// INSERT IGNORE leaves rows out that have no parent; their numbers are used up.
async fn ignored_children(c: Arc<Cluster>) -> Result<()> {
    let setup = [
        "CREATE TABLE p (id INT PRIMARY KEY)",
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (id))",
        "INSERT INTO p VALUES (1), (2)",
        "INSERT INTO t VALUES (7, 1)",
    ];
    for statements in [
        &["INSERT IGNORE INTO t (p) VALUES (11)", "SHOW WARNINGS"][..],
        &["INSERT IGNORE INTO t (id, p) VALUES (DEFAULT, 1), (DEFAULT, 11), (NULL, 2)", "SHOW WARNINGS"],
        &["BEGIN", "INSERT IGNORE INTO t (p) VALUES (11), (12)", "INSERT INTO t (p) VALUES (2)", "COMMIT"],
        &["INSERT IGNORE INTO t (p) VALUES (11), (2) ON DUPLICATE KEY UPDATE p = 1"],
    ] {
        check_queries(&c, &setup, &["t"], statements).await?;
    }
    Ok(())
}

/// What the reads of Atone's own need is put back, whatever collation the session has.
async fn under_other_collations(c: Arc<Cluster>) -> Result<()> {
    let setup = ["CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))", "INSERT INTO t VALUES (1, 'é')"];
    for set in [
        "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
        "SET NAMES latin1 COLLATE latin1_general_cs",
        "SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci",
    ] {
        under_collation(&c, &setup, set).await?;
    }
    // Those whose numbers clients are not told
    let own: &[&str] = match c.flavor() {
        Flavor::MariaDb => {
            &["utf8mb4_uca1400_ai_ci", "utf8mb4_uca1400_german2_as_cs", "utf8mb4_uca1400_nopad_ai_ci"]
        }
        Flavor::MySql => &["utf8mb4_0900_ai_ci", "utf8mb4_de_pb_0900_as_cs"],
    };
    for collation in own {
        under_collation(&c, &setup, &format!("SET NAMES utf8mb4 COLLATE {collation}")).await?;
    }
    Ok(())
}

async fn under_collation(c: &Cluster, setup: &[&str], set: &str) -> Result<()> {
    let statements = [
        set,
        "INSERT INTO t SET v = 'x', id = 2 + 1",
        "INSERT INTO t SELECT id + 10, v FROM t",
        "SELECT v, @@character_set_results, @@collation_connection FROM t ORDER BY id",
    ];
    check_queries(c, setup, &["t"], &statements).await
}
