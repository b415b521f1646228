//! What is in the way of a request: holders, requests ahead of it, deadlocks.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::table::Table;
use super::{Conflict, LockTable, TableName, Waiter};
use crate::model::{LockGroup, LockSet, WaiterId};

/// What is ahead of a request at one of its locks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocker<'a> {
    /// A transaction that holds the lock, or the id of a request that waits for it.
    pub(super) by: u64,
    table: &'a Arc<str>,
    key: &'a str,
}

impl Blocker<'_> {
    pub(super) fn conflict(&self, holder: u64) -> Conflict {
        Conflict { holder, table: self.table.clone(), key: self.key.into() }
    }
}

impl LockTable {
    /// What keeps a waiting request from having its locks.
    pub(crate) fn conflict_of(&self, waiter: WaiterId) -> Option<Conflict> {
        let waiting = self.waiters.get(&waiter)?;
        self.conflict(waiting.seq, &waiting.resource, &waiting.locks, waiter)
    }

    /// The transactions that a request waits for: those that hold a lock it wants, and those ahead of it at one. None
    /// if it does not wait.
    pub(crate) fn waits_for(&self, waiter: WaiterId) -> BTreeSet<u64> {
        let mut others = BTreeSet::new();
        let Some(Waiter { seq, resource, locks }) = self.waiters.get(&waiter) else { return others };
        others.extend(self.holders(*seq, resource, locks).map(|held| held.by));
        if self.owners.get(seq).is_none_or(|owner| owner.held == 0) {
            let ahead = self.queued(resource, locks, waiter);
            others.extend(ahead.filter_map(|other| self.waiters.get(&other.by)).map(|other| other.seq));
        }
        others.remove(seq);
        others
    }

    fn groups<'a>(
        &'a self,
        resource: &'a Arc<str>,
        locks: &'a LockSet,
    ) -> impl Iterator<Item = (&'a LockGroup, &'a Table)> + 'a {
        locks.groups.iter().filter_map(move |group| {
            let name = TableName { resource: resource.clone(), table: group.table.clone() };
            Some((group, self.tables.get(&name)?))
        })
    }

    /// The other transactions that hold locks among these, each with one of them at least.
    pub(super) fn holders<'a>(
        &'a self,
        seq: u64,
        resource: &'a Arc<str>,
        locks: &'a LockSet,
    ) -> impl Iterator<Item = Blocker<'a>> + 'a {
        self.groups(resource, locks).flat_map(move |(group, table)| {
            let held = table.holders(seq, &group.keys);
            held.map(move |(by, key)| Blocker { by, table: &group.table, key })
        })
    }

    /// The requests that arrived before number `arrival` and wait for locks among these, each with one of them at
    /// least.
    pub(super) fn queued<'a>(
        &'a self,
        resource: &'a Arc<str>,
        locks: &'a LockSet,
        arrival: u64,
    ) -> impl Iterator<Item = Blocker<'a>> + 'a {
        self.groups(resource, locks).flat_map(move |(group, table)| {
            let ahead = table.ahead(&group.keys, arrival);
            ahead.map(move |(by, key)| Blocker { by, table: &group.table, key })
        })
    }

    /// What keeps a request that arrived as number `arrival` from having all its locks now.
    pub(super) fn conflict(
        &self,
        seq: u64,
        resource: &Arc<str>,
        locks: &LockSet,
        arrival: u64,
    ) -> Option<Conflict> {
        if let Some(held) = self.holders(seq, resource, locks).next() {
            return Some(held.conflict(held.by));
        }
        if self.waiters.is_empty() || self.owners.get(&seq).is_some_and(|owner| owner.held > 0) {
            return None;
        }
        self.queued(resource, locks, arrival).find_map(|ahead| {
            // The transaction's own requests do not hold it up.
            let other = self.waiters.get(&ahead.by).filter(|other| other.seq != seq)?;
            Some(ahead.conflict(other.seq))
        })
    }

    /// Whether waiting would be a deadlock: a holder is being rolled back, or waits, itself or through others, for
    /// `seq`.
    pub(super) fn deadlock(&self, seq: u64, resource: &Arc<str>, locks: &LockSet) -> Option<Conflict> {
        let mut first: Option<Blocker<'_>> = None;
        let mut holders = Vec::new();
        let mut seen = HashSet::new();
        for held in self.holders(seq, resource, locks) {
            if !seen.insert(held.by) {
                continue;
            }
            if self.owners.get(&held.by).is_some_and(|owner| owner.is_rolling_back) {
                return Some(held.conflict(held.by));
            }
            holders.push(held.by);
            first.get_or_insert(held);
        }
        while let Some(holder) = holders.pop() {
            let waiting = self.owners.get(&holder).into_iter().flat_map(|owner| &owner.waiting);
            for waiter in waiting.filter_map(|waiter| self.waiters.get(waiter)) {
                for held in self.holders(holder, &waiter.resource, &waiter.locks) {
                    if held.by == seq {
                        return first.map(|first| first.conflict(first.by));
                    }
                    if seen.insert(held.by) {
                        holders.push(held.by);
                    }
                }
            }
        }
        None
    }
}
