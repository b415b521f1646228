//! Calls that wait until a rollback is done: until every branch is undone, one of them can't be, or their time is over.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::config::ROLLBACK_WAIT_MAX_MS;
use crate::core::Core;
use crate::state::State;
use crate::step::{Refusal, RefusalCode, ReplyTo, StreamId};
use crate::timers::{Timer, TimerKey};

/// Who waits, and for which transaction.
#[derive(Debug, Default)]
pub(crate) struct RollbackWaits {
    calls: BTreeMap<ReplyTo, (u64, TimerKey)>,
    by_transaction: BTreeSet<(u64, ReplyTo)>,
}

impl RollbackWaits {
    fn insert(&mut self, to: ReplyTo, seq: u64, timer: TimerKey) {
        self.calls.insert(to, (seq, timer));
        self.by_transaction.insert((seq, to));
    }

    fn remove(&mut self, to: ReplyTo) -> Option<(u64, TimerKey)> {
        let (seq, timer) = self.calls.remove(&to)?;
        self.by_transaction.remove(&(seq, to));
        Some((seq, timer))
    }

    fn of_transaction(&self, seq: u64) -> Vec<ReplyTo> {
        let from = ReplyTo::Stream(StreamId(0), 0);
        let range = (seq, from)..=(seq, ReplyTo::Call(u64::MAX));
        self.by_transaction.range(range).map(|(_, to)| *to).collect()
    }

    fn of_stream(&self, stream: StreamId) -> Vec<ReplyTo> {
        let range: RangeInclusive<ReplyTo> = ReplyTo::Stream(stream, 0)..=ReplyTo::Stream(stream, u64::MAX);
        self.calls.range(range).map(|(to, _)| *to).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }
}

impl Core {
    /// Whether a rollback may be answered there, and so late.
    pub(crate) fn check_rollback_wait(&self, to: ReplyTo, wait_ms: Option<u64>) -> Result<(), Refusal> {
        if let Some(wait_ms) = wait_ms.filter(|wait_ms| *wait_ms > ROLLBACK_WAIT_MAX_MS) {
            let message = format!("a wait of {wait_ms} ms is longer than {ROLLBACK_WAIT_MAX_MS} ms");
            return Err(Refusal::new(RefusalCode::Invalid, message));
        }
        if self.rollback_waits.calls.contains_key(&to) {
            let message = "a rollback with this message id waits for its answer already";
            return Err(Refusal::new(RefusalCode::Invalid, message));
        }
        Ok(())
    }

    /// Has a call wait where there is something to wait for; whether it does.
    pub(crate) fn wait_for_rollback(&mut self, to: ReplyTo, seq: u64, wait_ms: u64) -> bool {
        let is_rolling = self
            .live
            .get(&seq)
            .is_some_and(|transaction| matches!(transaction.state, State::RollingBack { .. }));
        if !is_rolling || wait_ms == 0 || self.rollback_waits.len() >= self.config.limits.max_rollback_waiters
        {
            return false;
        }
        let timer = self.timers.set(self.now_ms.saturating_add(wait_ms), Timer::RollbackWait { to });
        self.rollback_waits.insert(to, seq, timer);
        true
    }

    /// The rollback is done, or one of its branches can't be undone.
    pub(crate) fn answer_rollback_waits(&mut self, seq: u64) {
        for to in self.rollback_waits.of_transaction(seq) {
            self.give_up_rollback_wait(to);
            let reply = self.rollback_reply(seq);
            self.reply(to, reply);
        }
    }

    pub(crate) fn rollback_wait_over(&mut self, to: ReplyTo) {
        if let Some((seq, _)) = self.rollback_waits.remove(to) {
            let reply = self.rollback_reply(seq);
            self.reply(to, reply);
        }
    }

    /// Nobody is there any more for the answer.
    pub(crate) fn give_up_rollback_wait(&mut self, to: ReplyTo) {
        if let Some((_, timer)) = self.rollback_waits.remove(to) {
            self.timers.cancel(timer);
        }
    }

    pub(crate) fn give_up_rollback_waits_of(&mut self, stream: StreamId) {
        for to in self.rollback_waits.of_stream(stream) {
            self.give_up_rollback_wait(to);
        }
    }
}
