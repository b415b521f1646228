//! Parents and children that one transaction has written in separate branches without foreign key checks: a rollback
//! leaves what was there before, whatever dangles on the way. What others have written since still stops it.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::{Bank, Cluster, sql};

atone_tests::shared_tests!(undone_in_the_end, stopped_by_others);

const SETUP: &[&str] = &[
    "CREATE TABLE parent (id INT PRIMARY KEY, name VARCHAR(20) NOT NULL UNIQUE, v INT)",
    "CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id))",
    "CREATE TABLE named (id INT PRIMARY KEY, n VARCHAR(20), FOREIGN KEY (n) REFERENCES parent (name))",
    "INSERT INTO parent VALUES (1, 'a', 1), (2, 'b', 2)",
    "INSERT INTO child VALUES (1, 1), (2, 1), (3, 2)",
    "INSERT INTO named VALUES (1, 'a'), (2, 'b')",
];

async fn content(c: &Cluster, schema: &str) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for table in ["parent", "child", "named"] {
        out.extend(
            c.rows(Bank::One, schema, &format!("SELECT '{table}', t.* FROM {table} t ORDER BY id")).await?,
        );
    }
    Ok(out)
}

async fn undone_in_the_end(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("ends").await?;
    sql::run_all(&mut c.direct(Bank::One, &schema).await?, SETUP).await?;
    let before = content(&c, &schema).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    sql::run(&mut app, "SET foreign_key_checks = 0").await?;
    for statements in [
        &["DELETE FROM parent WHERE id = 1", "INSERT INTO parent VALUES (1, 'a', 9)"][..],
        &["INSERT INTO child VALUES (9, 9)", "INSERT INTO parent VALUES (9, 'i', 9)"],
        &["INSERT INTO named VALUES (9, 'i')", "INSERT INTO parent VALUES (9, 'i', 9)"],
        &[
            "DELETE FROM parent WHERE id = 1",
            "DELETE FROM named WHERE id = 1",
            "DELETE FROM child WHERE p = 1",
        ],
        &["UPDATE child SET p = 9 WHERE id = 1", "INSERT INTO parent VALUES (9, 'i', 9)"],
        &["UPDATE parent SET id = 9 WHERE id = 1", "UPDATE child SET p = 9 WHERE p = 1"],
        &[
            "DELETE FROM parent WHERE id = 1",
            "INSERT INTO parent VALUES (1, 'a', 8)",
            "DELETE FROM parent WHERE id = 1",
            "INSERT INTO parent VALUES (1, 'a', 9)",
        ],
    ] {
        let xid = sql::start_global(&mut app).await?;
        for statement in statements {
            sql::run(&mut app, statement).await?;
        }
        sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
        c.rest()
            .wait_for_status(&xid, "rolled_back", SOON)
            .await
            .with_context(|| format!("{statements:?}"))?;
        assert_eq!(content(&c, &schema).await?, before, "{statements:?}");
    }
    Ok(())
}

/// Beside branches that say nothing of what dangles.
async fn stopped_by_others(c: Arc<Cluster>) -> Result<()> {
    for (statements, outsider, reason) in [
        (
            &["INSERT INTO child VALUES (9, 9)", "INSERT INTO parent VALUES (9, 'i', 9)"][..],
            "INSERT INTO child VALUES (10, 9)",
            "refer by foreign key",
        ),
        (
            &["UPDATE parent SET v = 5 WHERE id = 2", "UPDATE child SET p = NULL WHERE p = 1"],
            "DELETE FROM parent WHERE id = 1",
            "whose parent in",
        ),
        (
            &["DELETE FROM parent WHERE id = 2", "INSERT INTO parent VALUES (2, 'c', 2)"],
            "INSERT INTO named VALUES (10, 'c')",
            "refer by foreign key",
        ),
    ] {
        let schema = c.schema("others").await?;
        let mut direct = c.direct(Bank::One, &schema).await?;
        sql::run_all(&mut direct, SETUP).await?;
        let mut app = c.app(Bank::One, &schema).await?;
        let xid = sql::start_global(&mut app).await?;
        sql::run(&mut app, "SET foreign_key_checks = 0").await?;
        for statement in statements {
            sql::run(&mut app, statement).await?;
        }
        sql::run_all(&mut direct, &["SET foreign_key_checks = 0", outsider]).await?;
        sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
        let transaction = c
            .rest()
            .wait_for_status(&xid, "rollback_failed", SOON)
            .await
            .with_context(|| format!("{statements:?}"))?;
        let told = transaction["branches"].to_string();
        ensure!(told.contains(reason), "{statements:?}: {transaction}");
    }
    Ok(())
}
