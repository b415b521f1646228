//! The global row locks.
//!
//! A request gets all its locks at once or none: nothing is held while waiting. A lock belongs to a transaction; its
//! branches share it, and it is free when the last of them let go.
//!
//! Requests queue at every lock they need, in the order of their arrival. A transaction that holds nothing stays behind
//! those who came before it. One that holds locks already goes first: others may be waiting for it, and queueing it
//! behind them would be a deadlock that no lock causes. So only holders can be part of a cycle, and the search for
//! deadlocks follows holders only.
//!
//! A transaction that is being rolled back keeps its locks until the undo is done, which may need the very rows that a
//! waiting branch has locked in its server. So nobody waits for it: who does, or wants to, fails at once.
//!
//! How the keys of one table are kept is up to [`Table`]; none of this depends on it.

mod table;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::step::{LockGroup, LockSet};
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
    Waiting(u64),
    /// It would have to wait, and is not to.
    Busy(Conflict),
    /// Waiting would never end well.
    Deadlock(Conflict),
}

/// What became of requests that waited.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// All its locks are held now.
    Granted(u64),
    /// It was given up: it would never have ended well.
    Deadlock(u64, Conflict),
}

#[derive(Debug)]
pub(crate) struct LockTable {
    tables: HashMap<TableName, Table>,
    owners: HashMap<u64, Owner>,
    waiters: BTreeMap<u64, Waiter>,
    next_waiter: u64,
    /// Locks held, counted once for each branch.
    held: usize,
    /// From how many keys in a table on a set is kept whole.
    bulk_min: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TableName {
    resource: Arc<str>,
    table: Arc<str>,
}

/// What a transaction has to do with locks.
#[derive(Debug, Default)]
struct Owner {
    /// Locks held, counted once for each branch.
    held: usize,
    waiting: BTreeSet<u64>,
    /// It is being rolled back.
    dying: bool,
}

#[derive(Debug)]
struct Waiter {
    seq: u64,
    resource: Arc<str>,
    locks: Arc<LockSet>,
}

/// Somebody in the way, and a lock of a request that shows it.
#[derive(Debug, Clone, Copy)]
struct Obstacle<'a> {
    /// A transaction that holds the lock, or the number of a request that waits for it.
    by: u64,
    table: &'a Arc<str>,
    key: &'a str,
}

impl Obstacle<'_> {
    fn conflict(&self, holder: u64) -> Conflict {
        Conflict { holder, table: self.table.clone(), key: self.key.into() }
    }
}

impl LockTable {
    /// One in which nobody holds anything.
    pub(crate) fn new(bulk_min: usize) -> Self {
        Self {
            tables: HashMap::new(),
            owners: HashMap::new(),
            waiters: BTreeMap::new(),
            next_waiter: 0,
            held: 0,
            bulk_min,
        }
    }

    /// Takes all of `locks` for the transaction `seq`, or queues the request where `may_wait`. Having more locks may
    /// change the fate of the transaction's requests that wait already: that is the second part of the answer.
    pub(crate) fn acquire(
        &mut self,
        seq: u64,
        resource: &Arc<str>,
        locks: &Arc<LockSet>,
        may_wait: bool,
    ) -> (Acquire, Vec<Woken>) {
        let Some(blocked) = self.blocked(seq, resource, locks, u64::MAX) else {
            self.grant(seq, resource, locks);
            let mut woken = Vec::new();
            let candidates = self.after_grant(seq, &mut woken);
            woken.extend(self.wake(candidates));
            return (Acquire::Granted, woken);
        };
        if let Some(conflict) = self.hopeless(seq, resource, locks) {
            return (Acquire::Deadlock(conflict), Vec::new());
        }
        if !may_wait {
            return (Acquire::Busy(blocked), Vec::new());
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

    /// Takes locks that are known to be the transaction's, when the table is rebuilt. The conflict, if there is one,
    /// means that what was stored contradicts itself.
    pub(crate) fn restore(&mut self, seq: u64, resource: &Arc<str>, locks: &LockSet) -> Result<(), Conflict> {
        if let Some(held) = self.holders(seq, resource, locks).next() {
            return Err(held.conflict(held.by));
        }
        self.grant(seq, resource, locks);
        Ok(())
    }

    /// Lets go of locks that a branch of `seq` held, and wakes who can go on.
    pub(crate) fn release(&mut self, seq: u64, resource: &Arc<str>, locks: &LockSet) -> Vec<Woken> {
        let mut candidates = BTreeSet::new();
        for group in &locks.groups {
            let name = TableName { resource: resource.clone(), table: group.table.clone() };
            let Some(table) = self.tables.get_mut(&name) else { continue };
            let released = table.release(seq, &group.keys, &mut candidates);
            self.held -= released;
            if let Some(owner) = self.owners.get_mut(&seq) {
                owner.held = owner.held.saturating_sub(released);
            }
            if table.is_empty() {
                self.tables.remove(&name);
            }
        }
        self.forget_owner_if_idle(seq);
        self.wake(candidates)
    }

    /// Takes requests out of the queues, and wakes who can go on without them.
    pub(crate) fn give_up_all(&mut self, waiters: &[u64]) -> Vec<Woken> {
        let mut candidates = BTreeSet::new();
        for waiter in waiters {
            candidates.extend(self.dequeue(*waiter));
        }
        self.wake(candidates)
    }

    /// The transaction is being rolled back: who waits for its locks fails. Its own requests have to be given up before.
    pub(crate) fn set_dying(&mut self, seq: u64, held: &[(Arc<str>, Arc<LockSet>)]) -> Vec<Woken> {
        let Some(owner) = self.owners.get_mut(&seq) else { return Vec::new() };
        owner.dying = true;
        let mut doomed: BTreeMap<u64, Conflict> = BTreeMap::new();
        for (resource, locks) in held {
            for wanting in self.queued(resource, locks, u64::MAX) {
                doomed.entry(wanting.by).or_insert_with(|| wanting.conflict(seq));
            }
        }
        let mut candidates = BTreeSet::new();
        let mut woken = Vec::new();
        for (waiter, conflict) in doomed {
            candidates.extend(self.dequeue(waiter));
            woken.push(Woken::Deadlock(waiter, conflict));
        }
        woken.extend(self.wake(candidates));
        woken
    }

    /// The lock that a waiting request lacks.
    pub(crate) fn lacks(&self, waiter: u64) -> Option<Conflict> {
        let waiting = self.waiters.get(&waiter)?;
        self.blocked(waiting.seq, &waiting.resource, &waiting.locks, waiter)
    }

    /// The transactions that a waiting request waits for: who holds a lock that it wants, and who is ahead of it at one.
    pub(crate) fn waits_for(&self, waiter: u64) -> BTreeSet<u64> {
        let mut others = BTreeSet::new();
        let Some(waiting) = self.waiters.get(&waiter) else { return others };
        let Waiter { seq, resource, locks } = waiting;
        others.extend(self.holders(*seq, resource, locks).map(|held| held.by));
        if self.owners.get(seq).is_none_or(|owner| owner.held == 0) {
            let ahead = self.queued(resource, locks, waiter);
            others.extend(ahead.filter_map(|other| self.waiters.get(&other.by)).map(|other| other.seq));
        }
        others.remove(&waiting.seq);
        others
    }

    /// How many locks are held.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// How many requests wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiters.len()
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
    fn holders<'a>(
        &'a self,
        seq: u64,
        resource: &'a Arc<str>,
        locks: &'a LockSet,
    ) -> impl Iterator<Item = Obstacle<'a>> + 'a {
        self.groups(resource, locks).flat_map(move |(group, table)| {
            let held = table.holders(seq, &group.keys);
            held.map(move |(by, key)| Obstacle { by, table: &group.table, key })
        })
    }

    /// The requests that arrived before number `arrival` and wait for locks among these, each with one of them at least.
    fn queued<'a>(
        &'a self,
        resource: &'a Arc<str>,
        locks: &'a LockSet,
        arrival: u64,
    ) -> impl Iterator<Item = Obstacle<'a>> + 'a {
        self.groups(resource, locks).flat_map(move |(group, table)| {
            let ahead = table.ahead(&group.keys, arrival);
            ahead.map(move |(by, key)| Obstacle { by, table: &group.table, key })
        })
    }

    /// What keeps a request that arrived as number `arrival` from having all its locks now.
    fn blocked(&self, seq: u64, resource: &Arc<str>, locks: &LockSet, arrival: u64) -> Option<Conflict> {
        if let Some(held) = self.holders(seq, resource, locks).next() {
            return Some(held.conflict(held.by));
        }
        if self.waiters.is_empty() || self.owners.get(&seq).is_some_and(|owner| owner.held > 0) {
            return None;
        }
        self.queued(resource, locks, arrival).find_map(|ahead| {
            let other = self.waiters.get(&ahead.by).filter(|other| other.seq != seq)?;
            Some(ahead.conflict(other.seq))
        })
    }

    /// Whether waiting would never end well: a holder is being rolled back, or waits, itself or through others, for `seq`.
    fn hopeless(&self, seq: u64, resource: &Arc<str>, locks: &LockSet) -> Option<Conflict> {
        let mut first: Option<Obstacle<'_>> = None;
        let mut holders = Vec::new();
        let mut seen = HashSet::new();
        for held in self.holders(seq, resource, locks) {
            if !seen.insert(held.by) {
                continue;
            }
            if self.owners.get(&held.by).is_some_and(|owner| owner.dying) {
                return Some(held.conflict(held.by));
            }
            holders.push(held.by);
            first.get_or_insert(held);
        }
        while let Some(holder) = holders.pop() {
            let Some(owner) = self.owners.get(&holder) else { continue };
            for waiter in owner.waiting.iter().filter_map(|waiter| self.waiters.get(waiter)) {
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
    fn wake(&mut self, mut candidates: BTreeSet<u64>) -> Vec<Woken> {
        let mut woken = Vec::new();
        while let Some(waiter) = candidates.pop_first() {
            let Some(waiting) = self.waiters.get(&waiter) else { continue };
            let (seq, resource, locks) = (waiting.seq, waiting.resource.clone(), waiting.locks.clone());
            if self.blocked(seq, &resource, &locks, waiter).is_some() {
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
    /// those fail. Answers who should be tried again.
    fn after_grant(&mut self, seq: u64, woken: &mut Vec<Woken>) -> BTreeSet<u64> {
        let mut candidates = BTreeSet::new();
        let others: Vec<u64> =
            self.owners.get(&seq).into_iter().flat_map(|o| o.waiting.iter().copied()).collect();
        for other in others {
            let Some(waiting) = self.waiters.get(&other) else { continue };
            match self.hopeless(seq, &waiting.resource, &waiting.locks) {
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

    /// Takes a request out of the queues; answers who was queued with it.
    fn dequeue(&mut self, waiter: u64) -> BTreeSet<u64> {
        let mut neighbours = BTreeSet::new();
        let Some(gone) = self.waiters.remove(&waiter) else { return neighbours };
        for group in &gone.locks.groups {
            let name = TableName { resource: gone.resource.clone(), table: group.table.clone() };
            let Some(table) = self.tables.get_mut(&name) else { continue };
            table.dequeue(waiter, &mut neighbours);
            if table.is_empty() {
                self.tables.remove(&name);
            }
        }
        if let Some(owner) = self.owners.get_mut(&gone.seq) {
            owner.waiting.remove(&waiter);
        }
        self.forget_owner_if_idle(gone.seq);
        neighbours
    }

    fn forget_owner_if_idle(&mut self, seq: u64) {
        if self.owners.get(&seq).is_some_and(|owner| owner.held == 0 && owner.waiting.is_empty()) {
            self.owners.remove(&seq);
        }
    }
}

#[cfg(test)]
mod tests;
