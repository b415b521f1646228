//! What is large: branches of very many rows, very long values, many branches, wide tables, long keys. Each commits and is
//! rolled back to the byte, in bounded memory, or meets a named limit before anything of it has run.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use atone_tests::run::Harmable;
use atone_tests::{Bank, Cluster, ClusterOptions, sql};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

fn options() -> ClusterOptions {
    ClusterOptions {
        default_timeout: "300s".to_owned(),
        server_options: vec![
            "--max-allowed-packet=256M".to_owned(),
            "--innodb-buffer-pool-size=512M".to_owned(),
        ],
        ..ClusterOptions::default()
    }
}

atone_tests::owned_tests!(options() => many_rows, long_values);

/// The proxy's peak of resident memory, in MiB.
fn peak_mib(c: &Cluster, name: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", c.proxy.id().context("no proxy")?))?;
    let line = status.lines().find_map(|l| l.strip_prefix(name)).context("no such line")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib >> 10)
}

struct Memory {
    before: u64,
    at: Instant,
}

impl Memory {
    fn start(c: &Cluster) -> Result<Memory> {
        // Makes the peak the current size
        std::fs::write(format!("/proc/{}/clear_refs", c.proxy.id().context("no proxy")?), "5")?;
        Ok(Memory { before: peak_mib(c, "VmHWM:")?, at: Instant::now() })
    }

    fn end(self, c: &Cluster, what: &str) -> Result<()> {
        let peak = peak_mib(c, "VmHWM:")?;
        println!("{what}: {:?}, {} -> {peak} MiB", self.at.elapsed(), self.before);
        Ok(())
    }
}

const DIGITS: &str = "(SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 \
                      UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";

async fn many(conn: &mut Conn) -> Result<()> {
    sql::run(
        conn,
        "CREATE TABLE many (id INT PRIMARY KEY, n INT NOT NULL, t VARCHAR(100) NOT NULL, at TIMESTAMP NULL)",
    )
    .await?;
    sql::run(
        conn,
        format!(
            "INSERT INTO many SELECT i, i % 7, CONCAT(REPEAT('x', 80), i), '2024-01-01 00:00:00' FROM \
             (SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 10000 * e.n AS i \
             FROM {DIGITS} a, {DIGITS} b, {DIGITS} c, {DIGITS} d, {DIGITS} e) s"
        ),
    )
    .await
}

const SUM: &str = "SELECT COUNT(*), SUM(CRC32(CONCAT_WS('|', id, n, t, at))), MIN(id), MAX(id) FROM many";

async fn many_rows(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let schema = c.schema("many").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    many(&mut direct).await?;
    let before = c.rows(Bank::One, &schema, SUM).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    for (name, statement) in [
        ("update", "UPDATE many SET n = n + 1, t = CONCAT('y', n, REPEAT('z', 50), n * 3)"),
        ("delete", "DELETE FROM many"),
    ] {
        let xid = sql::start_global(&mut conn).await?;
        let memory = Memory::start(c)?;
        let at = Instant::now();
        conn.query_drop(statement).await?;
        ensure!(conn.affected_rows() == 100_000, "{} rows", conn.affected_rows());
        println!("{name} {:?} warnings {}", at.elapsed(), conn.get_warnings());
        memory.end(c, name)?;
        for row in c.rows(Bank::One, &schema, "SELECT context, LENGTH(rollback_info) FROM undo_log").await? {
            println!("{row}");
        }
        let memory = Memory::start(c)?;
        sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
        c.rest().wait_for_status(&xid, "rolled_back", std::time::Duration::from_secs(100)).await?;
        memory.end(c, "rollback")?;
        assert_eq!(c.rows(Bank::One, &schema, SUM).await?, before);
    }
    Ok(())
}

/// Bytes that do not compress, the same for a seed.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

async fn long_values(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let schema = c.schema("long").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run(&mut direct, "CREATE TABLE blobs (id INT PRIMARY KEY, b LONGBLOB, t LONGTEXT)").await?;
    direct.exec_drop("INSERT INTO blobs VALUES (1, ?, 'short')", (noise(7, 64 << 20),)).await?;
    let sum = "SELECT id, LENGTH(b), SHA2(b, 256), LENGTH(t), SHA2(t, 256) FROM blobs ORDER BY id";
    let before = c.rows(Bank::One, &schema, sum).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    for (name, statement) in
        [("update", "UPDATE blobs SET b = REVERSE(b) WHERE id = 1"), ("delete", "DELETE FROM blobs")]
    {
        let xid = sql::start_global(&mut conn).await?;
        let memory = Memory::start(c)?;
        sql::run(&mut conn, statement).await?;
        memory.end(c, name)?;
        for row in c
            .rows(Bank::One, &schema, "SELECT context FROM undo_log ORDER BY LENGTH(xid), xid LIMIT 3")
            .await?
        {
            println!("{row}");
        }
        let memory = Memory::start(c)?;
        sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
        c.rest().wait_for_status(&xid, "rolled_back", std::time::Duration::from_secs(100)).await?;
        memory.end(c, "rollback")?;
        assert_eq!(c.rows(Bank::One, &schema, sum).await?, before);
    }
    Ok(())
}
