//! Why a request is refused, in words.

use std::sync::Arc;

use super::Core;
use crate::locks::Conflict;
use crate::model::{REASON_TIMEOUT, Status, Transaction, Xid};
use crate::step::{Refusal, RefusalCode};

pub(super) fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::Invalid, message)
}

pub(super) fn limit_reached(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::LimitReached, message)
}

fn unknown(xid: &str) -> Refusal {
    // What was received may be anything; only so much of it is worth repeating.
    let shown: String = xid.chars().take(atone_api::MAX_XID_BYTES).collect();
    Refusal::new(RefusalCode::UnknownXid, format!("there is no transaction {shown:?}"))
}

/// Why nothing can be done any more in a transaction that is being rolled back, or was.
pub(super) fn rolled_back(transaction: &Transaction) -> Refusal {
    let (xid, reason) = (&transaction.xid, transaction.reason());
    let is = match transaction.status() {
        Status::RollbackFailed => {
            let message = format!("the rollback of transaction {xid} has stopped (rollback_failed)");
            return Refusal::new(RefusalCode::Stopped, message);
        }
        Status::RolledBack => "was",
        _ => "is being",
    };
    let (code, why) = match reason {
        REASON_TIMEOUT => (RefusalCode::TimedOut, " by its timeout".to_owned()),
        "" => (RefusalCode::RolledBack, String::new()),
        reason => (RefusalCode::RolledBack, format!(": {reason}")),
    };
    Refusal::new(code, format!("transaction {xid} {is} rolled back{why}"))
}

/// The name of a lock for people.
pub(super) fn lock_text(resource: &Arc<str>, table: &str, key: &str) -> String {
    format!("{resource} {table} {key}")
}

impl Core {
    /// The transaction of an XID, live or ended.
    pub(super) fn find(&self, xid: &str) -> Result<&Transaction, Refusal> {
        let known = self.seq_of(xid).and_then(|seq| self.transactions.known(seq));
        known.ok_or_else(|| unknown(xid))
    }

    pub(super) fn lock_timeout(&mut self, resource: &Arc<str>, conflict: &Conflict) -> Refusal {
        self.totals.lock_timeouts += 1;
        let why = ": it was not to be had in time";
        self.lock_refusal(RefusalCode::LockTimeout, resource, conflict, why)
    }

    pub(super) fn lock_deadlock(&mut self, resource: &Arc<str>, conflict: &Conflict) -> Refusal {
        self.totals.lock_deadlocks += 1;
        let why = match self.transactions.live().get(&conflict.holder).map(Transaction::status) {
            Some(Status::RollbackFailed) => {
                ", whose rollback has stopped (rollback_failed): it keeps its locks until an operator has resolved it, \
                 see atone tx show"
            }
            Some(Status::RollingBack) => ", which is being rolled back: run it again",
            _ => ", which waits for this transaction in turn (deadlock): run it again",
        };
        self.lock_refusal(RefusalCode::LockDeadlock, resource, conflict, why)
    }

    fn lock_refusal(
        &self,
        code: RefusalCode,
        resource: &Arc<str>,
        conflict: &Conflict,
        why: &str,
    ) -> Refusal {
        let holder = self.xid_of(conflict.holder);
        let lock = lock_text(resource, &conflict.table, &conflict.key);
        let by = holder.as_ref().map(|xid| format!(" is held by {xid}")).unwrap_or_default();
        Refusal { code, message: format!("the row lock {lock:?}{by}{why}"), holder, lock: Some(lock) }
    }

    pub(super) fn xid_of(&self, seq: u64) -> Option<Xid> {
        self.transactions.known(seq).map(|transaction| transaction.xid.clone())
    }
}
