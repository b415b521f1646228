//! All transactions that the coordinator knows: those with something left to do, and ended ones that it remembers.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Branch, BranchId, Checked, Transaction, Violation};

/// All of them by number, which rises in the order in which they began.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    /// Those with something left to do.
    live: BTreeMap<u64, Transaction>,
    ended: BTreeMap<u64, Transaction>,
    /// The ended ones by the time of their end.
    ended_order: BTreeSet<(u64, u64)>,
}

impl Transactions {
    pub(crate) fn live(&self) -> &BTreeMap<u64, Transaction> {
        &self.live
    }

    pub(crate) fn ended(&self) -> &BTreeMap<u64, Transaction> {
        &self.ended
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Transaction> {
        self.live.values().chain(self.ended.values())
    }

    /// The transaction of this number, live or ended.
    pub(crate) fn known(&self, seq: u64) -> Option<&Transaction> {
        self.live.get(&seq).or_else(|| self.ended.get(&seq))
    }

    pub(crate) fn known_mut(&mut self, seq: u64) -> Option<&mut Transaction> {
        self.live.get_mut(&seq).or_else(|| self.ended.get_mut(&seq))
    }

    /// A transaction that is known to the core to be live.
    pub(crate) fn get(&self, seq: u64) -> Checked<&Transaction> {
        self.live.get(&seq).ok_or_else(|| not_live(seq))
    }

    pub(crate) fn get_mut(&mut self, seq: u64) -> Checked<&mut Transaction> {
        self.live.get_mut(&seq).ok_or_else(|| not_live(seq))
    }

    /// A branch of a live transaction, if it is there.
    pub(crate) fn live_branch(&self, seq: u64, id: BranchId) -> Option<&Branch> {
        self.live.get(&seq)?.branch(id)
    }

    pub(crate) fn live_branch_mut(&mut self, seq: u64, id: BranchId) -> Option<&mut Branch> {
        self.live.get_mut(&seq)?.branch_mut(id)
    }

    /// A branch of a live transaction that is known to the core to be there.
    pub(crate) fn branch(&self, seq: u64, id: BranchId) -> Checked<&Branch> {
        self.live_branch(seq, id).ok_or_else(|| no_live_branch(seq, id))
    }

    pub(crate) fn branch_mut(&mut self, seq: u64, id: BranchId) -> Checked<&mut Branch> {
        self.live_branch_mut(seq, id).ok_or_else(|| no_live_branch(seq, id))
    }

    /// Adds a live transaction.
    pub(crate) fn add(&mut self, transaction: Transaction) {
        self.live.insert(transaction.seq, transaction);
    }

    /// Nothing is left to do for a transaction.
    pub(crate) fn end(&mut self, seq: u64) -> Checked<&mut Transaction> {
        let ended_at_ms = self.get(seq)?.ended_at_ms();
        let ended_at_ms =
            ended_at_ms.ok_or_else(|| Violation::new(format!("transaction {seq:#x} ends before its end")))?;
        let transaction = self.live.remove(&seq).ok_or_else(|| not_live(seq))?;
        self.ended_order.insert((ended_at_ms, seq));
        Ok(self.ended.entry(seq).or_insert(transaction))
    }

    /// When the first of the ended ones did end, in milliseconds since 1970.
    pub(crate) fn first_ended_at_ms(&self) -> Option<u64> {
        self.ended_order.first().map(|(ended_at_ms, _)| *ended_at_ms)
    }

    /// Takes out the first of the ended ones.
    pub(crate) fn forget_first(&mut self) -> Option<Transaction> {
        let (_, seq) = self.ended_order.pop_first()?;
        self.ended.remove(&seq)
    }
}

fn not_live(seq: u64) -> Violation {
    Violation::new(format!("transaction {seq:#x} is taken to be live"))
}

fn no_live_branch(seq: u64, id: BranchId) -> Violation {
    Violation::new(format!("branch {id} of transaction {seq:#x} is taken to be live"))
}
