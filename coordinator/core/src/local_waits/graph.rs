//! The graph of waits between transactions, and the cycles in it that no server and no lock table sees by itself.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::model::WaiterId;

/// That one transaction waits for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) to: u64,
    pub(crate) wait: Wait,
}

/// Where it waits. `since_look` is the last look that was asked for before the wait began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wait {
    /// For a global lock: a registration in the lock table.
    Global { waiter: WaiterId, since_look: u64 },
    /// For a row lock at this resource's server. `seen_look` is the last look that has seen it.
    Local { resource: Arc<str>, since_look: u64, seen_look: u64 },
}

impl Edge {
    fn waiter(&self) -> Option<WaiterId> {
        match self.wait {
            Wait::Global { waiter, .. } => Some(waiter),
            Wait::Local { .. } => None,
        }
    }
}

/// The waits of each transaction, by its number.
pub(crate) type Graph = HashMap<u64, Vec<Edge>>;

/// Waits that end where they begin, each with the transaction that waits. One of them at least is a registration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cycle(pub(crate) Vec<(u64, Edge)>);

impl Cycle {
    /// The last look that was asked for before all of it was there.
    pub(crate) fn since_look(&self) -> u64 {
        let since = |edge: &Edge| match edge.wait {
            Wait::Global { since_look, .. } | Wait::Local { since_look, .. } => since_look,
        };
        self.0.iter().map(|(_, edge)| since(edge)).max().unwrap_or(u64::MAX)
    }

    /// The last look that has seen all its waits at servers.
    pub(crate) fn seen_look(&self) -> u64 {
        let seen = |edge: &Edge| match edge.wait {
            Wait::Global { .. } => None,
            Wait::Local { seen_look, .. } => Some(seen_look),
        };
        self.0.iter().filter_map(|(_, edge)| seen(edge)).min().unwrap_or(0)
    }

    /// The registration to refuse: the one that came last.
    pub(crate) fn victim(&self) -> Option<WaiterId> {
        self.0.iter().filter_map(|(_, edge)| edge.waiter()).max()
    }
}

/// A cycle with a registration in it, if there is one.
pub(crate) fn cycle_in(graph: &Graph) -> Option<Cycle> {
    let graph = without_chains(graph);
    let mut starts: Vec<u64> = graph.keys().copied().collect();
    starts.sort_unstable();
    starts.into_iter().find_map(|start| cycle_through(&graph, start))
}

/// Leaves out what is in no cycle: chains that end in a transaction that does not wait. Mostly nothing is left.
fn without_chains(graph: &Graph) -> HashMap<u64, Vec<&Edge>> {
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

/// The shortest path that begins with a wait at a server and leads back, with a registration in it. If it passes a
/// transaction twice, the registration is still in a cycle of some of its waits.
fn cycle_through(graph: &HashMap<u64, Vec<&Edge>>, start: u64) -> Option<Cycle> {
    let mut came: Paths<'_> = HashMap::new();
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
                return Some(path_to(&came, next));
            }
            places.push_back(next);
        }
    }
    None
}

/// A transaction on the path, and whether a registration was passed before.
type Place = (u64, bool);
/// By place: where the path came from, and by which wait.
type Paths<'a> = HashMap<Place, (Place, &'a Edge)>;

/// The path from the beginning, to which no path leads, to `end`.
fn path_to(came: &Paths<'_>, end: Place) -> Cycle {
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
