//! The coordinator daemon: `atone-core` with a durable store, gRPC for proxies, and REST for applications.
//!
//! The way of a request: a server ([`rpc`], [`http`]) makes it an event; the core, under one short lock, turns it into
//! a step; the journal's thread makes steps durable, many with one sync; and only then does the hub let the answers
//! out. Nothing waits for the disk while it holds the lock.

pub mod config;
mod convert;
mod coordinator;
mod daemon;
mod http;
mod hub;
mod journal;
mod metrics;
mod registrations;
mod rpc;
pub mod store;

pub use coordinator::StartError;
pub use daemon::{Args, LogFormat, main};
pub use http::{OPENAPI, ROUTES};
