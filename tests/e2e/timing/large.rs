//! Statements of many rows, and small ones in large tables: what they lock, whom they hold up, and how rows are
//! counted.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atone_tests::run::Harmable;
use atone_tests::{Bank, Cluster, ClusterOptions, sql};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Params, Value};

fn few_rows() -> ClusterOptions {
    ClusterOptions { proxy_limits: "max_branch_rows = 20\n".to_owned(), ..ClusterOptions::default() }
}

atone_tests::shared_tests!(upserts_lock_their_own_rows, changes_lock_their_own_rows, others_go_on);
atone_tests::owned_tests!(few_rows() => rows_are_counted_once);

/// How many rows the large table has.
const ROWS: usize = 40_000;

/// A table with several unique keys: id, u = 'u<id>', n = 10 × id, (a, b) = (id mod 100, id div 100).
async fn large_table(c: &Cluster, schema: &str) -> Result<()> {
    let mut direct = c.direct(Bank::One, schema).await?;
    sql::run(
        &mut direct,
        "CREATE TABLE big (id INT NOT NULL PRIMARY KEY, u VARCHAR(40) NOT NULL, n BIGINT NULL, a INT, b INT, \
         v INT NOT NULL DEFAULT 0, d VARCHAR(20) NULL, UNIQUE (u), UNIQUE (n), UNIQUE pair (a, b), UNIQUE (d), KEY (v))",
    )
    .await?;
    for first in (0..ROWS).step_by(10_000) {
        let mut insert = "INSERT INTO big (id, u, n, a, b, v) VALUES ".to_owned();
        for id in first..first + 10_000 {
            let comma = if id == first { "" } else { "," };
            write!(insert, "{comma}({id},'u{id}',{},{},{},{id})", 10 * id, id % 100, id / 100)?;
        }
        sql::run(&mut direct, insert).await?;
    }
    sql::run_all(&mut direct, &["ANALYZE TABLE big"]).await?;
    Ok(())
}

/// How many rows and gaps the local transaction has locked: InnoDB's monitor says it of now, its table of
/// transactions may not.
async fn locked(c: &Cluster, connection: u32) -> Result<u64> {
    let mut admin = c.server(Bank::One).admin().await?;
    let status: Option<(String, String, String)> = admin.query_first("SHOW ENGINE INNODB STATUS").await?;
    let (_, _, text) = status.context("no status")?;
    let own = format!("thread id {connection},");
    let of = text.split("---TRANSACTION").find(|of| of.contains(&own)).context("no such transaction")?;
    let before = of.split(" row lock(s)").next().filter(|before| before.len() < of.len());
    let number = before.and_then(|before| before.rsplit(' ').next()).context("no locks")?;
    number.parse().with_context(|| format!("{number:?} row locks"))
}

/// The id of the session's connection on the server.
async fn connection(conn: &mut Conn) -> Result<u32> {
    Ok(sql::cell(conn, "SELECT CONNECTION_ID()").await?.parse()?)
}

/// Another client writes a row that no statement has to do with, without a wait.
async fn others_can_write(c: &Cluster, schema: &str, statement: &str) -> Result<()> {
    let mut other = c.direct(Bank::One, schema).await?;
    sql::run(&mut other, "SET innodb_lock_wait_timeout = 1").await?;
    for write in ["UPDATE big SET v = v + 1 WHERE id = 20001", "UPDATE big SET v = v + 1 WHERE u = 'u30001'"]
    {
        sql::run(&mut other, write).await.with_context(|| format!("beside {statement:.80}"))?;
    }
    Ok(())
}

/// Statements of 100 rows, of which each stands in the way of another by one of the keys.
fn upserts() -> Vec<(String, Vec<Value>)> {
    let rows = |row: &dyn Fn(usize) -> String| (0..100).map(row).collect::<Vec<_>>().join(",");
    let both = rows(&|i| format!("({},'u{}',{},1,{})", 50_000 + i, 2 * i, 500_000 + i, 10_000 + i));
    let by_pair = rows(&|i| format!("({},'p{i}',{},{i},{})", 60_000 + i, 600_000 + i, i % 7));
    // A number for a text, and a text for a number
    let odd = rows(&|i| format!("({},'o{i}','{}',2,{},{i})", 70_000 + i, 10 * i, 20_000 + i));
    let columns = "(id, u, n, a, b)";
    let mut out = Vec::new();
    for (verb, tail) in
        [("INSERT IGNORE", ""), ("INSERT", " ON DUPLICATE KEY UPDATE v = -1"), ("REPLACE", "")]
    {
        out.push((format!("{verb} INTO big {columns} VALUES {both}{tail}"), Vec::new()));
        out.push((format!("{verb} INTO big {columns} VALUES {by_pair}{tail}"), Vec::new()));
        out.push((format!("{verb} INTO big (id, u, n, a, b, d) VALUES {odd}{tail}"), Vec::new()));
        out.push((
            format!(
                "{verb} INTO big {columns} SELECT id + 80000, CONCAT('u', id), n + 1, a, b + 30000 FROM big \
                 WHERE id < 100{tail}"
            ),
            Vec::new(),
        ));
        let marks = vec!["(?,?,?,?,?)"; 100].join(",");
        let values = (0..100).flat_map(|i| {
            let row: [Value; 5] = [
                (90_000 + i).into(),
                format!("u{i}").into(),
                (900_000 + i).into(),
                3.into(),
                (40_000 + i).into(),
            ];
            row
        });
        out.push((format!("{verb} INTO big {columns} VALUES {marks}{tail}"), values.collect()));
    }
    out
}

async fn upserts_lock_their_own_rows(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("large_upserts").await?;
    large_table(&c, &schema).await?;
    let sum = "SELECT COUNT(*), SUM(id), SUM(CRC32(CONCAT_WS('|', id, u, n, a, b, v, d))) FROM big";
    let before = c.rows(Bank::One, &schema, sum).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut conn).await?;
    let id = connection(&mut conn).await?;
    for (statement, values) in upserts() {
        sql::run(&mut conn, "BEGIN").await?;
        let params = if values.is_empty() { Params::Empty } else { Params::Positional(values) };
        let prepared = !matches!(params, Params::Empty);
        if prepared {
            conn.exec_drop(&statement, params).await.with_context(|| format!("{statement:.80}"))?;
        } else {
            sql::run(&mut conn, &statement).await?;
        }
        let locks = locked(&c, id).await?;
        println!("{:?} {locks} {prepared} {statement:.100}", c.flavor());
        ensure!(locks < 5_000, "{statement:.100} has locked {locks} rows");
        others_can_write(&c, &schema, &statement).await?;
        sql::run(&mut conn, "ROLLBACK").await?;
    }
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    assert_eq!(c.rows(Bank::One, &schema, sum).await?.len(), before.len());
    Ok(())
}

/// How many rows the statement locks where no proxy stands in between.
async fn locked_bare(c: &Cluster, schema: &str, statement: &str) -> Result<u64> {
    let mut direct = c.direct(Bank::One, schema).await?;
    let id = connection(&mut direct).await?;
    sql::run_all(&mut direct, &["BEGIN", statement]).await?;
    let locks = locked(c, id).await?;
    sql::run(&mut direct, "ROLLBACK").await?;
    Ok(locks)
}

async fn changes_lock_their_own_rows(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("large_changes").await?;
    large_table(&c, &schema).await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    let texts = "CREATE TABLE texts (a INT, k VARCHAR(40), v INT, PRIMARY KEY (a, k)) \
                 SELECT a, u AS k, v FROM big";
    sql::run_all(&mut direct, &[texts, "ANALYZE TABLE texts"]).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut conn).await?;
    let id = connection(&mut conn).await?;
    let list = |count: usize| (0..count).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    for statement in [
        "UPDATE big SET v = v + 1000000 WHERE id < 15000".to_owned(),
        "UPDATE big AS x SET v = v + 1000000 WHERE id < 15000".to_owned(),
        "DELETE FROM big WHERE id < 15000".to_owned(),
        format!("UPDATE big SET v = -1 WHERE id IN ({})", list(1_000)),
        format!("DELETE FROM big WHERE id IN ({})", list(1_000)),
        "UPDATE big SET d = CONCAT('d', id) WHERE id < 3000".to_owned(),
        "UPDATE big SET v = -1 WHERE id < 15000 AND RAND() < 2".to_owned(),
        "DELETE FROM big WHERE id < 15000 AND RAND() < 2".to_owned(),
        "DELETE FROM big ORDER BY id LIMIT 15000".to_owned(),
        "UPDATE big SET v = -1 ORDER BY id LIMIT 15000".to_owned(),
        "UPDATE texts SET v = -1 WHERE a < 40".to_owned(),
        "DELETE FROM texts WHERE a < 40".to_owned(),
    ] {
        let bare = locked_bare(&c, &schema, &statement).await?;
        sql::run_all(&mut conn, &["BEGIN", &statement]).await?;
        let locks = locked(&c, id).await?;
        println!("{:?} {bare} {locks} {statement:.100}", c.flavor());
        ensure!(
            locks <= bare + bare / 4 + 100,
            "{statement:.100} has locked {locks} rows, {bare} without the proxy"
        );
        // A server may read all of the table by itself
        if !statement.contains("texts") && bare < ROWS as u64 / 2 {
            others_can_write(&c, &schema, &statement).await?;
        }
        sql::run(&mut conn, "ROLLBACK").await?;
    }
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await
}

/// Work of many rows does not keep the proxy from its other clients.
async fn others_go_on(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("large_others").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    let tables = ["w0", "w1"]
        .map(|name| format!("CREATE TABLE {name} (id INT PRIMARY KEY, u VARCHAR(40), v INT, UNIQUE (u))"));
    for table in &tables {
        sql::run(&mut direct, table).await?;
    }
    let mut workers = tokio::task::JoinSet::new();
    for name in ["w0", "w1"] {
        let mut conn = c.app(Bank::One, &schema).await?;
        workers.spawn(async move {
            sql::start_global(&mut conn).await?;
            for pass in 0..2 {
                let rows: Vec<String> = (0..20_000).map(|i| format!("({i},'u{i}',{pass})")).collect();
                let rows = rows.join(",");
                let upsert =
                    format!("INSERT INTO {name} VALUES {rows} ON DUPLICATE KEY UPDATE v = VALUES(v)");
                sql::run(&mut conn, upsert).await?;
                sql::run(&mut conn, format!("UPDATE {name} SET v = v + 1")).await?;
            }
            sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await
        });
    }
    let mut other = c.app(Bank::One, &schema).await?;
    let (mut longest, mut reads) = (Duration::ZERO, 0u32);
    let mut done = 0;
    while done < 2 {
        let began = Instant::now();
        sql::run(&mut other, "SELECT 1").await?;
        longest = longest.max(began.elapsed());
        reads += 1;
        while let Some(finished) = workers.try_join_next() {
            finished??;
            done += 1;
        }
    }
    println!("{:?}: the longest of {reads} reads took {longest:?}", c.flavor());
    // It stood still for as long as a whole statement took to be worked out, 8 seconds and more
    ensure!(longest < Duration::from_secs(1), "a SELECT 1 took {longest:?}");
    Ok(())
}

async fn rows_are_counted_once(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let schema = c.schema("large_counts").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(
        &mut direct,
        &[
            "CREATE TABLE t (id INT PRIMARY KEY, u INT, v INT, UNIQUE (u))",
            "CREATE TABLE p (id INT PRIMARY KEY)",
            "CREATE TABLE c (id INT PRIMARY KEY, p INT, v INT, \
             FOREIGN KEY (p) REFERENCES p (id) ON DELETE SET NULL)",
            "CREATE TABLE s (id INT PRIMARY KEY)",
        ],
    )
    .await?;
    for id in 1..=20 {
        sql::run(&mut direct, format!("INSERT INTO s VALUES ({id})")).await?;
    }
    let all: Vec<String> = (1..=20).map(|i| format!("({i},{i},0)")).collect();
    let all = all.join(",");
    let more: Vec<String> = (1..=21).map(|i| format!("({i},{i},0)")).collect();
    let more = more.join(",");
    let mut conn = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut conn).await?;
    // Each of these changes 20 rows and no more, however often
    let fits = [
        format!("INSERT INTO t VALUES {all}"),
        "UPDATE t SET v = v + 1".to_owned(),
        "UPDATE t SET v = v + 1 ORDER BY id".to_owned(),
        format!("INSERT INTO t VALUES {all} ON DUPLICATE KEY UPDATE v = v + 1"),
        format!("REPLACE INTO t VALUES {all}"),
        format!("INSERT IGNORE INTO t VALUES {all}"),
        "DELETE FROM t".to_owned(),
        format!("INSERT INTO t VALUES {all}"),
        "DELETE FROM t".to_owned(),
        "INSERT INTO t SELECT id, id, 0 FROM s".to_owned(),
        "UPDATE t JOIN s ON s.id = t.id SET t.v = 5".to_owned(),
        "REPLACE INTO t SELECT id, id, 7 FROM s".to_owned(),
        "INSERT IGNORE INTO t SELECT id, id, 7 FROM s".to_owned(),
        "UPDATE t SET v = 8 WHERE id <= 20".to_owned(),
    ];
    sql::run(&mut conn, "BEGIN").await?;
    for statement in &fits {
        sql::run(&mut conn, statement).await.with_context(|| statement.clone())?;
    }
    sql::refused(&mut conn, "INSERT INTO t VALUES (21,21,0)").await?.expect(1235, "42000")?;
    sql::refused(&mut conn, "INSERT IGNORE INTO t VALUES (20,20,0),(21,21,0)")
        .await?
        .expect(1235, "42000")?;
    sql::refused(&mut conn, "UPDATE t SET id = 21 WHERE id = 20").await?.expect(1235, "42000")?;
    sql::run(&mut conn, "COMMIT").await?;
    assert_eq!(c.rows(Bank::One, &schema, "SELECT COUNT(*), SUM(v) FROM t").await?, ["20|160"]);
    // A statement that finds most of its rows there adds but one
    sql::run(&mut conn, format!("INSERT IGNORE INTO t VALUES {more}")).await?;
    // Rows that foreign keys change count once as well
    sql::run(&mut conn, "BEGIN").await?;
    for id in 1..=10 {
        sql::run_all(
            &mut conn,
            &[&format!("INSERT INTO p VALUES ({id})"), &format!("INSERT INTO c VALUES ({id},{id},0)")],
        )
        .await?;
    }
    sql::run_all(&mut conn, &["UPDATE c SET v = 1", "DELETE FROM p", "COMMIT"]).await?;
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &schema).await?;
    let left = "SELECT (SELECT COUNT(*) FROM t), (SELECT COUNT(*) FROM p), (SELECT COUNT(*) FROM c)";
    assert_eq!(c.rows(Bank::One, &schema, left).await?, ["0|0|0"]);
    Ok(())
}
