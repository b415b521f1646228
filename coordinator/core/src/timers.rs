//! The timers: an ordered queue whose entries can be cancelled.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{BranchId, ReplyTo, TimerKey, WaiterId};

/// What a timer is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The transaction's timeout.
    Deadline { seq: u64 },
    /// A commit waited long enough for reports.
    Check { seq: u64 },
    /// A registration waited long enough for locks.
    Waiter { waiter: WaiterId },
    /// A call waited long enough for a rollback to be done.
    RollbackWait { to: ReplyTo },
    /// Work on a branch is to be tried again.
    Retry { seq: u64, branch: BranchId },
    /// Reported outcomes are to be made durable.
    Reports,
    /// Undo rows are to be purged.
    Purge { resource: Arc<str>, schema: Arc<str> },
    /// A proxy took too long for a piece of work.
    Work { work_id: u64 },
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeMap<TimerKey, Timer>,
    next_serial: u64,
}

impl Timers {
    pub(crate) fn set(&mut self, at_ms: u64, timer: Timer) -> TimerKey {
        let key = TimerKey { at_ms, serial: self.next_serial };
        self.next_serial += 1;
        self.queue.insert(key, timer);
        key
    }

    pub(crate) fn cancel(&mut self, key: TimerKey) {
        self.queue.remove(&key);
    }

    pub(crate) fn next_at_ms(&self) -> Option<u64> {
        self.queue.first_key_value().map(|(key, _)| key.at_ms)
    }

    pub(crate) fn pop_due(&mut self, now_ms: u64) -> Option<Timer> {
        match self.queue.first_entry() {
            Some(entry) if entry.key().at_ms <= now_ms => Some(entry.remove()),
            _ => None,
        }
    }
}
