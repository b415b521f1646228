//! The durable store.
//!
//! What every implementation has to do is written down as tests in `tests/store.rs`; the format of the embedded one in
//! [`embedded`] and [`codec`].

pub mod codec;
pub mod embedded;

use atone_core::{Change, Records};

/// Why a store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It could not be opened, read or written.
    #[error("{0}")]
    Io(String),
    /// What is there is not what was written, or was written by another version. Nothing is skipped: the coordinator
    /// must not run on a part of what it promised.
    #[error("the store is damaged or of another version: {0}")]
    Damaged(String),
}

/// All that a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The coordinator's id: made when the store was created, the same for ever.
    pub id: String,
    /// The records.
    pub records: Records,
}

/// Keeps records. Used by one thread.
pub trait Store: Send {
    /// Reads everything.
    fn load(&mut self) -> Result<Contents, StoreError>;

    /// Makes changes, in this order, all or none of them. When it returns they survive the loss of power. After an
    /// error nothing is known about them, and the store is not to be used any more.
    fn apply(&mut self, changes: &[Change]) -> Result<(), StoreError>;
}
