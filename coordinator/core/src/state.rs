//! The states of transactions and branches.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use atone_api::{BranchId, Xid};

use crate::record::{BranchRecord, BranchState, Change, Decision, Resolution, TransactionRecord};
use crate::step::{LockSet, ReplyTo, StreamId, WorkKind};
use crate::timers::TimerKey;

/// The reason of a rollback that the transaction's timeout decided.
pub const REASON_TIMEOUT: &str = "timeout";

/// The status of a transaction as others see it.
///
/// ```text
///            commit asked                 every branch known to have committed
///  active ───────────────▶ committing ─────────────────────────────────────────▶ committed
///    │  └──────────────────────┼── (at once, where every outcome is known) ───────────▲
///    │                         │
///    │ rollback asked,         │ the same, or a branch never committed
///    │ timeout                 ▼
///    └──────────────────▶ rolling_back ──────────────────────────────────────▶ rolled_back
///                          │       ▲       every branch undone
///   a branch can't be      ▼       │       it could be undone after all, or an operator gave that up
///   undone               rollback_failed
/// ```
///
/// `committing` is not durable: it is a commit that waits for outcomes, and a restarted coordinator is back at
/// `active`. The step to `committed` or to `rolling_back` is the decision; it is durable before anybody hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Branches may register.
    Active,
    /// A commit was asked for and waits for the outcome of branches. Not decided: it may still be rolled back.
    Committing,
    /// Decided and final. Undo rows may be left to be deleted.
    Committed,
    /// Decided: branches are being undone.
    RollingBack,
    /// Everything is undone.
    RolledBack,
    /// At least one branch can't be undone; it keeps its locks and is tried again.
    RollbackFailed,
}

impl Status {
    /// All of them.
    pub const ALL: [Status; 6] = [
        Status::Active,
        Status::Committing,
        Status::Committed,
        Status::RollingBack,
        Status::RolledBack,
        Status::RollbackFailed,
    ];

    /// The name in the REST API.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Active => "active",
            Status::Committing => "committing",
            Status::Committed => "committed",
            Status::RollingBack => "rolling_back",
            Status::RolledBack => "rolled_back",
            Status::RollbackFailed => "rollback_failed",
        }
    }

    /// The status of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The status of a branch as others see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BranchStatus {
    /// It has its locks; whether it committed locally is not known yet.
    Registered,
    /// It committed locally.
    Committed,
    /// It is to be undone.
    RollingBack,
    /// It is undone.
    RolledBack,
    /// It can't be undone.
    RollbackFailed,
    /// An operator gave up to undo it; that is still to be said to its server.
    Resolving,
    /// An operator gave up to undo it.
    Resolved,
    /// It is committed for good and its undo row is deleted.
    Purged,
}

impl BranchStatus {
    /// The name in the REST API.
    pub fn as_str(self) -> &'static str {
        match self {
            BranchStatus::Registered => "registered",
            BranchStatus::Committed => "committed",
            BranchStatus::RollingBack => "rolling_back",
            BranchStatus::RolledBack => "rolled_back",
            BranchStatus::RollbackFailed => "rollback_failed",
            BranchStatus::Resolving => "resolving",
            BranchStatus::Resolved => "resolved",
            BranchStatus::Purged => "purged",
        }
    }
}

/// A transaction's state with what belongs to it alone.
#[derive(Debug)]
pub(crate) enum State {
    Active { deadline: TimerKey },
    Committing { deadline: TimerKey, check: TimerKey, replies: Vec<ReplyTo> },
    Committed { decided_at_ms: u64, ended_at_ms: Option<u64> },
    RollingBack { decided_at_ms: u64, reason: String },
    RolledBack { decided_at_ms: u64, ended_at_ms: u64, reason: String },
}

/// A transaction in memory.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) seq: u64,
    pub(crate) xid: Xid,
    pub(crate) name: String,
    pub(crate) timeout_ms: u64,
    pub(crate) created_at_ms: u64,
    pub(crate) state: State,
    /// Boxed, since a map keeps room for more entries than most transactions have branches.
    pub(crate) branches: BTreeMap<BranchId, Box<Branch>>,
    /// Its registrations that wait for locks, by the lock table's numbers.
    pub(crate) waiting: BTreeSet<u64>,
    /// The status under which the census has it.
    pub(crate) counted_as: Option<Status>,
}

/// A branch in memory.
#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) resource: Arc<str>,
    pub(crate) schema: Arc<str>,
    pub(crate) registered_at_ms: u64,
    pub(crate) lock_count: usize,
    /// Until they are released.
    pub(crate) locks: Option<Arc<LockSet>>,
    pub(crate) state: BranchState,
    /// It is known to have committed locally.
    pub(crate) is_committed: bool,
    /// That is durable.
    pub(crate) is_commit_kept: bool,
    /// The registration it came from, as long as its stream is there and no outcome was reported.
    pub(crate) reporter: Option<(StreamId, u64)>,
    /// Why it can't be undone, or why the last try has to be repeated.
    pub(crate) detail: String,
    pub(crate) work: BranchWork,
    /// How often work for it was given out.
    pub(crate) attempts: u32,
    /// What an operator decided about it.
    pub(crate) resolution: Option<Box<Resolution>>,
    /// The calls that wait until that is done.
    pub(crate) resolve_calls: Vec<ReplyTo>,
}

/// Where the work for a branch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BranchWork {
    None,
    Queued(WorkKind),
    Sent(u64),
    Pausing(TimerKey),
}

impl Branch {
    pub(crate) fn is_undone(&self) -> bool {
        matches!(self.state, BranchState::Restored | BranchState::RolledBack)
    }

    /// The change that makes all durable that is known of it.
    pub(crate) fn put(&mut self, id: BranchId, seq: u64) -> Change {
        self.is_commit_kept = self.is_committed;
        Change::PutBranch(self.record(id, seq))
    }

    /// What should be durable by now.
    pub(crate) fn record(&self, id: BranchId, seq: u64) -> BranchRecord {
        // A detail of a try that is to be repeated is not worth a write.
        let has_report = self.state == BranchState::RollbackFailed && self.resolution.is_none();
        let detail = if has_report { self.detail.clone() } else { String::new() };
        BranchRecord {
            branch_id: id.0,
            seq,
            resource: self.resource.clone(),
            schema: self.schema.clone(),
            state: self.state,
            lock_count: self.lock_count,
            registered_at_ms: self.registered_at_ms,
            detail,
            is_committed: self.is_commit_kept,
            resolution: self.resolution.clone(),
        }
    }
}

impl Transaction {
    pub(crate) fn status(&self) -> Status {
        match self.state {
            State::Active { .. } => Status::Active,
            State::Committing { .. } => Status::Committing,
            State::Committed { .. } => Status::Committed,
            State::RolledBack { .. } => Status::RolledBack,
            State::RollingBack { .. } => {
                if self.branches.values().any(|branch| branch.state == BranchState::RollbackFailed) {
                    Status::RollbackFailed
                } else {
                    Status::RollingBack
                }
            }
        }
    }

    pub(crate) fn branch_status(&self, branch: &Branch) -> BranchStatus {
        match branch.state {
            BranchState::RollbackFailed if branch.resolution.is_some() => BranchStatus::Resolving,
            BranchState::RolledBack if branch.resolution.is_some() => BranchStatus::Resolved,
            BranchState::Restored | BranchState::RolledBack => BranchStatus::RolledBack,
            BranchState::RollbackFailed => BranchStatus::RollbackFailed,
            BranchState::Purged => BranchStatus::Purged,
            BranchState::Registered if matches!(self.state, State::RollingBack { .. }) => {
                BranchStatus::RollingBack
            }
            BranchState::Registered if branch.is_committed => BranchStatus::Committed,
            BranchState::Registered => BranchStatus::Registered,
        }
    }

    pub(crate) fn reason(&self) -> &str {
        match &self.state {
            State::RollingBack { reason, .. } | State::RolledBack { reason, .. } => reason,
            _ => "",
        }
    }

    pub(crate) fn decided_at_ms(&self) -> Option<u64> {
        match self.state {
            State::Active { .. } | State::Committing { .. } => None,
            State::Committed { decided_at_ms, .. }
            | State::RollingBack { decided_at_ms, .. }
            | State::RolledBack { decided_at_ms, .. } => Some(decided_at_ms),
        }
    }

    /// When nothing was left to do.
    pub(crate) fn ended_at_ms(&self) -> Option<u64> {
        match self.state {
            State::Committed { ended_at_ms, .. } => ended_at_ms,
            State::RolledBack { ended_at_ms, .. } => Some(ended_at_ms),
            _ => None,
        }
    }

    pub(crate) fn record(&self) -> TransactionRecord {
        let decision = match self.state {
            State::Active { .. } | State::Committing { .. } => Decision::Active,
            State::Committed { .. } => Decision::Committed,
            State::RollingBack { .. } => Decision::RollingBack,
            State::RolledBack { .. } => Decision::RolledBack,
        };
        TransactionRecord {
            seq: self.seq,
            xid: self.xid.clone(),
            name: self.name.clone(),
            decision,
            reason: self.reason().to_owned(),
            timeout_ms: self.timeout_ms,
            created_at_ms: self.created_at_ms,
            decided_at_ms: self.decided_at_ms(),
            ended_at_ms: self.ended_at_ms(),
        }
    }
}
