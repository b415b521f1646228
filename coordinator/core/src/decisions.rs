//! Begin, commit, rollback, timeout: the life of a transaction up to the decision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use atone_api::{BranchId, Xid};

use crate::core::{Core, SERIAL_BITS};
use crate::record::Change;
use crate::state::{Branch, BranchWork, REASON_TIMEOUT, State, Status, Transaction};
use crate::step::{Refusal, RefusalCode, Reply, ReplyTo, WorkKind};
use crate::timers::Timer;

/// The longest name of a transaction, in bytes.
pub(crate) const NAME_MAX_BYTES: usize = 256;
/// How many calls may wait for the same commit.
const COMMIT_CALLS_MAX: usize = 1_000;

impl Core {
    pub(crate) fn begin(&mut self, to: ReplyTo, name: String, timeout_ms: u64) {
        let reply = self.try_begin(name, timeout_ms);
        self.reply(to, reply);
    }

    fn try_begin(&mut self, name: String, timeout_ms: u64) -> Result<Reply, Refusal> {
        let invalid = |message: String| Err(Refusal::new(RefusalCode::Invalid, message));
        let limit = |message: String| Err(Refusal::new(RefusalCode::LimitReached, message));
        if name.len() > NAME_MAX_BYTES {
            return invalid(format!("a name of {} bytes is longer than {NAME_MAX_BYTES}", name.len()));
        }
        let max_ms = self.config.max_timeout_ms;
        if timeout_ms > max_ms {
            return invalid(format!("a timeout of {timeout_ms} ms is longer than max_timeout, {max_ms} ms"));
        }
        let max = self.config.limits.max_transactions;
        if self.live.len() >= max {
            return limit(format!("there are {max} transactions at once already (max_transactions)"));
        }
        if self.next_seq >> SERIAL_BITS != self.counters.boot {
            return limit("the XIDs of this start are used up: restart the coordinator".to_owned());
        }
        let seq = self.next_seq;
        let xid = Xid::new(&format!("{}{seq:016x}", self.prefix))
            .map_err(|error| Refusal::new(RefusalCode::Invalid, error.to_string()))?;
        self.next_seq += 1;
        let timeout_ms = if timeout_ms == 0 { self.config.default_timeout_ms } else { timeout_ms };
        let deadline = self.timers.set(self.now_ms.saturating_add(timeout_ms), Timer::Deadline { seq });
        let transaction = Transaction {
            seq,
            xid,
            name,
            timeout_ms,
            created_at_ms: self.now_ms,
            state: State::Active { deadline },
            branches: BTreeMap::new(),
            waiting: BTreeSet::new(),
            counted_as: None,
        };
        self.persist(Change::PutTransaction(transaction.record()));
        let reply = Reply::Transaction(transaction.view());
        self.live.insert(seq, transaction);
        self.totals.begun += 1;
        Ok(reply)
    }

    pub(crate) fn get(&mut self, to: ReplyTo, xid: &str) {
        let reply = self.find(xid).and_then(|seq| self.view_reply(seq)).ok_or_else(|| unknown(xid));
        self.reply(to, reply);
    }

    pub(crate) fn view_reply(&self, seq: u64) -> Option<Reply> {
        let transaction = self.live.get(&seq).or_else(|| self.ended.get(&seq))?;
        Some(Reply::Transaction(transaction.view()))
    }

    pub(crate) fn commit(&mut self, to: ReplyTo, xid: &str) {
        let Some(seq) = self.find(xid) else { return self.reply(to, Err(unknown(xid))) };
        let Some(transaction) = self.live.get_mut(&seq) else {
            let reply = self.commit_of_ended(seq);
            return self.reply(to, reply);
        };
        match &mut transaction.state {
            State::Active { deadline } => {
                let deadline = *deadline;
                let at_ms = self.now_ms.saturating_add(self.config.branch_report_timeout_ms);
                let check = self.timers.set(at_ms, Timer::Check { seq });
                transaction.state = State::Committing { deadline, check, replies: vec![to] };
                let refusal =
                    Refusal::new(RefusalCode::Ended, format!("transaction {xid} is being committed"));
                self.refuse_waiting_of(seq, &refusal);
                self.count(seq);
                self.commit_if_known(seq);
                self.check_unknown(seq, true);
            }
            State::Committing { replies, .. } => {
                if replies.len() >= COMMIT_CALLS_MAX {
                    let message = format!("{COMMIT_CALLS_MAX} calls wait for the commit of {xid} already");
                    return self.reply(to, Err(Refusal::new(RefusalCode::LimitReached, message)));
                }
                replies.push(to);
            }
            _ => {
                let reply = self.commit_of_ended(seq);
                self.reply(to, reply);
            }
        }
    }

    /// The answer to a commit that comes after the decision.
    fn commit_of_ended(&self, seq: u64) -> Result<Reply, Refusal> {
        let transaction = self.live.get(&seq).or_else(|| self.ended.get(&seq));
        let Some(transaction) = transaction else {
            return Err(Refusal::new(RefusalCode::UnknownXid, "there is no such transaction"));
        };
        match &transaction.state {
            State::Committed { .. } => Ok(Reply::Transaction(transaction.view())),
            _ => Err(refusal_of(transaction)),
        }
    }

    /// Decides to commit as soon as every branch is known to have committed locally.
    pub(crate) fn commit_if_known(&mut self, seq: u64) {
        let Some(transaction) = self.live.get_mut(&seq) else { return };
        let State::Committing { deadline, check, replies } = &mut transaction.state else { return };
        if transaction.branches.values().any(|branch| !branch.is_committed) {
            return;
        }
        let (deadline, check, replies) = (*deadline, *check, std::mem::take(replies));
        self.timers.cancel(deadline);
        self.timers.cancel(check);
        self.totals.committed += 1;
        let is_ended = transaction.branches.is_empty();
        let ended_at_ms = is_ended.then_some(self.now_ms);
        transaction.state = State::Committed { decided_at_ms: self.now_ms, ended_at_ms };
        self.step.persist.push(Change::PutTransaction(transaction.record()));
        let reply = Reply::Transaction(transaction.view());
        let mut released = Vec::new();
        for (id, branch) in &mut transaction.branches {
            if let Some(locks) = branch.locks.take() {
                self.step.persist.push(Change::DropLocks(*id));
                released.push((*id, branch.resource.clone(), branch.schema.clone(), locks));
            }
        }
        for to in replies {
            self.reply(to, Ok(reply.clone()));
        }
        for (id, resource, schema, locks) in released {
            let woken = self.locks.release(seq, &resource, &locks);
            self.settle(woken);
            self.purge_later(&resource, &schema, seq, id);
        }
        if is_ended {
            self.move_to_ended(seq);
        }
    }

    /// Asks the servers about branches whose outcome is not known: all of them, or only those from which no report can
    /// come any more.
    pub(crate) fn check_unknown(&mut self, seq: u64, only_lost: bool) {
        let Some(transaction) = self.live.get(&seq) else { return };
        if !matches!(transaction.state, State::Committing { .. }) {
            return;
        }
        let needs_check = |branch: &Branch| {
            !branch.is_committed
                && branch.work == BranchWork::None
                && (!only_lost || branch.reporter.is_none())
        };
        let unknown: Vec<_> = transaction
            .branches
            .iter()
            .filter(|(_, branch)| needs_check(branch))
            .map(|(id, _)| *id)
            .collect();
        for branch in unknown {
            self.enqueue(seq, branch, WorkKind::Check);
        }
    }

    pub(crate) fn rollback(&mut self, to: ReplyTo, xid: &str, wait_ms: Option<u64>) {
        if let Err(refusal) = self.check_rollback_wait(to, wait_ms) {
            return self.reply(to, Err(refusal));
        }
        let Some(seq) = self.find(xid) else { return self.reply(to, Err(unknown(xid))) };
        match self.live.get(&seq).map(|transaction| &transaction.state) {
            Some(State::Active { .. } | State::Committing { .. }) => self.decide_rollback(seq, "", None),
            Some(State::RollingBack { .. }) => self.retry_now(seq),
            _ => {}
        }
        if self.wait_for_rollback(to, seq, wait_ms.unwrap_or(self.config.rollback_wait_ms)) {
            return;
        }
        let reply = self.rollback_reply(seq);
        self.reply(to, reply);
    }

    /// The answer to a rollback as its transaction is now.
    pub(crate) fn rollback_reply(&self, seq: u64) -> Result<Reply, Refusal> {
        match self.live.get(&seq).or_else(|| self.ended.get(&seq)) {
            None => Err(Refusal::new(RefusalCode::UnknownXid, "there is no such transaction")),
            Some(transaction) if matches!(transaction.state, State::Committed { .. }) => {
                let message = format!("transaction {} was committed", transaction.xid);
                Err(Refusal::new(RefusalCode::Ended, message))
            }
            Some(transaction) => Ok(Reply::Transaction(transaction.view_with_pending())),
        }
    }

    pub(crate) fn timed_out(&mut self, seq: u64) {
        self.decide_rollback(seq, REASON_TIMEOUT, None);
    }

    /// Decides to roll back, where nothing is decided yet. The branch `absent` is known never to commit.
    pub(crate) fn decide_rollback(&mut self, seq: u64, reason: &str, absent: Option<BranchId>) {
        let Some(transaction) = self.live.get_mut(&seq) else { return };
        let replies = match &mut transaction.state {
            State::Active { deadline } => {
                self.timers.cancel(*deadline);
                Vec::new()
            }
            State::Committing { deadline, check, replies } => {
                self.timers.cancel(*deadline);
                self.timers.cancel(*check);
                std::mem::take(replies)
            }
            _ => return,
        };
        self.totals.rolled_back += 1;
        self.totals.timed_out += u64::from(reason == REASON_TIMEOUT);
        transaction.state = State::RollingBack { decided_at_ms: self.now_ms, reason: reason.to_owned() };
        let refusal = refusal_of(transaction);
        if !transaction.branches.is_empty() {
            // Without branches the end is recorded at once instead.
            self.step.persist.push(Change::PutTransaction(transaction.record()));
        }
        // What is known to have committed must not be forgotten from here on: an undo row that is gone is then a loss.
        for (id, branch) in &mut transaction.branches {
            if branch.is_committed && !branch.is_commit_kept {
                self.step.persist.push(branch.put(*id, seq));
            }
        }
        let mut held = Vec::new();
        let mut superseded = Vec::new();
        for branch in transaction.branches.values_mut() {
            if let Some(locks) = &branch.locks {
                held.push((branch.resource.clone(), locks.clone()));
            }
            superseded.push(std::mem::replace(&mut branch.work, BranchWork::None));
        }
        for work in superseded {
            self.withdraw(work);
        }
        for to in replies {
            self.reply(to, Err(refusal.clone()));
        }
        self.refuse_waiting_of(seq, &refusal);
        let woken = self.locks.set_dying(seq, &held);
        self.settle(woken);
        match absent {
            Some(branch) => self.branch_undone(seq, branch),
            None => self.advance_rollback(seq),
        }
    }

    /// Takes work back that was queued, given out, or pausing. What a proxy answers to it is ignored.
    pub(crate) fn withdraw(&mut self, work: BranchWork) {
        match work {
            // The queue's entry is skipped when its turn comes.
            BranchWork::None | BranchWork::Queued(_) => {}
            BranchWork::Pausing(key) => self.timers.cancel(key),
            BranchWork::Sent(work_id) => {
                if let Some(work) = self.dispatcher.take(work_id) {
                    self.timers.cancel(work.timeout);
                    self.give_out(&work.resource);
                }
            }
        }
    }

    pub(crate) fn move_to_ended(&mut self, seq: u64) {
        if let Some(mut transaction) = self.live.remove(&seq) {
            for branch in transaction.branches.values_mut() {
                if let Some((stream, id)) = branch.reporter.take()
                    && let Some(registrations) = self.streams.get_mut(&stream)
                {
                    registrations.remove(&id);
                }
            }
            self.ended_order.insert((transaction.ended_at_ms().unwrap_or(self.now_ms), seq));
            self.ended.insert(seq, transaction);
        }
    }

    /// Ends a rollback when no branch is left to undo.
    pub(crate) fn end_rollback_if_done(&mut self, seq: u64) -> bool {
        let Some(transaction) = self.live.get_mut(&seq) else { return false };
        let State::RollingBack { decided_at_ms, reason } = &mut transaction.state else { return false };
        if transaction.branches.values().any(|branch| !branch.is_undone()) {
            return false;
        }
        let (decided_at_ms, reason) = (*decided_at_ms, std::mem::take(reason));
        transaction.state = State::RolledBack { decided_at_ms, ended_at_ms: self.now_ms, reason };
        self.step.persist.push(Change::PutTransaction(transaction.record()));
        self.move_to_ended(seq);
        self.answer_rollback_waits(seq);
        true
    }

    /// The name of a lock for people.
    pub(crate) fn lock_text(resource: &Arc<str>, table: &str, key: &str) -> String {
        format!("{resource} {table} {key}")
    }
}

pub(crate) fn unknown(xid: &str) -> Refusal {
    // What was received may be anything; only so much of it is worth repeating.
    let shown: String = xid.chars().take(atone_api::XID_MAX_BYTES).collect();
    Refusal::new(RefusalCode::UnknownXid, format!("there is no transaction {shown:?}"))
}

/// Why nothing can be done any more in a transaction that is not to be committed.
pub(crate) fn refusal_of(transaction: &Transaction) -> Refusal {
    let (xid, reason) = (&transaction.xid, transaction.reason());
    let is = match transaction.status() {
        Status::RollbackFailed => {
            let message = format!("the rollback of transaction {xid} has stopped (rollback_failed)");
            return Refusal::new(RefusalCode::Stopped, message);
        }
        Status::RolledBack => "was",
        _ => "is being",
    };
    let (code, why) = match reason {
        REASON_TIMEOUT => (RefusalCode::TimedOut, " by its timeout".to_owned()),
        "" => (RefusalCode::RolledBack, String::new()),
        reason => (RefusalCode::RolledBack, format!(": {reason}")),
    };
    Refusal::new(code, format!("transaction {xid} {is} rolled back{why}"))
}
