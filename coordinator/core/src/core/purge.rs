//! Deleting undo rows that are not needed any more.

use std::sync::Arc;

use super::Core;
use super::phase_two::backoff_ms;
use crate::dispatch::Job;
use crate::model::{BranchId, Checked, Leftover, Work, WorkBranch, WorkKind};
use crate::purges::PurgeKey;
use crate::timers::Timer;

impl Core {
    /// The undo row of a branch is to be deleted.
    pub(super) fn queue_purge(&mut self, key: PurgeKey, seq: u64, id: BranchId) -> Checked {
        let max_batch = self.config.limits.max_purge_batch;
        let queue = self.purges.entry(&key);
        queue.branches.push_back((seq, id));
        let is_idle = !queue.is_in_flight;
        if is_idle && queue.attempts == 0 && queue.branches.len() >= max_batch {
            return self.purge_due(&key);
        }
        if is_idle && queue.timer.is_none() {
            let at_ms = self.now_ms + self.config.purge_delay_ms;
            queue.timer = Some(self.timers.set(at_ms, purge_timer(&key)));
        }
        Ok(())
    }

    /// Has a batch of undo rows deleted, if a proxy is there for it. Else that goes on when one says Hello.
    pub(super) fn purge_due(&mut self, key: &PurgeKey) -> Checked {
        let (resource, schema) = key;
        let queue = self.purges.get_mut(key)?;
        if let Some(timer) = queue.timer.take() {
            self.timers.cancel(timer);
        }
        if queue.is_in_flight || queue.branches.is_empty() || !self.dispatcher.has_stream(resource) {
            return Ok(());
        }
        let count = queue.branches.len().min(self.config.limits.max_purge_batch);
        let branches = queue.branches.drain(..count).collect();
        queue.is_in_flight = true;
        self.dispatcher.enqueue(resource, Job::Purge { schema: schema.clone(), branches });
        self.dispatch(resource)
    }

    /// A proxy for this resource appeared.
    pub(super) fn purge_resource(&mut self, resource: &Arc<str>) -> Checked {
        for key in self.purges.of_resource(resource) {
            // It may have ended meanwhile: the history had forgotten all that it was about.
            if self.purges.contains(&key) {
                self.purge_due(&key)?;
            }
        }
        Ok(())
    }

    /// The work that a queue's entry stands for. None if the history has forgotten all of its transactions.
    pub(super) fn purge_work(
        &self,
        work_id: u64,
        resource: &Arc<str>,
        schema: &Arc<str>,
        branches: &[(u64, BranchId)],
    ) -> Option<Work> {
        let known = branches.iter().filter_map(|(seq, id)| {
            let transaction = self.transactions.known(*seq)?;
            let leftover = if transaction.is_committed() { Leftover::Record } else { Leftover::Restored };
            Some(WorkBranch { xid: transaction.xid.clone(), id: *id, leftover })
        });
        let branches: Vec<WorkBranch> = known.collect();
        let (resource, schema) = (resource.clone(), schema.clone());
        (!branches.is_empty()).then_some(Work { work_id, kind: WorkKind::Purge, resource, schema, branches })
    }

    /// A queue's work is over: done, or in vain.
    pub(super) fn purged(
        &mut self,
        key: &PurgeKey,
        branches: Vec<(u64, BranchId)>,
        is_done: bool,
    ) -> Checked {
        let queue = self.purges.get_mut(key)?;
        queue.is_in_flight = false;
        if is_done {
            queue.attempts = 0;
        } else {
            queue.attempts = queue.attempts.saturating_add(1);
            for branch in branches.iter().rev() {
                queue.branches.push_front(*branch);
            }
        }
        if queue.branches.is_empty() {
            self.purges.remove(key);
        } else if queue.timer.is_none() {
            let pause_ms = match queue.attempts {
                0 if queue.branches.len() >= self.config.limits.max_purge_batch => 0,
                0 => self.config.purge_delay_ms,
                attempts => backoff_ms(attempts, self.config.rollback_retry_interval_ms),
            };
            queue.timer = Some(self.timers.set(self.now_ms.saturating_add(pause_ms), purge_timer(key)));
        }
        if is_done {
            for (seq, id) in branches {
                let purged = self.branch_purged(seq, id);
                self.note(purged);
            }
        }
        Ok(())
    }

    fn branch_purged(&mut self, seq: u64, id: BranchId) -> Checked {
        // The history may have forgotten it meanwhile.
        let Some(transaction) = self.transactions.known_mut(seq) else { return Ok(()) };
        let (changes, is_ended) = transaction.purge_branch(id, self.now_ms)?;
        self.step.persist.extend(changes);
        if is_ended {
            self.end(seq)?;
        }
        Ok(())
    }
}

fn purge_timer((resource, schema): &PurgeKey) -> Timer {
    Timer::Purge { resource: resource.clone(), schema: schema.clone() }
}
