//! A transaction in memory, and what can be asked about it.

pub(super) mod transitions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use atone_api::{BranchId, Xid};

use super::branch::Branch;
use super::ids::{ReplyTo, TimerKey, WaiterId};
use super::lock_set::LockSet;
use super::record::{BranchRecord, BranchState, Decision, TransactionRecord};
use super::status::{BranchStatus, Status};
use super::violation::Violation;

/// A transaction's state, with what belongs to it alone.
#[derive(Debug)]
pub(crate) enum State {
    Active { deadline: TimerKey },
    Committing { deadline: TimerKey, check: TimerKey, calls: Vec<ReplyTo> },
    Committed { decided_at_ms: u64, ended_at_ms: Option<u64> },
    RollingBack { decided_at_ms: u64, reason: String },
    RolledBack { decided_at_ms: u64, ended_at_ms: u64, reason: String },
}

/// A transaction. Its state and its branches change by its transitions only.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) seq: u64,
    pub(crate) xid: Xid,
    pub(crate) name: String,
    pub(crate) timeout_ms: u64,
    pub(crate) created_at_ms: u64,
    state: State,
    /// Boxed, since a map keeps room for more entries than most transactions have branches.
    branches: BTreeMap<BranchId, Box<Branch>>,
    /// Its registrations that wait for locks.
    pub(crate) waiting: BTreeSet<WaiterId>,
    /// The status under which it is counted.
    counted_as: Option<Status>,
}

impl Transaction {
    /// A transaction that begins. `deadline` is its timeout's timer.
    pub(crate) fn begin(
        seq: u64,
        xid: Xid,
        name: String,
        timeout_ms: u64,
        now_ms: u64,
        deadline: TimerKey,
    ) -> Self {
        Self {
            seq,
            xid,
            name,
            timeout_ms,
            created_at_ms: now_ms,
            state: State::Active { deadline },
            branches: BTreeMap::new(),
            waiting: BTreeSet::new(),
            counted_as: None,
        }
    }

    /// The transaction of a record, still without its branches. `deadline` sets its timeout's timer, if it needs one.
    /// An error says what is wrong with the record.
    pub(crate) fn from_record(
        record: TransactionRecord,
        deadline: impl FnOnce() -> TimerKey,
    ) -> Result<Self, &'static str> {
        let TransactionRecord { seq, xid, name, decision, reason, timeout_ms, created_at_ms, .. } = record;
        let state = match (decision, record.decided_at_ms, record.ended_at_ms) {
            (Decision::Active, None, None) => State::Active { deadline: deadline() },
            (Decision::Committed, Some(decided_at_ms), ended_at_ms) => {
                State::Committed { decided_at_ms, ended_at_ms }
            }
            (Decision::RollingBack, Some(decided_at_ms), None) => {
                State::RollingBack { decided_at_ms, reason }
            }
            (Decision::RolledBack, Some(decided_at_ms), Some(ended_at_ms)) => {
                State::RolledBack { decided_at_ms, ended_at_ms, reason }
            }
            _ => return Err("its times contradict its decision"),
        };
        Ok(Self {
            seq,
            xid,
            name,
            timeout_ms,
            created_at_ms,
            state,
            branches: BTreeMap::new(),
            waiting: BTreeSet::new(),
            counted_as: None,
        })
    }

    /// Adds the branch of a record. An error says what is wrong with the record.
    pub(crate) fn add_recorded(
        &mut self,
        record: BranchRecord,
        locks: Option<Arc<LockSet>>,
    ) -> Result<(), &'static str> {
        let is_consistent = match (&self.state, record.state) {
            (State::Active { .. }, BranchState::Registered) => locks.is_some(),
            (State::Committed { .. }, BranchState::Registered | BranchState::Purged) => locks.is_none(),
            (State::RollingBack { .. }, BranchState::Registered | BranchState::RollbackFailed) => {
                locks.is_some()
            }
            (
                State::RollingBack { .. } | State::RolledBack { .. },
                BranchState::Restored | BranchState::RolledBack,
            ) => locks.is_none(),
            _ => false,
        };
        if !is_consistent {
            return Err("its state or its locks contradict its transaction");
        }
        let is_stopped = matches!(record.state, BranchState::RollbackFailed | BranchState::RolledBack);
        if record.resolution.is_some() && !is_stopped {
            return Err("an operator decided about it, and it never stopped");
        }
        if locks.as_ref().is_some_and(|locks| locks.len() != record.lock_count) {
            return Err("it does not have as many locks as it took");
        }
        let is_committed = record.is_committed || matches!(self.state, State::Committed { .. });
        let branch = Branch::from_record(record, locks, is_committed);
        self.branches.insert(branch.id, Box::new(branch));
        Ok(())
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn is_committing(&self) -> bool {
        matches!(self.state, State::Committing { .. })
    }

    pub(crate) fn is_rolling_back(&self) -> bool {
        matches!(self.state, State::RollingBack { .. })
    }

    pub(crate) fn is_committed(&self) -> bool {
        matches!(self.state, State::Committed { .. })
    }

    pub(crate) fn branches(&self) -> &BTreeMap<BranchId, Box<Branch>> {
        &self.branches
    }

    pub(crate) fn branch(&self, id: BranchId) -> Option<&Branch> {
        self.branches.get(&id).map(|branch| &**branch)
    }

    pub(crate) fn branch_mut(&mut self, id: BranchId) -> Option<&mut Branch> {
        self.branches.get_mut(&id).map(|branch| &mut **branch)
    }

    pub(crate) fn branches_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Branch> {
        self.branches.values_mut().map(|branch| &mut **branch)
    }

    pub(crate) fn status(&self) -> Status {
        match self.state {
            State::Active { .. } => Status::Active,
            State::Committing { .. } => Status::Committing,
            State::Committed { .. } => Status::Committed,
            State::RolledBack { .. } => Status::RolledBack,
            State::RollingBack { .. } => {
                if self.branches.values().any(|branch| branch.state() == BranchState::RollbackFailed) {
                    Status::RollbackFailed
                } else {
                    Status::RollingBack
                }
            }
        }
    }

    pub(crate) fn branch_status(&self, branch: &Branch) -> BranchStatus {
        let is_resolved = branch.resolution().is_some();
        match branch.state() {
            BranchState::RollbackFailed if is_resolved => BranchStatus::Resolving,
            BranchState::RolledBack if is_resolved => BranchStatus::Resolved,
            BranchState::Restored | BranchState::RolledBack => BranchStatus::RolledBack,
            BranchState::RollbackFailed => BranchStatus::RollbackFailed,
            BranchState::Purged => BranchStatus::Purged,
            BranchState::Registered if self.is_rolling_back() => BranchStatus::RollingBack,
            BranchState::Registered if branch.is_committed() => BranchStatus::Committed,
            BranchState::Registered => BranchStatus::Registered,
        }
    }

    /// The status under which it is counted.
    pub(crate) fn counted_as(&self) -> Option<Status> {
        self.counted_as
    }

    /// It is counted under its present status from now on. The former one and the present one, if they differ.
    pub(crate) fn recount(&mut self) -> Option<(Option<Status>, Status)> {
        let status = self.status();
        let before = self.counted_as.replace(status);
        (before != Some(status)).then_some((before, status))
    }

    pub(crate) fn reason(&self) -> &str {
        match &self.state {
            State::RollingBack { reason, .. } | State::RolledBack { reason, .. } => reason,
            _ => "",
        }
    }

    pub(crate) fn decided_at_ms(&self) -> Option<u64> {
        match self.state {
            State::Active { .. } | State::Committing { .. } => None,
            State::Committed { decided_at_ms, .. }
            | State::RollingBack { decided_at_ms, .. }
            | State::RolledBack { decided_at_ms, .. } => Some(decided_at_ms),
        }
    }

    /// When nothing was left to do.
    pub(crate) fn ended_at_ms(&self) -> Option<u64> {
        match self.state {
            State::Committed { ended_at_ms, .. } => ended_at_ms,
            State::RolledBack { ended_at_ms, .. } => Some(ended_at_ms),
            _ => None,
        }
    }

    /// The locks that its branches hold, each with its resource.
    pub(crate) fn held_locks(&self) -> Vec<(Arc<str>, Arc<LockSet>)> {
        let branches = self.branches.values();
        branches.filter_map(|branch| Some((branch.resource.clone(), branch.locks()?.clone()))).collect()
    }

    /// The record that should be durable by now.
    pub(crate) fn record(&self) -> TransactionRecord {
        let decision = match self.state {
            State::Active { .. } | State::Committing { .. } => Decision::Active,
            State::Committed { .. } => Decision::Committed,
            State::RollingBack { .. } => Decision::RollingBack,
            State::RolledBack { .. } => Decision::RolledBack,
        };
        TransactionRecord {
            seq: self.seq,
            xid: self.xid.clone(),
            name: self.name.clone(),
            decision,
            reason: self.reason().to_owned(),
            timeout_ms: self.timeout_ms,
            created_at_ms: self.created_at_ms,
            decided_at_ms: self.decided_at_ms(),
            ended_at_ms: self.ended_at_ms(),
        }
    }

    /// It has no branch of this id.
    fn no_branch(&self, id: BranchId) -> Violation {
        self.violation(&format!("is taken to have branch {id}"))
    }

    fn violation(&self, what: &str) -> Violation {
        Violation::new(format!("transaction {} {what} while it is {}", self.xid, self.status()))
    }
}

#[cfg(test)]
mod tests;
