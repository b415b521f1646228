//! Random exchanges between clients and servers through [`Session`], in this process: a client and a server that are
//! both played by the test, and a coordinator of the test's own.
//!
//! - What is well formed and unbound arrives as it was sent, in both directions. This holds whatever the
//!   capabilities, however it is cut, and up to the place where one side goes away.
//! - Whatever else is sent, in any order and mangled: no panic, bounded memory, and the session ends when its two sides have.
//!
//! `ATONE_FUZZ_SECONDS` (default 2) is how long each of the two runs; `ATONE_FUZZ_SEED` is the first case's seed, which
//! is printed with a failure: with it that case is the first.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod coordinator;
mod exact;
mod mangled;
mod packets;
mod rig;
mod service;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

use rig::Rig;

/// Cases that run at the same time; most of their time is spent waiting.
const LANES: usize = 24;
/// How much the process may grow over a run, in bytes.
const MAX_GROWTH_BYTES: u64 = 256 << 20;
/// A case that takes longer hangs.
const CASE_LIMIT: Duration = Duration::from_secs(60);

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Memory in use, in bytes.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) << 10
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Exact,
    Mangled,
}

/// Runs cases until the time is over.
fn run(kind: Kind) {
    let seconds = setting("ATONE_FUZZ_SECONDS").unwrap_or(2);
    let first = setting("ATONE_FUZZ_SEED").unwrap_or_else(rand::random);
    println!("{kind:?}: ATONE_FUZZ_SEED={first}");
    // What sessions end by; nothing without RUST_LOG
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .try_init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let done = runtime.block_on(async {
        let coordinator = coordinator::start(&["fuzz"]).await;
        let next = Arc::new(AtomicU64::new(first));
        // What grows in the first cases is no leak
        let (mut before, mut grown) = (0, 0);
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut lanes = tokio::task::JoinSet::new();
        for _ in 0..LANES {
            let (coordinator, next) = (coordinator.clone(), Arc::clone(&next));
            lanes.spawn(async move {
                let mut rig = Rig::new(coordinator).await;
                while Instant::now() < end {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let rng = StdRng::seed_from_u64(seed);
                    let case = async {
                        match kind {
                            Kind::Exact => exact::case(&mut rig, rng).await,
                            Kind::Mangled => mangled::case(&mut rig, rng).await,
                        }
                    };
                    match tokio::time::timeout(CASE_LIMIT, case).await {
                        Ok(Ok(())) => {}
                        Ok(Err(why)) => panic!("ATONE_FUZZ_SEED={seed}: {why}"),
                        Err(_) => panic!("ATONE_FUZZ_SEED={seed}: hangs"),
                    }
                }
            });
        }
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                lane = lanes.join_next() => match lane {
                    Some(lane) => lane.unwrap(),
                    None => break,
                },
                _ = tick.tick() => {
                    let cases = next.load(Ordering::Relaxed) - first;
                    if before == 0 && cases > 100 {
                        before = resident_bytes();
                    }
                    grown = resident_bytes().saturating_sub(before);
                    assert!(before == 0 || grown < MAX_GROWTH_BYTES, "grown by {grown} bytes from seed {first}");
                }
            }
        }
        println!("{kind:?}: grown by {} KiB", grown >> 10);
        next.load(Ordering::Relaxed) - first
    });
    let records = mangled::UNDO_RECORDS.load(Ordering::Relaxed);
    println!("{kind:?}: {done} cases, {records} undo records");
    assert!(done > 0);
    assert!(matches!(kind, Kind::Exact) || done < 500 || records > 0, "no session has come to its COMMIT");
}

#[test]
fn well_formed_exchanges_are_copied() {
    run(Kind::Exact);
}

#[test]
fn nothing_breaks_a_session() {
    run(Kind::Mangled);
}
