//! The command line's grammar.

use std::path::PathBuf;

use clap::{ArgGroup, Parser, Subcommand};

use crate::Failure;
use crate::rest::Coordinator;

/// Where a coordinator listens unless told otherwise.
const DEFAULT_COORDINATOR: &str = "http://127.0.0.1:7092";

/// Inspect and repair Atone's transactions, locks and undo logs.
#[derive(Debug, Parser)]
#[command(name = "atone", version, propagate_version = true)]
#[command(after_help = "Exit status: 0; 1 for a failure; 2 for bad usage or a bad config.")]
pub(crate) struct Args {
    /// The coordinator's REST address [default: $ATONE_COORDINATOR, or http://127.0.0.1:7092]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) coordinator: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The coordinator that was asked for, by option, environment or default.
pub(crate) fn coordinator(option: Option<String>) -> Result<Coordinator, Failure> {
    let url = option
        .or_else(|| std::env::var("ATONE_COORDINATOR").ok().filter(|v| !v.is_empty()))
        .unwrap_or_else(|| DEFAULT_COORDINATOR.to_owned());
    Coordinator::new(&url)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Global transactions, by the coordinator
    Tx {
        #[command(subcommand)]
        command: Tx,
    },
    /// Global row locks, by the coordinator
    Lock {
        #[command(subcommand)]
        command: Lock,
    },
    /// Undo logs, read directly from a server
    Undo {
        #[command(subcommand)]
        command: Undo,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Tx {
    /// List transactions
    Ls {
        /// Only of this status: active, committing, committed, rolling_back, rolled_back, rollback_failed
        #[arg(long)]
        status: Option<String>,
        /// Only of this name
        #[arg(long)]
        name: Option<String>,
        /// How many at most
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
        limit: u64,
    },
    /// Show one transaction with its branches, and why a rollback failed
    Show { xid: String },
    /// Commit a transaction
    Commit { xid: String },
    /// Roll a transaction back, or try a failed rollback again
    Rollback { xid: String },
    /// Decide about a branch that can't be rolled back (rollback_failed)
    #[command(group = ArgGroup::new("action").required(true).args(["keep_current"]))]
    Resolve {
        xid: String,
        branch: u64,
        /// Leave its rows as they are: what it changed stays, its locks are freed, and the rest is rolled back
        #[arg(long)]
        keep_current: bool,
        /// Only show what would be given up
        #[arg(long)]
        dry_run: bool,
        /// Who decides: kept with the branch [default: $USER]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Lock {
    /// List row locks
    Ls {
        /// Only of this transaction
        #[arg(long)]
        xid: Option<String>,
        /// Only on this resource
        #[arg(long)]
        resource: Option<String>,
        /// Only on this table (schema.table)
        #[arg(long)]
        table: Option<String>,
        /// How many at most
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
        limit: u64,
    },
}

/// Which server's undo logs.
#[derive(Debug, Clone, clap::Args)]
#[command(group = ArgGroup::new("server").required(true).args(["config", "dsn"]))]
pub(crate) struct Source {
    /// The proxy's config file: the server is one of its [[backend]]s
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The backend's name in the config file (needed where there are several)
    #[arg(long, value_name = "NAME", conflicts_with = "dsn")]
    pub(crate) resource: Option<String>,
    /// The server: mysql://user:password@host:port/ or mysql://user@localhost/?socket=/path
    #[arg(long, value_name = "DSN")]
    pub(crate) dsn: Option<String>,
    /// The schema whose undo_log is read [default: every schema that has one]
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) schema: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Undo {
    /// List undo rows
    Ls {
        #[command(flatten)]
        source: Source,
        /// Only of this transaction
        #[arg(long)]
        xid: Option<String>,
        /// How many at most
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
        limit: u64,
    },
    /// Show the images before and after, and the rows as they are now
    Show {
        #[command(flatten)]
        source: Source,
        xid: String,
        branch: Option<u64>,
        /// How many rows of each table at most
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
        rows: u64,
    },
    /// Print the SQL that a rollback would run now
    Sql {
        #[command(flatten)]
        source: Source,
        xid: String,
        branch: Option<u64>,
    },
}
