//! What proxies report of local transactions, and that it is durable before a proxy forgets it.
//!
//! Nobody waits for that. Outcomes are collected for `report_delay_ms`, and those of transactions that were committed
//! meanwhile need no write: the decision says the same.

use std::collections::BTreeMap;

use atone_api::BranchId;

use crate::core::Core;
use crate::state::{Branch, State, Transaction};
use crate::step::{Effect, Outcome, StreamId};
use crate::timers::{Timer, TimerKey};

/// Reports that are not durable yet.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    /// Branches, by transaction and id, of which it is known that they committed.
    unkept: Vec<(u64, BranchId)>,
    /// Which streams wait to be told that theirs are durable.
    unconfirmed: BTreeMap<StreamId, Vec<BranchId>>,
    timer: Option<TimerKey>,
}

impl Reports {
    /// A stream ended: its proxy reports again on the next one.
    pub(crate) fn forget_stream(&mut self, stream: StreamId) {
        self.unconfirmed.remove(&stream);
    }
}

impl Core {
    pub(crate) fn report(&mut self, stream: StreamId, xid: &str, branch: BranchId, outcome: Outcome) {
        // One about an ended or unknown transaction says nothing new.
        if let Some(seq) = self.seq_of(xid) {
            match outcome {
                Outcome::Aborted => self.aborted(seq, branch),
                Outcome::Committed => self.committed(seq, branch),
            }
            let is_unkept = self.live.get(&seq).is_some_and(|transaction| {
                transaction.branches.get(&branch).is_some_and(|found| is_unkept(transaction, found))
            });
            if is_unkept {
                self.reports.unconfirmed.entry(stream).or_default().push(branch);
                return;
            }
        }
        // What it changed is in this step.
        self.step.effects.push(Effect::Confirm(stream, vec![branch]));
    }

    /// Notes that a branch is known to have committed, to be made durable with others.
    pub(crate) fn keep_report_later(&mut self, seq: u64, id: BranchId) {
        self.reports.unkept.push((seq, id));
        if self.reports.timer.is_none() {
            let at_ms = self.now_ms.saturating_add(self.config.report_delay_ms);
            self.reports.timer = Some(self.timers.set(at_ms, Timer::Reports));
        }
    }

    /// Makes the reported outcomes durable, and tells the proxies that they are.
    pub(crate) fn keep_reports(&mut self) {
        self.reports.timer = None;
        for (seq, id) in std::mem::take(&mut self.reports.unkept) {
            let Some(transaction) = self.live.get_mut(&seq) else { continue };
            if !transaction.branches.get(&id).is_some_and(|branch| is_unkept(transaction, branch)) {
                continue;
            }
            if let Some(branch) = transaction.branches.get_mut(&id) {
                self.step.persist.push(branch.put(id, seq));
            }
        }
        for (stream, branches) in std::mem::take(&mut self.reports.unconfirmed) {
            self.step.effects.push(Effect::Confirm(stream, branches));
        }
    }
}

/// Whether a restart would forget that the branch committed.
fn is_unkept(transaction: &Transaction, branch: &Branch) -> bool {
    branch.is_committed && !branch.is_commit_kept && !matches!(transaction.state, State::Committed { .. })
}
