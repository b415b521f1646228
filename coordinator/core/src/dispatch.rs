//! Phase-two work: which proxies can do it, what is queued, and what is outstanding.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::model::{BranchId, Checked, StreamId, TimerKey, Violation, WorkKind};

/// A piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Job {
    Branch { seq: u64, branch: BranchId, kind: WorkKind },
    Purge { schema: Arc<str>, branches: Vec<(u64, BranchId)> },
}

/// A piece of work that a proxy has.
#[derive(Debug)]
pub(crate) struct Outstanding {
    pub(crate) work_id: u64,
    pub(crate) stream: StreamId,
    pub(crate) resource: Arc<str>,
    pub(crate) job: Job,
    pub(crate) timeout: TimerKey,
}

#[derive(Debug, Default)]
pub(crate) struct Dispatcher {
    streams: HashMap<StreamId, Vec<Arc<str>>>,
    resources: BTreeMap<Arc<str>, Resource>,
    outstanding: BTreeMap<u64, Outstanding>,
}

#[derive(Debug, Default)]
struct Resource {
    streams: Vec<StreamId>,
    /// The stream that got the last job: they take turns.
    turn: usize,
    waiting: VecDeque<Job>,
    in_flight: usize,
}

impl Dispatcher {
    pub(crate) fn stream_up(&mut self, stream: StreamId, resources: &[Arc<str>]) {
        for resource in resources {
            let entry = self.resources.entry(resource.clone()).or_default();
            if !entry.streams.contains(&stream) {
                entry.streams.push(stream);
            }
        }
        self.streams.insert(stream, resources.to_vec());
    }

    /// Takes a stream out. The work that it had.
    pub(crate) fn stream_down(&mut self, stream: StreamId) -> Vec<Outstanding> {
        for resource in self.streams.remove(&stream).unwrap_or_default() {
            if let Some(entry) = self.resources.get_mut(&resource) {
                entry.streams.retain(|other| *other != stream);
            }
        }
        self.resources.retain(|_, e| !e.streams.is_empty() || !e.waiting.is_empty() || e.in_flight > 0);
        let lost: Vec<u64> =
            self.outstanding.iter().filter(|(_, work)| work.stream == stream).map(|(id, _)| *id).collect();
        lost.into_iter().filter_map(|id| self.take(id).ok()).collect()
    }

    pub(crate) fn has_stream(&self, resource: &Arc<str>) -> bool {
        self.resources.get(resource).is_some_and(|entry| !entry.streams.is_empty())
    }

    /// The streams of the proxies that can work on this resource.
    pub(crate) fn streams_of(&self, resource: &Arc<str>) -> &[StreamId] {
        self.resources.get(resource).map_or(&[], |entry| entry.streams.as_slice())
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.len()
    }

    pub(crate) fn enqueue(&mut self, resource: &Arc<str>, job: Job) {
        self.resources.entry(resource.clone()).or_default().waiting.push_back(job);
    }

    /// The next job for this resource and the stream that gets it. Nothing as long as no stream may have more.
    pub(crate) fn next(&mut self, resource: &Arc<str>, max_in_flight: usize) -> Option<(StreamId, Job)> {
        let entry = self.resources.get_mut(resource)?;
        if entry.in_flight >= max_in_flight || entry.streams.is_empty() {
            return None;
        }
        let job = entry.waiting.pop_front()?;
        entry.turn = (entry.turn + 1) % entry.streams.len();
        entry.streams.get(entry.turn).map(|stream| (*stream, job))
    }

    pub(crate) fn sent(&mut self, work: Outstanding) {
        self.resources.entry(work.resource.clone()).or_default().in_flight += 1;
        self.outstanding.insert(work.work_id, work);
    }

    /// Ends a piece of outstanding work that this stream has.
    pub(crate) fn take_from(&mut self, work_id: u64, stream: StreamId) -> Option<Outstanding> {
        self.outstanding.get(&work_id).filter(|work| work.stream == stream)?;
        self.take(work_id).ok()
    }

    /// Ends a piece of work that is known to the core to be outstanding.
    pub(crate) fn take(&mut self, work_id: u64) -> Checked<Outstanding> {
        let missing = || Violation::new(format!("work {work_id:#x} is taken to be outstanding"));
        let work = self.outstanding.remove(&work_id).ok_or_else(missing)?;
        if let Some(entry) = self.resources.get_mut(&work.resource) {
            entry.in_flight = entry.in_flight.saturating_sub(1);
        }
        Ok(work)
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.resources.values().map(|entry| entry.waiting.len()).sum()
    }

    /// The resources that work waits for and that no proxy serves.
    pub(crate) fn unreachable(&self) -> Vec<Arc<str>> {
        let unreachable =
            self.resources.iter().filter(|(_, e)| !e.waiting.is_empty() && e.streams.is_empty());
        unreachable.map(|(name, _)| name.clone()).collect()
    }
}
