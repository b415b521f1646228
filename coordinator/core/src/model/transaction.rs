//! A transaction and its transitions. Each transition answers what it asks of others, or that it can't be: then nothing
//! has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use atone_api::{BranchId, Xid};

use super::branch::{Branch, BranchWork, Finished};
use super::ids::{ReplyTo, TimerKey, WaiterId};
use super::lock_set::LockSet;
use super::record::{BranchRecord, BranchState, Change, Decision, TransactionRecord};
use super::status::{BranchStatus, Status};
use super::violation::{Checked, Violation};

/// A transaction's state, with what belongs to it alone.
#[derive(Debug)]
pub(crate) enum State {
    Active { deadline: TimerKey },
    Committing { deadline: TimerKey, check: TimerKey, calls: Vec<ReplyTo> },
    Committed { decided_at_ms: u64, ended_at_ms: Option<u64> },
    RollingBack { decided_at_ms: u64, reason: String },
    RolledBack { decided_at_ms: u64, ended_at_ms: u64, reason: String },
}

/// A transaction in memory. Its state and its branches change by its methods only.
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

/// The locks of a branch whose transaction is committed.
#[derive(Debug)]
pub(crate) struct HeldLocks {
    pub(crate) branch: BranchId,
    pub(crate) resource: Arc<str>,
    pub(crate) schema: Arc<str>,
    pub(crate) locks: Arc<LockSet>,
}

/// What a decision to commit asks for.
#[derive(Debug)]
pub(crate) struct CommitDecision {
    pub(crate) changes: Vec<Change>,
    /// To be cancelled.
    pub(crate) timers: [TimerKey; 2],
    /// To be answered.
    pub(crate) calls: Vec<ReplyTo>,
    /// To be released.
    pub(crate) held: Vec<HeldLocks>,
    /// Without branches nothing is left to do.
    pub(crate) is_ended: bool,
}

/// What a decision to roll back asks for.
#[derive(Debug)]
pub(crate) struct RollbackDecision {
    pub(crate) changes: Vec<Change>,
    /// To be cancelled.
    pub(crate) timers: Vec<TimerKey>,
    /// Calls that wait for a commit, to be refused.
    pub(crate) calls: Vec<ReplyTo>,
    /// To be withdrawn.
    pub(crate) superseded: Vec<BranchWork>,
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

    /// The transaction of a record, still without its branches. `deadline` sets its timeout's timer, if it needs one. An
    /// error says what is wrong with the record.
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

    /// A branch is registered: it has its locks.
    pub(crate) fn add_branch(&mut self, branch: Branch) -> Checked {
        let State::Active { .. } = self.state else { return Err(self.violation("gets a branch")) };
        self.branches.insert(branch.id, Box::new(branch));
        Ok(())
    }

    /// A branch's local transaction is known to have been rolled back before the decision.
    pub(crate) fn abort_branch(&mut self, id: BranchId) -> Checked<Finished> {
        let (State::Active { .. } | State::Committing { .. }) = self.state else {
            return Err(self.violation("loses a branch"));
        };
        let mut branch = self.branches.remove(&id).ok_or_else(|| self.no_branch(id))?;
        let (locks, work) = (branch.take_locks(), branch.take_work());
        let Branch { resource, schema, .. } = *branch;
        Ok(Finished { changes: vec![Change::DropBranch(id)], resource, schema, locks, work })
    }

    /// active → committing. `check` is the timer after which the servers are asked about branches in doubt.
    pub(crate) fn start_commit(&mut self, to: ReplyTo, check: TimerKey) -> Checked {
        let State::Active { deadline } = self.state else { return Err(self.violation("starts to commit")) };
        self.state = State::Committing { deadline, check, calls: vec![to] };
        Ok(())
    }

    /// One more call waits for the commit.
    pub(crate) fn join_commit(&mut self, to: ReplyTo) -> Checked {
        let State::Committing { calls, .. } = &mut self.state else {
            return Err(self.violation("is waited for as if it committed"));
        };
        calls.push(to);
        Ok(())
    }

    /// Whether its commit can be decided: every branch is known to have committed.
    pub(crate) fn can_commit(&self) -> bool {
        self.is_committing() && self.branches.values().all(|branch| branch.is_committed())
    }

    /// committing → committed. The decision.
    pub(crate) fn commit(&mut self, now_ms: u64) -> Checked<CommitDecision> {
        let can_commit = self.can_commit();
        let State::Committing { deadline, check, calls } = &mut self.state else {
            return Err(self.violation("is committed"));
        };
        if !can_commit {
            return Err(self.violation("is committed with branches in doubt"));
        }
        let (timers, calls) = ([*deadline, *check], std::mem::take(calls));
        let is_ended = self.branches.is_empty();
        self.state = State::Committed { decided_at_ms: now_ms, ended_at_ms: is_ended.then_some(now_ms) };
        let mut changes = vec![Change::PutTransaction(self.record())];
        let mut held = Vec::new();
        for branch in self.branches.values_mut() {
            // Each has locks, if only an empty set: they are released by the decision.
            if let Some(locks) = branch.take_locks() {
                changes.push(Change::DropLocks(branch.id));
                let (resource, schema) = (branch.resource.clone(), branch.schema.clone());
                held.push(HeldLocks { branch: branch.id, resource, schema, locks });
            }
        }
        Ok(CommitDecision { changes, timers, calls, held, is_ended })
    }

    /// active, committing → rolling back. The decision.
    pub(crate) fn start_rollback(&mut self, now_ms: u64, reason: &str) -> Checked<RollbackDecision> {
        let (timers, calls) = match &mut self.state {
            State::Active { deadline } => (vec![*deadline], Vec::new()),
            State::Committing { deadline, check, calls } => (vec![*deadline, *check], std::mem::take(calls)),
            _ => return Err(self.violation("starts to roll back")),
        };
        self.state = State::RollingBack { decided_at_ms: now_ms, reason: reason.to_owned() };
        let mut changes = Vec::new();
        if !self.branches.is_empty() {
            // Without branches the end is recorded at once instead.
            changes.push(Change::PutTransaction(self.record()));
        }
        // A local COMMIT that is known must not be forgotten from here on: a missing undo row is then a loss.
        let volatile = self.branches.values_mut().filter(|branch| branch.is_commit_volatile());
        changes.extend(volatile.map(|branch| branch.persist()));
        let superseded = self.branches.values_mut().map(|branch| branch.take_work()).collect();
        Ok(RollbackDecision { changes, timers, calls, superseded })
    }

    /// A branch of a rollback is undone, or needs no undo: `state` says which.
    pub(crate) fn undo_branch(&mut self, id: BranchId, state: BranchState) -> Checked<Finished> {
        if !self.is_rolling_back() {
            return Err(self.violation("has a branch undone"));
        }
        match self.branches.get_mut(&id) {
            Some(branch) => branch.undo(state),
            None => Err(self.no_branch(id)),
        }
    }

    /// Whether its rollback is done: no branch is left to be undone.
    pub(crate) fn can_end_rollback(&self) -> bool {
        self.is_rolling_back() && self.branches.values().all(|branch| branch.is_undone())
    }

    /// rolling back → rolled back.
    pub(crate) fn end_rollback(&mut self, now_ms: u64) -> Checked<Change> {
        let can_end = self.can_end_rollback();
        let State::RollingBack { decided_at_ms, reason } = &mut self.state else {
            return Err(self.violation("ends its rollback"));
        };
        if !can_end {
            return Err(self.violation("ends its rollback with branches to undo"));
        }
        let (decided_at_ms, reason) = (*decided_at_ms, std::mem::take(reason));
        self.state = State::RolledBack { decided_at_ms, ended_at_ms: now_ms, reason };
        Ok(Change::PutTransaction(self.record()))
    }

    /// A branch's undo row is deleted. A committed transaction ends with its last one: whether it did.
    pub(crate) fn purge_branch(&mut self, id: BranchId, now_ms: u64) -> Checked<(Vec<Change>, bool)> {
        let is_committed = self.is_committed();
        let Some(branch) = self.branches.get_mut(&id) else { return Err(self.no_branch(id)) };
        let mut changes = vec![branch.purge(is_committed)?];
        let is_left = self.branches.values().any(|branch| branch.state() != BranchState::Purged);
        let is_ended = match &mut self.state {
            State::Committed { ended_at_ms, .. } if !is_left => {
                *ended_at_ms = Some(now_ms);
                true
            }
            _ => false,
        };
        if is_ended {
            changes.push(Change::PutTransaction(self.record()));
        }
        Ok((changes, is_ended))
    }

    /// It has no branch of this id.
    pub(crate) fn no_branch(&self, id: BranchId) -> Violation {
        self.violation(&format!("is taken to have branch {id}"))
    }

    fn violation(&self, what: &str) -> Violation {
        Violation::new(format!("transaction {} {what} while it is {}", self.xid, self.status()))
    }
}

#[cfg(test)]
mod tests;
