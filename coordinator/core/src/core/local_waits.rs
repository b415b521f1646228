//! Ends deadlocks of which one half is at a server. How they are found is in [`crate::local_waits`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::refusals::lock_text;
use super::{Core, seq_of};
use crate::local_waits::graph::{Cycle, Edge, Graph, Wait, cycle_in};
use crate::model::{Checked, LocalWaitReport, StreamId, Violation, WaitLook, Xid};
use crate::step::{Effect, Refusal, RefusalCode};

/// How many waits of a cycle its message names.
const MAX_NAMED: usize = 8;

impl Core {
    pub(super) fn take_local_waits(&mut self, stream: StreamId, report: LocalWaitReport) -> Checked {
        // Only a proxy that serves the resource can know.
        if !self.dispatcher.streams_of(&report.resource).contains(&stream) {
            return Ok(());
        }
        let live = self.transactions.live();
        let live_seq_of = |xid: &str| seq_of(&self.prefix, xid).filter(|seq| live.contains_key(seq));
        self.local_waits.replace(self.now_ms, stream, report, live_seq_of);
        let is_look_needed = self.end_local_deadlocks()?;
        let (blockers, has_unknown) = self.local_waits.blockers();
        if is_look_needed || (has_unknown && self.local_waits.may_ask(self.now_ms)) {
            self.ask_for_look(blockers);
        }
        Ok(())
    }

    /// Refuses registrations that are part of a deadlock which a look has confirmed. Whether another one needs a look.
    fn end_local_deadlocks(&mut self) -> Checked<bool> {
        while let Some(cycle) = cycle_in(&self.wait_graph()) {
            if cycle.since_look() >= cycle.seen_look() {
                return Ok(cycle.since_look() >= self.local_waits.last_look());
            }
            self.end_cycle(&cycle)?;
        }
        Ok(false)
    }

    /// All waits that begin, directly or through others, at those which are known from servers.
    fn wait_graph(&self) -> Graph {
        let mut at_servers = self.local_waits.edges();
        let mut graph = Graph::new();
        let mut left: Vec<u64> = at_servers.keys().copied().collect();
        while let Some(seq) = left.pop() {
            if graph.contains_key(&seq) {
                continue;
            }
            let mut edges = at_servers.remove(&seq).unwrap_or_default();
            let transaction = self.transactions.live().get(&seq);
            let waiters = transaction.into_iter().flat_map(|transaction| &transaction.waiting);
            let waiting =
                waiters.filter_map(|waiter| Some((*waiter, self.registrations.since_look(*waiter)?)));
            for (waiter, since_look) in waiting {
                let wait = Wait::Global { waiter, since_look };
                let others = self.locks.waits_for(waiter);
                edges.extend(others.into_iter().map(|to| Edge { to, wait: wait.clone() }));
            }
            left.extend(edges.iter().map(|edge| edge.to));
            graph.insert(seq, edges);
        }
        graph
    }

    fn end_cycle(&mut self, cycle: &Cycle) -> Checked {
        let victim = cycle.victim();
        let victim = victim.ok_or_else(|| Violation::new("a deadlock has no registration in it"))?;
        let conflict = self.locks.conflict_of(victim);
        let admitted = self.take_waiting(victim)?;
        let lock = conflict.as_ref().map(|c| lock_text(&admitted.resource, &c.table, &c.key));
        let holder = conflict.and_then(|conflict| self.xid_of(conflict.holder));
        let message = format!(
            "the row lock {:?} is not to be had (deadlock): {}: run it again",
            lock.as_deref().unwrap_or_default(),
            self.cycle_text(cycle)
        );
        self.totals.lock_deadlocks += 1;
        let refusal = Refusal { code: RefusalCode::LockDeadlock, message, holder, lock };
        self.reply(admitted.reply_to(), Err(refusal));
        self.cancel_waits(&[victim]);
        Ok(())
    }

    fn cycle_text(&self, cycle: &Cycle) -> String {
        let name = |seq| self.xid_of(seq).as_ref().map_or_else(String::new, Xid::to_string);
        let mut text = String::new();
        for (n, (seq, edge)) in cycle.0.iter().take(MAX_NAMED).enumerate() {
            let then = if n == 0 { "" } else { ", " };
            // Writing to a String does not fail.
            let _ = write!(text, "{then}{} waits for {}", name(*seq), name(edge.to));
            if let Wait::Local { resource, .. } = &edge.wait {
                let _ = write!(text, " at the server of {resource}");
            }
        }
        if cycle.0.len() > MAX_NAMED {
            text.push_str(", and so on");
        }
        text
    }

    fn ask_for_look(&mut self, blockers: BTreeMap<Arc<str>, Vec<u64>>) {
        let number = self.local_waits.next_look(self.now_ms);
        for (resource, connection_ids) in blockers {
            for stream in self.dispatcher.streams_of(&resource) {
                let (resource, connection_ids) = (resource.clone(), connection_ids.clone());
                let look = WaitLook { number, resource, connection_ids };
                self.step.effects.push(Effect::Look(*stream, look));
            }
        }
    }
}

#[cfg(test)]
mod tests;
