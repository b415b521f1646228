//! Tables that others alter: noticed at once by those who write them, whatever is remembered of them.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use atone_tests::cluster::SOON;
use atone_tests::run::Harmable;
use atone_tests::{Bank, Cluster, ClusterOptions, Flavor, PerFlavor, sql, wait};
use mysql_async::Conn;

atone_tests::shared_tests!(believing =>
    noticed_before_the_commit,
    noticed_in_a_transaction,
    another_engine,
    another_engine_behind_a_savepoint,
    another_engine_behind_a_commit,
    other_ways_to_another_engine,
    child_altered,
);
// A client that waits for a table holds up those who ask for all tables
atone_tests::owned_tests!(ClusterOptions::believing() => nothing_waits_for_one_who_waits, nothing_waits_for_ever);

/// The cluster that believes what it knows of tables, one a flavor.
async fn believing(flavor: Flavor) -> Result<Arc<Cluster>> {
    static BELIEVING: PerFlavor<Cluster> = PerFlavor::new();
    BELIEVING.get(flavor, Cluster::start_with(flavor, ClusterOptions::believing())).await
}

/// A client that alters holds a table and waits for the transaction, which asks for the foreign keys of all tables.
async fn nothing_waits_for_ever(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let (schema, mut app) = known(c).await?;
    let before = content(c, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run_all(&mut app, &["BEGIN", "DELETE FROM t WHERE id = 3"]).await?;
    let mut outsider = c.server(Bank::One).connect(atone_tests::server::ADMIN, Some(&schema)).await?;
    let id = sql::cell(&mut outsider, "SELECT CONNECTION_ID()").await?;
    let rename = "RENAME TABLE child TO child2, t TO t2";
    let renaming = tokio::spawn(async move { sql::run(&mut outsider, rename).await.map(|()| outsider) });
    let waiting = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {id} AND STATE LIKE '%metadata lock%'"
    );
    wait::until("the RENAME waits", SOON, || async {
        let mut admin = c.server(Bank::One).admin().await?;
        Ok((sql::cell(&mut admin, &waiting).await? == "1").then_some(()))
    })
    .await?;
    // It commits, or is rolled back since the foreign keys cannot be seen; it does not wait for the RENAME
    let _ = tokio::time::timeout(SOON, sql::run(&mut app, "COMMIT")).await?;
    let mut outsider = renaming.await??;
    sql::run(&mut outsider, "RENAME TABLE child2 TO child, t2 TO t").await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(content(c, &schema).await?, before);
    Ok(())
}

atone_tests::shared_tests!(
    undone_where_exact,
    stopped_else,
    exchanged_names,
    dropped_columns,
    dropped_or_renamed
);

const SETUP: &[&str] = &[
    "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a INT, b INT, KEY (a), KEY (b))",
    "CREATE TABLE child (id INT PRIMARY KEY, t INT, KEY (t))",
    "CREATE TABLE audit (id INT PRIMARY KEY AUTO_INCREMENT, what VARCHAR(40))",
    "INSERT INTO t VALUES (1, 10, 1), (2, 20, 2), (3, 30, 3)",
    "INSERT INTO child VALUES (1, 1), (2, 1), (3, 2)",
];
const CONTENT: [&str; 3] = [
    "SELECT id, a, b FROM t ORDER BY id",
    "SELECT * FROM child ORDER BY id",
    "SELECT what FROM audit ORDER BY id",
];

async fn content(c: &Cluster, schema: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for query in CONTENT {
        all.push(query.to_owned());
        all.extend(c.rows(Bank::One, schema, query).await?);
    }
    Ok(all)
}

/// The child that a foreign key changes is another one than it was: the statement is to be run again.
async fn child_altered(c: Arc<Cluster>) -> Result<()> {
    let c = &*c;
    let (schema, mut app) = known(c).await?;
    let mut outsider = c.server(Bank::One).connect(atone_tests::server::ADMIN, Some(&schema)).await?;
    sql::run(&mut outsider, "ALTER TABLE child ADD FOREIGN KEY (t) REFERENCES t (id) ON DELETE CASCADE")
        .await?;
    let before = content(c, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    let (delete, upsert) = ("DELETE FROM t WHERE id = 1", "REPLACE INTO t VALUES (2, 21, 2)");
    // The foreign key is noticed
    sql::refused(&mut app, delete).await?.expect_naming(1213, "40001", &xid)?;
    sql::run_all(&mut app, &[delete, "ROLLBACK GLOBAL TRANSACTION"]).await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    let xid = sql::start_global(&mut app).await?;
    for (ddl, statement) in [
        ("ALTER TABLE child ADD COLUMN z INT FIRST", delete),
        ("ALTER TABLE child DROP COLUMN z, ADD COLUMN y INT FIRST", upsert),
    ] {
        sql::run(&mut outsider, ddl).await?;
        sql::refused(&mut app, statement).await?.expect_naming(1213, "40001", &xid).context(statement)?;
        sql::run(&mut app, statement).await.context(statement)?;
    }
    sql::run(&mut outsider, "ALTER TABLE child DROP COLUMN y").await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(content(c, &schema).await?, before);
    Ok(())
}

/// A schema, and a session that has written all its tables in every way.
async fn known(c: &Cluster) -> Result<(String, Conn)> {
    let schema = c.schema("altered").await?;
    sql::run_all(&mut c.direct(Bank::One, &schema).await?, SETUP).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut app).await?;
    sql::run_all(
        &mut app,
        &[
            "UPDATE t SET a = a + 1 WHERE id = 1",
            "INSERT INTO t VALUES (4, 40, 4)",
            "REPLACE INTO t VALUES (4, 41, 4)",
            "INSERT INTO child VALUES (4, NULL)",
            "DELETE FROM t WHERE id = 4",
            "ROLLBACK GLOBAL TRANSACTION",
        ],
    )
    .await?;
    c.wait_for_purge(Bank::One, &schema).await?;
    Ok((schema, app))
}

/// What an outsider does, a statement that must not be captured as before, and whether that is noticed at its COMMIT
/// only.
const CASES: &[(&[&str], &str, bool)] = &[
    (
        &["CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW INSERT INTO audit (what) VALUES ('insert')"],
        "INSERT INTO t VALUES (5, 50, 5)",
        false,
    ),
    (
        &["CREATE TRIGGER x AFTER UPDATE ON t FOR EACH ROW INSERT INTO audit (what) VALUES ('update')"],
        "UPDATE t SET a = 5 WHERE id = 1",
        false,
    ),
    // Nothing changes, and a trigger fires all the same
    (
        &["CREATE TRIGGER x BEFORE UPDATE ON t FOR EACH ROW INSERT INTO audit (what) VALUES ('update')"],
        "UPDATE t SET a = 10 WHERE id = 1",
        false,
    ),
    (
        &["CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW INSERT INTO audit (what) VALUES ('insert')"],
        "INSERT IGNORE INTO t VALUES (1, 1, 1)",
        false,
    ),
    (
        &["CREATE TRIGGER x BEFORE DELETE ON t FOR EACH ROW INSERT INTO audit (what) VALUES ('delete')"],
        "DELETE FROM t WHERE id = 1",
        false,
    ),
    (
        &["ALTER TABLE child ADD FOREIGN KEY (t) REFERENCES t (id) ON DELETE CASCADE"],
        "DELETE FROM t WHERE id = 1",
        true,
    ),
    (
        &[
            "CREATE TABLE late (id INT PRIMARY KEY, t INT, FOREIGN KEY (t) REFERENCES t (id) ON DELETE SET NULL)",
            "INSERT INTO late VALUES (1, 1)",
        ],
        "DELETE FROM t WHERE id = 1",
        true,
    ),
    (
        &[
            "ALTER TABLE child DROP INDEX t",
            "ALTER TABLE t DROP INDEX b, ADD UNIQUE KEY b (b)",
            "ALTER TABLE child ADD FOREIGN KEY (t) REFERENCES t (b) ON UPDATE CASCADE",
        ],
        "UPDATE t SET b = 9 WHERE id = 1",
        true,
    ),
    // The session sees no other columns than before
    (&["ALTER TABLE t ADD UNIQUE KEY (b, a)"], "REPLACE INTO t VALUES (7, 20, 2)", false),
    (
        &["ALTER TABLE t ADD UNIQUE KEY (b, a)"],
        "INSERT INTO t VALUES (7, 20, 2) ON DUPLICATE KEY UPDATE b = 99",
        false,
    ),
];

async fn noticed_before_the_commit(c: Arc<Cluster>) -> Result<()> {
    let c = &*c;
    for (ddl, statement, at_commit) in CASES {
        let case = async {
            let (schema, mut app) = known(c).await?;
            let mut outsider = c.server(Bank::One).connect(atone_tests::server::ADMIN, Some(&schema)).await?;
            sql::run_all(&mut outsider, ddl).await?;
            let before = content(c, &schema).await?;
            let xid = sql::start_global(&mut app).await?;
            if *at_commit {
                sql::refused(&mut app, statement).await?.expect_naming(1213, "40001", &xid)?;
                anyhow::ensure!(content(c, &schema).await? == before, "something has changed");
            }
            sql::run(&mut app, statement).await?;
            anyhow::ensure!(content(c, &schema).await? != before, "nothing has changed");
            sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
            c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
            let after = content(c, &schema).await?;
            anyhow::ensure!(after == before, "after the rollback\nexpected {before:?}\nfound {after:?}");
            Ok(())
        };
        case.await.with_context(|| format!("{ddl:?}: {statement}"))?;
    }
    Ok(())
}

/// Every way to write a table.
const WRITES: [&str; 12] = [
    "UPDATE t SET a = 5 WHERE id = 1",
    "UPDATE t SET a = a + 1",
    "UPDATE t SET id = id + 10",
    "DELETE FROM t WHERE id = 1",
    "INSERT INTO t VALUES (5, 50, 5)",
    "INSERT INTO t (a) VALUES (50)",
    "INSERT INTO t (a) SELECT a FROM (SELECT 1 AS a) d",
    "REPLACE INTO t VALUES (1, 50, 5)",
    "INSERT INTO t VALUES (1, 50, 5) ON DUPLICATE KEY UPDATE a = 7",
    "UPDATE t JOIN child ON child.t = t.id SET t.a = 7",
    "UPDATE v SET a = 7 WHERE id = 1",
    "INSERT INTO v VALUES (5, 50, 5)",
];

/// What an engine without transactions has written stays: it must be noticed before the statement runs.
async fn another_engine(c: Arc<Cluster>) -> Result<()> {
    let c = &*c;
    let (schema, mut app) = known(c).await?;
    let mut outsider = c.server(Bank::One).connect(atone_tests::server::ADMIN, Some(&schema)).await?;
    sql::run(&mut outsider, "CREATE VIEW v AS SELECT id, a, b FROM t").await?;
    let before = content(c, &schema).await?;
    for begin in [None, Some("BEGIN")] {
        for statement in WRITES {
            let case = async {
                let xid = sql::start_global(&mut app).await?;
                sql::run(&mut app, statement).await?;
                sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
                c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
                c.wait_for_purge(Bank::One, &schema).await?;
                let xid = sql::start_global(&mut app).await?;
                if let Some(begin) = begin {
                    sql::run_all(&mut app, &[begin, "UPDATE audit SET what = ''"]).await?;
                }
                sql::run(&mut outsider, "ALTER TABLE t ENGINE = MyISAM").await?;
                sql::refused(&mut app, statement).await?.expect_naming(1235, "42000", &xid)?;
                anyhow::ensure!(content(c, &schema).await? == before, "something has changed");
                if begin.is_some() {
                    // It has met the table, which nobody else can alter then
                    sql::run(&mut app, "COMMIT").await?;
                }
                sql::run(&mut outsider, "ALTER TABLE t ENGINE = InnoDB").await?;
                // Not a moment later it is captured again
                sql::run(&mut app, statement).await?;
                sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
                c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
                anyhow::ensure!(content(c, &schema).await? == before, "something has stayed");
                c.wait_for_purge(Bank::One, &schema).await
            };
            case.await.with_context(|| format!("{begin:?} {statement}"))?;
        }
    }
    Ok(())
}

/// A ROLLBACK TO gives back what was locked since the savepoint, and with it the tables.
async fn another_engine_behind_a_savepoint(c: Arc<Cluster>) -> Result<()> {
    let c = &*c;
    let (schema, mut app) = known(c).await?;
    let before = content(c, &schema).await?;
    let mut outsider = c.server(Bank::One).connect(atone_tests::server::ADMIN, Some(&schema)).await?;
    sql::run(&mut outsider, "SET lock_wait_timeout = 1").await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run_all(&mut app, &["BEGIN", "UPDATE t SET a = 5 WHERE id = 1"]).await?;
    assert_eq!(sql::refused(&mut outsider, "ALTER TABLE t ENGINE = MyISAM").await?.code, 1205);
    sql::run_all(
        &mut app,
        &["ROLLBACK", "BEGIN", "SAVEPOINT s", "UPDATE t SET a = 5 WHERE id = 1", "ROLLBACK TO s"],
    )
    .await?;
    match sql::run(&mut outsider, "ALTER TABLE t ENGINE = MyISAM").await {
        Ok(()) => {
            sql::refused(&mut app, "UPDATE t SET a = 5 WHERE id = 1")
                .await?
                .expect_naming(1235, "42000", &xid)?;
        }
        // The server keeps the lock
        Err(_) => sql::run(&mut app, "UPDATE t SET a = 5 WHERE id = 1").await?,
    }
    sql::run_all(&mut app, &["COMMIT", "ROLLBACK GLOBAL TRANSACTION"]).await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(content(c, &schema).await?, before);
    Ok(())
}

/// A COMMIT gives the tables back also where the next transaction begins with it.
async fn another_engine_behind_a_commit(c: Arc<Cluster>) -> Result<()> {
    let c = &*c;
    let (schema, mut app) = known(c).await?;
    let before = content(c, &schema).await?;
    let mut outsider = c.server(Bank::One).connect(atone_tests::server::ADMIN, Some(&schema)).await?;
    let unbound = ["SET @atone_xid = NULL", "COMMIT AND CHAIN", "SET @atone_xid = @xid"];
    for end in [["COMMIT AND CHAIN"].as_slice(), &["BEGIN"], &["ROLLBACK AND CHAIN"], &unbound] {
        for first in ["UPDATE t SET a = 5 WHERE id = 99", "UPDATE t SET a = 5 WHERE id = 1"] {
            if first.ends_with(" 1") && end.len() > 1 {
                // It has written in a global transaction, and stays bound to it
                continue;
            }
            let case = async {
                let xid = sql::start_global(&mut app).await?;
                sql::run_all(&mut app, &["SET @xid = @atone_xid", "BEGIN", first]).await?;
                sql::run_all(&mut app, end).await?;
                sql::run(&mut outsider, "ALTER TABLE t ENGINE = MyISAM").await?;
                let refused = sql::refused(&mut app, "UPDATE t SET a = 6 WHERE id = 1").await?;
                refused.expect_naming(1235, "42000", &xid)?;
                // It has met the table, which nobody else can alter then
                sql::run(&mut app, "ROLLBACK").await?;
                sql::run(&mut outsider, "ALTER TABLE t ENGINE = InnoDB").await?;
                sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
                c.rest().wait_for_status(&xid, "rolled_back", SOON).await
            };
            case.await.with_context(|| format!("{first} {end:?}"))?;
        }
    }
    assert_eq!(content(c, &schema).await?, before);
    Ok(())
}

/// A trigger that writes a table without transactions, and a view that is another one's: what they write would stay.
async fn other_ways_to_another_engine(c: Arc<Cluster>) -> Result<()> {
    let c = &*c;
    let (schema, mut app) = known(c).await?;
    let mut outsider = c.server(Bank::One).connect(atone_tests::server::ADMIN, Some(&schema)).await?;
    sql::run_all(
        &mut outsider,
        &[
            "CREATE VIEW v AS SELECT id, a, b FROM t",
            "CREATE TABLE plain (id INT PRIMARY KEY AUTO_INCREMENT, a INT, b INT) ENGINE = MyISAM",
        ],
    )
    .await?;
    let before = content(c, &schema).await?;
    for (ddl, undo, statements) in [
        (
            "CREATE TRIGGER x BEFORE UPDATE ON t FOR EACH ROW INSERT INTO plain (a) VALUES (NEW.a)",
            "DROP TRIGGER x",
            ["UPDATE t SET a = 5 WHERE id = 1", "UPDATE t SET a = a + 1"],
        ),
        (
            "CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW INSERT INTO plain (a) VALUES (NEW.a)",
            "DROP TRIGGER x",
            ["INSERT INTO t VALUES (5, 50, 5)", "INSERT INTO t (a) VALUES (50)"],
        ),
        (
            "CREATE OR REPLACE VIEW v AS SELECT id, a, b FROM plain",
            "CREATE OR REPLACE VIEW v AS SELECT id, a, b FROM t",
            ["INSERT INTO v VALUES (5, 50, 5)", "REPLACE INTO v VALUES (5, 50, 5)"],
        ),
    ] {
        for statement in statements {
            let case = async {
                let xid = sql::start_global(&mut app).await?;
                sql::run_all(&mut app, &[statement, "ROLLBACK GLOBAL TRANSACTION"]).await?;
                c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
                c.wait_for_purge(Bank::One, &schema).await?;
                let xid = sql::start_global(&mut app).await?;
                sql::run(&mut outsider, ddl).await?;
                sql::refused(&mut app, statement).await?.expect_naming(1235, "42000", &xid)?;
                anyhow::ensure!(content(c, &schema).await? == before, "something has changed");
                let plain = c.rows(Bank::One, &schema, "SELECT * FROM plain").await?;
                anyhow::ensure!(plain.is_empty(), "{plain:?}");
                sql::run(&mut outsider, undo).await?;
                sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await
            };
            case.await.with_context(|| format!("{ddl}: {statement}"))?;
        }
    }
    Ok(())
}

async fn noticed_in_a_transaction(c: Arc<Cluster>) -> Result<()> {
    let c = &*c;
    let (schema, mut app) = known(c).await?;
    let before = content(c, &schema).await?;
    let mut outsider = c.server(Bank::One).connect(atone_tests::server::ADMIN, Some(&schema)).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run_all(&mut app, &["BEGIN", "UPDATE child SET t = 3 WHERE id = 1"]).await?;
    // Nobody has touched `t` yet
    sql::run(
        &mut outsider,
        "CREATE TRIGGER x AFTER UPDATE ON t FOR EACH ROW INSERT INTO audit VALUES (NEW.id + 50, 'update')",
    )
    .await?;
    sql::refused(&mut app, "UPDATE t SET a = 5 WHERE id = 1").await?.expect_naming(1235, "42000", &xid)?;
    sql::run_all(&mut app, &["COMMIT", "ROLLBACK GLOBAL TRANSACTION"]).await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(content(c, &schema).await?, before);
    Ok(())
}

/// An ALTER waits for the transaction, and what this looks at before its COMMIT does not wait for the ALTER.
async fn nothing_waits_for_one_who_waits(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    for ddl in [
        "ALTER TABLE t ADD COLUMN z INT",
        "CREATE TRIGGER x AFTER UPDATE ON t FOR EACH ROW SET @x = 1",
        "ALTER TABLE child ADD FOREIGN KEY (t) REFERENCES t (id) ON DELETE CASCADE",
    ] {
        let (schema, mut app) = known(c).await?;
        let before = content(c, &schema).await?;
        let xid = sql::start_global(&mut app).await?;
        sql::run_all(&mut app, &["BEGIN", "UPDATE t SET a = 5 WHERE id = 1", "DELETE FROM t WHERE id = 3"])
            .await?;
        let mut outsider = c.server(Bank::One).connect(atone_tests::server::ADMIN, Some(&schema)).await?;
        let id = sql::cell(&mut outsider, "SELECT CONNECTION_ID()").await?;
        let altering = tokio::spawn(async move { sql::run(&mut outsider, ddl).await });
        let waiting = format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {id} AND STATE LIKE '%metadata lock%'"
        );
        wait::until("the ALTER waits", SOON, || async {
            let mut admin = c.server(Bank::One).admin().await?;
            Ok((sql::cell(&mut admin, &waiting).await? == "1").then_some(()))
        })
        .await
        .context(ddl)?;
        tokio::time::timeout(SOON, sql::run(&mut app, "COMMIT")).await.context(ddl)??;
        altering.await??;
        if ddl.starts_with("ALTER TABLE child") {
            sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
            c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
            assert_eq!(content(c, &schema).await?, before);
        } else {
            sql::run(&mut app, "COMMIT GLOBAL TRANSACTION").await?;
        }
    }
    Ok(())
}

const KEPT: &str = "CREATE TABLE t (id INT PRIMARY KEY, a INT NOT NULL, s VARCHAR(10) CHARACTER SET latin1, \
                    d DECIMAL(10,2), e ENUM('x', 'y'))";
const KEPT_ROWS: &str = "INSERT INTO t VALUES (1, 10, 'one', 1.5, 'x'), (2, 20, 'zw\u{f6}i', 2.5, 'y'), (3, 30, NULL, NULL, NULL)";

/// A schema with a table that a branch has changed, and its twin that nothing has.
async fn branch(c: &Cluster, statements: &[&str]) -> Result<(String, Conn, String)> {
    let schema = c.schema("altered").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(
        &mut direct,
        &[KEPT, KEPT_ROWS, "CREATE TABLE twin LIKE t", "INSERT INTO twin SELECT * FROM t"],
    )
    .await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run_all(&mut app, &["BEGIN"]).await?;
    sql::run_all(&mut app, statements).await?;
    sql::run_all(&mut app, &["COMMIT"]).await?;
    Ok((schema, app, xid))
}

const CHANGES: &[&str] = &[
    "UPDATE t SET a = 11, s = 'uno', d = 7, e = 'y' WHERE id = 1",
    "DELETE FROM t WHERE id = 2",
    "INSERT INTO t (id, a, s) VALUES (4, 40, 'vier')",
];

async fn both(c: &Cluster, schema: &str) -> Result<(Vec<String>, Vec<String>)> {
    let all = async |table| c.rows(Bank::One, schema, &format!("SELECT * FROM {table} ORDER BY id")).await;
    Ok((all("t").await?, all("twin").await?))
}

/// What there would be without the branch, had the table been altered then.
async fn undone_where_exact(c: Arc<Cluster>) -> Result<()> {
    for (statements, alter) in [
        (CHANGES, "ADD COLUMN z INT"),
        (CHANGES, "ADD COLUMN z VARCHAR(5) NOT NULL DEFAULT 'q' FIRST"),
        (CHANGES, "ADD COLUMN z DECIMAL(5,1) DEFAULT 7.5 AFTER a, ADD COLUMN y INT AS (a + 1) STORED"),
        (&CHANGES[..2], "ADD COLUMN z INT NOT NULL, ADD COLUMN y ENUM('p', 'q') NOT NULL"),
        (&CHANGES[1..], "ADD COLUMN z TIMESTAMP DEFAULT '2020-02-02 00:00:00' ON UPDATE CURRENT_TIMESTAMP"),
        (CHANGES, "MODIFY a BIGINT UNSIGNED, MODIFY d DECIMAL(20,2), MODIFY e ENUM('x', 'y', 'z')"),
        (CHANGES, "MODIFY s VARCHAR(200) CHARACTER SET utf8mb4 NULL"),
        (CHANGES, "MODIFY s TEXT CHARACTER SET utf8mb4, MODIFY a INT NULL"),
        (CHANGES, "ADD UNIQUE KEY (a), ADD KEY (s)"),
        (CHANGES, "DROP PRIMARY KEY, ADD UNIQUE KEY by_id (id), ADD PRIMARY KEY (a, id)"),
        (CHANGES, "MODIFY d DECIMAL(10,2) AFTER id, MODIFY e ENUM('x', 'y') FIRST"),
    ] {
        let case = async {
            let (schema, mut app, xid) = branch(&c, statements).await?;
            let mut outsider = c.direct(Bank::One, &schema).await?;
            for table in ["t", "twin"] {
                sql::run(&mut outsider, format!("ALTER TABLE {table} {alter}")).await?;
            }
            sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
            c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
            let (found, expected) = both(&c, &schema).await?;
            anyhow::ensure!(found == expected, "expected {expected:?}\nfound {found:?}");
            c.wait_for_purge(Bank::One, &schema).await
        };
        case.await.with_context(|| alter.to_owned())?;
    }
    Ok(())
}

/// What stops the branch, and what lets it go on.
const STOPS: &[(&[&str], &str, &[&str])] = &[
    (&["ALTER TABLE t RENAME COLUMN a TO aa"], "a gone or renamed", &["ALTER TABLE t RENAME COLUMN aa TO a"]),
    (
        &["ALTER TABLE t DROP COLUMN s"],
        "s gone or renamed, which the branch has changed",
        &[
            "ALTER TABLE t ADD COLUMN s VARCHAR(10) CHARACTER SET latin1 AFTER a",
            "UPDATE t SET s = ELT(id, 'uno', '', NULL, 'vier')",
        ],
    ),
    (&["RENAME TABLE t TO elsewhere"], "is gone", &["RENAME TABLE elsewhere TO t"]),
    (&["ALTER TABLE t MODIFY a VARCHAR(20)"], "the column a", &["ALTER TABLE t MODIFY a INT NOT NULL"]),
    (&["ALTER TABLE t MODIFY d DECIMAL(12,4)"], "the column d", &["ALTER TABLE t MODIFY d DECIMAL(10,2)"]),
    (&["ALTER TABLE t ENGINE = MyISAM"], "engine", &["ALTER TABLE t ENGINE = InnoDB"]),
    (&["ALTER TABLE t DROP PRIMARY KEY"], "no primary key", &["ALTER TABLE t ADD PRIMARY KEY (id)"]),
    (
        &["ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (a)"],
        "no unique key",
        &["ALTER TABLE t ADD UNIQUE KEY (id)"],
    ),
    (
        &["ALTER TABLE t ADD COLUMN z TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP"],
        "the new column z",
        &["ALTER TABLE t DROP COLUMN z"],
    ),
    (
        &["ALTER TABLE t ADD COLUMN z TIMESTAMP DEFAULT '2020-02-02 00:00:00' ON UPDATE CURRENT_TIMESTAMP"],
        "the new column z",
        &["ALTER TABLE t DROP COLUMN z"],
    ),
    (
        &["ALTER TABLE t ADD COLUMN z INT DEFAULT 5", "UPDATE t SET z = 6 WHERE id = 4"],
        "a column that is new",
        &["ALTER TABLE t DROP COLUMN z"],
    ),
    (
        &["ALTER TABLE t ADD UNIQUE KEY (a)", "INSERT INTO t (id, a) VALUES (9, 20)"],
        "1062",
        &["DELETE FROM t WHERE id = 9"],
    ),
    (
        &["CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 99"],
        "the trigger x",
        &["DROP TRIGGER x"],
    ),
    (
        &["CREATE TRIGGER x AFTER DELETE ON t FOR EACH ROW INSERT INTO twin (id, a) VALUES (77, 7)"],
        "the trigger x",
        &["DROP TRIGGER x"],
    ),
];

async fn stopped_else(c: Arc<Cluster>) -> Result<()> {
    for (ddl, reason, mend) in STOPS {
        let case = async {
            let (schema, mut app, xid) = branch(&c, CHANGES).await?;
            let mut outsider = c.server(Bank::One).connect(atone_tests::server::ADMIN, Some(&schema)).await?;
            sql::run_all(&mut outsider, ddl).await?;
            let table = if ddl[0].starts_with("RENAME") { "elsewhere" } else { "t" };
            let query = format!("SELECT * FROM {table} ORDER BY 1");
            let altered = c.rows(Bank::One, &schema, &query).await?;
            sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
            let failed = c.rest().wait_for_status(&xid, "rollback_failed", SOON).await?;
            let said = failed["branches"][0]["detail"]["reason"].as_str().unwrap_or_default().to_owned();
            anyhow::ensure!(said.contains(reason), "the reason is {said}");
            let shown = c.atone(&["tx", "show", &xid]).await?;
            anyhow::ensure!(shown.stdout.contains(reason), "atone tx show: {}", shown.stdout);
            anyhow::ensure!(c.rows(Bank::One, &schema, &query).await? == altered, "rows have changed");
            sql::run_all(&mut outsider, mend).await?;
            c.atone(&["tx", "rollback", &xid]).await?;
            c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
            let (found, expected) = both(&c, &schema).await?;
            anyhow::ensure!(found == expected, "expected {expected:?}\nfound {found:?}");
            Ok(())
        };
        case.await.with_context(|| format!("{ddl:?}"))?;
    }
    Ok(())
}

const TWO: &str = "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a INT, b INT, s VARCHAR(10), n INT)";
const TWO_ROWS: &str = "INSERT INTO t VALUES (1, 10, 5, 'one', 1), (2, 20, 6, 'two', 2), (3, 30, 7, NULL, 3)";
const TWIN: [&str; 2] = ["CREATE TABLE twin LIKE t", "INSERT INTO twin SELECT * FROM t"];
const UPDATES: &[&str] = &["UPDATE t SET a = a + 1", "UPDATE t SET s = 'x' WHERE id = 2"];
const DELETES: &[&str] = &["DELETE FROM t WHERE id = 2"];
const ALL: &[&str] = &[
    "UPDATE t SET a = 11 WHERE id = 1",
    "DELETE FROM t WHERE id = 2",
    "INSERT INTO t VALUES (4, 40, 8, 'four', 4)",
];

/// A branch that is being rolled back.
struct Behind {
    schema: String,
    xid: String,
    /// The rows of its table before that.
    rows: Vec<String>,
}

/// A branch that has run these statements, each in a table of its own and altered after it.
async fn altered_behind(c: &Cluster, statements: &[&str], ddl: &[&str]) -> Result<Behind> {
    let schema = c.schema("altered").await?;
    let mut direct = c.server(Bank::One).connect(atone_tests::server::ADMIN, Some(&schema)).await?;
    sql::run_all(&mut direct, &[TWO, TWO_ROWS]).await?;
    sql::run_all(&mut direct, &TWIN).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run(&mut app, "BEGIN").await?;
    sql::run_all(&mut app, statements).await?;
    sql::run(&mut app, "COMMIT").await?;
    for statement in ddl {
        for table in ["t", "twin"] {
            sql::run(&mut direct, statement.replace("{t}", table)).await?;
        }
    }
    let rows = both(c, &schema).await?.0;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    Ok(Behind { schema, xid, rows })
}

/// A column that the branch has not changed is gone: its rows are put back without it.
async fn dropped_columns(c: Arc<Cluster>) -> Result<()> {
    const COPY: &[&str] = &[
        "CREATE TABLE {t}_new LIKE {t}",
        "ALTER TABLE {t}_new DROP COLUMN b, MODIFY id BIGINT AUTO_INCREMENT",
        "INSERT INTO {t}_new SELECT id, a, s, n FROM {t}",
        "RENAME TABLE {t} TO {t}_old, {t}_new TO {t}",
    ];
    for (statements, ddl) in [
        (UPDATES, &["ALTER TABLE {t} DROP COLUMN b"][..]),
        (UPDATES, &["ALTER TABLE {t} DROP COLUMN n, DROP COLUMN b"]),
        (ALL, &["ALTER TABLE {t} DROP COLUMN n"]),
        (ALL, &["ALTER TABLE {t} DROP COLUMN b"]),
        (ALL, COPY),
        (DELETES, &["ALTER TABLE {t} DROP COLUMN s"]),
        (DELETES, &["ALTER TABLE {t} DROP COLUMN n"]),
        // A new column where it cannot be the one that is gone
        (ALL, &["ALTER TABLE {t} DROP COLUMN s, ADD COLUMN z INT DEFAULT 4"]),
        // It does not matter which one it is
        (&UPDATES[1..], &["ALTER TABLE {t} RENAME COLUMN b TO z"]),
    ] {
        let case = async {
            let Behind { schema, xid, .. } = altered_behind(&c, statements, ddl).await?;
            c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
            let (found, expected) = both(&c, &schema).await?;
            anyhow::ensure!(found == expected, "expected {expected:?}\nfound {found:?}");
            c.wait_for_purge(Bank::One, &schema).await
        };
        case.await.with_context(|| format!("{statements:?} {ddl:?}"))?;
    }
    Ok(())
}

/// Another column may have taken the name of one that is gone, or it has a new one.
async fn dropped_or_renamed(c: Arc<Cluster>) -> Result<()> {
    const TAKEN: &[&str] = &["ALTER TABLE {t} DROP COLUMN a", "ALTER TABLE {t} RENAME COLUMN b TO a"];
    let ambiguous = &["UPDATE t SET a = 5 WHERE id = 1"];
    for (statements, ddl, reason) in [
        (&ambiguous[..], TAKEN, "by the name of a"),
        (ambiguous, &["ALTER TABLE {t} DROP COLUMN b"], "by the name of a"),
        (DELETES, TAKEN, "by the name of a"),
        // The rows tell that it is another one
        (&["UPDATE t SET a = 9 WHERE id = 1"], TAKEN, "were changed since"),
        (DELETES, &["ALTER TABLE {t} RENAME COLUMN s TO z"], "renamed to z"),
        (DELETES, &["ALTER TABLE {t} DROP COLUMN n, ADD COLUMN z INT"], "renamed to z"),
        (
            &["INSERT INTO t VALUES (4, 40, 8, 'four', 4)"],
            &["ALTER TABLE {t} RENAME COLUMN s TO z"],
            "that is new",
        ),
    ] {
        let case = async {
            let Behind { schema, xid, rows } = altered_behind(&c, statements, ddl).await?;
            let failed = c.rest().wait_for_status(&xid, "rollback_failed", SOON).await?;
            let said = failed["branches"][0]["detail"]["reason"].as_str().unwrap_or_default().to_owned();
            anyhow::ensure!(said.contains(reason), "the reason is {said}");
            anyhow::ensure!(both(&c, &schema).await?.0 == rows, "rows have changed");
            Ok(())
        };
        case.await.with_context(|| format!("{statements:?} {ddl:?}"))?;
    }
    Ok(())
}

/// Columns that exchange their names while their values are equal in the rows of the branch, and such as are moved
/// only.
async fn exchanged_names(c: Arc<Cluster>) -> Result<()> {
    const EXCHANGE: &[&str] = &[
        "ALTER TABLE t RENAME COLUMN a TO x",
        "ALTER TABLE t RENAME COLUMN b TO a",
        "ALTER TABLE t RENAME COLUMN x TO b",
    ];
    const MOVE: &[&str] = &["ALTER TABLE t MODIFY b INT AFTER id"];
    let ambiguous = "UPDATE t SET a = 5 WHERE id = 1";
    let told = "UPDATE t SET a = 6 WHERE id = 2";
    for (statements, ddl, stops) in [
        (&[ambiguous][..], EXCHANGE, true),
        (&[ambiguous], MOVE, true),
        (&["DELETE FROM t WHERE id = 2"], EXCHANGE, true),
        (&["UPDATE t SET a = b, b = 5 WHERE id = 1"], EXCHANGE, true),
        (&[ambiguous, told], MOVE, false),
        (
            &[
                "DELETE FROM t WHERE id = 2",
                told,
                "INSERT INTO t VALUES (9, 5, 5, 'n')",
                "UPDATE t SET a = 6 WHERE id = 3",
            ],
            MOVE,
            false,
        ),
        (&["INSERT INTO t VALUES (9, 5, 5, 'n')", "DELETE FROM t WHERE id = 4"], MOVE, false),
        (
            &[ambiguous],
            &["ALTER TABLE t MODIFY s VARCHAR(9) FIRST", "ALTER TABLE t ADD COLUMN n INT AFTER a"],
            false,
        ),
    ] {
        let case = async {
            let schema = c.schema("exchanged").await?;
            let mut outsider = c.direct(Bank::One, &schema).await?;
            sql::run_all(
                &mut outsider,
                &[
                    "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT, s VARCHAR(9))",
                    "INSERT INTO t VALUES (1, 1, 5, 'x'), (2, 2, 3, 'y'), (3, 4, 3, 'z'), (4, 7, 7, 'w')",
                ],
            )
            .await?;
            let all = "SELECT id, a, b, s FROM t ORDER BY id";
            let before = c.rows(Bank::One, &schema, all).await?;
            let mut app = c.app(Bank::One, &schema).await?;
            let xid = sql::start_global(&mut app).await?;
            sql::run_all(&mut app, &["BEGIN"]).await?;
            sql::run_all(&mut app, statements).await?;
            sql::run_all(&mut app, &["COMMIT"]).await?;
            sql::run_all(&mut outsider, ddl).await?;
            let altered = c.rows(Bank::One, &schema, all).await?;
            let shown = c.atone_undo(Bank::One, &["sql", &xid]).await?.stdout;
            anyhow::ensure!(shown.contains("exchanged their names") == stops, "atone undo sql: {shown}");
            sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
            if stops {
                let failed = c.rest().wait_for_status(&xid, "rollback_failed", SOON).await?;
                let said = failed["branches"][0]["detail"]["reason"].as_str().unwrap_or_default().to_owned();
                anyhow::ensure!(said.contains("exchanged their names"), "the reason is {said}");
                anyhow::ensure!(c.rows(Bank::One, &schema, all).await? == altered, "rows have changed");
                let back = if ddl == EXCHANGE { EXCHANGE } else { &["ALTER TABLE t MODIFY b INT AFTER a"] };
                sql::run_all(&mut outsider, back).await?;
                c.atone(&["tx", "rollback", &xid]).await?;
            }
            c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
            let after = c.rows(Bank::One, &schema, all).await?;
            anyhow::ensure!(after == before, "expected {before:?}\nfound {after:?}");
            Ok(())
        };
        case.await.with_context(|| format!("{statements:?} {ddl:?}"))?;
    }
    Ok(())
}
