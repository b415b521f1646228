//! Phase two: undoing branches in reverse order, asking about branches in doubt, deleting undo rows.

use std::sync::Arc;

use atone_api::BranchId;

use crate::core::Core;
use crate::dispatch::{Job, Outstanding};
use crate::record::{BranchState, Change};
use crate::state::{BranchWork, State};
use crate::step::{Effect, Leftover, StreamId, Work, WorkBranch, WorkKind, WorkOutcome};
use crate::timers::Timer;

/// The pause before work is tried for the second time, in milliseconds; it doubles from there.
const RETRY_MIN_MS: u64 = 100;
/// The report of a branch that committed and whose undo row is gone.
const UNDO_MISSING: &str = "{\"problem\":\"undo_missing\",\"reason\":\"the branch committed, but its row in undo_log is gone: \
     what it changed is still there\"}";
/// The longest detail of a branch that is kept, in bytes.
const DETAIL_MAX_BYTES: usize = 1 << 20;

impl Core {
    /// Queues work for a branch and gives it out as soon as somebody can do it.
    pub(crate) fn enqueue(&mut self, seq: u64, id: BranchId, kind: WorkKind) {
        let Some(branch) = self.live.get_mut(&seq).and_then(|transaction| transaction.branches.get_mut(&id))
        else {
            return;
        };
        branch.work = BranchWork::Queued(kind);
        let resource = branch.resource.clone();
        self.dispatcher.enqueue(&resource, Job::Branch { seq, branch: id, kind });
        self.give_out(&resource);
    }

    /// Gives out what waits for a resource, as far as its proxies may have more.
    pub(crate) fn give_out(&mut self, resource: &Arc<str>) {
        while let Some((stream, job)) = self.dispatcher.next(resource, self.config.limits.max_work_in_flight)
        {
            let work_id = self.next_work;
            let (kind, schema, branches) = match &job {
                Job::Branch { seq, branch: id, kind } => {
                    let Some(transaction) = self.live.get_mut(seq) else { continue };
                    let Some(branch) = transaction.branches.get_mut(id) else { continue };
                    // Skipped when it was withdrawn, and when it was queued anew with another purpose.
                    if branch.work != BranchWork::Queued(*kind) {
                        continue;
                    }
                    branch.work = BranchWork::Sent(work_id);
                    branch.attempts = branch.attempts.saturating_add(1);
                    let branch_ref =
                        WorkBranch { xid: transaction.xid.clone(), id: *id, leftover: Leftover::Unknown };
                    (*kind, branch.schema.clone(), vec![branch_ref])
                }
                Job::Purge { schema, branches } => {
                    let refs = branches.iter().filter_map(|(seq, id)| {
                        let transaction = self.live.get(seq).or_else(|| self.ended.get(seq))?;
                        let leftover = match transaction.state {
                            State::Committed { .. } => Leftover::Record,
                            _ => Leftover::Restored,
                        };
                        Some(WorkBranch { xid: transaction.xid.clone(), id: *id, leftover })
                    });
                    let refs: Vec<WorkBranch> = refs.collect();
                    // The history may have forgotten all of them since; a proxy's sweep deletes what they left.
                    if refs.is_empty() {
                        let (schema, branches) = (schema.clone(), branches.clone());
                        self.purged(resource, schema, branches, true);
                        continue;
                    }
                    (WorkKind::Purge, schema.clone(), refs)
                }
            };
            self.next_work += 1;
            let timeout = self.timers.set(self.now_ms + self.config.work_timeout_ms, Timer::Work { work_id });
            self.dispatcher.sent(work_id, Outstanding { stream, resource: resource.clone(), job, timeout });
            let work = Work { work_id, kind, resource: resource.clone(), schema, branches };
            self.step.effects.push(Effect::Push(stream, work));
        }
    }

    /// Starts undoing, on each resource, the last branch that is not undone, unless that is under way or pausing.
    pub(crate) fn advance_rollback(&mut self, seq: u64) {
        if self.end_rollback_if_done(seq) {
            return;
        }
        let Some(transaction) = self.live.get(&seq) else { return };
        if !matches!(transaction.state, State::RollingBack { .. }) {
            return;
        }
        let mut seen: Vec<&Arc<str>> = Vec::new();
        let mut next = Vec::new();
        for (id, branch) in transaction.branches.iter().rev() {
            if branch.is_undone() || seen.contains(&&branch.resource) {
                continue;
            }
            seen.push(&branch.resource);
            if branch.work == BranchWork::None {
                next.push(*id);
            }
        }
        for id in next {
            self.enqueue_due(seq, id);
        }
    }

    /// Queues the work that a branch needs as its transaction is now.
    pub(crate) fn enqueue_due(&mut self, seq: u64, id: BranchId) {
        let Some(transaction) = self.live.get(&seq) else { return };
        let Some(branch) = transaction.branches.get(&id) else { return };
        let kind = match transaction.state {
            State::RollingBack { .. } if branch.resolution.is_some() => WorkKind::Keep,
            State::RollingBack { .. } => WorkKind::Rollback,
            State::Committing { .. } => WorkKind::Check,
            _ => return,
        };
        self.enqueue(seq, id, kind);
    }

    pub(crate) fn work_result(
        &mut self,
        stream: StreamId,
        work_id: u64,
        outcome: WorkOutcome,
        detail: String,
    ) {
        // An answer to work that was withdrawn or given to another since says nothing.
        if !self.dispatcher.is_from(work_id, stream) {
            return;
        }
        let Some(work) = self.dispatcher.take(work_id) else { return };
        self.timers.cancel(work.timeout);
        let resource = work.resource.clone();
        match work.job {
            Job::Purge { schema, branches } => {
                self.purged(&work.resource, schema, branches, outcome == WorkOutcome::Done);
            }
            Job::Branch { seq, branch, kind } => {
                let is_current =
                    self.live.get_mut(&seq).and_then(|t| t.branches.get_mut(&branch)).is_some_and(|b| {
                        let is_current = b.work == BranchWork::Sent(work_id);
                        if is_current {
                            b.work = BranchWork::None;
                        }
                        is_current
                    });
                match kind {
                    _ if !is_current => {}
                    WorkKind::Check => self.checked(seq, branch, outcome, detail),
                    WorkKind::Keep => self.kept(seq, branch, outcome, detail),
                    WorkKind::Rollback | WorkKind::Purge => {
                        self.rollback_tried(seq, branch, outcome, detail);
                    }
                }
            }
        }
        self.give_out(&resource);
    }

    fn checked(&mut self, seq: u64, id: BranchId, outcome: WorkOutcome, detail: String) {
        match outcome {
            WorkOutcome::Committed => self.committed(seq, id),
            WorkOutcome::Absent => {
                let branch = self.live.get(&seq).and_then(|transaction| transaction.branches.get(&id));
                let Some(resource) = branch.map(|branch| branch.resource.clone()) else { return };
                // The application may have been told nothing of this branch, so the rest must not be committed.
                self.decide_rollback(seq, &format!("branch {id} on {resource} did not commit"), Some(id));
            }
            _ => self.pause(seq, id, detail, None),
        }
    }

    fn rollback_tried(&mut self, seq: u64, id: BranchId, outcome: WorkOutcome, detail: String) {
        let Some(branch) = self.live.get_mut(&seq).and_then(|transaction| transaction.branches.get_mut(&id))
        else {
            return;
        };
        match outcome {
            WorkOutcome::Done => {
                self.restored(seq, id);
            }
            WorkOutcome::Absent => {
                // Undo rows do not vanish: one that should be there was deleted by an outsider, or the server was
                // restored from an old backup. That is for an operator to decide about: being asked again, by
                // whomever, is no decision.
                if branch.is_committed || branch.state == BranchState::RollbackFailed {
                    self.failed(seq, id, UNDO_MISSING.to_owned());
                } else {
                    self.branch_undone(seq, id);
                }
            }
            WorkOutcome::Conflict => {
                // The record is there, so it did.
                branch.is_committed = true;
                self.failed(seq, id, detail);
            }
            WorkOutcome::Stuck => self.failed(seq, id, detail),
            WorkOutcome::Retry => self.pause(seq, id, detail, None),
            WorkOutcome::Committed | WorkOutcome::Unknown => {
                self.pause(seq, id, "the proxy's answer makes no sense for a rollback".to_owned(), None);
            }
        }
    }

    /// A branch's rows are restored.
    pub(crate) fn restored(&mut self, seq: u64, id: BranchId) {
        let Some(branch) = self.live.get_mut(&seq).and_then(|transaction| transaction.branches.get_mut(&id))
        else {
            return;
        };
        branch.is_committed = true;
        let (resource, schema) = (branch.resource.clone(), branch.schema.clone());
        self.undone(seq, id, BranchState::Restored);
        // What is left of the undo row says to a second try that the first one succeeded; no longer needed once that
        // is durable here, which it is before the purge is sent.
        self.purge_later(&resource, &schema, seq, id);
    }

    /// A branch never committed and never will, or is not to be undone: its locks are free.
    pub(crate) fn branch_undone(&mut self, seq: u64, id: BranchId) {
        self.undone(seq, id, BranchState::RolledBack);
    }

    fn undone(&mut self, seq: u64, id: BranchId, state: BranchState) {
        let Some(transaction) = self.live.get_mut(&seq) else { return };
        if !matches!(transaction.state, State::RollingBack { .. }) {
            return;
        }
        let Some(branch) = transaction.branches.get_mut(&id) else { return };
        if branch.is_undone() {
            return;
        }
        branch.state = state;
        branch.detail = String::new();
        let work = std::mem::replace(&mut branch.work, BranchWork::None);
        self.step.persist.push(branch.put(id, seq));
        let locks = branch.locks.take();
        let resource = branch.resource.clone();
        if let Some(locks) = locks {
            self.step.persist.push(Change::DropLocks(id));
            let woken = self.locks.release(seq, &resource, &locks);
            self.settle(woken);
        }
        self.withdraw(work);
        self.advance_rollback(seq);
    }

    /// A branch can't be undone as things are: it keeps its locks, its earlier ones on the resource wait.
    fn failed(&mut self, seq: u64, id: BranchId, mut detail: String) {
        truncate(&mut detail);
        let Some(branch) = self.live.get_mut(&seq).and_then(|transaction| transaction.branches.get_mut(&id))
        else {
            return;
        };
        let is_new = branch.state != BranchState::RollbackFailed
            || branch.detail != detail
            || branch.is_committed != branch.is_commit_kept;
        branch.state = BranchState::RollbackFailed;
        branch.detail.clone_from(&detail);
        if is_new {
            self.step.persist.push(branch.put(id, seq));
        }
        self.pause(seq, id, detail, Some(self.config.rollback_retry_interval_ms));
        // It is tried again, but not so soon that somebody should wait for it.
        self.answer_rollback_waits(seq);
    }

    /// Tries work for a branch again after a while: after `pause_ms`, or else after a pause that grows.
    pub(crate) fn pause(&mut self, seq: u64, id: BranchId, mut detail: String, pause_ms: Option<u64>) {
        truncate(&mut detail);
        let max_ms = self.config.rollback_retry_interval_ms;
        let Some(branch) = self.live.get_mut(&seq).and_then(|transaction| transaction.branches.get_mut(&id))
        else {
            return;
        };
        // The report of what can't be undone is worth more than the note that a retry could not be made.
        if branch.state != BranchState::RollbackFailed || branch.resolution.is_some() {
            branch.detail = detail;
        }
        let pause_ms = pause_ms.unwrap_or_else(|| backoff_ms(branch.attempts, max_ms));
        let key = self.timers.set(self.now_ms.saturating_add(pause_ms), Timer::Retry { seq, branch: id });
        branch.work = BranchWork::Pausing(key);
    }

    pub(crate) fn retry_due(&mut self, seq: u64, id: BranchId) {
        let branch = self.live.get(&seq).and_then(|transaction| transaction.branches.get(&id));
        if branch.is_some_and(|branch| matches!(branch.work, BranchWork::Pausing(_))) {
            self.enqueue_due(seq, id);
        }
    }

    /// The rollback was asked for again: what pauses is tried now. That is all it says; nothing is given up by it.
    pub(crate) fn retry_now(&mut self, seq: u64) {
        let Some(transaction) = self.live.get_mut(&seq) else { return };
        let mut pausing = Vec::new();
        for (id, branch) in &mut transaction.branches {
            if let BranchWork::Pausing(key) = branch.work {
                pausing.push((*id, key));
                branch.attempts = 1;
            }
        }
        for (id, key) in pausing {
            self.timers.cancel(key);
            self.enqueue_due(seq, id);
        }
    }

    pub(crate) fn work_timed_out(&mut self, work_id: u64) {
        if let Some(work) = self.dispatcher.take(work_id) {
            self.repeat(work);
        }
    }

    /// Queues work again that was given out in vain. Everything that proxies do can be done twice.
    pub(crate) fn repeat(&mut self, work: Outstanding) {
        match work.job {
            Job::Purge { schema, branches } => self.purged(&work.resource, schema, branches, false),
            Job::Branch { seq, branch: id, kind } => {
                let branch = self.live.get(&seq).and_then(|transaction| transaction.branches.get(&id));
                if branch.is_some_and(|branch| matches!(branch.work, BranchWork::Sent(_))) {
                    self.enqueue(seq, id, kind);
                }
            }
        }
        self.give_out(&work.resource);
    }

    /// Notes that the undo row of a committed branch is to be deleted.
    pub(crate) fn purge_later(&mut self, resource: &Arc<str>, schema: &Arc<str>, seq: u64, id: BranchId) {
        let key = (resource.clone(), schema.clone());
        let queue = self.purges.entry(key).or_default();
        queue.branches.push_back((seq, id));
        if queue.branches.len() >= self.config.limits.max_purge_batch && !queue.is_out && queue.attempts == 0
        {
            self.purge_due(resource.clone(), schema.clone());
        } else if !queue.is_out && queue.timer.is_none() {
            let at_ms = self.now_ms + self.config.purge_delay_ms;
            let timer = Timer::Purge { resource: resource.clone(), schema: schema.clone() };
            queue.timer = Some(self.timers.set(at_ms, timer));
        }
    }

    /// Has a batch of undo rows deleted, where a proxy is there for it.
    pub(crate) fn purge_due(&mut self, resource: Arc<str>, schema: Arc<str>) {
        // Without a proxy it goes on when one says Hello.
        let has_stream = self.dispatcher.has_stream(&resource);
        let Some(queue) = self.purges.get_mut(&(resource.clone(), schema.clone())) else { return };
        if let Some(timer) = queue.timer.take() {
            self.timers.cancel(timer);
        }
        if queue.is_out || queue.branches.is_empty() || !has_stream {
            return;
        }
        let count = queue.branches.len().min(self.config.limits.max_purge_batch);
        let branches = queue.branches.drain(..count).collect();
        queue.is_out = true;
        self.dispatcher.enqueue(&resource, Job::Purge { schema, branches });
        self.give_out(&resource);
    }

    /// A proxy for this resource appeared.
    pub(crate) fn purge_resource(&mut self, resource: &Arc<str>) {
        let schemas: Vec<Arc<str>> = self
            .purges
            .keys()
            .filter(|(name, _)| name == resource)
            .map(|(_, schema)| schema.clone())
            .collect();
        for schema in schemas {
            self.purge_due(resource.clone(), schema);
        }
    }

    fn purged(
        &mut self,
        resource: &Arc<str>,
        schema: Arc<str>,
        branches: Vec<(u64, BranchId)>,
        is_done: bool,
    ) {
        let key = (resource.clone(), schema.clone());
        let Some(queue) = self.purges.get_mut(&key) else { return };
        queue.is_out = false;
        if is_done {
            queue.attempts = 0;
        } else {
            queue.attempts = queue.attempts.saturating_add(1);
            for branch in branches.iter().rev() {
                queue.branches.push_front(*branch);
            }
        }
        if queue.branches.is_empty() {
            self.purges.remove(&key);
        } else if queue.timer.is_none() {
            let pause_ms = match queue.attempts {
                0 if queue.branches.len() >= self.config.limits.max_purge_batch => 0,
                0 => self.config.purge_delay_ms,
                attempts => backoff_ms(attempts, self.config.rollback_retry_interval_ms),
            };
            let timer = Timer::Purge { resource: resource.clone(), schema };
            queue.timer = Some(self.timers.set(self.now_ms.saturating_add(pause_ms), timer));
        }
        if is_done {
            for (seq, id) in branches {
                self.branch_purged(seq, id);
            }
        }
    }

    fn branch_purged(&mut self, seq: u64, id: BranchId) {
        let Some(transaction) = self.live.get_mut(&seq).or_else(|| self.ended.get_mut(&seq)) else { return };
        let is_committed = matches!(transaction.state, State::Committed { .. });
        let Some(branch) = transaction.branches.get_mut(&id) else { return };
        branch.state = if is_committed { BranchState::Purged } else { BranchState::RolledBack };
        self.step.persist.push(branch.put(id, seq));
        if !is_committed {
            return;
        }
        if transaction.branches.values().any(|branch| branch.state != BranchState::Purged) {
            return;
        }
        if let State::Committed { ended_at_ms, .. } = &mut transaction.state {
            *ended_at_ms = Some(self.now_ms);
        }
        self.step.persist.push(Change::PutTransaction(transaction.record()));
        self.move_to_ended(seq);
    }
}

fn backoff_ms(attempts: u32, max_ms: u64) -> u64 {
    let doublings = attempts.saturating_sub(1).min(20);
    (RETRY_MIN_MS << doublings).min(max_ms)
}

fn truncate(detail: &mut String) {
    if detail.len() > DETAIL_MAX_BYTES {
        let end = (0..=DETAIL_MAX_BYTES).rev().find(|end| detail.is_char_boundary(*end)).unwrap_or(0);
        detail.truncate(end);
    }
}
