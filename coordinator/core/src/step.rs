//! What goes into the core and what comes out of it: an event, and the step that it leads to.

use std::fmt;
use std::sync::Arc;

use crate::model::{
    BranchId, Change, LocalWaitReport, LockSet, Outcome, ReplyTo, StreamId, Violation, WaitLook, Work,
    WorkOutcome, Xid,
};
use crate::view::{BranchView, TransactionView};

/// A registration as a proxy asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterRequest {
    /// The transaction's XID, as received.
    pub xid: String,
    /// The resource the branch is on.
    pub resource: Arc<str>,
    /// The schema of its undo_log row.
    pub schema: Arc<str>,
    /// The row locks it needs.
    pub locks: Arc<LockSet>,
    /// How long to wait for them, in milliseconds; 0: not at all.
    pub wait_timeout_ms: u64,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Begin a transaction.
    Begin {
        /// Where the answer goes.
        to: ReplyTo,
        /// A name for operators; may be empty.
        name: String,
        /// In milliseconds; 0 stands for the default.
        timeout_ms: u64,
    },
    /// Ask for the state of a transaction.
    Get {
        /// Where the answer goes.
        to: ReplyTo,
        /// Its XID, as received.
        xid: String,
    },
    /// Commit a transaction.
    Commit {
        /// Where the answer goes.
        to: ReplyTo,
        /// Its XID, as received.
        xid: String,
    },
    /// Roll a transaction back.
    Rollback {
        /// Where the answer goes.
        to: ReplyTo,
        /// Its XID, as received.
        xid: String,
        /// How long the answer waits for the branches to be undone, in milliseconds; 0: not at all. Nothing stands for
        /// the default.
        wait_ms: Option<u64>,
    },
    /// The caller that waits for a rollback is gone. The rollback itself goes on.
    CancelRollbackWait {
        /// Where the answer would have gone.
        to: ReplyTo,
    },
    /// An operator decides about a branch that can't be undone: its rows are to stay as they are.
    KeepCurrent {
        /// Where the answer goes, once that is done.
        to: ReplyTo,
        /// The transaction's XID, as received.
        xid: String,
        /// The branch.
        branch: BranchId,
        /// Who decides, as far as that was said; may be empty.
        by: String,
        /// Only say what would be given up.
        dry_run: bool,
    },
    /// Register a branch.
    Register {
        /// The stream that asks.
        stream: StreamId,
        /// The id of the message: unique on the stream.
        id: u64,
        /// What is asked for.
        request: RegisterRequest,
    },
    /// Cancel a registration; if it was done already, its branch is aborted. Or cancel the wait for a rollback.
    Cancel {
        /// The stream that asked.
        stream: StreamId,
        /// The id of the registration's message, or of the rollback's.
        id: u64,
    },
    /// A branch's local transaction ended.
    Report {
        /// The stream that the report came on.
        stream: StreamId,
        /// The XID, as received.
        xid: String,
        /// The branch.
        branch: BranchId,
        /// How it ended.
        outcome: Outcome,
    },
    /// A proxy answers a piece of work.
    WorkResult {
        /// The stream that the answer came on.
        stream: StreamId,
        /// The work.
        work_id: u64,
        /// How it went.
        outcome: WorkOutcome,
        /// What a human should know of it.
        detail: String,
    },
    /// A proxy connected.
    StreamUp {
        /// Its stream.
        stream: StreamId,
        /// The resources it can work on.
        resources: Vec<String>,
    },
    /// A proxy reports which sessions wait at a server.
    LocalWaits {
        /// The stream that it came on.
        stream: StreamId,
        /// The report.
        report: LocalWaitReport,
    },
    /// A stream ended.
    StreamDown {
        /// The stream.
        stream: StreamId,
    },
    /// Time passed.
    Tick,
}

/// Why the coordinator will not do what was asked. Nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCode {
    /// There is no such transaction.
    UnknownXid,
    /// It is committed, is being committed, or is in a status in which this can't be.
    Ended,
    /// It was rolled back or is being rolled back.
    RolledBack,
    /// The same, by its timeout.
    TimedOut,
    /// It is being rolled back, which has stopped: it needs an operator.
    Stopped,
    /// The transaction has no such branch.
    UnknownBranch,
    /// The branch is in a status in which nothing is to be decided about it.
    NotStopped,
    /// A lock could not be taken in time.
    LockTimeout,
    /// Waiting would deadlock, or the holder is being rolled back.
    LockDeadlock,
    /// One of the coordinator's limits is reached, which the message names.
    LimitReached,
    /// Malformed.
    Invalid,
}

/// A refusal with its explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For humans.
    pub message: String,
    /// For locks: the transaction that holds it.
    pub holder: Option<Xid>,
    /// For locks: `resource schema.table key`.
    pub lock: Option<String>,
}

impl Refusal {
    pub(crate) fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), holder: None, lock: None }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What a request is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Begin, get, commit, rollback.
    Transaction(TransactionView),
    /// An operator's decision: its branch as it is then.
    Branch(Box<BranchView>),
    /// Register.
    Registered(BranchId),
}

/// Something to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// An answer.
    Reply(ReplyTo, Result<Reply, Refusal>),
    /// Work for a proxy.
    Push(StreamId, Work),
    /// To a proxy: what it reported of these branches is durable, or no longer needed.
    Confirm(StreamId, Vec<BranchId>),
    /// To a proxy: report what waits.
    Look(StreamId, WaitLook),
}

/// What one event led to. `effects` may be seen by others only after `persist` is durable, and with it the changes of
/// all earlier steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// To be made durable as a whole, in this order.
    pub persist: Vec<Change>,
    /// To be sent once everything is durable.
    pub effects: Vec<Effect>,
    /// Invariants that did not hold: bugs, to be logged.
    pub violations: Vec<Violation>,
}
