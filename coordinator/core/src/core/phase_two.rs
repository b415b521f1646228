//! Phase two: sending work to proxies, undoing branches in reverse order, asking about branches in doubt.

use std::sync::Arc;

use super::Core;
use crate::dispatch::{Job, Outstanding};
use crate::model::{
    Branch, BranchId, BranchState, BranchWork, Checked, Leftover, State, StreamId, Violation, Work,
    WorkBranch, WorkKind, WorkOutcome,
};
use crate::step::Effect;
use crate::timers::Timer;

/// The pause before work is tried for the second time, in milliseconds; it doubles from there.
const MIN_RETRY_MS: u64 = 100;
/// The report of a branch that committed and whose undo row is gone.
const UNDO_MISSING: &str = "{\"problem\":\"undo_missing\",\"reason\":\"the branch committed, but its row in undo_log is gone: \
     what it changed is still there\"}";
/// The longest detail of a branch that is kept, in bytes.
const MAX_DETAIL_BYTES: usize = 1 << 20;

impl Core {
    /// Queues work for a branch and sends it as soon as a proxy can do it.
    pub(super) fn enqueue(&mut self, seq: u64, id: BranchId, kind: WorkKind) -> Checked {
        let branch = self.transactions.branch_mut(seq, id)?;
        branch.queue_work(kind)?;
        let resource = branch.resource.clone();
        self.dispatcher.enqueue(&resource, Job::Branch { seq, branch: id, kind });
        self.dispatch(&resource)
    }

    /// Sends what waits for a resource, as far as its proxies may have more.
    pub(super) fn dispatch(&mut self, resource: &Arc<str>) -> Checked {
        while let Some((stream, job)) = self.dispatcher.next(resource, self.config.limits.max_work_in_flight)
        {
            let work_id = self.next_work;
            let work = match &job {
                Job::Branch { seq, branch, kind } => self.branch_work(work_id, *seq, *branch, *kind),
                Job::Purge { schema, branches } => self.purge_work(work_id, resource, schema, branches),
            };
            match (work, job) {
                (Some(work), job) => {
                    self.next_work += 1;
                    let at_ms = self.now_ms + self.config.work_timeout_ms;
                    let timeout = self.timers.set(at_ms, Timer::Work { work_id });
                    let resource = resource.clone();
                    self.dispatcher.sent(Outstanding { work_id, stream, resource, job, timeout });
                    self.step.effects.push(Effect::Push(stream, work));
                }
                // The queue's entry is stale.
                (None, Job::Branch { .. }) => {}
                // The history has forgotten all of the transactions. A proxy's sweep deletes what they have left.
                (None, Job::Purge { schema, branches }) => {
                    self.purged(&(resource.clone(), schema), branches, true)?;
                }
            }
        }
        Ok(())
    }

    /// The work that a queue's entry stands for. None if it was withdrawn since.
    fn branch_work(&mut self, work_id: u64, seq: u64, id: BranchId, kind: WorkKind) -> Option<Work> {
        // A transaction, or a branch, that has ended meanwhile had its work withdrawn.
        let xid = self.transactions.live().get(&seq)?.xid.clone();
        let branch = self.transactions.live_branch_mut(seq, id)?;
        let branches = vec![WorkBranch { xid, id, leftover: Leftover::Unknown }];
        let (resource, schema) = (branch.resource.clone(), branch.schema.clone());
        branch.send_work(kind, work_id).then_some(Work { work_id, kind, resource, schema, branches })
    }

    /// Starts undoing, on each resource, the last branch that is not undone, unless that is under way or pausing.
    pub(super) fn advance_rollback(&mut self, seq: u64) -> Checked {
        if self.end_rollback_if_done(seq)? {
            return Ok(());
        }
        let transaction = self.transactions.get(seq)?;
        let mut seen: Vec<&Arc<str>> = Vec::new();
        let mut next = Vec::new();
        for (id, branch) in transaction.branches().iter().rev() {
            if branch.is_undone() || seen.contains(&&branch.resource) {
                continue;
            }
            seen.push(&branch.resource);
            if branch.work() == BranchWork::None {
                next.push(*id);
            }
        }
        for id in next {
            self.enqueue_due(seq, id)?;
        }
        Ok(())
    }

    /// Queues the work that a branch needs as its transaction is now.
    pub(super) fn enqueue_due(&mut self, seq: u64, id: BranchId) -> Checked {
        let is_resolved = self.transactions.branch(seq, id)?.resolution().is_some();
        let transaction = self.transactions.get(seq)?;
        let kind = match transaction.state() {
            State::RollingBack { .. } if is_resolved => WorkKind::Keep,
            State::RollingBack { .. } => WorkKind::Rollback,
            State::Committing { .. } => WorkKind::Check,
            State::Active { .. } | State::Committed { .. } | State::RolledBack { .. } => {
                let status = transaction.status();
                return Err(Violation::new(format!(
                    "branch {id} of a transaction that is {status} needs work"
                )));
            }
        };
        self.enqueue(seq, id, kind)
    }

    pub(super) fn work_result(
        &mut self,
        stream: StreamId,
        work_id: u64,
        outcome: WorkOutcome,
        detail: String,
    ) -> Checked {
        // An answer to work that was withdrawn or given to another proxy since says nothing.
        let Some(work) = self.dispatcher.take_from(work_id, stream) else { return Ok(()) };
        self.timers.cancel(work.timeout);
        let resource = work.resource.clone();
        let taken = self.take_result(work, outcome, detail);
        self.note(taken);
        self.dispatch(&resource)
    }

    fn take_result(&mut self, work: Outstanding, outcome: WorkOutcome, detail: String) -> Checked {
        let Outstanding { work_id, resource, job, .. } = work;
        let (seq, id, kind) = match job {
            Job::Purge { schema, branches } => {
                return self.purged(&(resource, schema), branches, outcome == WorkOutcome::Done);
            }
            Job::Branch { seq, branch, kind } => (seq, branch, kind),
        };
        self.transactions.branch_mut(seq, id)?.end_work(work_id)?;
        match kind {
            WorkKind::Check => self.checked(seq, id, outcome, detail),
            WorkKind::Keep => self.kept(seq, id, outcome, detail),
            WorkKind::Rollback => self.rollback_tried(seq, id, outcome, detail),
            WorkKind::Purge => Err(Violation::new(format!("branch {id} is purged by itself"))),
        }
    }

    /// A proxy was asked whether a branch has committed locally.
    fn checked(&mut self, seq: u64, id: BranchId, outcome: WorkOutcome, detail: String) -> Checked {
        match outcome {
            WorkOutcome::Committed => self.committed(seq, id),
            WorkOutcome::Absent => {
                let resource = &self.transactions.branch(seq, id)?.resource;
                // The application may have been told nothing of this branch, so the rest must not be committed.
                let reason = format!("branch {id} on {resource} did not commit");
                self.decide_rollback(seq, &reason, Some(id))
            }
            WorkOutcome::Done
            | WorkOutcome::Conflict
            | WorkOutcome::Retry
            | WorkOutcome::Stuck
            | WorkOutcome::Unknown => self.pause_by_backoff(seq, id, detail),
        }
    }

    /// A proxy was asked to undo a branch.
    fn rollback_tried(&mut self, seq: u64, id: BranchId, outcome: WorkOutcome, detail: String) -> Checked {
        let branch = self.transactions.branch(seq, id)?;
        match outcome {
            WorkOutcome::Done => self.restored(seq, id),
            // Undo rows do not vanish. One that should be there was deleted by an outsider, or the server was restored
            // from an old backup. An operator has to decide about that; a repeated request is no decision.
            WorkOutcome::Absent if branch.is_committed() || branch.state() == BranchState::RollbackFailed => {
                self.failed(seq, id, UNDO_MISSING.to_owned(), false)
            }
            WorkOutcome::Absent => self.branch_undone(seq, id),
            // The record is there, so the branch has committed.
            WorkOutcome::Conflict => self.failed(seq, id, detail, true),
            WorkOutcome::Stuck => self.failed(seq, id, detail, false),
            WorkOutcome::Retry => self.pause_by_backoff(seq, id, detail),
            WorkOutcome::Committed | WorkOutcome::Unknown => {
                let detail = "the proxy's answer makes no sense for a rollback".to_owned();
                self.pause_by_backoff(seq, id, detail)
            }
        }
    }

    /// A branch's rows are restored.
    pub(super) fn restored(&mut self, seq: u64, id: BranchId) -> Checked {
        let key = self.undone(seq, id, BranchState::Restored)?;
        // What is left of the undo row says to a second try that the first one succeeded. It is not needed once that is
        // durable here, which it is before the purge is sent.
        self.queue_purge(key, seq, id)
    }

    /// A branch never committed and never will, or is not to be undone: its locks are free.
    pub(super) fn branch_undone(&mut self, seq: u64, id: BranchId) -> Checked {
        self.undone(seq, id, BranchState::RolledBack).map(drop)
    }

    /// The resource and the schema of the branch.
    fn undone(&mut self, seq: u64, id: BranchId, state: BranchState) -> Checked<(Arc<str>, Arc<str>)> {
        let finished = self.transactions.get_mut(seq)?.undo_branch(id, state)?;
        let key = (finished.resource.clone(), finished.schema.clone());
        self.finish_branch(seq, finished)?;
        self.advance_rollback(seq)?;
        Ok(key)
    }

    /// A branch can't be undone as things are: it keeps its locks, and its earlier ones on the resource wait.
    fn failed(&mut self, seq: u64, id: BranchId, mut detail: String, is_committed: bool) -> Checked {
        truncate(&mut detail);
        let change = self.transactions.branch_mut(seq, id)?.fail(&detail, is_committed);
        self.step.persist.extend(change);
        self.pause(seq, id, detail, self.config.rollback_retry_interval_ms)?;
        // It is tried again, but not so soon that a call should wait for it.
        self.answer_rollback_waits(seq)
    }

    /// Tries work for a branch again after a pause that grows with each try.
    pub(super) fn pause_by_backoff(&mut self, seq: u64, id: BranchId, detail: String) -> Checked {
        let attempts = self.transactions.branch(seq, id).map(Branch::attempts)?;
        self.pause(seq, id, detail, backoff_ms(attempts, self.config.rollback_retry_interval_ms))
    }

    fn pause(&mut self, seq: u64, id: BranchId, mut detail: String, pause_ms: u64) -> Checked {
        truncate(&mut detail);
        let timer = self.timers.set(self.now_ms.saturating_add(pause_ms), Timer::Retry { seq, branch: id });
        self.transactions.branch_mut(seq, id)?.pause(timer, detail)
    }

    pub(super) fn retry_due(&mut self, seq: u64, id: BranchId) -> Checked {
        self.transactions.branch_mut(seq, id)?.end_pause()?;
        self.enqueue_due(seq, id)
    }

    /// The rollback was asked for again: branches that pause are tried now. It is no decision to give anything up.
    pub(super) fn retry_now(&mut self, seq: u64) -> Checked {
        let branches = self.transactions.get_mut(seq)?.branches_mut();
        let paused: Vec<_> = branches.filter_map(|branch| Some((branch.id, branch.cut_pause()?))).collect();
        for (id, timer) in paused {
            self.timers.cancel(timer);
            self.enqueue_due(seq, id)?;
        }
        Ok(())
    }

    pub(super) fn work_timed_out(&mut self, work_id: u64) -> Checked {
        let work = self.dispatcher.take(work_id)?;
        self.repeat(work)
    }

    /// Queues work again that was sent in vain. Everything that proxies do can be done twice.
    pub(super) fn repeat(&mut self, work: Outstanding) -> Checked {
        let Outstanding { work_id, resource, job, .. } = work;
        match job {
            Job::Purge { schema, branches } => self.purged(&(resource.clone(), schema), branches, false)?,
            Job::Branch { seq, branch, kind } => {
                self.transactions.branch_mut(seq, branch)?.end_work(work_id)?;
                self.enqueue(seq, branch, kind)?;
            }
        }
        self.dispatch(&resource)
    }
}

/// The pause after so many tries.
pub(super) fn backoff_ms(attempts: u32, max_ms: u64) -> u64 {
    let doublings = attempts.saturating_sub(1).min(20);
    (MIN_RETRY_MS << doublings).min(max_ms)
}

fn truncate(detail: &mut String) {
    if detail.len() > MAX_DETAIL_BYTES {
        let end = (0..=MAX_DETAIL_BYTES).rev().find(|end| detail.is_char_boundary(*end)).unwrap_or(0);
        detail.truncate(end);
    }
}
