//! Clients that run one kind of transaction again and again for a while.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use crate::cpu::{self, Clocks, Used};

/// What each client runs before anything is measured, so that metadata are cached and undo_log is there.
pub(crate) const WARM_UP: usize = 3;

/// A client, with its connections.
pub(crate) trait Work: Send + 'static {
    /// Runs one transaction. Returns how often it had to begin anew.
    fn once(&mut self) -> impl Future<Output = Result<u64>> + Send;
}

/// What some clients did in one sample.
#[derive(Debug)]
pub(crate) struct Load {
    /// Transactions that came to their end.
    pub(crate) transactions: u64,
    /// How often one of them had to begin anew, behind a deadlock or a lock that was not to be had.
    pub(crate) retries: u64,
    /// From the first transaction's begin to the last one's end.
    pub(crate) wall: Duration,
    /// How long each took, in order of length.
    pub(crate) latencies: Vec<Duration>,
    /// CPU time of the processes under test, background work behind the last transaction included.
    pub(crate) used: Used,
    /// CPU time of the clients: of this process.
    pub(crate) client_cpu: Duration,
}

impl Load {
    /// Transactions per second.
    pub(crate) fn rate(&self) -> f64 {
        self.transactions as f64 / self.wall.as_secs_f64()
    }

    /// CPU time for each transaction, in microseconds.
    pub(crate) fn each_us(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.transactions as f64
    }

    /// The latency that this share of the transactions kept below, in milliseconds.
    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let at = (self.latencies.len() * percent / 100).min(last);
        self.latencies.get(at).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }
}

/// What one client did.
struct Done {
    latencies: Vec<Duration>,
    retries: u64,
}

async fn one<W: Work>(mut client: W, until: Instant) -> Result<Done> {
    let mut done = Done { latencies: Vec::new(), retries: 0 };
    let mut start = Instant::now();
    while start < until {
        done.retries += client.once().await?;
        let end = Instant::now();
        done.latencies.push(end - start);
        start = end;
    }
    Ok(done)
}

/// Lets these clients run for `duration`: each ends with the transaction that it is in by then.
pub(crate) async fn run<W: Work>(clocks: &Clocks, mut clients: Vec<W>, duration: Duration) -> Result<Load> {
    for client in &mut clients {
        for _ in 0..WARM_UP {
            client.once().await.context("a warm-up")?;
        }
    }
    let before = clocks.until_quiet().await?;
    let (client_before, start) = (cpu::own()?, Instant::now());
    let until = start + duration;
    let mut running: JoinSet<Result<Done>> = clients.into_iter().map(|client| one(client, until)).collect();
    let (mut latencies, mut retries) = (Vec::new(), 0);
    while let Some(done) = running.join_next().await {
        let done = done??;
        latencies.extend(done.latencies);
        retries += done.retries;
    }
    let (wall, client_cpu) = (start.elapsed(), cpu::own()?.saturating_sub(client_before));
    let used = clocks.until_quiet().await?.since(&before);
    latencies.sort_unstable();
    let transactions = latencies.len() as u64;
    Ok(Load { transactions, retries, wall, latencies, used, client_cpu })
}
