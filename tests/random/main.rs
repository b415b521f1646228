//! Random sessions, run three ways and compared: straight on the servers (A); through the proxy, bound to a global
//! transaction that commits (B); and bound to one that is rolled back (C). What A and B show and leave behind must be
//! equal, and C must leave every table as it was, to the byte.
//!
//! Each case comes from a seed. A failing one is printed with its seed, made smaller, and printed again.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `ATONE_SEED` | the first case's seed (default 1); the cases that follow have the seeds that follow |
//! | `ATONE_RANDOM_CASES` | how many cases at most (default 40, without end where the seconds are given); 1 repeats the case of a seed |
//! | `ATONE_RANDOM_SECONDS` | no case begins after so many seconds (default: no limit), on each kind of server |
//! | `ATONE_RANDOM_FAILURES` | the run ends at so many failures (default 1) |

mod known;
mod play;
mod rng;
mod schema;
mod script;
mod settings;
mod shrink;
mod statements;
mod stats;
mod types;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use atone_tests::run::block_on;
use atone_tests::{Cluster, Flavor};

use play::{Outcome, Player};
use script::Case;
use stats::Stats;

/// How many cases the test command runs.
const SLICE: u64 = 40;

#[test]
fn mariadb() {
    run(Flavor::MariaDb);
}

#[test]
fn mysql() {
    run(Flavor::MySql);
}

fn number(variable: &str, default: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable}={text} is not a number")),
        Err(_) => Ok(default),
    }
}

#[allow(clippy::panic, reason = "a test fails by a panic")]
fn run(flavor: Flavor) {
    if flavor.skipped() {
        eprintln!("SKIPPED: {} leaves out the tests on {flavor}", flavor.skip_variable());
        return;
    }
    if let Err(error) = block_on(cases(flavor)) {
        panic!("{error:#}");
    }
}

async fn cases(flavor: Flavor) -> Result<()> {
    let first = number("ATONE_SEED", 1)?;
    let timed = std::env::var_os("ATONE_RANDOM_SECONDS").is_some();
    // The same cases on every machine
    let cases = number("ATONE_RANDOM_CASES", if timed { u64::MAX } else { SLICE })?;
    let most_failures = number("ATONE_RANDOM_FAILURES", 1)?;
    let seconds = number("ATONE_RANDOM_SECONDS", 24 * 3600)?;
    let cluster = Cluster::start(flavor).await?;
    let mut player = Player::new(&cluster).await?;
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let (mut total, mut failures) = (Stats::default(), 0);
    for seed in (first..).take(usize::try_from(cases).unwrap_or(usize::MAX)) {
        if Instant::now() >= deadline || failures >= most_failures {
            break;
        }
        let case = Case::new(flavor, seed);
        match player.play(&case).await.with_context(|| format!("seed {seed}\n{}", case.script()))? {
            Outcome::Passed(stats) => total.add(stats),
            Outcome::Failed(failure) => {
                failures += 1;
                eprintln!(
                    "FAILED: ATONE_SEED={seed} on {flavor}: {}\n{}\n{}",
                    failure.kind,
                    failure.detail,
                    case.script()
                );
                let (small, failure) = shrink::shrink(&mut player, &case, &failure).await?;
                eprintln!(
                    "SHRUNK: ATONE_SEED={seed} on {flavor}: {}\n{}\n{}\nEND OF SEED {seed}",
                    failure.kind,
                    failure.detail,
                    small.script()
                );
            }
        }
    }
    eprintln!("{flavor}, from seed {first}: {total}");
    if failures > 0 {
        bail!("{failures} cases failed on {flavor}\n{}", cluster.log_tails());
    }
    if total.effective == 0 {
        bail!("no case changed a row: nothing was tested");
    }
    Ok(())
}
