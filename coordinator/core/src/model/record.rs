//! The durable form: records, the changes to them, and all records together.
//!
//! A record holds only what can't be derived. A branch of a committed transaction is committed, so a decision to commit
//! leaves its branches' records as they are. A transaction with a branch that can't be rolled back is
//! `rollback_failed`, so that is not recorded either.

use std::collections::BTreeMap;
use std::sync::Arc;

use atone_api::{BranchId, Xid};
use serde::{Deserialize, Serialize};

use super::lock_set::LockSet;

/// What was decided about a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Nothing yet.
    Active,
    /// To commit.
    Committed,
    /// To roll back, and not all is undone.
    RollingBack,
    /// To roll back, and all is undone.
    RolledBack,
}

/// A transaction, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransactionRecord {
    /// Its number: rising and unique.
    pub seq: u64,
    /// Its XID, which ends with `seq`.
    #[serde(with = "super::text::xid_text")]
    pub xid: Xid,
    /// A name for operators.
    pub name: String,
    /// What was decided.
    pub decision: Decision,
    /// Why it was rolled back: empty, `timeout`, or a sentence.
    pub reason: String,
    /// In milliseconds.
    pub timeout_ms: u64,
    /// In milliseconds since 1970.
    pub created_at_ms: u64,
    /// In milliseconds since 1970.
    pub decided_at_ms: Option<u64>,
    /// In milliseconds since 1970: when nothing was left to do.
    pub ended_at_ms: Option<u64>,
}

/// What is known durably of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BranchState {
    /// It has its locks. Whether it committed locally follows from the transaction, or has to be asked.
    Registered,
    /// It is undone, and what is left of its undo row is still to be deleted.
    Restored,
    /// It is undone, or never committed and never will, or an operator gave up to undo it.
    RolledBack,
    /// It could not be undone.
    RollbackFailed,
    /// It is committed and its undo row is deleted.
    Purged,
}

/// What an operator can decide about a branch that can't be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Its rows stay as they are, and it is not undone.
    KeepCurrent,
}

impl Action {
    /// The name in the REST API.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::KeepCurrent => "keep_current",
        }
    }
}

/// What an operator decided about a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    /// What was decided.
    pub action: Action,
    /// By whom, as far as that was said; may be empty.
    pub by: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Why the branch could not be undone: what was given up.
    pub given_up: String,
}

/// A branch, as stored. A field that a later version has added is left out if it is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BranchRecord {
    /// Its id: rising and unique.
    pub branch_id: u64,
    /// The number of its transaction.
    pub seq: u64,
    /// The resource it is on.
    #[serde(with = "super::text::arc_str")]
    pub resource: Arc<str>,
    /// The schema of its undo_log row.
    #[serde(with = "super::text::arc_str")]
    pub schema: Arc<str>,
    /// What is known of it.
    pub state: BranchState,
    /// How many locks it took.
    pub lock_count: usize,
    /// In milliseconds since 1970.
    pub registered_at_ms: u64,
    /// Why it could not be rolled back; else empty.
    pub detail: String,
    /// It is known to have committed locally. If not, that is unknown, or follows from the transaction.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_committed: bool,
    /// What an operator decided about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Box<Resolution>>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The counters that outlive the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    /// How often a coordinator started on this store. Part of every transaction number and work id.
    pub boot: u64,
    /// Branch ids up to and without this one may have been given.
    pub branch_limit: u64,
}

/// One change of what is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A transaction is new or has changed.
    PutTransaction(TransactionRecord),
    /// A branch is new or has changed.
    PutBranch(BranchRecord),
    /// A branch got its locks.
    PutLocks(BranchId, Arc<LockSet>),
    /// A branch's locks are released.
    DropLocks(BranchId),
    /// A branch is no more: its local transaction was aborted.
    DropBranch(BranchId),
    /// An ended transaction is forgotten, with these branches.
    DropTransaction(u64, Vec<BranchId>),
    /// The counters moved on.
    PutCounters(Counters),
}

/// Everything that is durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// By number.
    pub transactions: BTreeMap<u64, TransactionRecord>,
    /// By branch id.
    pub branches: BTreeMap<u64, BranchRecord>,
    /// By branch id.
    pub locks: BTreeMap<u64, Arc<LockSet>>,
    /// The counters.
    pub counters: Counters,
}

impl Records {
    /// What a store does with a change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::PutTransaction(record) => {
                self.transactions.insert(record.seq, record.clone());
            }
            Change::PutBranch(record) => {
                self.branches.insert(record.branch_id, record.clone());
            }
            Change::PutLocks(branch, locks) => {
                self.locks.insert(branch.0, locks.clone());
            }
            Change::DropLocks(branch) => {
                self.locks.remove(&branch.0);
            }
            Change::DropBranch(branch) => {
                self.branches.remove(&branch.0);
                self.locks.remove(&branch.0);
            }
            Change::DropTransaction(seq, branches) => {
                self.transactions.remove(seq);
                for branch in branches {
                    self.branches.remove(&branch.0);
                }
            }
            Change::PutCounters(counters) => self.counters = *counters,
        }
    }
}
