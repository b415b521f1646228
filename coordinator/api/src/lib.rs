//! The coordinator's protocol, its ids, and the client that proxies use.
//!
//! The wire format is `proto/atone.proto`. Without the feature `rpc` (on by default) only the ids remain, so that the
//! crates without I/O can share them.

mod ids;

pub use ids::{BranchId, InvalidXid, MAX_XID_BYTES, Xid};

#[cfg(feature = "rpc")]
mod client;
#[cfg(feature = "rpc")]
pub use client::{Client, ClientError, WaitLooks};

/// The messages and services generated from `proto/atone.proto`.
#[cfg(feature = "rpc")]
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod proto {
    tonic::include_proto!("atone.v1");
}

/// The largest message either side sends or accepts, in bytes: room for a branch with a million row locks.
#[cfg(feature = "rpc")]
pub const MAX_MESSAGE_BYTES: usize = 128 << 20;
