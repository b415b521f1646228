//! Global transactions, branches, row locks, phase two and recovery: the whole of the coordinator's decisions, without
//! I/O and without a clock.
//!
//! [`Core::handle`] takes an [`Event`] and the time and answers a [`Step`]: what has to be made durable, and what has
//! to be sent *after* that. The steps have to be persisted in the order in which they were made, each as a whole. No
//! effect of a step may be seen before its changes and those of all earlier steps are durable. What was persisted is
//! enough for [`Core::recover`] to go on, from any prefix of the steps.
//!
//! A state that can't be is a [`Violation`]: the step reports it, and does the rest.
//!
//! The layers, each of which knows only those below it:
//!
//! | | |
//! | --- | --- |
//! | `query` | lists and figures for operators |
//! | `core` | takes events: the life of transactions, phase two, recovery |
//! | `step` | events, replies and effects |
//! | `view` | how a transaction and its branches are shown |
//! | `locks`, `timers`, `dispatch`, … | the parts of the core's state, each by itself |
//! | `model` | ids and values, [`Records`], and the transitions of transactions and branches, drawn at [`Status`] |
//!
//! `tests/layers.rs` checks that.

mod config;
mod core;
mod counts;
mod dispatch;
mod local_waits;
mod locks;
mod model;
mod purges;
mod query;
mod registrations;
mod reports;
mod rollback_waits;
mod step;
mod timers;
mod transactions;
mod view;

pub use config::{Config, Limits, MAX_ROLLBACK_WAIT_MS};
pub use core::Core;
pub use core::recover::RecoverError;
pub use counts::Totals;
pub use model::{
    Action, BranchId, BranchRecord, BranchState, BranchStatus, Change, Counters, Decision, Keys, Leftover,
    LocalWait, LocalWaitReport, LockGroup, LockSet, Outcome, REASON_TIMEOUT, Records, ReplyTo, Resolution,
    Status, StreamId, TransactionRecord, Violation, WaitLook, Work, WorkBranch, WorkKind, WorkOutcome, Xid,
};
pub use query::{LockCursor, LockFilter, LockView, Page, Slice, Stats, TransactionDetail, TransactionFilter};
pub use step::{Effect, Event, Refusal, RefusalCode, RegisterRequest, Reply, Step};
pub use view::{BranchView, PendingBranch, TransactionView};
