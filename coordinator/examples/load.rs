//! Puts load on a running coordinator and tells how fast it is:
//! `cargo run --release -p atone-coordinator --example load -- http://127.0.0.1:7091 16 10`
//! (endpoint, clients, seconds). Each transaction has two branches of two rows. With a fourth number that is done
//! twice. The second time it runs beside a client that registers branches of so many row locks, one after the other,
//! and commits them.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use atone_api::Client;
use atone_api::proto::{BranchOutcome, Register, TableLocks, WorkOutcome, WorkResult};
use tokio::sync::mpsc;

fn register(xid: &str, resource: &str, table: &str, keys: Vec<String>) -> Register {
    Register {
        xid: xid.to_owned(),
        resource: resource.to_owned(),
        schema: "load".to_owned(),
        locks: vec![TableLocks { table: table.to_owned(), keys }],
        wait_timeout_ms: 5_000,
    }
}

/// How long each transaction took, of those that one client has begun until `end`.
async fn small(client: Client, number: u64, end: Instant) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::new();
    while Instant::now() < end {
        let began = Instant::now();
        let xid = client.begin("", 0).await?.xid;
        for resource in ["load1", "load2"] {
            let key = number * 1_000 + took.len() as u64 % 1_000;
            let keys = vec![key.to_string(), format!("{key}b")];
            let branch = client.register(register(&xid, resource, "load.t", keys)).await?;
            client.report(&xid, branch, BranchOutcome::Committed);
        }
        client.commit(&xid).await?;
        took.push(began.elapsed());
    }
    Ok(took)
}

/// Transactions with one branch of many locks, one after the other.
async fn large(client: Client, locks: u64, end: Instant) -> anyhow::Result<usize> {
    let mut count = 0;
    while Instant::now() < end {
        let xid = client.begin("", 0).await?.xid;
        let keys = (0..locks).map(|key| key.to_string()).collect();
        let branch = client.register(register(&xid, "load1", "load.large", keys)).await?;
        client.report(&xid, branch, BranchOutcome::Committed);
        client.commit(&xid).await?;
        count += 1;
    }
    Ok(count)
}

async fn run(client: &Client, clients: u64, seconds: u64, locks: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    let end = began + Duration::from_secs(seconds);
    let tasks: Vec<_> = (0..clients).map(|number| tokio::spawn(small(client.clone(), number, end))).collect();
    let beside = (locks > 0).then(|| tokio::spawn(large(client.clone(), locks, end)));
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await??);
    }
    let rate = f64::from(u32::try_from(took.len())?) / began.elapsed().as_secs_f64();
    took.sort_unstable();
    let part = |percent: usize| took.get((took.len() * percent / 100).min(took.len().saturating_sub(1)));
    let ms = |percent| part(percent).map_or(0.0, |took| took.as_secs_f64() * 1_000.0);
    let beside = match beside {
        Some(task) => format!(", beside {} of {locks} locks", task.await??),
        None => String::new(),
    };
    println!(
        "{clients} clients: {rate:.0} transactions a second, p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms{beside}",
        ms(50),
        ms(99),
        ms(100)
    );
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().unwrap_or_else(|| "http://127.0.0.1:7091".to_owned());
    let clients: u64 = arguments.next().map_or(Ok(16), |text| text.parse()).context("clients")?;
    let seconds: u64 = arguments.next().map_or(Ok(5), |text| text.parse()).context("seconds")?;
    let locks: u64 = arguments.next().map_or(Ok(0), |text| text.parse()).context("locks")?;
    let (sender, mut work) = mpsc::channel(256);
    let resources = vec!["load1".to_owned(), "load2".to_owned()];
    let client = Client::connect(vec![endpoint], "load".to_owned(), resources, sender)?;
    tokio::spawn({
        let client = client.clone();
        async move {
            while let Some(work) = work.recv().await {
                let outcome = WorkOutcome::Done.into();
                client.work_result(WorkResult { work_id: work.work_id, outcome, detail: String::new() });
            }
        }
    });
    run(&client, clients, seconds, 0).await?;
    if locks > 0 {
        run(&client, clients, seconds, locks).await?;
    }
    Ok(())
}
