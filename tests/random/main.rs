//! Random sessions, run three ways and compared: straight on the servers (A); through the proxy, bound to a global
//! transaction that commits (B); and bound to one that is rolled back (C). What A and B show and leave behind must be
//! equal, and C must leave every table as it was, to the byte.
//!
//! Each case comes from a seed. A failing one is printed with its seed, made smaller, and printed again.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `ATONE_SEED` | the first case's seed (default 1); the cases that follow have the seeds that follow. Or a list of seeds, with commas |
//! | `ATONE_RANDOM_CASES` | how many cases at most (default 30, without end where the seconds or statements are); 1 repeats the case of a seed |
//! | `ATONE_RANDOM_SECONDS` | no case begins after so many seconds (default: no limit), on each kind of server |
//! | `ATONE_RANDOM_STATEMENTS` | no case begins after so many statements have passed (default: no limit) |
//! | `ATONE_RANDOM_FAILURES` | the run ends at so many failures (default 1) |
//! | `ATONE_RANDOM_PLAYERS` | how many cases run beside each other (default 3) |
//! | `ATONE_RANDOM_WITHOUT` | kinds of surroundings to leave out, with commas: `single`, `semicolons`, `latin1`, `gbk`, `parameters`, `disturbed`, `globals`, `packets`, `rights`. The statements of a seed stay as they are but for what the kind puts into them |
//!
//! What surrounds a case comes from its seed as well: the clients' ways to talk (`around.rs`), the servers' globals
//! and the rights of the proxy's account (`globals.rs`), other clients that interfere (`disturb.rs`). Four seeds that
//! follow each other have the same servers. A case that others interfere with depends on the clock, too: it is not
//! compared with a straight run, but what it leaves behind is held to the same. A long run that never met one of the
//! kinds has failed.

mod around;
mod behind;
mod disturb;
mod globals;
mod known;
mod plan;
mod play;
mod rng;
mod schema;
mod script;
mod settings;
mod shrink;
mod single;
mod statements;
mod stats;
mod types;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use atone_tests::run::block_on;
use atone_tests::{Bank, Cluster, Flavor};
use futures::future::try_join_all;

use around::{Kind, Kinds};
use globals::Servers;
use play::{Failure, Outcome, Player};
use script::Case;
use single::Single;
use stats::{Excuse, Stats};

/// How many cases the test command runs.
const SLICE: u64 = 30;

/// A run of so many cases meets every kind of surroundings.
const LONG: usize = 400;

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

/// The first seed, or all of a list.
fn seeds() -> Result<Vec<u64>> {
    let text = std::env::var("ATONE_SEED").unwrap_or_else(|_| "1".to_owned());
    let seeds: Result<Vec<u64>, _> = text.split(',').map(str::parse).collect();
    seeds.with_context(|| format!("ATONE_SEED={text} is no number and no list of them"))
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
    let seeds = seeds()?;
    let first = seeds[0];
    let timed = ["SECONDS", "STATEMENTS"]
        .iter()
        .any(|limit| std::env::var_os(format!("ATONE_RANDOM_{limit}")).is_some());
    // The same cases on every machine
    let cases = match seeds.len() {
        1 => number("ATONE_RANDOM_CASES", if timed { u64::MAX } else { SLICE })?,
        several => several as u64,
    };
    let most_failures = number("ATONE_RANDOM_FAILURES", 1)?;
    let seconds = number("ATONE_RANDOM_SECONDS", 24 * 3600)?;
    let statements = number("ATONE_RANDOM_STATEMENTS", u64::MAX)?;
    let players = number("ATONE_RANDOM_PLAYERS", 3)?.clamp(1, 64);
    let without = std::env::var("ATONE_RANDOM_WITHOUT").unwrap_or_default();
    let kinds = Kinds::without(&without).map_err(|why| anyhow::anyhow!("ATONE_RANDOM_WITHOUT: {why}"))?;
    let cluster = Cluster::start(flavor).await?;
    let banks = [Bank::One, Bank::Two];
    let straight = banks.map(|bank| cluster.server(bank).port());
    let single =
        Single::before(straight.into_iter().chain(banks.map(|bank| cluster.proxy_port(bank)))).await?;
    let run = Run {
        flavor,
        kinds: &kinds,
        servers: Servers::new(&cluster).await?,
        single: &single,
        cluster: &cluster,
        next: AtomicU64::new(first),
        end: first.saturating_add(cases),
        seeds: &seeds,
        began: Instant::now(),
        limit: Duration::from_secs(seconds),
        statements: AtomicU64::new(0),
        most_statements: statements,
        failures: AtomicU64::new(0),
        most_failures,
    };
    let mut total = Stats::default();
    for stats in try_join_all((0..players).map(|number| run.play(number))).await? {
        total.add(stats);
    }
    let rate = total.statements as f64 / run.began.elapsed().as_secs_f64();
    eprintln!("{flavor}, seeds from {first} to {}, {rate:.0} statements a second: {total}", run.last());
    let failures = run.failures.into_inner();
    if failures > 0 {
        bail!("{failures} cases failed on {flavor}\n{}", cluster.log_tails());
    }
    if total.effective == 0 {
        bail!("no case changed a row: nothing was tested");
    }
    let never: Vec<&str> = kinds.iter().filter(|&kind| total.met(kind) == 0).map(Kind::name).collect();
    if total.cases >= LONG && !never.is_empty() {
        bail!("of {} cases none was among {}", total.cases, never.join(", "));
    }
    // A list of seeds may be of such cases only
    for excuse in Excuse::ALL.into_iter().filter(|_| seeds.len() == 1) {
        let (excused, most) = (total.excused(excuse), excuse.most(total.cases));
        if excused > most {
            bail!("of {} cases {excused} were not compared ({}): above {most}", total.cases, excuse.name());
        }
    }
    if total.unmade * 20 > total.cases {
        bail!("of {} cases the servers did not make {}: little was tested", total.cases, total.unmade);
    }
    Ok(())
}

/// What the players of a run share.
struct Run<'a> {
    flavor: Flavor,
    kinds: &'a Kinds,
    servers: Servers,
    single: &'a Single,
    cluster: &'a Cluster,
    /// The seed of the next case.
    next: AtomicU64,
    /// The seed after the last one.
    end: u64,
    /// The first seed, or all where they do not follow each other.
    seeds: &'a [u64],
    began: Instant,
    limit: Duration,
    /// Those of the cases that passed.
    statements: AtomicU64,
    most_statements: u64,
    failures: AtomicU64,
    most_failures: u64,
}

impl Run<'_> {
    /// The last seed that was played.
    fn last(&self) -> u64 {
        self.next.load(Ordering::Relaxed).min(self.end).saturating_sub(1)
    }

    /// One player's part: the next case, until there is none.
    async fn play(&self, number: u64) -> Result<Stats> {
        let mut player = Player::new(self.cluster, self.single, usize::try_from(number)?).await?;
        let mut total = Stats::default();
        loop {
            let over = self.began.elapsed() >= self.limit
                || self.statements.load(Ordering::Relaxed) >= self.most_statements
                || self.failures.load(Ordering::Relaxed) >= self.most_failures;
            let seed = self.next.load(Ordering::Relaxed);
            if over || seed >= self.end {
                return Ok(total);
            }
            self.next.store(seed + 1, Ordering::Relaxed);
            let seed = match self.seeds {
                [first, _, ..] => self.seeds[usize::try_from(seed - first)?],
                _ => seed,
            };
            let case = Case::new(self.flavor, seed, self.kinds);
            let _era = self.servers.enter(&case.around.era).await?;
            let outcome =
                player.play(&case).await.with_context(|| format!("seed {seed}\n{}", case.script()))?;
            match outcome {
                Outcome::Passed(stats) => {
                    self.statements.fetch_add(stats.statements as u64, Ordering::Relaxed);
                    total.add(stats);
                }
                Outcome::Unmade(why) => {
                    eprintln!("seed {seed} on {} is not made: {why}", self.flavor);
                    total.unmade += 1;
                }
                Outcome::Failed(failure) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    self.tell(&mut player, &case, &failure).await?;
                }
            }
        }
    }

    /// Prints a failing case, and what is left of it.
    async fn tell(&self, player: &mut Player<'_>, case: &Case, failure: &Failure) -> Result<()> {
        let (seed, flavor) = (case.seed, self.flavor);
        let shown = |word: &str, case: &Case, failure: &Failure| {
            format!(
                "{word}: ATONE_SEED={seed} on {flavor}: {}\n{}\n{}",
                failure.kind,
                failure.detail,
                case.script()
            )
        };
        eprintln!("{}", shown("FAILED", case, failure));
        let (small, failure) = shrink::shrink(player, case, failure).await?;
        eprintln!("{}\nEND OF SEED {seed}", shown("SHRUNK", &small, &failure));
        Ok(())
    }
}
