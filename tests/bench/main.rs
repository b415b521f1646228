//! What global transactions cost, against the same straight on the servers. `scripts/bench` builds and runs this;
//! docs/benchmarks.md says how to read it. There are two benchmarks: `large`, CPU time of statements of many rows, and
//! `short`, short transactions over two servers.
//!
//! | module | what |
//! | --- | --- |
//! | `cpu` | CPU time of processes |
//! | `machine` | what a run is on: servers, their memory, the machine |
//! | `large` | the workload: the table and its statements |
//! | `mode` | how a transaction is run: bare, committed, rolled back |
//! | `report` | medians, ratios, exponents; Markdown and JSON |
//! | `short` | short transactions, all of it |

mod cpu;
mod large;
mod machine;
mod mode;
mod report;
mod short;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use atone_tests::{Cluster, ClusterOptions, Flavor, paths};
use tokio::signal::unix::{SignalKind, signal};

use crate::cpu::{Clocks, Used};
use crate::large::{Kind, Statement, Table};
use crate::machine::{flavors, server_memory, server_version, surroundings};
use crate::mode::{Mode, Sessions};
use crate::report::{Cell, Report, Sample};

const USAGE: &str = "usage: atone-bench [large] [--server mariadb|mysql|both] [--rows N,N,…] [--rounds N] \
                     [--statements NAME,NAME,…] [--json FILE] [--write-docs FILE] [--revision TEXT]\n\
                     or: atone-bench short --help";

struct Arguments {
    flavors: Vec<Flavor>,
    rows: Vec<u64>,
    rounds: usize,
    kinds: Vec<Kind>,
    json: Option<PathBuf>,
    docs: Option<PathBuf>,
    revision: Option<String>,
}

fn arguments(mut rest: impl Iterator<Item = String>) -> Result<Option<Arguments>> {
    let mut parsed = Arguments {
        flavors: vec![Flavor::MariaDb, Flavor::MySql],
        rows: vec![1_000, 10_000, 100_000],
        rounds: 5,
        kinds: Kind::ALL.to_vec(),
        json: None,
        docs: None,
        revision: None,
    };
    while let Some(argument) = rest.next() {
        if matches!(argument.as_str(), "-h" | "--help") {
            return Ok(None);
        }
        let value = rest.next().context(USAGE)?;
        match argument.as_str() {
            "--server" => parsed.flavors = flavors(&value).context(USAGE)?,
            "--rows" => {
                parsed.rows = value.split(',').map(str::parse).collect::<Result<_, _>>().context(USAGE)?;
                parsed.rows.sort_unstable();
                parsed.rows.dedup();
            }
            "--rounds" => parsed.rounds = value.parse().context(USAGE)?,
            "--statements" => parsed.kinds = value.split(',').map(kind).collect::<Result<_>>()?,
            "--json" => parsed.json = Some(value.into()),
            "--write-docs" => parsed.docs = Some(value.into()),
            "--revision" => parsed.revision = Some(value),
            other => bail!("unknown argument {other}\n{USAGE}"),
        }
    }
    let fit = parsed.rows.iter().all(|&rows| (2..=5_000_000).contains(&rows));
    ensure!(fit && parsed.rounds > 0, "--rows takes 2 to 5000000, --rounds at least 1");
    Ok(Some(parsed))
}

fn kind(name: &str) -> Result<Kind> {
    let names = Kind::ALL.map(Kind::name).join(", ");
    Kind::ALL
        .into_iter()
        .find(|kind| kind.name() == name)
        .with_context(|| format!("unknown statement {name}; there are {names}"))
}

/// Limits are raised, so that statements of any size here are taken; what takes long is waited for.
fn options(flavor: Flavor) -> ClusterOptions {
    let mut server_options = server_memory(flavor);
    server_options.push("--max-allowed-packet=1G".to_owned());
    ClusterOptions {
        default_timeout: "1h".to_owned(),
        coordinator_transaction: "rollback_wait = \"300s\"\nwork_timeout = \"10m\"\n\
                                  [limits]\nmax_locks_per_branch = 100000000\n"
            .to_owned(),
        proxy_limits:
            "max_statement_bytes = \"1GiB\"\nmax_branch_rows = 10000000\nmax_branch_bytes = \"16GiB\"\n"
                .to_owned(),
        server_options,
        ..ClusterOptions::default()
    }
}

/// Runs the transactions of one sample, and gives what one of them took.
async fn sample(clocks: &Clocks, sessions: &mut Sessions, mode: Mode, all: &[Statement]) -> Result<Sample> {
    clocks.until_quiet().await?;
    let (before, start) = (clocks.now()?, Instant::now());
    for statement in all {
        sessions.run(mode, statement).await?;
    }
    let wall = start.elapsed();
    let used = clocks.until_quiet().await?.since(&before);
    let count = u32::try_from(all.len())?;
    let used = Used {
        server: used.server / count,
        proxy: used.proxy / count,
        coordinator: used.coordinator / count,
    };
    Ok(Sample { used, wall: wall / count })
}

/// All that is measured on one kind of server.
async fn measure(cluster: &Cluster, arguments: &Arguments) -> Result<Vec<Cell>> {
    let max_rows = arguments.rows.iter().copied().max().context("no rows")?;
    let mut table = Table::create(cluster, max_rows).await?;
    let clocks = Clocks::of(cluster)?;
    let mut sessions = Sessions::open(cluster, &table.schema).await?;
    // The first bound statement reads the table's metadata and makes undo_log
    let warm_up = [table.statement(Kind::UpdateRange, 100, 0)?];
    sample(&clocks, &mut sessions, Mode::Rollback, &warm_up).await?;
    table.check().await?;
    let mut cells = Vec::new();
    for &kind in &arguments.kinds {
        for &rows in &arguments.rows {
            let started = Instant::now();
            let statements: Vec<Statement> = (0..large::transactions(rows))
                .map(|n| table.statement(kind, rows, n))
                .collect::<Result<_>>()?;
            let mut of_modes = Mode::ALL.map(|mode| Cell { kind, rows, mode, samples: Vec::new() });
            for round in 0..arguments.rounds {
                // No way of running is always behind the same other one
                for n in 0..of_modes.len() {
                    let turn = (n + round) % of_modes.len();
                    let cell = &mut of_modes[turn];
                    let context = || format!("{} of {rows} rows, {}", kind.name(), cell.mode.name());
                    let taken = sample(&clocks, &mut sessions, cell.mode, &statements).await;
                    cell.samples.push(taken.with_context(context)?);
                    if cell.mode != Mode::Rollback {
                        table.restore(&statements).await?;
                    }
                    table.check().await.with_context(|| format!("{} of {rows} rows", kind.name()))?;
                }
            }
            cells.extend(of_modes);
            eprintln!("  {} of {rows} rows: {:.0} s", kind.name(), started.elapsed().as_secs_f64());
        }
    }
    Ok(cells)
}

fn write_json(file: Option<&PathBuf>, all: &[serde_json::Value]) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let text = serde_json::to_string_pretty(all)?;
    std::fs::write(file, text).with_context(|| format!("can't write {}", file.display()))
}

async fn run_large(arguments: &Arguments) -> Result<()> {
    let mut all = Vec::new();
    for &flavor in &arguments.flavors {
        let server = server_version(flavor)?;
        eprintln!("{flavor} {server}");
        let cluster = Cluster::start_with(flavor, options(flavor)).await?;
        let cells = measure(&cluster, arguments).await.with_context(|| cluster.log_tails())?;
        let surroundings = surroundings(arguments.revision.as_deref(), arguments.rounds);
        let report = Report { server: format!("{flavor} {server}"), surroundings, cells };
        let markdown = report.markdown()?;
        println!("## {flavor}\n\n{markdown}");
        if let Some(docs) = &arguments.docs {
            report::write_docs(docs, &flavor.to_string(), &markdown)?;
        }
        all.push(report.json());
    }
    write_json(arguments.json.as_ref(), &all)
}

async fn run_short(options: &short::Options) -> Result<()> {
    let mut all = Vec::new();
    for &flavor in &options.flavors {
        let server = format!("{flavor} {}", server_version(flavor)?);
        eprintln!("{server}");
        let report = short::run(flavor, options, server).await?;
        println!("## {flavor}\n\n{}", report.markdown()?);
        all.push(report.json());
    }
    write_json(options.json.as_ref(), &all)
}

/// Which benchmark is to be run, and how.
enum Command {
    Large(Arguments),
    Short(short::Options),
}

/// The first word names the benchmark; without one it is that of large statements. The error is the usage, where help
/// is asked for.
fn command() -> Result<std::result::Result<Command, &'static str>> {
    let mut rest = std::env::args().skip(1).peekable();
    if rest.next_if(|word| word == "short").is_some() {
        return Ok(short::Options::parse(rest)?.map(Command::Short).ok_or(short::USAGE));
    }
    let _ = rest.next_if(|word| word == "large");
    Ok(arguments(rest)?.map(Command::Large).ok_or(USAGE))
}

async fn run(command: &Command) -> Result<()> {
    match command {
        Command::Large(arguments) => run_large(arguments).await,
        Command::Short(options) => run_short(options).await,
    }
}

async fn interruptible(command: &Command) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = run(command) => result,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = match command() {
        Ok(Ok(command)) => command,
        Ok(Err(usage)) => {
            println!("{usage}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::from(2);
        }
    };
    let result = interruptible(&command).await;
    let removed = paths::remove_run_dir();
    match result.and(removed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
