//! The status of transactions and branches, as others see it.

use std::fmt;

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
