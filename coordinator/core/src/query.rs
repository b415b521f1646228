//! Queries: lists of transactions and locks, in bounded slices, and the figures of the moment.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::core::Core;
use crate::counts::Totals;
use crate::model::{BranchId, Records, Status, Xid};
use crate::step::{Refusal, RefusalCode};
use crate::view::{BranchView, TransactionView};

/// A transaction with its branches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionDetail {
    /// The transaction.
    pub transaction: TransactionView,
    /// Its branches in the order of their registration.
    pub branches: Vec<BranchView>,
}

/// Which transactions to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransactionFilter {
    /// Only with this status.
    pub status: Option<Status>,
    /// Only with exactly this name.
    pub name: Option<String>,
    /// Only those older than the one with this XID.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// Which locks to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockFilter {
    /// Only those of this transaction.
    pub xid: Option<String>,
    /// Only those on this resource.
    pub resource: Option<String>,
    /// Only those in this table, `schema.table`.
    pub table: Option<String>,
    /// Only those after this place.
    pub after: Option<LockCursor>,
    /// At most so many.
    pub limit: usize,
}

/// A place in the list of all locks: the transaction's number, the branch id, and the lock's index in the branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockCursor(pub u64, pub u64, pub u64);

/// A lock that a branch holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockView {
    /// The resource.
    pub resource: Arc<str>,
    /// `schema.table`.
    pub table: Arc<str>,
    /// The canonical text of the key.
    pub key: Arc<str>,
    /// The transaction.
    pub xid: Xid,
    /// The branch.
    pub branch_id: BranchId,
    /// Its place in the list of all locks.
    pub at: LockCursor,
}

/// A part of a list, and the place after which the next part begins, if there may be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, C> {
    /// The part.
    pub items: Vec<T>,
    /// What to ask for next.
    pub next: Option<C>,
}

/// What one slice of work at a list has led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slice<T, C> {
    /// All of the part that was asked for.
    Page(Page<T, C>),
    /// What was found so far, and the place after which to go on.
    Unfinished(Vec<T>, C),
}

/// What there is at the moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions by status, ended ones that are still remembered included.
    pub transactions: BTreeMap<Status, usize>,
    /// Locks that are held, counted once for each branch that holds them.
    pub locks: usize,
    /// Registrations that wait for locks.
    pub waiters: usize,
    /// Calls that wait until a rollback is done.
    pub rollback_waiters: usize,
    /// Connected proxies.
    pub streams: usize,
    /// Phase-two work that waits to be given out.
    pub work_waiting: usize,
    /// Phase-two work that proxies have.
    pub work_outstanding: usize,
    /// Undo rows of committed branches that wait to be deleted.
    pub purge_waiting: usize,
    /// Resources that work waits for and that no proxy serves.
    pub unreachable: Vec<Arc<str>>,
    /// Counts since the start.
    pub totals: Totals,
}

impl Core {
    /// A transaction with its branches.
    pub fn transaction(&self, xid: &str) -> Option<TransactionDetail> {
        let transaction = self.transactions.known(self.seq_of(xid)?)?;
        let branches = transaction.branches().values().map(|branch| BranchView::of(transaction, branch));
        Some(TransactionDetail {
            transaction: TransactionView::of(transaction),
            branches: branches.collect(),
        })
    }

    /// A list of transactions, the newest first.
    pub fn transactions(&self, filter: &TransactionFilter) -> Result<Page<TransactionView, Xid>, Refusal> {
        let (mut filter, mut found) = (filter.clone(), Vec::new());
        loop {
            match self.transactions_slice(&filter, found, usize::MAX)? {
                Slice::Page(page) => return Ok(page),
                Slice::Unfinished(so_far, after) => {
                    (found, filter.after) = (so_far, Some(after.to_string()));
                }
            }
        }
    }

    /// The same in slices that look at `steps` transactions at most. `found` is what earlier slices have found. The
    /// next slice begins after the place where the last one has stopped.
    pub fn transactions_slice(
        &self,
        filter: &TransactionFilter,
        found: Vec<TransactionView>,
        steps: usize,
    ) -> Result<Slice<TransactionView, Xid>, Refusal> {
        let before = match &filter.after {
            None => Bound::Unbounded,
            Some(xid) => match self.seq_of(xid) {
                Some(seq) => Bound::Excluded(seq),
                None => {
                    let message = "`after` is not the XID of a transaction of this coordinator";
                    return Err(Refusal::new(RefusalCode::Invalid, message));
                }
            },
        };
        let range = (Bound::Unbounded, before);
        let mut live = self.transactions.live().range(range).rev().peekable();
        let mut ended = self.transactions.ended().range(range).rev().peekable();
        let may_be_ended = filter.status.is_none_or(|s| matches!(s, Status::Committed | Status::RolledBack));
        let mut page = Page { items: found, next: None };
        let mut left = steps;
        loop {
            let is_live_newer = match (live.peek(), ended.peek()) {
                (Some((a, _)), Some((b, _))) => a > b,
                (Some(_), None) => true,
                (None, _) => false,
            };
            let next = if is_live_newer || !may_be_ended { live.next() } else { ended.next() };
            let Some((_, transaction)) = next else { return Ok(Slice::Page(page)) };
            let is_wanted = filter.name.as_ref().is_none_or(|name| *name == transaction.name)
                && filter.status.is_none_or(|status| Some(status) == transaction.counted_as());
            if is_wanted && page.items.len() >= filter.limit {
                page.next = page.items.last().map(|last: &TransactionView| last.xid.clone());
                return Ok(Slice::Page(page));
            }
            if is_wanted {
                page.items.push(TransactionView::of(transaction));
            }
            left = left.saturating_sub(1);
            if left == 0 {
                return Ok(Slice::Unfinished(page.items, transaction.xid.clone()));
            }
        }
    }

    /// A list of held locks, those of the oldest transaction first.
    pub fn locks(&self, filter: &LockFilter) -> Page<LockView, LockCursor> {
        let (mut filter, mut found) = (filter.clone(), Vec::new());
        loop {
            match self.locks_slice(&filter, found, usize::MAX) {
                Slice::Page(page) => return page,
                Slice::Unfinished(so_far, after) => (found, filter.after) = (so_far, Some(after)),
            }
        }
    }

    /// The same in slices that look at `steps` transactions, branches, tables and keys at most. `found` is what earlier
    /// slices have found. The next slice begins after the place where the last one has stopped.
    pub fn locks_slice(
        &self,
        filter: &LockFilter,
        found: Vec<LockView>,
        steps: usize,
    ) -> Slice<LockView, LockCursor> {
        let mut page = Page { items: found, next: None };
        let only = match &filter.xid {
            None => None,
            Some(xid) => match self.seq_of(xid) {
                Some(seq) => Some(seq),
                None => return Slice::Page(page),
            },
        };
        let after = filter.after;
        let from = match after {
            // That transaction is done.
            Some(LockCursor(seq, u64::MAX, _)) if only.is_none_or(|only| only <= seq) => Bound::Excluded(seq),
            Some(LockCursor(seq, ..)) => Bound::Included(seq.max(only.unwrap_or(0))),
            None => Bound::Included(only.unwrap_or(0)),
        };
        let mut left = steps;
        let mut step = || {
            left = left.saturating_sub(1);
            left == 0
        };
        let live = self.transactions.live().range((from, Bound::Unbounded));
        for (seq, transaction) in live.take_while(|(seq, _)| only.is_none_or(|s| s == **seq)) {
            let first = match after.filter(|cursor| cursor.0 == *seq) {
                // That branch is done.
                Some(LockCursor(_, id, u64::MAX)) => Bound::Excluded(BranchId(id)),
                Some(LockCursor(_, id, _)) => Bound::Included(BranchId(id)),
                None => Bound::Unbounded,
            };
            for (id, branch) in transaction.branches().range((first, Bound::Unbounded)) {
                let end = LockCursor(*seq, id.0, u64::MAX);
                let is_on = filter.resource.as_ref().is_none_or(|resource| **resource == *branch.resource);
                let locks = branch.locks().filter(|_| is_on);
                let mut index = 0_u64;
                for group in locks.iter().flat_map(|locks| &locks.groups) {
                    let group_from = index;
                    index = index.saturating_add(group.keys.len() as u64);
                    let seen = after.filter(|cursor| (cursor.0, cursor.1) == (*seq, id.0));
                    if seen.is_some_and(|cursor| index <= cursor.2.saturating_add(1)) {
                        continue;
                    }
                    if filter.table.as_ref().is_some_and(|table| **table != *group.table) {
                        if step() {
                            let at = LockCursor(*seq, id.0, index.saturating_sub(1));
                            return Slice::Unfinished(page.items, at);
                        }
                        continue;
                    }
                    let skip = seen.map_or(0, |cursor| cursor.2.saturating_add(1).saturating_sub(group_from));
                    let keys = group.keys.iter_from(usize::try_from(skip).unwrap_or(usize::MAX));
                    for (key, at) in keys.zip(group_from.saturating_add(skip)..) {
                        if page.items.len() >= filter.limit {
                            page.next = page.items.last().map(|last| last.at);
                            return Slice::Page(page);
                        }
                        let cursor = LockCursor(*seq, id.0, at);
                        page.items.push(LockView {
                            resource: branch.resource.clone(),
                            table: group.table.clone(),
                            key: key.into(),
                            xid: transaction.xid.clone(),
                            branch_id: *id,
                            at: cursor,
                        });
                        if step() {
                            return Slice::Unfinished(page.items, cursor);
                        }
                    }
                }
                if step() {
                    return Slice::Unfinished(page.items, end);
                }
            }
            if step() {
                return Slice::Unfinished(page.items, LockCursor(*seq, u64::MAX, u64::MAX));
            }
        }
        Slice::Page(page)
    }

    /// What should be durable by now: for comparison with what is.
    pub fn records(&self) -> Records {
        let mut records = Records { counters: self.counters, ..Records::default() };
        for transaction in self.transactions.all() {
            records.transactions.insert(transaction.seq, transaction.record());
            for (id, branch) in transaction.branches() {
                records.branches.insert(id.0, branch.record());
                if let Some(locks) = branch.locks() {
                    records.locks.insert(id.0, locks.clone());
                }
            }
        }
        records
    }

    /// What there is at the moment.
    pub fn stats(&self) -> Stats {
        Stats {
            transactions: self.status_counts.counts(),
            locks: self.locks.held(),
            waiters: self.locks.waiting(),
            rollback_waiters: self.rollback_waits.len(),
            streams: self.dispatcher.streams(),
            work_waiting: self.dispatcher.waiting(),
            work_outstanding: self.dispatcher.outstanding(),
            purge_waiting: self.purges.waiting(),
            unreachable: self.dispatcher.unreachable(),
            totals: self.totals,
        }
    }
}
