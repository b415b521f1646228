//! Rows from queries.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use atone_tests::case::{Case, check};
use atone_tests::effects::{e, q};
use atone_tests::{Bank, Cluster, Flavor, sql};
use mysql_async::prelude::Queryable as _;

use super::{CONTENT, TABLES, compare};

atone_tests::shared_tests!(queries_of_every_form, random_queries, character_set_results, one_literal_one_row,);

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
