//! Which rows: those imaged are those changed.

use std::sync::Arc;

use anyhow::{Result, ensure};
use atone_tests::case::check_queries;
use atone_tests::cluster::SOON;
use atone_tests::run::Harmable;
use atone_tests::{Bank, Cluster, ClusterOptions, Flavor, sql};
use mysql_async::Conn;

atone_tests::shared_tests!(
    conditions_evaluated_twice,
    limits_without_an_order,
    updates_of_keys,
    matched_and_unchanged,
    rows_that_were_there,
    generated_keys,
    more_than_a_table,
    without_a_primary_key,
    keys_of_every_type,
    the_same_row_several_times,
    changed_behind_the_statement,
    what_can_not_be_undone,
    implicit_commits,
    savepoints_and_failures,
);
atone_tests::owned_tests!(
    ClusterOptions { server_options: vec!["--innodb-rollback-on-timeout=ON".into()], ..ClusterOptions::default() }
        => lock_wait_timeout_that_rolls_back
);

const T: &str = "CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(40), d DATETIME, KEY (a))";
const ROWS: &str = "INSERT INTO t VALUES (1, 10, 'one', '2020-01-01'), (2, 20, 'two', '2020-01-01'), \
                    (3, 20, 'three', '2999-01-01'), (4, 40, NULL, NULL), (5, 50, 'five', '2020-01-01')";

async fn same(c: &Cluster, statements: &[&str]) -> Result<()> {
    check_queries(c, &[T, ROWS], &["t"], statements).await
}

/// Runs statements of which two runs can't be compared, bound, and rolls back: all rows are as before.
async fn undone(c: &Cluster, setup: &[&str], shown: &[&str], statements: &[&str]) -> Result<()> {
    let schema = c.schema("undone").await?;
    sql::run_all(&mut c.direct(Bank::One, &schema).await?, setup).await?;
    let mut before = Vec::new();
    for query in shown {
        before.push(c.rows(Bank::One, &schema, query).await?);
    }
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    for statement in statements {
        sql::run(&mut app, statement).await?;
    }
    roll_back(c, &mut app, &xid).await?;
    for (query, before) in shown.iter().zip(before) {
        let after = c.rows(Bank::One, &schema, query).await?;
        ensure!(after == before, "{statements:?}\nbefore: {before:?}\nafter:  {after:?}");
    }
    Ok(())
}

async fn roll_back(c: &Cluster, app: &mut Conn, xid: &str) -> Result<()> {
    sql::run(app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(xid, "rolled_back", SOON).await?;
    Ok(())
}

async fn conditions_evaluated_twice(c: Arc<Cluster>) -> Result<()> {
    same(
        &c,
        &[
            "UPDATE t SET a = a + 1 WHERE d < NOW()",
            "SET @limit = 3",
            "UPDATE t SET b = 'v' WHERE id > @limit",
            "UPDATE t SET b = 'w' WHERE id < @limit + RAND() * 0.5",
            "UPDATE t SET b = 'x' WHERE b <> CONCAT(UUID()) AND d < SYSDATE()",
            "DELETE FROM t WHERE d > CURRENT_TIMESTAMP",
        ],
    )
    .await?;
    let all = ["SELECT * FROM t ORDER BY id"];
    let chance = "UPDATE t SET a = a + 1, b = UUID() WHERE RAND() < 0.5";
    undone(&c, &[T, ROWS], &all, &[chance, chance, "DELETE FROM t WHERE RAND() < 0.5", chance]).await
}

async fn limits_without_an_order(c: Arc<Cluster>) -> Result<()> {
    let all = ["SELECT * FROM t ORDER BY id"];
    let statements = [
        "UPDATE t SET a = 0 LIMIT 2",
        "UPDATE t SET b = 'x' ORDER BY a LIMIT 3",
        "DELETE FROM t ORDER BY a DESC LIMIT 1",
        "DELETE FROM t LIMIT 2",
    ];
    undone(&c, &[T, ROWS], &all, &statements).await
}

async fn updates_of_keys(c: Arc<Cluster>) -> Result<()> {
    same(
        &c,
        &[
            "UPDATE t SET id = 100 WHERE id = 1",
            "UPDATE t SET id = id + 1 ORDER BY id DESC",
            "UPDATE t SET id = 5 WHERE id = 4",
            "UPDATE t SET id = id + 1 WHERE id < 6 ORDER BY id DESC",
            "UPDATE t SET a = 7, id = id - 1 WHERE id > 6",
        ],
    )
    .await
}

async fn matched_and_unchanged(c: Arc<Cluster>) -> Result<()> {
    same(
        &c,
        &[
            "UPDATE t SET a = 10 WHERE id = 1",
            "UPDATE t SET a = a WHERE id > 1",
            "UPDATE t SET b = NULL WHERE id IN (4, 5)",
            "UPDATE t SET a = 20 WHERE a = 20",
        ],
    )
    .await?;
    // CLIENT_FOUND_ROWS: found rows are counted where nothing changes
    let schema = c.schema("found").await?;
    sql::run_all(&mut c.direct(Bank::One, &schema).await?, &[T, ROWS]).await?;
    let options = c.app_options(Bank::One, &schema).client_found_rows(true);
    let mut app = sql::connect_with(options).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run(&mut app, "UPDATE t SET a = 20 WHERE a = 20").await?;
    ensure!(app.affected_rows() == 2, "{} rows were found", app.affected_rows());
    sql::run(&mut app, "UPDATE t SET a = 20 WHERE id < 4").await?;
    ensure!(app.affected_rows() == 3, "{} rows were found", app.affected_rows());
    roll_back(&c, &mut app, &xid).await?;
    ensure!(c.rows(Bank::One, &schema, "SELECT a FROM t WHERE id = 1").await? == ["10"]);
    Ok(())
}

async fn rows_that_were_there(c: Arc<Cluster>) -> Result<()> {
    let setup = [
        "CREATE TABLE t (id INT PRIMARY KEY, mail VARCHAR(20) UNIQUE, n INT)",
        "INSERT INTO t VALUES (1, 'a@x', 1), (2, 'b@x', 2), (3, NULL, 3)",
    ];
    check_queries(
        &c,
        &setup,
        &["t"],
        &[
            "INSERT IGNORE INTO t VALUES (1, 'z@x', 9), (4, 'd@x', 4), (5, 'a@x', 5)",
            "INSERT INTO t VALUES (2, 'q@x', 7) ON DUPLICATE KEY UPDATE n = n + VALUES(n)",
            // Hits a row by its other unique key
            "INSERT INTO t VALUES (77, 'a@x', 7) ON DUPLICATE KEY UPDATE n = 70",
            "REPLACE INTO t VALUES (3, 'c@x', 30)",
            // Takes two rows' places
            "REPLACE INTO t VALUES (1, 'b@x', 10)",
            "REPLACE INTO t VALUES (8, 'h@x', 8)",
            "INSERT INTO t VALUES (8, 'i@x', 1) ON DUPLICATE KEY UPDATE mail = 'j@x'",
        ],
    )
    .await
}

async fn generated_keys(c: Arc<Cluster>) -> Result<()> {
    let setup = [
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a INT)",
        "CREATE TABLE k (k VARCHAR(40) PRIMARY KEY, a INT)",
    ];
    check_queries(
        &c,
        &setup,
        &["t", "k"],
        &[
            "INSERT INTO t (a) VALUES (1), (2)",
            "INSERT INTO t VALUES (NULL, 3), (0, 4), (DEFAULT, 5)",
            "INSERT INTO t SET a = 6",
            "INSERT INTO t VALUES (50, 7)",
            "SET auto_increment_increment = 5",
            "INSERT INTO t (a) VALUES (8), (9)",
            "SET auto_increment_increment = 1",
            "INSERT INTO k VALUES (CONCAT('a', 1 + 1), 1), (UPPER('b'), 2)",
            "INSERT INTO k SELECT CONCAT('s', id), a FROM t WHERE id < 4",
            "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'",
            "INSERT INTO t VALUES (0, 10)",
            "SELECT LAST_INSERT_ID()",
        ],
    )
    .await
}

async fn more_than_a_table(c: Arc<Cluster>) -> Result<()> {
    let setup = [
        T,
        ROWS,
        "CREATE TABLE u (id INT PRIMARY KEY, a INT)",
        "INSERT INTO u VALUES (1, 1), (2, 2), (9, 9)",
        "CREATE TABLE p (id INT PRIMARY KEY, a INT) PARTITION BY HASH (id) PARTITIONS 3",
        "INSERT INTO p VALUES (1, 1), (2, 2), (3, 3)",
        "CREATE VIEW v AS SELECT id, a FROM t WHERE a < 50",
    ];
    let mut statements = vec![
        "UPDATE t JOIN u ON t.id = u.id SET t.b = 'joined', u.a = u.a + 10",
        "UPDATE t x JOIN t y ON x.id = y.id + 1 SET x.a = 5 WHERE y.id = 1",
        // The join's own column
        "UPDATE t JOIN u USING (id) SET t.a = 99 WHERE u.a > 11",
        "DELETE x FROM t x JOIN (SELECT MAX(id) AS m FROM u) d ON x.id = d.m - 4",
        "DELETE FROM t WHERE id IN (SELECT id FROM u WHERE a = 11)",
        "UPDATE LOW_PRIORITY p PARTITION (p1) SET a = 7",
        "DELETE QUICK FROM p WHERE id = 2",
        "/*M!999999\\- enable the sandbox mode */ UPDATE p SET a = 8 /*!999999 , id = 9 */ WHERE id = 1",
        "UPDATE v SET a = 8 WHERE id = 3",
        "UPDATE t SET a = (SELECT MAX(a) FROM u) WHERE id = 4",
    ];
    if c.flavor() == Flavor::MySql {
        statements
            .push("WITH w AS (SELECT id FROM u) UPDATE t SET b = 'with' WHERE id IN (SELECT id FROM w)");
    }
    check_queries(&c, &setup, &["t", "u", "p"], &statements).await
}

async fn without_a_primary_key(c: Arc<Cluster>) -> Result<()> {
    check_queries(
        &c,
        &["CREATE TABLE t (a INT NOT NULL, b INT, UNIQUE KEY (a))", "INSERT INTO t VALUES (1, 1), (2, 2)"],
        &["t"],
        &["UPDATE t SET b = 9", "DELETE FROM t WHERE a = 1", "INSERT INTO t VALUES (3, 3)"],
    )
    .await?;
    let schema = c.schema("keyless").await?;
    let setup = [
        "CREATE TABLE none (a INT)",
        "CREATE TABLE nulls (a INT, UNIQUE KEY (a))",
        "INSERT INTO none VALUES (1)",
        "INSERT INTO nulls VALUES (1)",
    ];
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(&mut direct, &["SET SESSION sql_mode = ''"]).await?;
    sql::run_all(&mut direct, &setup).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut app).await?;
    for table in ["none", "nulls"] {
        sql::refused(&mut app, format!("UPDATE {table} SET a = 2")).await?.expect(1235, "42000")?;
        sql::refused(&mut app, format!("DELETE FROM {table}")).await?.expect(1235, "42000")?;
    }
    Ok(())
}

async fn keys_of_every_type(c: Arc<Cluster>) -> Result<()> {
    for (key, values) in [
        ("VARCHAR(9) COLLATE utf8mb4_general_ci", ["'a'", "'B '", "'\u{e9}'"]),
        ("VARCHAR(9) COLLATE utf8mb4_bin", ["'a'", "'A'", "' '"]),
        ("VARBINARY(9)", ["'a'", "'a '", "0x00FF"]),
        ("DECIMAL(10,4)", ["1.5", "-0.0001", "99"]),
        ("DATETIME(6)", ["'2024-03-31 02:30:00.000001'", "'1000-01-01'", "'9999-12-31 23:59:59.999999'"]),
        ("BIT(9)", ["b'0'", "b'111111111'", "5"]),
        ("ENUM('a','b','')", ["'a'", "'b'", "''"]),
        ("BIGINT UNSIGNED", ["18446744073709551615", "0", "9223372036854775808"]),
        ("TIME(3)", ["'-838:59:59'", "'00:00:00.001'", "'12:00:00'"]),
    ] {
        let table = format!("CREATE TABLE t (k {key} NOT NULL, j INT NOT NULL, v INT, PRIMARY KEY (j, k))");
        let rows: Vec<String> = values.iter().map(|v| format!("INSERT INTO t VALUES ({v}, 1, 1)")).collect();
        let setup: Vec<&str> = [table.as_str()].into_iter().chain(rows.iter().map(String::as_str)).collect();
        let one = format!("DELETE FROM t WHERE j = 1 AND k = {}", values[0]);
        let again = format!("INSERT INTO t VALUES ({}, 2, 2)", values[1]);
        check_queries(
            &c,
            &setup,
            &["SELECT HEX(k), j, v FROM t ORDER BY 1, 2"],
            &["UPDATE t SET v = v + 1", &one, &again, "UPDATE t SET v = 7 WHERE j = 2", "DELETE FROM t"],
        )
        .await?;
    }
    Ok(())
}

async fn the_same_row_several_times(c: Arc<Cluster>) -> Result<()> {
    // In one branch
    same(
        &c,
        &[
            "BEGIN",
            "UPDATE t SET a = 1 WHERE id = 1",
            "UPDATE t SET a = a + 1, b = 'x' WHERE id = 1",
            "DELETE FROM t WHERE id = 1",
            "INSERT INTO t VALUES (1, 5, 'again', NULL)",
            "UPDATE t SET id = 11 WHERE id = 1",
            "INSERT INTO t (id) VALUES (6)",
            "DELETE FROM t WHERE id = 6",
            "COMMIT",
        ],
    )
    .await?;
    // In several branches of one transaction, and several sessions
    let schema = c.schema("branches").await?;
    sql::run_all(&mut c.direct(Bank::One, &schema).await?, &[T, ROWS]).await?;
    let before = c.rows(Bank::One, &schema, "SELECT * FROM t").await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    let mut other = c.app(Bank::One, &schema).await?;
    sql::run(&mut other, format!("SET @atone_xid = '{xid}'")).await?;
    sql::run(&mut app, "UPDATE t SET a = a + 1").await?;
    sql::run(&mut other, "DELETE FROM t WHERE id < 3").await?;
    sql::run(&mut app, "INSERT INTO t VALUES (1, 7, 'new', NULL)").await?;
    sql::run(&mut other, "UPDATE t SET id = id + 10 ORDER BY id DESC").await?;
    sql::run(&mut app, "DELETE FROM t").await?;
    roll_back(&c, &mut app, &xid).await?;
    let after = c.rows(Bank::One, &schema, "SELECT * FROM t").await?;
    ensure!(after == before, "before: {before:?}\nafter:  {after:?}");
    Ok(())
}

async fn changed_behind_the_statement(c: Arc<Cluster>) -> Result<()> {
    let setup = [
        "CREATE TABLE parent (id INT PRIMARY KEY, a INT, twice INT AS (a * 2) STORED, more INT AS (a + 1) VIRTUAL, \
         touched TIMESTAMP(6) NOT NULL DEFAULT '2020-01-01 00:00:00' ON UPDATE CURRENT_TIMESTAMP(6), hidden INT NULL INVISIBLE)",
        "CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE ON UPDATE CASCADE)",
        "CREATE TABLE other (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE SET NULL)",
        "INSERT INTO parent (id, a, hidden) VALUES (1, 1, 11), (2, 2, 22), (3, 3, NULL)",
        "INSERT INTO child VALUES (1, 1), (2, 1), (3, 2)",
        "INSERT INTO other VALUES (1, 1), (2, 3)",
    ];
    let shown = [
        "SELECT id, a, twice, more, UNIX_TIMESTAMP(touched), hidden FROM parent ORDER BY id",
        "SELECT * FROM child ORDER BY id",
        "SELECT * FROM other ORDER BY id",
    ];
    undone(
        &c,
        &setup,
        &shown,
        &[
            "UPDATE parent SET a = a + 1",
            "UPDATE parent SET hidden = 5 WHERE id = 2",
            "DELETE FROM parent WHERE id = 1",
            "DELETE FROM parent WHERE id = 3",
            "INSERT INTO parent (id, a, hidden) VALUES (9, 9, 9)",
        ],
    )
    .await
}

async fn what_can_not_be_undone(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("never").await?;
    let mut setup = vec![
        "CREATE TABLE t (id INT PRIMARY KEY, a INT)",
        "CREATE TABLE m (id INT PRIMARY KEY, a INT) ENGINE = MyISAM",
        "INSERT INTO t VALUES (1, 1)",
        "INSERT INTO m VALUES (1, 1)",
        "CREATE PROCEDURE wipe() MODIFIES SQL DATA DELETE FROM t",
        "CREATE FUNCTION grow() RETURNS INT MODIFIES SQL DATA BEGIN UPDATE t SET a = a + 1; RETURN 1; END",
    ];
    let mut refused = vec![
        "UPDATE m SET a = 2",
        "DELETE FROM m",
        "INSERT INTO m VALUES (2, 2)",
        "CALL wipe()",
        "SELECT grow()",
        "DO grow()",
        "UPDATE t SET a = grow()",
        "INSERT INTO t VALUES (grow() + 5, 1)",
    ];
    if c.flavor() == Flavor::MariaDb {
        setup.push("CREATE SEQUENCE numbers");
        setup.push("CREATE TABLE versions (id INT PRIMARY KEY, a INT) WITH SYSTEM VERSIONING");
        setup.push("INSERT INTO versions VALUES (1, 1)");
        refused.extend([
            "SELECT NEXTVAL(numbers)",
            "UPDATE versions SET a = 2",
            "DELETE HISTORY FROM versions",
        ]);
    }
    // Without SUPER rights a function is not made where there is a binary log; here there is none
    sql::run_all(&mut c.direct(Bank::One, &schema).await?, &setup).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    for statement in refused {
        let error = sql::refused(&mut app, statement).await?;
        // A right of its own, which the account does not have
        if !(statement.starts_with("DELETE HISTORY") && error.code == 1142) {
            error.expect(1235, "42000")?;
        }
    }
    for table in ["t", "m"] {
        let rows = c.rows(Bank::One, &schema, &format!("SELECT * FROM {table}")).await?;
        ensure!(rows == ["1|1"], "{table}: {rows:?}");
    }
    // A temporary table needs no undo: it ends with its session
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    sql::run(&mut app, "CREATE TEMPORARY TABLE mine (id INT PRIMARY KEY, a INT)").await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run_all(&mut app, &["INSERT INTO mine VALUES (1, 1)", "UPDATE mine SET a = 2"]).await?;
    roll_back(&c, &mut app, &xid).await?;
    ensure!(sql::rows(&mut app, "SELECT a FROM mine").await? == ["2"]);
    Ok(())
}

async fn implicit_commits(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("implicit").await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run_all(&mut app, &["BEGIN", "UPDATE account SET balance = 1 WHERE id = 1"]).await?;
    for statement in [
        "CREATE TABLE u (a INT)",
        "ALTER TABLE account ADD x INT",
        "DROP TABLE account",
        "TRUNCATE TABLE account",
        "LOCK TABLES account WRITE",
        "XA START 'a'",
        "ANALYZE TABLE account",
        "SET completion_type = 1",
    ] {
        sql::refused(&mut app, statement).await?.expect(1235, "42000")?;
    }
    // Still one local transaction: nothing of it has been committed
    ensure!(c.accounts(Bank::One, &schema).await?[0] == "1|ann|100");
    sql::run_all(&mut app, &["COMMIT AND CHAIN", "UPDATE account SET balance = 2 WHERE id = 2"]).await?;
    ensure!(c.accounts(Bank::One, &schema).await?[..2] == ["1|ann|1", "2|bob|100"]);
    sql::run(&mut app, "SET autocommit = 1").await?;
    roll_back(&c, &mut app, &xid).await?;
    ensure!(c.accounts(Bank::One, &schema).await? == ["1|ann|100", "2|bob|100", "3|NULL|100"]);
    Ok(())
}

async fn savepoints_and_failures(c: Arc<Cluster>) -> Result<()> {
    same(
        &c,
        &[
            "BEGIN",
            "UPDATE t SET a = 1 WHERE id = 1",
            "SAVEPOINT s",
            "UPDATE t SET a = 2 WHERE id = 1",
            "DELETE FROM t WHERE id = 2",
            "SAVEPOINT s2",
            "INSERT INTO t (id) VALUES (9)",
            "ROLLBACK TO s",
            "ROLLBACK TO s2",
            "UPDATE t SET b = 'after' WHERE id = 3",
            "RELEASE SAVEPOINT s",
            // Fails at its second row: the first is gone again, the local transaction goes on
            "INSERT INTO t (id) VALUES (7), (3)",
            "UPDATE t SET id = 5 WHERE id IN (3, 4) ORDER BY id",
            "UPDATE t SET a = 'no number'",
            "DELETE FROM t WHERE id = 4",
            "COMMIT",
            "BEGIN",
            "DELETE FROM t",
            "ROLLBACK",
            // Before the first statement of its transaction
            "SET autocommit = 0",
            "SAVEPOINT early",
            "DELETE FROM t",
            "ROLLBACK TO early",
            "UPDATE t SET a = 8 WHERE id = 5",
            "COMMIT",
            "SET autocommit = 1",
        ],
    )
    .await
}

async fn lock_wait_timeout_that_rolls_back(cluster: Harmable) -> Result<()> {
    let c = cluster.lock().await;
    let schema = c.bank_schema("timeout").await?;
    let mut outsider = c.direct(Bank::One, &schema).await?;
    sql::run_all(&mut outsider, &["BEGIN", "UPDATE account SET balance = 0 WHERE id = 3"]).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run_all(
        &mut app,
        &["SET innodb_lock_wait_timeout = 1", "BEGIN", "UPDATE account SET balance = 1 WHERE id = 1"],
    )
    .await?;
    let error = sql::refused(&mut app, "UPDATE account SET balance = 3 WHERE id = 3").await?;
    ensure!(error.code == 1205, "{error:?}");
    // The whole local transaction is gone, and with it its images
    sql::run(&mut outsider, "ROLLBACK").await?;
    sql::run_all(&mut app, &["UPDATE account SET balance = 2 WHERE id = 2", "COMMIT"]).await?;
    ensure!(c.accounts(Bank::One, &schema).await? == ["1|ann|100", "2|bob|2", "3|NULL|100"]);
    roll_back(&c, &mut app, &xid).await?;
    ensure!(c.accounts(Bank::One, &schema).await? == ["1|ann|100", "2|bob|100", "3|NULL|100"]);
    Ok(())
}
