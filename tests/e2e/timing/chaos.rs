//! Transfers under way while processes are killed at random moments: in the end each is on both servers or on neither,
//! as its status says, and what was acknowledged as committed is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use atone_tests::run::Harmable;
use atone_tests::server::APP;
use atone_tests::wait::until;
use atone_tests::{Bank, Cluster, ClusterOptions, sql};
use mysql_async::prelude::Queryable as _;
use tokio::time::{sleep, timeout};

atone_tests::owned_tests!(
    ClusterOptions { default_timeout: "6s".to_owned(), ..ClusterOptions::default() } =>
    daemons_killed_under_load,
    servers_killed_under_load,
);

const WORKERS: u32 = 6;
const RUN: Duration = Duration::from_secs(12);
const ACCOUNTS: u32 = 10;

/// A small generator (xorshift): the same kills for the same seed, as far as the machine's timing allows.
struct Random(u64);

impl Random {
    fn new() -> Result<Self> {
        let seed = match std::env::var("ATONE_CHAOS_SEED") {
            Ok(seed) => seed.parse().context("ATONE_CHAOS_SEED")?,
            Err(_) => {
                std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_micros() as u64 | 1
            }
        };
        eprintln!("ATONE_CHAOS_SEED={seed}");
        Ok(Self(seed))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What a worker knows of one of its transfers.
#[derive(Clone, Debug)]
struct Transfer {
    id: u64,
    xid: String,
    /// Its commit was acknowledged.
    acknowledged: bool,
    /// The application asked for a rollback, or never asked for the end.
    commit_asked: bool,
}

struct Ports {
    one: u16,
    two: u16,
}

/// One transfer; `known` gets its XID as soon as there is one.
async fn transfer(ports: &Ports, schema: &str, n: u64, id: u64, known: &mut Vec<Transfer>) -> Result<()> {
    let mut one = sql::connect(ports.one, APP, Some(schema)).await?;
    let mut two = sql::connect(ports.two, APP, Some(schema)).await?;
    let xid = sql::start_global(&mut one).await?;
    known.push(Transfer { id, xid: xid.clone(), acknowledged: false, commit_asked: false });
    two.query_drop(format!("SET @atone_xid = '{xid}'")).await?;
    let (from, to) = (n % u64::from(ACCOUNTS), (n / 7) % u64::from(ACCOUNTS));
    one.query_drop("BEGIN").await?;
    one.query_drop(format!("UPDATE account SET balance = balance - 1 WHERE id = {from}")).await?;
    one.query_drop(format!("INSERT INTO journal VALUES ({id})")).await?;
    one.query_drop("COMMIT").await?;
    two.query_drop(format!("UPDATE account SET balance = balance + 1 WHERE id = {to}")).await?;
    two.query_drop(format!("INSERT INTO journal VALUES ({id})")).await?;
    two.query_drop("SET @atone_xid = NULL").await?;
    if n.is_multiple_of(5) {
        one.query_drop("ROLLBACK GLOBAL TRANSACTION").await?;
        return Ok(());
    }
    if let Some(last) = known.last_mut() {
        last.commit_asked = true;
    }
    one.query_drop("COMMIT GLOBAL TRANSACTION").await?;
    if let Some(last) = known.last_mut() {
        last.acknowledged = true;
    }
    Ok(())
}

async fn worker(number: u32, ports: Arc<Ports>, schema: String, stop: Arc<AtomicBool>) -> Vec<Transfer> {
    let mut known = Vec::new();
    let mut n = u64::from(number) * 3;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let id = u64::from(number) * 1_000_000 + n;
        // Whatever goes wrong, the application gives this transfer up, as one that crashed would.
        let result = timeout(Duration::from_secs(20), transfer(&ports, &schema, n, id, &mut known)).await;
        if !matches!(result, Ok(Ok(()))) {
            sleep(Duration::from_millis(50)).await;
        }
    }
    known
}

async fn set_up(c: &Cluster) -> Result<String> {
    let schema = c.schema("chaos").await?;
    for bank in [Bank::One, Bank::Two] {
        let mut conn = c.direct(bank, &schema).await?;
        sql::run(&mut conn, "CREATE TABLE account (id INT PRIMARY KEY, balance INT NOT NULL)").await?;
        sql::run(&mut conn, "CREATE TABLE journal (id BIGINT PRIMARY KEY)").await?;
        for id in 0..ACCOUNTS {
            sql::run(&mut conn, format!("INSERT INTO account VALUES ({id}, 1000)")).await?;
        }
    }
    Ok(schema)
}

async fn campaign(c: &mut Cluster, kill_servers: bool) -> Result<()> {
    let schema = set_up(c).await?;
    let mut random = Random::new()?;
    let ports = Arc::new(Ports { one: c.proxy_port(Bank::One), two: c.proxy_port(Bank::Two) });
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..WORKERS)
        .map(|number| tokio::spawn(worker(number, Arc::clone(&ports), schema.clone(), Arc::clone(&stop))))
        .collect();
    let end = Instant::now() + RUN;
    let mut kills = 0;
    while Instant::now() < end {
        sleep(Duration::from_millis(200 + random.below(900))).await;
        match if kill_servers { 3 + random.below(2) } else { random.below(3) } {
            0 => {
                c.coordinator.kill9()?;
                sleep(Duration::from_millis(random.below(300))).await;
                c.coordinator.restart().await?;
            }
            1 => {
                c.proxy.kill9()?;
                sleep(Duration::from_millis(random.below(300))).await;
                c.proxy.restart().await?;
            }
            2 => {
                c.proxy.kill9()?;
                c.coordinator.kill9()?;
                c.coordinator.restart().await?;
                c.proxy.restart().await?;
            }
            3 => {
                c.bank1.kill9()?;
                c.bank1.restart().await?;
            }
            _ => {
                c.bank2.kill9()?;
                c.bank2.restart().await?;
            }
        }
        kills += 1;
    }
    c.proxy.wait_until_ready().await?;
    stop.store(true, Ordering::Relaxed);
    let mut transfers = Vec::new();
    for worker in workers {
        transfers.extend(worker.await?);
    }
    verify(c, &schema, &transfers).await?;
    let acknowledged = transfers.iter().filter(|t| t.acknowledged).count();
    eprintln!("{kills} kills, {} transfers, {acknowledged} acknowledged", transfers.len());
    ensure!(kills >= 3 && acknowledged >= 3, "too little happened for the test to mean anything");
    Ok(())
}

async fn verify(c: &Cluster, schema: &str, transfers: &[Transfer]) -> Result<()> {
    let journal = |rows: Vec<String>| -> Result<std::collections::HashSet<u64>> {
        rows.iter().map(|row| row.parse().context("not a number")).collect()
    };
    // What nobody ended, its timeout ends.
    let mut statuses = Vec::new();
    let mut forgotten = Vec::new();
    for transfer in transfers {
        let path = format!("/v1/transactions/{}", transfer.xid);
        let status = until(&format!("{} ends", transfer.xid), Duration::from_secs(60), || async {
            let answer = c.rest().get(&path).await?;
            let status = match answer.status {
                404 => "forgotten".to_owned(),
                _ => answer.expect(200)?["status"].as_str().unwrap_or_default().to_owned(),
            };
            Ok((!["active", "committing", "rolling_back"].contains(&status.as_str())).then_some(status))
        })
        .await?;
        if !["committed", "rolled_back", "forgotten"].contains(&status.as_str()) {
            bail!("{}", c.rest().get(&path).await?.text);
        }
        if status == "forgotten" {
            forgotten.push(&transfer.xid);
        }
        ensure!(
            !transfer.acknowledged || status == "committed",
            "an acknowledged commit is {status}: {transfer:?}"
        );
        ensure!(
            status != "committed" || transfer.commit_asked,
            "committed, and nobody asked for it: {transfer:?}"
        );
        statuses.push(status == "committed");
    }
    c.wait_for_purge(Bank::One, schema).await?;
    c.wait_for_purge(Bank::Two, schema).await?;
    for bank in [Bank::One, Bank::Two] {
        let there = journal(c.rows(bank, schema, "SELECT id FROM journal").await?)?;
        for (transfer, &committed) in transfers.iter().zip(&statuses) {
            ensure!(
                there.contains(&transfer.id) == committed,
                "{} on {}: committed: {committed}, the row is there: {}",
                transfer.xid,
                bank.resource(),
                !committed
            );
        }
        let committed = statuses.iter().filter(|&&committed| committed).count() as i64;
        ensure!(there.len() as i64 == committed, "the journal has rows of unknown transfers");
        let sum: i64 = c.rows(bank, schema, "SELECT SUM(balance) FROM account").await?[0].parse()?;
        let moved = if bank == Bank::One { -committed } else { committed };
        ensure!(
            sum == i64::from(ACCOUNTS) * 1000 + moved,
            "{}: the sum is {sum}, {committed} committed",
            bank.resource()
        );
    }
    let locks = c.rest().get("/v1/locks").await?.expect(200)?;
    ensure!(locks["locks"] == serde_json::json!([]), "locks are left: {locks}");
    ensure!(forgotten.is_empty(), "transactions that were acknowledged are forgotten: {forgotten:?}");
    Ok(())
}

async fn daemons_killed_under_load(c: Harmable) -> Result<()> {
    campaign(&mut *c.lock().await, false).await
}

async fn servers_killed_under_load(c: Harmable) -> Result<()> {
    campaign(&mut *c.lock().await, true).await
}
