//! `[limits]`.

use std::time::Duration;

use atone_catalog::MAX_READERS;
use serde::Deserialize;

use super::Refusal;

/// What systems take at most for the silence before the first sign of life, in seconds.
const MAX_KEEPALIVE_S: u64 = 32_767;
/// What `lock_wait_look_ms` may be: a look costs the server something, and what is told is believed for a few seconds.
const MIN_LOOK_MS: u64 = 50;
const MAX_LOOK_MS: u64 = 2_000;
/// The service account's connections for what sessions want beside looks at tables.
const SESSIONS_CONNECTIONS: usize = 8;

/// `[limits]`: every bound of the proxy.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The longest statement in a bound session, in bytes; above it error 1153.
    pub max_statement_bytes: usize,
    /// The most rows that one branch may change; above it error 1235.
    pub max_branch_rows: usize,
    /// The most bytes of images that one branch may hold; above it error 1235.
    pub max_branch_bytes: usize,
    /// About how many bytes the images of all sessions and all rollbacks may take together; above it a statement gets error 1040, and
    /// a rollback waits for others. 0: a half of what the machine, or the control group, lets the proxy have.
    pub max_memory: usize,
    /// Undo records above this many bytes of JSON are compressed. 0: none is.
    pub undo_compress_bytes: usize,
    /// The most client connections at a time for each backend; above it error 1040.
    pub max_connections: usize,
    /// The most prepared statements that one session may hold; above it error 1461.
    pub max_prepared_statements: usize,
    /// The most statements that one session keeps prepared beside the application's own, to run them again; above it the one
    /// used longest ago is let go. 0: none is kept.
    pub max_reused_statements: usize,
    /// How long a client may be silent in a login when it is its turn, in milliseconds; after it error 1159.
    pub handshake_timeout_ms: u64,
    /// How long connecting to a server may take, its greeting and TLS with it, each in milliseconds; after it error 1429.
    pub connect_timeout_ms: u64,
    /// How long table metadata is believed without looking again, in milliseconds.
    pub metadata_ttl_ms: u64,
    /// How many phase-two jobs run at a time for each backend.
    pub phase_two_concurrency: usize,
    /// How many connections of the service account stand ready for each backend, whatever clients hold. 0: none.
    pub min_service_connections: usize,
    /// How long a session may wait for its client's next command, in milliseconds; after it error 4031 of MySQL, or the end of
    /// the connection that MariaDB makes. 0: the server's `wait_timeout` decides.
    pub idle_timeout_ms: u64,
    /// How long a TCP connection is silent before its peer is asked for a sign of life, in seconds; one that gives none
    /// three times is over. 0: never.
    pub tcp_keepalive_s: u64,
    /// How long a statement of a bound session waits for the server before it is looked whether that is for another session's row lock,
    /// in milliseconds: the coordinator is told, and finds deadlocks that go on there. 0: never.
    pub lock_wait_look_ms: u64,
    /// How long shutting down may take, in milliseconds; after it connections are cut.
    pub drain_timeout_ms: u64,
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
            handshake_timeout_ms: 10_000,
            connect_timeout_ms: 5_000,
            metadata_ttl_ms: 1_000,
            phase_two_concurrency: 8,
            min_service_connections: 4,
            idle_timeout_ms: 0,
            tcp_keepalive_s: 60,
            lock_wait_look_ms: 250,
            drain_timeout_ms: 5_000,
        }
    }
}

impl Limits {
    /// `idle_timeout_ms` as a duration; `None` where the server decides.
    pub fn idle_timeout(&self) -> Option<Duration> {
        (self.idle_timeout_ms > 0).then(|| Duration::from_millis(self.idle_timeout_ms))
    }
    /// `tcp_keepalive_s` as a duration; `None` where it is off.
    pub fn tcp_keepalive(&self) -> Option<Duration> {
        (self.tcp_keepalive_s > 0).then(|| Duration::from_secs(self.tcp_keepalive_s))
    }
    /// `metadata_ttl_ms` as a duration.
    pub fn metadata_ttl(&self) -> Duration {
        Duration::from_millis(self.metadata_ttl_ms)
    }

    /// `lock_wait_look_ms` as a duration; `None` where nobody looks.
    pub fn lock_wait_look(&self) -> Option<Duration> {
        (self.lock_wait_look_ms > 0).then(|| Duration::from_millis(self.lock_wait_look_ms))
    }
    /// `connect_timeout_ms` as a duration.
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    /// The most connections of the service account for each backend.
    pub fn max_service_connections(&self) -> usize {
        self.phase_two_concurrency.saturating_add(SESSIONS_CONNECTIONS + MAX_READERS)
    }

    /// Refuses values that cannot be: the key and the reason.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        for (name, value) in [
            ("max_statement_bytes", self.max_statement_bytes),
            ("max_branch_rows", self.max_branch_rows),
            ("max_branch_bytes", self.max_branch_bytes),
            ("max_connections", self.max_connections),
            ("max_prepared_statements", self.max_prepared_statements),
            ("phase_two_concurrency", self.phase_two_concurrency),
        ] {
            if value == 0 {
                return Err((name.into(), "must be above 0".into()));
            }
        }
        let max = self.max_service_connections();
        if self.min_service_connections > max {
            let reason = format!(
                "must be phase_two_concurrency + {} = {max} at most",
                SESSIONS_CONNECTIONS + MAX_READERS
            );
            return Err(("min_service_connections".into(), reason));
        }
        let look_ms = MIN_LOOK_MS..=MAX_LOOK_MS;
        if self.lock_wait_look_ms > 0 && !look_ms.contains(&self.lock_wait_look_ms) {
            let reason = format!("must be 0, or {MIN_LOOK_MS} to {MAX_LOOK_MS}");
            return Err(("lock_wait_look_ms".into(), reason));
        }
        if self.tcp_keepalive_s > MAX_KEEPALIVE_S {
            return Err(("tcp_keepalive_s".into(), format!("must be {MAX_KEEPALIVE_S} at most")));
        }
        Ok(())
    }
}
