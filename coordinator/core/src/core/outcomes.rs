//! Outcomes of local transactions: reports, their durability, and what follows from them.
//!
//! A report is durable before a proxy forgets it. Reports are collected for `report_delay_ms` for that.

use super::Core;
use crate::model::{BranchId, BranchState, BranchWork, Checked, Finished, Outcome, StreamId};
use crate::reports::Reports;
use crate::step::Effect;
use crate::timers::Timer;

impl Core {
    pub(super) fn report(
        &mut self,
        stream: StreamId,
        xid: &str,
        branch: BranchId,
        outcome: Outcome,
    ) -> Checked {
        let seq = self.seq_of(xid).filter(|seq| self.transactions.live_branch(*seq, branch).is_some());
        // A report about a transaction or a branch that is unknown, or has ended, says nothing new.
        if let Some(seq) = seq {
            match outcome {
                Outcome::Aborted => self.aborted(seq, branch)?,
                Outcome::Committed => self.committed(seq, branch)?,
            }
            if self.is_commit_volatile(seq, branch) {
                self.reports.confirm_later(stream, branch);
                return Ok(());
            }
        }
        // What it changed is in this step.
        self.step.effects.push(Effect::Confirm(stream, vec![branch]));
        Ok(())
    }

    /// A branch is known to have committed locally.
    pub(super) fn committed(&mut self, seq: u64, id: BranchId) -> Checked {
        self.end_reporting(seq, id)?;
        let is_committing = self.transactions.get(seq)?.is_committing();
        let branch = self.transactions.branch_mut(seq, id)?;
        // One that was undone already, or can't be, stays so.
        if !branch.set_committed() {
            return Ok(());
        }
        let is_volatile = branch.is_commit_volatile();
        if is_committing {
            let work = branch.take_work();
            self.withdraw(work)?;
            self.commit_if_known(seq)?;
        }
        if is_volatile && self.reports.add(seq, id) {
            let at_ms = self.now_ms.saturating_add(self.config.report_delay_ms);
            self.timers.set(at_ms, Timer::Reports);
        }
        Ok(())
    }

    /// A branch is known to have been rolled back locally, before the decision or while it is carried out.
    pub(super) fn aborted(&mut self, seq: u64, id: BranchId) -> Checked {
        self.end_reporting(seq, id)?;
        let branch = self.transactions.branch(seq, id)?;
        // A branch that is known to have committed can't have aborted: the first word holds.
        if branch.is_committed() || branch.state() != BranchState::Registered {
            return Ok(());
        }
        let transaction = self.transactions.get_mut(seq)?;
        if transaction.is_rolling_back() {
            return self.branch_undone(seq, id);
        }
        let finished = transaction.abort_branch(id)?;
        self.finish_branch(seq, finished)?;
        self.commit_if_known(seq)?;
        Ok(())
    }

    /// Carries out what a branch leaves that was undone or aborted.
    pub(super) fn finish_branch(&mut self, seq: u64, finished: Finished) -> Checked {
        let Finished { changes, resource, schema: _, locks, work } = finished;
        self.step.persist.extend(changes);
        if let Some(locks) = locks {
            let woken = self.locks.release(seq, &resource, &locks);
            self.finish_waits(woken);
        }
        self.withdraw(work)
    }

    /// Takes work back that was queued or sent, or pauses. What a proxy answers to it is ignored.
    pub(super) fn withdraw(&mut self, work: BranchWork) -> Checked {
        match work {
            // The queue's entry is skipped when its turn comes.
            BranchWork::None | BranchWork::Queued(_) => Ok(()),
            BranchWork::Pausing(timer) => {
                self.timers.cancel(timer);
                Ok(())
            }
            BranchWork::Sent(work_id) => {
                let work = self.dispatcher.take(work_id)?;
                self.timers.cancel(work.timeout);
                self.dispatch(&work.resource)
            }
        }
    }

    /// Makes the reported outcomes durable, and confirms them to the proxies.
    pub(super) fn persist_reports(&mut self) {
        let Reports { committed, unconfirmed, .. } = self.reports.take();
        for (seq, id) in committed {
            // Others are durable already, or no longer needed.
            if self.is_commit_volatile(seq, id)
                && let Some(branch) = self.transactions.live_branch_mut(seq, id)
            {
                let change = branch.persist();
                self.persist(change);
            }
        }
        for (stream, branches) in unconfirmed {
            self.step.effects.push(Effect::Confirm(stream, branches));
        }
    }

    /// Whether a restart would forget that a branch committed. A decision to commit says the same.
    fn is_commit_volatile(&self, seq: u64, id: BranchId) -> bool {
        let transaction =
            self.transactions.live().get(&seq).filter(|transaction| !transaction.is_committed());
        transaction.and_then(|transaction| transaction.branch(id)).is_some_and(|b| b.is_commit_volatile())
    }

    /// No report about this branch is expected any more.
    fn end_reporting(&mut self, seq: u64, id: BranchId) -> Checked {
        match self.transactions.branch_mut(seq, id)?.take_reporter() {
            Some((stream, id)) => self.registrations.forget(stream, id),
            None => Ok(()),
        }
    }
}
