//! How a transaction and its branches are shown to others.

use std::sync::Arc;

use crate::model::{Branch, BranchId, BranchStatus, Resolution, Status, Transaction, Xid};

/// How many of the branches that are still to be undone the answer to a rollback names.
const MAX_PENDING_SHOWN: usize = 10;

/// A transaction without its branches. Times are in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionView {
    /// Its XID.
    pub xid: Xid,
    /// Its name; may be empty.
    pub name: String,
    /// Its status.
    pub status: Status,
    /// Why it was rolled back: empty, `timeout`, or a sentence.
    pub reason: String,
    /// Its timeout in milliseconds.
    pub timeout_ms: u64,
    /// When it was begun.
    pub created_at_ms: u64,
    /// When it was decided.
    pub decided_at_ms: Option<u64>,
    /// When nothing was left to do.
    pub ended_at_ms: Option<u64>,
    /// In the answer to a rollback: branches that are still to be undone, the last ones first, a few at most.
    pub pending: Vec<PendingBranch>,
    /// In the answer to a rollback: how many there are of them.
    pub pending_count: usize,
}

/// A branch that is still to be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingBranch {
    /// Its id.
    pub branch_id: BranchId,
    /// The resource it is on.
    pub resource: Arc<str>,
}

/// A branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchView {
    /// Its id.
    pub branch_id: BranchId,
    /// The resource it is on.
    pub resource: Arc<str>,
    /// The schema of its undo_log row.
    pub schema: Arc<str>,
    /// Its status.
    pub status: BranchStatus,
    /// How many locks it took.
    pub lock_count: usize,
    /// When it was registered, in milliseconds since 1970.
    pub registered_at_ms: u64,
    /// Why it could not be rolled back, or why a try has to be repeated; else empty.
    pub detail: String,
    /// What an operator decided about it.
    pub resolution: Option<Resolution>,
}

impl TransactionView {
    pub(crate) fn of(transaction: &Transaction) -> Self {
        Self {
            xid: transaction.xid.clone(),
            name: transaction.name.clone(),
            status: transaction.status(),
            reason: transaction.reason().to_owned(),
            timeout_ms: transaction.timeout_ms,
            created_at_ms: transaction.created_at_ms,
            decided_at_ms: transaction.decided_at_ms(),
            ended_at_ms: transaction.ended_at_ms(),
            pending: Vec::new(),
            pending_count: 0,
        }
    }

    /// The same with the branches that are still to be undone.
    pub(crate) fn with_pending(transaction: &Transaction) -> Self {
        let to_undo = || transaction.branches().values().rev().filter(|branch| !branch.is_undone());
        let pending = to_undo()
            .take(MAX_PENDING_SHOWN)
            .map(|branch| PendingBranch { branch_id: branch.id, resource: branch.resource.clone() });
        Self { pending: pending.collect(), pending_count: to_undo().count(), ..Self::of(transaction) }
    }
}

impl BranchView {
    pub(crate) fn of(transaction: &Transaction, branch: &Branch) -> Self {
        Self {
            branch_id: branch.id,
            resource: branch.resource.clone(),
            schema: branch.schema.clone(),
            status: transaction.branch_status(branch),
            lock_count: branch.lock_count,
            registered_at_ms: branch.registered_at_ms,
            detail: branch.detail().to_owned(),
            resolution: branch.resolution().cloned(),
        }
    }
}
