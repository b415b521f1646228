//! Waits at servers, as proxies report them.

use std::sync::Arc;

/// A bound session that waits at its server for a row lock, and one that it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalWait {
    /// The waiting session's transaction, as received.
    pub xid: String,
    /// Its connection, as the server numbers them.
    pub connection_id: u64,
    /// The connection that it waits for.
    pub blocker_id: u64,
    /// Identifies the wait: the same only as long as it is the same wait.
    pub wait: String,
}

/// A proxy's report about the waits at one resource's server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalWaitReport {
    /// The resource.
    pub resource: Arc<str>,
    /// The last [`WaitLook`] that had come before the server was asked; 0: none.
    pub look: u64,
    /// All that wait.
    pub waits: Vec<LocalWait>,
    /// Connections of bound sessions, with their XIDs as received.
    pub bound: Vec<(u64, String)>,
}

/// Asks a proxy which sessions wait at a resource's server now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitLook {
    /// Rises from one to the next.
    pub number: u64,
    /// The resource.
    pub resource: Arc<str>,
    /// Connections whose transactions the proxy is asked for.
    pub connection_ids: Vec<u64>,
}
