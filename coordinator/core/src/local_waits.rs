//! Deadlocks of which one half is at a server: a session waits there for a row that another transaction has locked, while
//! that one waits here for a global lock. No server and no lock table sees such a cycle; it is put together from what the
//! proxies tell.
//!
//! A wait at a server may be over before its message is here, so no one is refused for a cycle that was only told. What was
//! told is looked at once more: the looks are numbered, and a cycle counts once each of its waits was there before one and
//! the same look was asked for, and still is the same wait in an answer to it or to a later one. All of them were then there
//! at the moment of that question. What waits here was there all the time.
//!
//! What is told has a short life. It ends with its stream, and when it is not told again.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use atone_api::Xid;

use crate::core::{Core, SERIAL_BITS};
use crate::step::{Effect, LocalWaitReport, Refusal, RefusalCode, ReplyTo, StreamId, WaitLook};

/// How long a report is believed, in milliseconds. Proxies repeat it several times a second.
const REPORT_LIFE_MS: u64 = 5_000;
/// How many waits, and how many bound connections, are kept of one report.
const WAITS_MAX: usize = 1_000;
/// The longest name of a wait, in bytes.
const WAIT_MAX_BYTES: usize = 256;
/// The pause before connections that nobody knows are asked for again, in milliseconds.
const ASK_AGAIN_MS: u64 = 1_000;
/// How many waits of a cycle its message names.
const NAMED_MAX: usize = 8;

/// What the proxies have told.
#[derive(Debug)]
pub(crate) struct LocalWaits {
    reports: BTreeMap<(StreamId, Arc<str>), Report>,
    /// The number of the last look that was asked for.
    last_look: u64,
    asked_at_ms: u64,
}

#[derive(Debug, Default)]
struct Report {
    at_ms: u64,
    /// The last look asked for that it answers.
    look: u64,
    waits: BTreeMap<WaitKey, ToldWait>,
    /// The transactions of connections.
    bound: BTreeMap<u64, ToldBinding>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct WaitKey {
    seq: u64,
    connection_id: u64,
    blocker_id: u64,
    wait: String,
}

#[derive(Debug)]
struct ToldWait {
    /// The last look that was asked for before the wait was told.
    since_look: u64,
}

#[derive(Debug, Clone, Copy)]
struct ToldBinding {
    seq: u64,
    at_ms: u64,
    look: u64,
}

/// That one transaction waits for another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edge {
    to: u64,
    by: By,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    /// It waits here, under the lock table's number.
    Register { waiter: u64, since_look: u64 },
    /// It waits at this resource's server.
    Server { resource: Arc<str>, since_look: u64, seen_look: u64 },
}

impl Edge {
    fn waiter(&self) -> Option<u64> {
        match self.by {
            By::Register { waiter, .. } => Some(waiter),
            By::Server { .. } => None,
        }
    }
}

/// Who waits for whom, by the transactions' numbers.
type Graph = HashMap<u64, Vec<Edge>>;

/// Waits that end where they begin, each with the transaction that waits. One of them at least is a registration.
#[derive(Debug, PartialEq, Eq)]
struct Cycle(Vec<(u64, Edge)>);

impl Cycle {
    /// The last look that was asked for before all of it was there.
    fn since_look(&self) -> u64 {
        let since = |edge: &Edge| match edge.by {
            By::Register { since_look, .. } | By::Server { since_look, .. } => since_look,
        };
        self.0.iter().map(|(_, edge)| since(edge)).max().unwrap_or(u64::MAX)
    }

    /// The last look that has seen all of it that is at servers.
    fn seen_look(&self) -> u64 {
        let seen = |edge: &Edge| match edge.by {
            By::Register { .. } => None,
            By::Server { seen_look, .. } => Some(seen_look),
        };
        self.0.iter().filter_map(|(_, edge)| seen(edge)).min().unwrap_or(0)
    }

    /// Who is to start over: the registration that came last.
    fn victim(&self) -> Option<u64> {
        self.0.iter().filter_map(|(_, edge)| edge.waiter()).max()
    }
}

impl LocalWaits {
    /// Those of a coordinator in its start number `boot`: nothing that was asked for in an earlier one counts.
    pub(crate) fn starting(boot: u64) -> Self {
        Self { reports: BTreeMap::new(), last_look: boot << SERIAL_BITS, asked_at_ms: 0 }
    }

    /// The number of the last look that was asked for.
    pub(crate) fn last_look(&self) -> u64 {
        self.last_look
    }

    pub(crate) fn forget_stream(&mut self, stream: StreamId) {
        self.reports.retain(|(of, _), _| *of != stream);
    }

    /// Takes what a stream tells of a resource in the place of what it told before.
    fn take(
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
        let mut told = Report { at_ms: now_ms, look, ..Report::default() };
        let waits = waits.into_iter().filter(|wait| wait.wait.len() <= WAIT_MAX_BYTES);
        for wait in waits.take(WAITS_MAX) {
            let Some(seq) = seq_of(&wait.xid) else { continue };
            let (connection_id, blocker_id) = (wait.connection_id, wait.blocker_id);
            let key = WaitKey { seq, connection_id, blocker_id, wait: wait.wait };
            let since_look = before.waits.get(&key).map_or(self.last_look, |known| known.since_look);
            told.waits.insert(key, ToldWait { since_look });
        }
        if look <= before.look {
            // It was not asked meanwhile whose connections are whose
            let alive = |(_, known): &(u64, ToldBinding)| known.at_ms.saturating_add(REPORT_LIFE_MS) > now_ms;
            told.bound = before.bound.into_iter().filter(alive).collect();
        }
        for (connection_id, xid) in bound.into_iter().take(WAITS_MAX) {
            if let Some(seq) = seq_of(&xid) {
                told.bound.insert(connection_id, ToldBinding { seq, at_ms: now_ms, look });
            }
        }
        if !told.waits.is_empty() || !told.bound.is_empty() {
            self.reports.insert(place, told);
        }
    }

    /// Whose connection this is.
    fn binding(&self, resource: &Arc<str>, connection_id: u64) -> Option<ToldBinding> {
        let of_resource = self.reports.iter().filter(|((_, of), _)| of == resource);
        let known = of_resource.filter_map(|(_, report)| report.bound.get(&connection_id));
        known.max_by_key(|known| known.look).copied()
    }

    /// The waits at servers whose two sides are known, by who waits.
    fn edges(&self) -> Graph {
        let mut edges = Graph::new();
        for ((_, resource), report) in &self.reports {
            for (key, told) in &report.waits {
                let Some(blocker) = self.binding(resource, key.blocker_id) else { continue };
                if blocker.seq == key.seq {
                    continue;
                }
                let seen_look = report.look.min(blocker.look);
                let by = By::Server { resource: resource.clone(), since_look: told.since_look, seen_look };
                edges.entry(key.seq).or_default().push(Edge { to: blocker.seq, by });
            }
        }
        edges
    }

    /// The connections that are waited for, by resource, and whether one of them is nobody's.
    fn blockers(&self) -> (BTreeMap<Arc<str>, Vec<u64>>, bool) {
        let mut blockers: BTreeMap<Arc<str>, Vec<u64>> = BTreeMap::new();
        for ((_, resource), report) in &self.reports {
            let ids = report.waits.keys().map(|key| key.blocker_id);
            blockers.entry(resource.clone()).or_default().extend(ids);
        }
        blockers.retain(|_, ids| {
            ids.sort_unstable();
            ids.dedup();
            ids.truncate(WAITS_MAX);
            !ids.is_empty()
        });
        let unknown =
            blockers.iter().any(|(resource, ids)| ids.iter().any(|id| self.binding(resource, *id).is_none()));
        (blockers, unknown)
    }
}

impl Core {
    pub(crate) fn take_local_waits(&mut self, stream: StreamId, report: LocalWaitReport) {
        if !self.dispatcher.streams_of(&report.resource).contains(&stream) {
            return;
        }
        let mut told = std::mem::replace(&mut self.local_waits, LocalWaits::starting(0));
        told.take(self.now_ms, stream, report, |xid| {
            self.seq_of(xid).filter(|seq| self.live.contains_key(seq))
        });
        self.local_waits = told;
        let is_asked_for = self.end_local_deadlocks();
        let (blockers, unknown) = self.local_waits.blockers();
        let is_due = self.local_waits.asked_at_ms.saturating_add(ASK_AGAIN_MS) <= self.now_ms;
        if is_asked_for || (unknown && is_due) {
            self.ask_for_look(blockers);
        }
    }

    /// Refuses registrations that are part of a deadlock which a look has confirmed. True where one has to be looked at.
    fn end_local_deadlocks(&mut self) -> bool {
        loop {
            let Some(cycle) = cycle_in(&self.wait_graph()) else { return false };
            if cycle.since_look() >= cycle.seen_look() {
                return cycle.since_look() >= self.local_waits.last_look;
            }
            if !self.end_cycle(&cycle) {
                return false;
            }
        }
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
            let waiters = self.live.get(&seq).into_iter().flat_map(|transaction| &transaction.waiting);
            for waiter in waiters {
                let Some(waiting) = self.waiting.get(waiter) else { continue };
                let by = By::Register { waiter: *waiter, since_look: waiting.since_look };
                edges.extend(self.locks.waits_for(*waiter).into_iter().map(|to| Edge { to, by: by.clone() }));
            }
            left.extend(edges.iter().map(|edge| edge.to));
            graph.insert(seq, edges);
        }
        graph
    }

    fn end_cycle(&mut self, cycle: &Cycle) -> bool {
        let Some(waiter) = cycle.victim() else { return false };
        let conflict = self.locks.lacks(waiter);
        let Some(waiting) = self.take_waiting(waiter) else { return false };
        let resource = &waiting.resource;
        let lock = conflict.as_ref().map(|c| Self::lock_text(resource, &c.table, &c.key));
        let holder = conflict.and_then(|conflict| self.xid_of(conflict.holder));
        let message = format!(
            "the row lock {:?} is not to be had (deadlock): {}: run it again",
            lock.as_deref().unwrap_or_default(),
            self.cycle_text(cycle)
        );
        self.totals.lock_deadlocks += 1;
        let refusal = Refusal { code: RefusalCode::LockDeadlock, message, holder, lock };
        self.reply(ReplyTo::Stream(waiting.stream, waiting.id), Err(refusal));
        self.give_up_all(&[waiter]);
        true
    }

    fn cycle_text(&self, cycle: &Cycle) -> String {
        let name = |seq| self.xid_of(seq).as_ref().map_or_else(String::new, Xid::to_string);
        let mut text = String::new();
        for (n, (seq, edge)) in cycle.0.iter().take(NAMED_MAX).enumerate() {
            let then = if n == 0 { "" } else { ", " };
            // Writing to a String does not fail.
            let _ = write!(text, "{then}{} waits for {}", name(*seq), name(edge.to));
            if let By::Server { resource, .. } = &edge.by {
                let _ = write!(text, " at the server of {resource}");
            }
        }
        if cycle.0.len() > NAMED_MAX {
            text.push_str(", and so on");
        }
        text
    }

    fn ask_for_look(&mut self, blockers: BTreeMap<Arc<str>, Vec<u64>>) {
        self.local_waits.last_look += 1;
        self.local_waits.asked_at_ms = self.now_ms;
        let number = self.local_waits.last_look;
        for (resource, connection_ids) in blockers {
            for stream in self.dispatcher.streams_of(&resource) {
                let (resource, connection_ids) = (resource.clone(), connection_ids.clone());
                let look = WaitLook { number, resource, connection_ids };
                self.step.effects.push(Effect::Look(*stream, look));
            }
        }
    }
}

/// A cycle with a registration in it, if there is one.
fn cycle_in(graph: &Graph) -> Option<Cycle> {
    let graph = without_ends(graph);
    let mut starts: Vec<u64> = graph.keys().copied().collect();
    starts.sort_unstable();
    starts.into_iter().find_map(|start| cycle_through(&graph, start))
}

/// Leaves out all that ends in somebody who does not wait: there is nothing to it. Mostly nothing is left.
fn without_ends(graph: &Graph) -> HashMap<u64, Vec<&Edge>> {
    let mut waited_by: HashMap<u64, Vec<u64>> = HashMap::new();
    let mut open: HashMap<u64, usize> = HashMap::new();
    for (from, edges) in graph {
        open.insert(*from, edges.len());
        for edge in edges {
            waited_by.entry(edge.to).or_default().push(*from);
        }
    }
    let mut ends: Vec<u64> = open.iter().filter(|(_, edges)| **edges == 0).map(|(seq, _)| *seq).collect();
    while let Some(end) = ends.pop() {
        open.remove(&end);
        for from in waited_by.get(&end).into_iter().flatten() {
            if let Some(edges) = open.get_mut(from) {
                *edges -= 1;
                if *edges == 0 {
                    ends.push(*from);
                }
            }
        }
    }
    let edges_of = |seq: u64| graph.get(&seq).into_iter().flatten();
    open.keys().map(|seq| (*seq, edges_of(*seq).filter(|e| open.contains_key(&e.to)).collect())).collect()
}

/// The shortest way that begins with a wait at a server and leads back, with a registration in it. Where it passes somebody
/// twice, the registration is in a cycle of some of its waits all the same.
fn cycle_through(graph: &HashMap<u64, Vec<&Edge>>, start: u64) -> Option<Cycle> {
    let mut came: Ways<'_> = HashMap::new();
    let mut places = VecDeque::from([(start, false)]);
    while let Some(place) = places.pop_front() {
        for edge in graph.get(&place.0).into_iter().flatten().copied() {
            // The deadlocks without a server in them are found when they arise.
            if place == (start, false) && edge.waiter().is_some() {
                continue;
            }
            let next = (edge.to, place.1 || edge.waiter().is_some());
            if came.contains_key(&next) || next == (start, false) {
                continue;
            }
            came.insert(next, (place, edge));
            if next == (start, true) {
                return Some(way_back(&came, next));
            }
            places.push_back(next);
        }
    }
    None
}

/// A transaction on the way, and whether a registration was passed before.
type Place = (u64, bool);
/// By place: where the way came from, and by which wait.
type Ways<'a> = HashMap<Place, (Place, &'a Edge)>;

/// The way from the beginning, to which no way leads, to `end`.
fn way_back(came: &Ways<'_>, end: Place) -> Cycle {
    let mut waits = Vec::new();
    let mut place = end;
    while let Some((before, edge)) = came.get(&place) {
        waits.push((before.0, (*edge).clone()));
        place = *before;
    }
    waits.reverse();
    Cycle(waits)
}

#[cfg(test)]
mod tests;
