//! Begin, commit, rollback, timeout: the life of a transaction up to the decision.

use super::refusals::{invalid, limit_reached, rolled_back};
use super::{Core, SERIAL_BITS};
use crate::model::{
    Branch, BranchId, BranchWork, Change, Checked, CommitDecision, REASON_TIMEOUT, ReplyTo, RollbackDecision,
    State, Transaction, Violation, WorkKind, Xid,
};
use crate::step::{Refusal, RefusalCode, Reply};
use crate::timers::Timer;
use crate::view::TransactionView;

/// The longest name of a transaction, and of an operator, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 256;
/// How many calls may wait for the same commit.
const MAX_COMMIT_CALLS: usize = 1_000;

impl Core {
    pub(super) fn begin(&mut self, to: ReplyTo, name: String, timeout_ms: u64) {
        let reply = self.try_begin(name, timeout_ms);
        self.reply(to, reply);
    }

    fn try_begin(&mut self, name: String, timeout_ms: u64) -> Result<Reply, Refusal> {
        if name.len() > MAX_NAME_BYTES {
            return Err(invalid(format!("a name of {} bytes is longer than {MAX_NAME_BYTES}", name.len())));
        }
        let max_ms = self.config.max_timeout_ms;
        if timeout_ms > max_ms {
            return Err(invalid(format!(
                "a timeout of {timeout_ms} ms is longer than max_timeout, {max_ms} ms"
            )));
        }
        let max = self.config.limits.max_transactions;
        if self.transactions.live().len() >= max {
            return Err(limit_reached(format!(
                "there are {max} transactions at once already (max_transactions)"
            )));
        }
        if self.next_seq >> SERIAL_BITS != self.counters.boot {
            return Err(limit_reached("the XIDs of this start are used up: restart the coordinator"));
        }
        let seq = self.next_seq;
        let xid =
            Xid::new(&format!("{}{seq:016x}", self.prefix)).map_err(|error| invalid(error.to_string()))?;
        self.next_seq += 1;
        let timeout_ms = if timeout_ms == 0 { self.config.default_timeout_ms } else { timeout_ms };
        let deadline = self.timers.set(self.now_ms.saturating_add(timeout_ms), Timer::Deadline { seq });
        let transaction = Transaction::begin(seq, xid, name, timeout_ms, self.now_ms, deadline);
        self.persist(Change::PutTransaction(transaction.record()));
        let reply = Reply::Transaction(TransactionView::of(&transaction));
        self.transactions.add(transaction);
        self.totals.begun += 1;
        Ok(reply)
    }

    pub(super) fn get(&mut self, to: ReplyTo, xid: &str) {
        let reply = self.find(xid).map(|transaction| Reply::Transaction(TransactionView::of(transaction)));
        self.reply(to, reply);
    }

    pub(super) fn commit(&mut self, to: ReplyTo, xid: &str) -> Checked {
        let reply = match self.find(xid) {
            Err(refusal) => Err(refusal),
            Ok(transaction) => match transaction.state() {
                State::Active { .. } => return self.start_commit(transaction.seq, to),
                State::Committing { calls, .. } if calls.len() < MAX_COMMIT_CALLS => {
                    let seq = transaction.seq;
                    return self.transactions.get_mut(seq)?.join_commit(to);
                }
                State::Committing { .. } => Err(limit_reached(format!(
                    "{MAX_COMMIT_CALLS} calls wait for the commit of {xid} already"
                ))),
                State::Committed { .. } => Ok(Reply::Transaction(TransactionView::of(transaction))),
                State::RollingBack { .. } | State::RolledBack { .. } => Err(rolled_back(transaction)),
            },
        };
        self.reply(to, reply);
        Ok(())
    }

    fn start_commit(&mut self, seq: u64, to: ReplyTo) -> Checked {
        let at_ms = self.now_ms.saturating_add(self.config.branch_report_timeout_ms);
        let check = self.timers.set(at_ms, Timer::Check { seq });
        let transaction = self.transactions.get_mut(seq)?;
        transaction.start_commit(to, check)?;
        let message = format!("transaction {} is being committed", transaction.xid);
        self.refuse_waiting_of(seq, &Refusal::new(RefusalCode::Ended, message))?;
        self.count(seq);
        if !self.commit_if_known(seq)? {
            self.check_unknown(seq, true)?;
        }
        Ok(())
    }

    /// Decides to commit if every branch of a commit is known to have committed locally: whether it has.
    pub(super) fn commit_if_known(&mut self, seq: u64) -> Checked<bool> {
        let transaction = self.transactions.get_mut(seq)?;
        if !transaction.can_commit() {
            return Ok(false);
        }
        let CommitDecision { changes, timers, calls, held, is_ended } = transaction.commit(self.now_ms)?;
        let reply = Reply::Transaction(TransactionView::of(transaction));
        timers.into_iter().for_each(|timer| self.timers.cancel(timer));
        self.totals.committed += 1;
        self.step.persist.extend(changes);
        for to in calls {
            self.reply(to, Ok(reply.clone()));
        }
        for held in held {
            let woken = self.locks.release(seq, &held.resource, &held.locks);
            self.finish_waits(woken);
            self.queue_purge((held.resource, held.schema), seq, held.branch)?;
        }
        if is_ended {
            self.end(seq)?;
        }
        Ok(true)
    }

    /// Asks the servers about the branches of a commit whose outcome is not known: all of them, or only those from
    /// which no report can come any more.
    pub(super) fn check_unknown(&mut self, seq: u64, only_orphaned: bool) -> Checked {
        let transaction = self.transactions.get(seq)?;
        let needs_check = |branch: &&Branch| {
            !branch.is_committed()
                && branch.work() == BranchWork::None
                && (!only_orphaned || branch.is_orphaned())
        };
        let branches = transaction.branches().values().map(|branch| &**branch);
        let unknown: Vec<BranchId> = branches.filter(needs_check).map(|branch| branch.id).collect();
        for branch in unknown {
            self.enqueue(seq, branch, WorkKind::Check)?;
        }
        Ok(())
    }

    pub(super) fn rollback(&mut self, to: ReplyTo, xid: &str, wait_ms: Option<u64>) -> Checked {
        if let Err(refusal) = self.check_rollback_wait(to, wait_ms) {
            self.reply(to, Err(refusal));
            return Ok(());
        }
        let (seq, state) = match self.find(xid) {
            Ok(transaction) => (transaction.seq, transaction.state()),
            Err(refusal) => {
                self.reply(to, Err(refusal));
                return Ok(());
            }
        };
        match state {
            State::Active { .. } | State::Committing { .. } => self.decide_rollback(seq, "", None)?,
            State::RollingBack { .. } => self.retry_now(seq)?,
            State::Committed { .. } | State::RolledBack { .. } => {}
        }
        if self.wait_for_rollback(to, seq, wait_ms.unwrap_or(self.config.rollback_wait_ms)) {
            return Ok(());
        }
        self.reply_to_rollback(to, seq)
    }

    /// Answers a rollback as its transaction is now.
    pub(super) fn reply_to_rollback(&mut self, to: ReplyTo, seq: u64) -> Checked {
        let Some(transaction) = self.transactions.known(seq) else {
            return Err(Violation::new(format!(
                "transaction {seq:#x} is forgotten before its rollback is answered"
            )));
        };
        let reply = if transaction.is_committed() {
            let message = format!("transaction {} was committed", transaction.xid);
            Err(Refusal::new(RefusalCode::Ended, message))
        } else {
            Ok(Reply::Transaction(TransactionView::with_pending(transaction)))
        };
        self.reply(to, reply);
        Ok(())
    }

    pub(super) fn timed_out(&mut self, seq: u64) -> Checked {
        self.decide_rollback(seq, REASON_TIMEOUT, None)
    }

    /// Decides to roll back. The branch `absent` is known never to commit.
    pub(super) fn decide_rollback(&mut self, seq: u64, reason: &str, absent: Option<BranchId>) -> Checked {
        let transaction = self.transactions.get_mut(seq)?;
        let decision = transaction.start_rollback(self.now_ms, reason)?;
        let RollbackDecision { changes, timers, calls, superseded } = decision;
        let (refusal, held) = (rolled_back(transaction), transaction.held_locks());
        timers.into_iter().for_each(|timer| self.timers.cancel(timer));
        self.totals.rolled_back += 1;
        self.totals.timed_out += u64::from(reason == REASON_TIMEOUT);
        self.step.persist.extend(changes);
        for work in superseded {
            self.withdraw(work)?;
        }
        for to in calls {
            self.reply(to, Err(refusal.clone()));
        }
        self.refuse_waiting_of(seq, &refusal)?;
        let woken = self.locks.start_rollback(seq, &held);
        self.finish_waits(woken);
        match absent {
            Some(branch) => self.branch_undone(seq, branch),
            None => self.advance_rollback(seq),
        }
    }

    /// Ends a rollback if no branch is left to be undone: whether it has ended.
    pub(super) fn end_rollback_if_done(&mut self, seq: u64) -> Checked<bool> {
        let transaction = self.transactions.get_mut(seq)?;
        if !transaction.can_end_rollback() {
            return Ok(false);
        }
        let change = transaction.end_rollback(self.now_ms)?;
        self.persist(change);
        self.end(seq)?;
        self.answer_rollback_waits(seq)?;
        Ok(true)
    }

    /// Nothing is left to do for a transaction.
    pub(super) fn end(&mut self, seq: u64) -> Checked {
        let transaction = self.transactions.end(seq)?;
        let reporters: Vec<_> = transaction.branches_mut().filter_map(Branch::take_reporter).collect();
        for (stream, id) in reporters {
            self.registrations.forget(stream, id)?;
        }
        Ok(())
    }
}
