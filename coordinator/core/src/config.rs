//! What an operator can set.

/// The longest time that a rollback's answer may wait for its branches to be undone, in milliseconds.
pub const MAX_ROLLBACK_WAIT_MS: u64 = 300_000;

/// Times and limits that the core works with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The timeout of a transaction that is begun without one, in milliseconds.
    pub default_timeout_ms: u64,
    /// The longest timeout a transaction may have, in milliseconds.
    pub max_timeout_ms: u64,
    /// How long a commit waits for branches to report their outcome before it asks the servers, in milliseconds.
    pub branch_report_timeout_ms: u64,
    /// The pause before a branch that could not be rolled back is tried again, in milliseconds. Also the longest pause
    /// between the retries of any other work.
    pub rollback_retry_interval_ms: u64,
    /// How long a rollback's answer waits for its branches to be undone if the call does not say, in milliseconds; 0:
    /// not at all.
    pub rollback_wait_ms: u64,
    /// How long ended transactions are remembered, in milliseconds.
    pub history_retention_ms: u64,
    /// How long a proxy may take for a piece of work before it is given out again, in milliseconds.
    pub work_timeout_ms: u64,
    /// How long reported outcomes are collected before they are made durable together, in milliseconds. Those of
    /// transactions that are committed meanwhile need not be.
    pub report_delay_ms: u64,
    /// How long the undo rows of committed branches are collected before they are deleted together, in milliseconds.
    pub purge_delay_ms: u64,
    /// From how many row locks in a table on those of a branch are kept as a whole in the lock table. Only time and
    /// memory depend on it.
    pub bulk_locks_min: usize,
    /// The bounds of what is held in memory.
    pub limits: Limits,
}

/// The bounds of what is held in memory. What goes beyond one is refused, with the limit's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Row locks of one branch.
    pub max_locks_per_branch: usize,
    /// Branches of one transaction.
    pub max_branches_per_transaction: usize,
    /// Transactions that have not ended.
    pub max_transactions: usize,
    /// Registrations that wait for locks.
    pub max_waiters: usize,
    /// Calls that wait until a rollback is done. One above it is answered at once, as if its wait was over.
    pub max_rollback_waiters: usize,
    /// Ended transactions that are remembered. The oldest are forgotten first.
    pub max_history: usize,
    /// The undo rows that one piece of work deletes.
    pub max_purge_batch: usize,
    /// Pieces of work that are given out at once for one resource.
    pub max_work_in_flight: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            default_timeout_ms: 60_000,
            max_timeout_ms: 24 * 3_600_000,
            branch_report_timeout_ms: 5_000,
            rollback_retry_interval_ms: 30_000,
            rollback_wait_ms: 5_000,
            history_retention_ms: 24 * 3_600_000,
            work_timeout_ms: 120_000,
            report_delay_ms: 50,
            purge_delay_ms: 100,
            // To enter or to remove so many takes a fraction of a millisecond.
            bulk_locks_min: 2_000,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_locks_per_branch: 1_000_000,
            max_branches_per_transaction: 10_000,
            max_transactions: 100_000,
            max_waiters: 10_000,
            max_rollback_waiters: 10_000,
            max_history: 100_000,
            max_purge_batch: 500,
            max_work_in_flight: 32,
        }
    }
}
