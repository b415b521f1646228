//! Ids and values, and the transitions of transactions and branches. Nothing here depends on another part of the crate.

mod branch;
mod ids;
mod keys;
mod local_wait;
mod lock_set;
mod record;
mod status;
mod text;
mod transaction;
mod violation;
mod work;

pub use atone_api::{BranchId, Xid};

pub(crate) use branch::{Branch, BranchWork, Finished, NewBranch};
pub use ids::{ReplyTo, StreamId};
pub(crate) use ids::{TimerKey, WaiterId};
pub use keys::Keys;
pub use local_wait::{LocalWait, LocalWaitReport, WaitLook};
pub use lock_set::{LockGroup, LockSet};
pub use record::{
    Action, BranchRecord, BranchState, Change, Counters, Decision, Records, Resolution, TransactionRecord,
};
pub use status::{BranchStatus, REASON_TIMEOUT, Status};
pub(crate) use transaction::transitions::{CommitDecision, RollbackDecision};
pub(crate) use transaction::{State, Transaction};
pub(crate) use violation::Checked;
pub use violation::Violation;
pub use work::{Leftover, Outcome, Work, WorkBranch, WorkKind, WorkOutcome};
