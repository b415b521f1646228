//! Counts that are kept while things change, so that no query has to look at everything.

use std::collections::BTreeMap;

use crate::model::{Status, Transaction};

/// What was counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Transactions begun.
    pub begun: u64,
    /// Decisions to commit.
    pub committed: u64,
    /// Decisions to roll back.
    pub rolled_back: u64,
    /// Those of them that a timeout made.
    pub timed_out: u64,
    /// Branches registered.
    pub registered: u64,
    /// Registrations refused since a lock was not to be had in time.
    pub lock_timeouts: u64,
    /// Registrations refused since waiting would have deadlocked, or the holder was being rolled back.
    pub lock_deadlocks: u64,
    /// Invariants that did not hold: bugs of the coordinator.
    pub invariant_violations: u64,
}

/// How many transactions there are of each status, ended ones that are still remembered included.
#[derive(Debug, Default)]
pub(crate) struct StatusCounts {
    counts: BTreeMap<Status, usize>,
}

impl StatusCounts {
    pub(crate) fn counts(&self) -> BTreeMap<Status, usize> {
        let count = |status| (status, self.counts.get(&status).copied().unwrap_or(0));
        Status::ALL.into_iter().map(count).collect()
    }

    /// Counts a transaction as it is now.
    pub(crate) fn count(&mut self, transaction: &mut Transaction) {
        if let Some((before, status)) = transaction.recount() {
            self.remove(before);
            *self.counts.entry(status).or_default() += 1;
        }
    }

    /// A transaction that was counted under this status is forgotten, or is counted under another one.
    pub(crate) fn remove(&mut self, counted_as: Option<Status>) {
        if let Some(count) = counted_as.and_then(|status| self.counts.get_mut(&status)) {
            *count = count.saturating_sub(1);
        }
    }
}
