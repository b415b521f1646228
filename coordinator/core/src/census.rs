//! How many transactions there are of each status, counted while they change: nobody has to look at all of them.

use std::collections::BTreeMap;

use crate::core::Core;
use crate::record::Change;
use crate::state::{Status, Transaction};

/// Transactions by status, ended ones that are still remembered included.
#[derive(Debug, Default)]
pub(crate) struct Census {
    counts: BTreeMap<Status, usize>,
}

impl Census {
    pub(crate) fn counts(&self) -> BTreeMap<Status, usize> {
        let count = |status| (status, self.counts.get(&status).copied().unwrap_or(0));
        Status::ALL.into_iter().map(count).collect()
    }

    fn count(&mut self, transaction: &mut Transaction) {
        let status = transaction.status();
        if transaction.counted_as == Some(status) {
            return;
        }
        self.forget(transaction.counted_as);
        transaction.counted_as = Some(status);
        *self.counts.entry(status).or_default() += 1;
    }

    /// A transaction that was counted so is gone.
    pub(crate) fn forget(&mut self, counted_as: Option<Status>) {
        if let Some(count) = counted_as.and_then(|status| self.counts.get_mut(&status)) {
            *count = count.saturating_sub(1);
        }
    }
}

impl Core {
    /// Counts a transaction as it is now.
    pub(crate) fn count(&mut self, seq: u64) {
        if let Some(transaction) = self.live.get_mut(&seq).or_else(|| self.ended.get_mut(&seq)) {
            self.census.count(transaction);
        }
    }

    /// Counts what this step has changed. A status changes with what is durable, but for `committing`, which is counted
    /// where it begins.
    pub(crate) fn count_changed(&mut self) {
        let seq_of = |change: &Change| match change {
            Change::PutTransaction(record) => Some(record.seq),
            Change::PutBranch(record) => Some(record.seq),
            _ => None,
        };
        let mut changed: Vec<u64> = self.step.persist.iter().filter_map(seq_of).collect();
        changed.dedup();
        for seq in changed {
            self.count(seq);
        }
    }
}
