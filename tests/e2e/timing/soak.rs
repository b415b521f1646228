//! Clients that come and go in every way there is, for `ATONE_SOAK_SECONDS` (default 8): afterwards nothing of them is
//! left, neither in the proxy nor on the server nor in the coordinator. The seed is printed and can be set by
//! `ATONE_SOAK_SEED`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use atone_tests::cluster::SOON;
use atone_tests::run::Harmable;
use atone_tests::server::RAW;
use atone_tests::wait::until;
use atone_tests::wire::payload::{PING, QUERY, QUIT, STMT_PREPARE, text};
use atone_tests::wire::{Login, RawConn, Session};
use atone_tests::{Bank, Cluster, ClusterOptions, proc, sql};

/// Clients at the same time.
const LANES: u64 = 12;
/// How much more memory than after the first clients the proxy may have at the end.
const MAX_GROWTH_BYTES: u64 = 48 << 20;
/// The service account's connections keep what they have prepared: at most 64 each.
const MAX_SERVICE_STATEMENTS: u64 = 16 * 64;
const RESET_CONNECTION: u8 = 0x1f;

/// More than the longest soak.
fn lasting() -> ClusterOptions {
    ClusterOptions { default_timeout: "12h".to_owned(), ..ClusterOptions::default() }
}

atone_tests::owned_tests!(lasting() => nothing_is_left);

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Numbers from a seed.
struct Numbers(u64);

impl Numbers {
    /// One below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

async fn nothing_is_left(c: Harmable) -> Result<()> {
    let c = &*c.lock().await;
    let seed = setting("ATONE_SOAK_SEED")
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_secs()));
    println!("ATONE_SOAK_SEED={seed}");
    let schema = c.bank_schema("soak").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    sql::run(&mut direct, "CREATE TABLE t (id INT PRIMARY KEY, n INT NOT NULL)").await?;
    let rows: Vec<String> = (0..LANES * 10).map(|id| format!("({id}, 0)")).collect();
    sql::run(&mut direct, format!("INSERT INTO t VALUES {}", rows.join(","))).await?;
    let pid = c.proxy.id().context("the proxy does not run")?;

    // Buffers and caches are filled by the first clients
    let first = soak(c, &schema, seed, Duration::from_secs(2)).await?;
    all_gone(c, &schema).await?;
    let (files, memory) = (proc::open_files(pid)?, proc::resident_bytes(pid)?);
    let seconds = setting("ATONE_SOAK_SECONDS").unwrap_or(8);
    let clients = soak(c, &schema, seed + 1, Duration::from_secs(seconds)).await?;
    all_gone(c, &schema).await?;

    // The service account's idle connections come and go
    until("the proxy's files are closed", 2 * SOON, || async {
        Ok((proc::open_files(pid)? <= files + 10).then_some(()))
    })
    .await?;
    let grown = proc::resident_bytes(pid)?.saturating_sub(memory);
    println!("{} clients, the proxy has grown by {} KiB", first + clients, grown >> 10);
    ensure!(grown < MAX_GROWTH_BYTES, "grown by {} KiB after {clients} clients", grown >> 10);
    ensure!(clients > 2 * LANES, "only {clients} clients");
    Ok(())
}

/// Clients for so long; how many there were.
async fn soak(c: &Cluster, schema: &str, seed: u64, length: Duration) -> Result<u64> {
    let end = Instant::now() + length;
    let count = Arc::new(AtomicU64::new(0));
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..LANES {
        let (count, schema, port) = (Arc::clone(&count), schema.to_owned(), c.proxy_port(Bank::One));
        lanes.spawn(async move {
            let mut numbers = Numbers(seed.wrapping_mul(1000).wrapping_add(lane));
            while Instant::now() < end {
                let n = count.fetch_add(1, Ordering::Relaxed);
                client(port, &schema, lane, &mut numbers).await.with_context(|| format!("client {n}"))?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    Ok(count.load(Ordering::Relaxed))
}

/// Runs a statement; whether it had an error, which is the client's own affair.
async fn ask(session: &mut Session, statement: &str) -> Result<bool> {
    let command = text(QUERY, statement.as_bytes());
    session.send(&command).await?;
    let reply = session.receive(&command, None).await?;
    match reply.last() {
        Some((_, last)) if last.get("code").is_some() => Ok(false),
        Some((_, last)) if last.to_string().starts_with("closed") => bail!("{statement}: closed"),
        _ => Ok(true),
    }
}

/// One client, from its beginning to one of many ends.
async fn client(port: u16, schema: &str, lane: u64, numbers: &mut Numbers) -> Result<()> {
    if numbers.below(8) == 0 {
        return aborted_handshake(port, numbers).await;
    }
    let mut login = Login::new(port, (RAW, "")).schema(schema);
    if numbers.below(2) == 0 {
        login = login.minimal();
    }
    login.resetting = numbers.below(4) == 0;
    let mut session = Session::open(&login).await?;
    let mut bound = false;
    for step in 0..u32::try_from(numbers.below(8))? {
        match numbers.below(9) {
            0 => drop(ask(&mut session, "SELECT * FROM t").await?),
            // What a global transaction has written is for nobody else to change, so each has rows of its own
            1 if bound => {
                let sql = format!("INSERT INTO t VALUES ({}, 0)", 1000 + session.greeting.id * 10 + step);
                ask(&mut session, &sql).await?;
            }
            1 => {
                let sql = format!("UPDATE t SET n = n + 1 WHERE id = {}", lane * 10 + numbers.below(10));
                ask(&mut session, &sql).await?;
            }
            2 => drop(ask(&mut session, "BEGIN").await?),
            3 => {
                // Left open
                let command = text(STMT_PREPARE, b"SELECT * FROM t WHERE id = ?");
                session.send(&command).await?;
                session.receive(&command, None).await?;
            }
            4 if !bound => bound = ask(&mut session, "START GLOBAL TRANSACTION TIMEOUT 60").await?,
            4 => {
                let end = if numbers.below(2) == 0 { "COMMIT" } else { "ROLLBACK" };
                ask(&mut session, &format!("{end} GLOBAL TRANSACTION")).await?;
                bound = false;
            }
            5 => {
                session.send(&[RESET_CONNECTION]).await?;
                session.receive(&[RESET_CONNECTION], None).await?;
                bound = false;
            }
            6 => {
                session.change_user(&login).await?;
                bound = false;
            }
            7 => {
                session.send(&[PING]).await?;
                session.receive(&[PING], None).await?;
            }
            _ => drop(ask(&mut session, "no such statement").await?),
        }
    }
    if numbers.below(6) == 0 {
        // Another one ends it
        let mut other = Session::open(&Login::new(port, (RAW, "")).minimal()).await?;
        ask(&mut other, &format!("KILL {}", session.greeting.id)).await?;
    }
    match numbers.below(5) {
        // Without a word; in the middle of a statement; of a result; politely
        0 => {}
        1 => {
            let _ = session.send(&text(QUERY, b"SELECT SLEEP(1000)")).await;
        }
        2 => {
            let _ = session.send(&text(QUERY, b"SELECT REPEAT('x', 4000000)")).await;
        }
        3 => {
            let mut conn = session.into_conn();
            let _ = conn.finish().await;
            while conn.read().await?.is_some() {}
        }
        _ => {
            let _ = session.send(&[QUIT]).await;
        }
    }
    Ok(())
}

async fn aborted_handshake(port: u16, numbers: &mut Numbers) -> Result<()> {
    let mut conn = match numbers.below(2) {
        0 => RawConn::connect(port).await?,
        _ => RawConn::connect_resetting(port).await?,
    };
    if numbers.below(3) == 0 {
        return Ok(());
    }
    conn.read().await?.context("no greeting")?;
    match numbers.below(3) {
        0 => {}
        1 => conn.send(1, b"nonsense").await?,
        _ => conn.send_bytes(&[40, 0, 0]).await?,
    }
    Ok(())
}

/// Waits until nothing of any client is left, having rolled back what they left open.
async fn all_gone(c: &Cluster, schema: &str) -> Result<()> {
    let admin = tokio::sync::Mutex::new(c.server(Bank::One).admin().await?);
    let connections = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{RAW}' OR INFO LIKE '%SLEEP%'"
    );
    let mine = "information_schema.PROCESSLIST";
    until("the server's connections end", 2 * SOON, || async {
        let query = format!("{connections} AND INFO NOT LIKE '%{mine}%'");
        Ok((sql::cell(&mut *admin.lock().await, &query).await? == "0").then_some(()))
    })
    .await?;
    until("the proxy's gauge is 0", SOON, || async {
        let metrics = c.proxy.rest().get("/metrics").await?.text;
        let gauges: Vec<&str> = metrics.lines().filter(|l| l.starts_with("atone_connections{")).collect();
        ensure!(!gauges.is_empty(), "there is no gauge");
        Ok(gauges.iter().all(|line| line.ends_with(" 0")).then_some(()))
    })
    .await?;
    // Global transactions outlive the sessions that began them
    until("all global transactions are ended", 2 * SOON, || async {
        let open = c.rest().get("/v1/transactions?status=active&limit=1000").await?.expect(200)?;
        let open = open["transactions"].as_array().context("no list")?.clone();
        for transaction in &open {
            let xid = transaction["xid"].as_str().context("no xid")?;
            c.rest().rollback(xid).await?;
        }
        let ending = c.rest().get("/v1/transactions?status=rolling_back&limit=1").await?.expect(200)?;
        let ending = ending["transactions"].as_array().context("no list")?.len();
        Ok((open.is_empty() && ending == 0).then_some(()))
    })
    .await?;
    let locks = c.rest().get("/v1/locks?limit=10").await?.expect(200)?;
    ensure!(locks["locks"].as_array().is_some_and(Vec::is_empty), "locks are left: {locks}");
    c.wait_for_purge(Bank::One, schema).await?;
    // The service account keeps statements of its own, as many as its connections
    let statements =
        sql::rows(&mut *admin.lock().await, "SHOW GLOBAL STATUS LIKE 'Prepared_stmt_count'").await?;
    let count = statements.first().and_then(|row| row.rsplit('|').next()).and_then(|n| n.parse::<u64>().ok());
    ensure!(
        count.is_some_and(|count| count <= MAX_SERVICE_STATEMENTS),
        "statements are left: {statements:?}"
    );
    Ok(())
}
