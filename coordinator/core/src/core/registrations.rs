//! Registrations of branches: taking locks, waiting for them, and cancellation.

use super::refusals::{invalid, limit_reached, rolled_back};
use super::{BRANCH_ID_BLOCK, Core};
use crate::locks::{Acquire, Woken};
use crate::model::{
    Branch, BranchId, Change, Checked, Counters, LockSet, NewBranch, ReplyTo, State, StreamId, WaiterId,
};
use crate::registrations::{Admitted, Registration, WaitingRegistration};
use crate::step::{Refusal, RefusalCode, RegisterRequest, Reply};
use crate::timers::Timer;

/// The longest name of a resource, a schema or a table, and the longest text of a key, in bytes. Keys of MySQL have
/// 3072 bytes at most; written in hexadecimal with separators they stay well below.
const MAX_NAME_BYTES: usize = 1_024;
const MAX_KEY_BYTES: usize = 16_384;

impl Core {
    pub(super) fn register(&mut self, stream: StreamId, id: u64, request: RegisterRequest) -> Checked {
        let to = ReplyTo::Stream(stream, id);
        let wait_timeout_ms = request.wait_timeout_ms;
        let admitted = match self.admit(stream, id, request) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                self.reply(to, Err(refusal));
                return Ok(());
            }
        };
        let max = self.config.limits.max_waiters;
        let may_wait = wait_timeout_ms > 0;
        let has_room = self.locks.waiting() < max;
        let Admitted { seq, resource, locks, .. } = &admitted;
        let (acquired, woken) = self.locks.acquire(*seq, resource, locks, may_wait && has_room);
        let refusal = match acquired {
            Acquire::Granted => {
                let added = self.add_branch(admitted);
                self.finish_waits(woken);
                return added;
            }
            Acquire::Waiting(waiter) => return self.start_wait(waiter, admitted, wait_timeout_ms),
            Acquire::Busy(_) if may_wait => {
                limit_reached(format!("{max} registrations wait for locks already (max_waiters)"))
            }
            Acquire::Busy(conflict) => self.lock_timeout(resource, &conflict),
            Acquire::Deadlock(conflict) => self.lock_deadlock(resource, &conflict),
        };
        self.reply(to, Err(refusal));
        Ok(())
    }

    /// Checks all that does not depend on locks.
    fn admit(&self, stream: StreamId, id: u64, request: RegisterRequest) -> Result<Admitted, Refusal> {
        let RegisterRequest { xid, resource, schema, locks, wait_timeout_ms: _ } = request;
        if !self.registrations.is_up(stream) {
            return Err(invalid("a registration needs a stream that said Hello"));
        }
        if self.registrations.get(stream, id).is_some() {
            return Err(invalid(format!("the message id {id} was used before")));
        }
        let transaction = self.find(&xid)?;
        match transaction.state() {
            State::Active { .. } => {}
            State::Committing { .. } => {
                let message = format!("transaction {xid} is being committed");
                return Err(Refusal::new(RefusalCode::Ended, message));
            }
            State::Committed { .. } => {
                let message = format!("transaction {xid} was committed");
                return Err(Refusal::new(RefusalCode::Ended, message));
            }
            State::RollingBack { .. } | State::RolledBack { .. } => return Err(rolled_back(transaction)),
        }
        check_texts(&resource, &schema, &locks)?;
        let limits = &self.config.limits;
        let (count, max) = (locks.len(), limits.max_locks_per_branch);
        if count > max {
            let message = format!("a branch with {count} row locks is over max_locks_per_branch, {max}");
            return Err(limit_reached(message));
        }
        let max = limits.max_branches_per_transaction;
        if transaction.branches().len() + transaction.waiting.len() >= max {
            let message =
                format!("transaction {xid} has {max} branches already (max_branches_per_transaction)");
            return Err(limit_reached(message));
        }
        Ok(Admitted { seq: transaction.seq, stream, id, resource, schema, locks })
    }

    /// Registers a branch that has its locks.
    fn add_branch(&mut self, admitted: Admitted) -> Checked {
        let Admitted { seq, stream, id: message_id, resource, schema, locks } = admitted;
        let id = self.next_branch_id();
        let branch = Branch::new(NewBranch {
            id,
            seq,
            resource,
            schema,
            locks: locks.clone(),
            reporter: (stream, message_id),
            registered_at_ms: self.now_ms,
        });
        let put = Change::PutBranch(branch.record());
        self.transactions.get_mut(seq)?.add_branch(branch)?;
        self.persist(put);
        self.persist(Change::PutLocks(id, locks));
        self.totals.registered += 1;
        self.registrations.set(stream, message_id, Registration::Branch(seq, id))?;
        self.reply(ReplyTo::Stream(stream, message_id), Ok(Reply::Registered(id)));
        Ok(())
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

    fn start_wait(&mut self, waiter: WaiterId, admitted: Admitted, wait_timeout_ms: u64) -> Checked {
        let at_ms = self.now_ms.saturating_add(wait_timeout_ms);
        let timeout = self.timers.set(at_ms, Timer::Waiter { waiter });
        let (seq, since_look) = (admitted.seq, self.local_waits.last_look());
        self.registrations.wait(waiter, WaitingRegistration { admitted, timeout, since_look })?;
        self.transactions.get_mut(seq)?.waiting.insert(waiter);
        Ok(())
    }

    /// Goes on with registrations whose wait has ended in the lock table.
    pub(super) fn finish_waits(&mut self, woken: Vec<Woken>) {
        for woken in woken {
            let finished = self.finish_wait(woken);
            self.note(finished);
        }
    }

    fn finish_wait(&mut self, woken: Woken) -> Checked {
        match woken {
            Woken::Granted(waiter) => {
                let admitted = self.take_waiting(waiter)?;
                self.add_branch(admitted)
            }
            Woken::Deadlock(waiter, conflict) => {
                let admitted = self.take_waiting(waiter)?;
                let refusal = self.lock_deadlock(&admitted.resource, &conflict);
                self.reply(admitted.reply_to(), Err(refusal));
                Ok(())
            }
        }
    }

    /// Takes a registration out of those that wait; the lock table is left alone.
    pub(super) fn take_waiting(&mut self, waiter: WaiterId) -> Checked<Admitted> {
        let WaitingRegistration { admitted, timeout, .. } = self.registrations.take_waiting(waiter)?;
        self.timers.cancel(timeout);
        self.transactions.get_mut(admitted.seq)?.waiting.remove(&waiter);
        Ok(admitted)
    }

    pub(super) fn waiter_timed_out(&mut self, waiter: WaiterId) -> Checked {
        let conflict = self.locks.conflict_of(waiter);
        let admitted = self.take_waiting(waiter)?;
        let refusal = match conflict {
            Some(conflict) => self.lock_timeout(&admitted.resource, &conflict),
            None => {
                self.violate("a registration waits, and nothing keeps it from its locks");
                Refusal::new(RefusalCode::LockTimeout, "the locks were not to be had in time")
            }
        };
        self.reply(admitted.reply_to(), Err(refusal));
        self.cancel_waits(&[waiter]);
        Ok(())
    }

    /// Refuses all registrations of a transaction that wait for locks.
    pub(super) fn refuse_waiting_of(&mut self, seq: u64, refusal: &Refusal) -> Checked {
        let waiters: Vec<WaiterId> = self.transactions.get(seq)?.waiting.iter().copied().collect();
        // First all of them here, then in the lock table: it must wake none of them meanwhile.
        for waiter in &waiters {
            let admitted = self.take_waiting(*waiter)?;
            self.reply(admitted.reply_to(), Err(refusal.clone()));
        }
        self.cancel_waits(&waiters);
        Ok(())
    }

    /// Takes requests out of the lock table, and goes on with those that it wakes.
    pub(super) fn cancel_waits(&mut self, waiters: &[WaiterId]) {
        let woken = self.locks.cancel_all(waiters);
        self.finish_waits(woken);
    }

    pub(super) fn cancel(&mut self, stream: StreamId, id: u64) -> Checked {
        match self.registrations.get(stream, id) {
            Some(Registration::Waiting(waiter)) => {
                self.take_waiting(waiter)?;
                self.cancel_waits(&[waiter]);
            }
            Some(Registration::Branch(seq, branch)) => self.aborted(seq, branch)?,
            // It was a rollback, or it was refused, or the branch was reported.
            None => self.cancel_rollback_wait(ReplyTo::Stream(stream, id)),
        }
        Ok(())
    }
}

fn check_texts(resource: &str, schema: &str, locks: &LockSet) -> Result<(), Refusal> {
    let names = [("resource", resource), ("schema", schema)];
    let tables = locks.groups.iter().map(|group| ("table", &*group.table));
    for (what, name) in names.into_iter().chain(tables) {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(invalid(format!(
                "the name of a {what} has {} bytes, not 1 to {MAX_NAME_BYTES}",
                name.len()
            )));
        }
    }
    for group in &locks.groups {
        if let Some(key) = group.keys.iter().find(|key| key.is_empty() || key.len() > MAX_KEY_BYTES) {
            return Err(invalid(format!(
                "a key of table {} has {} bytes, not 1 to {MAX_KEY_BYTES}",
                group.table,
                key.len()
            )));
        }
    }
    Ok(())
}
