//! Global transactions, branches, row locks, phase two and recovery: the whole of the coordinator's decisions, without
//! I/O and without a clock.
//!
//! [`Core::handle`] takes an [`Event`] and the time and answers a [`Step`]: what has to be made durable, and what has to
//! be sent *after* that. The steps have to be persisted in the order in which they were made, each as a whole, and no
//! effect of a step may be seen before its changes and those of all earlier steps are durable. What was persisted is
//! enough for [`Core::recover`] to go on, from any prefix of the steps.
//!
//! The parts: [`Records`] is what is durable; the lock table grants row locks; the dispatcher gives phase-two work to
//! proxies; the rest is the life of a transaction, drawn at [`Status`].

mod branches;
mod census;
mod config;
mod core;
mod decisions;
mod dispatch;
mod keys;
mod local_waits;
mod locks;
mod phase_two;
mod query;
mod record;
mod recover;
mod reports;
mod resolve;
mod rollback_waits;
mod state;
mod step;
mod timers;

pub use atone_api::{BranchId, Xid};
pub use config::{Config, Limits, ROLLBACK_WAIT_MAX_MS};
pub use core::Core;
pub use keys::Keys;
pub use query::{
    BranchView, LockCursor, LockFilter, LockView, Page, PendingBranch, Slice, Stats, Totals,
    TransactionDetail, TransactionFilter, TransactionView,
};
pub use record::{
    Action, BranchRecord, BranchState, Change, Counters, Decision, Records, Resolution, TransactionRecord,
};
pub use recover::RecoverError;
pub use state::{BranchStatus, REASON_TIMEOUT, Status};
pub use step::{
    Effect, Event, Leftover, LocalWait, LocalWaitReport, LockGroup, LockSet, Outcome, Refusal, RefusalCode,
    RegisterRequest, Reply, ReplyTo, Step, StreamId, WaitLook, Work, WorkBranch, WorkKind, WorkOutcome,
};
