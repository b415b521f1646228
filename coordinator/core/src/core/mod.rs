//! The core itself: its parts, and the dispatch of events and timers.

mod decisions;
mod local_waits;
mod outcomes;
mod phase_two;
mod purge;
pub(crate) mod recover;
mod refusals;
mod registrations;
mod resolve;
mod rollback_waits;
mod streams;

use crate::config::Config;
use crate::counts::{StatusCounts, Totals};
use crate::dispatch::Dispatcher;
use crate::local_waits::LocalWaits;
use crate::locks::LockTable;
use crate::model::{Change, Checked, Counters, ReplyTo, Violation};
use crate::purges::Purges;
use crate::registrations::Registrations;
use crate::reports::Reports;
use crate::rollback_waits::RollbackWaits;
use crate::step::{Effect, Event, Refusal, Reply, Step};
use crate::timers::{Timer, Timers};
use crate::transactions::Transactions;

/// How many branch ids are reserved durably at a time.
const BRANCH_ID_BLOCK: u64 = 10_000;
/// The bits of a number that count within one start of the coordinator. The bits above hold the start's number.
const SERIAL_BITS: u32 = 40;
/// How many ended transactions one event forgets at most, so that no event takes long.
const FORGET_BATCH: usize = 100;

/// The coordinator without I/O. See the crate's documentation.
#[derive(Debug)]
pub struct Core {
    config: Config,
    /// What every XID of this coordinator starts with.
    prefix: String,
    now_ms: u64,
    pub(crate) transactions: Transactions,
    pub(crate) locks: LockTable,
    registrations: Registrations,
    timers: Timers,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) purges: Purges,
    reports: Reports,
    pub(crate) rollback_waits: RollbackWaits,
    local_waits: LocalWaits,
    pub(crate) status_counts: StatusCounts,
    pub(crate) counters: Counters,
    next_seq: u64,
    next_branch: u64,
    next_work: u64,
    pub(crate) totals: Totals,
    /// What the event that is being handled has led to so far.
    step: Step,
}

impl Core {
    /// Takes an event. `now_ms` is in milliseconds since 1970 and should not go back; if it does, it is taken for the
    /// time of the last event.
    pub fn handle(&mut self, now_ms: u64, event: Event) -> Step {
        self.now_ms = self.now_ms.max(now_ms);
        // Due timers first: a commit that comes after the timeout comes too late.
        while let Some(timer) = self.timers.pop_due(self.now_ms) {
            let fired = self.fire(timer);
            self.note(fired);
        }
        let taken = self.take_event(event);
        self.note(taken);
        self.forget_old();
        self.count_changed();
        self.end_step()
    }

    /// When the next [`Event::Tick`] is due, in milliseconds since 1970.
    pub fn next_at_ms(&self) -> Option<u64> {
        let ended_at_ms = self.transactions.first_ended_at_ms();
        let forget_at_ms = ended_at_ms.map(|ended| ended.saturating_add(self.config.history_retention_ms));
        [self.timers.next_at_ms(), forget_at_ms].into_iter().flatten().min()
    }

    fn take_event(&mut self, event: Event) -> Checked {
        match event {
            Event::Begin { to, name, timeout_ms } => self.begin(to, name, timeout_ms),
            Event::Get { to, xid } => self.get(to, &xid),
            Event::Commit { to, xid } => return self.commit(to, &xid),
            Event::Rollback { to, xid, wait_ms } => return self.rollback(to, &xid, wait_ms),
            Event::CancelRollbackWait { to } => self.cancel_rollback_wait(to),
            Event::Register { stream, id, request } => return self.register(stream, id, request),
            Event::Cancel { stream, id } => return self.cancel(stream, id),
            Event::KeepCurrent { to, xid, branch, by, dry_run } => {
                return self.keep_current(to, &xid, branch, by, dry_run);
            }
            Event::Report { stream, xid, branch, outcome } => {
                return self.report(stream, &xid, branch, outcome);
            }
            Event::WorkResult { stream, work_id, outcome, detail } => {
                return self.work_result(stream, work_id, outcome, detail);
            }
            Event::StreamUp { stream, resources } => return self.stream_up(stream, &resources),
            Event::LocalWaits { stream, report } => return self.take_local_waits(stream, report),
            Event::StreamDown { stream } => self.stream_down(stream),
            Event::Tick => {}
        }
        Ok(())
    }

    fn fire(&mut self, timer: Timer) -> Checked {
        match timer {
            Timer::Deadline { seq } => self.timed_out(seq),
            Timer::Check { seq } => self.check_unknown(seq, false),
            Timer::Waiter { waiter } => self.waiter_timed_out(waiter),
            Timer::RollbackWait { to } => self.rollback_wait_over(to),
            Timer::Retry { seq, branch } => self.retry_due(seq, branch),
            Timer::Reports => {
                self.persist_reports();
                Ok(())
            }
            Timer::Purge { resource, schema } => self.purge_due(&(resource, schema)),
            Timer::Work { work_id } => self.work_timed_out(work_id),
        }
    }

    /// Forgets ended transactions that are too old or too many.
    fn forget_old(&mut self) {
        for _ in 0..FORGET_BATCH {
            let Some(ended_at_ms) = self.transactions.first_ended_at_ms() else { return };
            let is_old = ended_at_ms.saturating_add(self.config.history_retention_ms) <= self.now_ms;
            if !is_old && self.transactions.ended().len() <= self.config.limits.max_history {
                return;
            }
            let Some(forgotten) = self.transactions.forget_first() else {
                return self.violate("a transaction is to be forgotten, and is not among the ended ones");
            };
            self.status_counts.remove(forgotten.counted_as());
            let branches = forgotten.branches().keys().copied().collect();
            self.persist(Change::DropTransaction(forgotten.seq, branches));
        }
    }

    /// Counts a transaction as it is now.
    fn count(&mut self, seq: u64) {
        // One that this step has forgotten is not counted any more.
        if let Some(transaction) = self.transactions.known_mut(seq) {
            self.status_counts.count(transaction);
        }
    }

    /// Counts what this step has changed. A status changes with a durable record, except for `committing`, which
    /// `start_commit` counts.
    fn count_changed(&mut self) {
        let seq_of = |change: &Change| match change {
            Change::PutTransaction(record) => Some(record.seq),
            Change::PutBranch(record) => Some(record.seq),
            _ => None,
        };
        let mut changed: Vec<u64> = self.step.persist.iter().filter_map(seq_of).collect();
        changed.dedup();
        for seq in changed {
            self.count(seq);
        }
    }

    fn end_step(&mut self) -> Step {
        self.step.violations.extend(self.locks.take_violations());
        self.totals.invariant_violations += self.step.violations.len() as u64;
        std::mem::take(&mut self.step)
    }

    fn reply(&mut self, to: ReplyTo, reply: Result<Reply, Refusal>) {
        self.step.effects.push(Effect::Reply(to, reply));
    }

    fn persist(&mut self, change: Change) {
        self.step.persist.push(change);
    }

    /// Reports an invariant that does not hold, and goes on.
    fn note(&mut self, checked: Checked) {
        if let Err(violation) = checked {
            self.step.violations.push(violation);
        }
    }

    fn violate(&mut self, text: &str) {
        self.note(Err(Violation::new(text)));
    }

    /// The number in an XID of this coordinator.
    pub(crate) fn seq_of(&self, xid: &str) -> Option<u64> {
        seq_of(&self.prefix, xid)
    }
}

fn seq_of(prefix: &str, xid: &str) -> Option<u64> {
    let digits = xid.strip_prefix(prefix)?;
    // Exactly one text for each number.
    let is_canonical = digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_canonical { u64::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests;
