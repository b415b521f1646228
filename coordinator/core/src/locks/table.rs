//! The locks of one table, and the requests that wait for them.
//!
//! A few keys are entered one by one. A set of many keys is kept whole, as a bulk: it is taken and released in one move
//! however large it is, and searched like an index by requests for some of its keys. So no other request has to wait
//! while a hundred thousand keys are entered or removed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::model::{Keys, WaiterId};

/// How many times as many keys must be asked for as there are rows (or waiting requests) before those are gone through
/// in place of the keys.
const SCAN_RATIO: usize = 8;
/// What one bulk costs every search for a key, as a fraction of `bulk_min` keys entered one by one.
const BULK_COST_DIVISOR: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Table {
    /// Keys that were entered one by one.
    rows: HashMap<Box<str>, Lock>,
    /// Sets that are held as a whole.
    bulks: Vec<Bulk>,
    /// All requests that wait and want keys here, in the order of arrival.
    waiting: BTreeMap<WaiterId, Waiting>,
    /// Those of them that are in no row's queue.
    bulk_waiters: BTreeSet<WaiterId>,
}

/// A lock without a holder exists only while a request waits for it.
#[derive(Debug, Default)]
struct Lock {
    /// The holding transaction; meaningless where `count` is 0.
    owner: u64,
    /// How many of its branches hold it.
    count: u32,
    /// In the order of arrival. Boxed, since almost no lock has one and there may be millions of locks.
    #[allow(clippy::box_collection)]
    queue: Option<Box<VecDeque<WaiterId>>>,
}

#[derive(Debug)]
struct Bulk {
    owner: u64,
    keys: Keys,
}

#[derive(Debug)]
struct Waiting {
    keys: Keys,
    is_bulk: bool,
}

impl Table {
    /// No transaction holds or wants a lock here any more.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.bulks.is_empty() && self.waiting.is_empty()
    }

    /// How many sets are held, and asked for, as a whole.
    #[cfg(test)]
    pub(super) fn bulk_counts(&self) -> (usize, usize) {
        (self.bulks.len(), self.bulk_waiters.len())
    }

    /// Whether so many keys are kept whole. The more bulks there are, the longer takes every look for a key: then the
    /// keys have to be more for one more bulk to be worth it.
    fn is_bulk(&self, keys: &Keys, bulk_min: usize) -> bool {
        let bulks = self.bulks.len() + self.bulk_waiters.len();
        keys.len() >= bulk_min && bulks <= keys.len() / (bulk_min / BULK_COST_DIVISOR).max(1)
    }

    pub(super) fn grant(&mut self, seq: u64, keys: &Keys, bulk_min: usize) {
        if self.is_bulk(keys, bulk_min) {
            self.bulks.push(Bulk { owner: seq, keys: keys.clone() });
            return;
        }
        for key in keys.iter() {
            let lock = self.rows.entry(key.into()).or_default();
            if lock.count == 0 {
                lock.owner = seq;
            }
            lock.count += 1;
        }
    }

    /// Releases keys that a branch of `seq` held: how many those were. The requests that wait for one of them are added
    /// to `candidates`.
    pub(super) fn release(&mut self, seq: u64, keys: &Keys, candidates: &mut BTreeSet<WaiterId>) -> usize {
        // Sets of the same transaction with the same keys can stand for each other.
        if let Some(place) = self.bulks.iter().position(|bulk| bulk.owner == seq && bulk.keys == *keys) {
            self.bulks.remove(place);
            candidates.extend(self.wanting(keys));
            return keys.len();
        }
        let mut released = 0;
        for key in keys.iter() {
            // What was not held is not counted, and so noticed by the caller.
            let held = self.rows.get_mut(key).filter(|lock| lock.count > 0 && lock.owner == seq);
            let Some(lock) = held else { continue };
            released += 1;
            lock.count -= 1;
            if lock.count == 0 {
                match &lock.queue {
                    Some(queue) => candidates.extend(queue.iter().copied()),
                    None => drop(self.rows.remove(key)),
                }
                candidates.extend(self.bulk_wanting(key, WaiterId::MAX));
            }
        }
        released
    }

    pub(super) fn enqueue(&mut self, waiter: WaiterId, keys: &Keys, bulk_min: usize) {
        let is_bulk = self.is_bulk(keys, bulk_min);
        if is_bulk {
            self.bulk_waiters.insert(waiter);
        } else {
            for key in keys.iter() {
                self.rows.entry(key.into()).or_default().queue.get_or_insert_default().push_back(waiter);
            }
        }
        self.waiting.insert(waiter, Waiting { keys: keys.clone(), is_bulk });
    }

    /// Takes a request out, if it waits here. The requests that wait for one of its keys too are added to `neighbours`.
    pub(super) fn dequeue(&mut self, waiter: WaiterId, neighbours: &mut BTreeSet<WaiterId>) -> bool {
        let Some(Waiting { keys, is_bulk }) = self.waiting.remove(&waiter) else { return false };
        if is_bulk {
            self.bulk_waiters.remove(&waiter);
            neighbours.extend(self.wanting(&keys));
            return true;
        }
        let mut is_queued = true;
        for key in keys.iter() {
            neighbours.extend(self.bulk_wanting(key, WaiterId::MAX));
            let Some(queue) = self.rows.get_mut(key).and_then(|lock| lock.queue.as_mut()) else {
                is_queued = false;
                continue;
            };
            match queue.binary_search(&waiter) {
                Ok(position) => drop(queue.remove(position)),
                Err(_) => is_queued = false,
            }
            neighbours.extend(queue.iter().copied());
            if queue.is_empty() {
                self.drop_queue(key);
            }
        }
        is_queued
    }

    fn drop_queue(&mut self, key: &str) {
        if let Some(lock) = self.rows.get_mut(key) {
            lock.queue = None;
            if lock.count == 0 {
                self.rows.remove(key);
            }
        }
    }

    /// The transactions other than `seq` that hold some of these keys, each with a key: with every one of its keys
    /// where they were entered one by one, else with the first of each bulk.
    pub(super) fn holders<'a>(
        &'a self,
        seq: u64,
        keys: &'a Keys,
    ) -> impl Iterator<Item = (u64, &'a str)> + 'a {
        let holder = move |lock: &Lock| (lock.count > 0 && lock.owner != seq).then_some(lock.owner);
        let by_row = (self.rows.len().saturating_mul(SCAN_RATIO) <= keys.len()).then(|| {
            let rows = self.rows.iter().filter(|(key, _)| keys.contains(key));
            let mut rows: Vec<_> = rows.filter_map(|(key, lock)| Some((&**key, holder(lock)?))).collect();
            // The map's own order is another one each time.
            rows.sort_unstable();
            rows
        });
        let by_key = by_row.is_none().then(|| {
            keys.iter().filter_map(move |key| self.rows.get(key).and_then(holder).map(|owner| (key, owner)))
        });
        let bulks = self.bulks.iter().filter(move |bulk| bulk.owner != seq);
        let by_bulk = bulks.filter_map(|bulk| Some((keys.first_common(&bulk.keys)?, bulk.owner)));
        let rows = by_row.into_iter().flatten().chain(by_key.into_iter().flatten());
        rows.chain(by_bulk).map(|(key, owner)| (owner, key))
    }

    /// The requests that arrived before number `arrival` and wait for some of these keys, each at least once.
    pub(super) fn ahead<'a>(
        &'a self,
        keys: &'a Keys,
        arrival: WaiterId,
    ) -> impl Iterator<Item = (u64, &'a str)> + 'a {
        let scans = self.waiting.len().saturating_mul(SCAN_RATIO) <= keys.len();
        let by_waiter = scans.then(|| {
            let waiting = self.waiting.range(..arrival);
            waiting.filter_map(|(waiter, waiting)| Some((*waiter, keys.first_common(&waiting.keys)?)))
        });
        let by_key = (!scans).then(|| {
            keys.iter().flat_map(move |key| {
                let queue = self.rows.get(key).and_then(|lock| lock.queue.as_deref()).into_iter().flatten();
                let queue = queue.copied().take_while(move |waiter| *waiter < arrival);
                queue.chain(self.bulk_wanting(key, arrival)).map(move |waiter| (waiter, key))
            })
        });
        by_waiter.into_iter().flatten().chain(by_key.into_iter().flatten())
    }

    /// The requests that wait for some of these keys.
    fn wanting<'a>(&'a self, keys: &'a Keys) -> impl Iterator<Item = WaiterId> + 'a {
        self.ahead(keys, WaiterId::MAX).map(|(waiter, _)| waiter)
    }

    /// The requests of before `arrival` that wait for this key and are in no row's queue.
    fn bulk_wanting<'a>(&'a self, key: &'a str, arrival: WaiterId) -> impl Iterator<Item = WaiterId> + 'a {
        let wants = move |waiter: &&WaiterId| self.waiting.get(waiter).is_some_and(|w| w.keys.contains(key));
        self.bulk_waiters.range(..arrival).filter(wants).copied()
    }
}
