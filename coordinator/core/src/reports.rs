//! Reports of local transactions that are not durable yet.
//!
//! No call waits for their durability. They are collected for a while. Those of transactions that are committed
//! meanwhile need no write: the decision says the same.

use std::collections::BTreeMap;

use crate::model::{BranchId, StreamId};

#[derive(Debug, Default)]
pub(crate) struct Reports {
    /// Branches whose local COMMIT is known, by transaction and id.
    pub(crate) committed: Vec<(u64, BranchId)>,
    /// By stream: the branches whose reports are still to be confirmed to its proxy.
    pub(crate) unconfirmed: BTreeMap<StreamId, Vec<BranchId>>,
    has_timer: bool,
}

impl Reports {
    /// The local COMMIT of a branch is to be made durable. Whether a timer has to be set for that.
    pub(crate) fn add(&mut self, seq: u64, id: BranchId) -> bool {
        self.committed.push((seq, id));
        !std::mem::replace(&mut self.has_timer, true)
    }

    /// The report of a stream's proxy is to be confirmed once it is durable.
    pub(crate) fn confirm_later(&mut self, stream: StreamId, id: BranchId) {
        self.unconfirmed.entry(stream).or_default().push(id);
    }

    /// A stream ended: its proxy reports again on the next one.
    pub(crate) fn forget_stream(&mut self, stream: StreamId) {
        self.unconfirmed.remove(&stream);
    }

    /// The timer has fired: all that was collected.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}
