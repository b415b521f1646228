//! Puts load on a running coordinator and tells how fast it is:
//! `cargo run --release -p atone-coordinator --example load -- http://127.0.0.1:7091 16 10`
//! (endpoint, clients, seconds). Each transaction has two branches of two rows.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use atone_api::Client;
use atone_api::proto::{BranchOutcome, Register, TableLocks, WorkOutcome, WorkResult};
use tokio::sync::mpsc;

fn register(xid: &str, resource: &str, key: u64) -> Register {
    Register {
        xid: xid.to_owned(),
        resource: resource.to_owned(),
        schema: "load".to_owned(),
        locks: vec![TableLocks {
            table: "load.t".to_owned(),
            keys: vec![key.to_string(), format!("{key}b")],
        }],
        wait_timeout_ms: 5_000,
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().unwrap_or_else(|| "http://127.0.0.1:7091".to_owned());
    let clients: u64 = arguments.next().map_or(Ok(16), |text| text.parse()).context("clients")?;
    let seconds: u64 = arguments.next().map_or(Ok(5), |text| text.parse()).context("seconds")?;
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
    let began = Instant::now();
    let end = began + Duration::from_secs(seconds);
    let mut tasks = Vec::new();
    for number in 0..clients {
        let client = client.clone();
        tasks.push(tokio::spawn(async move {
            let mut count = 0;
            while Instant::now() < end {
                let xid = client.begin("", 0).await?.xid;
                for resource in ["load1", "load2"] {
                    let branch =
                        client.register(register(&xid, resource, number * 1_000 + count % 1_000)).await?;
                    client.report(&xid, branch, BranchOutcome::Committed);
                }
                client.commit(&xid).await?;
                count += 1;
            }
            anyhow::Ok(count)
        }));
    }
    let mut count = 0;
    for task in tasks {
        count += task.await??;
    }
    let rate = f64::from(u32::try_from(count)?) / began.elapsed().as_secs_f64();
    println!("{clients} clients: {rate:.0} transactions a second");
    Ok(())
}
