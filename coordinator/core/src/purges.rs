//! Undo rows that are to be deleted, collected by schema.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::model::{BranchId, Checked, TimerKey, Violation};

/// A resource, and a schema on it.
pub(crate) type PurgeKey = (Arc<str>, Arc<str>);

/// The undo rows of one schema.
#[derive(Debug, Default)]
pub(crate) struct PurgeQueue {
    pub(crate) branches: VecDeque<(u64, BranchId)>,
    /// Work of this queue is with the dispatcher or with a proxy: one piece at a time.
    pub(crate) is_in_flight: bool,
    pub(crate) timer: Option<TimerKey>,
    /// How often the last piece of work has failed.
    pub(crate) attempts: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Purges {
    queues: BTreeMap<PurgeKey, PurgeQueue>,
}

impl Purges {
    /// The queue of a schema, which is made if there is none.
    pub(crate) fn entry(&mut self, key: &PurgeKey) -> &mut PurgeQueue {
        self.queues.entry(key.clone()).or_default()
    }

    /// A queue that is known to the core to be there.
    pub(crate) fn get_mut(&mut self, key: &PurgeKey) -> Checked<&mut PurgeQueue> {
        let missing = || Violation::new(format!("{} {} has no queue of undo rows", key.0, key.1));
        self.queues.get_mut(key).ok_or_else(missing)
    }

    pub(crate) fn remove(&mut self, key: &PurgeKey) {
        self.queues.remove(key);
    }

    pub(crate) fn contains(&self, key: &PurgeKey) -> bool {
        self.queues.contains_key(key)
    }

    /// The queues of a resource.
    pub(crate) fn of_resource(&self, resource: &Arc<str>) -> Vec<PurgeKey> {
        self.queues.keys().filter(|(name, _)| name == resource).cloned().collect()
    }

    /// How many undo rows wait, without those that work in flight is about.
    pub(crate) fn waiting(&self) -> usize {
        self.queues.values().map(|queue| queue.branches.len()).sum()
    }
}
