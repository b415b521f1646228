//! Between the protocol's messages and the core's types.

use std::sync::Arc;

use atone_api::proto::{self, ErrorCode};
use atone_core::{
    Leftover, LocalWait, LocalWaitReport, LockSet, Outcome, PendingBranch, Refusal, RefusalCode,
    RegisterRequest, Status, TransactionView, WaitLook, Work, WorkKind, WorkOutcome,
};

pub(crate) fn transaction_to_proto(view: &TransactionView) -> proto::Transaction {
    let status = match view.status {
        Status::Active => proto::Status::Active,
        Status::Committing => proto::Status::Committing,
        Status::Committed => proto::Status::Committed,
        Status::RollingBack => proto::Status::RollingBack,
        Status::RolledBack => proto::Status::RolledBack,
        Status::RollbackFailed => proto::Status::RollbackFailed,
    };
    proto::Transaction {
        xid: view.xid.to_string(),
        name: view.name.clone(),
        status: status.into(),
        reason: view.reason.clone(),
        timeout_ms: view.timeout_ms,
        pending: view.pending.iter().map(pending_to_proto).collect(),
        pending_count: u64::try_from(view.pending_count).unwrap_or(u64::MAX),
    }
}

fn pending_to_proto(branch: &PendingBranch) -> proto::PendingBranch {
    proto::PendingBranch { branch_id: branch.branch_id.0, resource: branch.resource.to_string() }
}

pub(crate) fn refusal_to_proto(refusal: Refusal) -> proto::Error {
    let code = match refusal.code {
        RefusalCode::UnknownXid => ErrorCode::UnknownXid,
        RefusalCode::Ended | RefusalCode::Stopped | RefusalCode::NotStopped => ErrorCode::Ended,
        RefusalCode::RolledBack => ErrorCode::RolledBack,
        RefusalCode::TimedOut => ErrorCode::TimedOut,
        RefusalCode::LockTimeout => ErrorCode::LockTimeout,
        RefusalCode::LockDeadlock => ErrorCode::LockDeadlock,
        RefusalCode::LimitReached => ErrorCode::LimitReached,
        RefusalCode::Invalid | RefusalCode::UnknownBranch => ErrorCode::Invalid,
    };
    proto::Error {
        code: code.into(),
        message: refusal.message,
        holder_xid: refusal.holder.map(|xid| xid.to_string()).unwrap_or_default(),
        lock: refusal.lock.unwrap_or_default(),
    }
}

pub(crate) fn work_to_proto(work: Work) -> proto::Work {
    let kind = match work.kind {
        WorkKind::Rollback => proto::WorkKind::Rollback,
        WorkKind::Check => proto::WorkKind::Check,
        WorkKind::Keep => proto::WorkKind::Keep,
        WorkKind::Purge => proto::WorkKind::Purge,
    };
    let branches = work.branches.into_iter().map(|branch| {
        let leftover = match branch.leftover {
            Leftover::Unknown => proto::Leftover::Unspecified,
            Leftover::Record => proto::Leftover::Record,
            Leftover::Restored => proto::Leftover::Restored,
        };
        proto::BranchRef { xid: branch.xid.to_string(), branch_id: branch.id.0, leftover: leftover.into() }
    });
    proto::Work {
        work_id: work.work_id,
        kind: kind.into(),
        resource: work.resource.to_string(),
        schema: work.schema.to_string(),
        branches: branches.collect(),
    }
}

pub(crate) fn look_to_proto(look: WaitLook) -> proto::LookAtWaits {
    let WaitLook { number, resource, connection_ids } = look;
    proto::LookAtWaits { number, resource: resource.to_string(), connection_ids }
}

pub(crate) fn local_waits(report: proto::LocalWaits) -> LocalWaitReport {
    let wait = |wait: proto::LocalWait| {
        let proto::LocalWait { xid, connection_id, blocker_id, wait } = wait;
        LocalWait { xid, connection_id, blocker_id, wait }
    };
    LocalWaitReport {
        resource: report.resource.into(),
        look: report.look,
        waits: report.waits.into_iter().map(wait).collect(),
        bound: report.bound.into_iter().map(|bound| (bound.connection_id, bound.xid)).collect(),
    }
}

pub(crate) fn work_outcome(outcome: proto::WorkOutcome) -> WorkOutcome {
    match outcome {
        proto::WorkOutcome::Done => WorkOutcome::Done,
        proto::WorkOutcome::Committed => WorkOutcome::Committed,
        proto::WorkOutcome::Absent => WorkOutcome::Absent,
        proto::WorkOutcome::Conflict => WorkOutcome::Conflict,
        proto::WorkOutcome::Retry => WorkOutcome::Retry,
        proto::WorkOutcome::Stuck => WorkOutcome::Stuck,
        // What is not understood is never taken for success.
        proto::WorkOutcome::Unspecified => WorkOutcome::Unknown,
    }
}

pub(crate) fn branch_outcome(outcome: proto::BranchOutcome) -> Option<Outcome> {
    match outcome {
        proto::BranchOutcome::Committed => Some(Outcome::Committed),
        proto::BranchOutcome::Aborted => Some(Outcome::Aborted),
        proto::BranchOutcome::Unspecified => None,
    }
}

/// Sorts the locks and drops duplicates: for a large branch a matter of milliseconds, so not done in the core.
pub(crate) fn register_request(request: proto::Register) -> RegisterRequest {
    let locks = request.locks.into_iter().map(|table| (table.table, table.keys));
    RegisterRequest {
        xid: request.xid,
        resource: request.resource.into(),
        schema: request.schema.into(),
        locks: Arc::new(LockSet::new(locks)),
        wait_timeout_ms: request.wait_timeout_ms,
    }
}
