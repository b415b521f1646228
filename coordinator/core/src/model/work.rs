//! Phase-two work, and what proxies answer to it.

use std::sync::Arc;

use atone_api::{BranchId, Xid};

/// What became of a branch's local transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The server acknowledged the local COMMIT.
    Committed,
    /// The local transaction is known to have been rolled back.
    Aborted,
}

/// The kinds of phase-two work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkKind {
    /// Undo the branch; without an undo row leave a marker, so that it can never commit.
    Rollback,
    /// Find out whether the branch committed locally; if not, leave a marker.
    Check,
    /// Put a marker in the place of whatever there is of the branch, so that it is never undone.
    Keep,
    /// Delete what is left in undo_log of these branches.
    Purge,
}

/// What a proxy answers to a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkOutcome {
    /// Undone, now or before; purged.
    Done,
    /// Check: the branch committed locally.
    Committed,
    /// Check, rollback: there was no undo row; a marker is there now. Keep: a marker is there now.
    Absent,
    /// Rollback: an outsider changed a row since.
    Conflict,
    /// It can't be done now.
    Retry,
    /// It can't be done without an operator.
    Stuck,
    /// An answer that this version does not know. Never taken for success.
    Unknown,
}

/// A piece of phase-two work for a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Never used twice, also after a restart.
    pub work_id: u64,
    /// What to do.
    pub kind: WorkKind,
    /// On which resource.
    pub resource: Arc<str>,
    /// In which schema's undo_log.
    pub schema: Arc<str>,
    /// For which branches: exactly one, but for a purge.
    pub branches: Vec<WorkBranch>,
}

/// A branch that work is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkBranch {
    /// Its transaction.
    pub xid: Xid,
    /// Its id.
    pub id: BranchId,
    /// What a purge should find and may delete.
    pub leftover: Leftover,
}

/// What should be left of a branch in undo_log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    /// Not known: the proxy finds out.
    Unknown,
    /// Its record: its transaction was committed.
    Record,
    /// The mark that it was restored.
    Restored,
}
