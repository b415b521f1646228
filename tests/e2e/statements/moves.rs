//! UPDATEs of the columns that identify rows, and values of unique keys that change hands: a bound session does and
//! sees what a plain one does, and a rollback puts every row back under its own key.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use atone_tests::case::{Case, check, check_queries};
use atone_tests::effects::{e, q};
use atone_tests::run::Harmable;
use atone_tests::{Bank, Cluster, ClusterOptions, Flavor, cluster::SOON, sql, wait};

atone_tests::shared_tests!(
    integers,
    several_statements_of_a_branch,
    strings,
    composite,
    other_types,
    with_ignore,
    unique_values_that_change_hands,
    prepared,
    refused_before_they_run,
    taken_back_where_a_key_is_stored_otherwise,
    a_row_of_others_at_a_key_that_was_foreseen,
);

/// Servers on which everybody sees everything, unless they say otherwise.
fn dirty() -> ClusterOptions {
    let option = "--transaction-isolation=READ-UNCOMMITTED".to_owned();
    ClusterOptions { server_options: vec![option], ..ClusterOptions::default() }
}

atone_tests::owned_tests!(dirty() => where_everybody_sees_everything);

/// A session's own rows are told from those of others by what others have committed.
async fn where_everybody_sees_everything(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let child =
        "CREATE TABLE c (id INT PRIMARY KEY, t INT, FOREIGN KEY (t) REFERENCES t (id) ON UPDATE CASCADE)";
    let numbered = "CREATE TABLE n (id INT AUTO_INCREMENT PRIMARY KEY, a INT)";
    let statements = [
        "UPDATE t SET id = id + 100",
        "INSERT INTO t VALUES ('7.0', 1, 'x')",
        "INSERT INTO n (a) SELECT a FROM t",
        "UPDATE t SET id = 1 WHERE id = 101",
    ];
    let setup = [T, ROWS, child, "INSERT INTO c VALUES (1, 1)", numbered];
    check_queries(c, &setup, &["t", "c", "n"], &statements).await
}

const T: &str = "CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(20), UNIQUE (b), KEY (a))";
const ROWS: &str =
    "INSERT INTO t VALUES (1, 10, 'one'), (2, 20, 'two'), (3, 30, 'three'), (4, 40, NULL), (5, 50, NULL)";

async fn integers(c: Arc<Cluster>) -> Result<()> {
    for statements in [
        &["UPDATE t SET id = 9 WHERE id = 1", "SELECT ROW_COUNT()"][..],
        &["UPDATE t SET id = id + 1 ORDER BY id DESC"],
        &["UPDATE t SET id = id + 1 WHERE id >= 3 ORDER BY id DESC LIMIT 3"],
        &["UPDATE t SET id = id - 1 ORDER BY id", "SHOW WARNINGS"],
        &["UPDATE t SET id = id + 100, a = id, b = CONCAT(b, id)"],
        &["UPDATE t AS x SET x.id = -x.id WHERE x.b IS NOT NULL"],
        // Something is in the way
        &["UPDATE t SET id = 2 WHERE id = 1", "UPDATE t SET id = id + 1", "UPDATE t SET id = 7 WHERE id > 3"],
        // Nothing changes, nothing matches
        &["UPDATE t SET id = id", "UPDATE t SET id = 3 WHERE id = 3", "UPDATE t SET id = 3 WHERE a = 99"],
        // What the server converts
        &["UPDATE t SET id = '12' WHERE id = 1", "UPDATE t SET id = a / 3 WHERE id = 2"],
        &["UPDATE t SET id = id * 1.5 WHERE id = 3", "UPDATE t SET id = -2.5 WHERE id = 2"],
        &[
            "UPDATE t SET id = NULL WHERE id = 1",
            "UPDATE t SET id = 'x' WHERE id = 1",
            "UPDATE t SET id = 1e20",
        ],
        &["UPDATE t SET id = (SELECT MAX(n) FROM (SELECT 77 AS n) d) WHERE id = 2"],
        &["SET @new = 70", "UPDATE t SET id = @new WHERE a = 20"],
        &["UPDATE t SET id = id + 10 WHERE a > 10 + 0 * RAND()"],
        &[
            "UPDATE t SET id = 8 WHERE nosuch = 1",
            "UPDATE t SET id = nosuch",
            "UPDATE t SET id = 8, nosuch = 1",
        ],
    ] {
        check_queries(&c, &[T, ROWS], &["t"], statements).await?;
    }
    Ok(())
}

async fn several_statements_of_a_branch(c: Arc<Cluster>) -> Result<()> {
    for statements in [
        // Two rows change places
        &[
            "BEGIN",
            "UPDATE t SET id = 99 WHERE id = 1",
            "UPDATE t SET id = 1 WHERE id = 2",
            "UPDATE t SET id = 2 WHERE id = 99",
            "COMMIT",
        ][..],
        // There and back
        &["BEGIN", "UPDATE t SET id = 9 WHERE id = 1", "UPDATE t SET id = 1 WHERE id = 9", "COMMIT"],
        &[
            "BEGIN",
            "INSERT INTO t VALUES (6, 60, 'six')",
            "UPDATE t SET id = 7 WHERE id = 6",
            "UPDATE t SET a = 61 WHERE id = 7",
            "DELETE FROM t WHERE id = 7",
            "COMMIT",
        ],
        &[
            "BEGIN",
            "DELETE FROM t WHERE id = 1",
            "UPDATE t SET id = 1, b = 'one' WHERE id = 2",
            "INSERT INTO t VALUES (2, 22, 'two')",
            "COMMIT",
        ],
        &[
            "BEGIN",
            "UPDATE t SET a = 11 WHERE id = 1",
            "SAVEPOINT s",
            "UPDATE t SET id = id + 1 ORDER BY id DESC",
            "UPDATE t SET a = a + 1",
            "ROLLBACK TO s",
            "UPDATE t SET id = 6 WHERE id = 1",
            "SAVEPOINT s2",
            "UPDATE t SET id = 1 WHERE id = 6",
            "DELETE FROM t WHERE id = 1",
            "ROLLBACK TO s2",
            "COMMIT",
        ],
        &[
            "BEGIN",
            "UPDATE t SET id = id + 1 ORDER BY id DESC",
            "UPDATE t SET id = id + 1 ORDER BY id DESC",
            "UPDATE t SET id = id - 2 ORDER BY id",
            "COMMIT",
        ],
        // Each a branch of its own
        &[
            "UPDATE t SET id = 6 WHERE id = 1",
            "UPDATE t SET id = 1 WHERE id = 2",
            "UPDATE t SET id = 2 WHERE id = 6",
            "DELETE FROM t WHERE id = 1",
        ],
    ] {
        check_queries(&c, &[T, ROWS], &["t"], statements).await?;
    }
    Ok(())
}

async fn strings(c: Arc<Cluster>) -> Result<()> {
    let rows = "INSERT INTO t VALUES ('a', 1), ('b', 2), ('é', 3), ('d ', 4)";
    for column in [
        "VARCHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
        "VARCHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        "CHAR(10) CHARACTER SET latin1",
        "VARCHAR(10) CHARACTER SET utf16",
    ] {
        let table = format!("CREATE TABLE t (id {column} PRIMARY KEY, v INT)");
        for statements in [
            // The same key to a collation that folds case, spelled otherwise
            &["UPDATE t SET id = UPPER(id)", "UPDATE t SET v = 9 WHERE id = 'A'"][..],
            &["BEGIN", "UPDATE t SET id = 'A' WHERE id = 'a'", "UPDATE t SET id = 'a' WHERE v = 1", "COMMIT"],
            &["BEGIN", "UPDATE t SET id = 'A' WHERE v = 1", "DELETE FROM t WHERE id = 'A'", "COMMIT"],
            &["BEGIN", "UPDATE t SET v = 5 WHERE v = 1", "UPDATE t SET id = 'A' WHERE v = 5", "COMMIT"],
            &["UPDATE t SET id = CONCAT(id, 'x') WHERE v < 3", "UPDATE t SET id = 'dé' WHERE v = 4"],
            &["UPDATE t SET id = CONCAT(id, '  ') WHERE v = 2", "SHOW WARNINGS"],
            &["UPDATE t SET id = 'longer than ten' WHERE v = 2", "UPDATE t SET id = 12 WHERE v = 1"],
            &["UPDATE t SET id = 'A' WHERE v = 2"],
        ] {
            check_queries(&c, &[&table, rows], &["SELECT HEX(id), v FROM t ORDER BY v"], statements)
                .await
                .with_context(|| column.to_owned())?;
        }
    }
    Ok(())
}

async fn composite(c: Arc<Cluster>) -> Result<()> {
    let setup = [
        "CREATE TABLE t (a INT, b VARCHAR(20), c DATE, v INT, PRIMARY KEY (c, b, a))",
        "INSERT INTO t VALUES (1, 'x', '2024-02-29', 1), (1, 'y', '2024-02-29', 2), (2, 'x,1', '2024-02-29', 3), \
         (2, 'x', '2024-03-01', 4)",
    ];
    for statements in [
        &["UPDATE t SET b = 'z' WHERE a = 1 AND b = 'y' AND c = '2024-02-29'"][..],
        &["UPDATE t SET c = c + INTERVAL 1 YEAR, a = a + 10 WHERE b LIKE 'x%'"],
        &["UPDATE t SET v = a, b = CONCAT(b, '!') WHERE c = '2024-02-29' AND b = 'x' AND a = 1"],
        &["BEGIN", "UPDATE t SET a = a + 1 ORDER BY a DESC", "DELETE FROM t WHERE a = 3", "COMMIT"],
        &["UPDATE t SET b = 'x' WHERE b = 'y'"],
    ] {
        check_queries(&c, &setup, &["t"], statements).await?;
    }
    Ok(())
}

async fn other_types(c: Arc<Cluster>) -> Result<()> {
    for (column, first, second) in [
        ("BIGINT UNSIGNED", "18446744073709551614", "id + 1"),
        ("TINYINT", "-128", "127"),
        ("DECIMAL(10,3)", "1.250", "id * 2.0001"),
        ("DATE", "'2024-02-29'", "id + INTERVAL 1 DAY"),
        ("DATETIME(3)", "'2024-02-29 23:59:59.999'", "id + INTERVAL 1 SECOND"),
        ("TIMESTAMP", "'2024-02-29 23:59:59'", "'2024-10-27 02:30:00'"),
        ("TIME(1)", "'-800:00:00.5'", "'12:00'"),
        ("YEAR", "1999", "id + 1"),
        ("BINARY(4)", "'ab'", "'abc'"),
        ("VARBINARY(16)", "X'00FF'", "UNHEX('0001FE')"),
        ("BIT(12)", "b'101'", "id + 1"),
        ("ENUM('one','two')", "'one'", "'TWO'"),
        // What is no text can't be a key
        ("ENUM('one','two')", "'one'", "b'1111111111111'"),
        ("ENUM('one','two') CHARACTER SET utf8mb4", "'one'", "UNHEX('1FFF')"),
        ("DOUBLE", "0.1", "id + 0.2"),
    ] {
        let setup = [
            format!("CREATE TABLE t (id {column} PRIMARY KEY, v INT)"),
            format!("INSERT INTO t VALUES ({first}, 1)"),
        ];
        let setup: Vec<&str> = setup.iter().map(String::as_str).collect();
        let update = format!("UPDATE t SET id = {second}");
        check_queries(&c, &setup, &["SELECT HEX(id), id + 0, v FROM t"], &[&update]).await.context(column)?;
    }
    Ok(())
}

async fn with_ignore(c: Arc<Cluster>) -> Result<()> {
    for statements in [
        &["UPDATE IGNORE t SET id = 3 WHERE a > 10 ORDER BY id", "SHOW WARNINGS"][..],
        &["UPDATE IGNORE t SET id = id + 1 ORDER BY id", "SHOW WARNINGS"],
        &["UPDATE IGNORE t SET id = id + 2 WHERE id <> 3 ORDER BY id"],
        &["UPDATE IGNORE t SET id = id + 10, b = 'same' ORDER BY id", "SHOW WARNINGS"],
    ] {
        check_queries(&c, &[T, ROWS], &["t"], statements).await?;
    }
    Ok(())
}

/// Values of a further unique key go from row to row, or rows of a unique value change their keys.
async fn unique_values_that_change_hands(c: Arc<Cluster>) -> Result<()> {
    for statements in [
        &[
            "BEGIN",
            "UPDATE t SET b = NULL WHERE id = 1",
            "UPDATE t SET b = 'one' WHERE id = 2",
            "UPDATE t SET b = 'two' WHERE id = 1",
            "COMMIT",
        ][..],
        &[
            "BEGIN",
            "UPDATE t SET b = 'x' WHERE id = 1",
            "UPDATE t SET b = 'one' WHERE id = 2",
            "UPDATE t SET b = 'two' WHERE id = 3",
            "UPDATE t SET b = 'three' WHERE id = 1",
            "UPDATE t SET id = id + 1 ORDER BY id DESC",
            "COMMIT",
        ],
        // In several branches
        &[
            "UPDATE t SET b = NULL WHERE id = 1",
            "UPDATE t SET b = 'one' WHERE id = 2",
            "UPDATE t SET b = 'two', id = 20 WHERE id = 1",
            "INSERT INTO t VALUES (1, 0, 'new')",
        ],
        &["BEGIN", "DELETE FROM t WHERE b = 'one'", "UPDATE t SET b = 'one', id = 1 WHERE id = 3", "COMMIT"],
    ] {
        check_queries(&c, &[T, ROWS], &["t"], statements).await?;
    }
    Ok(())
}

async fn prepared(c: Arc<Cluster>) -> Result<()> {
    let steps = vec![
        e("UPDATE t SET id = ? WHERE id = ?", &[&11, &1]),
        e("UPDATE t SET id = id + ?, a = ? WHERE b = ?", &[&20, &7, &"two"]),
        e("UPDATE t SET id = ? WHERE id = ?", &[&"33", &3]),
        e("UPDATE t SET id = ? WHERE id = ?", &[&5, &4]),
        q("BEGIN"),
        e("UPDATE t SET id = -id WHERE id > ? ORDER BY id", &[&0]),
        q("COMMIT"),
    ];
    check(&c, Case { name: "prepared", setup: &[T, ROWS], tables: &["t"], steps }).await
}

async fn refused_before_they_run(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("refused").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(&mut direct, &[T, ROWS]).await?;
    let before = c.rows(Bank::One, &schema, "SELECT * FROM t").await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    let default = ("UPDATE t SET id = DEFAULT WHERE id = 1", "takes its default");
    let of_server = c.flavor() == Flavor::MariaDb;
    if of_server {
        // It has the error when it prepares the statement
        check_queries(&c, &[T, ROWS], &["t"], &[default.0]).await?;
    }
    for (statement, why) in [
        ("UPDATE t SET id = 100 * RAND()", "may differ each time"),
        ("UPDATE t SET id = UNIX_TIMESTAMP() WHERE id = 1", "may differ each time"),
        ("UPDATE t SET id = (@n := 7) WHERE id = 1", "the statement assigns one"),
        ("UPDATE t SET a = (@n := 7), id = @n WHERE id = 1", "the statement assigns one"),
        ("UPDATE t SET a = 5, id = a + 50", "is assigned from a, which is assigned too"),
        ("UPDATE t SET id = 7, id = 8 WHERE id = 1", "twice"),
        ("UPDATE t SET id = LAST_INSERT_ID(id + 100)", "may differ each time"),
    ]
    .into_iter()
    .chain((!of_server).then_some(default))
    {
        let error = sql::refused(&mut app, statement).await?;
        error.expect_naming(1235, "42000", &xid).with_context(|| statement.to_owned())?;
        assert!(error.message.contains(why), "{statement}: {}", error.message);
        assert_eq!(c.rows(Bank::One, &schema, "SELECT * FROM t").await?, before, "{statement}");
    }
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await
}

/// A key that the server stores as another value than was foreseen: the statement leaves nothing behind.
async fn taken_back_where_a_key_is_stored_otherwise(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("otherwise").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    let table = "CREATE TABLE f (id FLOAT PRIMARY KEY, v INT)";
    sql::run_all(&mut direct, &[table, "INSERT INTO f VALUES (1, 1)", T, ROWS]).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run(&mut app, "UPDATE t SET id = 8 WHERE id = 2").await?;
    for begins in [false, true] {
        if begins {
            sql::run_all(&mut app, &["BEGIN", "UPDATE t SET id = 9 WHERE id = 3"]).await?;
        }
        // 0.1 is not what a FLOAT holds
        let error = sql::refused(&mut app, "UPDATE f SET id = 0.1").await?;
        error.expect_naming(1235, "42000", &xid)?;
        assert!(error.message.contains("stores a row's key as another value"), "{}", error.message);
        assert_eq!(sql::cell(&mut app, "SELECT id FROM f").await?, "1");
        if begins {
            // What the local transaction did before is still there
            assert_eq!(sql::cell(&mut app, "SELECT COUNT(*) FROM t WHERE id = 9").await?, "1");
            sql::run(&mut app, "COMMIT").await?;
        }
    }
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &schema).await?;
    assert_eq!(c.rows(Bank::One, &schema, "SELECT id FROM t ORDER BY id").await?, ["1", "2", "3", "4", "5"]);
    Ok(())
}

/// The key is stored otherwise than foreseen, and meanwhile another session has committed a row just there: as many
/// rows are found as there must be, and one of them is not the statement's.
async fn a_row_of_others_at_a_key_that_was_foreseen(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("foreseen").await?;
    let mut other = c.direct(Bank::One, &schema).await?;
    let mut admin = c.server(Bank::One).connect(atone_tests::server::ADMIN, Some(&schema)).await?;
    sql::run_all(
        &mut admin,
        &[
            // 2 is the second member, not the one of that name
            "CREATE TABLE t (k ENUM('x', 'b', '2') PRIMARY KEY, v INT)",
            "INSERT INTO t VALUES ('x', 1)",
            "CREATE TRIGGER gate BEFORE UPDATE ON t FOR EACH ROW SET @gate = GET_LOCK('foreseen', 60)",
        ],
    )
    .await?;
    sql::run(&mut other, "DO GET_LOCK('foreseen', 0)").await?;
    let mut app = c.app(Bank::One, &schema).await?;
    sql::run(&mut app, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
    let xid = sql::start_global(&mut app).await?;
    let id = sql::cell(&mut app, "SELECT CONNECTION_ID()").await?;
    let update = tokio::spawn(async move {
        let error = sql::refused(&mut app, "UPDATE t SET k = 2 WHERE k = 'x'").await;
        error.map(|error| (app, error))
    });
    let waiting = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {id} AND STATE = 'User lock'"
    );
    wait::until("the UPDATE waits in its trigger", SOON, || async {
        let mut admin = c.server(Bank::One).connect(atone_tests::server::ADMIN, None).await?;
        Ok((sql::cell(&mut admin, &waiting).await? == "1").then_some(()))
    })
    .await?;
    sql::run_all(&mut other, &["INSERT INTO t VALUES ('2', 9)", "DO RELEASE_LOCK('foreseen')"]).await?;
    let (mut app, error) = update.await??;
    error.expect_naming(1235, "42000", &xid)?;
    sql::run(&mut app, "COMMIT GLOBAL TRANSACTION").await?;
    assert_eq!(c.rows(Bank::One, &schema, "SELECT * FROM t ORDER BY k").await?, ["x|1", "2|9"]);
    Ok(())
}
