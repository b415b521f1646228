//! Branches up to their outcome: registration, waiting for locks, cancellation, reports, and the streams they came on.

use std::collections::BTreeMap;
use std::sync::Arc;

use atone_api::BranchId;

use crate::core::{BRANCH_ID_BLOCK, Core, Registration, WaitingRegister};
use crate::decisions::{refusal_of, unknown};
use crate::locks::{Acquire, Conflict, Woken};
use crate::record::{BranchState, Change, Counters};
use crate::state::{Branch, BranchWork, State, Status, Transaction};
use crate::step::{LockSet, Refusal, RefusalCode, RegisterRequest, Reply, ReplyTo, StreamId};
use crate::timers::Timer;

/// The longest name of a resource, a schema or a table, and the longest text of a key, in bytes. Keys of MySQL have
/// 3072 bytes at most; written in hexadecimal with separators they stay well below.
const NAME_MAX_BYTES: usize = 1_024;
const KEY_MAX_BYTES: usize = 16_384;

impl Core {
    pub(crate) fn register(&mut self, stream: StreamId, id: u64, request: RegisterRequest) {
        if let Err(refusal) = self.try_register(stream, id, request) {
            self.reply(ReplyTo::Stream(stream, id), Err(refusal));
        }
    }

    fn try_register(&mut self, stream: StreamId, id: u64, request: RegisterRequest) -> Result<(), Refusal> {
        let RegisterRequest { xid, resource, schema, locks, wait_timeout_ms } = request;
        let invalid = |message: String| Err(Refusal::new(RefusalCode::Invalid, message));
        let limit = |message: String| Err(Refusal::new(RefusalCode::LimitReached, message));
        let Some(registrations) = self.streams.get(&stream) else {
            return invalid("a registration needs a stream that said Hello".to_owned());
        };
        if registrations.contains_key(&id) {
            return invalid(format!("the message id {id} was used before"));
        }
        let seq = self.find(&xid).ok_or_else(|| unknown(&xid))?;
        let Some(transaction) = self.live.get(&seq).or_else(|| self.ended.get(&seq)) else {
            return Err(unknown(&xid));
        };
        match &transaction.state {
            State::Active { .. } => {}
            State::Committing { .. } => {
                return Err(Refusal::new(
                    RefusalCode::Ended,
                    format!("transaction {xid} is being committed"),
                ));
            }
            State::Committed { .. } => {
                return Err(Refusal::new(RefusalCode::Ended, format!("transaction {xid} was committed")));
            }
            State::RollingBack { .. } | State::RolledBack { .. } => {
                return Err(refusal_of(transaction));
            }
        }
        check_texts(&resource, &schema, &locks)?;
        let limits = &self.config.limits;
        let max = limits.max_locks_per_branch;
        let count = locks.len();
        if count > max {
            return limit(format!("a branch with {count} row locks is over max_locks_per_branch, {max}"));
        }
        let max = limits.max_branches_per_transaction;
        if transaction.branches.len() + transaction.waiting.len() >= max {
            return limit(format!(
                "transaction {xid} has {max} branches already (max_branches_per_transaction)"
            ));
        }
        let max = limits.max_waiters;
        let may_wait = wait_timeout_ms > 0;
        let has_room = self.locks.waiting() < max;
        let (acquired, woken) = self.locks.acquire(seq, &resource, &locks, may_wait && has_room);
        match acquired {
            Acquire::Granted => self.add_branch(seq, stream, id, resource, schema, locks),
            Acquire::Waiting(waiter) => {
                let timeout =
                    self.timers.set(self.now_ms.saturating_add(wait_timeout_ms), Timer::Waiter { waiter });
                let since_look = self.local_waits.last_look();
                let waiting =
                    WaitingRegister { seq, stream, id, resource, schema, locks, timeout, since_look };
                self.waiting.insert(waiter, waiting);
                if let Some(registrations) = self.streams.get_mut(&stream) {
                    registrations.insert(id, Registration::Waiting(waiter));
                }
                if let Some(transaction) = self.live.get_mut(&seq) {
                    transaction.waiting.insert(waiter);
                }
            }
            Acquire::Busy(_) if may_wait => {
                return limit(format!("{max} registrations wait for locks already (max_waiters)"));
            }
            Acquire::Busy(conflict) => {
                return Err(self.lock_refusal(RefusalCode::LockTimeout, &resource, &conflict));
            }
            Acquire::Deadlock(conflict) => {
                return Err(self.lock_refusal(RefusalCode::LockDeadlock, &resource, &conflict));
            }
        }
        self.settle(woken);
        Ok(())
    }

    /// Registers a branch that has its locks.
    fn add_branch(
        &mut self,
        seq: u64,
        stream: StreamId,
        id: u64,
        resource: Arc<str>,
        schema: Arc<str>,
        locks: Arc<LockSet>,
    ) {
        let branch_id = self.next_branch_id();
        let Some(transaction) = self.live.get_mut(&seq) else { return };
        let branch = Branch {
            resource,
            schema,
            registered_at_ms: self.now_ms,
            lock_count: locks.len(),
            locks: Some(locks.clone()),
            state: BranchState::Registered,
            is_committed: false,
            is_commit_kept: false,
            reporter: Some((stream, id)),
            detail: String::new(),
            work: BranchWork::None,
            attempts: 0,
            resolution: None,
            resolve_calls: Vec::new(),
        };
        self.step.persist.push(Change::PutBranch(branch.record(branch_id, seq)));
        self.step.persist.push(Change::PutLocks(branch_id, locks));
        transaction.branches.insert(branch_id, Box::new(branch));
        self.totals.registered += 1;
        if let Some(registrations) = self.streams.get_mut(&stream) {
            registrations.insert(id, Registration::Branch(seq, branch_id));
        }
        self.reply(ReplyTo::Stream(stream, id), Ok(Reply::Registered(branch_id)));
    }

    fn next_branch_id(&mut self) -> BranchId {
        let id = self.next_branch;
        self.next_branch += 1;
        if id >= self.counters.branch_limit {
            self.counters = Counters { branch_limit: id + BRANCH_ID_BLOCK, ..self.counters };
            self.persist(Change::PutCounters(self.counters));
        }
        BranchId(id)
    }

    /// Goes on with registrations whose wait ended in the lock table.
    pub(crate) fn settle(&mut self, woken: Vec<Woken>) {
        for woken in woken {
            let waiter = match woken {
                Woken::Granted(waiter) | Woken::Deadlock(waiter, _) => waiter,
            };
            let Some(waiting) = self.take_waiting(waiter) else { continue };
            match woken {
                Woken::Granted(_) => {
                    let WaitingRegister { seq, stream, id, resource, schema, locks, .. } = waiting;
                    self.add_branch(seq, stream, id, resource, schema, locks);
                }
                Woken::Deadlock(_, conflict) => {
                    let refusal = self.lock_refusal(RefusalCode::LockDeadlock, &waiting.resource, &conflict);
                    self.reply(ReplyTo::Stream(waiting.stream, waiting.id), Err(refusal));
                }
            }
        }
    }

    /// Takes a registration out of what waits; the lock table is left alone.
    pub(crate) fn take_waiting(&mut self, waiter: u64) -> Option<WaitingRegister> {
        let waiting = self.waiting.remove(&waiter)?;
        self.timers.cancel(waiting.timeout);
        if let Some(registrations) = self.streams.get_mut(&waiting.stream) {
            registrations.remove(&waiting.id);
        }
        if let Some(transaction) = self.live.get_mut(&waiting.seq) {
            transaction.waiting.remove(&waiter);
        }
        Some(waiting)
    }

    pub(crate) fn waiter_timed_out(&mut self, waiter: u64) {
        let conflict = self.locks.lacks(waiter);
        let Some(waiting) = self.take_waiting(waiter) else { return };
        let refusal = match conflict {
            Some(conflict) => self.lock_refusal(RefusalCode::LockTimeout, &waiting.resource, &conflict),
            None => Refusal::new(RefusalCode::LockTimeout, "the locks were not to be had in time"),
        };
        self.reply(ReplyTo::Stream(waiting.stream, waiting.id), Err(refusal));
        self.give_up_all(&[waiter]);
    }

    /// Refuses all registrations of a transaction that wait for locks.
    pub(crate) fn refuse_waiting_of(&mut self, seq: u64, refusal: &Refusal) {
        let waiters: Vec<u64> = self
            .live
            .get(&seq)
            .into_iter()
            .flat_map(|transaction| transaction.waiting.iter().copied())
            .collect();
        // Out of our books first: what the lock table wakes meanwhile must not be one of them.
        for waiter in &waiters {
            if let Some(waiting) = self.take_waiting(*waiter) {
                self.reply(ReplyTo::Stream(waiting.stream, waiting.id), Err(refusal.clone()));
            }
        }
        self.give_up_all(&waiters);
    }

    pub(crate) fn give_up_all(&mut self, waiters: &[u64]) {
        let woken = self.locks.give_up_all(waiters);
        self.settle(woken);
    }

    pub(crate) fn cancel(&mut self, stream: StreamId, id: u64) {
        let registration =
            self.streams.get(&stream).and_then(|registrations| registrations.get(&id)).copied();
        match registration {
            Some(Registration::Waiting(waiter)) => {
                self.take_waiting(waiter);
                self.give_up_all(&[waiter]);
            }
            Some(Registration::Branch(seq, branch)) => self.aborted(seq, branch),
            // It was a rollback, it was refused, or the branch was reported.
            None => self.give_up_rollback_wait(ReplyTo::Stream(stream, id)),
        }
    }

    /// A branch is known to have committed locally.
    pub(crate) fn committed(&mut self, seq: u64, id: BranchId) {
        self.outcome_known(seq, id);
        let Some(transaction) = self.live.get_mut(&seq) else { return };
        let Some(branch) = transaction.branches.get_mut(&id) else { return };
        if branch.state != BranchState::Registered {
            return;
        }
        branch.is_committed = true;
        let is_kept = branch.is_commit_kept;
        if matches!(transaction.state, State::Committing { .. }) {
            let work = std::mem::replace(&mut branch.work, BranchWork::None);
            self.withdraw(work);
            self.commit_if_known(seq);
        }
        if !is_kept {
            self.keep_report_later(seq, id);
        }
    }

    /// A branch is known to have been rolled back locally, before the decision or while it is carried out.
    pub(crate) fn aborted(&mut self, seq: u64, id: BranchId) {
        self.outcome_known(seq, id);
        let Some(transaction) = self.live.get_mut(&seq) else { return };
        let Some(branch) = transaction.branches.get_mut(&id) else { return };
        // A branch that is known to have committed can't have aborted: the first word holds.
        if branch.is_committed || branch.state != BranchState::Registered {
            return;
        }
        match transaction.state {
            State::Active { .. } | State::Committing { .. } => {
                let Some(branch) = transaction.branches.remove(&id) else { return };
                self.withdraw(branch.work);
                self.persist(Change::DropBranch(id));
                if let Some(locks) = branch.locks {
                    let woken = self.locks.release(seq, &branch.resource, &locks);
                    self.settle(woken);
                }
                self.commit_if_known(seq);
            }
            State::RollingBack { .. } => self.branch_undone(seq, id),
            State::Committed { .. } | State::RolledBack { .. } => {}
        }
    }

    /// No report about this branch is expected any more.
    fn outcome_known(&mut self, seq: u64, id: BranchId) {
        let branch = self.live.get_mut(&seq).and_then(|transaction| transaction.branches.get_mut(&id));
        if let Some((stream, register_id)) = branch.and_then(|branch| branch.reporter.take())
            && let Some(registrations) = self.streams.get_mut(&stream)
        {
            registrations.remove(&register_id);
        }
    }

    pub(crate) fn stream_up(&mut self, stream: StreamId, resources: &[String]) {
        let resources: Vec<Arc<str>> = resources.iter().map(|name| name.as_str().into()).collect();
        self.streams.insert(stream, BTreeMap::new());
        self.dispatcher.stream_up(stream, &resources);
        for resource in &resources {
            self.purge_resource(resource);
            self.give_out(resource);
        }
    }

    pub(crate) fn stream_down(&mut self, stream: StreamId) {
        let lost = self.dispatcher.stream_down(stream);
        self.reports.forget_stream(stream);
        self.local_waits.forget_stream(stream);
        self.give_up_rollback_waits_of(stream);
        let registrations = self.streams.remove(&stream).unwrap_or_default();
        let mut waiters = Vec::new();
        let mut in_doubt = Vec::new();
        for registration in registrations.into_values() {
            match registration {
                Registration::Waiting(waiter) => {
                    self.take_waiting(waiter);
                    waiters.push(waiter);
                }
                Registration::Branch(seq, id) => {
                    let branch =
                        self.live.get_mut(&seq).and_then(|transaction| transaction.branches.get_mut(&id));
                    if let Some(branch) = branch {
                        branch.reporter = None;
                        in_doubt.push(seq);
                    }
                }
            }
        }
        self.give_up_all(&waiters);
        in_doubt.dedup();
        for seq in in_doubt {
            self.check_unknown(seq, true);
        }
        for work in lost {
            self.timers.cancel(work.timeout);
            self.repeat(work);
        }
    }

    fn lock_refusal(&mut self, code: RefusalCode, resource: &Arc<str>, conflict: &Conflict) -> Refusal {
        let holder = self.xid_of(conflict.holder);
        let lock = Self::lock_text(resource, &conflict.table, &conflict.key);
        let by = holder.as_ref().map(|xid| format!(" is held by {xid}")).unwrap_or_default();
        let why = match code {
            RefusalCode::LockDeadlock => {
                self.totals.lock_deadlocks += 1;
                match self.live.get(&conflict.holder).map(Transaction::status) {
                    Some(Status::RollbackFailed) => {
                        ", whose rollback has stopped (rollback_failed): it keeps its locks until an operator has resolved it, \
                         see atone tx show"
                    }
                    Some(Status::RollingBack) => ", which is being rolled back: run it again",
                    _ => ", which waits for this transaction in turn (deadlock): run it again",
                }
            }
            _ => {
                self.totals.lock_timeouts += 1;
                ": it was not to be had in time"
            }
        };
        Refusal { code, message: format!("the row lock {lock:?}{by}{why}"), holder, lock: Some(lock) }
    }
}

fn check_texts(resource: &str, schema: &str, locks: &LockSet) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::new(RefusalCode::Invalid, message));
    let names = [("resource", resource), ("schema", schema)];
    let tables = locks.groups.iter().map(|group| ("table", &*group.table));
    for (what, name) in names.into_iter().chain(tables) {
        if name.is_empty() || name.len() > NAME_MAX_BYTES {
            return invalid(format!(
                "the name of a {what} has {} bytes, not 1 to {NAME_MAX_BYTES}",
                name.len()
            ));
        }
    }
    for group in &locks.groups {
        if let Some(key) = group.keys.iter().find(|key| key.is_empty() || key.len() > KEY_MAX_BYTES) {
            return invalid(format!(
                "a key of table {} has {} bytes, not 1 to {KEY_MAX_BYTES}",
                group.table,
                key.len()
            ));
        }
    }
    Ok(())
}
