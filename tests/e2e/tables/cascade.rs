//! Rows that foreign keys change along with a statement are captured with it: CASCADE and SET NULL, to any depth.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use atone_tests::case::check_queries;
use atone_tests::cluster::SOON;
use atone_tests::{Bank, Cluster, Flavor, sql, wait};

atone_tests::shared_tests!(
    deletes,
    updates,
    upserts,
    deep,
    cycles_and_diamonds,
    checks_off,
    keys_of_every_kind,
    error_values_of_enums,
    rows_that_change_their_key,
    children_are_locked,
    children_that_come_meanwhile,
    refused,
    triggers_of_children,
);

const FAMILY: &[&str] = &[
    "CREATE TABLE p (id INT PRIMARY KEY, u VARCHAR(20) COLLATE utf8mb4_general_ci UNIQUE, n INT)",
    "CREATE TABLE gone (id INT PRIMARY KEY, p INT, v INT, FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)",
    "CREATE TABLE nulled (id INT PRIMARY KEY, p INT, v INT, ts TIMESTAMP(6) NOT NULL DEFAULT '2020-01-01 00:00:00' \
     ON UPDATE CURRENT_TIMESTAMP(6), FOREIGN KEY (p) REFERENCES p (id) ON DELETE SET NULL)",
    "CREATE TABLE named (id INT PRIMARY KEY, pu VARCHAR(20) COLLATE utf8mb4_general_ci, \
     FOREIGN KEY (pu) REFERENCES p (u) ON UPDATE CASCADE ON DELETE SET NULL)",
    "CREATE TABLE forgot (id INT PRIMARY KEY, pu VARCHAR(20) COLLATE utf8mb4_general_ci, \
     FOREIGN KEY (pu) REFERENCES p (u) ON UPDATE SET NULL ON DELETE CASCADE)",
    "CREATE TABLE kept (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (id))",
    "CREATE TABLE grand (id INT PRIMARY KEY, g INT, FOREIGN KEY (g) REFERENCES gone (id) ON DELETE CASCADE)",
    "INSERT INTO p VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (4, NULL, 4)",
    "INSERT INTO gone VALUES (10, 1, 0), (11, 1, 1), (20, 2, 2), (30, NULL, 3)",
    "INSERT INTO nulled (id, p, v) VALUES (10, 1, 0), (11, 1, 1), (20, 2, 2), (30, NULL, 3)",
    "INSERT INTO named VALUES (1, 'A'), (2, 'b'), (3, NULL)",
    "INSERT INTO forgot VALUES (1, 'a'), (2, 'B'), (3, NULL)",
    "INSERT INTO kept VALUES (1, 3)",
    "INSERT INTO grand VALUES (100, 10), (101, 10), (102, 11), (200, 20), (300, 30)",
];
const FAMILY_TABLES: &[&str] = &["p", "gone", "nulled", "named", "forgot", "kept", "grand"];

/// MySQL 9.7 fires them for what foreign keys change, where a session wants it.
async fn triggers_of_children(c: Arc<Cluster>) -> Result<()> {
    if c.flavor() == Flavor::MariaDb {
        return Ok(());
    }
    let schema = c.schema("fired").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(&mut direct, FAMILY).await?;
    sql::run_all(
        &mut direct,
        &[
            "CREATE TABLE counted (n INT)",
            "INSERT INTO counted VALUES (0)",
            "CREATE TRIGGER behind AFTER DELETE ON gone FOR EACH ROW UPDATE counted SET n = n + 1",
        ],
    )
    .await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run(&mut app, "DELETE FROM p WHERE id = 1").await?;
    sql::run(&mut app, "SET enable_cascade_triggers = 1").await?;
    let error = sql::refused(&mut app, "DELETE FROM p WHERE id = 2").await?;
    error.expect_naming(1235, "42000", &xid)?;
    // Nobody refers to it
    sql::run(&mut app, "DELETE FROM p WHERE id = 4").await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.rows(Bank::One, &schema, "SELECT n FROM counted").await?, ["0"]);
    assert_eq!(c.rows(Bank::One, &schema, "SELECT COUNT(*) FROM gone").await?, ["4"]);
    Ok(())
}

async fn family(c: &Cluster, statements: &[&str]) -> Result<()> {
    check_queries(c, FAMILY, FAMILY_TABLES, statements).await
}

async fn deletes(c: Arc<Cluster>) -> Result<()> {
    for statements in [
        &["DELETE FROM p WHERE id = 1", "SELECT ROW_COUNT()"][..],
        &["DELETE FROM p WHERE id IN (1, 2, 4)"],
        &["DELETE FROM p WHERE n < 3 ORDER BY n LIMIT 1"],
        // A child that may not lose its parent
        &["DELETE FROM p", "DELETE FROM p WHERE id = 3", "DELETE FROM p WHERE id = 1"],
        // Nobody refers to it
        &["DELETE FROM p WHERE id = 4", "DELETE FROM p WHERE id = 99"],
        &["DELETE FROM gone", "DELETE FROM p WHERE id = 1"],
        &[
            "SET timestamp = 1700000000",
            "BEGIN",
            "UPDATE gone SET v = 7 WHERE id = 10",
            "INSERT INTO gone VALUES (12, 1, 5)",
            "DELETE FROM p WHERE id = 1",
            "INSERT INTO p VALUES (1, 'a', 9)",
            "INSERT INTO gone VALUES (10, 1, 0)",
            "UPDATE nulled SET p = 1 WHERE id = 11",
            "COMMIT",
        ],
        &[
            "BEGIN",
            "UPDATE p SET n = 5 WHERE id = 1",
            "SAVEPOINT s",
            "DELETE FROM p WHERE id = 1",
            "ROLLBACK TO s",
            "DELETE FROM p WHERE id = 2",
            "COMMIT",
        ],
        &["BEGIN", "DELETE FROM p WHERE id = 1", "ROLLBACK", "DELETE FROM p WHERE id = 2"],
    ] {
        family(&c, statements).await?;
    }
    Ok(())
}

async fn updates(c: Arc<Cluster>) -> Result<()> {
    for statements in [
        &["UPDATE p SET u = 'new' WHERE id = 1"][..],
        &["UPDATE p SET u = CONCAT(u, '2'), n = n + 1"],
        &["UPDATE p SET u = NULL WHERE id = 2"],
        // Nothing that anybody refers to
        &["UPDATE p SET n = 9", "UPDATE p SET n = 10 WHERE id = 1"],
        // The same value, or one that only looks different
        &["UPDATE p SET u = 'a' WHERE id = 1"],
        &["UPDATE p SET u = 'A' WHERE id = 1"],
        &["UPDATE p SET u = 'b' WHERE id = 1"],
        &[
            "UPDATE p SET u = 'x' WHERE id = 1",
            "UPDATE p SET u = 'a' WHERE id = 1",
            "DELETE FROM p WHERE id = 1",
        ],
        &["BEGIN", "UPDATE p SET u = 'x' WHERE id = 1", "DELETE FROM p WHERE u = 'x'", "COMMIT"],
    ] {
        family(&c, statements).await?;
    }
    Ok(())
}

async fn upserts(c: Arc<Cluster>) -> Result<()> {
    for statements in [
        &["REPLACE INTO p VALUES (1, 'a', 9)", "SHOW WARNINGS", "REPLACE INTO p VALUES (7, 'q', 1)"][..],
        &["REPLACE INTO p VALUES (1, 'b', 9)"],
        &["REPLACE INTO p (id, u) VALUES (9, 'B'), (8, 'x')"],
        // A child that may not lose its parent
        &["REPLACE INTO p VALUES (3, 'c', 9)", "REPLACE INTO p VALUES (1, 'a', 1)"],
        &["REPLACE INTO p SELECT id, u, n + 1 FROM p WHERE id IN (1, 2)"],
        &["INSERT INTO p VALUES (1, 'x', 9) ON DUPLICATE KEY UPDATE u = VALUES(u), n = 5"],
        &["INSERT INTO p VALUES (9, 'a', 9), (10, 'y', 1) ON DUPLICATE KEY UPDATE u = CONCAT(u, '2')"],
        &["INSERT INTO p VALUES (1, 'x', 9) ON DUPLICATE KEY UPDATE n = n + 1", "DELETE FROM p WHERE id = 1"],
        &["INSERT IGNORE INTO p VALUES (1, 'x', 9), (11, 'b', 1), (12, 'z', 1)"],
        &["SET foreign_key_checks = 0", "REPLACE INTO p VALUES (1, 'new', 9)"],
    ] {
        family(&c, statements).await?;
    }
    Ok(())
}

async fn deep(c: Arc<Cluster>) -> Result<()> {
    let mut setup = vec![
        "CREATE TABLE l0 (id INT PRIMARY KEY, v INT)".to_owned(),
        "INSERT INTO l0 VALUES (1, 1), (2, 2)".to_owned(),
    ];
    let mut tables = vec!["l0".to_owned()];
    for n in 1..=6 {
        let above = n - 1;
        setup.push(format!(
            "CREATE TABLE l{n} (id INT PRIMARY KEY, up INT, v INT, FOREIGN KEY (up) REFERENCES l{above} (id) \
             ON DELETE {} ON UPDATE CASCADE)",
            if n == 5 { "SET NULL" } else { "CASCADE" }
        ));
        setup.push(format!("INSERT INTO l{n} VALUES (1, 1, {n}), (2, 2, {n}), (3, 1, {n})"));
        tables.push(format!("l{n}"));
    }
    let setup: Vec<&str> = setup.iter().map(String::as_str).collect();
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    check_queries(&c, &setup, &tables, &["DELETE FROM l0 WHERE id = 1"]).await?;
    check_queries(&c, &setup, &tables, &["DELETE FROM l0"]).await?;
    // Deeper than the servers go: an error, and nothing has changed
    let chain = &[
        "CREATE TABLE s (id INT PRIMARY KEY, up INT, FOREIGN KEY (up) REFERENCES s (id) ON DELETE CASCADE)",
        "INSERT INTO s VALUES (1, NULL), (2, 1), (3, 2), (4, 3), (5, 4), (6, 5), (7, 6), (8, 7), (9, 8), (10, 9), \
         (11, 10), (12, 11), (13, 12), (14, 13), (15, 14), (16, 15), (17, 16), (18, 17)",
    ];
    check_queries(&c, chain, &["s"], &["DELETE FROM s WHERE id = 1", "DELETE FROM s WHERE id = 9"]).await
}

async fn cycles_and_diamonds(c: Arc<Cluster>) -> Result<()> {
    let tree = &[
        "CREATE TABLE s (id INT PRIMARY KEY, up INT, v INT, FOREIGN KEY (up) REFERENCES s (id) ON DELETE CASCADE)",
        "INSERT INTO s VALUES (1, 1, 0), (2, 1, 0), (3, 2, 0), (4, 2, 0), (5, NULL, 0), (6, 5, 0)",
    ];
    for statements in [
        &["DELETE FROM s WHERE id = 1"][..],
        &["DELETE FROM s WHERE id = 2", "DELETE FROM s WHERE id = 1"],
        &["DELETE FROM s WHERE up = 1", "DELETE FROM s"],
        &["DELETE FROM s WHERE id IN (2, 3, 5) ORDER BY id DESC"],
    ] {
        check_queries(&c, tree, &["s"], statements).await?;
    }
    let nulling = &[
        "CREATE TABLE s (id INT PRIMARY KEY, up INT, v INT, FOREIGN KEY (up) REFERENCES s (id) ON DELETE SET NULL)",
        "INSERT INTO s VALUES (1, NULL, 0), (2, 1, 0), (3, 2, 0), (4, 2, 0)",
    ];
    for statements in [
        &["DELETE FROM s WHERE id = 1"][..],
        &["DELETE FROM s WHERE id IN (1, 2)"],
        &["DELETE FROM s WHERE id = 1 OR up = 1"],
        &["DELETE FROM s"],
    ] {
        check_queries(&c, nulling, &["s"], statements).await?;
    }
    let circle = &[
        "CREATE TABLE a (id INT PRIMARY KEY, b INT, v INT)",
        "CREATE TABLE b (id INT PRIMARY KEY, a INT, v INT, FOREIGN KEY (a) REFERENCES a (id) ON DELETE CASCADE)",
        "INSERT INTO a VALUES (1, 1, 0), (2, 2, 0), (3, NULL, 0)",
        "INSERT INTO b VALUES (1, 1, 0), (2, 3, 0), (3, 1, 0)",
        "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b (id) ON DELETE CASCADE",
    ];
    for statements in
        [&["DELETE FROM a WHERE id = 1"][..], &["DELETE FROM a WHERE id = 3"], &["DELETE FROM b"]]
    {
        check_queries(&c, circle, &["a", "b"], statements).await?;
    }
    let diamond = &[
        "CREATE TABLE top (id INT PRIMARY KEY)",
        "CREATE TABLE l (id INT PRIMARY KEY, t INT, FOREIGN KEY (t) REFERENCES top (id) ON DELETE CASCADE)",
        "CREATE TABLE r (id INT PRIMARY KEY, t INT, FOREIGN KEY (t) REFERENCES top (id) ON DELETE CASCADE)",
        "CREATE TABLE bottom (id INT PRIMARY KEY, l INT, r INT, FOREIGN KEY (l) REFERENCES l (id) ON DELETE CASCADE, \
         FOREIGN KEY (r) REFERENCES r (id) ON DELETE SET NULL)",
        "INSERT INTO top VALUES (1), (2)",
        "INSERT INTO l VALUES (1, 1), (2, 2)",
        "INSERT INTO r VALUES (1, 1), (2, 2)",
        "INSERT INTO bottom VALUES (1, 1, 1), (2, 1, 2), (3, 2, 1), (4, 2, 2), (5, NULL, 1)",
    ];
    for statements in [&["DELETE FROM top WHERE id = 1"][..], &["DELETE FROM top"]] {
        check_queries(&c, diamond, &["top", "l", "r", "bottom"], statements).await?;
    }
    Ok(())
}

async fn checks_off(c: Arc<Cluster>) -> Result<()> {
    family(
        &c,
        &[
            "SET foreign_key_checks = 0",
            "DELETE FROM p WHERE id = 1",
            "UPDATE p SET u = 'x' WHERE id = 2",
            "SET foreign_key_checks = 1",
            "DELETE FROM p WHERE id = 2",
        ],
    )
    .await
}

async fn keys_of_every_kind(c: Arc<Cluster>) -> Result<()> {
    for (kind, one, other) in [
        ("VARCHAR(20) COLLATE utf8mb4_general_ci", "'Käse'", "'KASE  '"),
        ("CHAR(10) COLLATE utf8mb4_bin", "'x'", "'x'"),
        ("VARBINARY(10)", "0x00FF", "0x00FF"),
        ("DECIMAL(20,5)", "1.50000", "1.5"),
        ("BIGINT UNSIGNED", "18446744073709551615", "18446744073709551615"),
        ("DATETIME(6)", "'2024-02-29 12:00:00.5'", "'2024-02-29 12:00:00.500000'"),
        ("TIMESTAMP", "'2024-10-27 02:30:00'", "'2024-10-27 02:30:00'"),
        ("ENUM('a', 'b')", "'b'", "'b'"),
        ("DATE", "'2024-02-29'", "'2024-02-29'"),
        ("DOUBLE", "0.1", "0.1"),
    ] {
        let parent =
            format!("CREATE TABLE p (k {kind} NOT NULL, v INT, PRIMARY KEY (k, v), UNIQUE KEY (v, k))");
        let child = format!(
            "CREATE TABLE c (id INT PRIMARY KEY, k {kind}, v INT, FOREIGN KEY (k, v) REFERENCES p (k, v) \
             ON DELETE CASCADE, FOREIGN KEY (v, k) REFERENCES p (v, k) ON DELETE CASCADE)"
        );
        let rows = format!("INSERT INTO p VALUES ({one}, 1), ({one}, 2)");
        let children =
            format!("INSERT INTO c VALUES (1, {other}, 1), (2, {one}, 2), (3, NULL, 1), (4, {other}, NULL)");
        let setup = &[parent.as_str(), &child, &rows, &children];
        check_queries(&c, setup, &["p", "c"], &["DELETE FROM p WHERE v = 1"])
            .await
            .with_context(|| kind.to_owned())?;
    }
    Ok(())
}

/// Which are shown as the empty member is, and are another value.
async fn error_values_of_enums(c: Arc<Cluster>) -> Result<()> {
    let setup = &[
        "SET sql_mode = ''",
        "CREATE TABLE p (k ENUM('a', '') PRIMARY KEY)",
        "CREATE TABLE gone (id INT PRIMARY KEY, k ENUM('a', ''), FOREIGN KEY (k) REFERENCES p (k) ON DELETE CASCADE)",
        "CREATE TABLE kept (id INT PRIMARY KEY, k ENUM('a', ''), FOREIGN KEY (k) REFERENCES p (k))",
        "INSERT IGNORE INTO p VALUES ('wrong'), (''), ('a')",
        "INSERT IGNORE INTO gone VALUES (1, 'wrong'), (2, ''), (3, 'a'), (4, 'wrong')",
        "INSERT IGNORE INTO kept VALUES (1, 'wrong'), (2, '')",
    ];
    let tables = &[
        "SELECT k + 0 FROM p ORDER BY k + 0",
        "SELECT id, k + 0 FROM gone ORDER BY id",
        "SELECT id, k + 0 FROM kept ORDER BY id",
    ];
    for statements in [
        &["DELETE FROM kept", "DELETE FROM p WHERE k + 0 = 0"][..],
        &["DELETE FROM kept", "DELETE FROM p"],
        &["DELETE FROM kept WHERE id = 2", "DELETE FROM p WHERE k + 0 = 2"],
    ] {
        check_queries(&c, setup, tables, statements).await?;
    }
    Ok(())
}

async fn rows_that_change_their_key(c: Arc<Cluster>) -> Result<()> {
    let setup = &[
        "CREATE TABLE p (id INT PRIMARY KEY, u INT UNIQUE)",
        "CREATE TABLE c (u INT NOT NULL, n INT NOT NULL, v INT, PRIMARY KEY (u, n), \
         FOREIGN KEY (u) REFERENCES p (u) ON UPDATE CASCADE ON DELETE CASCADE)",
        "INSERT INTO p VALUES (1, 1), (2, 2), (3, 3)",
        "INSERT INTO c VALUES (1, 1, 1), (1, 2, 2), (2, 1, 3)",
    ];
    check_queries(&c, setup, &["p", "c"], &["DELETE FROM p WHERE id = 1", "UPDATE p SET u = 9 WHERE id = 3"])
        .await?;
    let orders = &[
        "CREATE TABLE shop (k VARCHAR(10) COLLATE utf8mb4_general_ci, n INT, PRIMARY KEY (k, n))",
        "CREATE TABLE orders (k VARCHAR(20) COLLATE utf8mb4_general_ci, n INT, nr INT, v INT, PRIMARY KEY (nr, k, n), \
         FOREIGN KEY (k, n) REFERENCES shop (k, n) ON UPDATE CASCADE ON DELETE CASCADE)",
        "CREATE TABLE item (nr INT, at INT, k VARCHAR(20) COLLATE utf8mb4_general_ci, n INT, v INT, \
         PRIMARY KEY (nr, k, n, at), FOREIGN KEY (nr, k, n) REFERENCES orders (nr, k, n) ON UPDATE CASCADE)",
        "CREATE TABLE note (id INT PRIMARY KEY, nr INT, k VARCHAR(20) COLLATE utf8mb4_general_ci, n INT, at INT, \
         FOREIGN KEY (nr, k, n, at) REFERENCES item (nr, k, n, at) ON UPDATE CASCADE)",
        "CREATE TABLE lost (id INT PRIMARY KEY, nr INT, k VARCHAR(20) COLLATE utf8mb4_general_ci, n INT, \
         FOREIGN KEY (nr, k, n) REFERENCES orders (nr, k, n) ON UPDATE SET NULL)",
        "INSERT INTO shop VALUES ('a', 1), ('a', 2), ('b', 1), ('z', 9)",
        "INSERT INTO orders VALUES ('a', 1, 1, 10), ('A', 1, 2, 20), ('a', 2, 1, 30), ('b', 1, 7, 40)",
        "INSERT INTO item VALUES (1, 1, 'a', 1, 1), (1, 2, 'A', 1, 2), (2, 1, 'a', 1, 3), (1, 1, 'a', 2, 4)",
        "INSERT INTO note VALUES (1, 1, 'a', 1, 1), (2, NULL, 'a', 1, 1), (3, 1, 'a', 2, 1)",
        "INSERT INTO lost VALUES (1, 1, 'a', 1), (2, 7, 'b', 1)",
    ];
    for statements in [
        &["UPDATE shop SET k = 'c' WHERE k = 'a' AND n = 1", "SELECT ROW_COUNT()"][..],
        &["UPDATE shop SET n = n + 10"],
        &["UPDATE shop SET n = n + 1 ORDER BY n DESC"],
        // Not a row that would not clash, and one that only looks different
        &[
            "UPDATE shop SET n = n + 1 ORDER BY n",
            "UPDATE shop SET k = 'A' WHERE n = 1 AND k = 'a'",
            "UPDATE shop SET n = 1 WHERE k = 'z'",
        ],
        &["UPDATE shop SET k = CONCAT(k, '2'), n = 5 WHERE n = 2", "UPDATE IGNORE shop SET k = 'a', n = 1"],
        &[
            "BEGIN",
            "UPDATE orders SET v = v + 1",
            "UPDATE shop SET k = 'q' WHERE k = 'a'",
            "SAVEPOINT s",
            "UPDATE shop SET n = 7 WHERE k = 'q' AND n = 1",
            "ROLLBACK TO s",
            "DELETE FROM note",
            "UPDATE item SET at = at + 100 WHERE k = 'q'",
            "INSERT INTO item VALUES (7, 1, 'b', 1, 1)",
            "UPDATE shop SET k = 'a' WHERE k = 'q'",
            "COMMIT",
        ],
    ] {
        check_queries(&c, orders, &["shop", "orders", "item", "note", "lost"], statements).await?;
    }
    let deep = &[
        "CREATE TABLE a (id INT PRIMARY KEY, v INT)",
        "CREATE TABLE b (a INT, n INT, v INT, PRIMARY KEY (a, n), FOREIGN KEY (a) REFERENCES a (id) ON UPDATE CASCADE)",
        "CREATE TABLE c (n INT, a INT, m INT, PRIMARY KEY (n, a, m), UNIQUE KEY (a, n), \
         FOREIGN KEY (a, n) REFERENCES b (a, n) ON UPDATE CASCADE ON DELETE CASCADE)",
        "CREATE TABLE d (id INT PRIMARY KEY, a INT, n INT, FOREIGN KEY (a, n) REFERENCES c (a, n) ON UPDATE CASCADE)",
        "INSERT INTO a VALUES (1, 1), (2, 2), (5, 5)",
        "INSERT INTO b VALUES (1, 1, 1), (1, 2, 2), (2, 1, 3)",
        "INSERT INTO c VALUES (1, 1, 1), (2, 1, 1), (1, 2, 9)",
        "INSERT INTO d VALUES (1, 1, 1), (2, 2, 1), (3, NULL, 1)",
    ];
    let moves = &["UPDATE a SET id = id + 10, v = 7 WHERE v < 3"];
    for statements in [
        &moves[..],
        &["UPDATE a SET id = id + 1 ORDER BY id DESC", "DELETE FROM c WHERE a = 2", "UPDATE b SET n = n + 5"],
        &[
            "UPDATE a SET id = id * 3 WHERE id < 5 ORDER BY id DESC",
            "UPDATE a SET id = 1 WHERE id = 5",
            "UPDATE a SET id = 5 WHERE id = 3",
        ],
        &[
            "BEGIN",
            "UPDATE b SET v = 0",
            "UPDATE a SET id = 9 WHERE id = 1",
            "UPDATE b SET n = 4 WHERE a = 9 AND n = 1",
            "UPDATE a SET id = 1 WHERE id = 9",
            "COMMIT",
        ],
    ] {
        check_queries(&c, deep, &["a", "b", "c", "d"], statements).await?;
    }
    // The server itself (MySQL 9.7) fails where a key of several columns goes on; these two go down on both
    let down = &[
        "CREATE TABLE a (id INT PRIMARY KEY, v INT)",
        "CREATE TABLE b (n INT, a INT, PRIMARY KEY (n, a), KEY (a), FOREIGN KEY (a) REFERENCES a (id) ON UPDATE CASCADE)",
        "CREATE TABLE c (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES a (id) ON UPDATE CASCADE)",
        "CREATE TABLE d (id INT, m INT, PRIMARY KEY (id, m), FOREIGN KEY (id) REFERENCES c (id) ON UPDATE CASCADE)",
        "INSERT INTO a VALUES (1, 1), (2, 2), (5, 5)",
        "INSERT INTO b VALUES (1, 1), (2, 1), (1, 2)",
        "INSERT INTO c VALUES (1), (5)",
        "INSERT INTO d VALUES (1, 1), (1, 2), (5, 1)",
    ];
    for statements in [&moves[..], &["UPDATE a SET id = id + 1 ORDER BY id DESC"]] {
        check_queries(&c, down, &["a", "b", "c", "d"], statements).await?;
    }
    let schema = c.schema("moved").await?;
    sql::run_all(&mut c.direct(Bank::One, &schema).await?, down).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run_all(&mut app, moves).await?;
    for (query, moved) in [
        ("SELECT a, n FROM b ORDER BY a, n", &["11|1", "11|2", "12|1"][..]),
        ("SELECT id FROM c ORDER BY id", &["5", "11"]),
        ("SELECT id, m FROM d ORDER BY id, m", &["5|1", "11|1", "11|2"]),
    ] {
        assert_eq!(c.rows(Bank::One, &schema, query).await?, moved);
    }
    // Those at the old keys and at the new ones
    let locks = c.rest().locks(&xid).await?;
    assert_eq!(locks.iter().filter(|lock| lock["table"] == format!("{schema}.b")).count(), 6, "{locks:?}");
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    // What the parent's column becomes is not known where it is no part of its key
    let schema = c.schema("cascade").await?;
    sql::run_all(&mut c.direct(Bank::One, &schema).await?, setup).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::refused(&mut app, "UPDATE p SET u = 9 WHERE id = 1").await?.expect_naming(1235, "42000", &xid)?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await
}

async fn family_in(c: &Cluster) -> Result<(String, mysql_async::Conn)> {
    let schema = c.schema("cascade").await?;
    sql::run_all(&mut c.direct(Bank::One, &schema).await?, FAMILY).await?;
    let app = c.app(Bank::One, &schema).await?;
    Ok((schema, app))
}

async fn children_are_locked(c: Arc<Cluster>) -> Result<()> {
    let (schema, mut app) = family_in(&c).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run(&mut app, "DELETE FROM p WHERE id = 1").await?;
    let locks = c.rest().locks(&xid).await?;
    let mut tables: Vec<&str> = locks.iter().filter_map(|lock| lock["table"].as_str()).collect();
    tables.sort_unstable();
    tables.dedup();
    let expected = ["forgot", "gone", "grand", "named", "nulled", "p"].map(|t| format!("{schema}.{t}"));
    assert_eq!(tables, expected);
    let mut other = c.app(Bank::One, &schema).await?;
    let other_xid = sql::start_global(&mut other).await?;
    sql::run(&mut other, "SET innodb_lock_wait_timeout = 1").await?;
    sql::refused(&mut other, "UPDATE nulled SET v = 5 WHERE id = 10")
        .await?
        .expect_naming(1205, "HY000", &other_xid)?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    sql::run(&mut other, "UPDATE nulled SET v = 5 WHERE id = 10").await?;
    sql::run(&mut other, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &schema).await
}

/// An outsider without foreign key checks adds a child between the read of the children and the statement.
async fn children_that_come_meanwhile(c: Arc<Cluster>) -> Result<()> {
    let (schema, mut app) = family_in(&c).await?;
    let before = c.rows(Bank::One, &schema, "SELECT * FROM p ORDER BY id").await?;
    sql::start_global(&mut app).await?;
    sql::run(&mut app, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
    let id = sql::cell(&mut app, "SELECT CONNECTION_ID()").await?;
    // The children in `nulled` are read after those in `gone`
    let mut blocker = c.direct(Bank::One, &schema).await?;
    sql::run_all(&mut blocker, &["BEGIN", "SELECT * FROM nulled WHERE id = 10 FOR UPDATE"]).await?;
    let delete = tokio::spawn(async move {
        let error = sql::refused(&mut app, "DELETE FROM p WHERE id = 1").await;
        error.map(|error| (app, error))
    });
    let waiting = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {id} AND INFO LIKE '%STRAIGHT_JOIN%nulled%'"
    );
    wait::until("the DELETE reads the children in `nulled`", SOON, || async {
        Ok((c.rows(Bank::One, &schema, &waiting).await? == ["1"]).then_some(()))
    })
    .await?;
    let mut outsider = c.direct(Bank::One, &schema).await?;
    sql::run_all(&mut outsider, &["SET foreign_key_checks = 0", "INSERT INTO gone VALUES (40, 1, 0)"])
        .await?;
    sql::run(&mut blocker, "COMMIT").await?;
    let (mut app, error) = delete.await??;
    error.expect(1213, "40001")?;
    assert!(error.message.contains("came meanwhile"), "{error:?}");
    assert_eq!(c.rows(Bank::One, &schema, "SELECT * FROM p ORDER BY id").await?, before);
    // Once more, and now it is seen
    sql::run(&mut app, "DELETE FROM p WHERE id = 1").await?;
    assert_eq!(c.rows(Bank::One, &schema, "SELECT id FROM gone ORDER BY id").await?, ["20", "30"]);
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &schema).await?;
    assert_eq!(c.rows(Bank::One, &schema, "SELECT * FROM p ORDER BY id").await?, before);
    assert_eq!(
        c.rows(Bank::One, &schema, "SELECT id FROM gone ORDER BY id").await?,
        ["10", "11", "20", "30", "40"]
    );
    Ok(())
}

async fn refused(c: Arc<Cluster>) -> Result<()> {
    let (schema, mut app) = family_in(&c).await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(
        &mut direct,
        &[
            "CREATE TABLE keyless (p INT, FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)",
            "INSERT INTO keyless VALUES (1)",
            "CREATE TABLE s (id INT PRIMARY KEY, up INT, FOREIGN KEY (up) REFERENCES s (id) ON DELETE CASCADE)",
            "INSERT INTO s VALUES (1, NULL), (2, 1), (3, NULL), (4, NULL)",
        ],
    )
    .await?;
    let xid = sql::start_global(&mut app).await?;
    sql::refused(&mut app, "DELETE FROM p WHERE id = 1").await?.expect_naming(1235, "42000", &xid)?;
    sql::refused(&mut app, "REPLACE INTO s VALUES (1, 3)").await?.expect_naming(1235, "42000", &xid)?;
    // Which rows a LIMIT takes depends on those that are gone already
    sql::refused(&mut app, "DELETE FROM s ORDER BY id LIMIT 2").await?.expect_naming(1235, "42000", &xid)?;
    sql::run(&mut app, "DELETE FROM s ORDER BY id DESC LIMIT 2").await?;
    // Nothing that could fire
    sql::run(&mut app, "UPDATE p SET n = 5 WHERE id = 1").await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.rows(Bank::One, &schema, "SELECT n FROM p WHERE id = 1").await?, ["1"]);
    Ok(())
}
