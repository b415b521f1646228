//! `[limits]`.

use std::time::Duration;

use atone_config::{KeyError, Section};

use super::Timeouts;
use atone_catalog::MAX_READERS;

/// The service account's connections for what sessions want beside looks at tables.
const SESSIONS_CONNECTIONS: usize = 8;

/// `[limits]` and `[timeouts]`: every bound of the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The longest statement in a bound session, in bytes; above it error 1153.
    pub max_statement_bytes: usize,
    /// The most rows that one branch may change; above it error 1235.
    pub max_branch_rows: usize,
    /// The most bytes of images that one branch may hold; above it error 1235.
    pub max_branch_bytes: usize,
    /// About how many bytes the images of all sessions and all rollbacks may take together. Above it a statement gets
    /// error 1040, and a rollback waits for others. 0: a half of what the machine, or the control group, lets the
    /// proxy have.
    pub max_memory: usize,
    /// Undo records above this many bytes of JSON are compressed. 0: none is.
    pub undo_compress_bytes: usize,
    /// The most client connections at a time for each backend; above it error 1040.
    pub max_connections: usize,
    /// The most prepared statements that one session may hold; above it error 1461.
    pub max_prepared_statements: usize,
    /// The most statements that one session keeps prepared beside the application's own, to run them again. Above it
    /// the one used longest ago is let go. 0: none is kept.
    pub max_reused_statements: usize,
    /// How many phase-two jobs run at a time for each backend.
    pub phase_two_concurrency: usize,
    /// How many connections of the service account stand ready for each backend, whatever clients hold. 0: none.
    pub min_service_connections: usize,
    /// `[timeouts]`.
    pub timeouts: Timeouts,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_statement_bytes: 64 << 20,
            max_branch_rows: 100_000,
            max_branch_bytes: 256 << 20,
            max_memory: 0,
            undo_compress_bytes: 64 << 10,
            max_connections: 10_000,
            max_prepared_statements: 16_382,
            max_reused_statements: 8,
            phase_two_concurrency: 8,
            min_service_connections: 4,
            timeouts: Timeouts::default(),
        }
    }
}

impl Limits {
    /// How long a client may be silent in a login when it is its turn.
    pub fn handshake_timeout(&self) -> Duration {
        self.timeouts.handshake_timeout
    }
    /// How long connecting to a server may take.
    pub fn connect_timeout(&self) -> Duration {
        self.timeouts.connect_timeout
    }
    /// How long a session may wait for its client's next command; `None` where the server decides.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.timeouts.idle_timeout
    }
    /// How long a TCP connection is silent before its peer is asked for a sign of life; `None` where it is not.
    pub fn tcp_keepalive(&self) -> Option<Duration> {
        self.timeouts.tcp_keepalive
    }
    /// How long table metadata is believed.
    pub fn metadata_ttl(&self) -> Duration {
        self.timeouts.metadata_ttl
    }

    /// The most connections of the service account for each backend.
    pub fn max_service_connections(&self) -> usize {
        self.phase_two_concurrency.saturating_add(SESSIONS_CONNECTIONS + MAX_READERS)
    }

    /// Reads both sections.
    pub(super) fn read(mut limits: Section, timeouts: Section) -> Result<Limits, KeyError> {
        let defaults = Limits::default();
        let read = Limits {
            max_statement_bytes: limits.bytes("max_statement_bytes", defaults.max_statement_bytes, 1)?,
            max_branch_rows: limits.count("max_branch_rows", defaults.max_branch_rows, 1)?,
            max_branch_bytes: limits.bytes("max_branch_bytes", defaults.max_branch_bytes, 1)?,
            max_memory: limits.bytes("max_memory", defaults.max_memory, 0)?,
            undo_compress_bytes: limits.bytes("undo_compress_bytes", defaults.undo_compress_bytes, 0)?,
            max_connections: limits.count("max_connections", defaults.max_connections, 1)?,
            max_prepared_statements: limits.count(
                "max_prepared_statements",
                defaults.max_prepared_statements,
                1,
            )?,
            max_reused_statements: limits.count(
                "max_reused_statements",
                defaults.max_reused_statements,
                0,
            )?,
            phase_two_concurrency: limits.count(
                "phase_two_concurrency",
                defaults.phase_two_concurrency,
                1,
            )?,
            min_service_connections: limits.count(
                "min_service_connections",
                defaults.min_service_connections,
                0,
            )?,
            timeouts: Timeouts::read(timeouts)?,
        };
        let max = read.max_service_connections();
        if read.min_service_connections > max {
            let beside = SESSIONS_CONNECTIONS + MAX_READERS;
            let reason = format!("must be phase_two_concurrency + {beside} = {max} at most");
            return Err(limits.error("min_service_connections", reason));
        }
        limits.finish()?;
        Ok(read)
    }
}
