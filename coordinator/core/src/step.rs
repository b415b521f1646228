//! What goes into the core and what comes out of it.

use std::fmt;
use std::sync::Arc;

use atone_api::{BranchId, Xid};
use serde::{Deserialize, Serialize};

use crate::keys::Keys;
use crate::query::{BranchView, TransactionView};
use crate::record::Change;

/// Names a stream from a proxy. Given by the shell, never used twice while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// Where an answer goes. Opaque to the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReplyTo {
    /// To the message with this id on a stream.
    Stream(StreamId, u64),
    /// To a single call.
    Call(u64),
}

/// The row locks that a branch asks for, all on one resource. Without duplicates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockSet {
    /// By table, each table once.
    pub groups: Vec<LockGroup>,
}

/// The keys locked in one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockGroup {
    /// `schema.table`, as the server spells them.
    #[serde(with = "crate::record::arc_str")]
    pub table: Arc<str>,
    /// Canonical key texts.
    pub keys: Keys,
}

impl LockSet {
    /// Puts together what belongs together and drops duplicates.
    pub fn new(tables: impl IntoIterator<Item = (String, Vec<String>)>) -> Self {
        let mut tables: Vec<_> = tables.into_iter().collect();
        tables.sort_by(|a, b| a.0.cmp(&b.0));
        tables.dedup_by(|next, first| {
            let is_same = next.0 == first.0;
            if is_same {
                first.1.append(&mut next.1);
            }
            is_same
        });
        let groups = tables.into_iter().filter(|(_, keys)| !keys.is_empty());
        let groups = groups.map(|(table, keys)| LockGroup { table: table.into(), keys: Keys::new(keys) });
        Self { groups: groups.collect() }
    }

    /// How many locks there are.
    pub fn len(&self) -> usize {
        self.groups.iter().map(|group| group.keys.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

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

/// What there should be of a branch in undo_log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    /// That is to be found out.
    Unknown,
    /// Its record: its transaction was committed.
    Record,
    /// What says that it was restored.
    Restored,
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
    /// Tell the state of a transaction.
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
    /// Nobody wants the answer to a rollback any more. The rollback itself goes on.
    GiveUp {
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
        /// Only tell what would be given up.
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
    /// Give a registration up; where it was done already, its branch is aborted. Or give up the wait for a rollback.
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
    /// A proxy is through with a piece of work.
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
    /// A proxy tells which sessions wait at a server.
    LocalWaits {
        /// The stream that it came on.
        stream: StreamId,
        /// What it tells.
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

/// A bound session that waits at its server for a row lock, and one that it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalWait {
    /// The waiting session's transaction, as received.
    pub xid: String,
    /// Its connection, as the server numbers them.
    pub connection_id: u64,
    /// The connection that it waits for.
    pub blocker_id: u64,
    /// Names the wait: the same only as long as it is the same wait.
    pub wait: String,
}

/// What a proxy tells of the waits at one resource's server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalWaitReport {
    /// The resource.
    pub resource: Arc<str>,
    /// The last [`WaitLook`] that had come when the server was looked at; 0: none.
    pub look: u64,
    /// All that wait.
    pub waits: Vec<LocalWait>,
    /// Connections of bound sessions, with their XIDs as received.
    pub bound: Vec<(u64, String)>,
}

/// A proxy is to tell which sessions wait at a resource's server now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitLook {
    /// Rises from one to the next.
    pub number: u64,
    /// The resource.
    pub resource: Arc<str>,
    /// Connections of which the proxy is to tell whose they are.
    pub connection_ids: Vec<u64>,
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
    /// A lock was not to be had in time.
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
    /// To a proxy: what it reported of these branches is durable, or of no more use.
    Confirm(StreamId, Vec<BranchId>),
    /// To a proxy: tell what waits.
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
}
