//! The real binary, over REST and through the client that proxies use.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod large;
mod phase_two;
mod process;
mod recovery;
mod rest;
mod support;
mod transactions;
