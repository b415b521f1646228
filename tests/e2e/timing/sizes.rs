//! What is large: branches of very many rows, very long values, many branches, wide tables, long keys. Each commits
//! and is rolled back to the byte, in bounded memory, or meets a named limit before anything of it has run.

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

atone_tests::owned_tests!(options() => many_rows, many_rows_inserted, long_values);
atone_tests::owned_tests!(options() => many_branches, wide_tables, long_keys);

/// What one branch may take of the proxy's memory, in MiB: its images before and after, the undo record made of them,
/// and what the server and the client are being sent, each of `max_branch_bytes` (256 MiB) at most.
const MOST_MIB: u64 = 1024;

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
        ensure!(peak < self.before + MOST_MIB, "{what} took {} -> {peak} MiB", self.before);
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

/// A hundred thousand rows inserted in one branch, in statements of ten thousand: with keys given, and with keys
/// generated.
async fn many_rows_inserted(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let schema = c.schema("inserted").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run_all(
        &mut direct,
        &[
            "CREATE TABLE given (id INT PRIMARY KEY, t VARCHAR(40) NOT NULL)",
            "CREATE TABLE made (id INT AUTO_INCREMENT PRIMARY KEY, t VARCHAR(40) NOT NULL)",
            "INSERT INTO given VALUES (-1, 'stays')",
            "INSERT INTO made VALUES (1, 'stays')",
        ],
    )
    .await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    for (table, given, blocks) in [("given", true, 10), ("made", false, 2)] {
        let xid = sql::start_global(&mut conn).await?;
        let memory = Memory::start(c)?;
        sql::run(&mut conn, "BEGIN").await?;
        for block in 0..blocks {
            let rows: Vec<String> = (0..10_000)
                .map(|i| block * 10_000 + i)
                .map(|i| if given { format!("({i},'row {i}')") } else { format!("(NULL,'row {i}')") })
                .collect();
            sql::run(&mut conn, format!("INSERT INTO {table} VALUES {}", rows.join(","))).await?;
        }
        sql::run(&mut conn, "COMMIT").await?;
        memory.end(c, table)?;
        let count = format!("SELECT COUNT(*) FROM {table}");
        assert_eq!(c.rows(Bank::One, &schema, &count).await?, [format!("{}", blocks * 10_000 + 1)]);
        let memory = Memory::start(c)?;
        sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
        c.rest().wait_for_status(&xid, "rolled_back", std::time::Duration::from_secs(100)).await?;
        memory.end(c, "rollback")?;
        assert_eq!(c.rows(Bank::One, &schema, &format!("SELECT t FROM {table}")).await?, ["stays"]);
    }
    Ok(())
}

/// A thousand branches in one transaction, on two servers, many of which change the same rows.
async fn many_branches(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let schema = c.schema("branches").await?;
    let mut banks = Vec::new();
    for bank in [Bank::One, Bank::Two] {
        let mut direct = c.direct(bank, &schema).await?;
        let rows: Vec<String> = (0..50).map(|i| format!("({i}, 0)")).collect();
        sql::run(&mut direct, "CREATE TABLE counters (id INT PRIMARY KEY, n INT NOT NULL)").await?;
        sql::run(&mut direct, format!("INSERT INTO counters VALUES {}", rows.join(","))).await?;
        banks.push(c.app(bank, &schema).await?);
    }
    for (outcome, count, sum) in [("ROLLBACK", 1000, "0|0|0"), ("COMMIT", 200, "100|2|2")] {
        let xid = sql::start_global(&mut banks[0]).await?;
        sql::run(&mut banks[1], format!("SET @atone_xid = '{xid}'")).await?;
        for i in 0..count {
            let update = format!("UPDATE counters SET n = n + 1 WHERE id = {}", i / 2 % 50);
            sql::run(&mut banks[i % 2], update).await?;
        }
        sql::run(&mut banks[1], "SET @atone_xid = NULL").await?;
        let transaction = c.rest().transaction(&xid).await?;
        let branches = transaction["branches"].as_array().context("no branches")?.len();
        assert_eq!(branches, count);
        sql::run(&mut banks[0], format!("{outcome} GLOBAL TRANSACTION")).await?;
        let status = if outcome == "COMMIT" { "committed" } else { "rolled_back" };
        c.rest().wait_for_status(&xid, status, std::time::Duration::from_secs(100)).await?;
        for bank in [Bank::One, Bank::Two] {
            let seen = c.rows(bank, &schema, "SELECT SUM(n), MIN(n), MAX(n) FROM counters").await?;
            assert_eq!(seen, [sum], "{outcome} on {bank:?}");
        }
    }
    Ok(())
}

/// Five hundred columns of all lengths, half of them nullable.
async fn wide_tables(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let schema = c.schema("wide").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    let definition = |i: usize| match i % 5 {
        0 => format!("c{i} BIGINT UNSIGNED"),
        1 => format!("c{i} VARCHAR(7) CHARACTER SET utf8mb4"),
        2 => format!("c{i} DECIMAL(20,5) NOT NULL DEFAULT 1.5"),
        3 => format!("c{i} DATETIME(6)"),
        _ => format!("c{i} VARBINARY(10) NOT NULL DEFAULT 'x'"),
    };
    let columns: Vec<String> = (1..500).map(definition).collect();
    sql::run(&mut direct, format!("CREATE TABLE wide (id INT PRIMARY KEY, {})", columns.join(", "))).await?;
    let fill: Vec<String> = (1..500)
        .map(|i| match i % 5 {
            0 => format!("c{i} = 18446744073709551615 - id"),
            1 => format!("c{i} = CONCAT('é', id)"),
            2 => format!("c{i} = id / 3"),
            3 => format!("c{i} = '2026-02-28 23:59:59.000001'"),
            _ => format!("c{i} = CHAR(0, 255, id)"),
        })
        .collect();
    sql::run(&mut direct, "INSERT INTO wide (id) VALUES (1),(2),(3),(4),(5),(6)").await?;
    sql::run(&mut direct, format!("UPDATE wide SET {} WHERE id < 4", fill.join(", "))).await?;
    let all: Vec<String> = (1..500).map(|i| format!("HEX(c{i})")).collect();
    let dump = format!("SELECT id, {} FROM wide ORDER BY id", all.join(", "));
    let before = c.rows(Bank::One, &schema, &dump).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    sql::run_all(
        &mut conn,
        &[
            "DELETE FROM wide WHERE id IN (1, 4)",
            "UPDATE wide SET c1 = 'changed', c2 = 9, c499 = '', c498 = NULL WHERE id IN (2, 5)",
            "INSERT INTO wide (id, c1) VALUES (7, 'new')",
        ],
    )
    .await?;
    sql::run(&mut conn, format!("UPDATE wide SET {}", fill.join(", "))).await?;
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", std::time::Duration::from_secs(100)).await?;
    assert_eq!(c.rows(Bank::One, &schema, &dump).await?, before);
    Ok(())
}

/// Keys of 3072 bytes, the longest that the servers allow, in one column and in several.
async fn long_keys(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let schema = c.schema("keys").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    for table in [
        "CREATE TABLE one (k VARCHAR(768) CHARACTER SET utf8mb4 PRIMARY KEY, n INT)",
        "CREATE TABLE two (a VARBINARY(1536), b VARCHAR(384) CHARACTER SET utf8mb4, n INT, PRIMARY KEY (a, b))",
    ] {
        sql::run(&mut direct, table).await?;
    }
    for i in 0..40 {
        sql::run(
            &mut direct,
            format!("INSERT INTO one VALUES (CONCAT(REPEAT('\u{1f600}', 766), {}), {i})", 10 + i),
        )
        .await?;
        sql::run(
            &mut direct,
            format!(
                "INSERT INTO two VALUES (REPEAT(CHAR(255 USING binary), 1536), CONCAT(REPEAT('\u{1f600}', 382), {}), {i})",
                10 + i
            ),
        )
        .await?;
    }
    let dumps =
        ["SELECT HEX(k), n FROM one ORDER BY n, k", "SELECT HEX(a), HEX(b), n FROM two ORDER BY n, a, b"];
    let mut before = Vec::new();
    for dump in dumps {
        before.push(c.rows(Bank::One, &schema, dump).await?);
    }
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    sql::run_all(
        &mut conn,
        &[
            "UPDATE one SET n = n + 100",
            "DELETE FROM one WHERE n < 120",
            "UPDATE two SET n = n + 100",
            "DELETE FROM two WHERE n < 120",
        ],
    )
    .await?;
    for row in c.rest().locks(&xid).await? {
        let key = row["key"].as_str().context("a lock without a key")?;
        ensure!(key.chars().count() <= 512, "a lock's key of {} characters", key.chars().count());
    }
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", std::time::Duration::from_secs(100)).await?;
    for (dump, before) in dumps.into_iter().zip(before) {
        assert_eq!(c.rows(Bank::One, &schema, dump).await?, before);
    }
    Ok(())
}
