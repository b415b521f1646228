//! The streams of proxies: what begins and ends with one.

use std::sync::Arc;

use super::Core;
use crate::dispatch::Outstanding;
use crate::model::{BranchId, Checked, StreamId};
use crate::registrations::Registration;

impl Core {
    pub(super) fn stream_up(&mut self, stream: StreamId, resources: &[String]) -> Checked {
        let resources: Vec<Arc<str>> = resources.iter().map(|name| name.as_str().into()).collect();
        self.registrations.stream_up(stream);
        self.dispatcher.stream_up(stream, &resources);
        for resource in &resources {
            self.purge_resource(resource)?;
            self.dispatch(resource)?;
        }
        Ok(())
    }

    pub(super) fn stream_down(&mut self, stream: StreamId) {
        let lost = self.dispatcher.stream_down(stream);
        self.reports.forget_stream(stream);
        self.local_waits.forget_stream(stream);
        self.cancel_rollback_waits_of(stream);
        let mut waiters = Vec::new();
        let mut in_doubt = Vec::new();
        for registration in self.registrations.stream_down(stream) {
            match registration {
                Registration::Waiting(waiter) => {
                    let taken = self.take_waiting(waiter);
                    self.note(taken.map(drop));
                    waiters.push(waiter);
                }
                Registration::Branch(seq, id) => {
                    let orphaned = self.orphan(seq, id);
                    self.note(orphaned);
                    in_doubt.push(seq);
                }
            }
        }
        self.cancel_waits(&waiters);
        in_doubt.dedup();
        for seq in in_doubt {
            let checked = self.check_orphans(seq);
            self.note(checked);
        }
        for work in lost {
            let repeated = self.repeat_lost(work);
            self.note(repeated);
        }
    }

    /// No report about a branch can come any more on its stream.
    fn orphan(&mut self, seq: u64, id: BranchId) -> Checked {
        self.transactions.branch_mut(seq, id)?.take_reporter();
        Ok(())
    }

    /// Asks about orphaned branches, if that is what their transaction's commit waits for.
    fn check_orphans(&mut self, seq: u64) -> Checked {
        if self.transactions.get(seq)?.is_committing() {
            self.check_unknown(seq, true)?;
        }
        Ok(())
    }

    fn repeat_lost(&mut self, work: Outstanding) -> Checked {
        self.timers.cancel(work.timeout);
        self.repeat(work)
    }
}
