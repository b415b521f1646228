//! `atone-proxy`

use std::path::PathBuf;
use std::process::ExitCode;

use atone_proxy::config::Config;
use clap::{Parser, ValueEnum};
use tracing_subscriber::EnvFilter;

/// Atone's MySQL proxy.
#[derive(Debug, Parser)]
#[command(name = "atone-proxy", version)]
struct Args {
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
    /// How log lines look on stderr.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// A statement within a statement (EXECUTE) can take more of a worker's stack, where nothing is optimized, than the 2
/// MB that Tokio gives. What is not used costs nothing.
const WORKER_STACK_BYTES: usize = 8 << 20;

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(WORKER_STACK_BYTES)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(atone_proxy::run::run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
