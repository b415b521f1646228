//! What a statement reads may write: a view that calls a function. Any client can put one in the place of a table.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::run::Harmable;
use atone_tests::{Bank, Cluster, ClusterOptions, sql};
use mysql_async::Conn;

atone_tests::owned_tests!(ClusterOptions::believing() =>
    views_over_functions,
    tables_that_become_views,
    a_view_however_it_is_named,
    behind_what_lets_it_go,
    against_one_who_swaps,
);

const SETUP: &[&str] = &[
    "CREATE TABLE t (id INT PRIMARY KEY, a INT)",
    "CREATE TABLE other (id INT PRIMARY KEY, a INT)",
    "CREATE TABLE audit (id INT PRIMARY KEY AUTO_INCREMENT, what VARCHAR(40))",
    "INSERT INTO t VALUES (1, 10), (2, 20), (3, 30)",
    "INSERT INTO other VALUES (1, 1), (2, 1), (3, 2)",
    "CREATE FUNCTION writes() RETURNS INT DETERMINISTIC MODIFIES SQL DATA \
     BEGIN INSERT INTO audit (what) VALUES ('written'); RETURN 1; END",
];

/// Everything, and what the function has written.
async fn content(c: &Cluster, schema: &str) -> Result<Vec<String>> {
    let mut all = c.rows(Bank::One, schema, "SELECT * FROM t ORDER BY id").await?;
    all.extend(c.rows(Bank::One, schema, "SELECT what FROM audit ORDER BY id").await?);
    Ok(all)
}

/// A schema, a bound session in it, its XID, and one of another client.
async fn set_up(c: &Cluster) -> Result<(String, Conn, String, Conn)> {
    let schema = c.schema("reads").await?;
    let mut outsider = c.server(Bank::One).connect(atone_tests::server::ADMIN, Some(&schema)).await?;
    sql::run_all(&mut outsider, SETUP).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    Ok((schema, app, xid, outsider))
}

/// Rolls the global transaction back: nothing is left of it.
async fn nothing_stays(
    c: &Cluster,
    schema: &str,
    app: &mut Conn,
    xid: &str,
    before: &[String],
) -> Result<()> {
    sql::run(app, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(xid, "rolled_back", SOON).await?;
    let now = content(c, schema).await?;
    ensure!(now == before, "{now:?}");
    Ok(())
}

/// Views are looked into each time, however deep they lie.
async fn views_over_functions(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let (schema, mut app, xid, mut outsider) = set_up(c).await?;
    sql::run_all(
        &mut outsider,
        &["CREATE VIEW inner_view AS SELECT id FROM other", "CREATE VIEW v AS SELECT id FROM inner_view"],
    )
    .await?;
    let before = content(c, &schema).await?;
    for view in ["inner_view", "v"] {
        for statement in ["SELECT * FROM v", "UPDATE t SET a = 5 WHERE id IN (SELECT id FROM v)"] {
            sql::run(&mut app, statement).await?;
            let ddl = format!("CREATE OR REPLACE VIEW {view} AS SELECT id + writes() AS id FROM other");
            sql::run(&mut outsider, ddl).await?;
            sql::refused(&mut app, statement).await?.expect_naming(1235, "42000", &xid)?;
            let over = if view == "v" { "inner_view" } else { "other" };
            sql::run(&mut outsider, format!("CREATE OR REPLACE VIEW {view} AS SELECT id FROM {over}"))
                .await?;
            sql::run(&mut app, statement).await?;
        }
    }
    nothing_stays(c, &schema, &mut app, &xid, &before).await
}

const TO_VIEW: [&str; 2] =
    ["RENAME TABLE other TO aside", "CREATE VIEW other AS SELECT id + writes() * 0 AS id, a FROM aside"];
const TO_TABLE: [&str; 2] = ["DROP VIEW other", "RENAME TABLE aside TO other"];

/// What was read, and written, as a table is a view at the next statement, that is refused then, and a table again.
async fn tables_that_become_views(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let (schema, mut app, _, mut outsider) = set_up(c).await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    let before = content(c, &schema).await?;
    for begin in [None, Some("BEGIN"), Some("SET autocommit = 0")] {
        for statement in [
            "SELECT * FROM other",
            "SELECT 1 FROM t JOIN other USING (id) FOR UPDATE",
            "SET @a = (SELECT MAX(id) FROM other)",
            "UPDATE t SET a = 5 WHERE id IN (SELECT id FROM other)",
            "UPDATE t JOIN other ON other.id = t.id SET t.a = 5",
            "DELETE t FROM t JOIN other ON other.id = t.id",
            "INSERT INTO t SELECT id + 10, a FROM other",
            "INSERT INTO t VALUES (10, (SELECT MAX(id) FROM other))",
            "UPDATE other SET a = 7 WHERE id = 1",
            "DELETE FROM other WHERE id = 1",
            "INSERT INTO other VALUES (5, 50)",
            "REPLACE INTO other VALUES (1, 50)",
            "INSERT INTO other (id) VALUES (1) ON DUPLICATE KEY UPDATE a = 7",
        ] {
            let case = async {
                let xid = sql::start_global(&mut app).await?;
                sql::run(&mut app, statement).await?;
                nothing_stays(c, &schema, &mut app, &xid, &before).await?;
                let xid = sql::start_global(&mut app).await?;
                if let Some(begin) = begin {
                    sql::run(&mut app, begin).await?;
                }
                sql::run_all(&mut outsider, &TO_VIEW).await?;
                sql::refused(&mut app, statement).await?.expect_naming(1235, "42000", &xid)?;
                let now = content(c, &schema).await?;
                ensure!(now == before, "{now:?}");
                sql::run_all(&mut app, &["COMMIT", "SET autocommit = 1"]).await?;
                sql::run_all(&mut outsider, &TO_TABLE).await?;
                sql::run(&mut app, statement).await?;
                nothing_stays(c, &schema, &mut app, &xid, &before).await?;
                c.wait_for_purge(Bank::One, &schema).await
            };
            case.await.with_context(|| format!("{begin:?} {statement}"))?;
        }
    }
    Ok(())
}

/// How a statement can name what it reads; the server says which of them it knows.
async fn a_view_however_it_is_named(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let (schema, mut app, xid, mut outsider) = set_up(c).await?;
    sql::run(&mut outsider, "CREATE VIEW `a view` AS SELECT id, a FROM other").await?;
    sql::run(&mut outsider, "CREATE VIEW v AS SELECT id, a FROM other").await?;
    let statements = [
        "SELECT * FROM v".to_owned(),
        format!("SELECT * FROM {schema}.v"),
        format!("SELECT * FROM `{schema}` . v AS x"),
        "SELECT * FROM .v".into(),
        "SELECT * FROM `a view`".into(),
        "SELECT 1 FROM t, .v".into(),
        "SELECT 1 FROM (t, v)".into(),
        "SELECT 1 FROM ((t), (((v))))".into(),
        "SELECT 1 FROM {OJ t LEFT JOIN v ON v.id = t.id}".into(),
        "SELECT 1 FROM {any v}".into(),
        "SELECT 1 FROM t NATURAL LEFT JOIN v".into(),
        "SELECT STRAIGHT_JOIN t.id FROM t CROSS JOIN v".into(),
        "SELECT 1 FROM t STRAIGHT_JOIN v".into(),
        "SELECT 1 FROM t USE INDEX FOR ORDER BY (PRIMARY), v".into(),
        "SELECT 1 FROM t IGNORE INDEX FOR GROUP BY (PRIMARY), v GROUP BY t.id".into(),
        "SELECT 1 FROM t JOIN other ON t.id IN (1, 2) AND @`where` IS NULL, v".into(),
        "SELECT 1 FROM t x JOIN other `where` ON `where`.id = x.id, v".into(),
        "SELECT 1 FROM t AS returning, v".into(),
        "SELECT 1 FROM (SELECT 1) x (y), v".into(),
        "SELECT 1 FROM (SELECT 1) x, LATERAL (SELECT id FROM v) y".into(),
        "SELECT 1 FROM JSON_TABLE('[1]', '$[*]' COLUMNS (n INT PATH '$')) j, v".into(),
        "SELECT 1 /*!50000 FROM v */".into(),
        "SELECT 1 FROM t /*!99999 WHERE 1 */, v".into(),
        "SELECT 1 FROM /*!99999 t, */ v".into(),
        format!("SELECT 1 FROM {schema}./*!99999 t, */v"),
        "(SELECT id FROM t) UNION (SELECT id FROM v)".into(),
        "TABLE t UNION TABLE v".into(),
        "SELECT id FROM t ORDER BY (SELECT MAX(id) FROM v)".into(),
        "SELECT id FROM t GROUP BY id HAVING id IN (SELECT id FROM v)".into(),
        "SELECT id FROM t WHERE EXISTS (TABLE v)".into(),
        "SELECT EXISTS (SELECT 1 FROM v)".into(),
        "WITH x AS (SELECT id FROM v) SELECT * FROM x".into(),
        "WITH x AS (SELECT 1), y AS (SELECT id FROM t, v) SELECT 1 FROM y".into(),
        "VALUES ROW ((SELECT MAX(id) FROM v))".into(),
        "DO (SELECT MAX(id) FROM v)".into(),
        "SET @a = (SELECT MAX(id) FROM v)".into(),
        "SELECT MAX(id) FROM v INTO @a".into(),
        "SELECT MAX(id) INTO @a FROM v".into(),
        "UPDATE t SET a = 1, id = (SELECT 1 FROM other, v LIMIT 1) WHERE id = 1".into(),
        "DELETE FROM t USING t, v WHERE t.id = v.id".into(),
        "DELETE FROM t USING (t, v) WHERE t.id = v.id".into(),
        "DELETE t FROM (t, v) WHERE t.id = v.id".into(),
        "UPDATE LOW_PRIORITY IGNORE (t, v) SET t.a = 1 WHERE t.id = v.id".into(),
        "INSERT INTO t (id, a) (SELECT id + 10, a FROM (v))".into(),
        "INSERT INTO t VALUES (20, 1), (21, (SELECT 1 FROM other, v LIMIT 1))".into(),
        "INSERT INTO t VALUES (1, 1) ON DUPLICATE KEY UPDATE a = (SELECT 1 FROM other, v LIMIT 1)".into(),
        "REPLACE t SET id = 1, a = (SELECT MAX(id) FROM v)".into(),
    ];
    let mut known = 0;
    for statement in &statements {
        sql::run(&mut outsider, "BEGIN").await?;
        known += usize::from(sql::run(&mut outsider, statement).await.is_ok());
        sql::run(&mut outsider, "ROLLBACK").await?;
    }
    assert!(known > statements.len() - 10, "{known} of {}", statements.len());
    for view in ["`a view`", "v"] {
        let ddl = format!("CREATE OR REPLACE VIEW {view} AS SELECT id + writes() * 0 AS id, a FROM other");
        sql::run(&mut outsider, ddl).await?;
    }
    let before = content(c, &schema).await?;
    for statement in &statements {
        // One that it does not know is refused or fails
        let error = sql::refused(&mut app, statement).await?;
        let now = content(c, &schema).await?;
        assert_eq!(now, before, "{statement}: {error:?}");
        sql::run(&mut outsider, "BEGIN").await?;
        let runs = sql::run(&mut outsider, statement).await.is_ok();
        sql::run(&mut outsider, "ROLLBACK").await?;
        if runs {
            error.expect_naming(1235, "42000", &xid).with_context(|| statement.clone())?;
        }
    }
    nothing_stays(c, &schema, &mut app, &xid, &before).await
}

/// A transaction gives a table back where the statement that reads it fails, and where it is rolled back to a
/// savepoint.
async fn behind_what_lets_it_go(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let (schema, mut app, xid, mut outsider) = set_up(c).await?;
    let before = content(c, &schema).await?;
    sql::run(&mut outsider, "SET lock_wait_timeout = 1").await?;
    sql::run_all(&mut app, &["BEGIN", "SELECT * FROM other"]).await?;
    assert_eq!(sql::refused(&mut outsider, TO_VIEW[0]).await?.code, 1205);
    sql::run(&mut app, "ROLLBACK").await?;
    for behind in [
        ["BEGIN", "SAVEPOINT s", "SELECT * FROM other", "ROLLBACK TO s"].as_slice(),
        &["BEGIN", "UPDATE t SET a = 1 WHERE id = 1", "SAVEPOINT s", "SELECT * FROM other", "ROLLBACK TO s"],
        &["BEGIN", "SELECT 1 FROM other, nowhere"],
        &["BEGIN", "UPDATE t SET a = 1 WHERE id = 1", "SELECT 1 FROM other, nowhere"],
        &["BEGIN", "SELECT * FROM other", "BEGIN"],
        &["BEGIN", "SELECT * FROM other", "COMMIT AND CHAIN"],
        &["BEGIN", "SELECT * FROM other", "ROLLBACK AND CHAIN"],
        &["BEGIN", "UPDATE t SET a = 1 WHERE id IN (SELECT id FROM other)", "COMMIT AND CHAIN"],
        &["SELECT * FROM other", "BEGIN"],
        &["SET autocommit = 0", "SELECT * FROM other", "SET autocommit = 1", "BEGIN"],
    ] {
        for statement in behind {
            if statement.contains("nowhere") {
                assert_eq!(sql::refused(&mut app, statement).await?.code, 1146);
            } else {
                sql::run(&mut app, statement).await?;
            }
        }
        match sql::run(&mut outsider, TO_VIEW[0]).await {
            Ok(()) => {
                sql::run(&mut outsider, TO_VIEW[1]).await?;
                let refused = sql::refused(&mut app, "SELECT * FROM other").await;
                refused?.expect_naming(1235, "42000", &xid).with_context(|| format!("{behind:?}"))?;
                sql::run_all(&mut outsider, &TO_TABLE).await?;
            }
            // The server keeps the lock
            Err(_) => sql::run(&mut app, "SELECT * FROM other").await?,
        }
        sql::run(&mut app, "COMMIT").await?;
    }
    nothing_stays(c, &schema, &mut app, &xid, &before).await
}

/// A table and a view change places all the time: no transaction commits what the view's function has written.
async fn against_one_who_swaps(c: Harmable) -> Result<()> {
    const TRANSACTIONS: usize = 300;
    let c = &*c.lock().await;
    let (schema, mut app, _, mut outsider) = set_up(c).await?;
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
    sql::run(&mut outsider, "CREATE VIEW calls AS SELECT id + writes() * 0 AS id, a FROM other").await?;
    sql::run(&mut outsider, "CREATE TABLE one_or_other LIKE other").await?;
    let before = content(c, &schema).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let swapping = tokio::spawn(async move {
        let mut swaps = 0;
        while !stopped.load(Ordering::SeqCst) {
            sql::run(
                &mut outsider,
                "RENAME TABLE one_or_other TO spare, calls TO one_or_other, spare TO calls",
            )
            .await?;
            swaps += 1;
        }
        anyhow::Ok(swaps)
    });
    let statements = [
        "SELECT * FROM one_or_other",
        "UPDATE t SET a = a + 1 WHERE id IN (SELECT id FROM one_or_other)",
        "INSERT INTO t SELECT id + 100, a FROM one_or_other",
    ];
    let (mut done, mut refused, mut ended) = (0, 0, 0);
    for n in 0..TRANSACTIONS {
        let xid = sql::start_global(&mut app).await?;
        let statement = statements[n % statements.len()];
        let alone = n % 2 == 0 && !statement.starts_with("SELECT");
        if !alone {
            sql::run(&mut app, "BEGIN").await?;
        }
        let mut ran = sql::run(&mut app, statement).await;
        if !alone {
            ran = ran.and(sql::run(&mut app, "COMMIT").await);
        }
        match ran.as_ref().map_err(|e| e.root_cause().downcast_ref::<mysql_async::ServerError>()) {
            Ok(()) => done += 1,
            Err(Some(e)) if e.code == 1235 => refused += 1,
            Err(Some(e)) if e.code == 1213 => ended += 1,
            Err(_) => return ran.context(statement),
        }
        sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await?;
        c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    }
    stop.store(true, Ordering::SeqCst);
    let swaps = swapping.await??;
    println!("{done} done, {refused} refused, {ended} ended at their COMMIT; {swaps} swaps");
    assert!(done > 0 && refused > 0 && swaps > 0, "{done} {refused} {swaps}");
    assert_eq!(content(c, &schema).await?, before);
    Ok(())
}
