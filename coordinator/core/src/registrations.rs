//! Registrations: those that wait for locks, and by stream those that can still be cancelled or reported.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::{BranchId, Checked, LockSet, ReplyTo, StreamId, TimerKey, Violation, WaiterId};

/// A registration that is admitted, on its way to a branch.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) seq: u64,
    pub(crate) stream: StreamId,
    /// The id of its message.
    pub(crate) id: u64,
    pub(crate) resource: Arc<str>,
    pub(crate) schema: Arc<str>,
    pub(crate) locks: Arc<LockSet>,
}

impl Admitted {
    pub(crate) fn reply_to(&self) -> ReplyTo {
        ReplyTo::Stream(self.stream, self.id)
    }
}

/// A registration that waits for locks.
#[derive(Debug)]
pub(crate) struct WaitingRegistration {
    pub(crate) admitted: Admitted,
    pub(crate) timeout: TimerKey,
    /// The last look at local waits that was asked for before it began to wait.
    pub(crate) since_look: u64,
}

/// What a registration of a stream has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registration {
    Waiting(WaiterId),
    /// A branch, by its transaction and id, whose outcome is expected on the stream.
    Branch(u64, BranchId),
}

#[derive(Debug, Default)]
pub(crate) struct Registrations {
    waiting: HashMap<WaiterId, WaitingRegistration>,
    /// By stream, and there by the ids of their messages.
    streams: HashMap<StreamId, BTreeMap<u64, Registration>>,
}

impl Registrations {
    pub(crate) fn stream_up(&mut self, stream: StreamId) {
        self.streams.insert(stream, BTreeMap::new());
    }

    /// Takes a stream out, with its registrations.
    pub(crate) fn stream_down(&mut self, stream: StreamId) -> Vec<Registration> {
        self.streams.remove(&stream).unwrap_or_default().into_values().collect()
    }

    pub(crate) fn is_up(&self, stream: StreamId) -> bool {
        self.streams.contains_key(&stream)
    }

    pub(crate) fn get(&self, stream: StreamId, id: u64) -> Option<Registration> {
        self.streams.get(&stream)?.get(&id).copied()
    }

    /// What a registration has become, on a stream that is known to the core to be up.
    pub(crate) fn set(&mut self, stream: StreamId, id: u64, registration: Registration) -> Checked {
        self.of_stream(stream)?.insert(id, registration);
        Ok(())
    }

    /// No report about a branch is expected on its stream any more.
    pub(crate) fn forget(&mut self, stream: StreamId, id: u64) -> Checked {
        self.of_stream(stream)?.remove(&id);
        Ok(())
    }

    /// A registration waits for locks.
    pub(crate) fn wait(&mut self, waiter: WaiterId, waiting: WaitingRegistration) -> Checked {
        let Admitted { stream, id, .. } = waiting.admitted;
        self.waiting.insert(waiter, waiting);
        self.set(stream, id, Registration::Waiting(waiter))
    }

    /// Takes out a registration that is known to the core to wait.
    pub(crate) fn take_waiting(&mut self, waiter: WaiterId) -> Checked<WaitingRegistration> {
        let missing = || Violation::new(format!("request {waiter} has no registration that waits"));
        let waiting = self.waiting.remove(&waiter).ok_or_else(missing)?;
        // A stream that has ended took its registrations with it.
        if let Some(registrations) = self.streams.get_mut(&waiting.admitted.stream) {
            registrations.remove(&waiting.admitted.id);
        }
        Ok(waiting)
    }

    /// The last look at local waits that was asked for before a registration began to wait. None if it does not wait.
    pub(crate) fn since_look(&self, waiter: WaiterId) -> Option<u64> {
        self.waiting.get(&waiter).map(|waiting| waiting.since_look)
    }

    fn of_stream(&mut self, stream: StreamId) -> Checked<&mut BTreeMap<u64, Registration>> {
        let down = || Violation::new(format!("stream {} is taken to be up", stream.0));
        self.streams.get_mut(&stream).ok_or_else(down)
    }
}
