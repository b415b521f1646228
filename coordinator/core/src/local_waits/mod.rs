//! Deadlocks of which one half is at a server: a session waits there for a row that another transaction has locked,
//! while that one waits here for a global lock. No server and no lock table sees such a cycle; it is put together from
//! what the proxies report.
//!
//! A wait at a server may be over before its report is here, so nobody is refused for a cycle that was only reported.
//! The proxies are asked to look once more. Looks are numbered. A cycle counts once each of its waits was there
//! before the same look was asked for. Each must also be still the same wait in an answer to it or to a later one.
//! All of them were then there when that look was asked for. Waits in the lock table were there all the time.
//!
//! Reports are short-lived. They end with their stream, and unless they are repeated.

pub(crate) mod graph;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{LocalWaitReport, StreamId};
use graph::{Edge, Graph, Wait};

/// How long a report is believed, in milliseconds. Proxies repeat it several times a second.
pub(crate) const REPORT_LIFE_MS: u64 = 5_000;
/// How many waits, and how many bound connections, are kept of one report.
const MAX_WAITS: usize = 1_000;
/// The longest name of a wait, in bytes.
const MAX_WAIT_BYTES: usize = 256;
/// The pause before the owners of unknown connections are asked for again, in milliseconds.
pub(crate) const ASK_AGAIN_MS: u64 = 1_000;

/// What the proxies have reported.
#[derive(Debug)]
pub(crate) struct LocalWaits {
    pub(crate) reports: BTreeMap<(StreamId, Arc<str>), Report>,
    /// The number of the last look that was asked for.
    last_look: u64,
    asked_at_ms: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    at_ms: u64,
    /// The last look asked for that it answers.
    look: u64,
    waits: BTreeMap<WaitKey, ReportedWait>,
    /// The transactions of connections.
    bound: BTreeMap<u64, ReportedBinding>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct WaitKey {
    seq: u64,
    connection_id: u64,
    blocker_id: u64,
    wait: String,
}

#[derive(Debug)]
struct ReportedWait {
    /// The last look that was asked for before the wait was reported.
    since_look: u64,
}

#[derive(Debug, Clone, Copy)]
struct ReportedBinding {
    seq: u64,
    at_ms: u64,
    look: u64,
}

impl LocalWaits {
    /// Looks are numbered from `first_look` on, above those of all earlier starts: their answers count for nothing.
    pub(crate) fn new(first_look: u64) -> Self {
        Self { reports: BTreeMap::new(), last_look: first_look, asked_at_ms: 0 }
    }

    /// The number of the last look that was asked for.
    pub(crate) fn last_look(&self) -> u64 {
        self.last_look
    }

    /// Another look is asked for: its number.
    pub(crate) fn next_look(&mut self, now_ms: u64) -> u64 {
        self.last_look += 1;
        self.asked_at_ms = now_ms;
        self.last_look
    }

    /// Whether the owners of unknown connections may be asked for again.
    pub(crate) fn may_ask(&self, now_ms: u64) -> bool {
        self.asked_at_ms.saturating_add(ASK_AGAIN_MS) <= now_ms
    }

    pub(crate) fn forget_stream(&mut self, stream: StreamId) {
        self.reports.retain(|(of, _), _| *of != stream);
    }

    /// Takes a stream's report about a resource in place of its last one.
    pub(crate) fn replace(
        &mut self,
        now_ms: u64,
        stream: StreamId,
        report: LocalWaitReport,
        seq_of: impl Fn(&str) -> Option<u64>,
    ) {
        self.reports.retain(|_, report| report.at_ms.saturating_add(REPORT_LIFE_MS) > now_ms);
        let LocalWaitReport { resource, look, waits, bound } = report;
        let look = look.min(self.last_look);
        let place = (stream, resource);
        let before = self.reports.remove(&place).unwrap_or_default();
        let mut report = Report { at_ms: now_ms, look, ..Report::default() };
        let waits = waits.into_iter().filter(|wait| wait.wait.len() <= MAX_WAIT_BYTES);
        for wait in waits.take(MAX_WAITS) {
            // A transaction that has ended meanwhile blocks no other.
            let Some(seq) = seq_of(&wait.xid) else { continue };
            let (connection_id, blocker_id) = (wait.connection_id, wait.blocker_id);
            let key = WaitKey { seq, connection_id, blocker_id, wait: wait.wait };
            let since_look = before.waits.get(&key).map_or(self.last_look, |known| known.since_look);
            report.waits.insert(key, ReportedWait { since_look });
        }
        if look <= before.look {
            // No look has asked for the owners of connections meanwhile: what was answered before holds.
            let is_alive =
                |(_, known): &(u64, ReportedBinding)| known.at_ms.saturating_add(REPORT_LIFE_MS) > now_ms;
            report.bound = before.bound.into_iter().filter(is_alive).collect();
        }
        for (connection_id, xid) in bound.into_iter().take(MAX_WAITS) {
            if let Some(seq) = seq_of(&xid) {
                report.bound.insert(connection_id, ReportedBinding { seq, at_ms: now_ms, look });
            }
        }
        if !report.waits.is_empty() || !report.bound.is_empty() {
            self.reports.insert(place, report);
        }
    }

    /// The transaction that a connection is bound to.
    fn binding(&self, resource: &Arc<str>, connection_id: u64) -> Option<ReportedBinding> {
        let of_resource = self.reports.iter().filter(|((_, of), _)| of == resource);
        let known = of_resource.filter_map(|(_, report)| report.bound.get(&connection_id));
        known.max_by_key(|known| known.look).copied()
    }

    /// The waits at servers of which both sides are known, by the transaction that waits.
    pub(crate) fn edges(&self) -> Graph {
        let mut edges = Graph::new();
        for ((_, resource), report) in &self.reports {
            for (key, reported) in &report.waits {
                // Asked for, and not answered yet.
                let Some(blocker) = self.binding(resource, key.blocker_id) else { continue };
                if blocker.seq == key.seq {
                    continue;
                }
                let (since_look, seen_look) = (reported.since_look, report.look.min(blocker.look));
                let wait = Wait::Local { resource: resource.clone(), since_look, seen_look };
                edges.entry(key.seq).or_default().push(Edge { to: blocker.seq, wait });
            }
        }
        edges
    }

    /// The connections that are waited for, by resource, and whether the owner of one of them is unknown.
    pub(crate) fn blockers(&self) -> (BTreeMap<Arc<str>, Vec<u64>>, bool) {
        let mut blockers: BTreeMap<Arc<str>, Vec<u64>> = BTreeMap::new();
        for ((_, resource), report) in &self.reports {
            let ids = report.waits.keys().map(|key| key.blocker_id);
            blockers.entry(resource.clone()).or_default().extend(ids);
        }
        blockers.retain(|_, ids| {
            ids.sort_unstable();
            ids.dedup();
            ids.truncate(MAX_WAITS);
            !ids.is_empty()
        });
        let has_unknown =
            blockers.iter().any(|(resource, ids)| ids.iter().any(|id| self.binding(resource, *id).is_none()));
        (blockers, has_unknown)
    }
}
