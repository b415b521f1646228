//! The core itself: its parts, and where an event goes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use atone_api::{BranchId, Xid};

use crate::census::Census;
use crate::config::Config;
use crate::dispatch::Dispatcher;
use crate::local_waits::LocalWaits;
use crate::locks::LockTable;
use crate::query::Totals;
use crate::record::{Change, Counters};
use crate::reports::Reports;
use crate::rollback_waits::RollbackWaits;
use crate::state::Transaction;
use crate::step::{Effect, Event, Refusal, Reply, ReplyTo, Step, StreamId};
use crate::timers::{Timer, TimerKey, Timers};

/// How many branch ids are set aside durably at a time.
pub(crate) const BRANCH_ID_BLOCK: u64 = 10_000;
/// A number that counts within one start of the coordinator has this many bits; above it stands the start's number.
pub(crate) const SERIAL_BITS: u32 = 40;
/// How many ended transactions one event forgets at most, so that no event takes long.
const FORGET_BATCH: usize = 100;

/// The coordinator without I/O. See the crate's documentation.
#[derive(Debug)]
pub struct Core {
    pub(crate) config: Config,
    /// What every XID of this coordinator starts with.
    pub(crate) prefix: String,
    pub(crate) now_ms: u64,
    /// Transactions with something left to do, by number.
    pub(crate) live: BTreeMap<u64, Transaction>,
    /// Ended ones, by number.
    pub(crate) ended: BTreeMap<u64, Transaction>,
    /// Ended ones by the time of their end.
    pub(crate) ended_order: BTreeSet<(u64, u64)>,
    pub(crate) locks: LockTable,
    /// Registrations that wait, by the lock table's number.
    pub(crate) waiting: HashMap<u64, WaitingRegister>,
    /// By stream: the registrations that could still be cancelled or have no outcome yet.
    pub(crate) streams: HashMap<StreamId, BTreeMap<u64, Registration>>,
    pub(crate) timers: Timers,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) purges: BTreeMap<(Arc<str>, Arc<str>), PurgeQueue>,
    pub(crate) reports: Reports,
    pub(crate) rollback_waits: RollbackWaits,
    pub(crate) local_waits: LocalWaits,
    pub(crate) census: Census,
    pub(crate) counters: Counters,
    pub(crate) next_seq: u64,
    pub(crate) next_branch: u64,
    pub(crate) next_work: u64,
    pub(crate) totals: Totals,
    pub(crate) step: Step,
}

/// A registration that waits for locks.
#[derive(Debug)]
pub(crate) struct WaitingRegister {
    pub(crate) seq: u64,
    pub(crate) stream: StreamId,
    pub(crate) id: u64,
    pub(crate) resource: Arc<str>,
    pub(crate) schema: Arc<str>,
    pub(crate) locks: Arc<crate::step::LockSet>,
    pub(crate) timeout: TimerKey,
    /// The last look at local waits that was asked for before it began to wait.
    pub(crate) since_look: u64,
}

/// What a registration of a stream has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registration {
    Waiting(u64),
    Branch(u64, BranchId),
}

/// Undo rows of one schema that are to be deleted.
#[derive(Debug, Default)]
pub(crate) struct PurgeQueue {
    pub(crate) branches: VecDeque<(u64, BranchId)>,
    /// One piece of work at a time.
    pub(crate) is_out: bool,
    pub(crate) timer: Option<TimerKey>,
    pub(crate) attempts: u32,
}

impl Core {
    /// Takes an event. `now_ms` is in milliseconds since 1970 and should not go back; where it does it is taken for the
    /// time of the last event.
    pub fn handle(&mut self, now_ms: u64, event: Event) -> Step {
        self.now_ms = self.now_ms.max(now_ms);
        // First what was due: a commit that comes after the timeout comes too late.
        while let Some(timer) = self.timers.pop_due(self.now_ms) {
            self.fire(timer);
        }
        match event {
            Event::Begin { to, name, timeout_ms } => self.begin(to, name, timeout_ms),
            Event::Get { to, xid } => self.get(to, &xid),
            Event::Commit { to, xid } => self.commit(to, &xid),
            Event::Rollback { to, xid, wait_ms } => self.rollback(to, &xid, wait_ms),
            Event::GiveUp { to } => self.give_up_rollback_wait(to),
            Event::Register { stream, id, request } => self.register(stream, id, request),
            Event::Cancel { stream, id } => self.cancel(stream, id),
            Event::KeepCurrent { to, xid, branch, by, dry_run } => {
                self.keep_current(to, &xid, branch, by, dry_run);
            }
            Event::Report { stream, xid, branch, outcome } => self.report(stream, &xid, branch, outcome),
            Event::WorkResult { stream, work_id, outcome, detail } => {
                self.work_result(stream, work_id, outcome, detail);
            }
            Event::StreamUp { stream, resources } => self.stream_up(stream, &resources),
            Event::LocalWaits { stream, report } => self.take_local_waits(stream, report),
            Event::StreamDown { stream } => self.stream_down(stream),
            Event::Tick => {}
        }
        self.forget_old();
        self.count_changed();
        std::mem::take(&mut self.step)
    }

    /// When the next [`Event::Tick`] is due, in milliseconds since 1970.
    pub fn next_at_ms(&self) -> Option<u64> {
        let forget =
            self.ended_order.first().map(|(ended, _)| ended.saturating_add(self.config.history_retention_ms));
        match (self.timers.next_at_ms(), forget) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Deadline { seq } => self.timed_out(seq),
            Timer::Check { seq } => self.check_unknown(seq, false),
            Timer::Waiter { waiter } => self.waiter_timed_out(waiter),
            Timer::RollbackWait { to } => self.rollback_wait_over(to),
            Timer::Retry { seq, branch } => self.retry_due(seq, branch),
            Timer::Reports => self.keep_reports(),
            Timer::Purge { resource, schema } => self.purge_due(resource, schema),
            Timer::Work { work_id } => self.work_timed_out(work_id),
        }
    }

    /// Forgets ended transactions that are too old or too many.
    pub(crate) fn forget_old(&mut self) {
        for _ in 0..FORGET_BATCH {
            let Some(&(ended_at_ms, seq)) = self.ended_order.first() else { return };
            let is_old = ended_at_ms.saturating_add(self.config.history_retention_ms) <= self.now_ms;
            if !is_old && self.ended.len() <= self.config.limits.max_history {
                return;
            }
            self.ended_order.pop_first();
            if let Some(gone) = self.ended.remove(&seq) {
                self.census.forget(gone.counted_as);
                let branches = gone.branches.keys().copied().collect();
                self.step.persist.push(Change::DropTransaction(seq, branches));
            }
        }
    }

    pub(crate) fn reply(&mut self, to: ReplyTo, reply: Result<Reply, Refusal>) {
        self.step.effects.push(Effect::Reply(to, reply));
    }

    pub(crate) fn persist(&mut self, change: Change) {
        self.step.persist.push(change);
    }

    pub(crate) fn xid_of(&self, seq: u64) -> Option<Xid> {
        self.live.get(&seq).or_else(|| self.ended.get(&seq)).map(|transaction| transaction.xid.clone())
    }

    /// The number in an XID of this coordinator.
    pub(crate) fn seq_of(&self, xid: &str) -> Option<u64> {
        let digits = xid.strip_prefix(&self.prefix)?;
        // Exactly one text for each number.
        let is_canonical =
            digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_canonical { u64::from_str_radix(digits, 16).ok() } else { None }
    }

    /// The number of a transaction that is known.
    pub(crate) fn find(&self, xid: &str) -> Option<u64> {
        let seq = self.seq_of(xid)?;
        (self.live.contains_key(&seq) || self.ended.contains_key(&seq)).then_some(seq)
    }
}
