//! Servers that store the names of tables in lower case (`lower_case_table_names = 1`, the default on Windows and of
//! several cloud services): a table has one name, whichever way a statement writes it.

use anyhow::{Context as _, Result};
use atone_tests::cluster::ClusterOptions;
use atone_tests::run::Harmable;
use atone_tests::{Bank, sql};

atone_tests::owned_tests!(lower_case() => in_lower_case);

fn lower_case() -> ClusterOptions {
    let server_options = vec!["--lower-case-table-names=1".to_owned()];
    ClusterOptions { server_options, ..ClusterOptions::default() }
}

async fn in_lower_case(cluster: Harmable) -> Result<()> {
    let c = cluster.lock().await;
    let schema = c.schema("Cases").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(
        &mut direct,
        &[
            "CREATE TABLE Parent (id INT PRIMARY KEY, v INT)",
            "CREATE TABLE Child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES PARENT (id) ON DELETE CASCADE)",
            "CREATE TABLE Audit (n INT AUTO_INCREMENT PRIMARY KEY, v INT)",
            "CREATE TRIGGER Noted AFTER UPDATE ON Parent FOR EACH ROW INSERT INTO AUDIT (v) VALUES (NEW.v)",
            "CREATE TABLE Plain (id INT PRIMARY KEY, v INT)",
            "CREATE VIEW Seen AS SELECT id, v FROM PLAIN",
            "CREATE FUNCTION writes() RETURNS INT MODIFIES SQL DATA BEGIN UPDATE Child SET p = NULL; RETURN 1; END",
            "CREATE VIEW Writes_Behind AS SELECT writes() AS x FROM Parent",
            "INSERT INTO Parent VALUES (1, 1), (2, 2), (3, 3)",
            "INSERT INTO Plain VALUES (1, 1), (3, 3)",
            "INSERT INTO Child VALUES (1, 1), (2, 2)",
            "CREATE TABLE `Имена` (id INT PRIMARY KEY)",
        ],
    )
    .await?;
    let all = "SELECT 'parent', id, v FROM parent UNION ALL SELECT 'child', id, p FROM child \
               UNION ALL SELECT 'plain', id, v FROM plain \
               UNION ALL SELECT 'audit', n, v FROM audit ORDER BY 1, 2";
    let before = c.rows(Bank::One, &schema, all).await?;
    let upper = schema.to_uppercase();
    let mut conn = c.app(Bank::One, &schema).await?;
    let mut other = c.app(Bank::One, &schema).await?;
    sql::run(&mut other, "SET innodb_lock_wait_timeout = 1").await?;
    let xid = sql::start_global(&mut conn).await?;
    for statement in [
        "UPDATE PARENT SET v = v + 1 WHERE id = 1".to_owned(),
        "UPDATE parent SET v = v + 1 WHERE id = 1".to_owned(),
        format!("UPDATE {upper}.Parent AS X SET x.v = 7 WHERE X.id = 2"),
        "UPDATE CHILD AS C JOIN Parent ON PARENT.id = c.id SET C.p = 3 WHERE c.id = 2".to_owned(),
        "UPDATE SEEN SET v = 9 WHERE id = 3".to_owned(),
        "INSERT INTO Parent VALUES (4, 4) ON DUPLICATE KEY UPDATE v = 5".to_owned(),
        "DELETE FROM PARENT WHERE Parent.id = 1".to_owned(),
    ] {
        sql::run(&mut conn, &statement).await.context(statement)?;
    }
    // A view's function writes, however the view is named
    sql::refused(&mut conn, "SELECT * FROM WRITES_BEHIND").await?.expect_naming(1235, "42000", &xid)?;
    sql::refused(&mut conn, "INSERT INTO `ИМЕНА` VALUES (1)").await?.expect_naming(1235, "42000", &xid)?;
    sql::refused(&mut conn, "UPDATE Undo_Log SET xid = ''").await?.expect_naming(1235, "42000", &xid)?;
    // One lock for one row
    let second = sql::start_global(&mut other).await?;
    let error = sql::refused(&mut other, "UPDATE Plain SET v = 1 WHERE id = 3").await?;
    error.expect_naming(1205, "HY000", &second)?;
    sql::run(&mut other, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.roll_back_global(&mut conn, &xid).await?;
    assert_eq!(c.rows(Bank::One, &schema, all).await?, before);
    Ok(())
}
