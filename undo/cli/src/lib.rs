//! The operator's command line: transactions and locks through the coordinator's REST API, undo logs directly on the
//! servers.
//!
//! Exit status: 0, 1 for a failure (also where something shown is not well), 2 for bad usage or a bad config.
#![forbid(unsafe_code)]

mod args;
mod config;
mod lock;
mod render;
mod rest;
mod tx;
mod undo;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};
use render::Palette;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Bad usage or config: exit status 2.
    Usage(String),
    /// Anything else: exit status 1.
    Failed(String),
}

impl Failure {
    pub(crate) fn failed(what: impl std::fmt::Display) -> Self {
        Failure::Failed(what.to_string())
    }
}

/// What a command has to say.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// For standard output.
    pub(crate) text: String,
    /// A failure that did not keep the rest from being shown: one line, for standard error.
    pub(crate) failure: Option<String>,
}

impl Report {
    pub(crate) fn json(value: &serde_json::Value) -> Result<Self, Failure> {
        let text = serde_json::to_string_pretty(value).map_err(Failure::failed)?;
        Ok(Report { text: text + "\n", failure: None })
    }
}

/// Runs the command line of this process.
pub async fn main() -> ExitCode {
    let args = Args::parse();
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let palette = if colour { Palette::Terminal } else { Palette::Plain };
    let (report, code) = match run(args, palette).await {
        Ok(report) => {
            let code = u8::from(report.failure.is_some());
            (report, code)
        }
        Err(Failure::Failed(why)) => (Report { text: String::new(), failure: Some(why) }, 1),
        Err(Failure::Usage(why)) => (Report { text: String::new(), failure: Some(why) }, 2),
    };
    let written = std::io::stdout().lock().write_all(report.text.as_bytes());
    if let Some(why) = report.failure {
        eprintln!("atone: {}", render::one_line(&why));
    }
    // A closed pipe (`atone … | head`) is no failure.
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::from(1),
        _ => ExitCode::from(code),
    }
}

async fn run(args: Args, palette: Palette) -> Result<Report, Failure> {
    let Args { coordinator, json, command } = args;
    match command {
        Command::Tx { command } => tx::run(&args::coordinator(coordinator)?, command, json, palette).await,
        Command::Lock { command } => lock::run(&args::coordinator(coordinator)?, command, json).await,
        Command::Undo { command } => undo::run(command, json, palette).await,
    }
}
