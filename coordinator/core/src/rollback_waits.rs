//! Calls that wait until a rollback is done: until every branch is undone, one of them can't be, or their time is over.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::model::{ReplyTo, StreamId, TimerKey};

/// The calls that wait, and the numbers of the transactions that they wait for.
#[derive(Debug, Default)]
pub(crate) struct RollbackWaits {
    calls: BTreeMap<ReplyTo, (u64, TimerKey)>,
    by_transaction: BTreeSet<(u64, ReplyTo)>,
}

impl RollbackWaits {
    pub(crate) fn insert(&mut self, to: ReplyTo, seq: u64, timer: TimerKey) {
        self.calls.insert(to, (seq, timer));
        self.by_transaction.insert((seq, to));
    }

    /// Takes a call out: its transaction's number and its timer.
    pub(crate) fn remove(&mut self, to: ReplyTo) -> Option<(u64, TimerKey)> {
        let (seq, timer) = self.calls.remove(&to)?;
        self.by_transaction.remove(&(seq, to));
        Some((seq, timer))
    }

    pub(crate) fn of_transaction(&self, seq: u64) -> Vec<ReplyTo> {
        let from = ReplyTo::Stream(StreamId(0), 0);
        let range = (seq, from)..=(seq, ReplyTo::Call(u64::MAX));
        self.by_transaction.range(range).map(|(_, to)| *to).collect()
    }

    pub(crate) fn of_stream(&self, stream: StreamId) -> Vec<ReplyTo> {
        let range: RangeInclusive<ReplyTo> = ReplyTo::Stream(stream, 0)..=ReplyTo::Stream(stream, u64::MAX);
        self.calls.range(range).map(|(to, _)| *to).collect()
    }

    pub(crate) fn contains(&self, to: ReplyTo) -> bool {
        self.calls.contains_key(&to)
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }
}
