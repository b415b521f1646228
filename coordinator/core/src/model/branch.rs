//! A branch and its transitions. Each transition answers what it asks of others: changes to persist, locks to release,
//! work to withdraw.

use std::sync::Arc;

use atone_api::BranchId;

use super::ids::{ReplyTo, StreamId, TimerKey};
use super::lock_set::LockSet;
use super::record::{Action, BranchRecord, BranchState, Change, Resolution};
use super::violation::{Checked, Violation};
use super::work::WorkKind;

/// A branch in memory.
#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) id: BranchId,
    /// The number of its transaction.
    pub(crate) seq: u64,
    pub(crate) resource: Arc<str>,
    pub(crate) schema: Arc<str>,
    pub(crate) registered_at_ms: u64,
    pub(crate) lock_count: usize,
    /// Until they are released.
    locks: Option<Arc<LockSet>>,
    state: BranchState,
    /// The local COMMIT is known.
    is_committed: bool,
    /// The durable record says so too.
    is_commit_durable: bool,
    /// The registration it came from, as long as its stream is up and no outcome is known.
    reporter: Option<(StreamId, u64)>,
    /// Why it can't be undone, or why the last try has to be repeated.
    detail: String,
    work: BranchWork,
    /// How often work for it was sent.
    attempts: u32,
    /// What an operator decided about it.
    resolution: Option<Box<Resolution>>,
    /// The calls that wait until that is done.
    resolve_calls: Vec<ReplyTo>,
}

/// Where the phase-two work for a branch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BranchWork {
    /// There is none.
    None,
    /// In the dispatcher's queue.
    Queued(WorkKind),
    /// With a proxy, under this work id.
    Sent(u64),
    /// To be tried again when this timer fires.
    Pausing(TimerKey),
}

/// What a branch is registered with.
#[derive(Debug)]
pub(crate) struct NewBranch {
    pub(crate) id: BranchId,
    pub(crate) seq: u64,
    pub(crate) resource: Arc<str>,
    pub(crate) schema: Arc<str>,
    pub(crate) locks: Arc<LockSet>,
    pub(crate) reporter: (StreamId, u64),
    pub(crate) registered_at_ms: u64,
}

/// What is left to do after a branch that was undone, or aborted.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) changes: Vec<Change>,
    pub(crate) resource: Arc<str>,
    pub(crate) schema: Arc<str>,
    /// To be released.
    pub(crate) locks: Option<Arc<LockSet>>,
    /// To be withdrawn.
    pub(crate) work: BranchWork,
}

impl Branch {
    pub(crate) fn new(new: NewBranch) -> Self {
        let NewBranch { id, seq, resource, schema, locks, reporter, registered_at_ms } = new;
        Self {
            id,
            seq,
            resource,
            schema,
            registered_at_ms,
            lock_count: locks.len(),
            locks: Some(locks),
            state: BranchState::Registered,
            is_committed: false,
            is_commit_durable: false,
            reporter: Some(reporter),
            detail: String::new(),
            work: BranchWork::None,
            attempts: 0,
            resolution: None,
            resolve_calls: Vec::new(),
        }
    }

    /// The branch of a record. `is_committed` also holds if its transaction is committed, which the record does not
    /// say.
    pub(super) fn from_record(record: BranchRecord, locks: Option<Arc<LockSet>>, is_committed: bool) -> Self {
        Self {
            id: BranchId(record.branch_id),
            seq: record.seq,
            resource: record.resource,
            schema: record.schema,
            registered_at_ms: record.registered_at_ms,
            lock_count: record.lock_count,
            locks,
            state: record.state,
            is_committed,
            is_commit_durable: record.is_committed,
            // The stream is gone with the process; its proxy may still report on a new one.
            reporter: None,
            detail: record.detail,
            work: BranchWork::None,
            attempts: 0,
            resolution: record.resolution,
            resolve_calls: Vec::new(),
        }
    }

    pub(crate) fn state(&self) -> BranchState {
        self.state
    }

    /// The locks that it still holds.
    pub(crate) fn locks(&self) -> Option<&Arc<LockSet>> {
        self.locks.as_ref()
    }

    pub(crate) fn work(&self) -> BranchWork {
        self.work
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    pub(crate) fn resolution(&self) -> Option<&Resolution> {
        self.resolution.as_deref()
    }

    /// Whether the local COMMIT is known.
    pub(crate) fn is_committed(&self) -> bool {
        self.is_committed
    }

    /// Whether a restart would forget that its local COMMIT was known.
    pub(crate) fn is_commit_volatile(&self) -> bool {
        self.is_committed && !self.is_commit_durable
    }

    /// Whether its outcome has to be asked of its server, as no report can come.
    pub(crate) fn is_orphaned(&self) -> bool {
        self.reporter.is_none()
    }

    pub(crate) fn is_undone(&self) -> bool {
        matches!(self.state, BranchState::Restored | BranchState::RolledBack)
    }

    /// The record that should be durable by now.
    pub(crate) fn record(&self) -> BranchRecord {
        // The detail of a try that is to be repeated is not worth a write.
        let has_report = self.state == BranchState::RollbackFailed && self.resolution.is_none();
        let detail = if has_report { self.detail.clone() } else { String::new() };
        BranchRecord {
            branch_id: self.id.0,
            seq: self.seq,
            resource: self.resource.clone(),
            schema: self.schema.clone(),
            state: self.state,
            lock_count: self.lock_count,
            registered_at_ms: self.registered_at_ms,
            detail,
            is_committed: self.is_commit_durable,
            resolution: self.resolution.clone(),
        }
    }

    /// The change that makes all that is known of it durable.
    pub(crate) fn persist(&mut self) -> Change {
        self.is_commit_durable = self.is_committed;
        Change::PutBranch(self.record())
    }

    /// No report is expected any more. The registration that it would have come from, if one was expected.
    pub(crate) fn take_reporter(&mut self) -> Option<(StreamId, u64)> {
        self.reporter.take()
    }

    /// The local COMMIT is known. False if the branch has been found undone or undoable before: the first word holds.
    pub(crate) fn set_committed(&mut self) -> bool {
        let is_open = self.state == BranchState::Registered;
        self.is_committed |= is_open;
        is_open
    }

    /// Gives its locks away, to be released.
    pub(super) fn take_locks(&mut self) -> Option<Arc<LockSet>> {
        self.locks.take()
    }

    /// Work of this kind is in the queue.
    pub(crate) fn queue_work(&mut self, kind: WorkKind) -> Checked {
        if self.work != BranchWork::None {
            return Err(self.violation("gets work while it has some"));
        }
        self.work = BranchWork::Queued(kind);
        Ok(())
    }

    /// The queue's next entry is work of this kind. False if the entry is stale: withdrawn, or queued anew for another
    /// purpose.
    pub(crate) fn send_work(&mut self, kind: WorkKind, work_id: u64) -> bool {
        if self.work != BranchWork::Queued(kind) {
            return false;
        }
        self.work = BranchWork::Sent(work_id);
        self.attempts = self.attempts.saturating_add(1);
        true
    }

    /// The work that was sent is over, with an answer or without one.
    pub(crate) fn end_work(&mut self, work_id: u64) -> Checked {
        if self.work != BranchWork::Sent(work_id) {
            return Err(self.violation("has not the work that is over"));
        }
        self.work = BranchWork::None;
        Ok(())
    }

    /// Its work is tried again when the timer fires.
    pub(crate) fn pause(&mut self, timer: TimerKey, detail: String) -> Checked {
        if self.work != BranchWork::None {
            return Err(self.violation("pauses while it has work"));
        }
        // The report of what can't be undone is worth more than the note that a retry failed.
        if self.state != BranchState::RollbackFailed || self.resolution.is_some() {
            self.detail = detail;
        }
        self.work = BranchWork::Pausing(timer);
        Ok(())
    }

    /// The pause's timer has fired.
    pub(crate) fn end_pause(&mut self) -> Checked {
        let BranchWork::Pausing(_) = self.work else {
            return Err(self.violation("ends a pause without having one"));
        };
        self.work = BranchWork::None;
        Ok(())
    }

    /// Ends a pause before its time, and begins counting the tries anew. The timer, if it pauses.
    pub(crate) fn cut_pause(&mut self) -> Option<TimerKey> {
        let BranchWork::Pausing(timer) = self.work else { return None };
        self.work = BranchWork::None;
        self.attempts = 1;
        Some(timer)
    }

    /// Its work is not wanted any more.
    pub(crate) fn take_work(&mut self) -> BranchWork {
        std::mem::replace(&mut self.work, BranchWork::None)
    }

    /// It can't be undone as things are. The change, if that is news.
    pub(crate) fn fail(&mut self, detail: &str, is_committed: bool) -> Option<Change> {
        self.is_committed |= is_committed;
        let is_news =
            self.state != BranchState::RollbackFailed || self.detail != detail || self.is_commit_volatile();
        self.state = BranchState::RollbackFailed;
        detail.clone_into(&mut self.detail);
        is_news.then(|| self.persist())
    }

    /// It is undone, or never committed and never will, or is not to be undone: `state` says which.
    pub(super) fn undo(&mut self, state: BranchState) -> Checked<Finished> {
        if self.is_undone() || self.state == BranchState::Purged {
            return Err(self.violation("is undone a second time"));
        }
        self.is_committed |= state == BranchState::Restored;
        self.state = state;
        self.detail = String::new();
        let mut changes = vec![self.persist()];
        let locks = self.locks.take();
        if locks.is_some() {
            changes.push(Change::DropLocks(self.id));
        }
        let (resource, schema) = (self.resource.clone(), self.schema.clone());
        Ok(Finished { changes, resource, schema, locks, work: self.take_work() })
    }

    /// Its undo row is deleted, `committed` for good or after it was restored.
    pub(super) fn purge(&mut self, is_committed: bool) -> Checked<Change> {
        self.state = match (self.state, is_committed) {
            (BranchState::Registered, true) => BranchState::Purged,
            (BranchState::Restored, false) => BranchState::RolledBack,
            _ => return Err(self.violation("is purged while its undo row is needed")),
        };
        Ok(self.persist())
    }

    /// An operator decides that its rows stay as they are. The change, and the work that this supersedes.
    pub(crate) fn keep_current(&mut self, by: String, at_ms: u64) -> Checked<(Change, BranchWork)> {
        if self.state != BranchState::RollbackFailed || self.resolution.is_some() {
            return Err(self.violation("is resolved while it needs no decision"));
        }
        let given_up = std::mem::take(&mut self.detail);
        let resolution = Resolution { action: Action::KeepCurrent, by, at_ms, given_up };
        self.resolution = Some(Box::new(resolution));
        self.attempts = 0;
        Ok((self.persist(), self.take_work()))
    }

    /// The operator's decision came too late: a try that was under way had restored the branch.
    pub(crate) fn drop_resolution(&mut self) {
        self.resolution = None;
    }

    pub(crate) fn resolve_calls(&self) -> usize {
        self.resolve_calls.len()
    }

    /// This call waits until the operator's decision is carried out.
    pub(crate) fn add_resolve_call(&mut self, to: ReplyTo) {
        self.resolve_calls.push(to);
    }

    pub(crate) fn take_resolve_calls(&mut self) -> Vec<ReplyTo> {
        std::mem::take(&mut self.resolve_calls)
    }

    fn violation(&self, what: &str) -> Violation {
        let (id, seq, state, work) = (self.id, self.seq, self.state, self.work);
        Violation::new(format!("branch {id} of transaction {seq:#x} {what} ({state:?}, {work:?})"))
    }
}
