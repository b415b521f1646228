//! What is written through views.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use atone_tests::case::{Case, check};
use atone_tests::effects::{e, q};
use atone_tests::{Bank, Cluster, Flavor, sql};
use mysql_async::prelude::Queryable as _;

atone_tests::shared_tests!(through_views, refused, altered, rights);

const TABLES: &[&str] = &[
    "CREATE TABLE t (id INT PRIMARY KEY, v INT DEFAULT 5, w VARCHAR(20), n INT UNIQUE)",
    "INSERT INTO t VALUES (1, 10, 'one', 1), (2, 20, 'two', 2), (3, 30, NULL, 3), (4, 40, 'four', NULL)",
    "CREATE TABLE two (a INT, b VARCHAR(10) COLLATE utf8mb4_bin, v INT, PRIMARY KEY (a, b))",
    "INSERT INTO two VALUES (1, 'x', 1), (1, 'y', 2), (2, 'é', 3)",
    "CREATE TABLE auto (id INT AUTO_INCREMENT PRIMARY KEY, v INT)",
    "CREATE TABLE parent (id INT PRIMARY KEY, v INT)",
    "CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE)",
    "INSERT INTO parent VALUES (1, 1), (2, 2)",
    "INSERT INTO child VALUES (1, 1), (2, 1), (3, 2)",
    "CREATE VIEW plain AS SELECT * FROM t",
    "CREATE VIEW some (`key`, val, `word of`) AS SELECT id, v, w FROM t WHERE v > 15",
    "CREATE VIEW checked AS SELECT id AS k, v AS val FROM t WHERE v > 15 WITH CHECK OPTION",
    "CREATE VIEW computed AS SELECT x.id, x.v, x.v * 2 AS twice FROM t x",
    "CREATE VIEW nested AS SELECT `key` AS k, val FROM some WHERE val < 35",
    "CREATE VIEW pairs AS SELECT v AS c, b AS d, a AS e FROM two",
    "CREATE VIEW numbers AS SELECT id, v FROM auto",
    "CREATE VIEW only AS SELECT v FROM auto",
    "CREATE VIEW up AS SELECT id FROM parent",
    "CREATE ALGORITHM = TEMPTABLE VIEW temporary_one AS SELECT * FROM t",
];
const CONTENT: &[&str] = &["t", "two", "auto", "parent", "child"];

async fn through_views(c: Arc<Cluster>) -> Result<()> {
    let mut steps = vec![
        q("UPDATE plain SET v = v + 1 WHERE id = 1"),
        q("UPDATE some SET val = val + 1, `word of` = 'x' WHERE `key` >= 1"),
        q("UPDATE some AS s SET s.val = 50 WHERE s.val > 20 ORDER BY s.`key` DESC LIMIT 1"),
        q("UPDATE some SET val = 1 WHERE `key` = 1"),
        q("SELECT ROW_COUNT()"),
        q("UPDATE checked SET val = 1 WHERE k = 2"),
        q("SHOW WARNINGS"),
        q("UPDATE checked SET val = 19 WHERE k = 2"),
        q("UPDATE computed SET v = twice WHERE twice > 40"),
        q("UPDATE computed SET twice = 1"),
        q("UPDATE nested SET val = 33 WHERE k < 3"),
        q("UPDATE nested SET val = (SELECT MAX(a) FROM two) + 30 WHERE k IN (SELECT id FROM t)"),
        q("UPDATE pairs SET c = c + 1 WHERE d <> 'x'"),
        q("DELETE FROM pairs WHERE d = 'é'"),
        q("DELETE FROM some WHERE val > 45"),
        q("DELETE FROM plain ORDER BY id LIMIT 1"),
        q("INSERT INTO plain VALUES (10, 1, 'ten', NULL)"),
        q("INSERT INTO some (`word of`, `key`) VALUES ('eleven', 11)"),
        q("INSERT INTO some VALUES (12, 50, 'twelve'), (13, 60, NULL)"),
        q("INSERT INTO checked VALUES (14, 1)"),
        q("INSERT INTO checked VALUES (15, 100)"),
        q("INSERT INTO nested SET k = 16, val = 1"),
        q("INSERT INTO nested SELECT id + 20, v FROM t WHERE id < 13"),
        q("INSERT IGNORE INTO plain (id, n) VALUES (10, 5), (17, 2), (18, 6)"),
        q(
            "INSERT INTO some (`key`, val) VALUES (12, 7), (19, 7) ON DUPLICATE KEY UPDATE val = VALUES(val) + 1",
        ),
        q("REPLACE INTO plain (id, n) VALUES (10, 2), (20, 6)"),
        q("INSERT INTO plain (id, v) VALUES (100 + 1, DEFAULT), (102, 7)"),
        q("INSERT INTO some (val, `key`) SELECT 105 + RAND() * 0, 106"),
        q("INSERT INTO numbers (v) VALUES (1), (2)"),
        q("SELECT LAST_INSERT_ID()"),
        q("INSERT INTO numbers VALUES (NULL, 3), (9, 4)"),
        q("INSERT INTO only VALUES (5)"),
        q("INSERT INTO only SELECT v FROM t"),
        q("DELETE FROM up WHERE id = 1"),
        q("INSERT INTO plain VALUES (10, 1, 'ten', NULL)"),
        q("UPDATE plain SET nosuch = 1"),
        q("UPDATE temporary_one SET v = 1"),
        q("DELETE FROM temporary_one"),
        q("INSERT INTO temporary_one SELECT * FROM t"),
        // What is wrong with the view comes before what is wrong with its rows
        q("INSERT INTO temporary_one (id) SELECT (SELECT id FROM t) FROM t"),
        q("SHOW WARNINGS"),
        e("UPDATE some SET val = ? WHERE `key` = ?", &[&77, &12]),
        e("INSERT INTO some (`key`, val) VALUES (?, ?)", &[&90, &91]),
    ];
    if c.flavor() == Flavor::MariaDb {
        steps.push(q("DELETE FROM nested WHERE k > 0 RETURNING val, k"));
        steps.push(q("INSERT INTO numbers (v) VALUES (8) RETURNING id, v"));
    }
    let mut begun = vec![q("BEGIN")];
    begun.extend(steps.iter().cloned());
    begun.push(q("COMMIT"));
    for steps in [steps, begun] {
        check(&c, Case { name: "views", setup: TABLES, tables: CONTENT, steps }).await?;
    }
    Ok(())
}

async fn schema(c: &Cluster, name: &str) -> Result<String> {
    let schema = c.schema(name).await?;
    sql::run_all(&mut c.direct(Bank::One, &schema).await?, TABLES).await?;
    Ok(schema)
}

async fn content(c: &Cluster, schema: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for table in CONTENT {
        all.extend(c.rows(Bank::One, schema, &format!("SELECT * FROM {table}")).await?);
    }
    Ok(all)
}

async fn refused(c: Arc<Cluster>) -> Result<()> {
    let schema = schema(&c, "views_refused").await?;
    sql::run_all(
        &mut c.direct(Bank::One, &schema).await?,
        &[
            "CREATE VIEW joined AS SELECT t.id, t.v, two.b FROM t JOIN two ON t.id = two.a",
            "CREATE VIEW grouped AS SELECT v, COUNT(*) AS n FROM t GROUP BY v",
        ],
    )
    .await?;
    let before = content(&c, &schema).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    for statement in [
        "UPDATE joined SET v = 1",
        "INSERT INTO joined (id) VALUES (100)",
        "UPDATE only SET v = 1",
        "DELETE FROM only",
        "UPDATE some SET `key` = 100 WHERE `key` = 2",
        "UPDATE plain, two SET plain.v = 1 WHERE plain.id = two.a",
    ] {
        sql::refused(&mut app, statement).await?.expect_naming(1235, "42000", &xid).context(statement)?;
    }
    // The server would not do it either
    let mut plain = c.direct(Bank::One, &schema).await?;
    for statement in ["DELETE FROM grouped", "INSERT INTO computed VALUES (100, 1, 2)"] {
        let own = sql::refused(&mut plain, statement).await?;
        assert_eq!(sql::refused(&mut app, statement).await?, own, "{statement}");
    }
    assert_eq!(content(&c, &schema).await?, before);
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await
}

/// A view that becomes another one is noticed.
async fn altered(c: Arc<Cluster>) -> Result<()> {
    let schema = schema(&c, "views_altered").await?;
    let before = content(&c, &schema).await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut app).await?;
    sql::run(&mut app, "UPDATE computed SET v = 1 WHERE id = 1").await?;
    sql::run(&mut direct, "CREATE OR REPLACE VIEW computed AS SELECT n AS id, v FROM t").await?;
    let error = sql::refused(&mut app, "UPDATE computed SET v = 2 WHERE id = 2").await?;
    error.expect(1235, "42000")?;
    sql::run(&mut direct, "CREATE OR REPLACE VIEW computed AS SELECT v AS a, n AS v, id AS k FROM t").await?;
    sql::run(&mut app, "UPDATE computed SET v = 22 WHERE k = 4").await?;
    app.exec_drop("UPDATE computed SET a = ? WHERE k = 4", (5,)).await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &schema).await?;
    assert_eq!(content(&c, &schema).await?, before);
    Ok(())
}

/// An account that may use a view, but not the table behind it.
async fn rights(c: Arc<Cluster>) -> Result<()> {
    let schema = schema(&c, "views_rights").await?;
    let mut admin = c.bank1.admin().await?;
    let user = format!("u_{schema}");
    sql::run(&mut admin, format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'pw'")).await?;
    sql::run(&mut admin, format!("GRANT SELECT, INSERT, UPDATE, DELETE ON `{schema}`.plain TO '{user}'@'%'"))
        .await?;
    // For undo_log
    sql::run(&mut admin, format!("GRANT INSERT ON `{schema}`.* TO '{user}'@'%'")).await?;
    let options = sql::options(c.proxy_port(Bank::One), (&user, "pw"), Some(&schema));
    let mut app = sql::connect_with(options).await?;
    sql::run(&mut app, "UPDATE plain SET v = 11 WHERE id = 1").await?;
    let xid = sql::start_global(&mut app).await?;
    for statement in
        ["UPDATE plain SET v = 12 WHERE id = 1", "INSERT INTO plain (id) VALUES (50)", "DELETE FROM plain"]
    {
        sql::refused(&mut app, statement).await?.expect_naming(1235, "42000", &xid).context(statement)?;
    }
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    sql::run(&mut admin, format!("GRANT SELECT, INSERT, UPDATE, DELETE ON `{schema}`.t TO '{user}'@'%'"))
        .await?;
    // Still not allowed to see what the view is
    sql::start_global(&mut app).await?;
    sql::run(&mut app, "UPDATE plain SET v = 12 WHERE id = 1").await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &schema).await?;
    assert_eq!(c.rows(Bank::One, &schema, "SELECT v FROM t WHERE id = 1").await?, ["11"]);
    Ok(())
}
