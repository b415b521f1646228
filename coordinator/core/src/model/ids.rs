//! Ids that the coordinator does not share with its proxies.

/// The id of a stream from a proxy. The shell gives it, and never twice while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// Where a reply goes. Opaque to the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReplyTo {
    /// To the message with this id on a stream.
    Stream(StreamId, u64),
    /// To a single call.
    Call(u64),
}

/// The id of a request that waits for locks: rises in the order of arrival.
pub(crate) type WaiterId = u64;

/// The id of a timer: its time, and a serial number that makes it unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerKey {
    /// In milliseconds since 1970.
    pub(crate) at_ms: u64,
    pub(crate) serial: u64,
}
