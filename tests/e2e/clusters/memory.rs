//! How much memory the proxy takes for large branches, that it gives it back, and what is refused, or waits, above
//! `limits.max_memory`.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atone_tests::run::Harmable;
use atone_tests::{Bank, Cluster, ClusterOptions, proc, sql};
use mysql_async::Conn;

/// Half of it is for sessions.
const MAX_MEMORY_MIB: usize = 64;
const MAX_MEMORY: usize = MAX_MEMORY_MIB << 20;
/// A row of the table, as the server sends it, in bytes.
const ROW_BYTES: u64 = 1200;
const ROWS: u64 = 8_000;

fn little() -> ClusterOptions {
    let proxy_limits = format!("max_memory = \"{MAX_MEMORY_MIB}MiB\"\n");
    ClusterOptions { proxy_limits, ..ClusterOptions::default() }
}

atone_tests::owned_tests!(ClusterOptions::default() => images_are_compact_and_go);
atone_tests::owned_tests!(little() => above_the_limit);

/// A table of 60 columns in a schema of its own, and what it is.
async fn wide_table(c: &Cluster) -> Result<(String, Vec<String>)> {
    let schema = c.schema("memory").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    let mut create = "CREATE TABLE wide (id INT NOT NULL PRIMARY KEY, v INT NOT NULL".to_owned();
    let mut select = "n, 0".to_owned();
    for i in 0..29 {
        write!(create, ", i{i} INT, s{i} VARCHAR(60)")?;
        write!(select, ", n * {i}, CONCAT('{i:028}', n)")?;
    }
    create.push(')');
    sql::run(&mut direct, create).await?;
    sql::create_numbers(&mut direct, 0..ROWS).await?;
    sql::run(&mut direct, format!("INSERT INTO wide SELECT {select} FROM numbers")).await?;
    let sums = sums(c, &schema).await?;
    Ok((schema, sums))
}

/// What the table is, in one cell.
async fn sums(c: &Cluster, schema: &str) -> Result<Vec<String>> {
    let sums = "SELECT COUNT(*), SUM(v), SUM(i28), SUM(CRC32(CONCAT_WS(',', id, s0, s14, s28))) FROM wide";
    c.rows(Bank::One, schema, sums).await
}

/// Waits until the process has no more memory than this.
async fn until_below(pid: u32, bytes: u64) -> Result<()> {
    let wait = async {
        while proc::resident_bytes(pid)? > bytes {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    let now = || proc::resident_bytes(pid).map_or(0, |now| now >> 20);
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .with_context(|| format!("the proxy keeps {} MiB, more than {} MiB", now(), bytes >> 20))?
}

async fn images_are_compact_and_go(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let (schema, before) = wide_table(c).await?;
    let pid = c.proxy.id().context("the proxy does not run")?;
    let idle = proc::resident_bytes(pid)?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run(&mut app, "BEGIN").await?;
    sql::run(&mut app, "UPDATE wide SET v = v + 1").await?;
    let sent = ROWS * ROW_BYTES;
    let grown = proc::peak_bytes(pid)?.saturating_sub(idle);
    ensure!(grown < 4 * sent, "the images took {} MiB, the server sent {} MiB", grown >> 20, sent >> 20);
    sql::run(&mut app, "COMMIT").await?;
    let grown = proc::peak_bytes(pid)?.saturating_sub(idle);
    ensure!(grown < 6 * sent, "with the COMMIT {} MiB, the server sent {} MiB", grown >> 20, sent >> 20);
    until_below(pid, idle + grown / 2).await?;
    c.roll_back_global(&mut app, &xid).await?;
    until_below(pid, idle + grown / 2).await?;
    assert_eq!(sums(c, &schema).await?, before);
    Ok(())
}

/// Tries to change all rows; whether that was refused for want of memory.
async fn changes_all(conn: &mut Conn) -> Result<bool> {
    match sql::run(conn, "UPDATE wide SET v = v + 1").await {
        Ok(()) => Ok(true),
        Err(_) => {
            let error = sql::refused(conn, "UPDATE wide SET v = v + 1").await?;
            ensure!(error.code == 1040 && error.message.contains("limits.max_memory"), "{error:?}");
            Ok(false)
        }
    }
}

async fn above_the_limit(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let (schema, before) = wide_table(c).await?;
    let pid = c.proxy.id().context("the proxy does not run")?;
    let idle = proc::resident_bytes(pid)?;
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    for begin in [false, true] {
        if begin {
            sql::run(&mut app, "BEGIN").await?;
            sql::run(&mut app, "UPDATE wide SET v = 7 WHERE id < 10").await?;
        }
        ensure!(!changes_all(&mut app).await?, "all rows are more than there is memory for");
    }
    // What was done before stays, and the session goes on
    assert_eq!(sql::cell(&mut app, "SELECT SUM(v) FROM wide").await?, "70");
    sql::run(&mut app, "UPDATE wide SET v = 8 WHERE id BETWEEN 10 AND 500").await?;
    sql::run(&mut app, "COMMIT").await?;

    // Several sessions hold what others then cannot have, until they end
    let mut others = Vec::new();
    let mut refused = None;
    for n in 1..16 {
        let mut conn = c.app(Bank::One, &schema).await?;
        sql::run(&mut conn, format!("START GLOBAL TRANSACTION JOIN '{xid}'")).await?;
        sql::run(&mut conn, "BEGIN").await?;
        let (first, last) = (500 * n + 1, 500 * (n + 1) - 1);
        let update = format!("UPDATE wide SET v = v + 1 WHERE id BETWEEN {first} AND {last}");
        match sql::run(&mut conn, &update).await {
            Ok(()) => others.push(conn),
            Err(error) => {
                let text = format!("{error:#}");
                ensure!(text.contains("1040") && text.contains("limits.max_memory"), "{text}");
                refused = Some((conn, update));
                break;
            }
        }
    }
    let (mut conn, update) = refused.context("fifteen sessions have more memory than there is")?;
    ensure!(others.len() > 3, "only {} sessions", others.len());
    for other in &mut others {
        // What a COMMIT needs was counted before
        sql::run(other, "COMMIT").await?;
    }
    sql::run(&mut conn, &update).await?;
    sql::run(&mut conn, "COMMIT").await?;
    let grown = proc::peak_bytes(pid)?.saturating_sub(idle);
    ensure!(grown < MAX_MEMORY as u64, "the proxy took {} MiB more", grown >> 20);
    c.roll_back_global(&mut app, &xid).await?;
    assert_eq!(sums(c, &schema).await?, before);
    Ok(())
}
