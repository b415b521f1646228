//! What an operator decides about a branch that can't be undone.
//!
//! The decision is durable first. Then a proxy puts a marker in place of whatever there is of the branch in undo_log.
//! So no try that is still under way can undo it. Only then its locks are free. A try that came first and restored
//! the rows wins: then nothing was given up.

use super::Core;
use super::decisions::MAX_NAME_BYTES;
use super::refusals::{invalid, limit_reached};
use crate::model::{BranchId, BranchState, Checked, ReplyTo, Violation, WorkOutcome};
use crate::step::{Refusal, RefusalCode, Reply};
use crate::view::BranchView;

/// How many calls may wait for the same decision to be carried out.
const MAX_RESOLVE_CALLS: usize = 100;

/// What there is to do about a request to resolve a branch.
enum Resolving {
    /// Nothing: it is answered at once.
    Nothing,
    /// It is decided: the call waits until that is carried out.
    Join,
    Decide,
}

impl Core {
    /// The rows of a branch are to stay as they are.
    pub(super) fn keep_current(
        &mut self,
        to: ReplyTo,
        xid: &str,
        id: BranchId,
        by: String,
        dry_run: bool,
    ) -> Checked {
        let (seq, resolving) = match self.admit_resolve(xid, id, &by, dry_run) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                self.reply(to, Err(refusal));
                return Ok(());
            }
        };
        match resolving {
            Resolving::Nothing => self.reply_branch(vec![to], seq, id),
            Resolving::Join => {
                self.transactions.branch_mut(seq, id)?.add_resolve_call(to);
                Ok(())
            }
            Resolving::Decide => {
                let branch = self.transactions.branch_mut(seq, id)?;
                branch.add_resolve_call(to);
                let (change, superseded) = branch.keep_current(by, self.now_ms)?;
                self.persist(change);
                self.withdraw(superseded)?;
                self.enqueue_due(seq, id)
            }
        }
    }

    fn admit_resolve(
        &self,
        xid: &str,
        id: BranchId,
        by: &str,
        dry_run: bool,
    ) -> Result<(u64, Resolving), Refusal> {
        if by.len() > MAX_NAME_BYTES {
            return Err(invalid(format!("a name of {} bytes is longer than {MAX_NAME_BYTES}", by.len())));
        }
        let transaction = self.find(xid)?;
        let Some(branch) = transaction.branch(id) else {
            let message = format!("transaction {xid} has no branch {id}");
            return Err(Refusal::new(RefusalCode::UnknownBranch, message));
        };
        let is_decided = branch.resolution().is_some();
        if !is_decided && branch.state() != BranchState::RollbackFailed {
            let status = transaction.branch_status(branch).as_str();
            let message = format!(
                "branch {id} of transaction {xid} is {status}, not rollback_failed: there is nothing to resolve"
            );
            return Err(Refusal::new(RefusalCode::NotStopped, message));
        }
        if dry_run || branch.is_undone() {
            return Ok((transaction.seq, Resolving::Nothing));
        }
        if branch.resolve_calls() >= MAX_RESOLVE_CALLS {
            let message = format!("{MAX_RESOLVE_CALLS} calls wait for branch {id} of {xid} already");
            return Err(limit_reached(message));
        }
        Ok((transaction.seq, if is_decided { Resolving::Join } else { Resolving::Decide }))
    }

    /// A proxy was asked to see to it that a branch is never undone.
    pub(super) fn kept(&mut self, seq: u64, id: BranchId, outcome: WorkOutcome, detail: String) -> Checked {
        match outcome {
            WorkOutcome::Absent => {
                let calls = self.transactions.branch_mut(seq, id)?.take_resolve_calls();
                self.branch_undone(seq, id)?;
                self.reply_branch(calls, seq, id)
            }
            WorkOutcome::Done => {
                // A try that was under way has restored it.
                let branch = self.transactions.branch_mut(seq, id)?;
                let calls = branch.take_resolve_calls();
                branch.drop_resolution();
                self.restored(seq, id)?;
                self.reply_branch(calls, seq, id)
            }
            WorkOutcome::Committed
            | WorkOutcome::Conflict
            | WorkOutcome::Retry
            | WorkOutcome::Stuck
            | WorkOutcome::Unknown => self.pause_by_backoff(seq, id, detail),
        }
    }

    /// Answers calls with a branch as it is now.
    fn reply_branch(&mut self, calls: Vec<ReplyTo>, seq: u64, id: BranchId) -> Checked {
        let transaction = self.transactions.known(seq);
        let view = transaction
            .and_then(|transaction| Some(BranchView::of(transaction, transaction.branch(id)?)))
            .ok_or_else(|| Violation::new(format!("branch {id} is gone before its resolve is answered")))?;
        for to in calls {
            self.reply(to, Ok(Reply::Branch(Box::new(view.clone()))));
        }
        Ok(())
    }
}
