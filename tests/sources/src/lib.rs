//! What the project's own sources and documents say, for tests: which modules of a crate use which, and what the
//! tables of the documents have.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "for tests only: what cannot be read fails the test"
)]

pub mod arrows;
pub mod documents;
pub mod modules;
