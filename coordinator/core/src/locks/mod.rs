//! The global row locks.
//!
//! A request gets all its locks at once or none: nothing is held while waiting. A lock belongs to a transaction. Its
//! branches share it, and it is free when the last of them has released it.
//!
//! Requests queue at every lock they need, in the order of their arrival. A transaction without locks waits after
//! those that came before it. One that holds locks goes first: others may be waiting for it, and queueing it after
//! them would be a deadlock that no lock causes. So only holders can be part of a cycle, and the search for deadlocks
//! follows holders only.
//!
//! A transaction that is being rolled back keeps its locks until the undo is done. The undo may need the very rows
//! that a waiting branch has locked at its server. So no request waits for it: it fails at once.
//!
//! How the keys of one table are kept is up to [`Table`]; none of this depends on it.

mod search;
mod table;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::model::{LockSet, Violation, WaiterId};
use table::Table;

/// A lock that stands in the way, and the number of the transaction that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) holder: u64,
    pub(crate) table: Arc<str>,
    pub(crate) key: Arc<str>,
}

/// The answer to a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Acquire {
    /// All locks are held now.
    Granted,
    /// It waits, under this number.
    Waiting(WaiterId),
    /// It would have to wait, and must not.
    Busy(Conflict),
    /// Waiting would be a deadlock.
    Deadlock(Conflict),
}

/// How a request's wait has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// All its locks are held now.
    Granted(WaiterId),
    /// It was refused: it had become part of a deadlock.
    Deadlock(WaiterId, Conflict),
}

#[derive(Debug)]
pub(crate) struct LockTable {
    tables: HashMap<TableName, Table>,
    owners: HashMap<u64, Owner>,
    waiters: BTreeMap<WaiterId, Waiter>,
    next_waiter: WaiterId,
    /// Locks held, counted once for each branch.
    held: usize,
    /// From how many keys in a table on a set is kept whole.
    bulk_min: usize,
    /// What has been found wrong since it was last asked for.
    violations: Vec<Violation>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TableName {
    resource: Arc<str>,
    table: Arc<str>,
}

/// A transaction that holds locks or waits for some.
#[derive(Debug, Default)]
struct Owner {
    /// Locks held, counted once for each branch.
    held: usize,
    waiting: BTreeSet<WaiterId>,
    is_rolling_back: bool,
}

#[derive(Debug)]
struct Waiter {
    seq: u64,
    resource: Arc<str>,
    locks: Arc<LockSet>,
}

impl LockTable {
    /// An empty lock table.
    pub(crate) fn new(bulk_min: usize) -> Self {
        Self {
            tables: HashMap::new(),
            owners: HashMap::new(),
            waiters: BTreeMap::new(),
            next_waiter: 0,
            held: 0,
            bulk_min,
            violations: Vec::new(),
        }
    }

    /// What has been found wrong since the last time.
    pub(crate) fn take_violations(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }

    /// Takes all of `locks` for the transaction `seq`, or queues the request if it `may_wait`. With more locks the
    /// transaction's other requests may be granted, or be part of a deadlock: the second part of the answer.
    pub(crate) fn acquire(
        &mut self,
        seq: u64,
        resource: &Arc<str>,
        locks: &Arc<LockSet>,
        may_wait: bool,
    ) -> (Acquire, Vec<Woken>) {
        let Some(conflict) = self.conflict(seq, resource, locks, WaiterId::MAX) else {
            self.grant(seq, resource, locks);
            let mut woken = Vec::new();
            let candidates = self.after_grant(seq, &mut woken);
            woken.extend(self.wake(candidates));
            return (Acquire::Granted, woken);
        };
        if let Some(deadlock) = self.deadlock(seq, resource, locks) {
            return (Acquire::Deadlock(deadlock), Vec::new());
        }
        if !may_wait {
            return (Acquire::Busy(conflict), Vec::new());
        }
        let waiter = self.next_waiter;
        self.next_waiter += 1;
        for group in &locks.groups {
            let name = TableName { resource: resource.clone(), table: group.table.clone() };
            self.tables.entry(name).or_default().enqueue(waiter, &group.keys, self.bulk_min);
        }
        self.owners.entry(seq).or_default().waiting.insert(waiter);
        self.waiters.insert(waiter, Waiter { seq, resource: resource.clone(), locks: locks.clone() });
        (Acquire::Waiting(waiter), Vec::new())
    }

    /// Takes locks that a transaction held before the restart. A conflict means that the store contradicts itself.
    pub(crate) fn restore(&mut self, seq: u64, resource: &Arc<str>, locks: &LockSet) -> Result<(), Conflict> {
        if let Some(held) = self.holders(seq, resource, locks).next() {
            return Err(held.conflict(held.by));
        }
        self.grant(seq, resource, locks);
        Ok(())
    }

    /// Releases locks that a branch of `seq` held, and wakes the requests that can have theirs now.
    pub(crate) fn release(&mut self, seq: u64, resource: &Arc<str>, locks: &LockSet) -> Vec<Woken> {
        let mut candidates = BTreeSet::new();
        for group in &locks.groups {
            let name = TableName { resource: resource.clone(), table: group.table.clone() };
            let table = self.tables.get_mut(&name);
            let released = table.map_or(0, |table| table.release(seq, &group.keys, &mut candidates));
            let wanted = group.keys.len();
            if released != wanted {
                let table = &group.table;
                self.violate(format!(
                    "transaction {seq:#x} held {released} of its {wanted} locks on {table}"
                ));
            }
            if let Some(owner) = self.owners.get_mut(&seq) {
                owner.held = owner.held.saturating_sub(released);
            }
            self.held = self.held.saturating_sub(released);
            self.drop_table_if_empty(&name);
        }
        self.forget_owner_if_idle(seq);
        self.wake(candidates)
    }

    /// Takes requests out of the queues, and wakes those that can have their locks now.
    pub(crate) fn cancel_all(&mut self, waiters: &[WaiterId]) -> Vec<Woken> {
        let mut candidates = BTreeSet::new();
        for waiter in waiters {
            candidates.extend(self.dequeue(*waiter));
        }
        self.wake(candidates)
    }

    /// A transaction is being rolled back: requests that wait for the locks that it holds fail. Its own requests have
    /// to be cancelled before.
    pub(crate) fn start_rollback(&mut self, seq: u64, held: &[(Arc<str>, Arc<LockSet>)]) -> Vec<Woken> {
        // A transaction without locks blocks no other.
        let Some(owner) = self.owners.get_mut(&seq) else { return Vec::new() };
        owner.is_rolling_back = true;
        if self.waiters.is_empty() {
            return Vec::new();
        }
        let mut victims: BTreeMap<WaiterId, Conflict> = BTreeMap::new();
        for (resource, locks) in held {
            for waiting in self.queued(resource, locks, WaiterId::MAX) {
                victims.entry(waiting.by).or_insert_with(|| waiting.conflict(seq));
            }
        }
        let mut candidates = BTreeSet::new();
        let mut woken = Vec::new();
        for (waiter, conflict) in victims {
            candidates.extend(self.dequeue(waiter));
            woken.push(Woken::Deadlock(waiter, conflict));
        }
        woken.extend(self.wake(candidates));
        woken
    }

    /// How many locks are held.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// How many requests wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiters.len()
    }

    fn grant(&mut self, seq: u64, resource: &Arc<str>, locks: &LockSet) {
        for group in &locks.groups {
            let name = TableName { resource: resource.clone(), table: group.table.clone() };
            self.tables.entry(name).or_default().grant(seq, &group.keys, self.bulk_min);
        }
        if !locks.is_empty() {
            self.held += locks.len();
            self.owners.entry(seq).or_default().held += locks.len();
        }
    }

    /// Grants what can be granted among these requests, in the order of their arrival.
    fn wake(&mut self, mut candidates: BTreeSet<WaiterId>) -> Vec<Woken> {
        let mut woken = Vec::new();
        while let Some(waiter) = candidates.pop_first() {
            // A candidate may have been refused since, by a deadlock that another one's grant has closed.
            let Some(waiting) = self.waiters.get(&waiter) else { continue };
            let (seq, resource, locks) = (waiting.seq, waiting.resource.clone(), waiting.locks.clone());
            if self.conflict(seq, &resource, &locks, waiter).is_some() {
                continue;
            }
            self.dequeue(waiter);
            self.grant(seq, &resource, &locks);
            woken.push(Woken::Granted(waiter));
            candidates.extend(self.after_grant(seq, &mut woken));
        }
        woken
    }

    /// The transaction got locks. Its other requests go first now that it is a holder, but may also close a cycle:
    /// those fail. The requests that should be tried again.
    fn after_grant(&mut self, seq: u64, woken: &mut Vec<Woken>) -> BTreeSet<WaiterId> {
        let mut candidates = BTreeSet::new();
        let others: Vec<WaiterId> =
            self.owners.get(&seq).into_iter().flat_map(|owner| owner.waiting.iter().copied()).collect();
        for other in others {
            let Some(waiting) = self.waiters.get(&other) else {
                self.violate(format!("request {other} of transaction {seq:#x} is not in the queues"));
                continue;
            };
            match self.deadlock(seq, &waiting.resource, &waiting.locks) {
                Some(conflict) => {
                    candidates.extend(self.dequeue(other));
                    woken.push(Woken::Deadlock(other, conflict));
                }
                None => {
                    candidates.insert(other);
                }
            }
        }
        candidates
    }

    /// Takes a request out of the queues. The requests that were queued with it.
    fn dequeue(&mut self, waiter: WaiterId) -> BTreeSet<WaiterId> {
        let mut neighbours = BTreeSet::new();
        let Some(gone) = self.waiters.remove(&waiter) else {
            self.violate(format!("request {waiter} is taken out, and is not in the queues"));
            return neighbours;
        };
        for group in &gone.locks.groups {
            let name = TableName { resource: gone.resource.clone(), table: group.table.clone() };
            let table = self.tables.get_mut(&name);
            if !table.is_some_and(|table| table.dequeue(waiter, &mut neighbours)) {
                self.violate(format!("request {waiter} is not in the queues of {}", group.table));
            }
            self.drop_table_if_empty(&name);
        }
        if let Some(owner) = self.owners.get_mut(&gone.seq) {
            owner.waiting.remove(&waiter);
        }
        self.forget_owner_if_idle(gone.seq);
        neighbours
    }

    fn drop_table_if_empty(&mut self, name: &TableName) {
        if self.tables.get(name).is_some_and(Table::is_empty) {
            self.tables.remove(name);
        }
    }

    fn violate(&mut self, text: String) {
        self.violations.push(Violation::new(text));
    }

    fn forget_owner_if_idle(&mut self, seq: u64) {
        if self.owners.get(&seq).is_some_and(|owner| owner.held == 0 && owner.waiting.is_empty()) {
            self.owners.remove(&seq);
        }
    }
}

#[cfg(test)]
mod tests;
