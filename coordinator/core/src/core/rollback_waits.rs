//! Calls that wait until a rollback is done: until every branch is undone, one of them can't be, or their time is over.

use super::Core;
use super::refusals::invalid;
use crate::config::MAX_ROLLBACK_WAIT_MS;
use crate::model::{Checked, ReplyTo, StreamId, Transaction, Violation};
use crate::step::Refusal;
use crate::timers::Timer;

impl Core {
    /// Whether a rollback may be answered there, and so late.
    pub(super) fn check_rollback_wait(&self, to: ReplyTo, wait_ms: Option<u64>) -> Result<(), Refusal> {
        if let Some(wait_ms) = wait_ms.filter(|wait_ms| *wait_ms > MAX_ROLLBACK_WAIT_MS) {
            return Err(invalid(format!("a wait of {wait_ms} ms is longer than {MAX_ROLLBACK_WAIT_MS} ms")));
        }
        if self.rollback_waits.contains(to) {
            return Err(invalid("a rollback with this message id waits for its answer already"));
        }
        Ok(())
    }

    /// Has a call wait if there is something to wait for: whether it does.
    pub(super) fn wait_for_rollback(&mut self, to: ReplyTo, seq: u64, wait_ms: u64) -> bool {
        let is_rolling_back = self.transactions.live().get(&seq).is_some_and(Transaction::is_rolling_back);
        let has_room = self.rollback_waits.len() < self.config.limits.max_rollback_waiters;
        if !is_rolling_back || wait_ms == 0 || !has_room {
            return false;
        }
        let timer = self.timers.set(self.now_ms.saturating_add(wait_ms), Timer::RollbackWait { to });
        self.rollback_waits.insert(to, seq, timer);
        true
    }

    /// The rollback is done, or one of its branches can't be undone.
    pub(super) fn answer_rollback_waits(&mut self, seq: u64) -> Checked {
        for to in self.rollback_waits.of_transaction(seq) {
            self.cancel_rollback_wait(to);
            self.reply_to_rollback(to, seq)?;
        }
        Ok(())
    }

    pub(super) fn rollback_wait_over(&mut self, to: ReplyTo) -> Checked {
        let waiting = self.rollback_waits.remove(to);
        let (seq, _) = waiting
            .ok_or_else(|| Violation::new(format!("the wait of {to:?} for a rollback is over twice")))?;
        self.reply_to_rollback(to, seq)
    }

    /// The caller is gone. Its answer may have been sent already, or it may never have waited.
    pub(super) fn cancel_rollback_wait(&mut self, to: ReplyTo) {
        if let Some((_, timer)) = self.rollback_waits.remove(to) {
            self.timers.cancel(timer);
        }
    }

    pub(super) fn cancel_rollback_waits_of(&mut self, stream: StreamId) {
        for to in self.rollback_waits.of_stream(stream) {
            self.cancel_rollback_wait(to);
        }
    }
}
