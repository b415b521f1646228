//! `scripts/demo` builds and runs this.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use atone_tests::{ClusterOptions, Flavor, demo};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: atone-demo [--keep] [--server mariadb|mysql|PATH_TO_MYSQLD]";

struct Arguments {
    keep: bool,
    flavor: Flavor,
    program: Option<PathBuf>,
}

fn arguments() -> Result<Option<Arguments>> {
    let mut parsed = Arguments { keep: false, flavor: Flavor::MariaDb, program: None };
    let mut rest = std::env::args().skip(1);
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--keep" => parsed.keep = true,
            "--server" => match rest.next().context(USAGE)?.as_str() {
                "mariadb" => parsed.flavor = Flavor::MariaDb,
                "mysql" => parsed.flavor = Flavor::MySql,
                path => {
                    let program = PathBuf::from(path);
                    parsed.flavor = Flavor::of_program(&program)?;
                    parsed.program = Some(program);
                }
            },
            "-h" | "--help" => return Ok(None),
            other => bail!("unknown argument {other}\n{USAGE}"),
        }
    }
    Ok(Some(parsed))
}

async fn run(arguments: Arguments) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let options = ClusterOptions {
        server_program: arguments.program,
        documented_ports: true,
        ..ClusterOptions::default()
    };
    let cluster = tokio::select! {
        cluster = demo::run(arguments.flavor, options) => cluster?,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    };
    if arguments.keep {
        demo::print_invitation(&cluster)?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            end = end_of_input() => end?,
        }
    }
    demo::shut_down(cluster).await
}

async fn end_of_input() -> Result<()> {
    let mut input = tokio::io::stdin();
    let mut buffer = [0; 1024];
    while input.read(&mut buffer).await? > 0 {}
    Ok(())
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(arguments));
    // A read of the terminal that was begun can't be taken back; it must not hold the end up.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
