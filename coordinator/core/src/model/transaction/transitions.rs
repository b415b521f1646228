//! The transitions of a transaction. Each returns what it asks of others, or that it is not possible: then nothing has
//! changed.

use std::sync::Arc;

use atone_api::BranchId;

use super::{State, Transaction};
use crate::model::branch::{Branch, BranchWork, Finished};
use crate::model::ids::{ReplyTo, TimerKey};
use crate::model::lock_set::LockSet;
use crate::model::record::{BranchState, Change};
use crate::model::violation::Checked;

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
}
