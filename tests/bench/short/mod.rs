//! Short transactions: transfers between two servers, by themselves and against another build of the project.
//!
//! | module | what |
//! | --- | --- |
//! | `options` | the command line |
//! | `transfers`, `by_hand` | a transfer, in one of several ways |
//! | `load` | clients that run transactions for a while |
//! | `relay`, `through` | sessions that are not bound, straight and through what relays them |
//! | `report`, `relay_report` | medians, ratios; Markdown and JSON |

mod by_hand;
mod load;
mod options;
mod relay;
mod relay_report;
mod report;
mod through;
mod transfers;

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atone_tests::other_build::OtherBuild;
use atone_tests::server::APP;
use atone_tests::{Bank, Cluster, ClusterOptions, Flavor, sql};
use mysql_async::OptsBuilder;

use crate::cpu::Clocks;
use crate::machine;
use load::Load;
pub(crate) use options::{Options, USAGE};
use report::{Cell, Report};
use transfers::{ACCOUNTS, Client, Mode};

/// How many clients take from one account, where that is measured.
const HOT_CLIENTS: usize = 32;
/// What each account has at first.
const BALANCE: u64 = 1_000_000;

/// Which binaries a transaction runs through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// This build's; also where none is asked.
    This,
    /// Those of `--against`.
    Other,
}

/// One thing that is measured in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    /// How a transfer is run.
    pub(crate) mode: Mode,
    /// Through which binaries.
    pub(crate) build: Build,
    /// Whether every transfer takes from the same account.
    pub(crate) hot: bool,
    /// How many clients there are.
    pub(crate) clients: usize,
}

/// The servers, and all that runs in front of them.
struct Bench {
    cluster: Cluster,
    clocks: Clocks,
    other: Option<(OtherBuild, Clocks)>,
    schema: String,
    samples: u64,
    /// What the first server's accounts have paid to the second's.
    moved: u64,
}

impl Bench {
    async fn start(flavor: Flavor, options: &Options) -> Result<Self> {
        let cluster = Cluster::start_with(flavor, cluster_options(flavor)).await?;
        let servers = [cluster.bank1.id(), cluster.bank2.id()];
        let clocks = Clocks::over(&servers, &[cluster.proxy.id()], &[cluster.coordinator.id()])?;
        let other = match &options.against {
            Some(build) => {
                let other = OtherBuild::start(&cluster, build).await.context("the other build")?;
                let clocks = Clocks::over(&servers, &[other.proxy.id()], &[other.coordinator.id()])?;
                Some((other, clocks))
            }
            None => None,
        };
        let schema = cluster.schema("short").await?;
        for bank in [Bank::One, Bank::Two] {
            let mut conn = cluster.direct(bank, &schema).await?;
            sql::create_numbers(&mut conn, 1..ACCOUNTS + 1).await?;
            let fill =
                format!("INSERT INTO account SELECT n, CONCAT('customer ', n), {BALANCE} FROM numbers");
            let create = "CREATE TABLE account (id INT NOT NULL PRIMARY KEY, owner VARCHAR(40) NOT NULL, \
                          balance BIGINT NOT NULL) ENGINE=InnoDB STATS_PERSISTENT=1 STATS_AUTO_RECALC=0";
            sql::run_all(&mut conn, &[create, &fill, by_hand::CREATE_UNDO]).await?;
            conn.disconnect().await?;
        }
        Ok(Self { cluster, clocks, other, schema, samples: 0, moved: 0 })
    }

    fn clocks(&self, build: Build) -> Result<&Clocks> {
        match build {
            Build::This => Ok(&self.clocks),
            Build::Other => Ok(&self.other.as_ref().context("there is no other build")?.1),
        }
    }

    /// How a client reaches one of the servers: straight, or through a build's proxy.
    fn connect_options(&self, variant: Variant, bank: Bank) -> Result<OptsBuilder> {
        let port = match (variant.mode.is_atone(), variant.build) {
            (false, _) => self.cluster.server(bank).port(),
            (true, Build::This) => self.cluster.proxy_port(bank),
            (true, Build::Other) => {
                self.other.as_ref().context("there is no other build")?.0.proxy_port(bank)
            }
        };
        Ok(sql::options(port, APP, Some(&self.schema)))
    }

    /// Lets one kind of transfer run for a while.
    async fn sample(&mut self, variant: Variant, duration: Duration) -> Result<Load> {
        self.samples += 1;
        let mut clients = Vec::with_capacity(variant.clients);
        for number in 0..variant.clients {
            let options =
                [self.connect_options(variant, Bank::One)?, self.connect_options(variant, Bank::Two)?];
            let name = format!("bench-{}-{number}", self.samples);
            clients.push(Client::connect(variant.mode, variant.hot, options, number, name).await?);
        }
        let load = load::run(self.clocks(variant.build)?, clients, duration).await?;
        if variant.mode != Mode::AtoneRollback {
            self.moved += load.transactions + (variant.clients * load::WARM_UP) as u64;
        }
        self.check().await?;
        Ok(load)
    }

    /// Fails where the balances are not what the transfers add up to, or undo rows are left.
    async fn check(&self) -> Result<()> {
        let at_first = ACCOUNTS * BALANCE;
        let expected = [(Bank::One, at_first - self.moved), (Bank::Two, at_first + self.moved)];
        for (bank, expected) in expected {
            let mut conn = self.cluster.direct(bank, &self.schema).await?;
            let total = sql::cell(&mut conn, "SELECT SUM(balance) FROM account").await?.parse::<u64>()?;
            ensure!(total == expected, "the accounts of {bank:?} have {total} together, not {expected}");
            let by_hand = sql::cell(&mut conn, "SELECT COUNT(*) FROM undo_by_hand").await?;
            ensure!(by_hand == "0", "{by_hand} undo rows are left");
            let undo_rows = self.cluster.undo_rows(bank, &self.schema).await?;
            ensure!(undo_rows == 0, "{undo_rows} undo rows are left");
            conn.disconnect().await?;
        }
        Ok(())
    }

    fn log_tails(&self) -> String {
        let other = self.other.as_ref().map(|(other, _)| other.log_tails());
        self.cluster.log_tails() + &other.unwrap_or_default()
    }
}

/// Memory as for large statements, and connections enough for every client.
fn cluster_options(flavor: Flavor) -> ClusterOptions {
    let mut server_options = machine::server_memory(flavor);
    server_options.push("--max-connections=1000".to_owned());
    ClusterOptions { server_options, ..ClusterOptions::default() }
}

/// What takes turns: every mode with every number of clients, those of Atone on both builds.
fn variants(options: &Options) -> Vec<Variant> {
    let mut all = Vec::new();
    let mut add = |mode: Mode, clients, hot| {
        all.push(Variant { mode, build: Build::This, hot, clients });
        if options.against.is_some() && mode.is_atone() {
            all.push(Variant { mode, build: Build::Other, hot, clients });
        }
    };
    for &clients in &options.clients {
        for &mode in &options.modes {
            add(mode, clients, false);
        }
    }
    if options.hot {
        for mode in [Mode::ByHandPipelined, Mode::AtoneText] {
            add(mode, HOT_CLIENTS, true);
        }
    }
    all
}

/// Measures everything in each round, in turns, and sorts what was measured.
async fn rounds<V: Copy + Debug>(
    variants: Vec<V>,
    rounds: usize,
    mut sample: impl AsyncFnMut(V) -> Result<Load>,
) -> Result<Vec<Cell<V>>> {
    let mut cells: Vec<Cell<V>> =
        variants.into_iter().map(|variant| Cell { variant, samples: Vec::new() }).collect();
    for round in 0..rounds {
        let started = Instant::now();
        // No variant is always behind the same other one: rounds begin elsewhere, and every second one goes backwards
        let count = cells.len();
        let mut order: Vec<usize> = (0..count).map(|n| (n + round) % count).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for turn in order {
            let cell = &mut cells[turn];
            let load = sample(cell.variant).await.with_context(|| format!("{:?}", cell.variant))?;
            cell.samples.push(load);
        }
        if count > 0 {
            eprintln!("  round {}: {:.0} s", round + 1, started.elapsed().as_secs_f64());
        }
    }
    Ok(cells)
}

async fn measure(bench: &mut Bench, options: &Options, server: String) -> Result<Report> {
    let load_before = machine::load();
    let transfers = async |variant| bench.sample(variant, options.duration).await;
    let cells = rounds(variants(options), options.rounds, transfers).await?;
    let relayed = if options.relay { Some(relay::measure(bench, options).await?) } else { None };
    let mut surroundings = machine::surroundings(options.revision.as_deref(), options.rounds);
    surroundings.push(("a sample", format!("{:.0} s", options.duration.as_secs_f64())));
    surroundings.push(("load average", format!("{load_before} before, {} behind", machine::load())));
    Ok(Report { server, surroundings, cells, relayed })
}

/// Measures on one kind of server.
pub(crate) async fn run(flavor: Flavor, options: &Options, server: String) -> Result<Report> {
    let mut bench = Bench::start(flavor, options).await?;
    let report = measure(&mut bench, options, server).await;
    report.map_err(|error| error.context(bench.log_tails()))
}
